//! A client of raw frames (RFC 9113) that says exactly what it is told, and reads as much of an
//! answer as a test asks about. It knows of HPACK (RFC 7541) only what that needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A HEADERS or CONTINUATION frame holds no more unless its receiver allows it.
const FRAME: usize = 16_384;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) type Field = (String, String);

/// A connection.
pub(crate) struct Frames {
    tcp: TcpStream,
    last: u32,
}

/// What became of a stream.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    pub(crate) body: Vec<u8>,
    /// The stream, or the connection with it, ended in an error.
    pub(crate) reset: bool,
}

/// The fields of a request to `test.example`.
pub(crate) fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<Field> {
    let pseudo =
        [(":method", method), (":scheme", "http"), (":authority", "test.example"), (":path", path)];
    let all = pseudo.iter().chain(fields);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Frames {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut frames = Self::over(address);
        frames.tcp.write_all(PREFACE).expect("the gateway takes the preface");
        frames.begin()
    }

    /// Connects with each byte of the preface in a packet of its own.
    #[track_caller]
    pub(crate) fn connect_slowly(address: SocketAddr) -> Self {
        let mut frames = Self::over(address);
        for byte in PREFACE {
            frames.tcp.write_all(&[*byte]).expect("the gateway takes the preface");
        }
        frames.begin()
    }

    fn over(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).expect("the gateway accepts");
        let patience = Some(Duration::from_secs(10));
        tcp.set_read_timeout(patience).expect("a timeout can be set");
        tcp.set_write_timeout(patience).expect("a timeout can be set");
        tcp.set_nodelay(true).expect("nodelay can be set");
        // Streams of clients are odd.
        Self { tcp, last: u32::MAX }
    }

    /// Says that there is no dynamic table, so that every status is written out.
    fn begin(mut self) -> Self {
        self.write(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        // The table's size holds for what the gateway writes after it has seen the settings.
        loop {
            let (kind, flags, _, _) = self.read().expect("the gateway answers settings");
            match (kind, flags & ACK) {
                (SETTINGS, ACK) => return self,
                (SETTINGS, _) => self.write(SETTINGS, ACK, 0, &[]),
                _ => {}
            }
        }
    }

    /// A GET request and what becomes of it.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        let stream = self.headers(&request("GET", path, &[]), true);
        self.answer(stream)
    }

    /// Opens a stream with these fields, in as many frames as they need, and returns its number.
    pub(crate) fn headers(&mut self, fields: &[Field], end: bool) -> u32 {
        self.last = self.last.wrapping_add(2);
        let block: Vec<u8> = fields.iter().flat_map(literal).collect();
        let mut parts = block.chunks(FRAME).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let ends = if parts.peek().is_none() { END_HEADERS } else { 0 };
            let flags = ends | if kind == HEADERS && end { END_STREAM } else { 0 };
            self.write(kind, flags, self.last, part);
            kind = CONTINUATION;
        }
        self.last
    }

    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8], end: bool) {
        self.write(DATA, if end { END_STREAM } else { 0 }, stream, bytes);
    }

    /// Reads until a stream has ended.
    ///
    /// # Panics
    /// It does not end in time.
    #[track_caller]
    pub(crate) fn answer(&mut self, stream: u32) -> Answer {
        let mut answer = Answer::default();
        loop {
            let (kind, flags, of, payload) = match self.read() {
                Ok(frame) => frame,
                Err(error) if is_silence(&error) => {
                    panic!("stream {stream} has no end: {answer:?}")
                }
                Err(_) => return Answer { reset: true, ..answer },
            };
            match kind {
                SETTINGS if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => self.write(PING, ACK, 0, &payload),
                GOAWAY if payload.get(4..8) != Some(&[0; 4]) => {
                    return Answer { reset: true, ..answer };
                }
                RST_STREAM if of == stream => {
                    // NO_ERROR behind a whole answer asks to stop sending (RFC 9113, 8.1).
                    return Answer { reset: payload != [0; 4], ..answer };
                }
                HEADERS if of == stream && answer.status.is_none() => {
                    answer.status = status(&payload);
                }
                DATA => {
                    if of == stream {
                        answer.body.extend_from_slice(&payload);
                    }
                    self.make_room(of, payload.len());
                }
                _ => {}
            }
            if of == stream && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return answer;
            }
        }
    }

    fn make_room(&mut self, stream: u32, length: usize) {
        let Some(room) = u32::try_from(length).ok().filter(|room| *room > 0) else { return };
        for of in [0, stream] {
            self.write(WINDOW_UPDATE, 0, of, &room.to_be_bytes());
        }
    }

    /// A head that puts a long field into the dynamic table, and names it again and again (RFC 7541, section 6.1).
    pub(crate) fn bomb(&mut self, fields: &[Field]) {
        self.last = self.last.wrapping_add(2);
        let mut block: Vec<u8> = fields.iter().flat_map(literal).collect();
        let long = vec![b'x'; 3_900];
        // A literal with indexing and a new name; 127 and more take further bytes.
        block.extend([0x40, 1, b'b', 0x7f]);
        let mut left = long.len() - 127;
        while left >= 128 {
            block.push(u8::try_from(left % 128).expect("it is short") | 0x80);
            left /= 128;
        }
        block.push(u8::try_from(left).expect("it is short"));
        block.extend(long);
        block.extend([0x80 | 62; 8_000]);
        self.write(HEADERS, END_STREAM | END_HEADERS, self.last, &block);
    }

    /// A stream that is opened and given up at once.
    pub(crate) fn give_up(&mut self, fields: &[Field]) {
        let stream = self.headers(fields, true);
        self.write(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    }

    /// The same frame again and again, up to `most` times, or until nobody takes any more.
    pub(crate) fn flood(&mut self, kind: u8, flags: u8, payload: &[u8], most: usize) {
        let stream = if [SETTINGS, PING].contains(&kind) { 0 } else { self.last };
        let frames = framed(kind, flags, stream, payload).repeat(100);
        for _ in 0..most / 100 {
            if self.tcp.write_all(&frames).is_err() {
                return;
            }
        }
    }

    /// The error that the gateway says goodbye with, if it does.
    pub(crate) fn goodbye(&mut self) -> Option<u32> {
        while let Ok((kind, _, _, payload)) = self.read() {
            if kind == GOAWAY {
                return payload
                    .get(4..8)
                    .and_then(|code| Some(u32::from_be_bytes(code.try_into().ok()?)));
            }
        }
        None
    }

    fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        // A gateway that has closed says so when it is read from.
        let _ = self.tcp.write_all(&framed(kind, flags, stream, payload));
    }

    fn read(&mut self) -> std::io::Result<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.tcp.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.tcp.read_exact(&mut payload)?;
        Ok((kind, flags, u32::from_be_bytes(stream) & 0x7fff_ffff, payload))
    }
}

fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn is_silence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

/// A field as a literal without indexing, with a new name, without Huffman (RFC 7541, 6.2.2).
fn literal((name, value): &Field) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        length(text.len(), &mut bytes);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// An integer with a prefix of 7 bits (RFC 7541, 5.1).
fn length(length: usize, bytes: &mut Vec<u8>) {
    if length < 127 {
        return bytes.push(length as u8);
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

/// The status at the beginning of a header block: from the static table, or a literal under its
/// name there.
fn status(mut block: &[u8]) -> Option<u16> {
    // Changes of the table's size come first.
    while block.first().is_some_and(|byte| byte & 0xe0 == 0x20) {
        block = &block[1..];
    }
    let from_table = [200, 204, 206, 304, 400, 404, 500];
    match *block {
        [index @ 0x88..=0x8e, ..] => Some(from_table[usize::from(index - 0x88)]),
        [0x48 | 0x08 | 0x18, length, ref rest @ ..] => {
            let value = rest.get(..usize::from(length & 0x7f))?;
            if length & 0x80 == 0 {
                std::str::from_utf8(value).ok()?.parse().ok()
            } else {
                digits(value)
            }
        }
        _ => None,
    }
}

/// Three digits in the code of RFC 7541, appendix B: 0 to 2 have 5 bits, the others 6.
fn digits(coded: &[u8]) -> Option<u16> {
    let mut bits: Vec<u8> = Vec::new();
    for byte in coded {
        bits.extend((0..8).rev().map(|shift| byte >> shift & 1));
    }
    let take = |bits: &mut Vec<u8>, count: usize| {
        (bits.len() >= count)
            .then(|| bits.drain(..count).fold(0_u16, |all, bit| all << 1 | u16::from(bit)))
    };
    let mut number = 0;
    for _ in 0..3 {
        let short = take(&mut bits, 5)?;
        let digit =
            if short <= 2 { short } else { (short << 1 | take(&mut bits, 1)?) - 0b01_1001 + 3 };
        number = number * 10 + digit;
    }
    Some(number)
}
