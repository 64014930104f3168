//! Which of a route's upstreams a request goes to.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::{Names, Wrong, at};
use crate::config::SplitConfig;
use crate::plugin::{Attribute, Facts, Moment};

/// The upstreams of a route and their weights, in the order of the config.
pub struct SplitPlan {
    shares: Box<[Share]>,
    total: u64,
    sticky: Option<Attribute>,
}

struct Share {
    upstream: Box<str>,
    weight: u32,
}

impl SplitPlan {
    pub(super) fn compile(config: &SplitConfig, names: &Names<'_>, wrong: &mut Wrong) -> Self {
        let place = at(&["split", "sticky"]);
        let sticky = config.sticky.as_deref().and_then(|name| {
            match Attribute::parse(name, names.published) {
                Ok(attribute) if attribute.known_from() > Moment::Request => {
                    wrong.push((place, format!("`{name}` is not known before the response")));
                    None
                }
                Ok(Attribute::UpstreamName) => {
                    wrong.push((place, format!("`{name}` is what is chosen here")));
                    None
                }
                Ok(attribute) => Some(attribute),
                Err(error) => {
                    wrong.push((place, error.to_string()));
                    None
                }
            }
        });
        let shares = config
            .upstreams
            .iter()
            .map(|share| Share { upstream: share.upstream.as_str().into(), weight: share.weight });
        let total = config.upstreams.iter().map(|share| u64::from(share.weight)).sum();
        Self { shares: shares.collect(), total, sticky }
    }

    /// The place of the upstream that a request goes to. `random` is a number of its own for each request, from 0 to 1.
    pub(crate) fn choose(&self, facts: &Facts<'_>, random: f64) -> usize {
        self.kept(facts).unwrap_or_else(|| self.anyone(random))
    }

    /// The place of the upstream that keeps the caller, if one does.
    pub(crate) fn kept(&self, facts: &Facts<'_>) -> Option<usize> {
        let sticky = self.sticky.as_ref()?;
        // Callers that send nothing but a name have nothing by which to tell them apart.
        let told = |value: &&[u8]| !value.is_empty();
        sticky.with_bytes(facts, |value| value.filter(told).map(|value| self.keeper(value)))
    }

    /// Whether it can be chosen before plugins have run: where callers are kept by nothing that these find out.
    pub(crate) fn is_early(&self) -> bool {
        self.sticky.as_ref().is_none_or(|sticky| sticky.known_from() == Moment::Head)
    }

    /// By what requests are kept at one upstream.
    pub(crate) fn sticky(&self) -> Option<&Attribute> {
        self.sticky.as_ref()
    }

    /// The upstreams with their parts of the whole.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (&str, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "sums of weights are far below 2^53")]
        let part = |share: &Share| f64::from(share.weight) / self.total.max(1) as f64;
        self.shares.iter().map(move |share| (&*share.upstream, part(share)))
    }

    fn anyone(&self, random: f64) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "sums of weights are far below 2^53, and the product is none of them below 0"
        )]
        let mut left = (random * self.total as f64) as u64;
        for (place, share) in self.shares.iter().enumerate() {
            match left.checked_sub(share.weight.into()) {
                None => return place,
                Some(rest) => left = rest,
            }
        }
        self.shares.iter().rposition(|share| share.weight > 0).unwrap_or(0)
    }

    /// Weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): what an upstream bids for a caller depends on its
    /// own weight alone, so that a weight that rises draws callers to it and moves no other.
    fn keeper(&self, value: &[u8]) -> usize {
        let bid = |share: &Share| {
            let mut hasher = SipHasher13::new();
            hasher.write(share.upstream.as_bytes());
            hasher.write_u8(0xff);
            hasher.write(value);
            #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
            let uniform = ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -uniform.ln() / f64::from(share.weight)
        };
        let bids = self.shares.iter().enumerate().filter(|(_, share)| share.weight > 0);
        let best = bids
            .map(|(place, share)| (place, bid(share)))
            .min_by(|one, two| one.1.total_cmp(&two.1));
        best.map_or(0, |(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(weights: &[u32]) -> SplitPlan {
        let shares = weights.iter().zip(0..).map(|(weight, number)| Share {
            upstream: format!("u{number}").into(),
            weight: *weight,
        });
        let total = weights.iter().map(|weight| u64::from(*weight)).sum();
        SplitPlan { shares: shares.collect(), total, sticky: None }
    }

    fn keepers(split: &SplitPlan) -> Vec<usize> {
        (0..20_000).map(|caller| split.keeper(format!("caller-{caller}").as_bytes())).collect()
    }

    #[test]
    fn requests_are_shared_by_weight() {
        let split = split(&[1, 0, 3]);
        let places: Vec<usize> = (0..1000).map(|n| split.anyone(f64::from(n) / 1000.0)).collect();

        assert_eq!(places.iter().filter(|place| **place == 0).count(), 250);
        assert_eq!(places.iter().filter(|place| **place == 1).count(), 0);
        assert_eq!(split.anyone(1.0), 2);
    }

    #[test]
    fn callers_are_shared_by_weight() {
        let kept = keepers(&split(&[90, 10, 0]));
        let second = kept.iter().filter(|place| **place == 1).count();

        // 2,000 are expected; the deviation is 42.
        assert!((1_800..2_200).contains(&second), "{second}");
        assert!(!kept.contains(&2));
    }

    #[test]
    fn a_share_that_rises_moves_only_callers_to_itself() {
        for (before, after) in [([90, 10, 50], [90, 20, 50]), ([95, 5, 0], [90, 10, 0])] {
            let (before, after) = (keepers(&split(&before)), keepers(&split(&after)));
            let moved: Vec<_> = before.iter().zip(&after).filter(|(one, two)| one != two).collect();

            assert!(!moved.is_empty());
            assert!(moved.iter().all(|(_, to)| **to == 1), "only to the one that rose");
        }
        let (before, after) = (keepers(&split(&[95, 5])), keepers(&split(&[90, 10])));
        let moved = before.iter().zip(&after).filter(|(one, two)| one != two).count();
        // 5 % have to move; the deviation is 31.
        assert!((850..1_150).contains(&moved), "{moved}");
    }
}
