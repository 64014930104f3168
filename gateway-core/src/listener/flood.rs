//! Floods of HTTP/2: frames that cost the gateway more than they cost who sends them. Counted below HTTP, where they
//! are seen before anything is done about them.

use std::time::Instant;

/// What a connection begins with (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// The head of a frame.
const HEAD: usize = 9;
/// More frames for one head of a message are sent by nobody (CVE-2024-27316 and others).
const CONTINUATIONS: u32 = 32;

/// So many may come together, and so many more each second.
#[derive(Clone, Copy)]
struct Rate {
    together: f64,
    second: f64,
}

const fn rate(together: f64, second: f64) -> Rate {
    Rate { together, second }
}

/// Kinds of frames that are counted.
#[derive(Clone, Copy)]
enum Kind {
    /// Streams that are given up, beyond every second one that is opened: who opens them again and again has work done for nothing (CVE-2023-44487).
    Reset,
    /// Each has to be answered. Clients that measure the way send one for each answer on a short one.
    Ping,
    /// Each has to be answered, and may change every stream (CVE-2019-9515).
    Settings,
    /// They mean nothing (section 5.3.2), and neither does what is not known.
    Nothing,
    /// Data without data (CVE-2019-9518).
    Empty,
    Window,
}

const RATES: [Rate; 6] = [
    rate(500.0, 100.0),
    rate(2_000.0, 20_000.0),
    rate(100.0, 10.0),
    rate(1_000.0, 100.0),
    rate(1_000.0, 100.0),
    rate(500_000.0, 500_000.0),
];

/// Too many frames of a kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flood;

/// The frames of one connection, as they come.
pub(super) struct Frames {
    /// What is still to come of the preface.
    preface: usize,
    head: [u8; HEAD],
    held: usize,
    /// What is still to come of a frame's payload.
    left: usize,
    continuations: u32,
    /// How many may come now, of each kind.
    room: [f64; RATES.len()],
    /// When that was told.
    told: Instant,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            preface: PREFACE,
            head: [0; HEAD],
            held: 0,
            left: 0,
            continuations: 0,
            room: RATES.map(|rate| rate.together),
            told: Instant::now(),
        }
    }

    /// Looks at what came.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let skipped = if self.preface > 0 { &mut self.preface } else { &mut self.left };
            if *skipped > 0 {
                let length = (*skipped).min(bytes.len());
                *skipped -= length;
                bytes = &bytes[length..];
                continue;
            }
            let length = (HEAD - self.held).min(bytes.len());
            self.head[self.held..self.held + length].copy_from_slice(&bytes[..length]);
            self.held += length;
            bytes = &bytes[length..];
            if self.held == HEAD {
                self.held = 0;
                self.left = usize::from(self.head[0]) << 16
                    | usize::from(self.head[1]) << 8
                    | usize::from(self.head[2]);
                self.count()?;
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Flood> {
        const ACK: u8 = 1;
        const END_STREAM: u8 = 1;
        let (kind, flags) = (self.head[3], self.head[4]);
        if kind == 9 {
            self.continuations += 1;
            return if self.continuations > CONTINUATIONS { Err(Flood) } else { Ok(()) };
        }
        self.continuations = 0;
        let kind = match kind {
            0 if self.left == 0 && flags & END_STREAM == 0 => Kind::Empty,
            0 => return Ok(()),
            1 => {
                let reset = Kind::Reset as usize;
                self.room[reset] = (self.room[reset] + 0.5).min(RATES[reset].together);
                return Ok(());
            }
            3 => Kind::Reset,
            4 if flags & ACK == 0 => Kind::Settings,
            6 if flags & ACK == 0 => Kind::Ping,
            // They answer ours.
            4 | 6 => return Ok(()),
            8 => Kind::Window,
            _ => Kind::Nothing,
        };
        let room = &mut self.room[kind as usize];
        *room -= 1.0;
        if *room >= 0.0 {
            return Ok(());
        }
        // The clock is asked only where it matters.
        let now = Instant::now();
        let since = now.duration_since(self.told).as_secs_f64();
        self.told = now;
        for (room, rate) in self.room.iter_mut().zip(RATES) {
            *room = (*room + since * rate.second).min(rate.together);
        }
        if self.room[kind as usize] < 0.0 { Err(Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + payload, 7);
        frame
    }

    fn fed(frame: &[u8], times: usize, chunk: usize) -> Result<(), Flood> {
        let mut frames = Frames::new();
        frames.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        frame.repeat(times).chunks(chunk).try_for_each(|chunk| frames.feed(chunk))
    }

    #[test]
    fn floods_are_told_from_what_clients_send() {
        for (kind, flags, payload, few, many) in [
            (3, 0, 4, 500, 700),
            (6, 0, 8, 2_000, 60_000),
            (4, 0, 6, 100, 150),
            (2, 0, 5, 1_000, 1_200),
            (0, 0, 0, 1_000, 1_200),
            (77, 0, 3, 1_000, 1_200),
            (9, 0, 0, 32, 33),
            (8, 0, 4, 500_000, 2_000_000),
        ] {
            let frame = frame(kind, flags, payload);
            for chunk in [7, 9, 16_384] {
                assert_eq!(fed(&frame, few, chunk), Ok(()), "{kind} {chunk}");
                assert_eq!(fed(&frame, many, chunk), Err(Flood), "{kind} {chunk}");
            }
        }
    }

    #[test]
    fn what_means_something_is_not_counted() {
        for (kind, flags, payload) in [(0, 0, 1), (0, 1, 0), (1, 4, 20), (4, 1, 0), (6, 1, 8)] {
            assert_eq!(fed(&frame(kind, flags, payload), 100_000, 4096), Ok(()), "{kind}");
        }
    }

    #[test]
    fn time_brings_room_back() {
        let reset = frame(3, 0, 4);
        let mut frames = Frames::new();
        frames.feed(&[0; PREFACE]).unwrap();
        frames.feed(&reset.repeat(500)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(frames.feed(&reset.repeat(8)), Ok(()));
        assert_eq!(frames.feed(&reset.repeat(100)), Err(Flood));
    }
}
