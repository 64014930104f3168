//! Targets that fail are left alone for a while: to try each time costs more than it tells.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// Failures in a row after which a target rests.
const FAILURES: u32 = 5;

/// For how long, in milliseconds.
const TIME: u64 = 500;

/// Whether a target rests.
pub(super) struct Rest {
    failures: AtomicU32,
    begun: Instant,
    /// In milliseconds from then on.
    until: AtomicU64,
}

impl Rest {
    pub(super) fn new() -> Self {
        Self { failures: AtomicU32::new(0), begun: Instant::now(), until: AtomicU64::new(0) }
    }

    /// Whether it would be in vain to send.
    pub(super) fn is_on(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES
            && self.now() < self.until.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
            // One more failure after it has rested, and it rests again.
            self.failures.store(FAILURES, Ordering::Relaxed);
            self.until.store(self.now() + TIME, Ordering::Relaxed);
        }
    }

    pub(super) fn answered(&self) {
        // Written seldom: workers share it.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_rests_after_failures_in_a_row_and_is_tried_again() {
        let rest = Rest::new();
        for _ in 0..10 {
            (0..4).for_each(|_| rest.failed());
            assert!(!rest.is_on());
            rest.answered();
        }
        (0..5).for_each(|_| rest.failed());
        assert!(rest.is_on());

        rest.until.store(0, Ordering::Relaxed);
        assert!(!rest.is_on());
        rest.failed();
        assert!(rest.is_on());
        rest.answered();
        assert!(!rest.is_on());
    }
}
