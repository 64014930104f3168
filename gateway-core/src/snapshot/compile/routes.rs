//! Routes: what they match, their plugins, and what they do.

use std::collections::HashMap;
use std::sync::Arc;

use super::Compile;
use crate::config::{ConfigPath, ListenerConfig, PathMatch, ReplyConfig, RouteConfig};
use crate::plugin::{Chain, Level, Mounted};
use crate::routing::{PathSpec, RouteSpec};
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

pub(super) fn spec(
    route: &RouteConfig,
    name: Arc<str>,
    listeners: &HashMap<&str, u16>,
) -> RouteSpec {
    let matching = &route.r#match;
    RouteSpec {
        name,
        hosts: matching.hosts.clone(),
        path: match &matching.path {
            None => PathSpec::Any,
            Some(PathMatch::Exact(path)) => PathSpec::Exact(path.clone()),
            Some(PathMatch::Prefix(path)) => PathSpec::Prefix(path.clone()),
        },
        methods: matching.methods.clone(),
        listeners: matching
            .listeners
            .iter()
            .filter_map(|name| listeners.get(name.as_str()).copied())
            .collect(),
    }
}
