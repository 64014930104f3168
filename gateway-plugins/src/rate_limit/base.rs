//! What keys are hashed with, and by which clock buckets are filled.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway_core::{Carried, monotonic};
use siphasher::sip::SipHasher13;

use super::options::LONGEST;

/// What the hashes of keys follow from: as old as the buckets that are found by them. Nobody can foresee them.
pub(super) struct Base {
    secret: [AtomicU64; 2],
}

impl Base {
    pub(super) fn new() -> Self {
        Self { secret: [rand::random(), rand::random()].map(AtomicU64::new) }
    }

    pub(super) fn hasher(&self) -> impl Hasher + use<> {
        let [first, second] = self.secret.each_ref().map(|part| part.load(Ordering::Relaxed));
        SipHasher13::new_with_keys(first, second)
    }

    /// The moment, in nanoseconds. A state of 0 is one of long ago.
    pub(super) fn now() -> u64 {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        nanos(monotonic()).saturating_add(nanos(LONGEST) * 3)
    }
}

impl Carried for Base {
    fn carry(&self) -> Vec<u8> {
        self.secret.iter().flat_map(|part| part.load(Ordering::Relaxed).to_le_bytes()).collect()
    }

    fn take_over(&self, bytes: &[u8]) -> Result<(), String> {
        let parts = bytes.as_chunks().0;
        if parts.len() != self.secret.len() || bytes.len() != 16 {
            return Err("a secret of 16 bytes".to_owned());
        }
        for (part, bytes) in self.secret.iter().zip(parts) {
            part.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        Ok(())
    }
}
