//! Bytes of numbers, times and texts, appended without allocation.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A decimal number.
pub(super) fn push_number(line: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[start..]);
}

/// Milliseconds with three decimals.
pub(super) fn push_millis(line: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    push_number(line, micros / 1000);
    line.push(b'.');
    push_padded(line, micros % 1000, 3);
}

/// RFC 3339 in UTC with milliseconds; times before 1970 count as its beginning.
pub(super) fn push_time(line: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    for (number, width, end) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (second / 3600, 2, b':'),
        (second / 60 % 60, 2, b':'),
        (second % 60, 2, b'.'),
        (since.subsec_millis().into(), 3, b'Z'),
    ] {
        push_padded(line, number, width);
        line.push(end);
    }
}

/// A moment as lines of the log have it: RFC 3339 in UTC with milliseconds.
pub(crate) fn utc(time: SystemTime) -> String {
    let mut text = Vec::new();
    push_time(&mut text, time);
    String::from_utf8(text).unwrap_or_default()
}

/// The Gregorian date of a day since 1970-01-01, counted in eras of 400 years from 0000-03-01.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn push_padded(line: &mut Vec<u8>, number: u64, width: u32) {
    for place in (0..width).rev() {
        line.push(b'0' + (number / 10u64.pow(place) % 10) as u8);
    }
}

/// An address; IPv4 without the machinery of `fmt`.
pub(super) fn push_ip(line: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (place, octet) in v4.octets().into_iter().enumerate() {
                if place > 0 {
                    line.push(b'.');
                }
                push_number(line, octet.into());
            }
        }
        IpAddr::V6(v6) => {
            let _ = write!(line, "{v6}");
        }
    }
}

/// The inside of a JSON string (RFC 8259, section 7). All control characters are escaped, also
/// those above ASCII: they would steer the terminal of whoever reads the log.
pub(super) fn push_escaped(line: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let above_ascii = *byte == 0xc2 && matches!(bytes.get(at + 1), Some(0x80..=0x9f));
        if !above_ascii && !matches!(byte, 0..=0x1f | b'"' | b'\\' | 0x7f) {
            continue;
        }
        line.extend_from_slice(&bytes[done..at]);
        let code = if above_ascii { bytes[at + 1] } else { *byte };
        done = at + 1 + usize::from(above_ascii);
        push_escape(line, code);
    }
    line.extend_from_slice(&bytes[done..]);
}

fn push_escape(line: &mut Vec<u8>, code: u8) {
    match code {
        b'"' | b'\\' => line.extend_from_slice(&[b'\\', code]),
        b'\n' => line.extend_from_slice(b"\\n"),
        b'\r' => line.extend_from_slice(b"\\r"),
        b'\t' => line.extend_from_slice(b"\\t"),
        _ => {
            let _ = write!(line, "\\u{code:04x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        write(&mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn times_are_written_in_rfc_3339() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_763_668_168_123, "2025-11-20T19:49:28.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(written(|line| push_time(line, time)), expected);
        }
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(written(|line| push_time(line, before)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn numbers_and_addresses_are_written_as_the_standard_library_does() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            assert_eq!(written(|line| push_number(line, number)), number.to_string());
        }
        for address in ["0.0.0.0", "203.0.113.255", "2001:db8::1"] {
            assert_eq!(written(|line| push_ip(line, address.parse().unwrap())), address);
        }
        assert_eq!(written(|line| push_millis(line, Duration::from_micros(1_000_007))), "1000.007");
        assert_eq!(written(|line| push_millis(line, Duration::MAX)), "18446744073709551.615");
    }
}
