//! An upstream's limit of requests in flight that follows how long its answers take.
//!
//! Where endpoints have more to do than they can, requests wait inside them and answers take longer. So
//! the limit is moved by the gradient between the time that answers take when little is in flight, the
//! base, and now: it shrinks in proportion where they take longer, and grows by its square root where
//! they do not. The base is measured anew every minute, with the limit lowered for a moment (the
//! gradient controller of Envoy's adaptive concurrency, and of Netflix's `concurrency-limits`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::AdaptiveConfig;

/// How often the limit is moved.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// From how many answers a time is told.
const ENOUGH: u32 = 10;
/// How much of the way to the new limit a tick goes.
const SMOOTH: f64 = 0.2;
/// The steepest way down, a tick.
const STEEPEST: f64 = 0.5;
/// How much it grows in a tick until answers take longer for the first time.
const QUICKLY: f64 = 1.5;
/// After how many ticks the base is measured anew, and how low the limit is then.
const MEASURE_EVERY: u32 = 240;
const MEASURE_AT: f64 = 0.25;
/// How soon it is measured for the first time once the limit was found: what it was taken for while the
/// limit grew may be too much, where many came at once.
const MEASURE_FIRST: u32 = 8;
/// How much of the way to a lower base a tick goes, before the base was measured.
const LEARN: f64 = 0.05;

/// What requests leave behind, and what was made of it.
#[derive(Debug, Default)]
pub(super) struct Adaptive {
    answers: AtomicU32,
    micros: AtomicU64,
    /// The most requests that were in flight.
    peak: AtomicU32,
    gradient: Mutex<Option<Gradient>>,
}

#[derive(Clone, Copy, Debug)]
struct Gradient {
    limit: f64,
    /// How long answers take where little is in flight, in microseconds; 0 if that is not known.
    base: f64,
    /// Answers have taken longer once: until then the limit grows as fast as it may.
    found: bool,
    /// Ticks since the base was measured.
    age: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The limit moves.
    Moving,
    /// It is lowered, and what was in flight before ends.
    Lowered,
    /// What is in flight now tells the base.
    Measuring,
}

impl Adaptive {
    /// An answer began after this time, while so many requests were in flight.
    pub(super) fn note(&self, took: Duration, in_flight: u32) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX >> 20);
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        if self.peak.load(Ordering::Relaxed) < in_flight {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
        }
    }

    /// Moves the limit by what was noted since the last time; returns what counts now.
    pub(super) fn tick(&self, config: &AdaptiveConfig, most: u32) -> u32 {
        let answers = self.answers.load(Ordering::Relaxed);
        let mut held = self.gradient.lock().unwrap_or_else(PoisonError::into_inner);
        let most = f64::from(most);
        let least = f64::from(config.minimum).min(most);
        let mut gradient = held.unwrap_or(Gradient {
            limit: least,
            base: 0.0,
            found: false,
            age: 0,
            phase: Phase::Moving,
        });
        if answers >= ENOUGH {
            self.answers.fetch_sub(answers, Ordering::Relaxed);
            let micros = self.micros.swap(0, Ordering::Relaxed);
            let peak = self.peak.swap(0, Ordering::Relaxed);
            gradient.moves(micros as f64 / f64::from(answers), peak, config.tolerance);
        }
        gradient.limit = gradient.limit.clamp(least, most);
        *held = Some(gradient);
        gradient.in_force().max(least) as u32
    }
}

impl Gradient {
    /// What the limit is now: less while the base is measured.
    fn in_force(&self) -> f64 {
        if self.phase == Phase::Moving { self.limit } else { self.limit * MEASURE_AT }
    }

    /// A tick has passed in which answers took this time, in microseconds.
    fn moves(&mut self, took: f64, peak: u32, tolerance: f64) {
        match self.phase {
            Phase::Lowered => self.phase = Phase::Measuring,
            Phase::Measuring => {
                self.base = took;
                self.age = 0;
                self.phase = Phase::Moving;
            }
            Phase::Moving => {
                self.learn(took);
                self.age += 1;
                // A limit that nobody comes near is not known to be right, nor is it in the way.
                let near = f64::from(peak) * 2.0 >= self.limit;
                let next = self.next(took, tolerance);
                self.limit = if near { next } else { self.limit.min(next) };
                if self.age >= MEASURE_EVERY && near && self.found {
                    self.phase = Phase::Lowered;
                }
            }
        }
    }

    /// Until answers take longer for the first time no better base is at hand than the best of what is
    /// seen, which it goes to step by step: a few answers that take no time, as those to requests for
    /// what is not there, say little of the others. Afterwards it is measured alone.
    fn learn(&mut self, took: f64) {
        if self.base == 0.0 {
            self.base = took;
        } else if !self.found && took < self.base {
            self.base += (took - self.base) * LEARN;
        }
    }

    fn next(&mut self, took: f64, tolerance: f64) -> f64 {
        let slope = (tolerance * self.base / took.max(1.0)).clamp(STEEPEST, 1.0);
        if !self.found && slope < 1.0 {
            self.found = true;
            self.age = MEASURE_EVERY - MEASURE_FIRST;
        }
        if !self.found {
            return self.limit * QUICKLY;
        }
        let wanted = self.limit * slope + self.limit.sqrt();
        self.limit + (wanted - self.limit) * SMOOTH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> AdaptiveConfig {
        AdaptiveConfig { minimum: 2, ..AdaptiveConfig::default() }
    }

    /// Ticks of an upstream that serves `capacity` requests at a time in 10 ms each and has the others
    /// wait, while all that may come do.
    fn settled(adaptive: &Adaptive, capacity: f64, ticks: usize) -> u32 {
        let mut limit = adaptive.tick(&config(), 1000);
        for _ in 0..ticks {
            let took = 10_000.0 * (f64::from(limit) / capacity).max(1.0);
            for _ in 0..50 {
                adaptive.note(Duration::from_micros(took as u64), limit);
            }
            limit = adaptive.tick(&config(), 1000);
        }
        limit
    }

    #[test]
    fn the_limit_finds_what_an_upstream_can_do() {
        for capacity in [5.0, 50.0, 300.0] {
            for ticks in [100, 200, 1000] {
                let limit = f64::from(settled(&Adaptive::default(), capacity, ticks));
                assert!((capacity..capacity * 2.5).contains(&limit), "{limit} of {capacity}");
            }
        }
    }

    #[test]
    fn it_follows_an_upstream_that_loses_and_regains_half() {
        let adaptive = Adaptive::default();
        let before = settled(&adaptive, 100.0, 200);
        let less = settled(&adaptive, 50.0, 40);
        let after = settled(&adaptive, 100.0, 100);
        assert!(f64::from(less) < f64::from(before) * 0.7, "{before}, then {less}");
        assert!(f64::from(after) > f64::from(less) * 1.3, "{less}, then {after}");
    }

    /// What takes longer now whatever is in flight is no reason to be limited for good.
    #[test]
    fn an_upstream_that_has_become_slower_is_measured_anew() {
        let adaptive = Adaptive::default();
        let mut limit = adaptive.tick(&config(), 1000);
        for tick in 0..600 {
            let alone = if tick < 100 { 10_000.0 } else { 40_000.0 };
            let took = alone * (f64::from(limit) / 100.0).max(1.0);
            (0..50).for_each(|_| adaptive.note(Duration::from_micros(took as u64), limit));
            limit = adaptive.tick(&config(), 1000);
        }
        assert!((100..250).contains(&limit), "{limit}");
    }

    /// For five seconds most answers say that something is not there, which takes no time.
    #[test]
    fn a_burst_of_quick_answers_does_not_lower_the_limit() {
        let adaptive = Adaptive::default();
        let before = settled(&adaptive, 100.0, 100);
        let mut limit = before;
        for _ in 0..20 {
            (0..50).for_each(|_| adaptive.note(Duration::from_micros(300), limit));
            limit = adaptive.tick(&config(), 1000);
        }
        for _ in 0..20 {
            let took = 10_000.0 * (f64::from(limit) / 100.0).max(1.0);
            (0..50).for_each(|_| adaptive.note(Duration::from_micros(took as u64), limit));
            limit = adaptive.tick(&config(), 1000);
        }
        assert!(limit > before * 3 / 4, "{before}, then {limit}");
    }

    #[test]
    fn it_stays_within_its_bounds_and_where_nobody_comes_near_it() {
        let adaptive = Adaptive::default();
        assert_eq!(adaptive.tick(&config(), 1000), 2, "it begins at the least");
        for _ in 0..100 {
            (0..50).for_each(|_| adaptive.note(Duration::from_millis(1), 3));
            assert!(adaptive.tick(&config(), 1000) <= 9, "three in flight tell nothing of ten");
        }
        for took in (1..400).map(|step| Duration::from_millis(step * step)) {
            (0..50).for_each(|_| adaptive.note(took, 20));
            assert!(adaptive.tick(&config(), 1000) >= 2);
        }
        assert_eq!(adaptive.tick(&config(), 1), 1, "what the config says is most");
    }

    /// The first answers took five times as long: what they say is soon replaced by what is measured.
    #[test]
    fn a_first_impression_that_is_wrong_does_not_last() {
        let adaptive = Adaptive::default();
        for _ in 0..8 {
            (0..50).for_each(|_| adaptive.note(Duration::from_millis(50), 1));
            adaptive.tick(&config(), 1000);
        }
        let limit = settled(&adaptive, 50.0, 80);
        assert!((50..125).contains(&limit), "{limit}");
    }

    #[test]
    fn few_answers_tell_nothing() {
        let adaptive = Adaptive::default();
        let first = adaptive.tick(&config(), 1000);
        (0..9).for_each(|_| adaptive.note(Duration::from_secs(9), 20));
        assert_eq!(adaptive.tick(&config(), 1000), first);
    }
}
