//! One limit on one key: what is kept of it, in 64 bits, and what a request does to that.

use std::time::Duration;

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The generic cell rate algorithm: the time at which everything will be available again, in
    /// nanoseconds. Requests may come together up to the burst, and then as evenly as the rate.
    Gcra,
    /// So many in any window, estimated from this window and the share of the last one that is still in
    /// sight.
    SlidingWindow,
}

/// So many requests in such a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    way: Way,
    quota: u64,
    window: u64,
    /// The time a request takes to become available again, and that of all that may come together.
    interval: u64,
    tolerance: u64,
}

/// What is left after a request, or instead of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) remaining: u64,
    /// Until everything is available again.
    pub(super) reset: Duration,
}

/// A request is over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) standing: Standing,
    /// When the same request may come again; `None` if it never may.
    pub(super) retry: Option<Duration>,
}

/// Sliding windows: the number of the window, and the counts of the last one and this one.
const COUNT_BITS: u32 = 20;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const NUMBER: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

impl Limit {
    pub(super) fn new(way: Way, quota: u64, window: Duration, burst: Option<u64>) -> Self {
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX).max(1);
        let quota = quota.max(1);
        let interval = (window / quota).max(1);
        let tolerance = interval.saturating_mul(burst.unwrap_or(quota).max(1));
        Self { way, quota, window, interval, tolerance }
    }

    pub(super) fn quota(&self) -> u64 {
        self.quota
    }

    /// As it is told to who counts elsewhere: the way, how many, in so many microseconds, and how many
    /// microseconds' worth may come together.
    pub(super) fn told(&self) -> (&'static str, u64, u64, f64) {
        let way = match self.way {
            Way::Gcra => "g",
            Way::SlidingWindow => "w",
        };
        (way, self.quota, (self.window / 1000).max(1), self.tolerance as f64 / 1000.0)
    }

    pub(super) fn window(&self) -> Duration {
        Duration::from_nanos(self.window)
    }

    /// Whether a state says nothing any more: a new key begins as well with it.
    pub(super) fn is_spent(&self, state: u64, now: u64) -> bool {
        match self.way {
            Way::Gcra => state <= now,
            Way::SlidingWindow => {
                let (last, current) = self.seen(state, now);
                last == 0 && current == 0
            }
        }
    }

    /// The state after a request of this cost, or why there is none.
    pub(super) fn take(&self, state: u64, cost: u64, now: u64) -> Result<(u64, Standing), Over> {
        match self.way {
            Way::Gcra => self.take_cell(state, cost, now),
            Way::SlidingWindow => self.take_place(state, cost, now),
        }
    }

    /// The state after a request that has been let in already, whatever is left. What is owed is owed for no longer
    /// than a window more.
    pub(super) fn charge(&self, state: u64, cost: u64, now: u64) -> (u64, Standing) {
        match self.way {
            Way::Gcra => {
                let next = state.max(now).saturating_add(self.interval.saturating_mul(cost));
                let next = next.min(now.saturating_add(self.tolerance).saturating_add(self.window));
                let remaining = (self.tolerance - (next - now).min(self.tolerance)) / self.interval;
                (next, Standing { remaining, reset: Duration::from_nanos(next - now) })
            }
            Way::SlidingWindow => {
                let (last, current) = self.seen(state, now);
                let current = current.saturating_add(cost).min(self.quota.saturating_mul(2));
                let state = self.pack(last, current, now);
                let standing = match self.take_place(state, 0, now) {
                    Ok((_, standing)) => standing,
                    Err(over) => over.standing,
                };
                (state, standing)
            }
        }
    }

    /// The state as if a request had not been taken.
    pub(super) fn give_back(&self, state: u64, cost: u64, now: u64) -> u64 {
        match self.way {
            Way::Gcra => state.saturating_sub(self.interval.saturating_mul(cost)),
            Way::SlidingWindow => {
                let (last, current) = self.seen(state, now);
                self.pack(last, current.saturating_sub(cost), now)
            }
        }
    }

    fn take_cell(&self, state: u64, cost: u64, now: u64) -> Result<(u64, Standing), Over> {
        let full = state.max(now);
        let standing = |full: u64| Standing {
            remaining: (self.tolerance - (full - now).min(self.tolerance)) / self.interval,
            reset: Duration::from_nanos(full - now),
        };
        let wanted = self.interval.saturating_mul(cost);
        let next = full.saturating_add(wanted);
        if next - now <= self.tolerance {
            return Ok((next, standing(next)));
        }
        let wait = next - now - self.tolerance;
        let retry = (wanted <= self.tolerance).then(|| Duration::from_nanos(wait));
        Err(Over { standing: standing(full), retry })
    }

    fn take_place(&self, state: u64, cost: u64, now: u64) -> Result<(u64, Standing), Over> {
        let (last, current) = self.seen(state, now);
        let elapsed = now % self.window;
        // What of the last window is in sight, rounded up.
        let in_sight = (u128::from(last) * u128::from(self.window - elapsed))
            .div_ceil(u128::from(self.window));
        let used = current + u64::try_from(in_sight).unwrap_or(u64::MAX);
        let to_next = self.window - elapsed;
        let standing = |used: u64, current: u64| Standing {
            remaining: self.quota.saturating_sub(used),
            reset: match (current, last) {
                (0, 0) => Duration::ZERO,
                (0, _) => Duration::from_nanos(to_next),
                _ => Duration::from_nanos(to_next.saturating_add(self.window)),
            },
        };
        if used.saturating_add(cost) <= self.quota {
            let state = self.pack(last, current + cost, now);
            return Ok((state, standing(used + cost, current + cost)));
        }
        let retry = (cost <= self.quota).then(|| self.wait(last, current, cost, elapsed));
        Err(Over { standing: standing(used, current), retry })
    }

    /// How long until enough of what was counted is out of sight.
    fn wait(&self, last: u64, current: u64, cost: u64, elapsed: u64) -> Duration {
        let to_next = self.window - elapsed;
        // Of a count in a window that slides out, so much may still be seen.
        let until = |count: u64, room: u64| {
            let seen = u128::from(room) * u128::from(self.window) / u128::from(count.max(1));
            self.window - u64::try_from(seen).unwrap_or(u64::MAX).min(self.window)
        };
        if current + cost <= self.quota {
            let at = until(last, self.quota - cost - current);
            return Duration::from_nanos(at.saturating_sub(elapsed).max(1));
        }
        let at = until(current, self.quota - cost);
        Duration::from_nanos(to_next.saturating_add(at).max(1))
    }

    /// The counts of the last window and this one, as they are now.
    fn seen(&self, state: u64, now: u64) -> (u64, u64) {
        let number = (now / self.window) & NUMBER;
        let (counted, last, current) =
            (state >> (2 * COUNT_BITS), (state >> COUNT_BITS) & COUNT, state & COUNT);
        match number.wrapping_sub(counted) & NUMBER {
            0 => (last, current),
            1 => (current, 0),
            _ => (0, 0),
        }
    }

    fn pack(&self, last: u64, current: u64, now: u64) -> u64 {
        let number = (now / self.window) & NUMBER;
        (number << (2 * COUNT_BITS)) | (last.min(COUNT) << COUNT_BITS) | current.min(COUNT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn second(count: u64) -> Duration {
        Duration::from_nanos(SECOND * count)
    }

    /// How many of as many requests as come at this moment are taken.
    fn taken(limit: &Limit, state: &mut u64, now: u64) -> u64 {
        let mut count = 0;
        while let Ok((next, _)) = limit.take(*state, 1, now) {
            *state = next;
            count += 1;
        }
        count
    }

    #[test]
    fn cells_come_back_one_by_one() {
        let limit = Limit::new(Way::Gcra, 10, second(1), Some(3));
        let (mut state, start) = (0, 100 * SECOND);
        assert_eq!(taken(&limit, &mut state, start), 3, "the burst");
        let over = limit.take(state, 1, start).unwrap_err();
        assert_eq!(over.retry, Some(Duration::from_millis(100)));
        assert_eq!(over.standing, Standing { remaining: 0, reset: Duration::from_millis(300) });
        assert_eq!(taken(&limit, &mut state, start + SECOND / 10 - 1), 0);
        assert_eq!(taken(&limit, &mut state, start + SECOND / 10), 1);
        assert_eq!(taken(&limit, &mut state, start + SECOND * 9), 3, "no more than the burst");
        assert!(!limit.is_spent(state, start + SECOND * 9));
        assert!(limit.is_spent(state, start + SECOND * 10));
    }

    #[test]
    fn what_costs_more_than_there_ever_is_never_comes() {
        for way in [Way::Gcra, Way::SlidingWindow] {
            let limit = Limit::new(way, 10, second(1), None);
            assert!(limit.take(0, 10, SECOND).is_ok(), "{way:?}");
            assert_eq!(limit.take(0, 11, SECOND).unwrap_err().retry, None, "{way:?}");
        }
    }

    #[test]
    fn a_request_given_back_was_never_there() {
        for way in [Way::Gcra, Way::SlidingWindow] {
            let limit = Limit::new(way, 10, second(1), None);
            let now = 7 * SECOND + SECOND / 2;
            let (one, _) = limit.take(0, 4, now).unwrap();
            let (two, _) = limit.take(one, 5, now).unwrap();
            assert_eq!(limit.give_back(two, 5, now), one, "{way:?}");
        }
    }

    #[test]
    fn a_window_slides() {
        let limit = Limit::new(Way::SlidingWindow, 10, second(10), None);
        let (mut state, start) = (0, 1000 * SECOND);
        assert_eq!(taken(&limit, &mut state, start + 9 * SECOND), 10);
        assert_eq!(taken(&limit, &mut state, start + 10 * SECOND), 0);
        assert_eq!(taken(&limit, &mut state, start + 12 * SECOND), 2, "a fifth is out of sight");
        assert_eq!(taken(&limit, &mut state, start + 15 * SECOND), 3);
        assert_eq!(taken(&limit, &mut state, start + 40 * SECOND), 10);
        assert!(!limit.is_spent(state, start + 59 * SECOND));
        assert!(limit.is_spent(state, start + 60 * SECOND));
    }

    /// Whoever comes again when told to is let in, and a moment sooner is not.
    #[test]
    fn who_waits_as_told_is_let_in() {
        for way in [Way::Gcra, Way::SlidingWindow] {
            for (cost, at) in [(1, 0), (3, 250), (7, 999), (10, 500)] {
                let limit = Limit::new(way, 10, second(1), None);
                let mut state = 0;
                let start = 50 * SECOND + at * 1_000_000;
                taken(&limit, &mut state, start);
                let now = start + SECOND / 7;
                let Err(over) = limit.take(state, cost, now) else { continue };
                let wait = u64::try_from(over.retry.unwrap().as_nanos()).unwrap();
                assert!(limit.take(state, cost, now + wait + 1).is_ok(), "{way:?} {cost} {at}");
                if wait > 2 {
                    assert!(
                        limit.take(state, cost, now + wait - 2).is_err(),
                        "{way:?} {cost} {at}"
                    );
                }
            }
        }
    }
}
