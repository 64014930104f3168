//! A clock that costs one load to read: the machine's milliseconds, advanced by the watch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::carried::monotonic;

/// Milliseconds of [`monotonic`] time, as of the watch's last round.
pub(crate) struct CoarseClock {
    now: AtomicU64,
}

impl CoarseClock {
    pub(crate) fn new() -> Self {
        Self { now: AtomicU64::new(millis(monotonic())) }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Reads the real clock.
    pub(crate) fn advance(&self) -> u64 {
        let now = millis(monotonic());
        self.now.store(now, Ordering::Relaxed);
        now
    }

    /// The moment `after` from now. Never early: the clock may lag by one round.
    pub(crate) fn deadline(&self, after: Duration, round: Duration) -> u64 {
        self.now().saturating_add(millis(after)).saturating_add(millis(round))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
