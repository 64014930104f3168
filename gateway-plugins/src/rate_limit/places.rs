//! What is kept by key: a fixed number of places, no lock, and none taken from who needs it.
//!
//! A place holds the hash of a key and the key's state. A key has sixteen places where it may be; a place
//! whose state says nothing any more is free for another key, which begins as well with that state as
//! with none. So nothing has to be evicted, and memory never grows.

use std::sync::atomic::{AtomicU64, Ordering};

/// Places that a key looks at together.
const WAYS: usize = 8;

#[derive(Default)]
struct Place {
    /// The key's hash; 0 if there never was one.
    key: AtomicU64,
    state: AtomicU64,
}

/// A state of 64 bits for each key, given as a hash that nobody can foresee and that is not 0.
pub(super) struct Places {
    sets: Box<[[Place; WAYS]]>,
}

impl Places {
    /// With room for so many keys at a time.
    pub(super) fn new(keys: usize) -> Self {
        // With half as many more a key finds a place though others are near it.
        let sets = (keys + keys / 2).div_ceil(WAYS).max(2);
        Self { sets: (0..sets).map(|_| Default::default()).collect() }
    }

    /// How many there are: the bound of all indices.
    pub(super) fn count(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// The state at an index that was found here.
    pub(super) fn state(&self, index: usize) -> &AtomicU64 {
        &self.at(index).state
    }

    /// All keys that ever had a place that nobody took, with their states.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        let pair = |place: &Place| {
            (place.key.load(Ordering::Acquire), place.state.load(Ordering::Acquire))
        };
        self.sets.iter().flatten().map(pair).filter(|(key, _)| *key != 0)
    }

    /// The state of a key that has a place.
    pub(super) fn known(&self, key: u64) -> Option<&AtomicU64> {
        self.search(key).map(|index| self.state(index))
    }

    /// The index of a key's place, its own or one that is free: that nobody ever had, or whose state is spent.
    pub(super) fn find(&self, key: u64, spent: impl Fn(u64) -> bool) -> Option<usize> {
        loop {
            if let Some(index) = self.search(key) {
                return Some(index);
            }
            let free = self.sets_of(key).into_iter().map(|set| self.free(set, &spent));
            // Of two sets the emptier: so nearly all places are used before one is missing.
            let (_, free) = free.max_by_key(|(count, _)| *count)?;
            let (index, held) = free?;
            let place = self.at(index);
            // Who comes second looks again: the winner may have had the same key.
            if place.key.compare_exchange(held, key, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                continue;
            }
            let twice =
                |other: usize| other != index && self.at(other).key.load(Ordering::SeqCst) == key;
            if !self.indices(key).any(twice) {
                return Some(index);
            }
            // Somebody brought the same key in the same moment.
            let _ = place.key.compare_exchange(key, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    fn at(&self, index: usize) -> &Place {
        &self.sets[index / WAYS][index % WAYS]
    }

    fn sets_of(&self, key: u64) -> [usize; 2] {
        let count = self.sets.len() as u64;
        // Two halves of the hash, each spread over all sets.
        let set = |half: u64| usize::try_from((half * count) >> 32).unwrap_or(0);
        [set(key >> 32), set(key & 0xffff_ffff)]
    }

    fn indices(&self, key: u64) -> impl Iterator<Item = usize> {
        self.sets_of(key).into_iter().flat_map(|set| set * WAYS..(set + 1) * WAYS)
    }

    fn search(&self, key: u64) -> Option<usize> {
        self.indices(key).find(|index| self.at(*index).key.load(Ordering::Acquire) == key)
    }

    /// How many places of a set are free, and one of them with the key that it held.
    fn free(&self, set: usize, spent: impl Fn(u64) -> bool) -> (usize, Option<(usize, u64)>) {
        let mut free = self.sets[set].iter().enumerate().filter_map(|(way, place)| {
            let held = place.key.load(Ordering::Acquire);
            let spent = spent(place.state.load(Ordering::Acquire));
            (held == 0 || spent).then_some((set * WAYS + way, held))
        });
        let first = free.next();
        (free.count() + usize::from(first.is_some()), first)
    }
}
