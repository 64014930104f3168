//! How many requests' worth a request is.

use gateway_core::plugin::{Attribute, Facts, ResponseHeader};
use http::HeaderName;

/// How many requests' worth a request is.
pub(super) enum Cost {
    Fixed(u64),
    /// What an attribute says when it comes.
    Attribute {
        attribute: Attribute,
        otherwise: u64,
        least: u64,
        most: u64,
    },
    /// What the answer says when it goes; `at_first` is taken meanwhile.
    Response {
        field: HeaderName,
        at_first: u64,
        least: u64,
        most: u64,
    },
}

impl Cost {
    /// What is taken before the request passes.
    pub(super) fn at_first(&self, facts: &Facts<'_>) -> u64 {
        match self {
            Self::Fixed(cost) => *cost,
            Self::Attribute { attribute, otherwise, least, most } => attribute
                .with_text(facts, |text| number(text?))
                .map_or(*otherwise, |cost| cost.clamp(*least, *most)),
            Self::Response { at_first, .. } => *at_first,
        }
    }

    /// What it has cost, if the answer says so.
    pub(super) fn at_last(&self, response: &ResponseHeader) -> Option<u64> {
        let Self::Response { field, least, most, .. } = self else { return None };
        let said = response.headers.get(field)?.to_str().ok()?;
        number(said).map(|cost| cost.clamp(*least, *most))
    }

    pub(super) fn is_told_later(&self) -> bool {
        matches!(self, Self::Response { .. })
    }
}

/// A whole number, as large as it may be: what is larger than can be counted is not nothing.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}
