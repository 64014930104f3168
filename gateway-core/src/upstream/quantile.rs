//! How long an upstream's answers take, as a quantile over the last half minute: what hedging waits for.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Four buckets for each doubling, from a microsecond on: no bucket is wider than a quarter of its
/// place.
const STEPS: usize = 4;
/// The last bucket holds all that take longer than about an hour.
const BUCKETS: usize = 32 * STEPS;
/// How many windows are looked at, and how long each is.
const WINDOWS: usize = 3;
const WINDOW: u64 = 10_000;
/// From how many answers a quantile is told.
const ENOUGH: u32 = 50;

/// The times of answers, counted without a lock.
pub(super) struct Times {
    windows: [Window; WINDOWS],
    /// The quantile in microseconds, as it was found last; 0 if there were too few answers.
    found: AtomicU64,
}

struct Window {
    number: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Default for Window {
    fn default() -> Self {
        Self { number: AtomicU64::new(0), counts: std::array::from_fn(|_| AtomicU32::new(0)) }
    }
}

impl Default for Times {
    fn default() -> Self {
        Self { windows: Default::default(), found: AtomicU64::new(0) }
    }
}

impl Times {
    /// An answer began after this time, at this moment of the gateway's coarse clock. Where a window
    /// begins one may go uncounted.
    pub(super) fn note(&self, took: Duration, now: u64) {
        // 0 is no window, so that one that was never used is not taken for one.
        let number = now / WINDOW + 1;
        let window = &self.windows[usize::try_from(number).unwrap_or(0) % WINDOWS];
        if window.number.load(Ordering::Relaxed) != number {
            window.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
            window.number.store(number, Ordering::Relaxed);
        }
        window.counts[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// Finds the quantile anew.
    pub(super) fn find(&self, share: f64, now: u64) {
        let oldest = (now / WINDOW + 1).saturating_sub(WINDOWS as u64 - 1);
        let recent = self.windows.iter().filter(|one| one.number.load(Ordering::Relaxed) >= oldest);
        let mut counts = [0_u32; BUCKETS];
        for window in recent {
            for (sum, count) in counts.iter_mut().zip(&window.counts) {
                *sum = sum.saturating_add(count.load(Ordering::Relaxed));
            }
        }
        let all: u32 = counts.iter().fold(0, |sum, count| sum.saturating_add(*count));
        let wanted = f64::from(all) * share;
        let mut seen = 0.0;
        let place = counts.iter().position(|count| {
            seen += f64::from(*count);
            seen >= wanted
        });
        let found = place.filter(|_| all >= ENOUGH).map_or(0, upper);
        self.found.store(found, Ordering::Relaxed);
    }

    /// The quantile that was found last.
    pub(super) fn found(&self) -> Option<Duration> {
        let micros = self.found.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = micros.ilog2() as usize;
    // The two bits behind the first.
    let step = if doubling >= 2 { (micros >> (doubling - 2)) as usize & 3 } else { 0 };
    (doubling * STEPS + step).min(BUCKETS - 1)
}

/// Where a bucket ends, in microseconds.
fn upper(bucket: usize) -> u64 {
    let (doubling, step) = (bucket / STEPS, bucket % STEPS);
    let base = 1_u64 << doubling;
    base + base * (step as u64 + 1) / STEPS as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(times: &Times, share: f64, now: u64) -> Option<f64> {
        times.find(share, now);
        times.found().map(|found| found.as_secs_f64() * 1e3)
    }

    #[test]
    fn a_quantile_is_within_a_quarter_of_the_truth() {
        let times = Times::default();
        for millis in 1..=1000 {
            times.note(Duration::from_millis(millis), 5_000);
        }
        for (share, truth) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let found = found(&times, share, 5_000).unwrap();
            assert!((truth..truth * 1.26).contains(&found), "{found} ms for {truth} ms");
        }
    }

    #[test]
    fn what_is_long_ago_counts_no_more() {
        let times = Times::default();
        (0..100).for_each(|_| times.note(Duration::from_secs(1), 1_000));
        assert!(found(&times, 0.5, 20_000).unwrap() >= 1e3);
        assert_eq!(found(&times, 0.5, 40_000), None);
        (0..100).for_each(|_| times.note(Duration::from_millis(1), 40_000));
        assert!(found(&times, 0.99, 45_000).unwrap() < 2.0);
    }

    #[test]
    fn few_answers_tell_nothing_and_any_time_has_its_place() {
        let times = Times::default();
        (0..49).for_each(|_| times.note(Duration::ZERO, 0));
        assert_eq!(found(&times, 0.5, 0), None);
        times.note(Duration::MAX, 0);
        assert!(found(&times, 1.0, 0).unwrap() > 1e6);
    }
}
