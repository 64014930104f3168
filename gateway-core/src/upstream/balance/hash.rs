//! Consistent hashing: a key's requests go to the same endpoint for as long as it is there, and few
//! keys move when another comes or goes.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Points on the ring for one unit of weight, as nginx and libketama have them.
const POINTS: u64 = 160;
/// How many units the largest weight has at most.
const UNITS: u64 = 8;

/// A ring of points, each an endpoint's; a key belongs to the next point at or behind its hash.
///
/// The points of an endpoint follow from its name and weight alone. Gateways that know the same
/// endpoints send a key to the same one, after a restart as before it. An endpoint that comes takes
/// keys for itself and moves no other; one that goes leaves its keys to those behind it, each key's
/// by chance.
pub struct Ring {
    /// Sorted. The second is the endpoint.
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// A ring of these endpoints: the name of each and its weight. Weight 0 has no point. The weight
    /// that has 160 points is that of [`unit`](Self::unit), for all the endpoints that there may be:
    /// else one that goes for a while might change how many points the others have.
    pub fn new<'a>(endpoints: impl Iterator<Item = (&'a str, u32)>, unit: u64) -> Self {
        let mut points = Vec::new();
        for (endpoint, (name, weight)) in (0..).zip(endpoints) {
            let own = (u64::from(weight) * POINTS).div_ceil(unit.max(1));
            points.extend((0..own).map(|nth| (xxh3_64_with_seed(name.as_bytes(), nth), endpoint)));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// The unit that suits these weights: what all have in common or, where one of them has more than
    /// eight times that, the power of two that gives the largest so many points. A power, so that it
    /// stays the same while the largest weight changes a little.
    pub fn unit(weights: impl Iterator<Item = u64>) -> u64 {
        let (common, largest) = weights.fold((0, 0), |(common, largest), weight| {
            (super::gcd(common, weight), largest.max(weight))
        });
        if largest <= common.saturating_mul(UNITS) {
            return common.max(1);
        }
        1 << (largest / UNITS).max(1).ilog2()
    }

    /// The endpoint that a hash belongs to, then those that follow on the ring, some of them more
    /// than once. Ends when all points were passed.
    pub fn from(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let first = self.points.partition_point(|(point, _)| *point < hash);
        let (before, behind) = self.points.split_at(first);
        behind.iter().chain(before).map(|(_, endpoint)| *endpoint as usize)
    }
}

/// The hash of a request's key.
pub(crate) fn hash(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|place| format!("10.0.{}.{}:80", place / 256, place % 256)).collect()
    }

    fn ring(names: &[String]) -> Ring {
        of(&names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>())
    }

    fn of(endpoints: &[(&str, u32)]) -> Ring {
        let weights = endpoints.iter().map(|(_, weight)| u64::from(*weight));
        Ring::new(endpoints.iter().copied(), Ring::unit(weights))
    }

    fn owners<'a>(ring: &Ring, names: &'a [String], keys: u32) -> Vec<&'a str> {
        let owner = |key: u32| ring.from(hash(&key.to_be_bytes())).next();
        (0..keys).map(|key| names[owner(key).unwrap()].as_str()).collect()
    }

    #[test]
    fn an_endpoint_that_comes_takes_keys_and_moves_no_other() {
        let all = names(10);
        let (before, after) = (ring(&all[..9]), ring(&all));

        let (before, after) = (owners(&before, &all, 20_000), owners(&after, &all, 20_000));

        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        let to: Vec<_> = moved.map(|(_, after)| *after).collect();
        assert!(to.iter().all(|name| *name == all[9]), "keys move to the new endpoint alone");
        assert!((1_400..2_600).contains(&to.len()), "a tenth of them, give or take: {}", to.len());
    }

    #[test]
    fn keys_of_an_endpoint_that_goes_are_shared_by_the_others() {
        let all = names(10);
        let (before, after) = (ring(&all), ring(&all[..9]));

        let (before, after) = (owners(&before, &all, 20_000), owners(&after, &all, 20_000));

        let orphans = before.iter().zip(&after).filter(|(before, _)| **before == all[9]);
        let mut heirs: Vec<_> = orphans.map(|(_, after)| *after).collect();
        heirs.sort_unstable();
        heirs.dedup();
        assert_eq!(heirs.len(), 9, "{heirs:?}");
        assert!(before.iter().zip(&after).all(|(was, is)| was == is || *was == all[9]));
    }

    #[test]
    fn an_endpoint_that_warms_up_takes_its_keys_little_by_little() {
        let all = names(10);
        let cold = |percent| {
            let weights = all.iter().map(|name| if *name == all[9] { percent } else { 100 });
            Ring::new(all.iter().map(String::as_str).zip(weights), 100)
        };
        let steps = [0, 10, 47, 100].map(|percent| owners(&cold(percent), &all, 20_000));

        for pair in steps.windows(2) {
            let mut changes = pair[0].iter().zip(&pair[1]).filter(|(was, is)| was != is);
            assert!(changes.all(|(_, is)| *is == all[9]));
        }
        let share = |step: &Vec<&str>| step.iter().filter(|owner| **owner == all[9]).count();
        let shares = steps.each_ref().map(share);
        assert!(shares.is_sorted() && (50..500).contains(&shares[1]), "{shares:?}");
    }

    #[test]
    fn shares_are_near_those_of_the_weights() {
        for unit in [1, 100, 4_000] {
            let ring = of(&[("a", unit), ("b", 2 * unit), ("c", 5 * unit)]);
            let mut counts = [0_u32; 3];
            for key in 0..80_000_u32 {
                counts[ring.from(hash(&key.to_be_bytes())).next().unwrap()] += 1;
            }
            for (count, share) in counts.iter().zip([10_000, 20_000, 50_000]) {
                assert!(count.abs_diff(share) < share / 4, "{counts:?}");
            }
        }
    }

    #[test]
    fn weights_of_any_size_have_few_points() {
        let odd = of(&[("a", 65_535), ("b", 65_534), ("c", 1)]);
        let equal = of(&[("a", 65_535), ("b", 65_535)]);

        assert!(odd.points.len() < 40 * POINTS as usize, "{}", odd.points.len());
        assert_eq!(equal.points.len(), 2 * POINTS as usize);
        assert!(odd.points.iter().any(|(_, endpoint)| *endpoint == 2), "the least has some");
        assert_eq!(of(&[("a", 0)]).from(7).next(), None);
    }

    /// Other gateways, and this one after an upgrade, have to agree.
    #[test]
    fn hashes_stay_what_they_are() {
        assert_eq!(hash(b"session-17"), xxhash_rust::xxh3::xxh3_64(b"session-17"));
        let all = names(5);
        let ring = ring(&all);
        let owners: Vec<_> = owners(&ring, &all, 8).iter().map(|name| &name[7..8]).collect();
        assert_eq!(owners.concat(), PINNED);
    }

    const PINNED: &str = "13023314";
}
