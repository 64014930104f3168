//! What a client is sent: small writes gathered into one, and a bound on how long it may take none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::GatewayIo;
use crate::telemetry::ConnectionEnd;

/// Writes up to this size are gathered until a flush or until this much waits.
const WRITE_BUFFER: usize = 16 * 1024;
/// What is reserved at first for what is gathered.
const SMALL_ANSWER: usize = 1024;

impl GatewayIo {
    /// Bounds how long the client may take nothing of what is written to it.
    fn in_time(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.conn.set_stalled(written.is_pending());
        if written.is_ready() {
            self.write_deadline = None;
            self.goodbye = None;
            return written;
        }
        let limit = self.conn.listener.timeouts.write;
        let deadline = *self.write_deadline.get_or_insert_with(|| Instant::now() + limit);
        ready!(self.alarm.poll(deadline, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends our own answer, then says that nothing more will be sent.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.answer.filter(|rest| !rest.is_empty()) {
            let written = self.wire().poll_write(cx, rest);
            let written = ready!(self.in_time(cx, written))?;
            self.answer = rest.get(written..);
        }
        self.answer = None;
        self.poll_end(cx)
    }

    /// Ends the way down. What TLS holds back is sent first, and waits for the client like all else.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.wire().poll_shutdown(cx).map(|ended| ended.map(|()| 0));
        self.in_time(cx, ended).map(|ended| ended.map(drop))
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
            self.unflushed = true;
            if self.gathered.is_empty() {
                let written = self.wire().poll_write(cx, buf);
                return self.in_time(cx, written);
            }
            let this = &mut *self;
            let wire = Pin::new(this.wire.as_mut().expect("taken only when dropped"));
            let parts = [io::IoSlice::new(&this.gathered), io::IoSlice::new(buf)];
            let written = wire.poll_write_vectored(cx, &parts);
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
            let wire = Pin::new(this.wire.as_mut().expect("taken only when dropped"));
            let written = wire.poll_write(cx, &this.gathered);
            let written = ready!(this.in_time(cx, written))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.gathered.advance(written);
        }
        // Memory goes back while the connection idles.
        self.gathered = BytesMut::new();
        // TLS has taken what the socket may not take yet.
        let flushed = self.wire().poll_flush(cx).map(|flushed| flushed.map(|()| 0));
        ready!(self.in_time(cx, flushed))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.poll_end(cx)
    }
}
