//! `GatewayIo`: the wrapper around a client's connection that Pingora reads and writes.
//!
//! It does what has to happen below HTTP: it counts the size and the time of request heads and
//! answers 408 and 431 itself, ends idle connections, gathers small writes into one, and says what
//! a connection ended with that never became a request.

mod read;
mod write;

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::alarm::Alarm;
use super::conn::Conn;
use super::flood::Frames;
use super::framing::{MessageMeter, Wrong};
use super::permit::Permit;
use super::taken::Taken;
use super::wire::Wire;

/// How long, and how much, a client may go on sending after its last answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// A client's connection.
pub(crate) struct GatewayIo {
    /// Taken only when dropped.
    wire: Option<Wire>,
    conn: Arc<Conn>,
    meter: MessageMeter,
    /// What HTTP/2 brings, once that is spoken. Boxed: most connections speak HTTP/1.
    frames: Option<Box<Frames>>,
    /// Read ahead to tell HTTP/2 from HTTP/1, not yet given to Pingora.
    ahead: BytesMut,
    /// Written by Pingora, not yet given to the kernel. Owns no memory while idle.
    gathered: BytesMut,
    /// Some was written past that, and not flushed.
    unflushed: bool,
    /// What is left of an answer of our own; what follows is the connection's end.
    answer: Option<&'static [u8]>,
    ended: bool,
    /// What the next head is answered with, once the requests before it are served.
    doom: Option<Wrong>,
    /// How many requests there had been when silence began, while it lasts.
    silent_since: Option<u32>,
    deadline: Instant,
    /// By when it has to be gone, though its client does not answer a goodbye.
    goodbye: Option<Instant>,
    /// Its client has said something since: it is there, and HTTP/2 itself ends the connection behind what is left.
    is_heard: bool,
    /// When the client must have taken something; `None` while it does.
    write_deadline: Option<Instant>,
    /// Reading and writing never need it at once: a connection that is served has no deadline to
    /// read.
    alarm: Alarm,
    sockets: Arc<SocketDigest>,
    /// What Pingora is told of TLS.
    secured: Option<Arc<SslDigest>>,
    shared: Arc<ProxyDigest>,
    permit: Option<Permit>,
}

impl GatewayIo {
    pub(in crate::listener) fn new(wire: Wire, conn: Arc<Conn>, permit: Permit) -> Self {
        let limits = &conn.listener.limits;
        let sockets = SocketDigest::from_raw_fd(wire.as_raw_fd());
        // Both cells are new, so setting them cannot fail.
        let _ = sockets.peer_addr.set(Some(PingoraAddr::Inet(conn.peer)));
        let _ = sockets.local_addr.set(Some(PingoraAddr::Inet(conn.local)));
        let deadline = Instant::now() + conn.listener.timeouts.header;
        let secured = conn.secured.as_deref().map(|secured| {
            let (cipher, version) = (secured.cipher.to_string(), secured.version.to_owned());
            Arc::new(SslDigest::new(cipher, version, None, None, Vec::new()))
        });
        if conn.secured.as_ref().is_some_and(|secured| secured.http2) {
            conn.begin_http2();
        }
        Self {
            meter: MessageMeter::new(limits.header_bytes, limits.headers),
            frames: None,
            ahead: BytesMut::new(),
            gathered: BytesMut::new(),
            unflushed: false,
            answer: None,
            ended: false,
            doom: None,
            silent_since: None,
            write_deadline: None,
            alarm: Alarm::new(),
            deadline,
            goodbye: None,
            is_heard: false,
            sockets: Arc::new(sockets),
            shared: Arc::new(share(&conn)),
            wire: Some(wire),
            secured,
            conn,
            permit: Some(permit),
        }
    }

    fn wire(&mut self) -> Pin<&mut Wire> {
        Pin::new(self.wire.as_mut().expect("taken only when dropped"))
    }

    /// Reads ahead until the bytes differ from `wanted` or equal it, within the header deadline.
    async fn read_ahead(&mut self, wanted: &[u8]) -> io::Result<()> {
        while self.ahead.len() < wanted.len() && wanted.starts_with(&self.ahead) {
            let wire = self.wire.as_mut().expect("taken only when dropped");
            let left = self.deadline.saturating_duration_since(Instant::now());
            match pingora::time::timeout(left, wire.read_buf(&mut self.ahead)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) | Err(_) => break,
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break,
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
        if self.conn.is_wanted() {
            // It goes on, as something else.
            return;
        }
        // The client may be gone already; there is nothing to do about it.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl Drop for GatewayIo {
    fn drop(&mut self) {
        let (Some(wire), Some(permit)) = (self.wire.take(), self.permit.take()) else { return };
        if let Some(taker) = self.conn.taker() {
            let whole = self.ahead.is_empty() && self.gathered.is_empty() && !self.meter.in_head();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(taker(Taken { wire, whole, _permit: permit }));
            }
            return;
        }
        if self.conn.lingers()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(linger(wire, permit));
        }
    }
}

/// Closes for writing, then reads and drops what the client still sends, for a bounded time.
async fn linger(mut wire: Wire, _permit: Permit) {
    let drain = async {
        wire.shutdown().await?;
        let mut dropped = 0;
        let mut buffer = [0; 4096];
        while dropped < LINGER_BYTES {
            match wire.read(&mut buffer).await? {
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
        self.wire.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Ssl for GatewayIo {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.secured.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        let secured = self.conn.secured.as_ref()?;
        Some(if secured.http2 { ALPN::H2 } else { ALPN::H1 })
    }
}

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
