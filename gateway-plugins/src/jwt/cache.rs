//! Tokens that were found good, so that who comes again with one is let in without its signature being
//! verified again.

use std::sync::Arc;

use ahash::RandomState;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Verified;

/// What is held of a token.
struct Entry {
    /// All of it: what is found by a hash alone may be another.
    token: Box<str>,
    /// Of the keys that it was verified with: others may not know its key any more.
    generation: u64,
    verified: Arc<Verified>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<u64, Arc<Entry>> for Weight {
    fn weight(&self, _: &u64, entry: &Arc<Entry>) -> u64 {
        // The claims once in the token and once as facts, and what holds them.
        entry.token.len() as u64 * 3 + 512
    }
}

/// Tokens that were found good, in so many bytes.
pub(super) struct Tokens {
    cache: Cache<u64, Arc<Entry>, Weight>,
    /// Keyed by chance: nobody can choose tokens of one hash.
    hasher: RandomState,
}

impl Tokens {
    /// Room for tokens, in bytes; those that were not asked for make room for others.
    pub(super) fn new(bytes: u64) -> Self {
        const USUAL: u64 = 3 * 800 + 512;
        let items = usize::try_from(bytes / USUAL).unwrap_or(usize::MAX).clamp(1, 1_000_000);
        Self { cache: Cache::with_weighter(items, bytes, Weight), hasher: RandomState::new() }
    }

    /// What was found of the token, if it is good at this moment with these keys.
    pub(super) fn get(
        &self,
        token: &str,
        now: f64,
        generation: impl Fn(usize) -> Option<u64>,
    ) -> Option<Arc<Verified>> {
        let entry = self.cache.get(&self.hasher.hash_one(token))?;
        let good = *entry.token == *token
            && now < entry.verified.until
            && generation(entry.verified.issuer) == Some(entry.generation);
        good.then(|| entry.verified.clone())
    }

    pub(super) fn put(&self, token: &str, generation: u64, verified: Arc<Verified>) {
        let entry = Entry { token: token.into(), generation, verified };
        self.cache.insert(self.hasher.hash_one(token), Arc::new(entry));
    }
}
