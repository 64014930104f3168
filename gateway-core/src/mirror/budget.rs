//! Bodies that are held for copies and comparisons: all of a mirror's together are bounded.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

use crate::telemetry::Copied;

/// The bytes that a mirror may hold.
pub(super) struct Budget {
    left: AtomicUsize,
    /// The most of one body.
    longest: usize,
}

/// A body, or what has arrived of it.
pub(super) struct Held {
    bytes: BytesMut,
    budget: Arc<Budget>,
    taken: usize,
}

impl Budget {
    /// Room for so many bodies of the greatest length.
    pub(super) fn new(bodies: usize, longest: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bodies.saturating_mul(longest)), longest })
    }

    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// An empty body.
    pub(super) fn body(self: &Arc<Self>) -> Held {
        Held { bytes: BytesMut::new(), budget: self.clone(), taken: 0 }
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Held {
    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Takes another piece in.
    ///
    /// # Errors
    /// What it is counted as where it is not taken.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Copied> {
        let length = self.bytes.len() + piece.len();
        if length > self.budget.longest {
            return Err(Copied::TooLarge);
        }
        let more = length.saturating_sub(self.taken);
        if !self.budget.take(more) {
            return Err(Copied::Full);
        }
        self.taken += more;
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The whole of it; it counts as held for as long as `self` lives.
    pub(super) fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bodies_together_are_bounded_and_give_back_what_they_held() {
        let budget = Budget::new(2, 4);
        let mut one = budget.body();
        let mut two = budget.body();
        let mut three = budget.body();

        assert_eq!(one.push(b"abcde"), Err(Copied::TooLarge));
        assert_eq!(one.push(b"abcd"), Ok(()));
        assert_eq!(two.push(b"abc"), Ok(()));
        assert_eq!(three.push(b"ab"), Err(Copied::Full));
        assert_eq!(three.push(b"a"), Ok(()));
        assert_eq!(&*one.take(), b"abcd");
        assert_eq!(three.push(b"b"), Err(Copied::Full));
        drop(one);
        assert_eq!(three.push(b"b"), Ok(()));

        // What comes again takes no more.
        two.clear();
        assert_eq!(two.push(b"xyz"), Ok(()));
        assert_eq!(budget.left.load(Ordering::Relaxed), 3);
        drop((two, three));
        assert_eq!(budget.left.load(Ordering::Relaxed), 8);
    }
}
