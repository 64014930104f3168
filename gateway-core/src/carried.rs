//! What a process that is followed by another hands on to it.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// State that an upgrade hands on: the process that follows goes on with it, and not from nothing.
///
/// Both processes may be of different versions of the program. Bytes that a version cannot read are refused, and it
/// begins from nothing then. Moments are told by [`monotonic`].
pub trait Carried: Send + Sync {
    /// What there is to hand on. It may go on changing for a moment; none of that is seen by who follows.
    fn carry(&self) -> Vec<u8>;

    /// Goes on from there. Nobody has used what this is called on so far.
    ///
    /// # Errors
    /// The bytes say nothing to this version.
    fn take_over(&self, bytes: &[u8]) -> Result<(), String>;
}

/// The time since a moment that is the same for all processes of the machine until it is booted again. It never goes
/// back.
pub fn monotonic() -> Duration {
    // Every system that this runs on has the clock.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_is_the_one_that_the_machine_tells_everybody() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let before = monotonic();

        // Time that the machine slept is counted by the one and not the other.
        assert!(before.as_secs_f64() <= uptime + 1.0, "{before:?} {uptime}");
        assert!(monotonic() >= before);
    }
}
