//! `redaction`: what is secret besides, in everything that the gateway writes of requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::path::ConfigPath;
use crate::telemetry::redaction::{Redactor, pattern};

/// What is secret besides what always is (`password`, `authorization`, tokens, card numbers, …): `***` stands in its place
/// in the access log. The plugin `redaction` takes it for secret as well, in whatever passes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedactionConfig {
    /// Names of query parameters, of fields, and of members of JSON whose values are secret; in any case of letters, with
    /// or without `-` and `_`.
    #[schemars(length(max = 1000))]
    pub keys: Vec<String>,
    /// Regular expressions of what is secret wherever it stands, in the syntax of the crate `regex`.
    #[schemars(length(max = 100))]
    pub patterns: Vec<String>,
}

impl RedactionConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        for (index, key) in self.keys.iter().enumerate() {
            if Redactor::normalise(key).is_empty() {
                findings.add(&at.clone().key("keys").index(index), "no name");
            }
        }
        for (index, source) in self.patterns.iter().enumerate() {
            if let Err(fault) = pattern(source) {
                findings.add(&at.clone().key("patterns").index(index), fault);
            }
        }
    }
}
