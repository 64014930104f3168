//! Routes: what they match, their plugins, and what they do.

use std::collections::HashMap;
use std::sync::Arc;

use super::Compile;
use crate::config::{
    ConfigPath, HostMatch, HostRule, ListenerConfig, MatchConfig, PathMatch, ReplyConfig,
    RouteConfig,
};
use crate::plugin::{Attribute, Chain, Condition, Level, Moment, Mounted};
use crate::routing::{
    HostPattern, PathPattern, RouteIndex, RouteSpec, RouteTable, Rules, Shadow, Tie, ValueRule,
};
use crate::snapshot::{Action, Breakers, Fuse, ListenerPlan, ReplyPlan, RoutePlan};
use crate::upstream::{Breaker, BreakerOptions, BreakerScope, Each, Upstream, Who};

impl Compile<'_> {
    pub(super) fn route(
        &mut self,
        config: &RouteConfig,
        path: &ConfigPath,
        upstreams: &[Arc<Upstream>],
        listeners: &[(Vec<Arc<Mounted>>, &ListenerConfig)],
        plans: &[Arc<ListenerPlan>],
    ) -> RoutePlan {
        let plugins = path.clone().key("plugins");
        let scope = format!("route/{}", config.name);
        let own = self.mount(&config.plugins, Level::Route, &plugins, &scope);
        let plain = own.is_empty() && config.disable.is_empty();
        let chains = listeners.iter().zip(plans).map(|((outer, _), plan)| {
            if plain {
                plan.chain.clone()
            } else {
                Arc::new(Chain::new(self.layer(outer, &own, &config.disable, &plugins)))
            }
        });
        let chains: Box<[_]> = chains.collect();
        let action = action(config, upstreams);
        let fuses = match &action {
            Action::Upstream(upstream) => self.fuses(&config.name, &chains, upstream),
            Action::Reply(_) => None,
        };
        RoutePlan {
            name: config.name.as_str().into(),
            action,
            fuses,
            total: config.timeouts.as_ref().and_then(|own| own.total).map(Into::into),
            chains,
            metrics: self.with.metrics.route(&config.name),
        }
    }

    /// The breakers that plugins put before an upstream, by the listener that requests come through.
    pub(super) fn fuses(
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

fn action(config: &RouteConfig, upstreams: &[Arc<Upstream>]) -> Action {
    let named = config.upstream.as_deref();
    let found = named.and_then(|name| upstreams.iter().find(|held| held.name() == name));
    match (found, &config.reply) {
        (Some(upstream), _) => Action::Upstream(upstream.clone()),
        (None, reply) => Action::Reply(reply.as_ref().map(reply_plan).unwrap_or_default()),
    }
}

fn reply_plan(config: &ReplyConfig) -> ReplyPlan {
    ReplyPlan {
        status: http::StatusCode::from_u16(config.status).unwrap_or_default(),
        headers: config
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
            .collect(),
        body: config.body.clone().unwrap_or_default().into(),
        echo: config.echo,
    }
}

impl Default for ReplyPlan {
    fn default() -> Self {
        Self {
            status: http::StatusCode::OK,
            headers: Box::default(),
            body: bytes::Bytes::new(),
            echo: false,
        }
    }
}

impl Compile<'_> {
    /// What a route matches.
    pub(super) fn spec(
        &mut self,
        route: &RouteConfig,
        name: Arc<str>,
        path: &ConfigPath,
        listeners_of: &HashMap<&str, u16>,
    ) -> RouteSpec {
        let matching = &route.r#match;
        let condition = matching.when.as_deref().and_then(|source| {
            let parsed = Condition::parse_for(Moment::Head, source, &self.published);
            let at = path.clone().key("match").key("when");
            parsed.map_err(|error| self.fault(&at, error.to_string())).ok()
        });
        let listeners = matching.listeners.iter();
        let rules = Rules {
            listeners: listeners
                .filter_map(|name| listeners_of.get(name.as_str()).copied())
                .collect(),
            values: values(matching),
            clients: matching.clients.as_slice().into(),
            condition,
        };
        RouteSpec {
            name,
            priority: route.priority,
            hosts: matching.hosts.iter().map(host).collect(),
            path: matching.path.as_ref().map_or(PathPattern::Any, path_pattern),
            methods: matching.methods.as_slice().into(),
            rules: Arc::new(rules),
        }
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
