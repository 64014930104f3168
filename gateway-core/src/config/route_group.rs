//! `route_groups`: what many routes have in common, written once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::path::ConfigPath;
use super::plugin::{self, PluginConfig};
use super::route::RouteTimeouts;
use super::route_match::{HostMatch, MatchConfig, PathMatch};
use super::url_path::UrlPath;

/// What the routes have in common that say `group: NAME`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteGroupConfig {
    /// The name by which routes join it.
    #[schemars(extend("format" = "gateway-name"))]
    pub name: String,
    /// The hosts of its routes. A route may narrow them down, and cannot leave them. Default: what each route says.
    #[serde(default)]
    pub hosts: Vec<HostMatch>,
    /// What the paths of all its routes begin with: a route of the path `/cart` in a group of `/shop` is for
    /// `/shop/cart`. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<UrlPath>,
    /// Names of the listeners through which its routes are reached. A route may narrow them down. Default: what each
    /// route says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<String>,
    /// Plugins of its routes, after those of the gateway and of the listener, before those of the route.
    #[serde(default)]
    pub plugins: Vec<PluginConfig>,
    /// Names of plugins of the gateway or of a listener that its routes do without.
    #[serde(default)]
    pub disable: Vec<String>,
    /// How long requests of its routes may take, where a route does not say so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RouteTimeouts>,
}

impl RouteGroupConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        if let Some(total) = self.timeouts.and_then(|timeouts| timeouts.total) {
            findings.refuse_zero(&at.clone().key("timeouts"), "total", total);
        }
        plugin::check_list(&self.plugins, &at.clone().key("plugins"), findings);
    }

    /// What a route of the group matches.
    pub(crate) fn narrowed(&self, route: &MatchConfig) -> MatchConfig {
        let mut matching = route.clone();
        if matching.hosts.is_empty() {
            matching.hosts.clone_from(&self.hosts);
        }
        if matching.listeners.is_empty() {
            matching.listeners.clone_from(&self.listeners);
        }
        matching.path = self.join(route.path.as_ref());
        matching
    }

    /// A route's path behind the group's; `None` also for one that is none there.
    pub(super) fn join(&self, path: Option<&PathMatch>) -> Option<PathMatch> {
        let own = match &self.path {
            Some(own) => own.to_string(),
            None => return path.cloned(),
        };
        let own = own.trim_end_matches('/');
        let behind = |path: &str| format!("{own}{path}");
        Some(match path {
            None => PathMatch::Prefix(if own.is_empty() { "/".into() } else { own.to_owned() }),
            // The root of a group is the group's own path.
            Some(PathMatch::Prefix(path)) if path == "/" && !own.is_empty() => {
                PathMatch::Prefix(own.to_owned())
            }
            Some(PathMatch::Prefix(path)) => PathMatch::Prefix(behind(path)),
            Some(PathMatch::Exact(path)) => PathMatch::Exact(behind(path)),
            Some(PathMatch::Template(template)) => {
                PathMatch::Template(behind(&template.to_string()).parse().ok()?)
            }
            // Behind a path there is none: that of the group would not be bound to end where a segment does.
            Some(PathMatch::Regex(pattern)) if own.is_empty() => PathMatch::Regex(pattern.clone()),
            Some(PathMatch::Regex(_)) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_routes_stand_behind_that_of_the_group() {
        for (group, route, expected) in [
            ("{name: g, path: /shop}", "/cart", "prefix: /shop/cart"),
            ("{name: g, path: /shop/}", "/cart/", "prefix: /shop/cart/"),
            ("{name: g, path: /shop}", "/", "prefix: /shop"),
            ("{name: g, path: /shop}", "{exact: /}", "exact: /shop/"),
            ("{name: g, path: /shop}", "{template: '/{id}'}", "template: /shop/{id}"),
            ("{name: g, path: /}", "{regex: '/[0-9]+|/x'}", "regex: /[0-9]+|/x"),
            ("{name: g, path: /}", "/cart", "prefix: /cart"),
            ("{name: g}", "/cart", "prefix: /cart"),
        ] {
            let group: RouteGroupConfig = serde_yaml::from_str(group).unwrap();
            let route: PathMatch = serde_yaml::from_str(route).unwrap();

            let joined = serde_json::to_value(group.join(Some(&route))).unwrap();
            let (kind, path) = expected.split_once(": ").unwrap();
            assert_eq!(joined[kind], path);
        }
        let group: RouteGroupConfig = serde_yaml::from_str("{name: g, path: /shop}").unwrap();
        assert_eq!(group.join(None), Some(PathMatch::Prefix("/shop".into())));
    }
}
