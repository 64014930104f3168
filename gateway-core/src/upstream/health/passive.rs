//! Passive health: what becomes of requests tells which endpoints to leave out for a while.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::config::PassiveConfig;
use crate::telemetry::{EjectionReason, FailureCode};

/// How an attempt ended, for the endpoint's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It answered with this status, its first byte after this time.
    Answered(u16, Duration),
    /// It failed, after this time.
    Failed(FailureCode, Duration),
    /// It was given up after this time, because another attempt had answered.
    Lost(Duration),
}

/// Whether it was the endpoint that failed, not its client, the gateway or a limit.
pub(in crate::upstream) fn blames_endpoint(code: FailureCode) -> bool {
    use FailureCode::*;
    matches!(code, U3 | U4 | U5 | U6 | U7 | X1 | X2 | X3 | X4 | X5)
}

/// What counts, compiled from the config.
#[derive(Debug)]
pub(in crate::upstream) struct Passive {
    pub(in crate::upstream) config: PassiveConfig,
    window_ms: u64,
}

impl Passive {
    pub(in crate::upstream) fn new(config: &PassiveConfig) -> Self {
        let window_ms = u64::try_from(config.window.0.as_millis()).unwrap_or(u64::MAX);
        Self { config: config.clone(), window_ms: window_ms.max(1) }
    }

    /// Whether the endpoint is to blame. `None` if that cannot be told: the client, the gateway or a
    /// limit of the whole request ended it.
    fn is_failure(&self, ending: Ending) -> Option<bool> {
        match ending {
            Ending::Answered(status, _) => {
                Some(self.config.status.iter().any(|range| range.0.contains(&status)))
            }
            Ending::Failed(code, _) => blames_endpoint(code).then_some(true),
            Ending::Lost(_) => None,
        }
    }

    /// Puts an ending on the endpoint's account. Returns why the endpoint is to be taken out, if it
    /// is.
    pub(in crate::upstream) fn note(
        &self,
        tally: &Tally,
        ending: Ending,
        now: u64,
    ) -> Option<(EjectionReason, String)> {
        let failed = self.is_failure(ending)?;
        tally.turn(now / self.window_ms);
        let requests = tally.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if !failed {
            if tally.in_a_row.load(Ordering::Relaxed) > 0 {
                tally.in_a_row.store(0, Ordering::Relaxed);
            }
            if let Ending::Answered(_, took) = ending {
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX >> 20);
                tally.micros.fetch_add(micros, Ordering::Relaxed);
            }
            return None;
        }
        let failures = tally.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let in_a_row = tally.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let last = match ending {
            Ending::Answered(status, _) => format!("status {status}"),
            Ending::Failed(code, _) => code.to_string(),
            Ending::Lost(_) => "lost".to_owned(),
        };
        if self.config.failures.is_some_and(|limit| in_a_row >= limit) {
            let why = format!("{in_a_row} failures in a row, the last {last}");
            return Some((EjectionReason::InARow, why));
        }
        let limit = self.config.failure_ratio?.fraction();
        let share = f64::from(failures) / f64::from(requests);
        (requests >= self.config.minimum && share >= limit).then(|| {
            let why = format!("{failures} of {requests} requests failed, the last {last}");
            (EjectionReason::Ratio, why)
        })
    }

    /// The average time of an endpoint's answers in this window, if there were enough.
    fn average(&self, tally: &Tally, now: u64) -> Option<f64> {
        let requests = tally.requests.load(Ordering::Relaxed);
        let good = requests.saturating_sub(tally.failures.load(Ordering::Relaxed));
        let current = tally.window.load(Ordering::Relaxed) == now / self.window_ms;
        let enough = current && good >= self.config.minimum;
        enough.then(|| tally.micros.load(Ordering::Relaxed) as f64 / f64::from(good))
    }

    /// Which of these endpoints answer too slowly, and how to say so. Takes three whose time is
    /// known, or there is no middle.
    pub(in crate::upstream) fn outliers(
        &self,
        tallies: &[&Tally],
        now: u64,
    ) -> Vec<(usize, String)> {
        /// What is never called slow, in microseconds.
        const QUICK: f64 = 10_000.0;
        let Some(limit) = self.config.slower_than else { return Vec::new() };
        let averages: Vec<Option<f64>> =
            tallies.iter().map(|tally| self.average(tally, now)).collect();
        let mut known: Vec<f64> = averages.iter().flatten().copied().collect();
        known.sort_unstable_by(f64::total_cmp);
        let [_, _, _, ..] = known[..] else { return Vec::new() };
        let middle = known[(known.len() - 1) / 2];
        let slow = |average: &f64| *average > QUICK && *average > middle * limit;
        let slow = averages.into_iter().enumerate().filter_map(|(place, average)| {
            let average = average.filter(slow)?;
            let [average, middle] = [average, middle].map(|micros| micros / 1e3);
            let why = format!("answers take {average:.1} ms, where {middle:.1} ms is the middle");
            Some((place, why))
        });
        slow.collect()
    }
}

/// An endpoint's account: what became of requests in the current window, and how many failed in a
/// row. Moved without a lock; at the turn of a window a request may go uncounted.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Tally {
    in_a_row: AtomicU32,
    window: AtomicU64,
    requests: AtomicU32,
    failures: AtomicU32,
    /// The time of all good answers.
    micros: AtomicU64,
}

impl Tally {
    fn turn(&self, window: u64) {
        if self.window.load(Ordering::Relaxed) != window {
            self.window.store(window, Ordering::Relaxed);
            self.clear_window();
        }
    }

    fn clear_window(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.micros.store(0, Ordering::Relaxed);
    }

    /// Forgets what led to an ejection.
    pub(in crate::upstream) fn clear(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        self.clear_window();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Percent;

    const MILLI: Duration = Duration::from_millis(1);

    fn passive(change: impl FnOnce(&mut PassiveConfig)) -> Passive {
        let mut config = PassiveConfig::default();
        change(&mut config);
        Passive::new(&config)
    }

    fn why(passive: &Passive, tally: &Tally, ending: Ending, now: u64) -> Option<String> {
        passive.note(tally, ending, now).map(|(_, why)| why)
    }

    #[test]
    fn failures_in_a_row_are_counted_until_a_request_goes_well() {
        let passive = passive(|config| config.failures = Some(3));
        let tally = Tally::default();
        let bad = Ending::Answered(503, MILLI);

        assert_eq!(why(&passive, &tally, bad, 0), None);
        assert_eq!(why(&passive, &tally, bad, 0), None);
        assert_eq!(why(&passive, &tally, Ending::Answered(404, MILLI), 0), None);
        assert_eq!(why(&passive, &tally, Ending::Failed(FailureCode::X1, MILLI), 0), None);
        assert_eq!(why(&passive, &tally, bad, 0), None);
        assert_eq!(
            why(&passive, &tally, Ending::Failed(FailureCode::U3, MILLI), 0).unwrap(),
            "3 failures in a row, the last U3"
        );
    }

    #[test]
    fn who_is_not_to_blame_is_not_counted() {
        let passive = passive(|config| config.failures = Some(1));
        let tally = Tally::default();

        for code in [FailureCode::D1, FailureCode::D4, FailureCode::X7, FailureCode::G3] {
            assert_eq!(why(&passive, &tally, Ending::Failed(code, MILLI), 0), None, "{code}");
        }
        assert_eq!(tally.requests.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_share_is_told_from_enough_requests_of_one_window() {
        let passive = passive(|config| {
            (config.failures, config.minimum) = (None, 10);
            config.failure_ratio = Some(Percent(30.0));
        });
        let tally = Tally::default();
        let note = |status, now| why(&passive, &tally, Ending::Answered(status, MILLI), now);

        for _ in 0..8 {
            assert_eq!(note(500, 0), None, "too few to tell");
        }
        // Another window.
        for _ in 0..7 {
            assert_eq!(note(200, 30_000), None);
        }
        assert_eq!((note(500, 30_001), note(500, 59_999)), (None, None));
        assert_eq!(note(500, 59_999).unwrap(), "3 of 10 requests failed, the last status 500");
    }

    #[test]
    fn an_endpoint_that_is_much_slower_than_the_middle_is_an_outlier() {
        let passive = passive(|config| (config.slower_than, config.minimum) = (Some(4.0), 5));
        let tallies = [10, 12, 100, 11].map(|millis| {
            let tally = Tally::default();
            for _ in 0..5 {
                let ending = Ending::Answered(200, Duration::from_millis(millis));
                assert_eq!(why(&passive, &tally, ending, 0), None);
            }
            tally
        });
        let all: Vec<&Tally> = tallies.iter().collect();

        let found = passive.outliers(&all, 29_999);

        assert_eq!(found, [(2, "answers take 100.0 ms, where 11.0 ms is the middle".to_owned())]);
        assert!(passive.outliers(&all, 30_000).is_empty(), "the window is over");
        assert!(passive.outliers(&all[1..3], 0).is_empty(), "two have no middle");
    }
}
