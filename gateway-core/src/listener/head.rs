//! Watches an HTTP/1 request head go by: its size, its number of fields, and where it ends.

/// What is known of a head so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// It goes on.
    Partial,
    /// It ended within the bytes just seen.
    Complete,
    /// It is longer than the limit, in bytes.
    TooLarge,
    /// It has more fields than the limit.
    TooManyFields,
}

/// Counts one head after the other. Empty lines before a request line are allowed (RFC 9112,
/// section 2.2) but count as bytes, so that they cannot be sent for ever.
#[derive(Debug)]
pub(super) struct HeadMeter {
    max_bytes: usize,
    max_fields: usize,
    bytes: usize,
    lines: usize,
    line: Line,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Empty,
    OnlyCarriageReturn,
    Filled,
}

impl HeadMeter {
    pub(super) fn new(max_bytes: usize, max_fields: usize) -> Self {
        Self { max_bytes, max_fields, bytes: 0, lines: 0, line: Line::Empty }
    }

    /// Begins with the next head.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.max_bytes, self.max_fields);
    }

    /// Whether any byte of the current head was seen.
    pub(super) fn has_begun(&self) -> bool {
        self.bytes > 0
    }

    /// Looks at the next bytes. What follows the head's end in them is not looked at.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Head {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.extend_line(&bytes[..end]);
            self.bytes += end + 1;
            bytes = &bytes[end + 1..];
            let filled = std::mem::replace(&mut self.line, Line::Empty) == Line::Filled;
            if filled {
                self.lines += 1;
            } else if self.lines > 0 {
                return self.verdict(Head::Complete);
            }
        }
        self.extend_line(bytes);
        self.bytes += bytes.len();
        self.verdict(Head::Partial)
    }

    fn extend_line(&mut self, part: &[u8]) {
        self.line = match (self.line, part) {
            (line, []) => line,
            (Line::Empty, [b'\r']) => Line::OnlyCarriageReturn,
            _ => Line::Filled,
        };
    }

    fn verdict(&self, head: Head) -> Head {
        // The first line is the request line.
        if self.bytes > self.max_bytes {
            Head::TooLarge
        } else if self.lines.saturating_sub(1) > self.max_fields {
            Head::TooManyFields
        } else {
            head
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";

    #[test]
    fn head_ends_at_its_empty_line_wherever_reads_cut_it() {
        for size in 1..HEAD.len() {
            let mut meter = HeadMeter::new(1024, 10);
            let mut verdicts: Vec<Head> = HEAD.chunks(size).map(|part| meter.feed(part)).collect();

            assert_eq!(verdicts.pop(), Some(Head::Complete), "in parts of {size}");
            assert!(verdicts.iter().all(|head| *head == Head::Partial));
        }
    }

    #[test]
    fn bytes_of_a_body_behind_the_head_are_not_counted() {
        let mut meter = HeadMeter::new(HEAD.len(), 2);
        let mut bytes = HEAD.to_vec();
        bytes.extend_from_slice(&[b'x'; 4096]);

        assert_eq!(meter.feed(&bytes), Head::Complete);
    }

    #[test]
    fn empty_lines_before_the_request_line_are_skipped_but_bounded() {
        let mut meter = HeadMeter::new(64, 10);

        assert_eq!(meter.feed(b"\r\n\n\r\nGET / HTTP/1.0\n\n"), Head::Complete);

        meter.restart();
        assert_eq!(meter.feed(&b"\r\n".repeat(40)), Head::TooLarge);
    }

    #[test]
    fn limits_are_met_exactly() {
        assert_eq!(HeadMeter::new(HEAD.len(), 2).feed(HEAD), Head::Complete);
        assert_eq!(HeadMeter::new(HEAD.len() - 1, 2).feed(HEAD), Head::TooLarge);
        assert_eq!(HeadMeter::new(HEAD.len(), 1).feed(HEAD), Head::TooManyFields);
    }

    #[test]
    fn a_head_that_never_ends_is_cut_off() {
        let mut meter = HeadMeter::new(100, 10);

        assert_eq!(meter.feed(b"GET / HTTP/1.1\r\nX: "), Head::Partial);
        assert_eq!(meter.feed(&[b'a'; 100]), Head::TooLarge);
    }
}
