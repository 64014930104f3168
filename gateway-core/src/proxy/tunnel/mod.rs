//! Connections that are not HTTP any more: WebSocket (RFC 6455). Once the endpoint has agreed, the client's connection is
//! taken out of Pingora's hands, and bytes are moved here, both ways at once.

mod frame;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Version, header};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::Shared;
use super::exchange::Open;
use super::record::{Seen, finish};
use crate::listener::{Parting, Taken};
use crate::telemetry::FailureCode;
use crate::upstream::{Cut, Upgraded};
use frame::{Frames, goodbye};

/// How much of a direction is on its way at a time.
const PIECE: usize = 16 * 1024;
/// How long the other end may take to say goodbye, too.
const GOODBYE: Duration = Duration::from_secs(5);
/// How often it is looked whether anything moved.
const LOOK: Duration = Duration::from_secs(1);

/// Whether a request asks for WebSocket, as section 4.1 has it.
pub(super) fn is_asked_for(head: &RequestHeader) -> bool {
    let has = |name, token: &str| {
        let fields = head.headers.get_all(name).iter();
        let mut tokens = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
        tokens.any(|own| own.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    head.version == Version::HTTP_11
        && head.method == Method::GET
        && has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && head.headers.contains_key(header::SEC_WEBSOCKET_KEY)
}

/// What an attempt asks its endpoint for.
pub(super) fn ask(head: &mut RequestHeader) -> pingora::Result<()> {
    head.remove_header(&header::CONTENT_LENGTH);
    head.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"))?;
    head.insert_header(header::UPGRADE, HeaderValue::from_static("websocket"))
}

/// A connection that both ends agreed on.
pub(super) struct Tunnel {
    pub(super) open: Box<Open>,
    pub(super) request: RequestHeader,
    pub(super) response: ResponseHeader,
    pub(super) upstream: Upgraded,
    pub(super) shared: Shared,
    pub(super) idle: Duration,
}

/// What both directions have in common.
struct Moves {
    epoch: Instant,
    /// When anything moved last, in milliseconds.
    last: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    /// It is to end: nothing that comes is passed on.
    ending: AtomicBool,
}

impl Tunnel {
    /// What is done with the client's connection, once it is here.
    pub(super) fn taker(self) -> crate::listener::Taker {
        Box::new(move |taken| Box::pin(self.run(taken)) as Pin<Box<dyn Future<Output = ()> + Send>>)
    }

    async fn run(self, mut taken: Taken) {
        let Self { mut open, request, response, upstream, shared, idle } = self;
        let moves = Moves {
            epoch: Instant::now(),
            last: AtomicU64::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        };
        let mut written = None;
        let Upgraded { io, cut } = upstream;
        let failure = if !taken.is_whole() {
            // What came before the answer cannot be told apart from another request.
            Some(FailureCode::D3)
        } else if !agreed(&mut taken, &head(&response), &open, &cut).await {
            Some(open.watched.fired().unwrap_or(FailureCode::D1))
        } else {
            written = Some(&response);
            let moving = moved(taken, io, &moves, idle, open.conn.socket.parting());
            tokio::select! {
                failure = moving => failure,
                () = cut.comes() => Some(open.watched.fired().unwrap_or(FailureCode::G3)),
            }
        };
        if let Some(code) = failure {
            open.ctx.fail(code);
        }
        open.body_bytes = moves.up.load(Ordering::Relaxed);
        let sent = moves.down.load(Ordering::Relaxed);
        let seen = Seen { head: &request, written, read: 0, sent };
        finish(&seen, &mut open, &shared.telemetry);
        open.conn.end_request();
    }
}

/// Whether the client has taken the head of the answer, in time.
async fn agreed(taken: &mut Taken, head: &[u8], open: &Open, cut: &Cut) -> bool {
    let said = async {
        taken.write_all(head).await?;
        taken.flush().await
    };
    tokio::select! {
        said = tokio::time::timeout(open.conn.listener.timeouts.write, said) => {
            said.is_ok_and(|said| said.is_ok())
        }
        () = cut.comes() => false,
    }
}

/// The head of the answer, as it goes down.
fn head(response: &ResponseHeader) -> Vec<u8> {
    let mut text =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            .to_vec();
    for (name, value) in &response.headers {
        if [header::CONNECTION, header::UPGRADE, header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
            .contains(name)
        {
            continue;
        }
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Moves bytes until both ends have said goodbye, one is gone, nothing moves for too long, or
/// the time of a drain is up.
async fn moved(
    client: Taken,
    upstream: impl AsyncRead + AsyncWrite + Send + Unpin,
    moves: &Moves,
    idle: Duration,
    mut parting: watch::Receiver<Parting>,
) -> Option<FailureCode> {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let (say, said) = watch::channel(false);
    let up = Way { to_server: true, moves, count: &moves.up, said: said.clone() };
    let down = Way { to_server: false, moves, count: &moves.down, said };
    let (mut up, mut down) = (
        std::pin::pin!(up.go(from_client, to_upstream)),
        std::pin::pin!(down.go(from_upstream, to_client)),
    );
    let (mut up_ended, mut down_ended) = (None, None);
    let mut until: Option<Instant> = None;
    loop {
        tokio::select! {
            ended = up.as_mut(), if up_ended.is_none() => up_ended = Some(ended),
            ended = down.as_mut(), if down_ended.is_none() => down_ended = Some(ended),
            changed = parting.wait_for(|parting| *parting > Parting::No), if until.is_none() => {
                drop(changed);
                moves.ending.store(true, Ordering::Relaxed);
                say.send_replace(true);
                until = Some(Instant::now() + GOODBYE);
            }
            () = tokio::time::sleep(LOOK) => {
                let now = u64::try_from(moves.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
                let still = now.saturating_sub(moves.last.load(Ordering::Relaxed));
                if until.is_none() && Duration::from_millis(still) >= idle {
                    moves.ending.store(true, Ordering::Relaxed);
                    say.send_replace(true);
                    until = Some(Instant::now() + GOODBYE);
                }
            }
        }
        // Who closes in peace is no failure, whichever end it is. One that is gone says nothing more, and takes nothing.
        let gone = match (&up_ended, &down_ended) {
            (Some(Err(End::From)), _) | (_, Some(Err(End::To))) => Some(FailureCode::D2),
            (Some(Err(End::To)), _) | (_, Some(Err(End::From))) => Some(FailureCode::X2),
            _ => None,
        };
        if gone.is_some() || up_ended.is_some() && down_ended.is_some() {
            return gone.filter(|_| !moves.ending.load(Ordering::Relaxed));
        }
        if up_ended.is_some() || down_ended.is_some() {
            // One direction is over; the other may finish what it says.
            until = until.or(Some(Instant::now() + GOODBYE));
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return None;
        }
    }
}

/// Which end of a direction is gone.
enum End {
    From,
    To,
}

/// One direction.
struct Way<'a> {
    to_server: bool,
    moves: &'a Moves,
    count: &'a AtomicU64,
    said: watch::Receiver<bool>,
}

impl Way<'_> {
    async fn go<R, W>(mut self, mut from: ReadHalf<R>, mut to: WriteHalf<W>) -> Result<(), End>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        let mut frames = Frames::default();
        let mut piece = vec![0; PIECE];
        // Whether the gateway has said goodbye, behind a whole frame.
        let mut over = false;
        loop {
            if !over && *self.said.borrow_and_update() && frames.at_end() && !frames.closes() {
                said(&mut to, &goodbye(self.to_server)).await?;
                over = true;
            }
            let read = tokio::select! {
                read = from.read(&mut piece) => read.map_err(|_| End::From)?,
                _ = self.said.changed(), if !over => continue,
            };
            if read == 0 {
                let _ = to.shutdown().await;
                return Ok(());
            }
            self.moves.moved();
            let bytes = &piece[..read];
            let end = frames.pass(bytes);
            if over {
                // Nothing follows a goodbye; what comes is read so that the other end gets to say its own.
                if is_goodbye(&frames) {
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                continue;
            }
            let ending = *self.said.borrow();
            let whole = match end {
                Some(end) if ending && !frames.closes() => &bytes[..end],
                _ => bytes,
            };
            said(&mut to, whole).await?;
            self.count.fetch_add(whole.len() as u64, Ordering::Relaxed);
            if whole.len() < bytes.len() || ending && frames.at_end() && !frames.closes() {
                said(&mut to, &goodbye(self.to_server)).await?;
                over = true;
            }
            if ending && is_goodbye(&frames) {
                // This end has said its own while the other was told, and nothing follows.
                return Ok(());
            }
        }
    }
}

/// Whether the last that came, all of it, was a goodbye.
fn is_goodbye(frames: &Frames) -> bool {
    frames.closes() && frames.at_end()
}

async fn said(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), End> {
    to.write_all(bytes).await.map_err(|_| End::To)?;
    to.flush().await.map_err(|_| End::To)
}

impl Moves {
    fn moved(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }
}
