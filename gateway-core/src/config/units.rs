//! Units, which are part of the value: durations `1h30m`, sizes `64KiB`, shares `5%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::scalar::{Invalid, Scalar, scalar};

/// A length of time: `250ms`, `10s`, `5m`, `1h30m`, `2d`; `0` needs no unit. At most 3650d.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// A number of bytes: `512`, `64KiB`, `10MB`, `1GiB`. `k`, `m` and `g` alone count by 1024.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// A share from `0%` to `100%`; holds the figure before the sign.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl Percent {
    /// The share as a figure from 0 to 1.
    pub fn fraction(self) -> f64 {
        self.0 / 100.0
    }
}

impl Span {
    /// So many whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Whether this is `0`, which turns a limit off where it may be turned off.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// Units of time in milliseconds, the longest first.
const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const LONGEST_MS: u64 = 3650 * 86_400_000;

impl Scalar for Span {
    const FORMAT: &'static str = "gateway-duration";
    const EXPECTS: &'static str = "a duration such as `10s`";
    const PATTERN: &'static str = r"^(0|(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?)$";
    const NUMBERS: bool = true;
}

impl FromStr for Span {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new(format!("expected {}, got `{text}`", Self::EXPECTS));
        if text == "0" {
            return Ok(Self::default());
        }
        if text.parse::<f64>().is_ok() {
            return Err(Invalid::new(format!("expected {}, got the number {text}", Self::EXPECTS)));
        }
        let too_long = || Invalid::new(format!("`{text}` is too long; the longest is `3650d`"));
        let mut rest = text;
        let mut units = TIMES.iter();
        let mut total = 0u64;
        while !rest.is_empty() {
            let (figure, after) = split_figure(rest).ok_or_else(wrong)?;
            let letters = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
            let (unit, after) = after.split_at(letters);
            let (_, millis) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            let figure: u64 = figure.parse().map_err(|_| too_long())?;
            total = figure
                .checked_mul(*millis)
                .and_then(|part| total.checked_add(part))
                .filter(|total| *total <= LONGEST_MS)
                .ok_or_else(too_long)?;
            rest = after;
        }
        if text.is_empty() {
            return Err(wrong());
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

/// The digits a text begins with, and the rest.
fn split_figure(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in TIMES {
            let figure = rest / u128::from(millis);
            rest %= u128::from(millis);
            if figure > 0 {
                write!(f, "{figure}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Scalar for Size {
    const FORMAT: &'static str = "gateway-size";
    const EXPECTS: &'static str = "a size such as `64KiB`";
    const PATTERN: &'static str = r"^\d+([kKmMgGtT]([iI]?[bB])?|[bB])?$";
    const NUMBERS: bool = true;
}

impl FromStr for Size {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new(format!("expected {}, got `{text}`", Self::EXPECTS));
        let (figure, unit) = split_figure(text).ok_or_else(wrong)?;
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return Err(wrong()),
        };
        let bytes = figure.parse::<u64>().ok().and_then(|figure| figure.checked_mul(factor));
        bytes.map(Self).ok_or_else(|| Invalid::new(format!("`{text}` is more than can be counted")))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        for (factor, unit) in binary {
            if self.0 > 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Scalar for Percent {
    const FORMAT: &'static str = "gateway-percent";
    const EXPECTS: &'static str = "a share from `0%` to `100%`";
    const PATTERN: &'static str = r"^\d+(\.\d+)?%$";
}

impl FromStr for Percent {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let figure = text.strip_suffix('%').filter(|figure| {
            figure.starts_with(|c: char| c.is_ascii_digit())
                && figure.chars().all(|c| c.is_ascii_digit() || c == '.')
        });
        figure
            .and_then(|figure| figure.parse::<f64>().ok())
            .filter(|figure| (0.0..=100.0).contains(figure))
            .map(Self)
            .ok_or_else(|| Invalid::new(format!("expected {}, got `{text}`", Self::EXPECTS)))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

scalar!(Span);
scalar!(Size);
scalar!(Percent);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_back() {
        for (text, millis, again) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("250ms", 250, "250ms"),
            ("10s", 10_000, "10s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("2d", 172_800_000, "2d"),
            ("90s", 90_000, "1m30s"),
            ("1s500ms", 1500, "1s500ms"),
        ] {
            let span: Span = text.parse().unwrap();

            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), again);
        }
    }

    #[test]
    fn text_that_is_no_duration_is_refused() {
        for (text, message) in [
            ("10", "expected a duration such as `10s`, got the number 10"),
            ("1.5", "expected a duration such as `10s`, got the number 1.5"),
            ("-1s", "expected a duration such as `10s`, got `-1s`"),
            ("", "expected a duration such as `10s`, got ``"),
            ("10 s", "expected a duration such as `10s`, got `10 s`"),
            ("s", "expected a duration such as `10s`, got `s`"),
            ("1.5s", "expected a duration such as `10s`, got `1.5s`"),
            ("30m1h", "expected a duration such as `10s`, got `30m1h`"),
            ("1s1s", "expected a duration such as `10s`, got `1s1s`"),
            ("10w", "expected a duration such as `10s`, got `10w`"),
            ("4000d", "`4000d` is too long; the longest is `3650d`"),
            (
                "99999999999999999999d",
                "`99999999999999999999d` is too long; the longest is `3650d`",
            ),
        ] {
            assert_eq!(text.parse::<Span>(), Err(Invalid::new(message)), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_written_back() {
        for (text, bytes, again) in [
            ("0", 0, "0"),
            ("512", 512, "512"),
            ("512b", 512, "512"),
            ("64KiB", 65_536, "64KiB"),
            ("10MB", 10_000_000, "10000000"),
            ("1GiB", 1 << 30, "1GiB"),
            ("2k", 2048, "2KiB"),
            ("2m", 2 << 20, "2MiB"),
            ("2g", 2 << 30, "2GiB"),
            ("1kb", 1000, "1000"),
        ] {
            let size: Size = text.parse().unwrap();

            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string(), again);
        }
    }

    #[test]
    fn text_that_is_no_size_is_refused() {
        for text in ["", "KiB", "-1", "1.5MB", "10 MB", "10x", "10Kib2"] {
            let expected = format!("expected a size such as `64KiB`, got `{text}`");
            assert_eq!(text.parse::<Size>(), Err(Invalid::new(expected)), "{text}");
        }

        let overflow = "99999999999GiB".parse::<Size>().unwrap_err();
        assert_eq!(overflow.to_string(), "`99999999999GiB` is more than can be counted");
    }

    #[test]
    fn shares_are_read_and_written_back() {
        for (text, figure) in [("0%", 0.0), ("5%", 5.0), ("0.5%", 0.5), ("100%", 100.0)] {
            let percent: Percent = text.parse().unwrap();

            assert_eq!(percent.0, figure);
            assert_eq!(percent.to_string(), text);
        }
        assert_eq!(Percent(5.0).fraction(), 0.05);
    }

    #[test]
    fn text_that_is_no_share_is_refused() {
        for text in ["5", "101%", "-1%", "%", "1e1%", "nan%", "inf%", "+5%", ".5%"] {
            let expected = format!("expected a share from `0%` to `100%`, got `{text}`");
            assert_eq!(text.parse::<Percent>(), Err(Invalid::new(expected)), "{text}");
        }
    }
}
