//! How the endpoint of an attempt is chosen.

mod least_requests;
mod random;
mod round_robin;

pub use least_requests::LeastRequests;
pub use random::Random;
pub use round_robin::RoundRobin;

use super::Endpoint;
use crate::config::BalanceConfig;

/// The way an upstream chooses. Weight 0 is never chosen, whatever the way.
pub(super) enum Balancer {
    RoundRobin(RoundRobin),
    Random(Random),
    LeastRequests(LeastRequests),
}

impl Balancer {
    pub(super) fn new(way: BalanceConfig, weights: &[u32], workers: usize) -> Self {
        match way {
            BalanceConfig::RoundRobin => Self::RoundRobin(RoundRobin::new(weights, workers)),
            BalanceConfig::Random => Self::Random(Random::new(weights)),
            BalanceConfig::LeastRequests => Self::LeastRequests(LeastRequests::new(weights)),
        }
    }

    /// The place of the next endpoint; `None` if every weight is 0.
    pub(super) fn next(&self, worker: usize, endpoints: &[Endpoint]) -> Option<usize> {
        match self {
            Self::RoundRobin(way) => way.next(worker),
            Self::Random(way) => way.next(rand::random()),
            Self::LeastRequests(way) => {
                let load = |endpoint: usize| endpoints[endpoint].in_flight();
                way.next([rand::random(), rand::random()], load)
            }
        }
    }
}
