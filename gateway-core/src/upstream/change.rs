//! What changes an upstream while it serves: its endpoints' health and warmth, and the roster that is
//! made of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::health::{Condition, Standing, Tally, blames_endpoint};
use super::place::Member;
use super::roster::{Candidate, Roster};
use super::{Ending, Endpoint, Place, Upstream};
use crate::config::BalanceConfig;
use crate::telemetry::{EjectionReason, FailureCode};

/// What an attempt that failed counts as at least, where answers are timed: an endpoint that refuses
/// at once is not the fastest.
const FAILED: Duration = Duration::from_secs(1);

/// How often it is said that an endpoint would be taken out, were not too many out.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// How often slow endpoints are looked for.
const LOOK_FOR_SLOW: Duration = Duration::from_secs(1);

impl Upstream {
    /// Notes which endpoints came or went since the last time, and makes the roster anew. Returns
    /// when to do so again if nothing happens meanwhile. For the upstream that is in force alone.
    pub(super) fn refresh(&self, now: Instant) -> Option<Instant> {
        for endpoint in self.endpoints().iter() {
            let condition = self.condition(endpoint, now);
            let usable = condition.is_usable();
            let mut standing = endpoint.live.standing();
            // Who was there from the start is not new when its first check is good.
            let not_yet = condition.state == "unchecked" && standing.since.is_none();
            if usable != standing.was_usable && !not_yet {
                standing.was_usable = usable;
                standing.since = usable.then_some(now);
                self.tell(endpoint, &condition);
            }
        }
        self.make_roster(now)
    }

    /// Makes the roster anew, now that something else is known of the endpoints. For the upstream that is in force alone.
    pub(crate) fn look_again(&self) {
        self.refresh(Instant::now());
    }

    /// Makes the roster from what is known of the endpoints, and changes nothing of that: an upstream
    /// of a config that may yet be refused has one too.
    pub(super) fn make_roster(&self, now: Instant) -> Option<Instant> {
        self.make_roster_of(&self.endpoints(), now)
    }

    /// The same, of these endpoints.
    pub(super) fn make_roster_of(
        &self,
        endpoints: &Arc<[Arc<Endpoint>]>,
        now: Instant,
    ) -> Option<Instant> {
        let conditions: Vec<Condition> =
            endpoints.iter().map(|endpoint| self.condition(endpoint, now)).collect();
        let panics = self.panics(endpoints, &conditions);
        let mut candidates = Vec::with_capacity(endpoints.len());
        let mut next = None;
        let members = self.roster.load().members(endpoints, self.turns.len());
        for (member, condition) in members.into_iter().zip(&conditions) {
            let (candidate, change) = self.candidate(member, condition, panics, now);
            candidates.push(candidate);
            next = [next, change].into_iter().flatten().min();
        }
        let spill_below = self.config.spill_below.fraction();
        let roster = Roster::new(candidates, &self.config.balance, spill_below);
        self.roster.store(Arc::new(roster));
        self.states.room.is_changed();
        next
    }

    /// Takes an endpoint out, or brings it back: what is in flight there goes on. `None` if there is no
    /// such endpoint.
    pub(crate) fn drain(&self, address: SocketAddr, out: bool) -> Option<Arc<Endpoint>> {
        self.change(address, |standing, _| standing.drain(out))
    }

    /// Gives an endpoint another weight, or that of the config back.
    pub(crate) fn weigh(&self, address: SocketAddr, weight: Option<u32>) -> Option<Arc<Endpoint>> {
        self.change(address, |standing, configured| standing.weigh(weight, configured))
    }

    fn change(
        &self,
        address: SocketAddr,
        change: impl FnOnce(&mut Standing, u32),
    ) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints();
        let endpoint = endpoints.iter().find(|one| one.address == address)?.clone();
        change(&mut endpoint.live.standing(), endpoint.weight);
        // At once, as for checks: whoever is told that it is drained finds it drained.
        self.refresh(Instant::now());
        self.states.stir.notify_one();
        Some(endpoint)
    }

    /// Whether so little can be chosen that health is not believed.
    fn panics(&self, endpoints: &[Arc<Endpoint>], conditions: &[Condition]) -> bool {
        let weight = |all: bool| {
            let pairs = endpoints.iter().zip(conditions);
            let counted = pairs.filter(|(_, condition)| all || condition.is_usable());
            counted.map(|(endpoint, _)| f64::from(endpoint.overrides().effective)).sum::<f64>()
        };
        weight(false) < weight(true) * self.config.health.panic.fraction()
    }

    /// What the roster has to know of an endpoint, and when that changes by itself.
    fn candidate(
        &self,
        member: Member,
        condition: &Condition,
        panics: bool,
        now: Instant,
    ) -> (Candidate, Option<Instant>) {
        /// In how many steps an endpoint warms up.
        const STEPS: u32 = 20;
        const SHORTEST_STEP: Duration = Duration::from_millis(100);
        /// Weights are small numbers; a part of one is told in hundredths.
        const UNIT: u32 = 100;
        let slow_start = self.config.health.slow_start.map(Duration::from).unwrap_or_default();
        let usable = condition.is_usable();
        let standing = member.live.standing();
        let warmth = if usable { standing.warmth(slow_start, now) } else { 1.0 };
        let step = (warmth < 1.0).then(|| now + (slow_start / STEPS).max(SHORTEST_STEP));
        let change = [standing.changes_at(now), step].into_iter().flatten().min();
        // What is drained is not there, for whoever counts what there is.
        let full = standing.overrides(member.weight).effective * UNIT;
        drop(standing);
        let candidate = Candidate {
            weight: (f64::from(full) * warmth).ceil() as u32,
            full,
            usable: full > 0 && (usable || panics),
            preferred: self.prefers(&member),
            member,
        };
        (candidate, change)
    }

    fn tell(&self, endpoint: &Endpoint, condition: &Condition) {
        let (upstream, address) = (self.name(), endpoint.address);
        if condition.is_usable() {
            tracing::info!(upstream, endpoint = %address, "endpoint can be chosen");
        } else {
            let (state, reason) = (condition.state, condition.reason.as_deref());
            tracing::warn!(upstream, endpoint = %address, state, reason, "endpoint is left out");
        }
    }

    fn prefers(&self, endpoint: &Endpoint) -> bool {
        let labels = &endpoint.labels;
        self.config.prefer.iter().all(|(label, value)| labels.get(label) == Some(value))
    }

    /// Notes what a check said: what is wrong with the endpoint, if anything is.
    pub(super) fn checked(&self, endpoint: &Endpoint, fault: Option<String>) {
        let Some(active) = &self.config.health.active else { return };
        self.metrics.checked(fault.is_none());
        let changed = endpoint.live.standing().checked(fault, active);
        if changed {
            // At once, and on the thread that answers admin calls: whoever reads there that an
            // endpoint is left out finds it left out.
            self.refresh(Instant::now());
            self.states.stir.notify_one();
        }
    }

    /// Notes how an attempt ended, at this moment of the gateway's coarse clock.
    pub(crate) fn ended(&self, place: &Place, ending: Ending, now: u64) {
        let live = &place.endpoint().live;
        match ending {
            // Nobody else asks how long answers take.
            _ if self.config.balance != BalanceConfig::Ewma => {}
            // Nor is one the fastest that has nothing but errors to give.
            Ending::Answered(500.., took) => live.latency.note(took.max(FAILED), now),
            Ending::Answered(_, took) => live.latency.note(took, now),
            Ending::Failed(code, took) if blames_endpoint(code) => {
                live.latency.note(took.max(FAILED), now);
            }
            // It would have taken at least as long.
            Ending::Lost(took) => live.latency.note(took, now),
            Ending::Failed(..) => {}
        }
        if self.config.retry.as_ref().is_some_and(|retry| retry.hedge.is_some()) {
            self.latest.store(now, Ordering::Relaxed);
            match ending {
                Ending::Answered(_, took)
                | Ending::Failed(FailureCode::X3, took)
                | Ending::Lost(took) => self.states.times.note(took, now),
                Ending::Failed(..) => {}
            }
        }
        if self.config.limits.adaptive.is_some() {
            match ending {
                // What is refused at once is no measure of how long answers take.
                Ending::Answered(429 | 500.., _) => {}
                Ending::Answered(_, took) | Ending::Failed(FailureCode::X3, took) => {
                    self.states.adaptive.note(took, self.states.gate.inside());
                }
                // What did not get as far tells nothing of how busy endpoints are.
                Ending::Failed(..) | Ending::Lost(_) => {}
            }
        }
        let Some(passive) = &self.passive else { return };
        self.latest.store(now, Ordering::Relaxed);
        if let Some((reason, why)) = passive.note(&live.tally, ending, now) {
            self.eject(place, reason, why);
        }
    }

    /// Takes an endpoint out for a while, unless too many are out.
    fn eject(&self, endpoint: &Endpoint, reason: EjectionReason, why: String) {
        let Some(passive) = &self.passive else { return };
        // Whatever comes of it, it takes as much to get here again.
        endpoint.live.tally.clear();
        let endpoints = self.endpoints();
        let most = endpoints.len() as f64 * passive.config.max_ejected.fraction();
        if most < 1.0 {
            return;
        }
        let now = Instant::now();
        // One at a time: two that are taken out at once might be one too many.
        let mut last_told = self.states.ejecting();
        let out = endpoints.iter().filter(|one| one.live.standing().is_ejected(now)).count();
        let mut standing = endpoint.live.standing();
        if standing.is_ejected(now) {
            // Whoever ejected it may have been of a config that is not in force any more.
        } else if (out + 1) as f64 > most {
            if last_told.is_none_or(|at| now.saturating_duration_since(at) > TELL_AGAIN) {
                *last_told = Some(now);
                let (upstream, address) = (self.name(), endpoint.address);
                tracing::warn!(upstream, endpoint = %address, why, "not ejected: too many are out");
            }
            return;
        } else {
            standing.eject(why, now, &passive.config);
            self.metrics.ejected(reason);
        }
        self.states.stir.notify_one();
    }

    /// Takes out endpoints whose answers take much longer than those of the others. Returns when to
    /// look again, if it is to be looked at all.
    pub(super) fn eject_slow(&self, now: Instant) -> Option<Instant> {
        let passive = self.passive.as_ref()?;
        passive.config.slower_than?;
        let endpoints = self.endpoints();
        let in_use: Vec<&Arc<Endpoint>> =
            endpoints.iter().filter(|one| one.live.standing().was_usable).collect();
        let tallies: Vec<&Tally> = in_use.iter().map(|one| &one.live.tally).collect();
        for (place, why) in passive.outliers(&tallies, self.latest.load(Ordering::Relaxed)) {
            self.eject(in_use[place], EjectionReason::Latency, why);
        }
        Some(now + LOOK_FOR_SLOW)
    }
}
