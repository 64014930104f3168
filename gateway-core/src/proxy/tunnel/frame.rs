//! The frames of WebSocket (RFC 6455, section 5.2), as far as it has to be known where one ends.

/// The longest head of a frame.
const LONGEST: usize = 14;
/// Who goes away says so with this status (RFC 6455, section 7.4.1).
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();

/// Where the frames of one direction end.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; LONGEST],
    held: usize,
    /// What is still to come of the frame's payload.
    left: u64,
    /// The frame is the last of its direction.
    closes: bool,
}

impl Frames {
    /// Whether what went by ended with a frame.
    pub(super) fn at_end(&self) -> bool {
        self.held == 0 && self.left == 0
    }

    /// Looks at what goes by. Returns where in it the first frame ends, if one does.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut first) = (0, None);
        while at < bytes.len() {
            if self.left > 0 {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.left -= length as u64;
                at += length;
            } else {
                self.head[self.held] = bytes[at];
                self.held += 1;
                at += 1;
                let Some(payload) = self.payload() else { continue };
                self.closes |= self.head[0] & 0x0f == 8;
                (self.left, self.held) = (payload, 0);
            }
            if self.at_end() && first.is_none() {
                first = Some(at);
            }
        }
        first
    }

    /// Whether a close frame began.
    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    /// The length of the payload, once the head is whole.
    fn payload(&self) -> Option<u64> {
        if self.held < 2 {
            return None;
        }
        let (masked, length) = (self.head[1] & 0x80 != 0, self.head[1] & 0x7f);
        let more = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let whole = 2 + more + if masked { 4 } else { 0 };
        if self.held < whole {
            return None;
        }
        let mut wide = [0; 8];
        wide[8 - more..].copy_from_slice(&self.head[2..2 + more]);
        Some(if more == 0 { length.into() } else { u64::from_be_bytes(wide) })
    }
}

/// A frame that says that the connection ends. Those to a server are masked (section 5.3).
pub(super) fn goodbye(to_server: bool) -> Vec<u8> {
    if !to_server {
        return [&[0x88, 2], &GOING_AWAY[..]].concat();
    }
    let mask: [u8; 4] = rand::random();
    let masked = [GOING_AWAY[0] ^ mask[0], GOING_AWAY[1] ^ mask[1]];
    [&[0x88, 0x82], &mask[..], &masked].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        let mask = if masked { 0x80 } else { 0 };
        match length {
            0..126 => frame.push(mask | u8::try_from(length).unwrap()),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(masked.then_some([1, 2, 3, 4]).into_iter().flatten());
        frame.resize(frame.len() + length, b'x');
        frame
    }

    #[test]
    fn ends_of_frames_are_found_however_they_are_cut() {
        let frames =
            [(1, true, 0), (2, false, 125), (1, true, 126), (2, true, 70_000), (9, false, 3)];
        let all: Vec<Vec<u8>> =
            frames.iter().map(|(op, mask, length)| frame(*op, *mask, *length)).collect();
        let text = all.concat();
        let mut ends = Vec::new();
        all.iter().fold(0, |at, one| {
            ends.push(at + one.len());
            at + one.len()
        });
        for size in [1, 2, 3, 7, 1000, text.len()] {
            let (mut frames, mut at) = (Frames::default(), 0);
            for chunk in text.chunks(size) {
                let found = frames.pass(chunk).map(|end| at + end);
                let expected = ends.iter().find(|end| (at + 1..=at + chunk.len()).contains(end));
                assert_eq!(found, expected.copied(), "{size}");
                at += chunk.len();
                assert_eq!(frames.at_end(), ends.contains(&at), "{size} {at}");
            }
            assert!(!frames.closes());
        }
    }

    #[test]
    fn the_goodbye_is_a_frame_that_closes() {
        for to_server in [true, false] {
            let mut frames = Frames::default();
            let bytes = goodbye(to_server);
            assert_eq!(frames.pass(&bytes), Some(bytes.len()));
            assert!(frames.closes() && frames.at_end());
        }
    }
}
