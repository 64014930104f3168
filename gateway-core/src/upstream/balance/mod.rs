//! How the endpoint of an attempt is chosen, of those that can be.

mod ewma;
mod hash;
mod least_requests;
mod random;
mod round_robin;

use std::sync::atomic::{AtomicUsize, Ordering};

pub use ewma::{Ewma, Load};
pub use hash::Ring;
pub use least_requests::LeastRequests;
pub use random::Random;
pub use round_robin::RoundRobin;

pub(crate) use ewma::Latency;
pub(crate) use hash::hash;

use crate::config::BalanceConfig;

/// What a choice depends on, apart from the endpoints.
#[derive(Clone, Copy)]
pub(super) struct Circumstances {
    /// Which turn this is.
    pub(super) turn: usize,
    /// The hash of the request's key, if it has one.
    pub(super) key: Option<u64>,
    /// Requests in flight at the whole upstream. Known only where a way asks for it.
    pub(super) in_flight: u32,
}

/// What the ways ask of an endpoint, by its place.
pub(super) trait Loads {
    fn load(&self, place: usize) -> Load;
    /// Whether the attempt is better made elsewhere.
    fn is_avoided(&self, place: usize) -> bool;
}

/// The turns one worker has taken. It alone counts, so that counting needs no lock; apart from the
/// other workers' in memory.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Turns(AtomicUsize);

impl Turns {
    /// The turn that comes next, which is not taken: another attempt of a request that has had its
    /// turn must not take that of the next, who would then always meet the same endpoint first.
    pub(super) fn peek(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> usize {
        let turn = self.0.load(Ordering::Relaxed);
        self.0.store(turn.wrapping_add(1), Ordering::Relaxed);
        turn
    }
}

/// The way an upstream chooses. Weight 0 is never chosen, whatever the way.
pub(super) enum Balancer {
    RoundRobin(RoundRobin),
    Random(Random),
    LeastRequests(LeastRequests),
    Ewma(Ewma),
    Hash(Hash),
}

impl Balancer {
    /// A choice among endpoints of these names and weights. `unit` is that of a [`Ring`].
    pub(super) fn new<'a>(
        way: &BalanceConfig,
        endpoints: impl Iterator<Item = (&'a str, u32)> + Clone,
        unit: u64,
    ) -> Self {
        let weights: Vec<u32> = endpoints.clone().map(|(_, weight)| weight).collect();
        match way {
            BalanceConfig::RoundRobin => Self::RoundRobin(RoundRobin::new(&weights)),
            BalanceConfig::Random => Self::Random(Random::new(&weights)),
            BalanceConfig::LeastRequests => Self::LeastRequests(LeastRequests::new(&weights)),
            BalanceConfig::Ewma => Self::Ewma(Ewma::new(&weights)),
            BalanceConfig::Hash { max_load, .. } => {
                Self::Hash(Hash::new(Ring::new(endpoints, unit), &weights, *max_load))
            }
        }
    }

    /// The place of the next endpoint, one that is not avoided if there is another; `None` if every
    /// weight is 0.
    pub(super) fn next(&self, given: Circumstances, loads: &impl Loads) -> Option<usize> {
        /// How often a way is asked again that knows nothing of what is to be avoided.
        const TRIES: usize = 8;
        if let (Self::Hash(way), Some(key)) = (self, given.key) {
            return way.next(key, given.in_flight, loads);
        }
        let mut found = self.any(given.turn, loads)?;
        for again in 1..=TRIES {
            if !loads.is_avoided(found) {
                break;
            }
            found = self.any(given.turn.wrapping_add(again), loads)?;
        }
        Some(found)
    }

    fn any(&self, turn: usize, loads: &impl Loads) -> Option<usize> {
        let random = || [rand::random(), rand::random()];
        let in_flight = |place| loads.load(place).in_flight;
        match self {
            Self::RoundRobin(way) => way.at(turn),
            Self::Random(way) => way.next(rand::random()),
            Self::LeastRequests(way) => way.next(random(), in_flight),
            Self::Ewma(way) => way.next(random(), |place| loads.load(place)),
            // A request without the key may go anywhere.
            Self::Hash(way) => way.keyless.next(random(), in_flight),
        }
    }
}

/// Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016): what an endpoint
/// has in flight beyond its bound goes to the next one on the ring.
pub(super) struct Hash {
    ring: Ring,
    weights: Box<[u32]>,
    total: u64,
    /// How many times its fair share an endpoint may have in flight.
    max_load: f64,
    keyless: LeastRequests,
}

impl Hash {
    fn new(ring: Ring, weights: &[u32], max_load: f64) -> Self {
        Self {
            ring,
            weights: weights.into(),
            total: weights.iter().map(|weight| u64::from(*weight)).sum(),
            max_load,
            keyless: LeastRequests::new(weights),
        }
    }

    fn next(&self, key: u64, in_flight: u32, loads: &impl Loads) -> Option<usize> {
        /// How far behind the key another endpoint is looked for.
        const REACH: usize = 512;
        let fair = self.max_load * (f64::from(in_flight) + 1.0) / self.total.max(1) as f64;
        let bound = |place: usize| (fair * f64::from(self.weights[place])).ceil();
        let has_room = |place: usize| f64::from(loads.load(place).in_flight) < bound(place);
        let mut behind = self.ring.from(key).take(REACH);
        let own = behind.next()?;
        if !loads.is_avoided(own) && has_room(own) {
            return Some(own);
        }
        let other = behind.find(|place| !loads.is_avoided(*place) && has_room(*place));
        Some(other.unwrap_or(own))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fleet {
        in_flight: Vec<u32>,
        avoided: Vec<usize>,
    }

    impl Loads for Fleet {
        fn load(&self, place: usize) -> Load {
            Load { in_flight: self.in_flight[place], latency: None }
        }

        fn is_avoided(&self, place: usize) -> bool {
            self.avoided.contains(&place)
        }
    }

    fn ways() -> [BalanceConfig; 5] {
        let hash = BalanceConfig::Hash { hash: "client.ip".to_owned(), max_load: 1.25 };
        let [a, b, c, d] = [
            BalanceConfig::RoundRobin,
            BalanceConfig::Random,
            BalanceConfig::LeastRequests,
            BalanceConfig::Ewma,
        ];
        [a, b, c, d, hash]
    }

    fn balancer(way: &BalanceConfig, weights: &[(&str, u32)]) -> Balancer {
        Balancer::new(way, weights.iter().copied(), 1)
    }

    #[test]
    fn whatever_the_way_another_endpoint_is_found_for_one_that_is_avoided() {
        for way in ways() {
            let balancer = balancer(&way, &[("a", 1), ("b", 1), ("c", 1)]);
            let fleet = Fleet { in_flight: vec![0; 3], avoided: vec![1] };
            for key in [None, Some(3), Some(u64::MAX), Some(1 << 62)] {
                let given = |turn| Circumstances { turn, key, in_flight: 0 };
                let places: Vec<_> =
                    (0..200).map(|turn| balancer.next(given(turn), &fleet)).collect();
                // Chance may find the same one eight times, once in five thousand.
                let hits = places.iter().filter(|place| **place == Some(1)).count();
                assert!(hits <= 2, "{way:?}: {hits}");
            }
            let alone = Fleet { in_flight: vec![0; 3], avoided: vec![0, 1, 2] };
            let given = Circumstances { turn: 0, key: None, in_flight: 0 };
            assert!(balancer.next(given, &alone).is_some(), "{way:?}");
        }
    }

    #[test]
    fn nothing_is_chosen_where_nothing_has_a_weight() {
        let fleet = Fleet { in_flight: vec![0; 2], avoided: vec![] };
        for way in ways() {
            for key in [None, Some(7)] {
                let given = Circumstances { turn: 0, key, in_flight: 0 };
                assert_eq!(balancer(&way, &[("a", 0), ("b", 0)]).next(given, &fleet), None);
            }
        }
    }

    /// One key alone, and requests that never end: each endpoint holds no more than the bound says.
    #[test]
    fn a_key_that_is_asked_for_too_often_overflows_to_other_endpoints() {
        let way = BalanceConfig::Hash { hash: "client.ip".to_owned(), max_load: 1.25 };
        let names: Vec<String> = (0..10).map(|place| format!("10.0.0.{place}:80")).collect();
        let balancer = Balancer::new(&way, names.iter().map(|name| (name.as_str(), 1)), 1);
        let mut fleet = Fleet { in_flight: vec![0; 10], avoided: vec![] };

        for total in 0..400_u32 {
            let given = Circumstances { turn: 0, key: Some(42), in_flight: total };
            let place = balancer.next(given, &fleet).unwrap();
            fleet.in_flight[place] += 1;
            let bound = (1.25 * f64::from(total + 1) / 10.0).ceil();
            assert!(f64::from(fleet.in_flight[place]) <= bound, "{:?}", fleet.in_flight);
        }
        assert!(
            fleet.in_flight.iter().filter(|held| **held > 0).count() >= 8,
            "{:?}",
            fleet.in_flight
        );
    }
}
