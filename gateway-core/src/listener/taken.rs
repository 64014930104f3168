//! A client's connection that is HTTP no more: taken out of Pingora's hands when those let go of it.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::permit::Permit;
use super::wire::Wire;

/// A client's connection that is HTTP no more.
pub(crate) struct Taken {
    pub(super) wire: Wire,
    /// Nothing of it was read that is lost.
    pub(super) whole: bool,
    /// It counts as open until it ends.
    pub(super) _permit: Permit,
}

/// What is done with such a connection.
pub(crate) type Taker = Box<dyn FnOnce(Taken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The same, waiting for its connection.
#[derive(Default)]
pub(super) struct Waiting(pub(super) Option<Taker>);

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiting({})", self.0.is_some())
    }
}

impl Taken {
    /// Whether it stands where the last answer left it.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }
}

impl AsyncRead for Taken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.wire.poll_read_or_end(cx, buf)
    }
}

impl AsyncWrite for Taken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
