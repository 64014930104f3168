//! `GatewayIo`: the wrapper around a client's connection that Pingora reads and writes.
//!
//! It does what has to happen below HTTP: it counts the size and the time of request heads and
//! answers 408 and 431 itself, ends idle connections, gathers small writes into one, and says what
//! a connection ended with that never became a request.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::alarm::Alarm;
use super::conn::{Conn, Phase};
use super::framing::{Bad, MessageMeter, Wrong};
use super::head::Head;
use super::permit::Permit;
use crate::telemetry::ConnectionEnd;

/// Writes up to this size are gathered until a flush or until this much waits.
const WRITE_BUFFER: usize = 16 * 1024;
/// What is reserved at first for what is gathered.
const SMALL_ANSWER: usize = 1024;
/// How long, and how much, a client may go on sending after its last answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

const TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A client's connection.
pub(crate) struct GatewayIo {
    /// Taken only when dropped.
    tcp: Option<TcpStream>,
    conn: Arc<Conn>,
    meter: MessageMeter,
    /// Read ahead to tell HTTP/2 from HTTP/1, not yet given to Pingora.
    ahead: BytesMut,
    /// Written by Pingora, not yet given to the kernel. Owns no memory while idle.
    gathered: BytesMut,
    /// What is left of an answer of our own; what follows is the connection's end.
    answer: Option<&'static [u8]>,
    ended: bool,
    /// What the next head is answered with, once the requests before it are served.
    doom: Option<Wrong>,
    idling: bool,
    deadline: Instant,
    /// When the client must have taken something; `None` while it does.
    write_deadline: Option<Instant>,
    /// Reading and writing never need it at once: a connection that is served has no deadline to
    /// read.
    alarm: Alarm,
    sockets: Arc<SocketDigest>,
    shared: Arc<ProxyDigest>,
    permit: Option<Permit>,
}

impl GatewayIo {
    pub(super) fn new(tcp: TcpStream, conn: Arc<Conn>, permit: Permit) -> Self {
        let limits = &conn.listener.limits;
        let sockets = SocketDigest::from_raw_fd(tcp.as_raw_fd());
        // Both cells are new, so setting them cannot fail.
        let _ = sockets.peer_addr.set(Some(PingoraAddr::Inet(conn.peer)));
        let _ = sockets.local_addr.set(Some(PingoraAddr::Inet(conn.local)));
        let deadline = Instant::now() + conn.listener.timeouts.header;
        Self {
            meter: MessageMeter::new(limits.header_bytes, limits.headers),
            ahead: BytesMut::new(),
            gathered: BytesMut::new(),
            answer: None,
            ended: false,
            doom: None,
            idling: false,
            write_deadline: None,
            alarm: Alarm::new(),
            deadline,
            sockets: Arc::new(sockets),
            shared: Arc::new(share(&conn)),
            tcp: Some(tcp),
            conn,
            permit: Some(permit),
        }
    }

    fn tcp(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.tcp.as_mut().expect("taken only when dropped"))
    }

    /// Notes bytes that arrived: they may begin a head, go on with one, or belong to a body. Says
    /// how many of them Pingora may see.
    fn arrived(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.conn.is_http2() {
            return Ok(bytes.len());
        }
        if self.conn.phase() == Phase::Idle {
            self.begin_head();
        }
        let awaited = self.conn.phase() == Phase::Head;
        let outcome = self.meter.feed(bytes);
        match outcome {
            Ok(()) if awaited && !self.meter.in_head() => {
                self.conn.set_phase(Phase::Busy);
                Ok(bytes.len())
            }
            Ok(()) => Ok(bytes.len()),
            Err(bad) => self.stop_at(bad, awaited),
        }
    }

    /// A message may not pass. Those before it are still served.
    fn stop_at(&mut self, bad: Bad, awaited: bool) -> io::Result<usize> {
        let served = self.conn.requests() == bad.message;
        if bad.wrong == Wrong::Body && bad.good == 0 && !awaited && served {
            self.conn.set_malformed();
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.doom = Some(bad.wrong);
        if awaited && bad.good == 0 {
            self.meet_doom();
        } else if awaited {
            self.conn.set_phase(Phase::Busy);
        }
        Ok(bad.good)
    }

    /// The head that may not pass is the next to be answered.
    fn meet_doom(&mut self) {
        let Some(wrong) = self.doom.take() else { return };
        let (answer, why) = match wrong {
            Wrong::Head(Head::TooLarge) => (TOO_LARGE, ConnectionEnd::HeaderTooLarge),
            Wrong::Head(Head::TooManyFields) => (TOO_LARGE, ConnectionEnd::TooManyHeaders),
            Wrong::Head(_) | Wrong::Body => (BAD_REQUEST, ConnectionEnd::BadRequest),
        };
        self.refuse(answer, why);
    }

    /// The first byte of the next head is here.
    fn begin_head(&mut self) {
        self.idling = false;
        self.conn.expect_request();
        self.deadline = Instant::now() + self.conn.listener.timeouts.header;
    }

    /// Gives the connection an answer of our own and its end.
    fn refuse(&mut self, answer: &'static [u8], why: ConnectionEnd) {
        self.conn.linger();
        self.answer = Some(answer);
        self.end(why);
    }

    /// The connection is over for Pingora. A client that closes between requests is no event.
    fn end(&mut self, why: ConnectionEnd) {
        let usual = why == ConnectionEnd::ClientClosed && self.conn.phase() == Phase::Idle;
        if !std::mem::replace(&mut self.ended, true) && !usual {
            self.conn.listener.metrics.ended(why);
        }
    }

    /// What the connection's silence means, once its time is up.
    fn time_is_up(&mut self) {
        match self.conn.phase() {
            Phase::Head if self.meter.in_head() => {
                self.refuse(TIMEOUT, ConnectionEnd::HeaderTimeout);
            }
            Phase::Head => self.end(ConnectionEnd::HeaderTimeout),
            Phase::Busy | Phase::Idle => self.end(ConnectionEnd::IdleTimeout),
        }
    }

    /// Polls the timer where silence has a limit. Ready when the connection is over.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.conn.phase() == Phase::Idle && self.meter.in_head() {
            // It came behind the request that has just been served.
            self.begin_head();
        }
        match self.conn.phase() {
            Phase::Busy if !self.conn.is_http2_idle() => {
                self.idling = false;
                return Poll::Pending;
            }
            Phase::Head => {}
            Phase::Busy | Phase::Idle => {
                if !std::mem::replace(&mut self.idling, true) {
                    self.deadline = Instant::now() + self.conn.listener.timeouts.idle;
                }
            }
        }
        ready!(self.alarm.poll(self.deadline, cx));
        self.time_is_up();
        Poll::Ready(())
    }

    /// Bounds how long the client may take nothing of what is written to it.
    fn in_time(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.conn.set_stalled(written.is_pending());
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        let limit = self.conn.listener.timeouts.write;
        let deadline = *self.write_deadline.get_or_insert_with(|| Instant::now() + limit);
        ready!(self.alarm.poll(deadline, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends our own answer, then says that nothing more will be sent.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.answer.filter(|rest| !rest.is_empty()) {
            let written = ready!(self.tcp().poll_write(cx, rest))?;
            self.answer = rest.get(written..);
        }
        self.answer = None;
        self.tcp().poll_shutdown(cx)
    }

    /// Reads ahead until the bytes differ from `wanted` or equal it, within the header deadline.
    async fn read_ahead(&mut self, wanted: &[u8]) -> io::Result<()> {
        while self.ahead.len() < wanted.len() && wanted.starts_with(&self.ahead) {
            let tcp = self.tcp.as_mut().expect("taken only when dropped");
            let left = self.deadline.saturating_duration_since(Instant::now());
            match pingora::time::timeout(left, tcp.read_buf(&mut self.ahead)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) | Err(_) => break,
                Ok(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

fn share(conn: &Arc<Conn>) -> ProxyDigest {
    let header = pingora_http::ResponseHeader::build(200, Some(0)).expect("200 is a valid status");
    ProxyDigest::new(Box::new(header), Some(Box::new(conn.clone())))
}

/// The connection that a request came on.
pub(crate) fn connection(digest: Option<&pingora::protocols::Digest>) -> Option<&Arc<Conn>> {
    digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}

impl AsyncRead for GatewayIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.doom.is_some() && !self.ended {
            // What is being served came before; it must not see an end.
            match self.conn.phase() {
                Phase::Busy => return Poll::Pending,
                Phase::Head | Phase::Idle => self.meet_doom(),
            }
        }
        if !self.ended {
            if !self.ahead.is_empty() {
                let length = self.ahead.len().min(buf.remaining());
                buf.put_slice(&self.ahead[..length]);
                self.ahead.advance(length);
            } else if self.tcp().poll_read(cx, buf)?.is_pending() {
                self.conn.set_awaited(true);
                if self.conn.phase() == Phase::Busy && !self.gathered.is_empty() {
                    // Pingora waits for more of a response whose length is known and does not
                    // flush what there is: the client gets it now, not with the rest.
                    if let Poll::Ready(Err(error)) = self.as_mut().poll_flush(cx) {
                        return Poll::Ready(Err(error));
                    }
                }
                ready!(self.poll_deadline(cx));
            }
            self.conn.set_awaited(false);
            let arrived = &buf.filled()[before..];
            if !arrived.is_empty() {
                let seen = self.arrived(arrived)?;
                buf.set_filled(before + seen);
                if seen == 0 && !self.ended {
                    // All of it waits for what is served before it.
                    return Poll::Pending;
                }
            } else if self.conn.phase() != Phase::Busy {
                self.end(ConnectionEnd::ClientClosed);
            }
        }
        if self.ended {
            // To Pingora a refused head looks like a client that went away.
            buf.set_filled(before);
            if self.answer.is_some() {
                let _ = ready!(self.poll_answer(cx));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GatewayIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.gathered.len() + buf.len() <= WRITE_BUFFER {
            if self.gathered.capacity() == 0 {
                // Room for a head and the small body that mostly follows it.
                self.gathered.reserve(buf.len().max(SMALL_ANSWER));
            }
            self.gathered.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        loop {
            if self.gathered.is_empty() {
                let written = self.tcp().poll_write(cx, buf);
                return self.in_time(cx, written);
            }
            let this = &mut *self;
            let tcp = Pin::new(this.tcp.as_mut().expect("taken only when dropped"));
            let parts = [io::IoSlice::new(&this.gathered), io::IoSlice::new(buf)];
            let written = tcp.poll_write_vectored(cx, &parts);
            let written = ready!(this.in_time(cx, written))?;
            let waiting = this.gathered.len();
            this.gathered.advance(written.min(waiting));
            match written.saturating_sub(waiting) {
                0 if written == 0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                0 => {}
                of_buf => return Poll::Ready(Ok(of_buf)),
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() && self.conn.was_refused() {
            self.conn.listener.metrics.ended(ConnectionEnd::BadRequest);
        }
        while !self.gathered.is_empty() {
            let this = &mut *self;
            let tcp = Pin::new(this.tcp.as_mut().expect("taken only when dropped"));
            let written = tcp.poll_write(cx, &this.gathered);
            let written = ready!(this.in_time(cx, written))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.gathered.advance(written);
        }
        // Memory goes back while the connection idles.
        self.gathered = BytesMut::new();
        self.tcp().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.tcp().poll_shutdown(cx)
    }
}

#[async_trait]
impl Peek for GatewayIo {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        // Pingora asks for the connection preface of HTTP/2 (RFC 9113, section 3.4) and compares
        // itself; what came of it, or of anything else, is read again afterwards.
        const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        self.read_ahead(PREFACE).await?;
        if self.ahead.starts_with(PREFACE) {
            self.conn.begin_http2();
        }
        let length = self.ahead.len().min(buf.len());
        buf[..length].copy_from_slice(&self.ahead[..length]);
        Ok(true)
    }
}

#[async_trait]
impl Shutdown for GatewayIo {
    async fn shutdown(&mut self) {
        // The client may be gone already; there is nothing to do about it.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl Drop for GatewayIo {
    fn drop(&mut self) {
        let (Some(tcp), Some(permit)) = (self.tcp.take(), self.permit.take()) else { return };
        if self.conn.lingers()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(linger(tcp, permit));
        }
    }
}

/// Closes for writing, then reads and drops what the client still sends, for a bounded time.
async fn linger(mut tcp: TcpStream, _permit: Permit) {
    let drain = async {
        tcp.shutdown().await?;
        let mut dropped = 0;
        let mut buffer = [0; 4096];
        while dropped < LINGER_BYTES {
            match tcp.read(&mut buffer).await? {
                0 => break,
                read => dropped += read,
            }
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

impl UniqueID for GatewayIo {
    fn id(&self) -> UniqueIDType {
        self.tcp.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Ssl for GatewayIo {}

impl GetTimingDigest for GatewayIo {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for GatewayIo {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.shared.clone())
    }
}

impl GetSocketDigest for GatewayIo {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.sockets.clone())
    }
}

impl fmt::Debug for GatewayIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection from {} on {}", self.conn.peer, self.conn.local)
    }
}
