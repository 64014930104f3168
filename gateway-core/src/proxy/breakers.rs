//! The circuit breakers between a route's plugins and its upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, header};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::exchange::Open;
use super::refusal;
use crate::plugin::Reply;
use crate::snapshot::{Breakers, Fuse, RoutePlan};
use crate::telemetry::FailureCode;
use crate::upstream::{Choice, Pass, Place, Upstream};

impl Open {
    /// The route, if it has breakers before its upstream.
    fn guarded(&self) -> Option<Arc<RoutePlan>> {
        self.ctx.route().filter(|route| route.has_fuses()).cloned()
    }

    /// Asks the breakers that stand before the upstream as a whole, in the order of their plugins.
    pub(super) fn pass_breakers(&mut self, head: &RequestHeader) -> Result<(), Box<Reply>> {
        let Some(route) = self.guarded() else { return Ok(()) };
        let listener = self.ctx.listener().clone();
        for fuse in route.fuses(&listener) {
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

    /// Asks the breakers of the endpoint that was chosen, and those of others in its place for as long
    /// as it is refused.
    pub(super) fn pass_endpoint(
        &mut self,
        head: &RequestHeader,
        upstream: &Upstream,
        choice: &Choice<'_>,
        mut place: Place,
    ) -> Result<(Place, Vec<Pass>), Box<Reply>> {
        let Some(route) = self.guarded() else { return Ok((place, Vec::new())) };
        let listener = self.ctx.listener().clone();
        let fuses = route.fuses(&listener);
        let mut avoid: SmallVec<[SocketAddr; 8]> = choice.avoid.into();
        let mut refused = 0;
        loop {
            let (fuse, later) = match self.ask_endpoint(head, fuses, upstream, &place)? {
                Ok(passes) => return Ok((place, passes)),
                Err(refusal) => refusal,
            };
            if avoid[choice.avoid.len()..].contains(&place.address) {
                // There is no other.
                return Err(self.refused_by(fuse, later));
            }
            avoid.push(place.address);
            refused += 1;
            let again = Choice { first: false, avoid: &avoid, ..*choice };
            match upstream.choose(again).filter(|_| refused <= upstream.endpoints().len()) {
                Some(other) => place = other,
                None => return Err(self.refused_by(fuse, later)),
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

    fn refused_by(&self, fuse: &Fuse, later: Duration) -> Box<Reply> {
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
