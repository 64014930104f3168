//! `Exchange`: what the proxy itself keeps of a request, around the context that plugins see.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{StatusCode, header};
use pingora_http::ResponseHeader;
use smallvec::SmallVec;

use super::failure::Progress;
use super::seen::Seen;
use crate::action::Rewritten;
use crate::context::RequestCtx;
use crate::grpc::GrpcForm;
use crate::listener::Conn;
use crate::plugin::{Chain, Reply};
use crate::proxy::mirror::Mirroring;
use crate::snapshot::Sample;
use crate::telemetry::{AttemptRecord, FailureCode, StatusSource};
use crate::upstream::{Ending, Hedge, Pass, Place, Slot, Upgrade, Upstream, Watched, safely};

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
    /// What the head had when it came.
    pub(super) seen: Seen,
    /// Leave from the breakers before its upstream, which are told how its attempts end.
    pub(super) passes: Vec<Pass>,
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
    /// How its client reads gRPC, if it is a call of that.
    pub(super) grpc: Option<GrpcForm>,
    /// It asks for WebSocket.
    pub(super) upgrade: Option<Arc<Upgrade>>,
    /// It counts for the trial of a config.
    pub(super) sample: Option<Sample>,
    /// What is copied of it, and compared.
    pub(super) mirroring: Mirroring,
    /// What the upstream is asked for, where that is something else than the client asked for.
    pub(super) rewritten: Option<Box<Rewritten>>,
}

/// Where the current attempt goes.
pub(super) struct Target {
    pub(super) upstream: Arc<Upstream>,
    /// Which it leaves when this is dropped.
    pub(super) endpoint: Place,
    /// Leave from the endpoint's own breakers.
    pub(super) passes: Vec<Pass>,
    /// Its place among the requests that may be in flight at the upstream.
    pub(super) slot: Option<Slot>,
    /// The hash of what the upstream balances by.
    pub(super) key: Option<u64>,
    /// The endpoint that the client's cookie names.
    pub(super) cookie: Option<u64>,
    pub(super) attempts: u32,
    pub(super) began: Instant,
    /// When its connection stood, if it needed one of its own.
    pub(super) connected: Option<Instant>,
    pub(super) reused: bool,
    /// How long its connection may wait for the next request.
    pub(super) keepalive: Duration,
    /// It shares its connection with others.
    pub(super) is_stream: bool,
    /// A part of the request's body is still to be sent.
    pub(super) sending: bool,
    /// When the request's body had gone up, if it has one.
    pub(super) sent: Option<Instant>,
    pub(super) first_byte: Option<Duration>,
    /// How long the endpoint took for it: without the time that the client took for its request.
    pub(super) took: Duration,
    /// The status of its answer.
    pub(super) answer: Option<u16>,
    pub(super) ended: bool,
    /// How many attempts there were, those not counted that a dead connection lost unseen.
    pub(super) tried: u32,
    /// Endpoints that were tried in vain.
    pub(super) avoid: SmallVec<[SocketAddr; 2]>,
    /// The attempt ended before the endpoint saw it: nothing follows for the endpoint.
    pub(super) unseen: bool,
    /// It needs a connection that nobody had before, and nobody has afterwards.
    pub(super) fresh: bool,
    /// It was repeated once without leave.
    pub(super) repeated: bool,
    /// How long to wait before the next attempt.
    pub(super) pause: Duration,
    /// There were several attempts, and there may be no more.
    pub(super) used_up: bool,
    /// The second attempt that may run beside this one.
    pub(super) hedge: Option<Arc<Hedge>>,
}

impl Exchange {
    pub(super) fn begin(&mut self, open: Open) {
        self.open = Some(Box::new(open));
    }

    /// The request. Pingora calls `early_request_filter`, which begins it, before any other hook.
    pub(super) fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("begun by early_request_filter, which comes first")
    }

    /// Takes the request away: Pingora has no part in it any more.
    pub(super) fn take(&mut self) -> Option<Box<Open>> {
        self.open.take()
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

impl Target {
    /// An attempt on an endpoint that was chosen for it.
    pub(super) fn new(
        upstream: Arc<Upstream>,
        endpoint: Place,
        slot: Option<Slot>,
        key: Option<u64>,
        cookie: Option<u64>,
    ) -> Self {
        Self {
            keepalive: upstream.timeouts().keepalive,
            upstream,
            endpoint,
            passes: Vec::new(),
            slot,
            key,
            cookie,
            attempts: 0,
            began: Instant::now(),
            connected: None,
            reused: false,
            is_stream: false,
            sending: false,
            sent: None,
            first_byte: None,
            took: Duration::ZERO,
            answer: None,
            ended: false,
            tried: 1,
            avoid: SmallVec::new(),
            unseen: false,
            fresh: false,
            repeated: false,
            pause: Duration::ZERO,
            used_up: false,
            hedge: None,
        }
    }

    /// The endpoint says that it keeps the connection for so long.
    pub(super) fn kept_for(&mut self, told: Duration) {
        self.keepalive = self.keepalive.min(safely(told));
    }

    /// Begins another attempt, on an endpoint that was chosen for it.
    pub(super) fn renew(&mut self, endpoint: Place) {
        let slot = self.slot.take();
        let next = Self::new(self.upstream.clone(), endpoint, slot, self.key, self.cookie);
        let avoid = std::mem::take(&mut self.avoid);
        let Self { attempts, tried, fresh, repeated, .. } = *self;
        *self = Self { attempts, tried, fresh, repeated, avoid, ..next };
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
            target.sent = Some(Instant::now());
            // A body that was kept is handed over at once, and then takes its time to be sent.
            let sent = self.collected.as_ref().map(|_| target.upstream.timeouts().idle);
            let patience = self.patience().saturating_add(sent.unwrap_or_default());
            self.watched.expect(FailureCode::X3, patience);
        } else if self.http2 {
            // Pingora bounds the wait for a body on HTTP/1 alone.
            let after = self.ctx.listener().timeouts.body_read;
            self.watched.expect_brought(after, target.upstream.timeouts().idle);
        } else {
            self.watched.expect_taken(target.upstream.timeouts().idle);
        }
    }

    /// The response's head is here; its body follows.
    pub(super) fn head_arrived(&mut self, status: StatusCode) {
        if let Some(target) = self.target.as_mut() {
            let here = Instant::now();
            let took = here - target.sent.unwrap_or(target.began);
            target.answer = Some(status.as_u16());
            target.first_byte = Some(here - target.began);
            target.took = took;
            let now = self.watched.now();
            let passes = self.passes.iter_mut().chain(&mut target.passes);
            passes.for_each(|pass| pass.answered(status.as_u16(), took, now));
        }
        self.body_arrived();
    }

    /// Tells the client where it was sent, if it is to go there again and does not know yet.
    pub(super) fn keep_client(&self, response: &mut ResponseHeader) -> pingora::Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let Some(sticky) = target.upstream.sticky() else { return Ok(()) };
        let id = target.endpoint.id;
        if target.cookie == Some(id) {
            return Ok(());
        }
        match sticky.set(id, self.ctx.scheme() == "https") {
            Some(value) => response.append_header(header::SET_COOKIE, value).map(drop),
            None => Ok(()),
        }
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
            self.watched.release(target.keepalive);
        }
    }

    /// The request's body was refused on its way up: its stream ends, if it has one. A connection of its own
    /// ends with the attempt.
    pub(super) fn give_up(&self) {
        self.watched.give_up();
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
        if let Some(second) = target.hedge.as_ref().and_then(|hedge| hedge.take_second()) {
            // Neither has answered. If the first had failed before, it is the second that ended like this.
            let first = target.hedge.as_ref().and_then(|hedge| hedge.take_first_failure());
            if let Some(failed) = first.filter(|_| second.failed.is_none()) {
                self.settle_first(second, failed, now);
            } else {
                self.note_other(second, now);
            }
        }
        let Some(target) = self.target.as_mut() else { return };
        let duration = now.duration_since(target.began);
        let ending = match (failure, target.answer) {
            (Some(code), _) => Ending::Failed(code, duration),
            (None, Some(status)) => Ending::Answered(status, target.took),
            // Nothing can be said of an attempt that was cut off.
            (None, None) => Ending::Failed(FailureCode::D1, duration),
        };
        if !target.unseen {
            let now = self.watched.now();
            target.upstream.ended(&target.endpoint, ending, now);
            let passes = self.passes.iter_mut().chain(&mut target.passes);
            passes.for_each(|pass| pass.tell(ending, now));
        }
        let record = AttemptRecord {
            endpoint: target.endpoint.address,
            failure,
            started: target.began.duration_since(self.ctx.started()),
            duration,
            connect: target.connected.map(|at| at.duration_since(target.began)),
            reused: target.reused,
            status,
            lost: false,
        };
        self.ctx.attempts.push(record);
    }
}
