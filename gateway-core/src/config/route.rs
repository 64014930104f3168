//! `routes`: which requests, which plugins, and what becomes of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::mirror::MirrorConfig;
use super::path::ConfigPath;
use super::plugin::{self, PluginConfig};
use super::redirect::RedirectConfig;
use super::reply::ReplyConfig;
use super::rewrite::RewriteConfig;
use super::route_match::MatchConfig;
use super::split::SplitConfig;
use super::units::Span;

/// Match rules, plugins and exactly one action: `upstream`, `split`, `redirect` or `reply`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The name logs and metrics call it by.
    #[schemars(extend("format" = "gateway-name"))]
    pub name: String,
    /// The name of the one of `route_groups` that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Which requests it is for. Default: all of them.
    #[serde(default)]
    pub r#match: MatchConfig,
    /// Goes before every route of a lower one that matches too, however specific that is. Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Plugins of this route alone, after those of the gateway, of the listener and of its group.
    #[serde(default)]
    pub plugins: Vec<PluginConfig>,
    /// Names of plugins of the gateway, of a listener or of its group that this route does without.
    #[serde(default)]
    pub disable: Vec<String>,
    /// The name of the upstream its requests are sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The upstreams its requests are shared among.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitConfig>,
    /// Where its clients are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectConfig>,
    /// The reply the gateway makes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyConfig>,
    /// What upstreams are asked for in place of what the client asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<RewriteConfig>,
    /// Another upstream that gets copies of its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorConfig>,
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
        self.check_action(at, findings);
        if let Some(total) = self.timeouts.and_then(|timeouts| timeouts.total) {
            findings.refuse_zero(&at.clone().key("timeouts"), "total", total);
        }
        plugin::check_list(&self.plugins, &at.clone().key("plugins"), findings);
    }

    fn check_action(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let actions = [
            ("upstream", self.upstream.is_some()),
            ("split", self.split.is_some()),
            ("redirect", self.redirect.is_some()),
            ("reply", self.reply.is_some()),
        ];
        let mut written = actions.iter().filter(|(_, written)| *written).map(|(key, _)| *key);
        let first = written.next();
        match (first, written.next()) {
            (Some(first), Some(second)) => {
                let message = format!("a route has one action; leave out `{first}` or `{second}`");
                findings.add_at_key(&at.clone().key(second), message);
            }
            (None, _) => {
                let message =
                    "a route needs an action; write `upstream`, `split`, `redirect` or `reply`";
                findings.add(at, message);
            }
            (Some(_), None) => {}
        }
        let sends = self.upstream.is_some() || self.split.is_some();
        for (key, written) in
            [("rewrite", self.rewrite.is_some()), ("mirror", self.mirror.is_some())]
        {
            if written && !sends && first.is_some() {
                let message = format!("`{key}` is for requests that go to an upstream");
                findings.add_at_key(&at.clone().key(key), message);
            }
        }
        if let Some(mirror) = &self.mirror {
            mirror.check(&at.clone().key("mirror"), findings);
        }
        if let Some(reply) = &self.reply {
            reply.check(&at.clone().key("reply"), findings);
        }
        if let Some(split) = &self.split {
            split.check(&at.clone().key("split"), findings);
        }
        if let Some(redirect) = &self.redirect {
            redirect.check(&at.clone().key("redirect"), findings);
        }
        if let Some(rewrite) = &self.rewrite {
            rewrite.check(&at.clone().key("rewrite"), findings);
        }
    }

    /// The names of the upstreams that its requests, and their copies, are sent to, each with its place in the route.
    pub(crate) fn upstreams(&self, at: &ConfigPath) -> Vec<(ConfigPath, &str)> {
        let one = self.upstream.iter().map(|name| (at.clone().key("upstream"), name.as_str()));
        let shares = self.split.iter().flat_map(|split| split.upstreams.iter().enumerate());
        let shares = shares.map(|(place, share)| {
            let list = at.clone().key("split").key("upstreams");
            (list.index(place).key("upstream"), share.upstream.as_str())
        });
        let copies = self
            .mirror
            .iter()
            .map(|mirror| (at.clone().key("mirror").key("upstream"), mirror.upstream.as_str()));
        one.chain(shares).chain(copies).collect()
    }
}
