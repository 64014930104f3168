//! `routes`: which requests, which plugins, and what becomes of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::path::ConfigPath;
use super::plugin::{self, PluginConfig};
use super::reply::ReplyConfig;
use super::route_match::MatchConfig;
use super::units::Span;

/// Match rules, plugins and exactly one action: `upstream` or `reply`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The name logs and metrics call it by.
    #[schemars(extend("format" = "gateway-name"))]
    pub name: String,
    /// Which requests it is for. Default: all of them.
    #[serde(default)]
    pub r#match: MatchConfig,
    /// Goes before every route of a lower one that matches too, however specific that is. Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Plugins of this route alone, after those of the gateway and of the listener.
    #[serde(default)]
    pub plugins: Vec<PluginConfig>,
    /// Names of plugins of the gateway or of a listener that this route does without.
    #[serde(default)]
    pub disable: Vec<String>,
    /// The name of the upstream its requests are sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The reply the gateway makes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyConfig>,
    /// How long its requests may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RouteTimeouts>,
}

/// How long the requests of a route may take.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// From the request's head to the response's end. Default: what the upstream says.
    pub total: Option<Span>,
}

fn is_zero(priority: &i32) -> bool {
    *priority == 0
}

impl RouteConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        self.r#match.check(&at.clone().key("match"), findings);
        match (&self.upstream, &self.reply) {
            (Some(_), Some(_)) => findings.add_at_key(
                &at.clone().key("reply"),
                "a route has one action; leave out `upstream` or `reply`",
            ),
            (None, None) => {
                findings.add(at, "a route needs an action; write `upstream` or `reply`");
            }
            (None, Some(reply)) => reply.check(&at.clone().key("reply"), findings),
            (Some(_), None) => {}
        }
        if let Some(total) = self.timeouts.and_then(|timeouts| timeouts.total) {
            findings.refuse_zero(&at.clone().key("timeouts"), "total", total);
        }
        plugin::check_list(&self.plugins, &at.clone().key("plugins"), findings);
    }
}
