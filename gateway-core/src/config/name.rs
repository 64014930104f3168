//! Names: what a log or a metric label may mention.

use std::fmt;
use std::str::FromStr;

use super::scalar::{Invalid, Scalar, scalar};

/// A name of a listener, an upstream, a route or a plugin: 1 to 128 letters, digits and `-_.:/@`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(String);

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl Scalar for Name {
    const FORMAT: &'static str = "gateway-name";
    const EXPECTS: &'static str = "a name of letters, digits and `-_.:/@`, such as `users-v2`";
    const PATTERN: &'static str = r"^[A-Za-z0-9_.:/@-]{1,128}$";
}

impl FromStr for Name {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() > 128 {
            return Err(Invalid::new("a name has at most 128 characters"));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
        if text.is_empty() || !text.chars().all(allowed) {
            return Err(Invalid::new(format!("expected {}, got `{text}`", Self::EXPECTS)));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

scalar!(Name);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_a_metric_label() {
        for good in ["users", "users-v2", "team/users", "a.b:c@d_1"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "naïve", "a\nb", "\"", &"x".repeat(129)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
