//! Follows the messages in a body. In front of each stand its flags, in one byte, and its length, in four (gRPC over
//! HTTP/2, "Length-Prefixed-Message").

/// What stands in front of a message.
const HEAD: usize = 5;

/// Where among its messages a body is.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The head of a message, as far as it has come.
    head: [u8; HEAD],
    known: usize,
    /// How much of the message is still to come.
    left: u64,
}

/// A message that is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    /// Where in the piece its head begins.
    pub(crate) at: usize,
    /// The length that it announces, in bytes.
    pub(crate) length: u64,
}

impl Frames {
    /// Follows the next piece of the body, up to the head of a message longer than `most`.
    ///
    /// # Errors
    /// There is one.
    pub(crate) fn follow(&mut self, piece: &[u8], most: u64) -> Result<(), TooLong> {
        let mut place = 0;
        while place < piece.len() {
            let here = &piece[place..];
            if self.left > 0 {
                let passed = self.left.min(here.len() as u64);
                self.left -= passed;
                // No more than the piece is long.
                place += passed as usize;
                continue;
            }
            let taken = here.len().min(HEAD - self.known);
            self.head[self.known..self.known + taken].copy_from_slice(&here[..taken]);
            self.known += taken;
            place += taken;
            if self.known == HEAD {
                self.known = 0;
                let [_, length @ ..] = self.head;
                self.left = u32::from_be_bytes(length).into();
                if self.left > most {
                    return Err(TooLong { at: place.saturating_sub(HEAD), length: self.left });
                }
            }
        }
        Ok(())
    }

    /// Whether the next byte begins a message.
    pub(crate) fn is_between(&self) -> bool {
        self.known == 0 && self.left == 0
    }

    /// Forgets what has come of a head that is not complete, and says how much that was: it comes again.
    pub(crate) fn step_back(&mut self) -> usize {
        std::mem::take(&mut self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"\0\0\0\0\x03abc\0\0\0\x01\0";

    #[test]
    fn messages_are_followed_through_any_pieces() {
        for size in 1..=TWO.len() {
            let mut frames = Frames::default();
            let mut ends = Vec::new();
            for (index, piece) in TWO.chunks(size).enumerate() {
                assert_eq!(frames.follow(piece, 256), Ok(()), "{size}");
                if frames.is_between() {
                    ends.push((index + 1) * size);
                }
            }
            let expected = [8].into_iter().filter(|end| end % size == 0);
            assert_eq!(ends, expected.collect::<Vec<_>>(), "{size}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_found_at_its_head() {
        let found = |piece, most| Frames::default().follow(piece, most);
        assert_eq!(found(TWO, 255), Err(TooLong { at: 8, length: 256 }));
        assert_eq!(found(TWO, 2), Err(TooLong { at: 0, length: 3 }));
        assert_eq!(
            found(b"\0\0\0\0\0\x01\xff\xff\xff\xff", 0),
            Err(TooLong { at: 5, length: u32::MAX.into() })
        );
    }

    #[test]
    fn a_head_in_two_pieces_can_come_again() {
        let mut frames = Frames::default();
        assert_eq!(frames.follow(&TWO[..11], 9), Ok(()));
        assert_eq!(frames.step_back(), 3);
        assert_eq!(frames.follow(&TWO[8..], 9), Err(TooLong { at: 0, length: 256 }));
    }
}
