//! Random by weight: no state, no order, fair over many requests.

/// Endpoints by chance, each as likely as its weight says.
pub struct Random {
    /// Endpoints with a weight, and the sum of the weights up to and with theirs.
    sums: Box<[(usize, u64)]>,
}

impl Random {
    /// A choice among endpoints of these weights. Weight 0 is never chosen.
    pub fn new(weights: &[u32]) -> Self {
        let mut sum = 0;
        let weighted = weights.iter().enumerate().filter(|(_, weight)| **weight > 0);
        let sums = weighted.map(|(endpoint, weight)| {
            sum += u64::from(*weight);
            (endpoint, sum)
        });
        Self { sums: sums.collect() }
    }

    /// The endpoint that a random number, even over all of its range, stands for; `None` if every
    /// weight is 0. The time it takes grows with the logarithm of the number of endpoints.
    pub fn next(&self, random: u32) -> Option<usize> {
        let total = self.sums.last()?.1;
        // Maps the range of the number to that of the sums without a division.
        let point = (u128::from(random) * u128::from(total)) >> 32;
        let place = self.sums.partition_point(|(_, sum)| u128::from(*sum) <= point);
        Some(self.sums[place].0)
    }

    /// How many endpoints can be chosen.
    pub(super) fn choices(&self) -> usize {
        self.sums.len()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn each_endpoint_stands_for_a_share_of_the_numbers_that_is_its_weight() {
        let balancer = Random::new(&[3, 0, 1]);
        let at = |share: f64| balancer.next((share * 4_294_967_296.0) as u32);

        assert_eq!(
            [at(0.0), at(0.25), at(0.7499), at(0.7501), at(0.9999)].map(Option::unwrap),
            [0, 0, 0, 2, 2]
        );
        assert_eq!(balancer.next(u32::MAX), Some(2));
    }

    #[test]
    fn nothing_is_chosen_where_nothing_has_a_weight() {
        assert_eq!(Random::new(&[0, 0]).next(7), None);
        assert_eq!(Random::new(&[]).next(7), None);
    }

    #[test]
    fn shares_are_those_of_the_weights_by_the_chi_square_test() {
        let weights = [5, 1, 0, 3, 11];
        let balancer = Random::new(&weights);
        let draws = 200_000_u32;
        let mut counts = [0_u32; 5];
        let mut random = fastrand(42);

        for _ in 0..draws {
            counts[balancer.next(random()).unwrap()] += 1;
        }

        let total: u32 = weights.iter().sum();
        let square =
            weights.iter().zip(counts).filter(|(weight, _)| **weight > 0).map(|(weight, count)| {
                let expected = f64::from(draws) * f64::from(*weight) / f64::from(total);
                (f64::from(count) - expected).powi(2) / expected
            });
        // Three degrees of freedom: above 16.27 once in a thousand, and this seed is fixed.
        assert!(square.sum::<f64>() < 16.27, "{counts:?}");
        assert_eq!(counts[2], 0);
    }

    /// Numbers that look random and are the same each time (SplitMix64).
    pub(in crate::upstream::balance) fn fastrand(mut state: u64) -> impl FnMut() -> u32 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u32::try_from((z ^ (z >> 31)) >> 32).unwrap()
        }
    }
}
