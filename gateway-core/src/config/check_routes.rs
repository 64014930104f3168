//! Checks of what routes and their groups refer to, and of what a route and its group say together.

use std::collections::{HashMap, HashSet};

use super::Config;
use super::check::{Findings, section};
use super::host::HostPattern;
use super::listener::ListenerConfig;
use super::path::ConfigPath;
use super::plugin::PluginConfig;
use super::route::RouteConfig;
use super::route_group::RouteGroupConfig;
use super::route_match::{HostMatch, HostRule, PathMatch};

/// What routes and groups may refer to.
struct Known<'c> {
    config: &'c Config,
    upstreams: &'c HashSet<&'c str>,
    listeners: &'c HashMap<&'c str, &'c ListenerConfig>,
    groups: HashMap<&'c str, &'c RouteGroupConfig>,
}

pub(super) fn references(
    config: &Config,
    upstreams: &HashSet<&str>,
    listeners: &HashMap<&str, &ListenerConfig>,
    findings: &mut Findings<'_>,
) {
    // Of two groups of one name the first counts.
    let groups = config.route_groups.iter().rev();
    let groups = groups.map(|group| (group.name.as_str(), group)).collect();
    let known = Known { config, upstreams, listeners, groups };
    for (index, group) in config.route_groups.iter().enumerate() {
        known.group(group, &section("route_groups").index(index), findings);
    }
    for (index, route) in config.routes.iter().enumerate() {
        known.route(route, &section("routes").index(index), findings);
    }
}

impl Known<'_> {
    fn group(&self, group: &RouteGroupConfig, at: &ConfigPath, findings: &mut Findings<'_>) {
        self.through(&group.listeners, &at.clone().key("listeners"), findings);
        let outer = self.outer(&group.listeners);
        disabled(&group.disable, &outer, &at.clone().key("disable"), findings);
    }

    fn route(&self, route: &RouteConfig, at: &ConfigPath, findings: &mut Findings<'_>) {
        for (at, name) in route.upstreams(at) {
            if !self.upstreams.contains(name) {
                let names: Vec<&str> = self.upstreams.iter().copied().collect();
                let hint = findings.hint(name, &names);
                findings.add(&at, format!("there is no upstream `{name}`{hint}"));
            }
        }
        let listeners = &route.r#match.listeners;
        self.through(listeners, &at.clone().key("match").key("listeners"), findings);
        let group = route.group.as_deref().and_then(|name| self.groups.get(name).copied());
        if let (Some(name), None) = (&route.group, group) {
            let names: Vec<&str> = self.groups.keys().copied().collect();
            let hint = findings.hint(name, &names);
            let at = at.clone().key("group");
            findings.add(&at, format!("there is no route group `{name}`{hint}"));
        }
        if let Some(group) = group {
            stays_inside(route, group, &at.clone().key("match"), findings);
        }
        swaps_a_prefix(route, group, at, findings);
        if !route.disable.is_empty() {
            let of_group = group.filter(|_| listeners.is_empty());
            let mut outer = self.outer(of_group.map_or(listeners, |group| &group.listeners));
            outer
                .extend(group.into_iter().flat_map(|group| &group.plugins).map(PluginConfig::name));
            disabled(&route.disable, &outer, &at.clone().key("disable"), findings);
        }
    }

    /// Names of listeners, which have to have requests.
    fn through(&self, names: &[String], at: &ConfigPath, findings: &mut Findings<'_>) {
        for (position, name) in names.iter().enumerate() {
            let at = at.clone().index(position);
            match self.listeners.get(name.as_str()) {
                None => {
                    let names: Vec<&str> = self.listeners.keys().copied().collect();
                    let hint = findings.hint(name, &names);
                    findings.add(&at, format!("there is no listener `{name}`{hint}"));
                }
                Some(listener) if listener.tcp.is_some() => {
                    findings.add(&at, format!("listener `{name}` has `tcp`, and no requests"));
                }
                Some(_) => {}
            }
        }
    }

    /// The names of the plugins of the gateway and of the listeners that are listed, or of all.
    fn outer(&self, through: &[String]) -> Vec<&str> {
        let listeners = self.config.listeners.iter();
        let reached =
            listeners.filter(|listener| through.is_empty() || through.contains(&listener.name));
        let plugins = self.config.plugins.iter();
        plugins
            .chain(reached.flat_map(|listener| &listener.plugins))
            .map(PluginConfig::name)
            .collect()
    }
}

/// `disable` takes away plugins that are listed further out.
fn disabled(names: &[String], outer: &[&str], at: &ConfigPath, findings: &mut Findings<'_>) {
    for (position, name) in names.iter().enumerate() {
        if !outer.contains(&name.as_str()) {
            let hint = findings.hint(name, outer);
            let at = at.clone().index(position);
            findings.add(&at, format!("no outer plugin is named `{name}`{hint}"));
        }
    }
}

/// A route narrows down what its group says, and does not leave it.
fn stays_inside(
    route: &RouteConfig,
    group: &RouteGroupConfig,
    at: &ConfigPath,
    findings: &mut Findings<'_>,
) {
    let name = &group.name;
    for (position, host) in route.r#match.hosts.iter().enumerate() {
        if !group.hosts.is_empty() && !group.hosts.iter().any(|wide| covers(wide, host)) {
            let at = at.clone().key("hosts").index(position);
            findings.add(&at, format!("`{host}` is none of the hosts of route group `{name}`"));
        }
    }
    let is_below = group.path.as_ref().is_some_and(|path| path.to_string() != "/");
    match &route.r#match.path {
        Some(PathMatch::Regex(_)) if is_below => {
            let message = format!(
                "a regular expression is of the whole path, and route group `{name}` has one of its own; write \
                 a prefix or a template"
            );
            findings.add(&at.clone().key("path"), message);
        }
        path if group.join(path.as_ref()).is_none() && path.is_some() => {
            let message = format!("behind the path of route group `{name}` it is too long");
            findings.add(&at.clone().key("path"), message);
        }
        _ => {}
    }
    for (position, listener) in route.r#match.listeners.iter().enumerate() {
        if !group.listeners.is_empty() && !group.listeners.contains(listener) {
            let at = at.clone().key("listeners").index(position);
            findings
                .add(&at, format!("`{listener}` is none of the listeners of route group `{name}`"));
        }
    }
}

/// Whether every host of one pattern is of another, as far as can be told.
fn covers(wide: &HostMatch, narrow: &HostMatch) -> bool {
    let under = |name: &HostPattern, wide: &HostPattern| {
        let (name, wide) = (name.to_string(), wide.to_string());
        let bare = name.strip_prefix("*.").unwrap_or(&name).to_owned();
        name == wide
            || wide.strip_prefix('*').is_some_and(|suffix| {
                bare.ends_with(suffix) || name.starts_with("*.") && bare == suffix[1..]
            })
    };
    match (wide, narrow) {
        (HostMatch::Name(wide), HostMatch::Name(narrow)) => under(narrow, wide),
        (HostMatch::Long(HostRule::Regex(pattern)), HostMatch::Name(narrow)) => {
            let narrow = narrow.to_string();
            // What a wildcard stands for cannot be told of a regular expression.
            !narrow.starts_with("*.") && pattern.regex().is_match(&narrow)
        }
        _ => wide == narrow,
    }
}

/// A prefix can take the place only of one that the route matches.
fn swaps_a_prefix(
    route: &RouteConfig,
    group: Option<&RouteGroupConfig>,
    at: &ConfigPath,
    findings: &mut Findings<'_>,
) {
    let path = match group {
        Some(group) => group.narrowed(&route.r#match).path,
        None => route.r#match.path.clone(),
    };
    let is_prefix = match &path {
        None | Some(PathMatch::Prefix(_)) => true,
        Some(PathMatch::Template(template)) => template.is_open(),
        Some(PathMatch::Exact(_) | PathMatch::Regex(_)) => false,
    };
    if is_prefix {
        return;
    }
    let rewrites = route.rewrite.as_ref().is_some_and(|rewrite| rewrite.prefix.is_some());
    let redirects = route.redirect.as_ref().is_some_and(|redirect| redirect.prefix.is_some());
    for key in [("rewrite", rewrites), ("redirect", redirects)].iter().filter(|(_, is)| *is) {
        let at = at.clone().key(key.0).key("prefix");
        let message = "the route matches no prefix that this could take the place of; write `path`";
        findings.add_at_key(&at, message);
    }
}
