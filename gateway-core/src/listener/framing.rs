//! Follows an HTTP/1 connection message by message: where heads and bodies end, and whether they
//! are framed by the letter (RFC 9112, sections 6 and 7).
//!
//! Pingora reads chunk sizes more kindly than is safe: without a digit, or across a bare line feed.
//! Who stands in front of the gateway may read the same bytes as another message.

use super::head::{Head, HeadMeter};

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Its head: [`Head`] says what.
    Head(Head),
    /// The framing of its body.
    Body,
}

/// A message that may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) wrong: Wrong,
    /// How many of the bytes just seen belong to messages before it.
    pub(super) good: usize,
    /// Which message of the connection it is, counted from 1.
    pub(super) message: u32,
}

/// Follows one connection.
#[derive(Debug)]
pub(super) struct MessageMeter {
    head: HeadMeter,
    stage: Stage,
    /// How many heads have ended.
    heads: u32,
}

#[derive(Debug)]
enum Stage {
    Head,
    Length(u64),
    Chunks(Chunk),
}

/// What comes next in a chunked body.
#[derive(Clone, Copy, Debug)]
enum Chunk {
    /// The size; so many digits of it have come.
    Size {
        size: u64,
        digits: u8,
    },
    /// An extension, up to the carriage return.
    Extension {
        size: u64,
    },
    /// The line feed behind the size.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// The carriage return, then the line feed, behind the data.
    DataEnd {
        feed: bool,
    },
    /// A trailer's line; so long it is, without its carriage return.
    Trailer {
        length: u32,
    },
}

impl MessageMeter {
    pub(super) fn new(max_bytes: usize, max_fields: usize) -> Self {
        Self { head: HeadMeter::new(max_bytes, max_fields), stage: Stage::Head, heads: 0 }
    }

    /// How many heads have ended.
    #[cfg(test)]
    fn heads(&self) -> u32 {
        self.heads
    }

    /// Whether a head is under way.
    pub(super) fn in_head(&self) -> bool {
        matches!(self.stage, Stage::Head) && self.head.has_begun()
    }

    /// Looks at the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Bad> {
        let mut at = 0;
        let mut began = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.stage {
                Stage::Head => {
                    if !self.head.has_begun() {
                        began = at;
                    }
                    let (head, read) = self.head.feed(rest);
                    at += read;
                    match head {
                        Head::Partial => {}
                        Head::Complete => self.end_head(),
                        wrong => return Err(self.bad(Wrong::Head(wrong), began)),
                    }
                }
                Stage::Length(left) => {
                    let part = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= part as u64;
                    at += part;
                    if *left == 0 {
                        self.stage = Stage::Head;
                    }
                }
                Stage::Chunks(chunk) => match chunk.feed(rest) {
                    Some(Progress::Read(read)) => at += read,
                    Some(Progress::Ended) => {
                        at += 1;
                        self.stage = Stage::Head;
                    }
                    None => return Err(self.bad(Wrong::Body, began)),
                },
            }
        }
        Ok(())
    }

    fn end_head(&mut self) {
        self.heads += 1;
        self.stage = if self.head.is_chunked() {
            Stage::Chunks(Chunk::Size { size: 0, digits: 0 })
        } else {
            match self.head.content_length() {
                0 => Stage::Head,
                length => Stage::Length(length),
            }
        };
        self.head.restart();
    }

    fn bad(&self, wrong: Wrong, good: usize) -> Bad {
        let message = if wrong == Wrong::Body { self.heads } else { self.heads + 1 };
        Bad { wrong, good, message }
    }
}

enum Progress {
    /// So many bytes were taken.
    Read(usize),
    /// The body ended with this byte.
    Ended,
}

impl Chunk {
    /// Takes the next bytes; `None` if they are not what may come.
    fn feed(&mut self, bytes: &[u8]) -> Option<Progress> {
        let byte = *bytes.first()?;
        *self = match (*self, byte) {
            (Self::Data { left }, _) => {
                let part = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - part as u64;
                *self = if left == 0 { Self::DataEnd { feed: false } } else { Self::Data { left } };
                return Some(Progress::Read(part));
            }
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                // Sixteen digits are more than any body has.
                let digit = char::from(byte).to_digit(16)?;
                let fits = digits < 16 && size < 1 << 59;
                fits.then(|| Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })?
            }
            (Self::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => Self::Extension { size },
            (Self::Size { size, digits: 1.. } | Self::Extension { size }, b'\r') => {
                Self::SizeEnd { size }
            }
            (Self::Extension { size }, byte) if byte == b'\t' || !byte.is_ascii_control() => {
                Self::Extension { size }
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Trailer { length: 0 },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataEnd { feed: false }, b'\r') => Self::DataEnd { feed: true },
            (Self::DataEnd { feed: true }, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::Trailer { length: 0 }, b'\n') => return Some(Progress::Ended),
            (Self::Trailer { .. }, b'\n') => Self::Trailer { length: 0 },
            (Self::Trailer { length }, b'\r') => Self::Trailer { length },
            (Self::Trailer { length }, _) => Self::Trailer { length: length.saturating_add(1) },
            _ => return None,
        };
        Some(Progress::Read(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn outcome(bytes: &str, step: usize) -> Result<u32, Wrong> {
        let mut meter = MessageMeter::new(1024, 10);
        for part in bytes.as_bytes().chunks(step) {
            meter.feed(part).map_err(|bad| bad.wrong)?;
        }
        Ok(meter.heads())
    }

    #[track_caller]
    fn assert_outcome(bytes: &str, expected: Result<u32, Wrong>) {
        for step in [1, 2, 3, 7, bytes.len()] {
            assert_eq!(outcome(bytes, step), expected, "{bytes:?} in parts of {step}");
        }
    }

    #[test]
    fn messages_follow_each_other_whatever_frames_their_bodies() {
        let next = "GET /n HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nGET /";
        let chunks =
            format!("{CHUNKED}5;x=\"y\"\r\nhello\r\nA \r\n0123456789\r\n0\r\nX: y\r\n\r\n");

        assert_outcome(&format!("{next}{length}{chunks}{next}"), Ok(4));
    }

    #[test]
    fn chunks_that_are_not_framed_by_the_letter_are_refused() {
        for body in [
            "\r\nhello\r\n0\r\n\r\n",
            ";x\r\nhello\r\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "-5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "5g\r\nhello\r\n",
            "fffffffffffffffff\r\n",
        ] {
            assert_outcome(&format!("{CHUNKED}{body}"), Err(Wrong::Body));
        }
    }

    #[test]
    fn what_came_before_a_bad_message_is_told_apart() {
        let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut meter = MessageMeter::new(1024, 10);

        let bad = meter.feed(format!("{good}GET /a b HTTP/1.1\r\n\r\n").as_bytes()).unwrap_err();

        let wrong = Wrong::Head(Head::BadRequestLine);
        assert_eq!(bad, Bad { wrong, good: good.len(), message: 2 });
    }
}
