//! Percent-decoding of what is looked at, never of what is shown.

/// Longer texts are decoded on the heap.
const INLINE: usize = 512;
/// Encoded twice is common, more often is an attempt to hide.
const PASSES: usize = 3;

/// Hands over the text decoded until nothing is left to decode; `plus` stands for a space if asked.
pub(super) fn with_decoded<R>(text: &str, plus: bool, look: impl FnOnce(&[u8]) -> R) -> R {
    let mut inline = [0; INLINE];
    let mut heap = Vec::new();
    let buffer = match text.len() <= INLINE {
        true => &mut inline[..text.len()],
        false => {
            heap.resize(text.len(), 0);
            &mut heap[..]
        }
    };
    buffer.copy_from_slice(text.as_bytes());
    if plus {
        buffer.iter_mut().filter(|byte| **byte == b'+').for_each(|byte| *byte = b' ');
    }
    let mut length = buffer.len();
    for _ in 0..PASSES {
        let shorter = decode_in_place(&mut buffer[..length]);
        if shorter == length {
            break;
        }
        length = shorter;
    }
    look(&buffer[..length])
}

/// One pass; returns the new length. What is not a valid escape stays as it is.
fn decode_in_place(bytes: &mut [u8]) -> usize {
    let (mut read, mut write) = (0, 0);
    while read < bytes.len() {
        let escape = match bytes[read..] {
            [b'%', high, low, ..] => digit(high).zip(digit(low)),
            _ => None,
        };
        (bytes[write], read) = match escape {
            Some((high, low)) => (high << 4 | low, read + 3),
            None => (bytes[read], read + 1),
        };
        write += 1;
    }
    write
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str, plus: bool) -> Vec<u8> {
        with_decoded(text, plus, <[u8]>::to_vec)
    }

    #[test]
    fn escapes_are_decoded_also_when_encoded_more_than_once() {
        assert_eq!(decoded("a%40b", false), b"a@b");
        assert_eq!(decoded("a%2540b%252540c", false), b"a@b@c");
        assert_eq!(decoded("a+b%2B", true), b"a b+");
        assert_eq!(decoded("a+b", false), b"a+b");
    }

    #[test]
    fn broken_escapes_and_long_texts_are_survived() {
        assert_eq!(decoded("%", false), b"%");
        assert_eq!(decoded("%4", false), b"%4");
        assert_eq!(decoded("%zz%ff", false), b"%zz\xff");
        assert_eq!(decoded(&"%41".repeat(10_000), false), b"A".repeat(10_000));
    }
}
