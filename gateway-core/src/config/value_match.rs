//! What a header field, a query parameter or a cookie must be for a route to match.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::path::ConfigPath;
use super::pattern::Pattern;

/// What a value must be.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(from = "ValueWritten", rename_all = "snake_case")]
#[schemars(with = "ValueWritten")]
pub enum ValueMatch {
    /// This, byte for byte.
    Exact(String),
    /// There, whatever it is, or not there.
    Present(bool),
    /// Something that begins so.
    Prefix(String),
    /// Something in which this is found.
    Regex(Pattern),
    /// A whole number in this range.
    Range(Bounds),
}

/// A range of whole numbers, its bounds included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The least. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// The greatest. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

/// The forms a value match is written in.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ValueMatch")]
enum ValueWritten {
    /// This, byte for byte.
    Short(String),
    /// A way to match.
    Long(ValueRule),
}

/// A way to match a value.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum ValueRule {
    /// This, byte for byte.
    Exact(String),
    /// There, whatever it is; with `false` not there.
    Present(bool),
    /// Not there; with `false` there.
    Absent(bool),
    /// Something that begins so.
    Prefix(#[schemars(length(min = 1))] String),
    /// Something in which this regular expression is found; `^` and `$` bind it to the ends.
    Regex(Pattern),
    /// A whole number from `min` to `max`.
    Range(Bounds),
}

impl From<ValueWritten> for ValueMatch {
    fn from(written: ValueWritten) -> Self {
        match written {
            ValueWritten::Short(text) | ValueWritten::Long(ValueRule::Exact(text)) => {
                Self::Exact(text)
            }
            ValueWritten::Long(ValueRule::Present(present)) => Self::Present(present),
            ValueWritten::Long(ValueRule::Absent(absent)) => Self::Present(!absent),
            ValueWritten::Long(ValueRule::Prefix(text)) => Self::Prefix(text),
            ValueWritten::Long(ValueRule::Regex(pattern)) => Self::Regex(pattern),
            ValueWritten::Long(ValueRule::Range(bounds)) => Self::Range(bounds),
        }
    }
}

impl ValueMatch {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let Self::Range(Bounds { min, max }) = self else { return };
        match (min, max) {
            (None, None) => findings.add(at, "a range needs `min` or `max`"),
            (Some(min), Some(max)) if min > max => {
                findings.add(at, format!("no number is from {min} to {max}"));
            }
            _ => {}
        }
    }
}
