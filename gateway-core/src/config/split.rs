//! `split`: the requests of a route, shared among upstreams by weight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::path::ConfigPath;

/// Requests shared among upstreams by weight.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// The upstreams and their weights.
    #[schemars(length(min = 1))]
    pub upstreams: Vec<ShareConfig>,
    /// An attribute, such as `request.cookie.sid`, whose value keeps a caller at one upstream. When weights change, only
    /// those callers move that have to. Who has no such value is sent anywhere, by weight. Default: all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
}

/// One upstream's share.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// The upstream's name.
    pub upstream: String,
    /// Its part of the sum of all weights, 0 to 1000000; with 0 it gets none. Default 1.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

impl SplitConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let list = at.clone().key("upstreams");
        if !self.upstreams.is_empty() && self.upstreams.iter().all(|share| share.weight == 0) {
            findings.add(&list, "all weights are 0, so that there is nobody to send to");
        }
        for (place, share) in self.upstreams.iter().enumerate() {
            if self.upstreams[..place].iter().any(|other| other.upstream == share.upstream) {
                let message = format!("upstream `{}` is listed twice", share.upstream);
                findings.add(&list.clone().index(place).key("upstream"), message);
            }
        }
    }
}
