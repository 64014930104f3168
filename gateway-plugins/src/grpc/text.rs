//! Base64 as `application/grpc-web-text` has it: pieces one after the other, each with its own padding.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// How many letters are decoded together.
const GROUP: usize = 4;

/// Decodes a body as it comes.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// The letters of a group that is not complete.
    rest: Vec<u8>,
}

/// A body that is no base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not base64")]
pub(crate) struct Unreadable;

impl Text {
    /// What the next piece of the body says.
    ///
    /// # Errors
    /// Nothing, or it is the last one and ends amid a group.
    pub(crate) fn push(&mut self, piece: &[u8], last: bool) -> Result<Vec<u8>, Unreadable> {
        let mut bytes = Vec::with_capacity((self.rest.len() + piece.len()) / GROUP * 3);
        let mut piece = piece;
        if !self.rest.is_empty() {
            let (more, after) = piece.split_at(piece.len().min(GROUP - self.rest.len()));
            self.rest.extend_from_slice(more);
            piece = after;
            if self.rest.len() == GROUP {
                decode(&self.rest, &mut bytes)?;
                self.rest.clear();
            }
        }
        let (groups, rest) = piece.split_at(piece.len() / GROUP * GROUP);
        decode(groups, &mut bytes)?;
        self.rest.extend_from_slice(rest);
        if last && !self.rest.is_empty() { Err(Unreadable) } else { Ok(bytes) }
    }

    /// Whether all that has come is decoded.
    pub(crate) fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Decodes whole groups. Padding ends what one call of the decoder takes, so that each padded group ends one.
fn decode(mut groups: &[u8], bytes: &mut Vec<u8>) -> Result<(), Unreadable> {
    while !groups.is_empty() {
        let padded = memchr::memchr(b'=', groups).map(|place| (place / GROUP + 1) * GROUP);
        let (first, after) = groups.split_at(padded.unwrap_or(groups.len()));
        BASE64_STANDARD.decode_vec(first, bytes).map_err(|_| Unreadable)?;
        groups = after;
    }
    Ok(())
}

/// One piece of a body, which can be decoded by itself.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str, size: usize) -> Result<Vec<u8>, Unreadable> {
        let mut decoder = Text::default();
        let mut bytes = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            bytes.extend(decoder.push(piece, false)?);
        }
        bytes.extend(decoder.push(b"", true)?);
        Ok(bytes)
    }

    #[test]
    fn pieces_with_padding_of_their_own_are_read_however_they_come() {
        let parts: [&[u8]; 5] = [b"a", b"bc", b"def", b"", b"\xff\xfe\xfd\xfc"];
        let text: String = parts.iter().map(|part| encoded(part)).collect();

        for size in 1..=text.len() {
            assert_eq!(decoded(&text, size), Ok(parts.concat()), "{size}");
        }
    }

    #[test]
    fn what_is_no_base64_is_told() {
        for text in [
            "YQ", "YQ=", "YQ=A", "=AAA", "====", "Y===", "YWJj!", "YW Jj", "YWJj\n", "YR==", "-_-_",
        ] {
            for size in 1..=text.len() {
                assert_eq!(decoded(text, size), Err(Unreadable), "{text}");
            }
        }
    }
}
