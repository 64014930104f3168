//! What an upgrade hands on of an endpoint's standing.

use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Ejection, LastCheck, Standing};

/// A standing in a moment. Times are told in milliseconds from then on, or back.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::upstream) struct Kept {
    was_usable: bool,
    since_ms_ago: Option<u64>,
    health: Option<bool>,
    run: u32,
    last_check: Option<KeptCheck>,
    ejected_for_ms: Option<u64>,
    ejected_why: String,
    drained: bool,
    weight: Option<(u32, u32)>,
    ejections: u32,
    back_ms_ago: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct KeptCheck {
    at_unix_ms: u64,
    fault: Option<String>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Standing {
    pub(in crate::upstream) fn kept(&self, now: Instant) -> Kept {
        let ago = |moment: Instant| millis(now.saturating_duration_since(moment));
        let ejection = self.ejection.as_ref().filter(|ejection| now < ejection.until);
        Kept {
            was_usable: self.was_usable,
            since_ms_ago: self.since.map(ago),
            health: self.health,
            run: self.run,
            last_check: self.last_check.as_ref().map(|check| KeptCheck {
                at_unix_ms: millis(
                    check.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
                ),
                fault: check.fault.clone(),
            }),
            ejected_for_ms: ejection.map(|ejection| millis(ejection.until - now)),
            ejected_why: ejection.map(|ejection| ejection.reason.clone()).unwrap_or_default(),
            drained: self.drained,
            weight: self.weight,
            ejections: self.ejections,
            back_ms_ago: self.back.map(ago),
        }
    }

    /// Takes over what admin calls have changed.
    pub(in crate::upstream) fn override_as(&mut self, kept: &Kept) {
        (self.drained, self.weight) = (kept.drained, kept.weight);
    }

    pub(in crate::upstream) fn of(kept: Kept, now: Instant) -> Self {
        // What is longer ago than the machine runs is as good as not at all.
        let before = |millis: u64| now.checked_sub(Duration::from_millis(millis));
        let until =
            kept.ejected_for_ms.and_then(|left| now.checked_add(Duration::from_millis(left)));
        Self {
            was_usable: kept.was_usable,
            since: kept.since_ms_ago.and_then(before),
            health: kept.health,
            run: kept.run,
            last_check: kept.last_check.map(|check| LastCheck {
                at: SystemTime::UNIX_EPOCH + Duration::from_millis(check.at_unix_ms),
                fault: check.fault,
            }),
            // An ejection that has not ended ends when it would have.
            back: until.or_else(|| kept.back_ms_ago.and_then(before)),
            ejection: until.map(|until| Ejection { until, reason: kept.ejected_why }),
            drained: kept.drained,
            weight: kept.weight,
            ejections: kept.ejections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ActiveConfig, HealthConfig, PassiveConfig};

    #[test]
    fn a_standing_is_the_same_after_it_was_handed_on() {
        let (by, now) = (PassiveConfig::default(), Instant::now());
        let health = HealthConfig {
            active: Some(ActiveConfig::default()),
            passive: Some(by.clone()),
            ..HealthConfig::default()
        };
        let mut standing = Standing::default();
        standing.checked(None, &ActiveConfig::default());
        standing.weigh(Some(9), 3);
        let handed_on = |standing: &Standing, now| {
            let kept = serde_json::to_vec(&standing.kept(now)).unwrap();
            Standing::of(serde_json::from_slice(&kept).unwrap(), now)
        };
        let is_same = |one: &Standing, other: &Standing, now| {
            assert_eq!(one.condition(now, &health), other.condition(now, &health));
            assert_eq!(one.overrides(3), other.overrides(3));
            assert_eq!(one.changes_at(now).is_some(), other.changes_at(now).is_some());
        };
        is_same(&standing, &handed_on(&standing, now), now);

        standing.eject("5 failures in a row".to_owned(), now, &by);
        let mut after = handed_on(&standing, now + Duration::from_secs(1));
        is_same(&standing, &after, now + Duration::from_secs(1));
        let back = now + Duration::from_secs(3600);
        let again = standing.eject("again".to_owned(), back, &by);
        assert_eq!(after.eject("again".to_owned(), back, &by), again);

        standing.drain(true);
        is_same(&standing, &handed_on(&standing, back), back);
    }
}
