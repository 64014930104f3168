//! Requests that a gateway takes from the store at once, to let them in one by one without asking again; and what the
//! store refuses, which it is not asked again before that may pass.
//!
//! A key that is asked for once takes one. While it is asked for again and again within the time of a lease, each lease
//! is twice the one before, up to the most; what was not needed in that time is given back with the next call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::limit::Standing;
use super::places::Places;
use super::plan::{Refused, Standings, Taken};

/// After so many times the time of a lease its key has none.
const FORGOTTEN: u64 = 10;

/// What a gateway holds of all keys, as a number of requests each.
pub(super) struct Leases {
    places: Places,
    /// What the store told last, for each place and each limit.
    told: Box<[AtomicU64]>,
    limits: usize,
    /// What a request costs.
    cost: u64,
    /// The most requests of a lease.
    most: u64,
    /// Its time, in milliseconds.
    time: u64,
}

/// What is held of a key, as 64 bits: `until` (42, in milliseconds), the kind (2), how many requests the lease was (10),
/// how many are left (10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    until: u64,
    kind: Kind,
    size: u64,
    left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// So many are left.
    Lease,
    /// Somebody asks for the next lease.
    Asked,
    /// None passes.
    Refused,
}

/// How many requests a lease can be: what ten bits hold.
pub(super) const MOST: u64 = 1000;

/// What becomes of a request by what is held of its key.
pub(super) enum Leased {
    Known(Taken),
    Ask(Ask),
}

/// A call of the store for a key.
#[derive(Debug)]
pub(super) struct Ask {
    /// How many requests, this one with them.
    pub(super) requests: u64,
    /// What is given back first, as requests, and how long ago it was taken.
    pub(super) unused: u64,
    pub(super) age: Duration,
    /// When, in milliseconds.
    at: u64,
    /// Where what it brings is put, and what stands there meanwhile; `None` if it asks for itself alone.
    place: Option<(usize, u64)>,
}

impl Held {
    fn read(bits: u64) -> Self {
        let kind = match (bits >> 20) & 3 {
            0 => Kind::Lease,
            1 => Kind::Asked,
            _ => Kind::Refused,
        };
        Self { until: bits >> 22, kind, size: (bits >> 10) & 1023, left: bits & 1023 }
    }

    fn bits(self) -> u64 {
        let kind = match self.kind {
            Kind::Lease => 0,
            Kind::Asked => 1,
            Kind::Refused => 2,
        };
        (self.until << 22) | (kind << 20) | (self.size.min(1023) << 10) | self.left.min(1023)
    }
}

/// What the store told of a limit: what remains (20 bits), and when all does, in milliseconds.
const REMAINING: u64 = (1 << 20) - 1;
const NOT_TOLD: u64 = u64::MAX;

impl Leases {
    pub(super) fn new(keys: usize, limits: usize, cost: u64, most: u64, time: Duration) -> Self {
        let places = Places::new(keys);
        let told = (0..places.count() * limits).map(|_| AtomicU64::new(NOT_TOLD)).collect();
        let time = millis(time).max(1);
        Self { places, told, limits, cost, most: most.clamp(1, MOST), time }
    }

    /// Takes a request of this key from what is held, or says what the store has to be asked. The moment is in
    /// nanoseconds.
    pub(super) fn take(&self, key: u64, now: u64) -> Leased {
        let now = now / 1_000_000;
        let spent = |bits: u64| self.is_forgotten(Held::read(bits), now);
        let alone = Ask { requests: 1, unused: 0, age: Duration::ZERO, at: now, place: None };
        let Some(index) = self.places.find(key, spent) else { return Leased::Ask(alone) };
        let state = self.places.state(index);
        let mut bits = state.load(Ordering::Acquire);
        loop {
            let held = Held::read(bits);
            let holds = now < held.until;
            let next = match held.kind {
                Kind::Refused if holds => {
                    let retry = Some(Duration::from_millis(held.until - now));
                    return Leased::Known((self.standings(index, 0, now), Err(Refused { retry })));
                }
                Kind::Asked if holds => return Leased::Ask(alone),
                Kind::Lease if holds && held.left > 0 => Held { left: held.left - 1, ..held },
                // Asked for is as long as a lease; who asks may be gone.
                _ => Held { until: now + self.time, kind: Kind::Asked, size: 0, left: 0 },
            };
            let order = (Ordering::AcqRel, Ordering::Acquire);
            if let Err(other) = state.compare_exchange_weak(bits, next.bits(), order.0, order.1) {
                bits = other;
                continue;
            }
            if next.kind == Kind::Lease {
                return Leased::Known((self.standings(index, next.left, now), Ok(())));
            }
            return Leased::Ask(self.ask(held, now, (index, next.bits())));
        }
    }

    /// What is asked for after what was held.
    fn ask(&self, held: Held, now: u64, place: (usize, u64)) -> Ask {
        let is_known = held.kind == Kind::Lease && !self.is_forgotten(held, now);
        let (requests, unused) = match is_known {
            true if now < held.until => (held.size * 2, 0),
            // As many as were needed in the time.
            true => (held.size - held.left.min(held.size), held.left),
            false => (1, 0),
        };
        let age = (now + self.time).saturating_sub(held.until);
        let age = if unused > 0 { Duration::from_millis(age) } else { Duration::ZERO };
        Ask { requests: requests.clamp(1, self.most), unused, age, at: now, place: Some(place) }
    }

    /// Puts what the store said where others find it: how many requests it let in, or in what time it does.
    pub(super) fn put(&self, ask: &Ask, let_in: u64, taken: &Taken) {
        let Some((index, asked)) = ask.place else { return };
        let (standings, result) = taken;
        let next = match result {
            Ok(()) => Held {
                until: ask.at + self.time,
                kind: Kind::Lease,
                size: let_in.clamp(1, MOST),
                left: let_in.saturating_sub(1).min(MOST),
            },
            Err(refused) => Held {
                // Never later than the store would let it in.
                until: ask.at + refused.retry.map_or(0, millis),
                kind: Kind::Refused,
                size: 0,
                left: 0,
            },
        };
        let told = self.told[index * self.limits..].iter().take(self.limits);
        for (place, told) in told.enumerate() {
            let told_now = standings.all().get(place).map_or(NOT_TOLD, |standing| {
                let reset = ask.at.saturating_add(millis(standing.reset)).min(u64::MAX >> 21);
                (reset << 20) | standing.remaining.min(REMAINING)
            });
            told.store(told_now, Ordering::Relaxed);
        }
        self.swap(index, asked, next);
    }

    /// The store did not answer.
    pub(super) fn fail(&self, ask: &Ask) {
        let Some((index, asked)) = ask.place else { return };
        self.swap(index, asked, Held { until: ask.at, kind: Kind::Lease, size: 1, left: 0 });
    }

    fn swap(&self, index: usize, asked: u64, next: Held) {
        let state = self.places.state(index);
        // Not if it took so long that somebody else asked.
        let _ = state.compare_exchange(asked, next.bits(), Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_forgotten(&self, held: Held, now: u64) -> bool {
        held.until + self.time * FORGOTTEN <= now
    }

    /// What is left for a request of which so many more are leased here.
    fn standings(&self, index: usize, more: u64, now: u64) -> Standings {
        let mut standings = Standings::default();
        for told in self.told[index * self.limits..].iter().take(self.limits) {
            let told = told.load(Ordering::Relaxed);
            if told == NOT_TOLD {
                break;
            }
            standings.push(Standing {
                remaining: (told & REMAINING) + more * self.cost,
                reset: Duration::from_millis((told >> 20).saturating_sub(now)),
            });
        }
        standings
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 22)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn leases() -> Leases {
        Leases::new(100, 1, 1, 20, Duration::from_secs(1))
    }

    fn asked(leases: &Leases, now: u64) -> Ask {
        match leases.take(7, now * MS) {
            Leased::Ask(ask) => ask,
            Leased::Known((_, result)) => panic!("known: {}", result.is_ok()),
        }
    }

    fn known(leases: &Leases, now: u64) -> Taken {
        match leases.take(7, now * MS) {
            Leased::Known(taken) => taken,
            Leased::Ask(ask) => panic!("{ask:?}"),
        }
    }

    fn left(remaining: u64) -> Taken {
        let mut left = Standings::default();
        left.push(Standing { remaining, reset: Duration::from_secs(5) });
        (left, Ok(()))
    }

    #[test]
    fn a_key_that_is_asked_for_often_takes_more_at_once() {
        let (leases, mut sizes) = (leases(), Vec::new());
        for now in 5000..5100 {
            if let Leased::Ask(ask) = leases.take(7, now * MS) {
                leases.put(&ask, ask.requests, &left(50));
                sizes.push(ask.requests);
            }
        }
        assert_eq!(sizes, [1, 2, 4, 8, 16, 20, 20, 20, 20]);
    }

    #[test]
    fn what_was_not_needed_in_the_time_is_given_back() {
        let leases = leases();
        for now in 5000..5004 {
            if let Leased::Ask(ask) = leases.take(7, now * MS) {
                leases.put(&ask, ask.requests, &left(50));
            }
        }
        // Of the last four two are needed.
        let (told, _) = known(&leases, 5004);
        assert_eq!(told.all()[0], Standing { remaining: 52, reset: Duration::from_millis(4999) });
        let ask = asked(&leases, 6003);
        assert_eq!((ask.requests, ask.unused, ask.age), (2, 2, Duration::from_secs(1)), "{ask:?}");
        leases.put(&ask, 2, &left(50));
        assert_eq!(known(&leases, 6004).0.all()[0].remaining, 50);
        // After a long time nobody knows of it.
        let ask = asked(&leases, 20_000);
        assert_eq!((ask.requests, ask.unused), (1, 0));
    }

    #[test]
    fn one_asks_for_the_next_lease_and_others_for_themselves() {
        let leases = leases();
        leases.put(&asked(&leases, 5000), 1, &left(50));
        let next = asked(&leases, 5001);
        for _ in 0..3 {
            let alone = asked(&leases, 5002);
            assert_eq!((next.requests, alone.requests), (2, 1));
            leases.put(&alone, 1, &left(40));
        }
        leases.put(&next, 2, &left(45));
        assert!(known(&leases, 5003).1.is_ok());
        // One who went away is not waited for longer than a lease.
        let gone = asked(&leases, 5004);
        assert_eq!((gone.requests, asked(&leases, 5500).requests), (4, 1));
        let next = asked(&leases, 6004);
        assert_eq!(next.requests, 1);
        leases.put(&gone, 4, &left(45));
        leases.put(&next, 1, &left(44));
        assert_eq!(asked(&leases, 6005).requests, 2);
        // Where the store fails the next one asks again.
        let failed = asked(&leases, 8000);
        leases.fail(&failed);
        assert_eq!((asked(&leases, 8000).requests, asked(&leases, 8000).place), (1, None));
    }

    #[test]
    fn the_store_is_not_asked_before_it_lets_in() {
        let leases = leases();
        let ask = asked(&leases, 5000);
        let retry = Some(Duration::from_micros(2_900));
        leases.put(&ask, 0, &(left(0).0, Err(Refused { retry })));
        let (told, result) = known(&leases, 5001);
        assert_eq!(told.all()[0].remaining, 0);
        assert_eq!(result.err().and_then(|refused| refused.retry), Some(Duration::from_millis(1)));
        assert_eq!(asked(&leases, 5002).requests, 1);
    }

    #[test]
    fn bits_hold_what_is_held() {
        for kind in [Kind::Lease, Kind::Asked, Kind::Refused] {
            let held = Held { until: (1 << 42) - 1, kind, size: 1000, left: 999 };
            assert_eq!(Held::read(held.bits()), held);
        }
    }
}
