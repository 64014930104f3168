//! A request that is sent a second time while the first attempt has not answered.

use std::sync::Arc;
use std::time::Instant;

use http::Method;
use pingora::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;

use super::GatewayProxy;
use super::exchange::Open;
use super::failure::{self, Progress};
use crate::telemetry::AttemptRecord;
use crate::upstream::{Choice, Ending, Failed, GOODBYE, Hedge, REFUSED, Second};

impl GatewayProxy {
    /// Has a first attempt be followed by a second one, if the request may be sent twice.
    #[cold]
    pub(super) fn hedge(&self, head: &RequestHeader, open: &mut Open, peer: &mut HttpPeer) {
        let Some(target) = open.target.as_mut() else { return };
        let Some(after) = target.upstream.hedges_after() else { return };
        let repeatable = head.method == Method::GET || head.method == Method::HEAD;
        // A second endpoint's own breakers would not be asked.
        let guarded = !target.passes.is_empty();
        let plain = open.collected.is_none() && !open.chain.signs_attempts() && !guarded;
        if !repeatable || !plain || target.attempts > 1 {
            return;
        }
        let choice = Choice {
            worker: self.worker,
            first: false,
            now: open.watched.now(),
            key: target.key,
            cookie: target.cookie,
            avoid: &[],
        };
        let (upstream, watch) = (target.upstream.clone(), self.shared.watch.clone());
        let ends = [open.conn.peer, open.conn.local];
        let hedge = Hedge::new(upstream, watch, &choice, target.endpoint.address, ends, after);
        let hedge = Arc::new(hedge);
        target.upstream.hedge(peer, hedge.clone());
        target.hedge = Some(hedge);
    }
}

impl Open {
    /// An answer has begun: if it is that of a second attempt, the first is over: it has lost, or failed.
    pub(super) fn settle_hedge(&mut self) {
        let Some(target) = self.target.as_mut() else { return };
        let Some(second) = target.hedge.as_ref().and_then(|hedge| hedge.take_second()) else {
            return;
        };
        let now = Instant::now();
        if !second.won {
            self.note_other(second, now);
            return;
        }
        let failed = target.hedge.as_ref().and_then(|hedge| hedge.take_first_failure());
        self.swap(second, failed, now);
    }

    /// The first attempt has failed, and the second is the one that counts.
    pub(super) fn settle_first(&mut self, second: Second, failed: Failed, now: Instant) {
        self.swap(second, Some(failed), now);
    }

    /// Puts the second attempt in the place of the first, which is noted.
    fn swap(&mut self, second: Second, failed: Option<Failed>, now: Instant) {
        let Some(target) = self.target.as_mut() else { return };
        let first = Second {
            place: std::mem::replace(&mut target.endpoint, second.place),
            began: std::mem::replace(&mut target.began, second.began),
            connected: std::mem::replace(&mut target.connected, second.connected),
            reused: std::mem::replace(&mut target.reused, second.reused),
            won: false,
            failed,
        };
        target.attempts += 1;
        self.note_other(first, now);
    }

    /// Notes an attempt beside the one that counts: it failed, or the other was quicker.
    pub(super) fn note_other(&mut self, mut other: Second, now: Instant) {
        let Some(target) = self.target.as_mut() else { return };
        if other.failed.is_some() {
            target.avoid.push(other.place.address);
        }
        let ended = other.failed.as_ref().map_or(now, |(_, at)| *at);
        let duration = ended.duration_since(other.began);
        let stood = other.reused || other.connected.is_some();
        let (failure, ending, unseen) = match &mut other.failed {
            None => (None, Ending::Lost(duration), false),
            Some((error, _)) => {
                error.as_up();
                let progress = if stood { Progress::AwaitingHead } else { Progress::Connecting };
                let code = failure::code(error, progress);
                // A pooled connection that was just ending says nothing of its endpoint.
                let unseen = other.reused && [GOODBYE, REFUSED].contains(error.etype());
                (Some(code), Ending::Failed(code, duration), unseen)
            }
        };
        if !unseen {
            target.upstream.ended(&other.place, ending, self.watched.now());
        }
        let record = AttemptRecord {
            endpoint: other.place.address,
            failure,
            started: other.began.duration_since(self.ctx.started()),
            duration,
            connect: other.connected.map(|at| at.duration_since(other.began)),
            reused: other.reused,
            status: None,
            lost: failure.is_none(),
        };
        self.ctx.attempts.push(record);
    }
}
