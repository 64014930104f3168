//! The circuit breakers between a route's plugins and its upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, header};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::exchange::Open;
use super::refusal;
use crate::plugin::Reply;
use crate::snapshot::{Breakers, Destination, Fuse, RoutePlan};
use crate::telemetry::FailureCode;
use crate::upstream::{Choice, Pass, Place, Upstream};

/// How many endpoints are asked in the way the upstream is balanced, before whoever is let through is
/// taken.
const BALANCED: usize = 8;

impl Open {
    /// The route, if it has breakers before the upstream that was chosen, and that upstream's place.
    fn guarded(&self) -> Option<(Arc<RoutePlan>, usize)> {
        let place = self
            .ctx
            .destination_place()
            .filter(|_| self.ctx.destination().is_some_and(Destination::has_fuses))?;
        Some((self.ctx.route()?.clone(), place))
    }

    /// Asks the breakers that stand before the upstream as a whole, in the order of their plugins.
    pub(super) fn pass_breakers(&mut self, head: &RequestHeader) -> Result<(), Box<Reply>> {
        let Some((route, place)) = self.guarded() else { return Ok(()) };
        let listener = self.ctx.listener().clone();
        for fuse in route.destinations[place].fuses(&listener) {
            let Breakers::One(breaker) = &fuse.breakers else { continue };
            if !self.chain.takes_part(fuse.place, head, &mut self.ctx)? {
                continue;
            }
            match breaker.ask(self.watched.now()) {
                Ok(pass) => self.passes.push(pass),
                Err(later) => return Err(self.refused_by(fuse, later)),
            }
        }
        Ok(())
    }

    /// Asks the breakers of the endpoint that was chosen. Where they refuse, others are chosen as they
    /// are balanced, and if some of these are refused too, whoever is let through.
    pub(super) fn pass_endpoint(
        &mut self,
        head: &RequestHeader,
        upstream: &Upstream,
        choice: &Choice<'_>,
        mut place: Place,
    ) -> Result<(Place, Vec<Pass>), Box<Reply>> {
        let Some((route, chosen)) = self.guarded() else { return Ok((place, Vec::new())) };
        let listener = self.ctx.listener().clone();
        let fuses = route.destinations[chosen].fuses(&listener);
        let mut avoid: SmallVec<[SocketAddr; 8]> = choice.avoid.into();
        for _ in 0..BALANCED {
            match self.ask_endpoint(head, fuses, upstream, &place)? {
                Ok(passes) => return Ok((place, passes)),
                Err(_) => avoid.push(place.address),
            }
            let again = Choice { first: false, avoid: &avoid, ..*choice };
            let Some(other) = upstream.choose(again) else { break };
            if avoid.contains(&other.address) {
                break;
            }
            place = other;
        }
        drop(place);
        // Each is asked once more at most, so that a fleet of open breakers costs one look at each.
        let mut refused = None;
        for place in upstream.places(choice.worker, choice.avoid) {
            match self.ask_endpoint(head, fuses, upstream, &place)? {
                Ok(passes) => return Ok((place, passes)),
                Err(refusal) => refused = Some(refusal),
            }
        }
        Err(match refused {
            Some((fuse, later)) => self.refused_by(fuse, later),
            None => Box::new(refusal(upstream.nobody())),
        })
    }

    /// Waits for room at the endpoints that are full, where all that have some are refused.
    pub(super) async fn pass_soon(
        &mut self,
        head: &RequestHeader,
        upstream: &Upstream,
        choice: &Choice<'_>,
        mut refused: Box<Reply>,
    ) -> Result<(Place, Vec<Pass>), Box<Reply>> {
        let deadline = Instant::now() + upstream.queue_timeout(self.watched.left());
        loop {
            let full = upstream.full();
            if full == 0 || Instant::now() >= deadline {
                return Err(refused);
            }
            if upstream.some_leaves(full, deadline).await.is_err() {
                return Err(refused);
            }
            let now = self.watched.now();
            let Some(place) = upstream.choose(Choice { now, ..*choice }) else { continue };
            match self.pass_endpoint(head, upstream, choice, place) {
                Err(reply) => refused = reply,
                passed => {
                    self.ctx.ended_by = None;
                    return passed;
                }
            }
        }
    }

    /// Leave to go to an endpoint, or what refuses it.
    #[expect(clippy::type_complexity, reason = "one caller, which takes it apart at once")]
    fn ask_endpoint<'f>(
        &mut self,
        head: &RequestHeader,
        fuses: &'f [Fuse],
        upstream: &Upstream,
        place: &Place,
    ) -> Result<Result<Vec<Pass>, (&'f Fuse, Duration)>, Box<Reply>> {
        let mut passes = Vec::new();
        for fuse in fuses {
            let Breakers::Each(each) = &fuse.breakers else { continue };
            if !self.chain.takes_part(fuse.place, head, &mut self.ctx)? {
                continue;
            }
            match each.of(place.address, upstream).ask(self.watched.now()) {
                Ok(pass) => passes.push(pass),
                Err(later) => return Ok(Err((fuse, later))),
            }
        }
        Ok(Ok(passes))
    }

    fn refused_by(&mut self, fuse: &Fuse, later: Duration) -> Box<Reply> {
        self.ctx.ended_by = Some(fuse.place);
        self.chain.plugin(fuse.place).metrics.replied();
        let reply = fuse.reply.clone().map(|reply| reply.because(FailureCode::U9));
        let mut reply = reply.unwrap_or_else(|| refusal(FailureCode::U9));
        if !reply.headers.iter().any(|(name, _)| name == header::RETRY_AFTER) {
            let seconds = later.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                reply.set(header::RETRY_AFTER, value);
            }
        }
        Box::new(reply)
    }
}
