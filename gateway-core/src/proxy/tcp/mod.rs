//! Connections that are no HTTP: from the listener to an endpoint, and their bytes between the two.

mod carry;
mod hello;
mod reach;
mod side;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use smallvec::SmallVec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use self::carry::{End, Ended, carry};
use self::hello::{Hello, Said};
use self::reach::reach;
use self::side::break_off;
use super::Shared;
use crate::listener::{Arrived, Parting, Relay, Wire};
use crate::snapshot::{ListenerPlan, Patience, TcpPlan};
use crate::telemetry::{
    AttemptRecord, ConnectionRecord, EndedBy, FailureCode, HandshakeFailure, ListenerMetrics,
    Telemetry, observe_attempt,
};
use crate::upstream::{Cut, Line, Upstream, Wire as UpstreamWire};

/// Passes connections on; one a worker.
pub(crate) struct TcpRelay {
    worker: usize,
    shared: Shared,
}

/// One connection, until its record is written.
struct Passage {
    listener: Arc<str>,
    metrics: Arc<ListenerMetrics>,
    client: SocketAddr,
    local: SocketAddr,
    revision: u64,
    time: SystemTime,
    started: Instant,
    server_name: Option<Box<str>>,
    upstream: Option<Arc<Upstream>>,
    attempts: SmallVec<[AttemptRecord; 1]>,
    received: u64,
    sent: u64,
}

/// Why a connection is passed on to nobody.
enum Unfit {
    /// The client left without having said anything.
    Silent,
    Failed(FailureCode),
}

impl From<FailureCode> for Unfit {
    fn from(code: FailureCode) -> Self {
        Self::Failed(code)
    }
}

impl TcpRelay {
    pub(crate) fn new(worker: usize, shared: Shared) -> Self {
        Self { worker, shared }
    }
}

impl Relay for TcpRelay {
    async fn take(self: Arc<Self>, arrived: Arrived) {
        let Arrived { tcp, peer, local, socket, listener, permit } = arrived;
        let Some(plan) = &listener.tcp else { return };
        let mut passage = Passage {
            listener: listener.name.clone(),
            metrics: listener.metrics.clone(),
            client: peer,
            local,
            revision: self.shared.snapshots.load().revision.number,
            time: SystemTime::now(),
            started: Instant::now(),
            server_name: None,
            upstream: None,
            attempts: SmallVec::new(),
            received: 0,
            sent: 0,
        };
        let mut draining = socket.draining();
        let fit = async {
            if !plan.admits(peer.ip()) {
                return Err(FailureCode::P4.into());
            }
            let (client, first) = passage.fit(tcp, &listener, plan).await?;
            let upstream = plan.upstream(passage.server_name.as_deref());
            Ok((client, first, upstream.ok_or(FailureCode::P1)?.clone()))
        };
        // Who has not said where to when the gateway drains is served no more.
        let fit = tokio::select! {
            fit = fit => fit,
            _ = draining.wait_for(|draining| *draining) => Err(FailureCode::G3.into()),
        };
        let limits = (plan.patience, plan.total);
        // What it says may be long out of date when the connection ends.
        drop(listener);
        let (failure, by) = match fit {
            Err(Unfit::Silent) => return,
            Err(Unfit::Failed(code)) => (Some(code), by(code)),
            Ok((client, first, upstream)) => {
                passage.upstream = Some(upstream.clone());
                let parting = socket.parting();
                let ended = self.pass_on(&mut passage, client, first, &upstream, (limits, parting));
                ended.await.map_or_else(|code| (Some(code), by(code)), outcome)
            }
        };
        passage.finish(failure, by, &self.shared.telemetry);
        drop(permit);
    }
}

/// By what an end came that was none of the connections' own.
fn by(code: FailureCode) -> Option<EndedBy> {
    match code {
        FailureCode::G3 => Some(EndedBy::Drain),
        FailureCode::X7 => Some(EndedBy::Total),
        _ => None,
    }
}

/// What an end is called, and by whom it came.
fn outcome(ended: Ended) -> (Option<FailureCode>, Option<EndedBy>) {
    let by = |end| match end {
        End::Client => EndedBy::Client,
        End::Upstream => EndedBy::Upstream,
    };
    match ended {
        Ended::Closed(end) => (None, Some(by(end))),
        Ended::Gone(End::Client) => (Some(FailureCode::D2), Some(EndedBy::Client)),
        Ended::Gone(End::Upstream) => (Some(FailureCode::X2), Some(EndedBy::Upstream)),
        Ended::Idle { .. } => (None, Some(EndedBy::Idle)),
    }
}

impl TcpRelay {
    /// Connects to an endpoint, and moves bytes until it is over.
    ///
    /// # Errors
    /// No endpoint was reached, or time was up.
    async fn pass_on(
        &self,
        passage: &mut Passage,
        mut client: Wire,
        first: Vec<u8>,
        upstream: &Arc<Upstream>,
        ((patience, total), mut parting): ((Patience, Option<Duration>), watch::Receiver<Parting>),
    ) -> Result<Ended, FailureCode> {
        let watched = self.shared.watch.begin(self.worker, Arc::default());
        watched.is_connection();
        if let Some(total) = total {
            watched.limit_total(total.saturating_sub(passage.started.elapsed()));
        }
        let cut = Arc::<Cut>::default();
        let line = Some(Line::Stream(cut.clone()));
        if !watched.attach(line, FailureCode::G3, Duration::MAX) {
            return Err(watched.fired().unwrap_or(FailureCode::G3));
        }
        let why = || watched.fired().unwrap_or(FailureCode::G3);
        let mut reached = tokio::select! {
            reached = reach(passage, upstream, self.worker, &watched) => reached?,
            () = cut.comes() => return Err(why()),
        };
        let moved = |up, down| passage.moved(up, down);
        let ended = tokio::select! {
            ended = carry(&mut client, &mut reached.wire, first, patience, moved) => Ok(ended),
            _ = parting.wait_for(|parting| *parting == Parting::Cut) => Err(FailureCode::G3),
            () = cut.comes() => Err(why()),
        };
        part(client, reached.wire, ended.ok()).await;
        ended
    }
}

/// Leaves both ends in such a way that neither takes what it has for more than it is.
async fn part(mut client: Wire, mut upstream: UpstreamWire, ended: Option<Ended>) {
    match ended {
        Some(Ended::Closed(_)) => {}
        Some(Ended::Gone(End::Client)) => break_off(upstream, true).await,
        Some(Ended::Gone(End::Upstream)) => break_off(client, true).await,
        Some(Ended::Idle { whole: true }) => {
            // Nothing waits to be written, so nothing has to be waited for.
            let _ = client.shutdown().now_or_never();
            let _ = upstream.shutdown().now_or_never();
        }
        Some(Ended::Idle { whole: false }) | None => {
            break_off(client, false).await;
            break_off(upstream, false).await;
        }
    }
}

impl Passage {
    /// Secures the connection, if the listener does, or finds out for which name it is, if that matters. What was read
    /// for that comes back beside it.
    async fn fit(
        &mut self,
        mut tcp: TcpStream,
        listener: &ListenerPlan,
        plan: &TcpPlan,
    ) -> Result<(Wire, Vec<u8>), Unfit> {
        if let Some(tls) = &listener.tls {
            let (stream, secured) = tls.accept(tcp).await.map_err(|failure| match failure {
                HandshakeFailure::Closed => Unfit::Silent,
                HandshakeFailure::Timeout => Unfit::Failed(FailureCode::D4),
                _ => Unfit::Failed(FailureCode::D5),
            })?;
            self.server_name = secured.server_name;
            return Ok((Wire::Tls(Box::new(stream)), Vec::new()));
        }
        if !plan.asks_for_names() {
            return Ok((Wire::Plain(tcp), Vec::new()));
        }
        let asked = tokio::time::timeout(listener.timeouts.handshake, asked(&mut tcp)).await;
        let asked = asked.map_err(|_| FailureCode::D4)?;
        if let Err(Unfit::Silent) = asked {
            self.metrics.failed_to_shake(HandshakeFailure::Closed);
        }
        let (name, first) = asked?;
        self.moved(first.len() as u64, 0);
        match name {
            Some(name) => self.server_name = name,
            // Whatever it is, it may be for who takes everything.
            None if plan.upstream(None).is_some() => {}
            None => return Err(FailureCode::D3.into()),
        }
        Ok((Wire::Plain(tcp), first))
    }

    fn moved(&mut self, up: u64, down: u64) {
        self.received += up;
        self.sent += down;
        self.metrics.relayed(up, down);
    }

    /// An endpoint was tried.
    fn tried(&mut self, attempt: AttemptRecord) {
        if let Some(upstream) = &self.upstream {
            observe_attempt(&attempt, upstream.metrics());
        }
        self.attempts.push(attempt);
    }

    fn finish(&self, failure: Option<FailureCode>, by: Option<EndedBy>, telemetry: &Telemetry) {
        let duration = self.started.elapsed();
        self.metrics.relay_ends(failure, duration);
        if !telemetry.writes() {
            return;
        }
        telemetry.write_connection(&ConnectionRecord {
            time: self.time,
            duration,
            listener: &self.listener,
            upstream: self.upstream.as_ref().map(|upstream| upstream.name()),
            attempts: &self.attempts,
            server_name: self.server_name.as_deref(),
            failure,
            ended_by: by,
            bytes_in: self.received,
            bytes_out: self.sent,
            client: self.client,
            revision: self.revision,
        });
    }
}

/// The name that a client asks for in TLS: `None` if it speaks something else. All that was read comes with it.
async fn asked(tcp: &mut TcpStream) -> Result<(Option<Option<Box<str>>>, Vec<u8>), Unfit> {
    let mut hello = Hello::default();
    let mut piece = [0; 4096];
    loop {
        let read = tcp.read(&mut piece).await.unwrap_or(0);
        if read == 0 {
            let silent = hello.is_empty();
            return Err(if silent { Unfit::Silent } else { FailureCode::D1.into() });
        }
        match hello.take(&piece[..read]) {
            Said::Nothing => {}
            Said::Name(name) => return Ok((Some(name), hello.into_bytes())),
            Said::Other => return Ok((None, hello.into_bytes())),
        }
    }
}
