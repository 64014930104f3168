//! Tests of one value of a request: a header field, a query parameter, a cookie.

use std::fmt;

use crate::config::secret_name::is_secret;
use crate::config::{Bounds, Pattern, ValueMatch};
use crate::plugin::Attribute;

/// What one value must be for a route to match.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueRule {
    /// Which value.
    pub of: Attribute,
    /// What it must be.
    pub test: ValueTest,
}

/// A test of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueTest {
    /// It is this.
    Exact(Box<str>),
    /// It is there.
    Present,
    /// It is not there.
    Absent,
    /// It begins so.
    Prefix(Box<str>),
    /// This is found in it.
    Regex(Pattern),
    /// It is a whole number from the first to the second.
    Range(i64, i64),
}

impl ValueRule {
    /// Whether what a request has there is for nobody else to see: what a field or a parameter of a secret name holds, and
    /// any cookie.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.of, Attribute::RequestCookie(_)) || self.is_named_secret()
    }

    fn is_named_secret(&self) -> bool {
        let name = match &self.of {
            Attribute::RequestHeader(name) => name.as_str(),
            Attribute::RequestQuery(name) | Attribute::RequestCookie(name) => name,
            _ => return false,
        };
        is_secret(name.as_bytes(), &[])
    }

    /// The rule in words, without what a secret must be.
    pub(crate) fn shown(&self) -> String {
        match &self.test {
            test @ (ValueTest::Present | ValueTest::Absent) => format!("{} {test}", self.of),
            _ if self.is_named_secret() => format!("{} is a certain one", self.of),
            test => format!("{} {test}", self.of),
        }
    }
}

impl From<&ValueMatch> for ValueTest {
    fn from(written: &ValueMatch) -> Self {
        match written {
            ValueMatch::Exact(text) => Self::Exact(text.as_str().into()),
            ValueMatch::Present(true) => Self::Present,
            ValueMatch::Present(false) => Self::Absent,
            ValueMatch::Prefix(text) => Self::Prefix(text.as_str().into()),
            ValueMatch::Regex(pattern) => Self::Regex(pattern.clone()),
            ValueMatch::Range(Bounds { min, max }) => {
                Self::Range(min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX))
            }
        }
    }
}

impl ValueTest {
    /// Whether a value passes; `None` for one that is not there.
    pub fn passes(&self, value: Option<&str>) -> bool {
        let Some(value) = value else { return *self == Self::Absent };
        match self {
            Self::Exact(text) => **text == *value,
            Self::Present => true,
            Self::Absent => false,
            Self::Prefix(prefix) => value.starts_with(&**prefix),
            Self::Regex(pattern) => pattern.regex().is_match(value),
            Self::Range(min, max) => {
                whole_number(value).is_some_and(|number| (*min..=*max).contains(&number))
            }
        }
    }

    /// Whether no value passes both, as far as can be told.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => false,
            (Self::Absent, _) | (_, Self::Absent) => true,
            (Self::Exact(value), test) | (test, Self::Exact(value)) => !test.passes(Some(value)),
            (Self::Prefix(one), Self::Prefix(two)) => {
                !one.starts_with(&**two) && !two.starts_with(&**one)
            }
            (Self::Range(from, to), Self::Range(min, max)) => to < min || max < from,
            _ => false,
        }
    }

    /// Whether every value that passes another passes this one, as far as can be told.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present, other) => *other != Self::Absent,
            (_, Self::Exact(value)) => self.passes(Some(value)),
            (Self::Prefix(wide), Self::Prefix(narrow)) => narrow.starts_with(&**wide),
            (Self::Range(from, to), Self::Range(min, max)) => from <= min && max <= to,
            _ => self == other,
        }
    }
}

/// A whole number, `-` in front of it or nothing; one that is greater than any bound counts as the greatest.
fn whole_number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let beyond = if digits.len() < text.len() { i64::MIN } else { i64::MAX };
    Some(text.parse().unwrap_or(beyond))
}

impl fmt::Display for ValueTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "is `{text}`"),
            Self::Present => f.write_str("is there"),
            Self::Absent => f.write_str("is not there"),
            Self::Prefix(text) => write!(f, "begins with `{text}`"),
            Self::Regex(pattern) => write!(f, "matches `{pattern}`"),
            Self::Range(i64::MIN, max) => write!(f, "is at most {max}"),
            Self::Range(min, i64::MAX) => write!(f, "is at least {min}"),
            Self::Range(min, max) => write!(f, "is from {min} to {max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(yaml: &str) -> ValueTest {
        (&serde_yaml::from_str::<ValueMatch>(yaml).unwrap()).into()
    }

    #[test]
    fn values_pass_or_do_not() {
        for (yaml, passing, failing) in [
            ("a", &[Some("a")][..], &[None, Some("A"), Some("ab"), Some("")][..]),
            ("''", &[Some("")], &[None, Some("a")]),
            ("{present: true}", &[Some(""), Some("a")], &[None]),
            ("{present: false}", &[None], &[Some("")]),
            ("{absent: true}", &[None], &[Some("")]),
            ("{prefix: v1.}", &[Some("v1."), Some("v1.2")], &[None, Some("v1"), Some("xv1.")]),
            ("{regex: '^4\\.'}", &[Some("4.2")], &[None, Some("14.2")]),
            ("{regex: 'b'}", &[Some("abc")], &[Some("ac")]),
            (
                "{range: {min: 2, max: 4}}",
                &[Some("2"), Some("4")],
                &[None, Some("1"), Some("5"), Some("3x"), Some("+3")],
            ),
            (
                "{range: {min: -1}}",
                &[Some("-1"), Some("9223372036854775807"), Some("99999999999999999999")],
                &[Some("-2"), Some("1.5"), Some("-99999999999999999999"), Some("-"), Some("")],
            ),
        ] {
            for value in passing {
                assert!(test(yaml).passes(*value), "{yaml} {value:?}");
            }
            for value in failing {
                assert!(!test(yaml).passes(*value), "{yaml} {value:?}");
            }
        }
    }

    #[test]
    fn tests_that_exclude_each_other_are_told() {
        for (one, two, expected) in [
            ("a", "b", true),
            ("a", "a", false),
            ("a", "{prefix: b}", true),
            ("a", "{regex: a}", false),
            ("a", "{regex: b}", true),
            ("a", "{present: true}", false),
            ("a", "{absent: true}", true),
            ("'3'", "{range: {max: 2}}", true),
            ("{prefix: a}", "{prefix: ab}", false),
            ("{prefix: a}", "{prefix: b}", true),
            ("{range: {max: 2}}", "{range: {min: 3}}", true),
            ("{range: {max: 3}}", "{range: {min: 3}}", false),
            ("{regex: a}", "{regex: b}", false),
            ("{absent: true}", "{absent: true}", false),
        ] {
            assert_eq!(test(one).excludes(&test(two)), expected, "{one} {two}");
            assert_eq!(test(two).excludes(&test(one)), expected, "{two} {one}");
        }
    }
}
