//! Methods a route answers for.

use std::fmt;
use std::str::FromStr;

use super::scalar::{Invalid, Scalar, scalar};

/// A method in upper case (RFC 9110, section 9: methods are case-sensitive).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MethodName(http::Method);

impl From<MethodName> for http::Method {
    fn from(method: MethodName) -> Self {
        method.0
    }
}

impl Scalar for MethodName {
    const FORMAT: &'static str = "gateway-method";
    const EXPECTS: &'static str = "a method such as `GET`";
    const PATTERN: &'static str = r"^[A-Z][A-Z0-9_-]*$";
}

impl FromStr for MethodName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let upper = text.to_ascii_uppercase();
        let Ok(method) = http::Method::from_bytes(upper.as_bytes()) else {
            return Err(Invalid::new(format!("expected {}, got `{text}`", Self::EXPECTS)));
        };
        if upper != text {
            return Err(Invalid::new(format!("methods are case-sensitive; write `{upper}`")));
        }
        Ok(Self(method))
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

scalar!(MethodName);

/// Writes methods as their names.
pub(super) fn names<S: serde::Serializer>(
    methods: &[http::Method],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(methods.iter().map(http::Method::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_in_lower_case_says_what_to_write() {
        assert!("PURGE".parse::<MethodName>().is_ok());
        assert_eq!(
            "get".parse::<MethodName>().unwrap_err().to_string(),
            "methods are case-sensitive; write `GET`"
        );
        assert_eq!(
            "G T".parse::<MethodName>().unwrap_err().to_string(),
            "expected a method such as `GET`, got `G T`"
        );
    }
}
