//! What is known of a connection, shared by its wrapper and the requests on it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;

use super::sockets::Socket;
use super::taken::{Taker, Waiting};
use crate::routing::LastHost;
use crate::snapshot::ListenerPlan;
use crate::tls::Secured;

/// What a connection is doing, which decides what its silence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// A request head is expected or under way.
    Head = 0,
    /// A request is being served.
    Busy = 1,
    /// Between two requests.
    Idle = 2,
}

/// Whether it is the client that is waited for. While it is, an upstream cannot be blamed for
/// silence.
#[derive(Debug, Default)]
pub(crate) struct ClientWaits {
    /// The client does not take what is written to it.
    pub(crate) to_write: AtomicBool,
    /// Pingora asked for more from the client and there was none.
    pub(crate) to_read: AtomicBool,
}

/// One connection from a client.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The listener as it was configured when the connection was accepted.
    pub(crate) listener: Arc<ListenerPlan>,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// What TLS says of it, if it is secured.
    pub(crate) secured: Option<Arc<Secured>>,
    /// What it came on.
    pub(crate) socket: Arc<Socket>,
    phase: AtomicU8,
    requests: AtomicU32,
    /// Whether the current head has become a request.
    claimed: AtomicBool,
    linger: AtomicBool,
    waits: Arc<ClientWaits>,
    http2: AtomicBool,
    /// Streams of HTTP/2 that are being served.
    streams: AtomicU32,
    malformed: AtomicBool,
    /// The last introduction, and the host that was asked for.
    introduction: Mutex<Option<(Option<HeaderValue>, Introduction)>>,
    /// Who takes it when Pingora lets go of it.
    taker: Mutex<Waiting>,
    /// The host its last request asked for.
    pub(crate) last_host: LastHost,
}

/// How the gateway introduces the client of a connection to upstreams.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    /// The value of `X-Forwarded-For`.
    pub(crate) forwarded_for: HeaderValue,
    /// The value of `Forwarded`.
    pub(crate) forwarded: HeaderValue,
}

impl Conn {
    pub(crate) fn new(
        socket: Arc<Socket>,
        listener: Arc<ListenerPlan>,
        peer: SocketAddr,
        local: SocketAddr,
        secured: Option<Secured>,
    ) -> Self {
        Self {
            listener,
            peer,
            local,
            secured: secured.map(Arc::new),
            socket,
            phase: AtomicU8::new(Phase::Head as u8),
            requests: AtomicU32::new(0),
            claimed: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            waits: Arc::default(),
            http2: AtomicBool::new(false),
            streams: AtomicU32::new(0),
            malformed: AtomicBool::new(false),
            introduction: Mutex::default(),
            taker: Mutex::default(),
            last_host: LastHost::default(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Head,
            1 => Phase::Busy,
            _ => Phase::Idle,
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// A request's head was read. Returns how many requests there have been, this one included.
    pub(crate) fn begin_request(&self) -> u32 {
        self.set_phase(Phase::Busy);
        self.claimed.store(true, Ordering::Relaxed);
        let requests = self.requests() + 1;
        self.requests.store(requests, Ordering::Relaxed);
        self.count_streams(|streams| streams + 1);
        requests
    }

    /// All of a connection is one thread's, so that counting needs no lock.
    fn count_streams(&self, count: impl FnOnce(u32) -> u32) {
        self.streams.store(count(self.streams.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// How many requests there have been.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The body of the request that is being served is not framed by the letter.
    pub(super) fn set_malformed(&self) {
        self.malformed.store(true, Ordering::Relaxed);
    }

    /// Whether the body of the request that is being served is not framed by the letter.
    pub(crate) fn is_malformed(&self) -> bool {
        self.malformed.load(Ordering::Relaxed)
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Whether it has to end, like all connections.
    pub(crate) fn is_draining(&self) -> bool {
        self.socket.is_draining()
    }

    /// Whether it speaks HTTP/2 and no stream is being served.
    pub(super) fn is_http2_idle(&self) -> bool {
        self.is_http2() && self.streams.load(Ordering::Relaxed) == 0
    }

    /// The connection speaks HTTP/2: what its heads may be is decided there.
    pub(super) fn begin_http2(&self) {
        self.http2.store(true, Ordering::Relaxed);
        self.set_phase(Phase::Busy);
        self.claimed.store(true, Ordering::Relaxed);
    }

    /// The first byte of the next head is here.
    pub(super) fn expect_request(&self) {
        self.set_phase(Phase::Head);
        self.claimed.store(false, Ordering::Relaxed);
    }

    /// Whether Pingora is answering a head that never became a request: it could not be read, or
    /// it asked for a tunnel. True once a head.
    pub(super) fn was_refused(&self) -> bool {
        let between = self.phase() == Phase::Idle;
        let claimed = self.claimed.load(Ordering::Relaxed);
        if !claimed {
            self.claimed.store(true, Ordering::Relaxed);
        }
        !claimed || between
    }

    /// A request is over; on HTTP/1 the next may come.
    pub(crate) fn end_request(&self) {
        self.count_streams(|streams| streams - 1);
        if !self.is_http2() {
            self.set_phase(Phase::Idle);
        }
    }

    /// The answer goes out although the client may still be sending. When the connection closes,
    /// what arrives is read and dropped for a moment, so that the client can read the answer
    /// instead of a reset (RFC 9112, section 9.6).
    pub(crate) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    /// Has the connection taken out of Pingora's hands when those let go of it: it is HTTP no more.
    pub(crate) fn hand_over(&self, taker: Taker) {
        self.taker.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(taker);
    }

    /// Whether somebody waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.taker.lock().unwrap_or_else(PoisonError::into_inner).0.is_some()
    }

    pub(super) fn taker(&self) -> Option<Taker> {
        self.taker.lock().unwrap_or_else(PoisonError::into_inner).0.take()
    }

    /// What of this connection an upstream cannot be blamed for.
    pub(crate) fn waits(&self) -> Arc<ClientWaits> {
        self.waits.clone()
    }

    pub(super) fn set_stalled(&self, stalled: bool) {
        self.waits.to_write.store(stalled, Ordering::Relaxed);
    }

    pub(super) fn set_awaited(&self, awaited: bool) {
        self.waits.to_read.store(awaited, Ordering::Relaxed);
    }

    /// How the client is introduced when it asks for `host`: as last time, or as `make` says.
    pub(crate) fn introduction<E>(
        &self,
        host: Option<&HeaderValue>,
        make: impl FnOnce() -> Result<Introduction, E>,
    ) -> Result<Introduction, E> {
        let mut held = self.introduction.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, last)) = held.as_ref().filter(|(asked, _)| asked.as_ref() == host) {
            return Ok(last.clone());
        }
        let made = make()?;
        *held = Some((host.cloned(), made.clone()));
        Ok(made)
    }

    pub(super) fn lingers(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for ListenerPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.name, self.address)
    }
}
