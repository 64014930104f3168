//! Numbers with check digits: payment cards (Luhn) and IBANs (mod 97).

use std::ops::Range;

const CARD_DIGITS: usize = 19;

/// Finds payment card numbers, written in one piece or in groups.
pub(super) fn cards(text: &[u8], found: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while at < text.len() {
        if !text[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end = match starts_number(text, at) {
            true => card_at(text, at),
            false => None,
        };
        found.extend(end.map(|end| at..end));
        at = end.unwrap_or(at + digits_at(text, at));
    }
}

/// The end of the longest card number that begins here.
fn card_at(text: &[u8], start: usize) -> Option<usize> {
    let mut digits = [0; CARD_DIGITS];
    let (mut count, mut at, mut best) = (0, start, None);
    loop {
        let group = digits_at(text, at);
        if group == 0 || count + group > CARD_DIGITS {
            return best;
        }
        digits[count..count + group].copy_from_slice(&text[at..at + group]);
        count += group;
        at += group;
        if ends_number(text, at) && is_card(&digits[..count]) {
            best = Some(at);
        }
        let usual = if count == group { group == 4 } else { (3..=6).contains(&group) };
        if !usual || !text.get(at).is_some_and(|byte| is_gap(*byte)) {
            return best;
        }
        at += 1;
    }
}

/// Issuer ranges and their lengths, then the check digit (ISO/IEC 7812-1).
fn is_card(digits: &[u8]) -> bool {
    if digits.len() < 13 {
        return false;
    }
    let start = digits[..4].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let issued = matches!(
        (start, digits.len()),
        (4000..=4999, 13 | 16 | 19)
            | (2221..=2720 | 5100..=5599, 16)
            | (3400..=3499 | 3700..=3799, 15)
            | (3000..=3059 | 3095 | 3600..=3699 | 3800..=3999, 14..=19)
            | (2200..=2204 | 3528..=3589 | 5000..=5099 | 5600..=6999 | 8100..=8199, 16..=19)
    );
    issued && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(digit - b'0')) {
            (0, digit) => digit,
            (_, digit) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Finds IBANs, written in one piece or in groups, in either case.
pub(super) fn ibans(text: &[u8], found: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while at + 15 <= text.len() {
        // The third and fourth characters are digits, so none begins here nor at the next place.
        if !text[at + 3].is_ascii_digit() {
            at += 2;
            continue;
        }
        let end = match text[at..] {
            [a, b, c, d, ..]
                if c.is_ascii_digit()
                    && d.is_ascii_digit()
                    && a.is_ascii_alphabetic()
                    && b.is_ascii_alphabetic()
                    && (at == 0 || !text[at - 1].is_ascii_alphanumeric()) =>
            {
                iban_at(text, at)
            }
            _ => None,
        };
        found.extend(end.map(|end| at..end));
        at = end.unwrap_or(at + 1);
    }
}

fn iban_at(text: &[u8], start: usize) -> Option<usize> {
    let country = [text[start].to_ascii_uppercase(), text[start + 1].to_ascii_uppercase()];
    let length = IBAN_LENGTHS.iter().find(|(code, _)| **code == country)?.1;
    let mut iban = [0; 34];
    let mut at = start;
    for (count, character) in iban.iter_mut().enumerate().take(length) {
        let gap = count > 0 && text.get(at).is_some_and(|byte| is_gap(*byte));
        at += usize::from(gap);
        *character = *text.get(at).filter(|byte| byte.is_ascii_alphanumeric())?;
        at += 1;
    }
    let bounded = !text.get(at).is_some_and(u8::is_ascii_alphanumeric);
    (bounded && mod_97(&iban[..length]) == 1).then_some(at)
}

/// ISO 7064 MOD 97-10 over the number with its first four characters moved to the end.
fn mod_97(iban: &[u8]) -> u32 {
    iban[4..].iter().chain(&iban[..4]).fold(0, |rest, character| {
        match char::from(*character).to_digit(36) {
            Some(value @ 0..=9) => (rest * 10 + value) % 97,
            value => (rest * 100 + value.unwrap_or_default()) % 97,
        }
    })
}

fn digits_at(text: &[u8], at: usize) -> usize {
    text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn is_gap(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'+')
}

/// Not glued to a letter and not the fraction of a decimal.
fn starts_number(text: &[u8], at: usize) -> bool {
    match text[..at] {
        [.., before, b'.'] => !before.is_ascii_digit(),
        [.., before] => !before.is_ascii_alphanumeric(),
        [] => true,
    }
}

fn ends_number(text: &[u8], at: usize) -> bool {
    match text[at..] {
        [b'.', after, ..] => !after.is_ascii_digit(),
        [after, ..] => !after.is_ascii_alphanumeric(),
        [] => true,
    }
}

/// Countries of the IBAN registry and the length of their numbers.
#[rustfmt::skip]
const IBAN_LENGTHS: [(&[u8; 2], usize); 88] = [
    (b"AD", 24), (b"AE", 23), (b"AL", 28), (b"AT", 20), (b"AZ", 28), (b"BA", 20), (b"BE", 16),
    (b"BG", 22), (b"BH", 22), (b"BI", 27), (b"BR", 29), (b"BY", 28), (b"CH", 21), (b"CR", 22),
    (b"CY", 28), (b"CZ", 24), (b"DE", 22), (b"DJ", 27), (b"DK", 18), (b"DO", 28), (b"EE", 20),
    (b"EG", 29), (b"ES", 24), (b"FI", 18), (b"FK", 18), (b"FO", 18), (b"FR", 27), (b"GB", 22),
    (b"GE", 22), (b"GI", 23), (b"GL", 18), (b"GR", 27), (b"GT", 28), (b"HN", 28), (b"HR", 21),
    (b"HU", 28), (b"IE", 22), (b"IL", 23), (b"IQ", 23), (b"IS", 26), (b"IT", 27), (b"JO", 30),
    (b"KW", 30), (b"KZ", 20), (b"LB", 28), (b"LC", 32), (b"LI", 21), (b"LT", 20), (b"LU", 20),
    (b"LV", 21), (b"LY", 25), (b"MC", 27), (b"MD", 24), (b"ME", 22), (b"MK", 19), (b"MN", 20),
    (b"MR", 27), (b"MT", 31), (b"MU", 30), (b"NI", 28), (b"NL", 18), (b"NO", 15), (b"OM", 23),
    (b"PK", 24), (b"PL", 28), (b"PS", 29), (b"PT", 25), (b"QA", 29), (b"RO", 24), (b"RS", 22),
    (b"RU", 33), (b"SA", 24), (b"SC", 31), (b"SD", 18), (b"SE", 24), (b"SI", 19), (b"SK", 24),
    (b"SM", 27), (b"SO", 23), (b"ST", 25), (b"SV", 28), (b"TL", 23), (b"TN", 24), (b"TR", 26),
    (b"UA", 29), (b"VA", 22), (b"VG", 24), (b"YE", 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(find: fn(&[u8], &mut Vec<Range<usize>>), text: &str) -> Vec<String> {
        let mut ranges = Vec::new();
        find(text.as_bytes(), &mut ranges);
        ranges.into_iter().map(|range| text[range].to_owned()).collect()
    }

    #[test]
    fn cards_are_found_in_one_piece_and_in_groups() {
        for card in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "5555555555554444",
            "2223003122003222",
            "3782 822463 10005",
            "30569309025904",
            "6011000990139424",
            "3566002020360505",
        ] {
            let text = format!("12 {card}, then 2024-05-01");
            assert_eq!(found(cards, &text), [card], "{card}");
        }
    }

    #[test]
    fn other_numbers_are_not_cards() {
        for text in [
            "4111111111111112",
            "411111111111111111111111",
            "a4111111111111111",
            "4111111111111111b",
            "0.4111111111111111",
            "4111111111111111.5",
            "1763668168123456",
            "9111111111111111",
            "550e8400-e29b-41d4-a716-446655440000",
        ] {
            assert!(found(cards, text).is_empty(), "{text}");
        }
    }

    #[test]
    fn ibans_are_found_in_one_piece_and_in_groups() {
        for iban in [
            "DE89370400440532013000",
            "de89 3704 0044 0532 0130 00",
            "GB82 WEST 1234 5698 7654 32",
            "NO9386011117947",
            "MT84MALT011000012345MTLCAST001S",
        ] {
            assert_eq!(found(ibans, &format!("to:{iban} now")), [iban]);
        }
    }

    #[test]
    fn other_words_are_not_ibans() {
        for text in [
            "DE88370400440532013000",
            "DE8937040044053201300",
            "DE893704004405320130001",
            "xDE89370400440532013000",
            "ZZ89370400440532013000",
        ] {
            assert!(found(ibans, text).is_empty(), "{text}");
        }
    }
}
