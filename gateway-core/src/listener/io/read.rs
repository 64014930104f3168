//! What a client sends: heads counted and timed, framing followed, silence ended.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::GatewayIo;
use crate::listener::conn::Phase;
use crate::listener::flood::Frames;
use crate::listener::framing::{Bad, Wrong};
use crate::listener::head::Head;
use crate::telemetry::ConnectionEnd;

/// How long a client of HTTP/2 without streams may take to hear that the gateway drains.
const GOODBYE: Duration = Duration::from_secs(2);
const TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, section 6.8).
const CALM: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0x0b];
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl GatewayIo {
    /// Notes bytes that arrived: they may begin a head, go on with one, or belong to a body. Says
    /// how many of them Pingora may see.
    fn arrived(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.conn.is_http2() {
            self.is_heard |= self.goodbye.is_some();
            if self.frames.get_or_insert_with(|| Box::new(Frames::new())).feed(bytes).is_err() {
                match self.gathered.is_empty() {
                    true => self.refuse(CALM, ConnectionEnd::Flood),
                    // It would stand in the middle of a frame.
                    false => self.end(ConnectionEnd::Flood),
                }
            }
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
    #[cold]
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
    #[cold]
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
        self.silent_since = None;
        self.conn.expect_request();
        self.deadline = Instant::now() + self.conn.listener.timeouts.header;
    }

    /// Gives the connection an answer of our own and its end.
    #[cold]
    fn refuse(&mut self, answer: &'static [u8], why: ConnectionEnd) {
        self.conn.linger();
        self.answer = Some(answer);
        self.end(why);
    }

    /// The connection is over for Pingora. A client that closes between requests is no event.
    #[cold]
    fn end(&mut self, why: ConnectionEnd) {
        let usual = why == ConnectionEnd::ClientClosed && self.conn.phase() == Phase::Idle;
        if !std::mem::replace(&mut self.ended, true) && !usual {
            self.conn.listener.metrics.ended(why);
        }
    }

    /// What the connection's silence means, once its time is up.
    #[cold]
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
                self.silent_since = None;
                self.goodbye = None;
                return Poll::Pending;
            }
            Phase::Head => {}
            Phase::Busy | Phase::Idle => {
                // On HTTP/2 a request may begin and end between two looks at the connection.
                let requests = Some(self.conn.requests());
                if std::mem::replace(&mut self.silent_since, requests) != requests {
                    self.deadline = Instant::now() + self.conn.listener.timeouts.idle;
                    self.goodbye = None;
                }
                // What is left of answers is HTTP/2's to know. While any of it moves, or waits, there is no hurry.
                let waits = self.write_deadline.is_some() || self.unflushed;
                let is_told = self.conn.is_http2() && self.conn.is_draining();
                if is_told && !self.is_heard && !waits {
                    // A client that is there says that it has heard, which others may never do.
                    let latest = *self.goodbye.get_or_insert_with(|| Instant::now() + GOODBYE);
                    self.deadline = self.deadline.min(latest);
                }
            }
        }
        ready!(self.alarm.poll(self.deadline, cx));
        self.time_is_up();
        Poll::Ready(())
    }
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
            } else if self.wire().poll_read_or_end(cx, buf)?.is_pending() {
                self.conn.set_awaited(true);
                let held = !self.gathered.is_empty() || self.unflushed;
                if self.conn.phase() == Phase::Busy && held {
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
