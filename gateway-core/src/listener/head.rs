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
    /// Its request line is none that HTTP allows.
    BadRequestLine,
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
    request_line: RequestLine,
    /// Whether bytes went by since the last head's end that were not looked at. They may hold the
    /// beginning of the next head.
    passed: bool,
}

/// The request line so far. Pingora would repair one with bytes that are not allowed in it, and
/// pass on what the client never asked for.
#[derive(Debug, Default)]
struct RequestLine {
    spaces: u8,
    bad: bool,
    /// Its beginning may have gone by with the end of the request before: nothing can be said.
    cut: bool,
}

impl RequestLine {
    fn extend(&mut self, part: &[u8]) {
        for byte in part {
            match byte {
                b' ' => self.spaces = self.spaces.saturating_add(1),
                // The carriage return before the line's end; anywhere else the parser refuses it.
                b'\r' | b'!' | b'#'..=b';' | b'=' | b'?'..=b'~' => {}
                _ => self.bad = true,
            }
        }
    }

    /// Method, target, version: two spaces between them and no other (RFC 9112, section 3).
    fn is_bad(&self) -> bool {
        !self.cut && (self.bad || self.spaces != 2)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Empty,
    OnlyCarriageReturn,
    Filled,
}

impl HeadMeter {
    pub(super) fn new(max_bytes: usize, max_fields: usize) -> Self {
        let request_line = RequestLine::default();
        let line = Line::Empty;
        Self { max_bytes, max_fields, bytes: 0, lines: 0, line, request_line, passed: false }
    }

    /// Begins with the next head.
    pub(super) fn restart(&mut self) {
        let cut = self.passed;
        *self = Self::new(self.max_bytes, self.max_fields);
        self.request_line.cut = cut;
        self.passed = cut;
    }

    /// Notes that bytes go by which are not for it: a body, and perhaps the next head behind it.
    pub(super) fn pass(&mut self) {
        self.passed = true;
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
                if self.lines == 1 && self.request_line.is_bad() {
                    return Head::BadRequestLine;
                }
            } else if self.lines > 0 {
                self.passed = !bytes.is_empty();
                return self.verdict(Head::Complete);
            }
        }
        self.extend_line(bytes);
        self.bytes += bytes.len();
        self.verdict(Head::Partial)
    }

    fn extend_line(&mut self, part: &[u8]) {
        if self.lines == 0 {
            self.request_line.extend(part);
        }
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
    fn a_request_line_with_what_is_not_allowed_in_it_is_refused() {
        for line in [
            "GET /a b HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /<x> HTTP/1.1",
            "GET /\" HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /\u{7f} HTTP/1.1",
            "GET /\t HTTP/1.1",
            "GET /",
        ] {
            let mut meter = HeadMeter::new(1024, 10);

            assert_eq!(
                meter.feed(format!("{line}\r\n").as_bytes()),
                Head::BadRequestLine,
                "{line}"
            );
        }
    }

    #[test]
    fn a_request_line_is_not_judged_by_its_end() {
        let mut meter = HeadMeter::new(1024, 10);
        assert_eq!(meter.feed(&[HEAD, b"GET "].concat()), Head::Complete);

        meter.restart();
        assert_eq!(meter.feed(b"/ HTTP/1.1\r\nHost: a\r\n\r\n"), Head::Complete);

        meter.restart();
        assert_eq!(meter.feed(b"GET /a b HTTP/1.1\r\n"), Head::BadRequestLine);

        let mut meter = HeadMeter::new(1024, 10);
        assert_eq!(meter.feed(HEAD), Head::Complete);
        meter.pass();
        meter.restart();
        assert_eq!(meter.feed(b"/ HTTP/1.1\r\n"), Head::Partial);
    }

    #[test]
    fn a_head_that_never_ends_is_cut_off() {
        let mut meter = HeadMeter::new(100, 10);

        assert_eq!(meter.feed(b"GET / HTTP/1.1\r\nX: "), Head::Partial);
        assert_eq!(meter.feed(&[b'a'; 100]), Head::TooLarge);
    }
}
