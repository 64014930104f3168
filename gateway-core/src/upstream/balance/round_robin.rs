//! Smooth weighted round robin: each endpoint as often as its weight says, spread as evenly as can
//! be.

use std::sync::{Mutex, PoisonError};

/// Smooth weighted round robin, one sequence a worker.
///
/// Workers share nothing, so that a choice never waits; over all workers each endpoint's share is
/// still that of its weight. Weight 0 is never chosen.
pub struct RoundRobin {
    /// Endpoints with a weight, and that weight.
    weights: Box<[(usize, i64)]>,
    total: i64,
    /// The current score of each, by worker.
    scores: Box<[Mutex<Box<[i64]>>]>,
}

impl RoundRobin {
    /// A sequence for each of `workers` over endpoints of these weights.
    pub fn new(weights: &[u32], workers: usize) -> Self {
        let weights: Box<[(usize, i64)]> = weights
            .iter()
            .enumerate()
            .filter(|(_, weight)| **weight > 0)
            .map(|(endpoint, weight)| (endpoint, i64::from(*weight)))
            .collect();
        let scores = || Mutex::new(vec![0; weights.len()].into_boxed_slice());
        let scores = (0..workers.max(1)).map(|_| scores()).collect();
        Self { total: weights.iter().map(|(_, weight)| weight).sum(), weights, scores }
    }

    /// The next endpoint for this worker; `None` if every weight is 0.
    pub fn next(&self, worker: usize) -> Option<usize> {
        let slot = self.scores.get(worker).or_else(|| self.scores.first())?;
        let mut scores = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let mut best = 0;
        for place in 0..scores.len() {
            scores[place] += self.weights[place].1;
            if scores[place] > scores[best] {
                best = place;
            }
        }
        *scores.get_mut(best)? -= self.total;
        Some(self.weights[best].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(weights: &[u32], length: usize) -> Vec<usize> {
        let balancer = RoundRobin::new(weights, 1);
        (0..length).filter_map(|_| balancer.next(0)).collect()
    }

    #[test]
    fn sequences_are_the_known_smooth_ones() {
        assert_eq!(sequence(&[3, 1], 4), [0, 0, 1, 0]);
        assert_eq!(sequence(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(sequence(&[4, 3, 2, 1], 10), [0, 1, 2, 0, 1, 3, 0, 2, 1, 0]);
    }

    #[test]
    fn weight_zero_is_never_chosen() {
        assert_eq!(sequence(&[0, 2, 0, 1], 6), [1, 3, 1, 1, 3, 1]);
        assert!(sequence(&[0, 0], 3).is_empty());
    }

    #[test]
    fn each_worker_has_a_sequence_of_its_own() {
        let balancer = RoundRobin::new(&[1, 1], 2);

        assert_eq!([balancer.next(0), balancer.next(1)], [Some(0), Some(0)]);
        assert_eq!([balancer.next(0), balancer.next(1)], [Some(1), Some(1)]);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let counts = sequence(&[u32::MAX, u32::MAX, 1], 100);

        assert_eq!(counts.iter().filter(|endpoint| **endpoint == 0).count(), 50);
    }
}
