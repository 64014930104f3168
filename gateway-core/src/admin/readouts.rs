//! What can be read at the admin address.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::server::{Reply, json, problem, typed};
use crate::action::Action;
use crate::config::RouteGroupConfig;
use crate::lifecycle::State;
use crate::plugin::{Level, Mounted};
use crate::reload::Entry;
use crate::snapshot::{Breakers, RoutePlan, Snapshot};
use crate::telemetry::utc;
use crate::upstream::{Breaker, BreakerState, Condition, Endpoint, Overrides, Told};

/// The text exposition format of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The read-out at this path, if there is one.
pub(super) fn read(path: &str, state: &Arc<State>) -> Option<Reply> {
    let snapshot = state.snapshots.load();
    let ok = |body: Value| json(StatusCode::OK, &body);
    Some(match path {
        "/health/live" => ok(json!({ "live": true })),
        "/health" | "/health/ready" => ready(state),
        "/metrics" => {
            snapshot.upstreams().iter().for_each(|upstream| upstream.report());
            report_breakers(&snapshot, state.watch.now());
            typed(StatusCode::OK, EXPOSITION, state.telemetry.exposition())
        }
        "/version" => ok(version()),
        "/status" => ok(status(state, &snapshot)),
        "/revision" => ok(revision(state, &snapshot)),
        "/history" if snapshot.config.reload.history.is_none() => ok(history(&[], &snapshot)),
        "/history" => match state.reloader.entries() {
            Ok(entries) => ok(history(&entries, &snapshot)),
            Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        },
        "/config" => ok(snapshot.config.redacted_json()),
        "/routes" => ok(routes(&snapshot)),
        "/routes/rows" => ok(json!(snapshot.rows())),
        "/upstreams" => ok(upstreams(&snapshot, state.watch.now())),
        "/certificates" => ok(certificates(&snapshot)),
        "/plugins" => ok(plugins(state)),
        _ => return None,
    })
}

/// What `gateway version --json` and `/version` say.
pub fn version() -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "config_version": 1,
        "pingora": "0.9.1",
    })
}

/// The certificates in use now, by listener.
fn certificates(snapshot: &Snapshot) -> Value {
    let listeners = snapshot.listeners().iter().filter_map(|listener| {
        let live = listener.tls.as_ref()?.live();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let all = live.certificates.iter().map(|one| {
            json!({
                "names": one.names,
                "subject": one.subject,
                "issuer": one.issuer,
                "sha256": one.fingerprint,
                "not_before": one.not_before,
                "not_after": one.not_after,
                "days_left": (one.not_after - now).div_euclid(24 * 60 * 60),
            })
        });
        Some(json!({ "listener": &*listener.name, "certificates": all.collect::<Vec<_>>() }))
    });
    json!({ "listeners": listeners.collect::<Vec<_>>() })
}

fn ready(state: &State) -> Reply {
    let ready = state.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &json!({ "ready": ready }))
}

fn status(state: &State, snapshot: &Snapshot) -> Value {
    let (in_flight, oldest) = state.watch.in_flight();
    let listeners = snapshot.listeners().iter().map(|listener| {
        let address = state.sockets.address(listener);
        json!({ "name": &*listener.name, "address": address.map(|address| address.to_string()) })
    });
    json!({
        "ready": state.is_ready(),
        "before_drains": state.is_before_there(),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_ms": u64::try_from(state.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "revision": snapshot.revision,
        "last_reload": state.reloader.last(),
        "canary": state.reloader.on_trial(),
        "last_failed_upgrade": state.last_upgrade(),
        "listeners": listeners.collect::<Vec<_>>(),
        "connections": state.connections.open(),
        "requests_in_flight": in_flight,
        "oldest_request_ms": u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX),
    })
}

fn history(entries: &[Entry], snapshot: &Snapshot) -> Value {
    let in_force = entries.iter().position(|entry| entry.digest == snapshot.revision.digest);
    let entries = entries.iter().enumerate().map(|(index, entry)| {
        let mut told = json!(entry);
        let accepted = SystemTime::UNIX_EPOCH + Duration::from_secs(entry.accepted_at);
        told["accepted"] = utc(accepted).into();
        told["in_force"] = (Some(index) == in_force).into();
        told
    });
    let folder = snapshot.config.reload.history.as_ref().map(|kept| kept.folder.to_string());
    json!({ "folder": folder, "entries": entries.collect::<Vec<_>>() })
}

fn revision(state: &State, snapshot: &Snapshot) -> Value {
    let seconds = snapshot.compiled_at.duration_since(SystemTime::UNIX_EPOCH);
    json!({
        "revision": snapshot.revision,
        "compiled_at": seconds.map(|since| since.as_secs()).unwrap_or_default(),
        "last_reload": state.reloader.last(),
        "canary": state.reloader.on_trial(),
    })
}

/// The upstreams of a snapshot and the state of their endpoints, in the order of the config.
fn upstreams(snapshot: &Snapshot, now: u64) -> Value {
    let mut breakers = breakers(snapshot, now);
    let written = snapshot.upstreams().iter().zip(&snapshot.config.upstreams);
    let upstreams = written.map(|(upstream, config)| {
        let told = upstream.conditions();
        let endpoints = told.iter().map(|(one, condition)| endpoint(one, condition, now));
        let mut told = json!({ "name": upstream.name(), "balance": config.balance });
        if let Some(discovery) = upstream.discovery() {
            told["discovery"] = json!(discovery);
        }
        told["endpoints"] = endpoints.collect();
        if let Some(breakers) = breakers.remove(upstream.name()) {
            told["breakers"] = breakers.into();
        }
        told
    });
    upstreams.collect()
}

/// What is told of the breakers before one upstream.
pub(super) fn breakers_of(snapshot: &Snapshot, upstream: &str, now: u64) -> Value {
    breakers(snapshot, now).remove(upstream).unwrap_or_default().into()
}

/// What is told of the breakers before each upstream.
fn breakers(snapshot: &Snapshot, now: u64) -> HashMap<&str, Vec<Value>> {
    let mut told: HashMap<&str, Vec<Value>> = HashMap::new();
    each_breaker(snapshot, |upstream, plugin, route, endpoint, breaker| {
        let state = breaker.state(now);
        let mut one = json!({ "plugin": &*plugin.name, "from": plugin.level, "state": state });
        if plugin.level == Level::Route || breaker.is_of_route() {
            one["route"] = route.into();
        }
        if let Some(endpoint) = endpoint {
            one["endpoint"] = json!(endpoint);
        }
        if breaker.told() != Told::Auto {
            one["told"] = json!(state);
        }
        told.entry(upstream).or_default().push(one);
    });
    told
}

/// Brings the metrics up to date that count breakers by their states.
fn report_breakers(snapshot: &Snapshot, now: u64) {
    let mut counts: HashMap<&str, [usize; 3]> = HashMap::new();
    each_breaker(snapshot, |upstream, _, _, _, breaker| {
        let place = match breaker.state(now) {
            BreakerState::Closed => 0,
            BreakerState::Open => 1,
            BreakerState::HalfOpen => 2,
        };
        counts.entry(upstream).or_default()[place] += 1;
    });
    for upstream in snapshot.upstreams() {
        let counts = counts.get(upstream.name()).copied().unwrap_or_default();
        upstream.metrics().set_breakers(counts);
    }
}

/// Calls `tell` with the upstream, plugin, route and perhaps endpoint of each breaker. Of those that
/// several routes share, the first of these is the route.
fn each_breaker<'a>(
    snapshot: &'a Snapshot,
    mut tell: impl FnMut(&'a str, &Mounted, &str, Option<SocketAddr>, &Breaker),
) {
    let mut seen = HashSet::new();
    for route in snapshot.routes() {
        for (upstream, plugin, breakers) in route.breakers() {
            let held = match breakers {
                Breakers::One(breaker) => vec![(None, breaker.clone())],
                Breakers::Each(each) => {
                    each.held().into_iter().map(|(address, one)| (Some(address), one)).collect()
                }
            };
            for (endpoint, breaker) in held {
                if seen.insert(Arc::as_ptr(&breaker)) {
                    tell(upstream.name(), plugin, &route.name, endpoint, &breaker);
                }
            }
        }
    }
}

/// What is told of an endpoint.
pub(super) fn endpoint(endpoint: &Endpoint, condition: &Condition, now: u64) -> Value {
    let latency = endpoint.latency(now).map(|latency| latency.as_secs_f64() * 1e3);
    let mut told = json!({
        "address": endpoint.address,
        "weight": endpoint.weight,
        "priority": endpoint.priority,
        "labels": endpoint.labels,
        "in_flight": endpoint.in_flight(),
        "latency_ms": latency.map(|ms| (ms * 1e3).round() / 1e3),
    });
    let Overrides { drained, weight, .. } = endpoint.overrides();
    let weight = weight.map(|weight| ("weight", json!(weight)));
    let drained = drained.then_some(("drained", json!(true)));
    let overrides: Map<String, Value> =
        [weight, drained].into_iter().flatten().map(|(key, value)| (key.into(), value)).collect();
    if !overrides.is_empty() {
        told["overrides"] = overrides.into();
    }
    merged(told, json!(condition))
}

/// One object of two.
fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

/// The routes of a snapshot with their chains, in the order of the config.
pub fn routes(snapshot: &Snapshot) -> Value {
    let mut groups: HashMap<&str, &RouteGroupConfig> = HashMap::new();
    for group in &snapshot.config.route_groups {
        groups.insert(group.name.as_str(), group);
    }
    let plans = snapshot.routes().iter().zip(&snapshot.config.routes);
    let routes = plans.map(|(plan, config)| {
        let group = config.group.as_deref().and_then(|name| groups.get(name));
        let matching = group.map(|group| group.narrowed(&config.r#match));
        let mut told = json!({
            "name": &*plan.name,
            "match": matching.as_ref().unwrap_or(&config.r#match),
            "priority": config.priority,
            "action": action(plan),
            "plugins": chains(snapshot, plan),
        });
        if let Some(group) = &config.group {
            told["group"] = group.as_str().into();
        }
        told
    });
    let mut routes: Vec<Value> = routes.collect();
    // As their first rows are tried.
    let mut order: HashMap<&str, usize> = HashMap::new();
    let rows = snapshot.rows();
    for (place, row) in rows.iter().enumerate() {
        order.entry(row.route.as_str()).or_insert(place);
    }
    routes.sort_by_key(|route| route["name"].as_str().and_then(|name| order.get(name)).copied());
    Value::Array(routes)
}

fn action(route: &RoutePlan) -> Value {
    match &route.action {
        Action::Send(None) => json!({ "upstream": route.upstream().map(|one| one.name()) }),
        Action::Send(Some(split)) => {
            let shares = split.shares().map(|(upstream, share)| {
                json!({ "upstream": upstream, "share": (share * 1e4).round() / 1e4 })
            });
            let sticky = split.sticky().map(ToString::to_string);
            json!({ "split": shares.collect::<Vec<_>>(), "sticky": sticky })
        }
        Action::Redirect(redirect) => json!({ "redirect": redirect.status.as_u16() }),
        Action::Reply(reply) => json!({ "reply": reply.status.as_u16(), "echo": reply.echo }),
    }
}

/// A route's chain by listener, in the order in which requests meet it.
fn chains(snapshot: &Snapshot, route: &RoutePlan) -> Value {
    let by_listener = snapshot.listeners().iter().filter_map(|listener| {
        let plugins = route.chain(listener)?.plugins().map(|plugin| {
            json!({
                "name": &*plugin.name,
                "kind": plugin.kind,
                "class": plugin.class,
                "from": plugin.level,
                "phases": plugin.phases(),
                "when": plugin.when(),
            })
        });
        Some((listener.name.to_string(), plugins.collect::<Value>()))
    });
    Value::Object(by_listener.collect())
}

fn plugins(state: &State) -> Value {
    let plugins = state.plugins.iter().map(|(kind, class)| json!({ "kind": kind, "class": class }));
    plugins.collect()
}
