//! Routes: what they match, their plugins, and what they do.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::Compile;
use crate::action::{Action, Names, Wrong, rewrite};
use crate::config::{
    Config, ConfigPath, HostMatch, HostRule, ListenerConfig, MatchConfig, PathMatch, RouteConfig,
    RouteGroupConfig,
};
use crate::mirror::Mirror;
use crate::plugin::{Attribute, Chain, Condition, Level, Moment, Mounted};
use crate::routing::{
    HostPattern, PathPattern, RouteIndex, RouteSpec, RouteTable, Rules, Shadow, Tie, ValueRule,
};
use crate::snapshot::{Breakers, Destination, Fuse, ListenerPlan, RoutePlan};
use crate::upstream::{Breaker, BreakerOptions, BreakerScope, Each, Upstream, Who};

/// What routes are compiled from besides themselves.
pub(super) struct Around<'a> {
    config: &'a Config,
    upstreams: HashMap<&'a str, &'a Arc<Upstream>>,
    /// The places of listeners by their names.
    names: HashMap<&'a str, u16>,
    /// The plugins of the gateway and of each listener.
    outer: Vec<Vec<Arc<Mounted>>>,
    /// The chains of the same.
    chains: Vec<Arc<Chain>>,
}

/// A group of routes, and what its plugins make of those further out.
pub(super) struct Group<'a> {
    config: &'a RouteGroupConfig,
    /// By listener.
    outer: Vec<Vec<Arc<Mounted>>>,
    chains: Vec<Arc<Chain>>,
}

impl<'a> Around<'a> {
    pub(super) fn new(
        config: &'a Config,
        upstreams: &'a [Arc<Upstream>],
        listeners: Vec<(Vec<Arc<Mounted>>, &'a ListenerConfig)>,
        plans: &[Arc<ListenerPlan>],
    ) -> Self {
        let (outer, listeners): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
        Self {
            config,
            upstreams: upstreams.iter().map(|upstream| (upstream.name(), upstream)).collect(),
            names: listeners.iter().map(|listener| listener.name.as_str()).zip(0..).collect(),
            outer,
            chains: plans.iter().map(|plan| plan.chain.clone()).collect(),
        }
    }
}

impl Compile<'_> {
    pub(super) fn groups<'a>(&mut self, around: &Around<'a>) -> HashMap<&'a str, Group<'a>> {
        let mut groups = HashMap::new();
        for (index, config) in around.config.route_groups.iter().enumerate() {
            let path = ConfigPath::root().key("route_groups").index(index).key("plugins");
            let scope = format!("group/{}", config.name);
            let own = self.mount(&config.plugins, Level::Group, &path, &scope);
            let layered = around.outer.iter();
            let outer: Vec<_> =
                layered.map(|outer| self.layer(outer, &own, &config.disable, &path)).collect();
            let chains = match own.is_empty() && config.disable.is_empty() {
                true => around.chains.clone(),
                false => {
                    outer.iter().map(|all| Arc::new(Chain::new(all.iter().cloned()))).collect()
                }
            };
            groups.insert(config.name.as_str(), Group { config, outer, chains });
        }
        groups
    }

    pub(super) fn route(
        &mut self,
        config: &RouteConfig,
        path: &ConfigPath,
        around: &Around<'_>,
        groups: &HashMap<&str, Group<'_>>,
    ) -> (RoutePlan, RouteSpec) {
        let group = config.group.as_deref().and_then(|name| groups.get(name));
        let matching = group.map(|group| group.config.narrowed(&config.r#match));
        let matching = matching.as_ref().unwrap_or(&config.r#match);
        let name: Arc<str> = config.name.as_str().into();
        let spec = self.spec(config, matching, name.clone(), path, &around.names);
        let captures = matching.path.as_ref().map(PathMatch::captures).unwrap_or_default();
        let published = Arc::new(self.published.of_route(&captures));
        let everywhere = std::mem::replace(&mut self.published, published.clone());
        let chains = self.chains(config, path, around, group);
        self.published = everywhere;
        let mut wrong = Wrong::new();
        let named = config.reply.as_ref().and_then(|reply| reply.file.as_deref());
        let file = named.map(|file| {
            let read = body_of(file);
            read.inspect_err(|message| {
                let at = ConfigPath::root().key("reply").key("file");
                wrong.push((at, format!("`{}` {message}", file.display())));
            })
        });
        let file = file.map(Result::unwrap_or_default);
        let names = Names { published: &published, captures, file };
        let action = Action::compile(config, &spec.path, &names, &mut wrong);
        let rewrite = rewrite(config, &spec.path, &names, &mut wrong);
        let metrics = self.with.metrics.route(&config.name);
        let mirror = config.mirror.as_ref().and_then(|mirror| {
            let upstream = around.upstreams.get(mirror.upstream.as_str())?;
            let (upstream, metrics) = ((*upstream).clone(), metrics.clone());
            let store = self.with.store;
            Some(Arc::new(Mirror::new(mirror, name.clone(), upstream, metrics, store, &mut wrong)))
        });
        for (at, message) in wrong {
            self.fault(&path.clone().join(&at), message);
        }
        let own = config.timeouts.and_then(|own| own.total);
        let of_group = || group.and_then(|group| group.config.timeouts?.total);
        let plan = RoutePlan {
            destinations: self.destinations(config, &chains, around),
            name,
            action,
            rewrite,
            mirror,
            total: own.or_else(of_group).map(Into::into),
            chains,
            metrics,
        };
        (plan, spec)
    }

    /// Its plugins, by the listener the request came through.
    fn chains(
        &mut self,
        config: &RouteConfig,
        path: &ConfigPath,
        around: &Around<'_>,
        group: Option<&Group<'_>>,
    ) -> Box<[Arc<Chain>]> {
        let (outer, chains) = match group {
            Some(group) => (&group.outer, &group.chains),
            None => (&around.outer, &around.chains),
        };
        if config.plugins.is_empty() && config.disable.is_empty() {
            return chains.as_slice().into();
        }
        let plugins = path.clone().key("plugins");
        let scope = format!("route/{}", config.name);
        let own = self.mount(&config.plugins, Level::Route, &plugins, &scope);
        let layered = outer.iter();
        let layered = layered.map(|outer| self.layer(outer, &own, &config.disable, &plugins));
        layered.map(|all| Arc::new(Chain::new(all))).collect()
    }

    /// Where it sends requests; nowhere if one of the upstreams is not there.
    fn destinations(
        &self,
        config: &RouteConfig,
        chains: &[Arc<Chain>],
        around: &Around<'_>,
    ) -> Box<[Destination]> {
        let one = config.upstream.iter();
        let shares = config.split.iter().flat_map(|split| &split.upstreams);
        let named = one.chain(shares.map(|share| &share.upstream));
        let found = named.map(|name| around.upstreams.get(name.as_str()).copied());
        let upstreams: Option<Vec<&Arc<Upstream>>> = found.collect();
        let destination = |upstream: &Arc<Upstream>| Destination {
            fuses: self.fuses(&config.name, chains, upstream),
            upstream: upstream.clone(),
        };
        upstreams.unwrap_or_default().into_iter().map(destination).collect()
    }

    /// The breakers that plugins put before an upstream, by the listener that requests come through.
    fn fuses(
        &self,
        route: &str,
        chains: &[Arc<Chain>],
        upstream: &Upstream,
    ) -> Option<Box<[Box<[Fuse]>]>> {
        let of = |chain: &Arc<Chain>| {
            let placed = chain.plugins().enumerate().filter_map(|(place, plugin)| {
                let (options, reply) = plugin.hooks.breaker.as_ref()?;
                let breakers = self.breakers(route, plugin, options, upstream);
                Some(Fuse { place, breakers, reply: reply.clone() })
            });
            placed.collect::<Box<[_]>>()
        };
        let fuses: Box<[_]> = chains.iter().map(of).collect();
        fuses.iter().any(|fuses| !fuses.is_empty()).then_some(fuses)
    }

    fn breakers(
        &self,
        route: &str,
        plugin: &Mounted,
        options: &BreakerOptions,
        upstream: &Upstream,
    ) -> Breakers {
        let route = (options.per == BreakerScope::Route).then_some(route);
        let metrics = upstream.metrics().clone();
        // A name that was gone in between has new metrics.
        let carried = format!("{options:?}");
        let digest = format!("{:p}/{carried}", Arc::as_ptr(&metrics));
        let of = route.unwrap_or_default();
        let key = format!("breaker/{}/{}/{}/{of}", plugin.scope, plugin.name, upstream.name());
        let who = Who {
            plugin: plugin.name.clone(),
            upstream: upstream.name().into(),
            of: route.map(Into::into),
            metrics,
        };
        let (store, options) = (self.with.store, options.clone());
        match options.per {
            BreakerScope::Endpoint => {
                Breakers::Each(
                    store.get_carried(&key, &digest, &carried, || Each::new(options, who)),
                )
            }
            BreakerScope::Upstream | BreakerScope::Route => {
                Breakers::One(
                    store.get_carried(&key, &digest, &carried, || Breaker::new(options, who)),
                )
            }
        }
    }
}

impl Compile<'_> {
    /// What a route matches.
    fn spec(
        &mut self,
        route: &RouteConfig,
        matching: &MatchConfig,
        name: Arc<str>,
        path: &ConfigPath,
        listeners_of: &HashMap<&str, u16>,
    ) -> RouteSpec {
        let rules = self.rules(matching, path, listeners_of);
        RouteSpec {
            name,
            priority: route.priority,
            hosts: matching.hosts.iter().map(host).collect(),
            path: matching.path.as_ref().map_or(PathPattern::Any, path_pattern),
            methods: matching.methods.as_slice().into(),
            rules,
        }
    }

    /// What a route asks besides. Routes that ask the same share it: what many look at stays near in memory.
    fn rules(
        &mut self,
        matching: &MatchConfig,
        path: &ConfigPath,
        listeners: &HashMap<&str, u16>,
    ) -> Arc<Rules> {
        let asked = (&matching.headers, &matching.query, &matching.cookies, &matching.clients);
        let asked = serde_json::to_string(&(asked, &matching.listeners, &matching.when));
        let asked = asked.unwrap_or_default();
        if let Some(known) = self.rules.get(&asked) {
            return known.clone();
        }
        let condition = matching.when.as_deref().and_then(|source| {
            let parsed = Condition::parse_for(Moment::Head, source, &self.published);
            let at = path.clone().key("match").key("when");
            parsed.map_err(|error| self.fault(&at, error.to_string())).ok()
        });
        if condition.as_ref().is_some_and(Condition::is_never) {
            let at = path.clone().key("match").key("when");
            let message = "serves no request: its condition never holds";
            self.warnings.push(self.document.fault(&at, message.to_owned()));
        }
        let faulty = condition.is_none() && matching.when.is_some();
        let named = matching.listeners.iter();
        let rules = Arc::new(Rules {
            listeners: named.filter_map(|name| listeners.get(name.as_str()).copied()).collect(),
            values: values(matching),
            clients: matching.clients.as_slice().into(),
            condition,
        });
        // The same fault is told at each of its places.
        if !faulty && !asked.is_empty() {
            self.rules.insert(asked, rules.clone());
        }
        rules
    }

    /// Refuses routes that nothing tells apart.
    pub(super) fn refuse_ties(&mut self, table: &RouteTable) {
        for Tie { first, second } in table.ties() {
            let place =
                |route: RouteIndex| ConfigPath::root().key("routes").index(route.0 as usize);
            let names =
                [first, second].map(|route| table.spec(route).map(|spec| spec.name.clone()));
            let [Some(first_name), Some(second_name)] = names else { continue };
            let message = format!(
                "route `{second_name}` is as specific as route `{first_name}` at {}, and a request could match \
                 both; give one of them a higher `priority`, or let them differ",
                self.document.place(&place(first))
            );
            self.fault(&place(second).key("match"), message);
        }
    }
}

impl Compile<'_> {
    /// Warns of routes that serve nothing.
    pub(super) fn warn_of_shadows(&mut self, table: &RouteTable) {
        for Shadow { route, by } in table.shadowed() {
            let place =
                |route: RouteIndex| ConfigPath::root().key("routes").index(route.0 as usize);
            let names = [route, by].map(|route| table.spec(route).map(|spec| spec.name.clone()));
            let [Some(name), Some(other)] = names else { continue };
            let message = format!(
                "route `{name}` serves no request: route `{other}` at {} goes before it and takes all of its",
                self.document.place(&place(by))
            );
            self.warnings.push(self.document.fault(&place(route).key("match"), message));
        }
    }
}

fn values(matching: &MatchConfig) -> Box<[ValueRule]> {
    let headers = matching
        .headers
        .iter()
        .filter_map(|(name, value)| Some((Attribute::RequestHeader(name.parse().ok()?), value)));
    let query =
        matching.query.iter().map(|(name, value)| (Attribute::RequestQuery(name.clone()), value));
    let cookies = matching
        .cookies
        .iter()
        .map(|(name, value)| (Attribute::RequestCookie(name.clone()), value));
    headers
        .chain(query)
        .chain(cookies)
        .map(|(of, value)| ValueRule { of, test: value.into() })
        .collect()
}

fn host(written: &HostMatch) -> HostPattern {
    match written {
        HostMatch::Long(HostRule::Regex(pattern)) => HostPattern::Regex(pattern.clone()),
        HostMatch::Name(name) => {
            let name = name.to_string();
            match name.strip_prefix("*.") {
                Some(under) => HostPattern::Under(under.into()),
                None => HostPattern::Exact(name.into()),
            }
        }
    }
}

fn path_pattern(written: &PathMatch) -> PathPattern {
    match written {
        PathMatch::Exact(path) => PathPattern::Exact(path.as_str().into()),
        PathMatch::Prefix(path) => PathPattern::Prefix(path.as_str().into()),
        PathMatch::Template(template) => PathPattern::Template(template.into()),
        PathMatch::Regex(pattern) => PathPattern::Regex(pattern.clone()),
    }
}

/// The longest file that can be a reply's body: it is held in memory.
const MAX_BODY: u64 = 16 << 20;

/// What stands in a file that is a reply's body.
///
/// # Errors
/// What is wrong with it, to stand behind its name.
fn body_of(file: &Path) -> Result<Bytes, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    // A pipe would be waited for.
    if !fs::metadata(file).map_err(cannot)?.is_file() {
        return Err("is no file".into());
    }
    let mut body = Vec::new();
    let opened = fs::File::open(file).map_err(cannot)?;
    opened.take(MAX_BODY + 1).read_to_end(&mut body).map_err(cannot)?;
    match body.len() as u64 > MAX_BODY {
        true => Err("is longer than 16MiB, and would be held in memory".into()),
        false => Ok(body.into()),
    }
}
