//! `Exchange`: what the proxy itself keeps of a request, around the context that plugins see.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::failure::Progress;
use crate::context::RequestCtx;
use crate::listener::Conn;
use crate::plugin::{Chain, Reply};
use crate::telemetry::{AttemptRecord, FailureCode, StatusSource};
use crate::upstream::{Upstream, Watched};

/// One request between Pingora's callbacks. Empty until its head has been read.
#[derive(Default)]
pub(crate) struct Exchange {
    /// Boxed, because Pingora moves it from future to future.
    open: Option<Box<Open>>,
}

/// One request from its head to its record.
pub(super) struct Open {
    pub(super) ctx: RequestCtx,
    pub(super) conn: Arc<Conn>,
    pub(super) watched: Watched,
    pub(super) chain: Arc<Chain>,
    pub(super) target: Option<Target>,
    pub(super) progress: Progress,
    /// Where the status came from.
    pub(super) source: StatusSource,
    /// The whole response has gone down.
    pub(super) answered: bool,
    /// What to answer in place of an exchange that a plugin or a limit refused midway.
    pub(super) refused: Option<Box<Reply>>,
    /// A body read before an upstream was chosen, for the attempt to send.
    pub(super) collected: Option<Bytes>,
    /// The bytes of the request's body that have passed.
    pub(super) body_bytes: u64,
    /// The current attempt ended before anything was sent.
    pub(super) untouched: bool,
    pub(super) http2: bool,
}

/// Where the current attempt goes.
pub(super) struct Target {
    pub(super) upstream: Arc<Upstream>,
    pub(super) endpoint: usize,
    pub(super) attempts: u32,
    pub(super) began: Instant,
    /// When its connection stood, if it needed one of its own.
    pub(super) connected: Option<Instant>,
    pub(super) reused: bool,
    /// A part of the request's body is still to be sent.
    pub(super) sending: bool,
    pub(super) first_byte: Option<Duration>,
    pub(super) ended: bool,
}

impl Exchange {
    pub(super) fn begin(&mut self, open: Open) {
        self.open = Some(Box::new(open));
    }

    /// The request. Pingora calls `early_request_filter`, which begins it, before any other hook.
    pub(super) fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("begun by early_request_filter, which comes first")
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

impl Target {
    /// An attempt on an endpoint that was chosen for it, which it leaves when it is dropped.
    pub(super) fn new(upstream: Arc<Upstream>, endpoint: usize) -> Self {
        Self {
            upstream,
            endpoint,
            attempts: 0,
            began: Instant::now(),
            connected: None,
            reused: false,
            sending: false,
            first_byte: None,
            ended: false,
        }
    }

    /// Begins another attempt, on an endpoint that was chosen for it.
    pub(super) fn renew(&mut self, endpoint: usize) {
        let upstream = self.upstream.clone();
        let attempts = self.attempts;
        *self = Self::new(upstream, endpoint);
        self.attempts = attempts;
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.upstream.leave(self.endpoint);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.ctx.listener().metrics.request_ends();
    }
}

impl Open {
    /// The request's body moved on: what is waited for next.
    pub(super) fn expect_progress(&mut self, end_of_body: bool) {
        let Some(target) = &mut self.target else { return };
        if !target.sending {
            return;
        }
        if target.first_byte.is_some() {
            // The response did not wait for the request's end; its own limit holds.
            target.sending = !end_of_body;
            return;
        }
        if end_of_body {
            target.sending = false;
            self.watched.expect(FailureCode::X3, target.upstream.timeouts().first_byte);
        } else if self.http2 {
            // Pingora bounds the wait for a body on HTTP/1 alone.
            self.watched.expect(FailureCode::D4, self.ctx.listener().timeouts.body_read);
        } else {
            self.watched.expect_taken(target.upstream.timeouts().idle);
        }
    }

    /// The response's head is here; its body follows.
    pub(super) fn head_arrived(&mut self) {
        if let Some(target) = self.target.as_mut() {
            target.first_byte = Some(target.began.elapsed());
        }
        self.body_arrived();
    }

    /// A part of the response's body is here; the next may take the idle timeout. On HTTP/2 only
    /// the stream knows whether its client took this part, so that Pingora, which counts while it
    /// reads, bounds the wait: by the longer of the idle and the first-byte timeout.
    pub(super) fn body_arrived(&self) {
        let Some(target) = &self.target else { return };
        let timeouts = target.upstream.timeouts();
        if self.http2 {
            self.watched.relax();
        } else {
            self.watched.expect(FailureCode::X4, timeouts.idle);
        }
    }

    /// The upstream's answer is complete. Unless a part of the request is still sent, its
    /// connection may be another's in a moment.
    pub(super) fn answer_complete(&self) {
        match &self.target {
            Some(target) if target.sending => self.watched.relax(),
            _ => self.release(),
        }
    }

    /// The exchange is complete: its connection may go back to the pool.
    pub(super) fn release(&self) {
        if let Some(target) = &self.target {
            self.watched.release(target.upstream.timeouts().keepalive);
        }
    }

    /// Notes the end of the current attempt, once.
    pub(super) fn end_attempt(&mut self, failure: Option<FailureCode>, status: Option<u16>) {
        self.end_attempt_at(Instant::now(), failure, status);
    }

    /// The same, for who knows what time it is.
    pub(super) fn end_attempt_at(
        &mut self,
        now: Instant,
        failure: Option<FailureCode>,
        status: Option<u16>,
    ) {
        let Some(target) = self.target.as_mut() else { return };
        if std::mem::replace(&mut target.ended, true) {
            return;
        }
        let record = AttemptRecord {
            endpoint: target.upstream.endpoints()[target.endpoint].address,
            failure,
            started: target.began.duration_since(self.ctx.started()),
            duration: now.duration_since(target.began),
            connect: target.connected.map(|at| at.duration_since(target.began)),
            reused: target.reused,
            status,
        };
        self.ctx.attempts.push(record);
    }
}
