//! `mirror`: copies of requests for another upstream, whose answers nobody waits for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::path::ConfigPath;
use super::units::{Percent, Size, Span};

/// Copies of a route's requests, sent to another upstream. They neither delay nor fail what they are copies of.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// The name of the upstream that gets the copies.
    pub upstream: String,
    /// The share of requests that are copied. Default `100%`.
    #[serde(default = "all")]
    pub share: Percent,
    /// How many copies may be on their way; what comes above is not copied and counted as `full`. What is held of bodies
    /// is bounded by so many times `body_bytes` as well, and of compared answers by as much again. Each route has its own. Default 64.
    #[serde(default = "in_flight")]
    #[schemars(range(min = 1, max = 10_000))]
    pub in_flight: usize,
    /// The longest body of a request that is copied; a longer one is counted as `too_large`. With `compare` it bounds the
    /// compared part of answers too. Default 64KiB, at most 4MiB.
    #[serde(default = "body_bytes")]
    pub body_bytes: Size,
    /// How long a copy may take. Default 10s.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Compares the copy's answer with that of the original. Default: it is thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<CompareConfig>,
}

/// How two answers are compared: by their status, by headers, and by their bodies. Bodies of JSON are compared by
/// meaning, others byte for byte.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompareConfig {
    /// Names of the header fields that are compared. Default: `content-type`.
    pub headers: Vec<String>,
    /// Whether bodies are compared. Default true.
    pub body: bool,
    /// Paths in bodies of JSON that are not compared: `$.updated_at`, `$.items[*].id`.
    pub ignore: Vec<String>,
    /// The share of differences of which a line is logged, besides being counted. It says where, not what. Default `1%`.
    pub log: Percent,
}

impl Default for CompareConfig {
    fn default() -> Self {
        Self {
            headers: vec!["content-type".into()],
            body: true,
            ignore: Vec::new(),
            log: Percent(1.0),
        }
    }
}

/// The longest body that may be copied.
const MAX_BODY: u64 = 4 << 20;

fn all() -> Percent {
    Percent(100.0)
}

fn in_flight() -> usize {
    64
}

fn body_bytes() -> Size {
    Size(64 << 10)
}

fn timeout() -> Span {
    Span::seconds(10)
}

impl MirrorConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        if self.body_bytes.0 > MAX_BODY {
            findings.add(&at.clone().key("body_bytes"), "at most 4MiB are copied");
        }
        findings.refuse_zero(at, "timeout", self.timeout);
        let Some(compare) = &self.compare else { return };
        let at = at.clone().key("compare");
        for (place, name) in compare.headers.iter().enumerate() {
            if http::HeaderName::try_from(name).is_err() {
                let at = at.clone().key("headers").index(place);
                findings.add(&at, format!("`{name}` is no header name"));
            }
        }
    }
}
