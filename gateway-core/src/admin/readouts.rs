//! What can be read at the admin address.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Value, json};

use super::server::{Reply, json, typed};
use crate::lifecycle::State;
use crate::snapshot::{Action, RoutePlan, Snapshot};

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
            typed(StatusCode::OK, EXPOSITION, state.telemetry.exposition())
        }
        "/version" => ok(version()),
        "/status" => ok(status(state, &snapshot)),
        "/revision" => ok(revision(state, &snapshot)),
        "/config" => ok(snapshot.config.redacted_json()),
        "/routes" => ok(routes(&snapshot)),
        "/upstreams" => ok(upstreams(&snapshot)),
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

fn ready(state: &State) -> Reply {
    let ready = state.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &json!({ "ready": ready }))
}

fn status(state: &State, snapshot: &Snapshot) -> Value {
    let (in_flight, oldest) = state.watch.in_flight();
    json!({
        "ready": state.is_ready(),
        "revision": snapshot.revision,
        "connections": state.connections.open(),
        "requests_in_flight": in_flight,
        "oldest_request_ms": u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX),
    })
}

fn revision(state: &State, snapshot: &Snapshot) -> Value {
    let seconds = snapshot.compiled_at.duration_since(SystemTime::UNIX_EPOCH);
    json!({
        "revision": snapshot.revision,
        "compiled_at": seconds.map(|since| since.as_secs()).unwrap_or_default(),
        "last_reload": state.reloader.last(),
    })
}

/// The upstreams of a snapshot and the state of their endpoints, in the order of the config.
fn upstreams(snapshot: &Snapshot) -> Value {
    let written = snapshot.upstreams().iter().zip(&snapshot.config.upstreams);
    let upstreams = written.map(|(upstream, config)| {
        let endpoints = upstream.endpoints().iter().zip(&config.endpoints);
        let endpoints = endpoints.map(|(endpoint, config)| {
            json!({
                "address": endpoint.address,
                "weight": endpoint.weight,
                "labels": config.labels,
                "in_flight": endpoint.in_flight(),
            })
        });
        json!({
            "name": upstream.name(),
            "balance": config.balance,
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    });
    upstreams.collect()
}

/// The routes of a snapshot with their chains, in the order of the config.
pub fn routes(snapshot: &Snapshot) -> Value {
    let plans = snapshot.routes().iter().zip(&snapshot.config.routes);
    let routes = plans.map(|(plan, config)| {
        json!({
            "name": &*plan.name,
            "match": config.r#match,
            "action": action(&plan.action),
            "plugins": chains(snapshot, plan),
        })
    });
    Value::Array(routes.collect())
}

fn action(action: &Action) -> Value {
    match action {
        Action::Upstream(upstream) => json!({ "upstream": upstream.name() }),
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
