//! Lower-case hex digits and short texts of a fixed length.

use std::fmt;

/// A text of exactly `N` ASCII characters that needs no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ascii<const N: usize>([u8; N]);

impl<const N: usize> Ascii<N> {
    /// Bytes outside ASCII become `?`.
    pub(super) fn new(bytes: [u8; N]) -> Ascii<N> {
        Ascii(bytes.map(|byte| if byte.is_ascii() { byte } else { b'?' }))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text as bytes, for header values.
    pub fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> fmt::Display for Ascii<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Ascii<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Writes two digits a byte; `out` is twice as long as `bytes`.
pub(super) fn encode_lower(bytes: &[u8], out: &mut [u8]) {
    static PAIRS: [[u8; 2]; 256] = pairs();
    for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = PAIRS[usize::from(*byte)];
    }
}

const fn pairs() -> [[u8; 2]; 256] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
}

/// Lower-case digits, two a byte.
pub fn lower_hex(bytes: &[u8]) -> String {
    let mut digits = vec![0; 2 * bytes.len()];
    encode_lower(bytes, &mut digits);
    digits.into_iter().map(char::from).collect()
}

/// Reads exactly `N` bytes from `2 * N` lower-case digits; none for anything else.
pub(super) fn decode_lower<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = lower_digit(pair[0])? << 4 | lower_digit(pair[1])?;
    }
    Some(bytes)
}

fn lower_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_a_round_trip() {
        let bytes: [u8; 256] = std::array::from_fn(|byte| byte as u8);
        let mut digits = [0; 512];
        encode_lower(&bytes, &mut digits);

        assert_eq!(decode_lower(&digits), Some(bytes));
    }

    #[test]
    fn upper_case_other_characters_and_other_lengths_are_refused() {
        for digits in ["", "0", "000", "0A", "0g", "-1", "é"] {
            assert_eq!(decode_lower::<1>(digits.as_bytes()), None, "{digits}");
        }
    }
}
