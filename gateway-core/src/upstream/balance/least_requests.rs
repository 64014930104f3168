//! The less busy of two: nearly as even as the least busy of all, at a cost that does not grow with
//! the number of endpoints, and without all workers running to the same one.

use super::Random;

/// Power of two choices (Mitzenmacher, 2001): two endpoints by chance, and of them the one with
/// fewer requests in flight for its weight.
pub struct LeastRequests {
    pick: Random,
    weights: Box<[u32]>,
}

impl LeastRequests {
    /// A choice among endpoints of these weights. Weight 0 is never chosen.
    pub fn new(weights: &[u32]) -> Self {
        Self { pick: Random::new(weights), weights: weights.into() }
    }

    /// The less busy of the endpoints that two random numbers stand for. `load` tells how many
    /// requests an endpoint has in flight.
    pub fn next(&self, random: [u32; 2], load: impl Fn(usize) -> u32) -> Option<usize> {
        let (first, second) = two(&self.pick, random)?;
        Some(if self.is_busier(first, second, load) { second } else { first })
    }

    /// Whether `first` has more to do for its weight once it is given one request more.
    fn is_busier(&self, first: usize, second: usize, load: impl Fn(usize) -> u32) -> bool {
        let [first, second] = [first, second]
            .map(|place| (u64::from(load(place)) + 1, u64::from(self.weights[place])));
        // Compares load ÷ weight without dividing.
        first.0 * second.1 > second.0 * first.1
    }
}

/// The endpoints that two random numbers stand for: two different ones, if there are.
pub(super) fn two(pick: &Random, random: [u32; 2]) -> Option<(usize, usize)> {
    let first = pick.next(random[0])?;
    let second = pick.next(random[1])?;
    if second != first || pick.choices() < 2 {
        return Some((first, second));
    }
    // The same endpoint again: the number's bits in another order stand for others.
    let mut random = random[1];
    for _ in 0..4 {
        random = random.wrapping_mul(0x9e37_79b1).rotate_left(13) ^ 0x5bd1_e995;
        let found = pick.next(random)?;
        if found != first {
            return Some((first, found));
        }
    }
    Some((first, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u32 = 0;
    const LAST: u32 = u32::MAX;

    #[test]
    fn the_less_busy_of_the_two_is_chosen() {
        let balancer = LeastRequests::new(&[1, 1]);

        assert_eq!(balancer.next([FIRST, LAST], |place| [4, 3][place]), Some(1));
        assert_eq!(balancer.next([LAST, FIRST], |place| [3, 4][place]), Some(0));
        assert_eq!(balancer.next([FIRST, LAST], |_| 7), Some(0), "the first of two that are even");
    }

    #[test]
    fn more_weight_may_carry_more() {
        let balancer = LeastRequests::new(&[3, 1]);

        assert_eq!(balancer.next([FIRST, LAST], |place| [4, 1][place]), Some(0));
        assert_eq!(balancer.next([FIRST, LAST], |place| [6, 1][place]), Some(1));
    }

    #[test]
    fn one_number_twice_still_compares_two() {
        let balancer = LeastRequests::new(&[1, 1]);

        assert_eq!(balancer.next([FIRST, FIRST], |place| [9, 0][place]), Some(1));
        assert_eq!(balancer.next([LAST, LAST], |place| [0, 9][place]), Some(0));
    }

    #[test]
    fn one_endpoint_is_chosen_whatever_its_load_and_none_if_none_has_a_weight() {
        assert_eq!(LeastRequests::new(&[0, 2]).next([5, 6], |_| u32::MAX - 1), Some(1));
        assert_eq!(LeastRequests::new(&[0]).next([5, 6], |_| 0), None);
    }

    /// Requests that never end: after as many as there are endpoints times ten the busiest has
    /// hardly more than the others, where chance alone would give it twice as many.
    #[test]
    fn load_is_spread_far_more_evenly_than_by_chance() {
        let balancer = LeastRequests::new(&[1; 100]);
        let mut random = super::super::random::tests::fastrand(7);
        let mut loads = vec![0_u32; 100];

        for _ in 0..1000 {
            let place = balancer.next([random(), random()], |place| loads[place]).unwrap();
            loads[place] += 1;
        }

        assert!(loads.iter().all(|load| (7..=13).contains(load)), "{loads:?}");
    }
}
