//! What a route does with a request.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Destination, Explained, Seen, Share, Told};
use crate::action::{Action, SplitPlan};
use crate::config::{RouteConfig, Span, UpstreamConfig};
use crate::proxy::asked_timeout;
use crate::snapshot::RoutePlan;
use crate::telemetry::FailureCode;
use crate::upstream::Upstream;

/// What becomes of a request that has this route.
pub(super) fn explain(seen: &Seen<'_>, route: &Arc<RoutePlan>) -> Told {
    let config = config_of(seen, route);
    let captures = seen
        .ctx
        .captures()
        .map(|all| all.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let told = Told {
        route: Some(route.name.to_string()),
        group: config.and_then(|config| config.group.clone()),
        captures: captures.unwrap_or_default(),
        ..Told::default()
    };
    match &route.action {
        Action::Reply(reply) => {
            Told { action: Explained::Reply, status: Some(reply.status.as_u16()), ..told }
        }
        Action::Redirect(redirect) if !seen.unknown(&redirect.reads()).is_empty() => Told {
            action: Explained::Redirect,
            status: Some(redirect.status.as_u16()),
            waits_for: seen.unknown(&redirect.reads()),
            ..told
        },
        Action::Redirect(redirect) => match redirect.location(&seen.facts()) {
            Ok(location) => Told {
                action: Explained::Redirect,
                status: Some(redirect.status.as_u16()),
                location: Some(location),
                ..told
            },
            Err(why) => unfit(told, &why),
        },
        Action::Send(split) => send(seen, route, config, split.as_ref(), told),
    }
}

fn unfit(told: Told, why: &dyn std::fmt::Display) -> Told {
    let failure = Some(FailureCode::P8.code().to_owned());
    let why = Some(why.to_string());
    Told { action: Explained::Refusal, status: Some(400), failure, why, ..told }
}

fn send(
    seen: &Seen<'_>,
    route: &Arc<RoutePlan>,
    config: Option<&RouteConfig>,
    split: Option<&SplitPlan>,
    told: Told,
) -> Told {
    let reads = route.rewrite.iter().flat_map(|rewrite| rewrite.reads());
    let mut waits_for = seen.unknown(&reads.collect::<Vec<_>>());
    let known = route.rewrite.as_ref().filter(|_| waits_for.is_empty());
    let rewritten = known.map(|rewrite| rewrite.apply(&seen.facts()));
    let rewritten = match rewritten.transpose() {
        Ok(rewritten) => rewritten,
        Err(why) => return unfit(told, &why),
    };
    let place = match split {
        None => Some(0),
        // Which it is is known only where the caller is kept at one.
        Some(split) if split.is_early() => split.kept(&seen.facts()),
        Some(split) => {
            let sticky: Vec<_> = split.sticky().into_iter().collect();
            let unknown = seen.unknown(&sticky);
            let kept = split.kept(&seen.facts()).filter(|_| unknown.is_empty());
            waits_for.extend(unknown);
            kept
        }
    };
    let upstream = place.and_then(|place| route.destinations.get(place));
    let upstream = upstream.map(|destination| &destination.upstream);
    let host = rewritten.as_ref().and_then(|rewritten| rewritten.host.as_ref());
    let shares = split.into_iter().flat_map(SplitPlan::shares);
    Told {
        action: Explained::Upstream,
        waits_for,
        total: total(seen, route, config, upstream),
        split: shares
            .map(|(upstream, share)| Share { upstream: upstream.to_owned(), share })
            .collect(),
        mirror: route.mirror.as_ref().map(|mirror| {
            let (upstream, share) = mirror.told();
            Share { upstream: upstream.name().to_owned(), share }
        }),
        sticky: split.and_then(|split| Some(split.sticky()?.to_string())),
        upstream: upstream.map(|upstream| destination(seen, upstream)),
        rewritten_host: host.and_then(|host| host.to_str().ok()).map(str::to_owned),
        rewritten_path: rewritten.and_then(|rewritten| rewritten.path),
        ..told
    }
}

fn total(
    seen: &Seen<'_>,
    route: &RoutePlan,
    config: Option<&RouteConfig>,
    upstream: Option<&Arc<Upstream>>,
) -> Option<(String, String)> {
    let own = config.and_then(|config| config.timeouts?.total);
    let at_upstream = upstream.and_then(|one| config_of_upstream(seen, one)?.timeouts.total);
    let asked = asked_timeout(seen.head).map(Span);
    let configured = route.total.map(Span).or(at_upstream);
    if let Some(asked) = asked.filter(|asked| configured.is_none_or(|own| asked.0 < own.0)) {
        return Some((asked.to_string(), "client".to_owned()));
    }
    match (route.total, upstream) {
        (Some(total), _) => {
            let from = if own.is_some() { "route" } else { "group" };
            Some((Span(total).to_string(), from.to_owned()))
        }
        (None, Some(_)) => Some((at_upstream?.to_string(), "upstream".to_owned())),
        (None, None) => None,
    }
}

fn destination(seen: &Seen<'_>, upstream: &Arc<Upstream>) -> Destination {
    let config = config_of_upstream(seen, upstream);
    let endpoints = upstream.endpoints();
    let told = |part: fn(&UpstreamConfig) -> Value| config.map_or(Value::Null, part);
    let retry = told(|config| json!(config.retry));
    let discover = told(|config| json!(config.discover));
    Destination {
        name: upstream.name().to_owned(),
        balance: told(|config| json!(config.balance)),
        endpoints: endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect(),
        discover: (!discover.is_null()).then_some(discover),
        timeouts: told(|config| json!(config.timeouts)),
        retry: (!retry.is_null()).then_some(retry),
        limits: told(|config| json!(config.limits)),
    }
}

fn config_of<'a>(seen: &Seen<'a>, route: &Arc<RoutePlan>) -> Option<&'a RouteConfig> {
    let place = seen.snapshot.routes().iter().position(|one| Arc::ptr_eq(one, route))?;
    seen.snapshot.config.routes.get(place)
}

fn config_of_upstream<'a>(seen: &Seen<'a>, upstream: &Arc<Upstream>) -> Option<&'a UpstreamConfig> {
    seen.snapshot.config.upstreams.iter().find(|one| one.name == upstream.name())
}
