//! What became of requests lately: a rolling window, counted without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Outcome;

/// The parts of a window.
const SLICES: u64 = 10;

/// A window, in slices that each forget at once. Moments are in milliseconds.
#[derive(Debug)]
pub(super) struct Window {
    /// How long a slice is.
    slice_millis: u64,
    slices: [Slice; SLICES as usize],
}

#[derive(Debug, Default)]
struct Slice {
    number: AtomicU64,
    requests: AtomicU32,
    failed: AtomicU32,
    slow: AtomicU32,
}

/// What a window holds.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: f64,
    pub(super) failed: f64,
    pub(super) slow: f64,
}

/// A slice as an upgrade hands it on: when it begins and ends, and what it holds.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptSlice {
    from: u64,
    to: u64,
    requests: u32,
    failed: u32,
    slow: u32,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Self { slice_millis: (length / SLICES).max(1), slices: Default::default() }
    }

    /// The number of the slice at this moment. 0 is none, so that a slice that was never used is not
    /// taken for one.
    fn number(&self, now: u64) -> u64 {
        now / self.slice_millis + 1
    }

    fn slice(&self, number: u64) -> &Slice {
        &self.slices[usize::try_from(number % SLICES).unwrap_or(0)]
    }

    /// Counts what became of a request, and tells in which slice. Where a slice begins one may go
    /// uncounted.
    pub(super) fn count(&self, outcome: Outcome, now: u64) -> u64 {
        let number = self.number(now);
        let slice = self.slice(number);
        if slice.number.load(Ordering::Acquire) != number {
            slice.requests.store(0, Ordering::Relaxed);
            slice.failed.store(0, Ordering::Relaxed);
            slice.slow.store(0, Ordering::Relaxed);
            slice.number.store(number, Ordering::Release);
        }
        slice.requests.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Outcome::Good => {}
            Outcome::Failed => drop(slice.failed.fetch_add(1, Ordering::Relaxed)),
            Outcome::Slow => drop(slice.slow.fetch_add(1, Ordering::Relaxed)),
        }
        number
    }

    /// Counts that a request failed after all, which was counted as another in this slice. If that is
    /// long ago, or was never counted (0), it is a request of its own.
    pub(super) fn correct(&self, number: u64, now: u64) {
        let recent = number != 0 && number + SLICES > self.number(now);
        let slice = self.slice(number);
        if recent && slice.number.load(Ordering::Acquire) == number {
            slice.failed.fetch_add(1, Ordering::Relaxed);
        } else {
            self.count(Outcome::Failed, now);
        }
    }

    /// What it holds.
    pub(super) fn counts(&self, now: u64) -> Counts {
        let mut counts = Counts::default();
        for slice in &self.slices {
            let number = slice.number.load(Ordering::Acquire);
            if number != 0 && number + SLICES > self.number(now) {
                counts.requests += f64::from(slice.requests.load(Ordering::Relaxed));
                counts.failed += f64::from(slice.failed.load(Ordering::Relaxed));
                counts.slow += f64::from(slice.slow.load(Ordering::Relaxed));
            }
        }
        counts
    }

    pub(super) fn forget(&self) {
        self.slices.iter().for_each(|slice| slice.number.store(0, Ordering::Release));
    }

    /// What its slices hold.
    pub(super) fn kept(&self) -> Vec<KeptSlice> {
        let kept = self.slices.iter().filter_map(|slice| {
            let number = slice.number.load(Ordering::Acquire).checked_sub(1)?;
            let from = number * self.slice_millis;
            Some(KeptSlice {
                from,
                to: from + self.slice_millis,
                requests: slice.requests.load(Ordering::Relaxed),
                failed: slice.failed.load(Ordering::Relaxed),
                slow: slice.slow.load(Ordering::Relaxed),
            })
        });
        kept.collect()
    }

    /// Holds what another window of the same length did.
    pub(super) fn keep(&self, kept: &[KeptSlice]) {
        for one in kept {
            let number = self.number(one.from);
            let slice = self.slice(number);
            slice.requests.store(one.requests, Ordering::Relaxed);
            slice.failed.store(one.failed, Ordering::Relaxed);
            slice.slow.store(one.slow, Ordering::Relaxed);
            slice.number.store(number, Ordering::Release);
        }
    }
}
