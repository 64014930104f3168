//! A snapshot that is tried on a share of requests, and whether it does worse than the one in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Snapshot;
use crate::config::CanaryConfig;

/// How far a difference has to be from the margin, in standard errors, so that it comes about by chance once in 10,000
/// times: at each look before the end.
const LOOK: f64 = 3.72;
/// The same for once in 100 times: at the end.
const END: f64 = 2.33;
/// Fewer answers say nothing of how long answers take.
const ANSWERS: u64 = 30;

/// A snapshot on trial.
pub(crate) struct Canary {
    pub(crate) snapshot: Arc<Snapshot>,
    config: CanaryConfig,
    began: Instant,
    in_force: Tally,
    tried: Tally,
}

/// What became of requests by one of the two.
#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    failed: AtomicU64,
    /// Those whose time is known, the logarithms of their times in microseconds, and the squares of these, both in
    /// millionths.
    timed: AtomicU64,
    logs: AtomicI64,
    squares: AtomicU64,
}

/// A request that counts for one of the two.
pub(crate) struct Sample {
    canary: Arc<Canary>,
    is_tried: bool,
}

/// What comes of a trial.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The snapshot takes all requests. There may have been too few to tell.
    Accept { enough: bool },
    /// It takes none any more, and this is why.
    Discard(String),
}

/// The tallies of a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: f64,
    failed: f64,
    timed: f64,
    mean: f64,
    variance: f64,
}

impl Canary {
    pub(crate) fn new(snapshot: Arc<Snapshot>, config: CanaryConfig) -> Self {
        let (in_force, tried) = (Tally::default(), Tally::default());
        Self { snapshot, config, began: Instant::now(), in_force, tried }
    }

    /// Takes a request: by which of the two it is served. A number for each request, as good as by chance.
    pub(super) fn sample(self: &Arc<Self>, chance: u32) -> Sample {
        let is_tried = f64::from(chance) < self.config.share.fraction() * f64::from(u32::MAX);
        Sample { canary: self.clone(), is_tried }
    }

    /// What comes of it, if that can be said at this moment.
    pub(crate) fn verdict(&self, now: Instant) -> Option<Verdict> {
        let over = now.saturating_duration_since(self.began) >= Duration::from(self.config.time);
        let (in_force, tried) = (self.in_force.counts(), self.tried.counts());
        match worse(in_force, tried, &self.config, if over { END } else { LOOK }) {
            Some(why) => Some(Verdict::Discard(why)),
            None if !over => None,
            None => {
                let least = f64::from(self.config.minimum);
                let enough = tried.requests >= least && in_force.requests >= least;
                Some(Verdict::Accept { enough })
            }
        }
    }

    /// What is known of it.
    pub(crate) fn told(&self) -> Value {
        let side = |tally: &Tally| {
            let counts = tally.counts();
            let typical = (counts.timed > 0.0).then(|| counts.mean.exp() / 1e3);
            json!({
                "requests": counts.requests as u64,
                "failed": counts.failed as u64,
                "typical_ms": typical.map(|millis| (millis * 1e3).round() / 1e3),
            })
        };
        json!({
            "revision": self.snapshot.revision,
            "share": self.config.share,
            "tried_for_ms": u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "time": self.config.time,
            "in_force": side(&self.in_force),
            "canary": side(&self.tried),
        })
    }
}

impl Sample {
    /// The snapshot that serves it, if it is the one on trial.
    pub(crate) fn tried(&self) -> Option<&Arc<Snapshot>> {
        self.is_tried.then_some(&self.canary.snapshot)
    }

    /// Whether the one on trial served it.
    pub(crate) fn is_tried(&self) -> bool {
        self.is_tried
    }

    /// Tells what became of it; `took` is how long its answer took, if it is one to be timed.
    pub(crate) fn ends(self, failed: bool, took: Option<Duration>) {
        let tally = if self.is_tried { &self.canary.tried } else { &self.canary.in_force };
        tally.requests.fetch_add(1, Ordering::Relaxed);
        if failed {
            tally.failed.fetch_add(1, Ordering::Relaxed);
        } else if let Some(took) = took {
            let log = (took.as_secs_f64() * 1e6).max(1.0).ln();
            tally.logs.fetch_add((log * 1e6) as i64, Ordering::Relaxed);
            tally.squares.fetch_add((log * log * 1e6) as u64, Ordering::Relaxed);
            tally.timed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Tally {
    fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let timed = load(&self.timed);
        let mean = self.logs.load(Ordering::Relaxed) as f64 / 1e6 / timed.max(1.0);
        let squares = load(&self.squares) / 1e6 / timed.max(1.0);
        let variance = (squares - mean * mean).max(0.0);
        Counts { requests: load(&self.requests), failed: load(&self.failed), timed, mean, variance }
    }
}

/// Why the one on trial is worse, if it is by more than the margins.
fn worse(in_force: Counts, tried: Counts, config: &CanaryConfig, errors: f64) -> Option<String> {
    fails_more(in_force, tried, config, errors)
        .or_else(|| is_slower(in_force, tried, config, errors))
}

/// Compares the shares of requests that failed, with one success and one failure added to each side (Agresti and Caffo,
/// 2000), so that few requests say little.
fn fails_more(
    in_force: Counts,
    tried: Counts,
    config: &CanaryConfig,
    errors: f64,
) -> Option<String> {
    let margin = config.failure_margin.fraction();
    let share = |of: Counts| (of.failed + 1.0) / (of.requests + 2.0);
    let spread = |of: Counts| share(of) * (1.0 - share(of)) / (of.requests + 2.0);
    let error = (spread(in_force) + spread(tried)).sqrt();
    (share(tried) - share(in_force) - margin > errors * error).then(|| {
        let told = |of: Counts| {
            let percent = 100.0 * of.failed / of.requests.max(1.0);
            format!("{} of {} ({percent:.1}%)", of.failed, of.requests)
        };
        format!(
            "{} of its requests failed, against {} by the config in force: more than {} more",
            told(tried),
            told(in_force),
            config.failure_margin
        )
    })
}

/// Compares the means of the logarithms of times (Welch's test): a ratio of typical times.
fn is_slower(
    in_force: Counts,
    tried: Counts,
    config: &CanaryConfig,
    errors: f64,
) -> Option<String> {
    let least = ANSWERS as f64;
    if in_force.timed < least || tried.timed < least {
        return None;
    }
    let error = (in_force.variance / in_force.timed + tried.variance / tried.timed).sqrt();
    let ratio = (1.0 + config.latency_margin.fraction()).ln();
    (tried.mean - in_force.mean - ratio > errors * error).then(|| {
        let millis = |of: Counts| of.mean.exp() / 1e3;
        format!(
            "its answers typically took {:.1} ms, against {:.1} ms by the config in force: more than {} longer",
            millis(tried),
            millis(in_force),
            config.latency_margin
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(requests: u32, failed: u32, millis: f64) -> Counts {
        Counts {
            requests: requests.into(),
            failed: failed.into(),
            timed: (requests - failed).into(),
            mean: (millis * 1e3).ln(),
            variance: 0.25,
        }
    }

    fn config() -> CanaryConfig {
        CanaryConfig::default()
    }

    #[test]
    fn one_that_fails_more_is_found_and_chance_is_not() {
        let fails = |in_force: (u32, u32), tried: (u32, u32), errors| {
            let (in_force, tried) =
                (counts(in_force.0, in_force.1, 5.0), counts(tried.0, tried.1, 5.0));
            worse(in_force, tried, &config(), errors).is_some()
        };
        // All of a few is enough at any look, one of a few is not.
        assert!(fails((90, 0), (10, 10), LOOK));
        assert!(!fails((90, 0), (10, 1), END));
        // Within the margin of a point.
        assert!(!fails((90_000, 90), (10_000, 100), END));
        assert!(fails((90_000, 90), (10_000, 160), END));
        // The one in force fails as well.
        assert!(!fails((900, 450), (100, 55), END));
        assert!(!fails((0, 0), (3, 3), LOOK), "nothing to compare with, and few");
    }

    #[test]
    fn one_that_is_slower_is_found_and_chance_is_not() {
        let slow = |in_force: f64, tried: f64, requests, errors| {
            let (in_force, tried) = (counts(requests * 9, 0, in_force), counts(requests, 0, tried));
            worse(in_force, tried, &config(), errors).is_some()
        };
        assert!(slow(5.0, 10.0, 200, LOOK), "twice as long");
        assert!(!slow(5.0, 7.0, 10_000, END), "within half as long again");
        assert!(!slow(5.0, 10.0, 20, END), "too few");
        assert!(!slow(10.0, 5.0, 10_000, END), "it is faster");
    }

    /// Of many trials of configs that are the same, hardly one is discarded for chance.
    #[test]
    fn what_is_the_same_is_hardly_ever_discarded() {
        let mut chance = 1_u64;
        let mut fails = |share: f64| {
            // A generator of numbers that is the same at every run (xorshift).
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            (chance as f64 / u64::MAX as f64) < share
        };
        let discarded = (0..300).filter(|_| {
            let (mut in_force, mut tried) = (counts(0, 0, 5.0), counts(0, 0, 5.0));
            (0..60).any(|look| {
                for _ in 0..90 {
                    in_force.requests += 1.0;
                    in_force.failed += f64::from(u8::from(fails(0.05)));
                }
                for _ in 0..10 {
                    tried.requests += 1.0;
                    tried.failed += f64::from(u8::from(fails(0.05)));
                }
                worse(in_force, tried, &config(), if look == 59 { END } else { LOOK }).is_some()
            })
        });
        assert!(discarded.count() <= 6, "more than two in a hundred");
    }
}
