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
    /// Its `Content-Length` is no length, or there are several that differ.
    BadLength,
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
    start: Start,
    chunked: bool,
    content_length: Option<u64>,
    /// The length cannot be relied on. What Pingora would make of it is not waited for: whoever
    /// reads the same bytes as another length reads what follows as another message.
    bad_length: bool,
}

/// The first bytes of the current line, if it may be that of a field that frames a body: as many as
/// such a field needs.
#[derive(Debug)]
struct Start {
    bytes: [u8; 48],
    length: usize,
    /// The line is another field's.
    other: bool,
    /// The line is longer than what is kept of it.
    cut: bool,
}

impl Start {
    const NEW: Self = Self { bytes: [0; 48], length: 0, other: false, cut: false };

    /// Begins with the next line.
    fn clear(&mut self) {
        self.length = 0;
        self.other = false;
        self.cut = false;
    }

    fn extend(&mut self, part: &[u8]) {
        if self.length == 0 {
            // `Content-Length`, `Transfer-Encoding`
            self.other |= part.first().is_some_and(|byte| !b"cCtT".contains(byte));
        }
        if self.other {
            return;
        }
        let room = self.bytes.len() - self.length;
        self.cut |= part.len() > room;
        let part = &part[..part.len().min(room)];
        self.bytes[self.length..self.length + part.len()].copy_from_slice(part);
        self.length += part.len();
    }

    /// The value of the line's field, if it is this one.
    fn value(&self, name: &str) -> Option<&[u8]> {
        let line = &self.bytes[..self.length];
        let (field, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        field.eq_ignore_ascii_case(name.as_bytes()).then_some(value.trim_ascii())
    }
}

/// The request line so far. Pingora would repair one with bytes that are not allowed in it, and
/// pass on what the client never asked for.
#[derive(Debug, Default)]
struct RequestLine {
    spaces: u8,
    bad: bool,
}

/// What a byte is in a request line.
#[derive(Clone, Copy)]
enum Use {
    Text,
    Space,
    Never,
}

/// What each byte is in a request line: looked up, because every byte of one is.
const IN_REQUEST_LINE: [Use; 256] = {
    let mut uses = [Use::Never; 256];
    let mut byte = 0;
    while byte < uses.len() {
        uses[byte] = match byte as u8 {
            b' ' => Use::Space,
            // The carriage return before the line's end; anywhere else the parser refuses it.
            b'\r' | b'!' | b'#'..=b';' | b'=' | b'?'..=b'~' => Use::Text,
            _ => Use::Never,
        };
        byte += 1;
    }
    uses
};

impl RequestLine {
    fn extend(&mut self, part: &[u8]) {
        for byte in part {
            match IN_REQUEST_LINE[usize::from(*byte)] {
                Use::Text => {}
                Use::Space => self.spaces = self.spaces.saturating_add(1),
                Use::Never => self.bad = true,
            }
        }
    }

    /// Method, target, version: two spaces between them and no other (RFC 9112, section 3).
    fn is_bad(&self) -> bool {
        self.bad || self.spaces != 2
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
        Self {
            max_bytes,
            max_fields,
            bytes: 0,
            lines: 0,
            line: Line::Empty,
            request_line: RequestLine::default(),
            start: Start::NEW,
            chunked: false,
            content_length: None,
            bad_length: false,
        }
    }

    /// Begins with the next head.
    pub(super) fn restart(&mut self) {
        self.bytes = 0;
        self.lines = 0;
        self.line = Line::Empty;
        self.request_line = RequestLine::default();
        self.start.clear();
        self.chunked = false;
        self.content_length = None;
        self.bad_length = false;
    }

    /// Whether the head says that a body comes in chunks.
    pub(super) fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// The length the head announces; 0 for none.
    pub(super) fn content_length(&self) -> u64 {
        self.content_length.unwrap_or(0)
    }

    /// Whether any byte of the current head was seen.
    pub(super) fn has_begun(&self) -> bool {
        self.bytes > 0
    }

    /// Looks at the next bytes and says how many of them are the head's.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> (Head, usize) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.extend_line(&rest[..end]);
            self.bytes += end + 1;
            rest = &rest[end + 1..];
            let read = bytes.len() - rest.len();
            if self.end_line() {
                if self.lines == 1 && self.request_line.is_bad() {
                    return (Head::BadRequestLine, read);
                }
                if self.bad_length {
                    return (Head::BadLength, read);
                }
            } else if self.lines > 0 {
                return (self.verdict(Head::Complete), read);
            }
        }
        self.extend_line(rest);
        self.bytes += rest.len();
        (self.verdict(Head::Partial), bytes.len())
    }

    fn extend_line(&mut self, part: &[u8]) {
        if self.lines == 0 {
            self.request_line.extend(part);
        } else {
            self.start.extend(part);
        }
        self.line = match (self.line, part) {
            (line, []) => line,
            (Line::Empty, [b'\r']) => Line::OnlyCarriageReturn,
            _ => Line::Filled,
        };
    }

    /// Ends a line; says whether there was anything on it.
    fn end_line(&mut self) -> bool {
        let filled = std::mem::replace(&mut self.line, Line::Empty) == Line::Filled;
        self.lines += usize::from(filled);
        if self.start.length == 0 {
            // Empty, or another field's.
        } else if self.start.value("transfer-encoding").is_some() {
            self.chunked = true;
        } else if let Some(value) = self.start.value("content-length") {
            let length = length(value).filter(|_| !self.start.cut);
            let same = self.content_length.is_none() || self.content_length == length;
            self.bad_length = length.is_none() || !same;
            self.content_length = length;
        }
        self.start.clear();
        filled
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

/// What a `Content-Length` says: digits alone, or a list that says the same several times (RFC 9110,
/// section 8.6).
fn length(value: &[u8]) -> Option<u64> {
    let mut lengths = value.split(|byte| *byte == b',').map(|one| {
        let digits = std::str::from_utf8(one.trim_ascii()).ok()?;
        let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| valid)
    });
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";

    #[test]
    fn head_ends_at_its_empty_line_wherever_reads_cut_it() {
        for size in 1..HEAD.len() {
            let mut meter = HeadMeter::new(1024, 10);
            let mut verdicts: Vec<Head> =
                HEAD.chunks(size).map(|part| meter.feed(part).0).collect();

            assert_eq!(verdicts.pop(), Some(Head::Complete), "in parts of {size}");
            assert!(verdicts.iter().all(|head| *head == Head::Partial));
        }
    }

    #[test]
    fn bytes_of_a_body_behind_the_head_are_not_counted() {
        let mut meter = HeadMeter::new(HEAD.len(), 2);
        let mut bytes = HEAD.to_vec();
        bytes.extend_from_slice(&[b'x'; 4096]);

        assert_eq!(meter.feed(&bytes), (Head::Complete, HEAD.len()));
    }

    #[test]
    fn empty_lines_before_the_request_line_are_skipped_but_bounded() {
        let mut meter = HeadMeter::new(64, 10);

        assert_eq!(meter.feed(b"\r\n\n\r\nGET / HTTP/1.0\n\n").0, Head::Complete);

        meter.restart();
        assert_eq!(meter.feed(&b"\r\n".repeat(40)).0, Head::TooLarge);
    }

    #[test]
    fn limits_are_met_exactly() {
        assert_eq!(HeadMeter::new(HEAD.len(), 2).feed(HEAD).0, Head::Complete);
        assert_eq!(HeadMeter::new(HEAD.len() - 1, 2).feed(HEAD).0, Head::TooLarge);
        assert_eq!(HeadMeter::new(HEAD.len(), 1).feed(HEAD).0, Head::TooManyFields);
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
                meter.feed(format!("{line}\r\n").as_bytes()).0,
                Head::BadRequestLine,
                "{line}"
            );
        }
    }

    #[test]
    fn a_length_that_others_may_read_otherwise_is_refused() {
        let zeros = "0".repeat(40);
        let spaces = " ".repeat(40);
        for fields in [
            format!("Content-Length: {zeros}44\r\n"),
            format!("content-length:{spaces}44\r\n"),
            "Content-Length: 44\r\nContent-Length: 45\r\n".to_owned(),
            "Content-Length: 44, 45\r\n".to_owned(),
            "Content-Length: +44\r\n".to_owned(),
            "Content-Length:\r\n".to_owned(),
            "Content-Length: 4 4\r\n".to_owned(),
            "Content-Length: 99999999999999999999\r\n".to_owned(),
        ] {
            let mut meter = HeadMeter::new(1024, 10);
            let head = format!("POST / HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(meter.feed(head.as_bytes()).0, Head::BadLength, "{fields}");
        }
    }

    #[test]
    fn a_length_said_twice_is_one() {
        for fields in ["Content-Length: 44\r\ncontent-length:44\r\n", "Content-Length: 44, 44\r\n"]
        {
            let mut meter = HeadMeter::new(1024, 10);
            let head = format!("POST / HTTP/1.1\r\n{fields}Cookie: {}\r\n\r\n", "c".repeat(99));
            assert_eq!(meter.feed(head.as_bytes()).0, Head::Complete, "{fields}");
            assert_eq!(meter.content_length(), 44);
        }
    }

    #[test]
    fn a_head_that_never_ends_is_cut_off() {
        let mut meter = HeadMeter::new(100, 10);

        assert_eq!(meter.feed(b"GET / HTTP/1.1\r\nX: ").0, Head::Partial);
        assert_eq!(meter.feed(&[b'a'; 100]).0, Head::TooLarge);
    }
}
