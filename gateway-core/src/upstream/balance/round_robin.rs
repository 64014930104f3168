//! Smooth weighted round robin: each endpoint as often as its weight says, spread as evenly as can
//! be.

/// The longest sequence that is kept, whatever the weights.
const LONGEST: u64 = 1 << 17;
/// How many steps making a sequence may take: it is made anew whenever an endpoint comes or goes.
const STEPS: u64 = 1 << 22;

/// Smooth weighted round robin, as a sequence made beforehand.
///
/// Who asks counts the turns, each worker its own, so that a choice never waits: over all workers
/// each endpoint's share is still that of its weight. Weight 0 is never chosen.
///
/// Weights whose sequence would be longer than can be kept are rounded to shares that can be: of
/// 131,072, or of 4 million divided by the number of endpoints if that is less.
pub struct RoundRobin {
    /// Endpoints in the order of their turns.
    turns: Box<[u32]>,
}

impl RoundRobin {
    /// The sequence over endpoints of these weights.
    pub fn new(weights: &[u32]) -> Self {
        let weights: Vec<(u32, u64)> = (0..)
            .zip(weights)
            .filter(|(_, weight)| **weight > 0)
            .map(|(endpoint, weight)| (endpoint, u64::from(*weight)))
            .collect();
        let Some((_, first)) = weights.first() else { return Self { turns: Box::default() } };
        let turns = if weights.iter().all(|(_, weight)| weight == first) {
            weights.iter().map(|(endpoint, _)| *endpoint).collect()
        } else {
            smooth(&kept_short(weights))
        };
        Self { turns }
    }

    /// The endpoint whose turn this is; `None` if every weight is 0.
    pub fn at(&self, turn: usize) -> Option<usize> {
        let place = turn.checked_rem(self.turns.len())?;
        Some(self.turns[place] as usize)
    }
}

/// The same weights, or as nearly the same as makes a sequence that can be kept.
fn kept_short(mut weights: Vec<(u32, u64)>) -> Vec<(u32, i64)> {
    let common = weights.iter().map(|(_, weight)| *weight).fold(0, super::gcd);
    let count = weights.len() as u64;
    let longest = LONGEST.min(STEPS / count).max(2 * count);
    let total: u64 = weights.iter().map(|(_, weight)| weight / common).sum();
    for (_, weight) in &mut weights {
        *weight /= common;
        if total > longest {
            *weight = (*weight * longest / total).max(1);
        }
    }
    let signed = |weight| i64::try_from(weight).unwrap_or(i64::MAX);
    weights.into_iter().map(|(endpoint, weight)| (endpoint, signed(weight))).collect()
}

/// One period: every endpoint gains its weight at each turn, the richest is chosen and pays for all.
fn smooth(weights: &[(u32, i64)]) -> Box<[u32]> {
    let total: i64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut scores = vec![0; weights.len()];
    let turn = |_| {
        let mut best = 0;
        for (place, (_, weight)) in weights.iter().enumerate() {
            scores[place] += weight;
            if scores[place] > scores[best] {
                best = place;
            }
        }
        scores[best] -= total;
        weights[best].0
    };
    (0..total).map(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(weights: &[u32], length: usize) -> Vec<usize> {
        let balancer = RoundRobin::new(weights);
        (0..length).filter_map(|turn| balancer.at(turn)).collect()
    }

    #[test]
    fn sequences_are_the_known_smooth_ones() {
        assert_eq!(sequence(&[3, 1], 8), [0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(sequence(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(sequence(&[4, 3, 2, 1], 10), [0, 1, 2, 0, 1, 3, 0, 2, 1, 0]);
        assert_eq!(sequence(&[400, 300, 200, 100], 10), [0, 1, 2, 0, 1, 3, 0, 2, 1, 0]);
    }

    #[test]
    fn weight_zero_is_never_chosen() {
        assert_eq!(sequence(&[0, 2, 0, 1], 6), [1, 3, 1, 1, 3, 1]);
        assert_eq!(sequence(&[0, 7, 7], 3), [1, 2, 1]);
        assert!(sequence(&[0, 0], 3).is_empty());
        assert!(sequence(&[], 3).is_empty());
    }

    #[test]
    fn the_largest_weights_keep_their_shares_in_a_sequence_that_is_kept_short() {
        let balancer = RoundRobin::new(&[u32::MAX, u32::MAX - 2, 1]);
        assert!(balancer.turns.len() as u64 <= LONGEST + 1);

        let counts = sequence(&[u32::MAX, u32::MAX - 2, 1], 100);

        assert!(counts.iter().filter(|endpoint| **endpoint == 0).count().abs_diff(50) <= 1);
    }

    #[test]
    fn a_thousand_endpoints_of_all_weights_are_each_chosen_in_proportion() {
        let weights: Vec<u32> = (1..=1000).collect();
        let balancer = RoundRobin::new(&weights);
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let turns = balancer.turns.len() as u64;

        let mut counts = vec![0_u64; weights.len()];
        balancer.turns.iter().for_each(|endpoint| counts[*endpoint as usize] += 1);

        assert!(turns <= 2 * STEPS / 1000, "{turns}");
        for (weight, count) in weights.iter().zip(counts) {
            let fair = u64::from(*weight) * turns / total;
            assert!(count >= 1 && count.abs_diff(fair) <= 2, "{weight}: {count} for {fair}");
        }
    }
}
