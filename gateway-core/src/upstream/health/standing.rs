//! `Standing`: what is known of one endpoint's health, and what follows from it.

mod kept;

use std::time::{Duration, Instant, SystemTime};

use crate::config::{ActiveConfig, HealthConfig, PassiveConfig};

pub(in crate::upstream) use kept::Kept;

/// What is known of an endpoint. Read and changed away from requests, but for an ejection.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Standing {
    /// It could be chosen when the roster was last made.
    pub(in crate::upstream) was_usable: bool,
    /// When it came, or came back. `None` if it was there from the start.
    pub(in crate::upstream) since: Option<Instant>,
    health: Option<bool>,
    /// Checks in a row that say something else than `health`, or the same as long as it is unknown.
    run: u32,
    last_check: Option<LastCheck>,
    ejection: Option<Ejection>,
    /// An admin call has taken it out.
    drained: bool,
    /// The weight that an admin call has given it, and the one that it has taken its place of.
    weight: Option<(u32, u32)>,
    /// How often in a row it was ejected, and when the last time ended.
    ejections: u32,
    back: Option<Instant>,
}

/// What the last check said.
#[derive(Clone, Debug)]
struct LastCheck {
    at: SystemTime,
    /// Why it was bad, if it was.
    fault: Option<String>,
}

#[derive(Clone, Debug)]
struct Ejection {
    until: Instant,
    reason: String,
}

/// What admin calls have changed of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrides {
    /// It gets no requests any more.
    pub drained: bool,
    /// The weight it was given, if it was.
    pub weight: Option<u32>,
    /// The weight that counts.
    pub effective: u32,
}

/// What can be said of an endpoint, for those who ask.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Condition {
    /// `usable`, `unchecked`, `unhealthy`, `ejected` or `drained`.
    pub state: &'static str,
    /// Why it is not usable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For how long it is still taken out, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejected_for_ms: Option<u64>,
    /// When it was last checked, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<u64>,
}

impl Condition {
    /// All states there are.
    pub const STATES: [&'static str; 5] =
        ["usable", "unchecked", "unhealthy", "ejected", "drained"];

    /// Whether the endpoint can be chosen.
    pub fn is_usable(&self) -> bool {
        self.state == "usable"
    }
}

impl Standing {
    /// The condition now, where health is found out like this.
    pub(in crate::upstream) fn condition(&self, now: Instant, by: &HealthConfig) -> Condition {
        let active = by.active.as_ref();
        let since_1970 = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok();
        // What was found out by checks that are not made any more says nothing.
        let last_check = self.last_check.as_ref().filter(|_| active.is_some());
        let checked_at = last_check.and_then(|check| since_1970(check.at)).map(|at| at.as_secs());
        let because = |state, reason| Condition { state, reason, ejected_for_ms: None, checked_at };
        if self.drained {
            return because("drained", Some("by an admin call".to_owned()));
        }
        let fault = || last_check.and_then(|check| check.fault.clone());
        if active.is_some() && self.health == Some(false) {
            return because("unhealthy", fault());
        }
        let ejection = self.ejection.as_ref().filter(|_| by.passive.is_some());
        if let Some(ejection) = ejection.filter(|ejection| now < ejection.until) {
            let left = ejection.until.saturating_duration_since(now).as_millis();
            let left = u64::try_from(left).unwrap_or(u64::MAX);
            let condition = because("ejected", Some(ejection.reason.clone()));
            return Condition { ejected_for_ms: Some(left), ..condition };
        }
        if active.is_some_and(|active| active.wait) && self.health.is_none() {
            return because("unchecked", fault());
        }
        because("usable", None)
    }

    /// What admin calls have changed, of an endpoint whose config says this weight. Where the config
    /// says another one by now, that counts.
    pub(in crate::upstream) fn overrides(&self, configured: u32) -> Overrides {
        let weight = self.weight.filter(|(_, replaced)| *replaced == configured);
        let weight = weight.map(|(weight, _)| weight);
        let effective = if self.drained { 0 } else { weight.unwrap_or(configured) };
        Overrides { drained: self.drained, weight, effective }
    }

    /// Takes it out, or back in.
    pub(in crate::upstream) fn drain(&mut self, drained: bool) {
        self.drained = drained;
    }

    /// Gives it another weight in place of the one in the config, or that one back.
    pub(in crate::upstream) fn weigh(&mut self, weight: Option<u32>, configured: u32) {
        self.weight = weight.map(|weight| (weight, configured));
    }

    /// When the condition changes by itself: the end of an ejection.
    pub(in crate::upstream) fn changes_at(&self, now: Instant) -> Option<Instant> {
        self.ejection.as_ref().map(|ejection| ejection.until).filter(|until| *until > now)
    }

    /// Notes what a check said. Returns whether the endpoint's health is another now.
    pub(in crate::upstream) fn checked(
        &mut self,
        fault: Option<String>,
        by: &ActiveConfig,
    ) -> bool {
        let good = fault.is_none();
        self.last_check = Some(LastCheck { at: SystemTime::now(), fault });
        if self.health == Some(good) {
            self.run = 0;
            return false;
        }
        self.run += 1;
        let wanted = match (self.health, good) {
            // The first good check is enough to begin with.
            (None, true) => 1,
            (_, true) => by.healthy_after,
            (_, false) => by.unhealthy_after,
        };
        if self.run < wanted {
            return false;
        }
        self.health = Some(good);
        self.run = 0;
        true
    }

    /// Whether it is taken out at this moment.
    pub(in crate::upstream) fn is_ejected(&self, now: Instant) -> bool {
        self.changes_at(now).is_some()
    }

    /// Takes it out for a while: longer each time, unless it was in for long since the last. Returns
    /// for how long.
    pub(in crate::upstream) fn eject(
        &mut self,
        reason: String,
        now: Instant,
        by: &PassiveConfig,
    ) -> Duration {
        let (first, longest) = (by.eject_for.0, by.eject_at_most.0);
        if self.back.is_none_or(|back| now.saturating_duration_since(back) > longest) {
            self.ejections = 0;
        }
        let time = first.saturating_mul(1 << self.ejections.min(20)).min(longest);
        self.ejections += 1;
        let until = now + time;
        self.back = Some(until);
        self.ejection = Some(Ejection { until, reason });
        time
    }

    /// How much of its weight the endpoint carries: it grows from a tenth to all of it within the
    /// slow start.
    pub(in crate::upstream) fn warmth(&self, slow_start: Duration, now: Instant) -> f64 {
        const COLDEST: f64 = 0.1;
        let Some(since) = self.since else { return 1.0 };
        let passed = now.saturating_duration_since(since);
        if passed >= slow_start {
            return 1.0;
        }
        COLDEST + (1.0 - COLDEST) * passed.as_secs_f64() / slow_start.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Option<String> {
        Some("status 500".to_owned())
    }

    fn state(standing: &Standing, wait: bool) -> &'static str {
        let active = Some(ActiveConfig { wait, ..ActiveConfig::default() });
        let by = HealthConfig { active, ..HealthConfig::default() };
        standing.condition(Instant::now(), &by).state
    }

    #[test]
    fn checks_in_a_row_change_an_endpoints_health() {
        let by = ActiveConfig { healthy_after: 2, unhealthy_after: 3, ..ActiveConfig::default() };
        let mut standing = Standing::default();
        assert_eq!((state(&standing, false), state(&standing, true)), ("usable", "unchecked"));

        assert!(standing.checked(None, &by), "the first good one tells");
        assert!(!standing.checked(fault(), &by) && !standing.checked(fault(), &by));
        assert!(!standing.checked(None, &by), "a good one in between begins the row anew");
        assert!(!standing.checked(fault(), &by) && !standing.checked(fault(), &by));
        assert!(standing.checked(fault(), &by));
        assert_eq!(state(&standing, false), "unhealthy");
        let checked = HealthConfig { active: Some(by.clone()), ..HealthConfig::default() };
        assert_eq!(standing.condition(Instant::now(), &checked).reason, fault());
        let unchecked = HealthConfig::default();
        assert_eq!(standing.condition(Instant::now(), &unchecked).state, "usable");

        assert!(!standing.checked(None, &by) && !standing.checked(fault(), &by));
        assert!(!standing.checked(None, &by));
        assert!(standing.checked(None, &by));
        assert_eq!(state(&standing, true), "usable");
    }

    #[test]
    fn ejections_grow_and_are_forgotten_in_good_times() {
        let by = PassiveConfig {
            eject_for: "10s".parse().unwrap(),
            eject_at_most: "35s".parse().unwrap(),
            ..PassiveConfig::default()
        };
        let health = HealthConfig { passive: Some(by.clone()), ..HealthConfig::default() };
        let mut standing = Standing::default();
        let mut now = Instant::now();
        let mut eject = |standing: &mut Standing, after: u64| {
            now += Duration::from_secs(after);
            let time = standing.eject("5 failures in a row".to_owned(), now, &by).as_secs();
            assert_eq!(standing.condition(now, &health).state, "ejected");
            assert_eq!(standing.changes_at(now), Some(now + Duration::from_secs(time)));
            now += Duration::from_secs(time);
            assert_eq!(standing.condition(now, &health).state, "usable");
            time
        };

        assert_eq!(eject(&mut standing, 0), 10);
        assert_eq!(eject(&mut standing, 1), 20);
        assert_eq!(eject(&mut standing, 1), 35, "no longer than allowed");
        assert_eq!(eject(&mut standing, 36), 10, "it was in for long");
    }

    #[test]
    fn what_a_call_changed_holds_until_the_config_says_something_else() {
        let mut standing = Standing::default();
        standing.weigh(Some(9), 3);
        assert_eq!((standing.overrides(3).effective, standing.overrides(4).effective), (9, 4));
        assert_eq!((standing.overrides(3).weight, standing.overrides(4).weight), (Some(9), None));
        standing.drain(true);
        assert_eq!((standing.overrides(3).effective, state(&standing, false)), (0, "drained"));
        standing.drain(false);
        standing.weigh(None, 3);
        assert_eq!((standing.overrides(3).effective, state(&standing, false)), (3, "usable"));
    }

    #[test]
    fn weight_grows_within_the_slow_start() {
        let now = Instant::now();
        let standing = Standing { since: Some(now), ..Standing::default() };
        let warmth =
            |secs| standing.warmth(Duration::from_secs(10), now + Duration::from_secs(secs));

        assert_eq!([warmth(0), warmth(10), warmth(11)], [0.1, 1.0, 1.0]);
        assert!((warmth(5) - 0.55).abs() < 1e-9);
        assert_eq!(standing.warmth(Duration::ZERO, now), 1.0, "no slow start");
        assert_eq!(Standing::default().warmth(Duration::from_secs(9), now), 1.0);
    }
}
