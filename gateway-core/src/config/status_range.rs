//! Ranges of statuses, such as those that a health check takes for good.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::scalar::{Invalid, Scalar, scalar};

/// A status, or a range of them: `503`, `500-599`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRange(pub RangeInclusive<u16>);

impl Scalar for StatusRange {
    const FORMAT: &'static str = "status-range";
    const EXPECTS: &'static str = "a status from 100 to 599, or a range such as `500-599`";
    const PATTERN: &'static str = "^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$";
    const NUMBERS: bool = true;
}

impl FromStr for StatusRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = |text: &str| text.parse::<u16>().ok().filter(|one| (100..=599).contains(one));
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let range = number(from).zip(number(to)).map(|(from, to)| from..=to);
        range
            .filter(|range| !range.is_empty())
            .map(Self)
            .ok_or_else(|| Invalid::new(format!("expected {}, got `{text}`", Self::EXPECTS)))
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.start(), self.0.end()) {
            (from, to) if from == to => write!(f, "{from}"),
            (from, to) => write!(f, "{from}-{to}"),
        }
    }
}

scalar!(StatusRange);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for (text, range) in [("503", 503..=503), ("500-599", 500..=599), ("200-200", 200..=200)] {
            assert_eq!(text.parse::<StatusRange>().unwrap().0, range);
        }
        assert_eq!(StatusRange(500..=599).to_string(), "500-599");
        for bad in ["", "99", "600", "500-", "599-500", "5xx", "-500", "500-599-600"] {
            assert!(bad.parse::<StatusRange>().is_err(), "{bad}");
        }
    }
}
