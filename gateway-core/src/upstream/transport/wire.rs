//! `Wire`: a connection to an endpoint that did not come from Pingora.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A TCP connection, or TLS on one.
#[derive(Debug)]
pub(crate) struct Wire {
    line: Line,
    sockets: Arc<SocketDigest>,
}

#[derive(Debug)]
enum Line {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    pub(super) fn plain(tcp: TcpStream) -> Self {
        Self { sockets: sockets(&tcp), line: Line::Plain(tcp) }
    }

    pub(super) fn tls(tls: TlsStream<TcpStream>) -> Self {
        Self { sockets: sockets(tls.get_ref().0), line: Line::Tls(Box::new(tls)) }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match &self.line {
            Line::Plain(tcp) => tcp,
            Line::Tls(tls) => tls.get_ref().0,
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.line, Line::Tls(_))
    }

    /// Whether HTTP/2 was agreed on in the handshake.
    pub(in crate::upstream) fn chose_http2(&self) -> bool {
        match &self.line {
            Line::Plain(_) => false,
            Line::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    pub(super) fn sockets(&self) -> &Arc<SocketDigest> {
        &self.sockets
    }
}

fn sockets(tcp: &TcpStream) -> Arc<SocketDigest> {
    let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
    // Both cells are new, so setting them cannot fail.
    let _ = digest.peer_addr.set(tcp.peer_addr().ok().map(PingoraAddr::Inet));
    let _ = digest.local_addr.set(tcp.local_addr().ok().map(PingoraAddr::Inet));
    Arc::new(digest)
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().line {
            Line::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Line::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().line {
            Line::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Line::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().line {
            Line::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, pieces),
            Line::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.line {
            Line::Plain(tcp) => tcp.is_write_vectored(),
            Line::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().line {
            Line::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Line::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().line {
            Line::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Line::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        // The endpoint may be gone already; there is nothing to do about it.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.tcp().as_raw_fd()
    }
}

impl Ssl for Wire {}

#[async_trait]
impl Peek for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.sockets.clone())
    }
}
