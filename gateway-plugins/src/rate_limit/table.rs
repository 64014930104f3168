//! The buckets of one limit.

use std::sync::atomic::{AtomicU64, Ordering};

use gateway_core::Carried;

use super::base::Base;
use super::limit::{Limit, Over, Standing};
use super::places::Places;

/// The buckets of one limit.
pub(super) struct Table {
    limit: Limit,
    places: Places,
}

/// All places where a key may be belong to keys that are being counted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Table {
    /// A table with room for so many keys at a time.
    pub(super) fn new(limit: Limit, keys: usize) -> Self {
        Self { limit, places: Places::new(keys) }
    }

    pub(super) fn limit(&self) -> &Limit {
        &self.limit
    }

    fn place(&self, key: u64, now: u64) -> Option<&AtomicU64> {
        let spent = |state| self.limit.is_spent(state, now);
        self.places.find(key, spent).map(|index| self.places.state(index))
    }

    /// Takes a request of this cost from the bucket of a key, given as a hash that nobody can foresee and
    /// that is not 0.
    pub(super) fn take(
        &self,
        key: u64,
        cost: u64,
        now: u64,
    ) -> Result<Result<Standing, Over>, Full> {
        let place = self.place(key, now).ok_or(Full)?;
        let mut state = place.load(Ordering::Acquire);
        loop {
            match self.limit.take(state, cost, now) {
                Err(over) => return Ok(Err(over)),
                Ok((next, standing)) => {
                    let order = (Ordering::AcqRel, Ordering::Acquire);
                    match place.compare_exchange_weak(state, next, order.0, order.1) {
                        Ok(_) => return Ok(Ok(standing)),
                        Err(other) => state = other,
                    }
                }
            }
        }
    }

    /// Takes what a request has cost already, whatever is left; `None` if there is no room to note it.
    pub(super) fn charge(&self, key: u64, cost: u64, now: u64) -> Option<Standing> {
        let place = self.place(key, now)?;
        let mut state = place.load(Ordering::Acquire);
        loop {
            let (next, standing) = self.limit.charge(state, cost, now);
            let order = (Ordering::AcqRel, Ordering::Acquire);
            match place.compare_exchange_weak(state, next, order.0, order.1) {
                Ok(_) => return Some(standing),
                Err(other) => state = other,
            }
        }
    }

    /// Gives back what was taken for a request that another limit refused.
    pub(super) fn give_back(&self, key: u64, cost: u64, now: u64) {
        if let Some(place) = self.places.known(key) {
            let back = |state| Some(self.limit.give_back(state, cost, now));
            let _ = place.fetch_update(Ordering::AcqRel, Ordering::Acquire, back);
        }
    }
}

/// Pairs of a key's hash and its state, each of 8 bytes with the lowest first.
impl Carried for Table {
    fn carry(&self) -> Vec<u8> {
        let now = Base::now();
        let mut bytes = Vec::new();
        for (key, state) in self.places.all().filter(|(_, state)| !self.limit.is_spent(*state, now))
        {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes
    }

    fn take_over(&self, bytes: &[u8]) -> Result<(), String> {
        let (parts, rest) = bytes.as_chunks::<8>();
        let (pairs, odd) = parts.as_chunks::<2>();
        if !rest.is_empty() || !odd.is_empty() {
            return Err("pairs of 16 bytes".to_owned());
        }
        let now = Base::now();
        let pairs = pairs.iter().map(|pair| pair.map(u64::from_le_bytes));
        for [key, state] in pairs.filter(|[key, _]| *key != 0) {
            // Where there is less room than before, some keys begin anew.
            if let Some(place) = self.place(key, now) {
                place.store(state, Ordering::Release);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rate_limit::limit::Way;

    const SECOND: u64 = 1_000_000_000;

    /// A hash like any other.
    fn hash(key: u64) -> u64 {
        std::hash::BuildHasher::hash_one(
            &std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::new(),
            key,
        )
    }

    fn table(quota: u64, keys: usize) -> Table {
        Table::new(Limit::new(Way::Gcra, quota, Duration::from_secs(1), None), keys)
    }

    fn taken(table: &Table, key: u64, now: u64) -> usize {
        (0..100).filter(|_| matches!(table.take(key, 1, now), Ok(Ok(_)))).count()
    }

    #[test]
    fn as_many_keys_as_were_asked_for_have_buckets_of_their_own() {
        for keys in [1, 10, 1_000, 100_000] {
            let table = table(2, keys);
            let hashes: Vec<u64> = (0..keys as u64).map(hash).collect();
            for round in 0..3 {
                let full = hashes.iter().filter(|key| table.take(**key, 1, SECOND) == Err(Full));
                assert_eq!(full.count(), 0, "{keys} keys, round {round}");
            }
            assert!(hashes.iter().all(|key| matches!(table.take(*key, 1, SECOND), Ok(Err(_)))));
        }
    }

    #[test]
    fn a_bucket_that_limits_is_never_taken_away() {
        let table = table(2, 16);
        let limited = hash(u64::MAX);
        assert_eq!(taken(&table, limited, SECOND), 2);
        let mut full = 0;
        for key in 0..100_000 {
            full += usize::from(table.take(hash(key), 1, SECOND) == Err(Full));
        }
        assert!(full > 90_000, "{full} found no place");
        assert_eq!(taken(&table, limited, SECOND), 0);
        // When they are spent their places are free.
        let later = 3 * SECOND;
        assert_eq!(taken(&table, hash(u64::MAX - 1), later), 2);
        assert_eq!(taken(&table, limited, later), 2);
    }

    #[test]
    fn who_follows_goes_on_where_the_one_before_was() {
        let (before, after) = (table(2, 1_000), table(2, 1_000));
        let now = Base::now();
        let (spent, part) = (hash(1), hash(2));
        assert_eq!((taken(&before, spent, now), before.take(part, 1, now).is_ok()), (2, true));
        assert_eq!(taken(&before, hash(3), now - 10 * SECOND), 2, "and long full again");

        let bytes = before.carry();
        assert_eq!(bytes.len(), 32, "what says nothing any more is not handed on");
        after.take_over(&bytes).unwrap();

        assert_eq!((taken(&after, spent, now), taken(&after, part, now)), (0, 1));
        assert!(after.take_over(&bytes[1..]).is_err() && after.take_over(&bytes[..8]).is_err());
    }

    #[test]
    #[ignore = "takes a while; memory is that of the release"]
    fn ten_million_keys_take_no_more_memory_than_those_that_there_is_room_for() {
        let resident = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
            pages * 4096
        };
        let table = table(2, 100_000);
        let limited = hash(u64::MAX);
        (0..200_000).for_each(|key| drop(table.take(hash(key), 1, SECOND)));
        assert_eq!(taken(&table, limited, 3 * SECOND), 2);
        let (before, began) = (resident(), std::time::Instant::now());
        let (mut full, keys) = (0_u32, 10_000_000);
        for key in 0..keys {
            full += u32::from(table.take(hash(key), 1, 3 * SECOND) == Err(Full));
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 1 << 20, "{grown} bytes more");
        assert_eq!(taken(&table, limited, 3 * SECOND), 0, "it is limited still");
        let nanos = began.elapsed().as_nanos() / u128::from(keys);
        println!("{nanos} ns a key, {full} of {keys} found no room, {grown} bytes more");
    }

    #[test]
    fn no_more_is_taken_than_there_is_whoever_takes() {
        let table = table(1_000, 8);
        let keys: Vec<u64> = (0..4).map(hash).collect();
        let count = |key: &u64| {
            (0..2_000).filter(|_| matches!(table.take(*key, 1, SECOND), Ok(Ok(_)))).count()
        };
        let taken: usize = std::thread::scope(|scope| {
            let all = || keys.iter().map(count).sum::<usize>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(all)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // Who brings a key in the same moment as others may take one more.
        assert!((4_000..=4_004).contains(&taken), "{taken}");
    }
}
