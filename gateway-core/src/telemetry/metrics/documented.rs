//! Every metric family: its name, kind, unit, labels and meaning. Families are made from this table.

use super::labels::{
    ATTEMPT_OUTCOMES, BREAKER_STATES, CHECK_OUTCOMES, CLOSED, COMPARISONS, COMPRESSION_FORMS,
    CONNECTION_OUTCOMES, COPY_OUTCOMES, CREDENTIAL_CHECKS, EJECTION_REASONS, ENDPOINT_STATES,
    HANDSHAKE_FAILURES, HANDSHAKES, KEY_FETCHES, LIMITER_DECISIONS, LOOK_OUTCOMES, METHODS,
    OVERFLOWS, PLUGIN_ERRORS, REFUSALS, RETRY_REASONS, STATUSES, STORE_CALLS,
};
use crate::telemetry::failure::FailureCode;
use crate::telemetry::grpc::GrpcStatus;

/// One family, as the docs list it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricDoc {
    /// Full name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Base unit: `seconds`, `bytes`, or what is counted.
    pub unit: &'static str,
    /// Label names, in order.
    pub labels: &'static [&'static str],
    /// What it says; also its help text.
    pub meaning: &'static str,
    /// Upper bounds of a histogram's buckets, without infinity.
    pub buckets: &'static [f64],
    pub(super) owner: Owner,
    /// How many values its labels take for one owner.
    pub(super) children: usize,
}

/// What a family is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// Whose name the first label carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Gateway,
    Route,
    Listener,
    Upstream,
    Plugin,
}

const REQUEST_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const CONNECT_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const CONNECTION_SECONDS: &[f64] = &[0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0];
const PLUGIN_SECONDS: &[f64] = &[0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0];

const fn doc(
    name: &'static str,
    unit: &'static str,
    owner: Owner,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> MetricDoc {
    let kind = Kind::Counter;
    MetricDoc { name, kind, unit, labels, meaning, buckets: &[], owner, children: 1 }
}

const fn gauge(doc: MetricDoc) -> MetricDoc {
    MetricDoc { kind: Kind::Gauge, ..doc }
}

const fn histogram(doc: MetricDoc, buckets: &'static [f64]) -> MetricDoc {
    MetricDoc { kind: Kind::Histogram, buckets, ..doc }
}

const fn times(children: usize, doc: MetricDoc) -> MetricDoc {
    MetricDoc { children, ..doc }
}

macro_rules! families {
    ($($constant:ident = $doc:expr;)*) => {
        $(pub(super) const $constant: MetricDoc = $doc;)*
        /// Every family the gateway registers, in the order of the docs.
        pub const DOCUMENTED: &[MetricDoc] = &[$($constant),*];
    };
}

use Owner::*;

families! {
    REQUESTS = times(METHODS.len() * STATUSES.len(), doc("gateway_requests_total", "requests", Route, &["route", "method", "status"], "Requests finished, by method class and status class; an empty route means that none matched."));
    FAILURES = times(FailureCode::ALL.len(), doc("gateway_request_failures_total", "requests", Route, &["route", "code"], "Requests that ended with a failure code."));
    GRPC = times(GrpcStatus::ALL.len(), doc("gateway_grpc_responses_total", "calls", Route, &["route", "grpc_status"], "Calls of gRPC that ended, by the name of their status."));
    DURATION = histogram(doc("gateway_request_duration_seconds", "seconds", Route, &["route"], "Time from the request head to the last byte of the answer."), REQUEST_SECONDS);
    MIRRORED = times(COPY_OUTCOMES.len(), doc("gateway_mirror_copies_total", "copies", Route, &["route", "outcome"], "Copies of requests for another upstream, by what became of them."));
    COMPARED = times(COMPARISONS.len(), doc("gateway_mirror_comparisons_total", "answers", Route, &["route", "outcome"], "Answers to copies that were compared with those to the originals, by the first thing that differed."));
    REQUEST_BYTES = doc("gateway_request_body_bytes_total", "bytes", Route, &["route"], "Request body bytes read from clients.");
    RESPONSE_BYTES = doc("gateway_response_body_bytes_total", "bytes", Route, &["route"], "Response body bytes written to clients.");
    IN_FLIGHT = gauge(doc("gateway_requests_in_flight", "requests", Listener, &["listener"], "Requests begun and not finished."));
    OPEN = gauge(doc("gateway_connections_open", "connections", Listener, &["listener"], "Client connections open."));
    CONNECTIONS = doc("gateway_connections_total", "connections", Listener, &["listener"], "Client connections accepted, refused ones not counted.");
    REFUSED = times(REFUSALS.len(), doc("gateway_connections_refused_total", "connections", Listener, &["listener", "reason"], "Client connections closed at once, by the limit that refused them."));
    TLS_HANDSHAKES = times(HANDSHAKES.len(), doc("gateway_tls_handshakes_total", "handshakes", Listener, &["listener", "kind"], "TLS handshakes with clients, by whether they resumed a session."));
    TLS_HANDSHAKE_FAILURES = times(HANDSHAKE_FAILURES.len(), doc("gateway_tls_handshake_failures_total", "handshakes", Listener, &["listener", "reason"], "TLS handshakes with clients that failed, by what they failed of."));
    CERTIFICATE_END = gauge(doc("gateway_tls_certificate_expiry_timestamp_seconds", "seconds", Listener, &["listener"], "When the first certificate of the listener expires, in seconds since 1970."));
    ENDED = times(CLOSED.len(), doc("gateway_connections_ended_total", "connections", Listener, &["listener", "reason"], "Client connections that ended before a request head was read."));
    TCP_CONNECTIONS = times(CONNECTION_OUTCOMES.len(), doc("gateway_tcp_connections_total", "connections", Listener, &["listener", "outcome"], "Connections of TCP listeners that ended, by failure code, or ok if they had none."));
    TCP_DURATION = histogram(doc("gateway_tcp_connection_duration_seconds", "seconds", Listener, &["listener"], "Time from accepting a connection of a TCP listener to its end."), CONNECTION_SECONDS);
    TCP_RECEIVED = doc("gateway_tcp_received_bytes_total", "bytes", Listener, &["listener"], "Bytes read from clients of TCP listeners.");
    TCP_SENT = doc("gateway_tcp_sent_bytes_total", "bytes", Listener, &["listener"], "Bytes read from endpoints for clients of TCP listeners.");
    FIRST_BYTE = histogram(doc("gateway_request_first_byte_seconds", "seconds", Upstream, &["upstream"], "Time from an attempt's start to the first byte of its answer."), REQUEST_SECONDS);
    ATTEMPTS = times(ATTEMPT_OUTCOMES.len(), doc("gateway_upstream_attempts_total", "attempts", Upstream, &["upstream", "outcome"], "Attempts, by failure code, ok if an answer came, or lost if another attempt answered first."));
    CONNECT = histogram(doc("gateway_upstream_connect_seconds", "seconds", Upstream, &["upstream"], "Time to open a connection to an endpoint, TLS included."), CONNECT_SECONDS);
    UPSTREAM_CONNECTIONS = times(2, doc("gateway_upstream_connections_total", "connections", Upstream, &["upstream", "reused"], "Connections that attempts ran on, new or from the pool."));
    UPSTREAM_IN_FLIGHT = gauge(doc("gateway_upstream_requests_in_flight", "requests", Upstream, &["upstream"], "Requests given to an endpoint and not answered."));
    ENDPOINTS = times(ENDPOINT_STATES.len(), gauge(doc("gateway_upstream_endpoints", "endpoints", Upstream, &["upstream", "state"], "Endpoints, by whether and why they can be chosen.")));
    EJECTIONS = times(EJECTION_REASONS.len(), doc("gateway_upstream_ejections_total", "ejections", Upstream, &["upstream", "reason"], "Endpoints taken out for a while for what became of requests."));
    DISCOVERIES = times(LOOK_OUTCOMES.len(), doc("gateway_upstream_discoveries_total", "looks", Upstream, &["upstream", "outcome"], "Looks for endpoints in DNS or a file, by outcome."));
    LIMIT = gauge(doc("gateway_upstream_limit", "requests", Upstream, &["upstream"], "Requests that may be in flight at an upstream; 0 where nothing limits them."));
    CHECKS = times(CHECK_OUTCOMES.len(), doc("gateway_upstream_health_checks_total", "checks", Upstream, &["upstream", "outcome"], "Health checks made, by outcome."));
    RETRIES = times(RETRY_REASONS.len(), doc("gateway_upstream_retries_total", "attempts", Upstream, &["upstream", "reason"], "Attempts that were repeated, by what was wrong with them."));
    RETRIES_REFUSED = doc("gateway_upstream_retries_refused_total", "attempts", Upstream, &["upstream"], "Attempts that were not repeated because the budget was used up.");
    WAITING = gauge(doc("gateway_upstream_queue_length", "requests", Upstream, &["upstream"], "Requests that wait for others to end."));
    OVERFLOWED = times(OVERFLOWS.len(), doc("gateway_upstream_overflows_total", "requests", Upstream, &["upstream", "reason"], "Requests refused because too many were in flight."));
    BREAKERS = times(BREAKER_STATES.len(), gauge(doc("gateway_upstream_breakers", "breakers", Upstream, &["upstream", "state"], "Circuit breakers before the upstream and its endpoints, by state; half open is probing.")));
    BREAKER_CHANGES = times(BREAKER_STATES.len(), doc("gateway_upstream_breaker_changes_total", "changes", Upstream, &["upstream", "state"], "Changes of circuit breakers, by the state that followed."));
    PLUGIN_DURATION = histogram(doc("gateway_plugin_duration_seconds", "seconds", Plugin, &["plugin"], "Time a request spent in the plugin."), PLUGIN_SECONDS);
    PLUGIN_FAILURES = times(PLUGIN_ERRORS.len(), doc("gateway_plugin_errors_total", "errors", Plugin, &["plugin", "kind"], "Hooks that failed or panicked."));
    PLUGIN_REPLIES = doc("gateway_plugin_replies_total", "requests", Plugin, &["plugin"], "Requests that the plugin answered itself.");
    LIMITER = times(LIMITER_DECISIONS.len(), doc("gateway_limiter_decisions_total", "requests", Plugin, &["plugin", "decision"], "Requests that a limiter counted, by what it made of them; would_limit where it is only tried."));
    COMPRESSION = times(COMPRESSION_FORMS.len(), doc("gateway_compression_bytes_total", "bytes", Plugin, &["plugin", "form"], "Bytes of bodies that were compressed to their end, as they came (plain) and as they went on (coded)."));
    STORE = times(STORE_CALLS.len(), doc("gateway_limiter_store_calls_total", "calls", Plugin, &["plugin", "outcome"], "Calls of the store that limits are shared in, by outcome; down where there was no connection."));
    CREDENTIALS = times(CREDENTIAL_CHECKS.len(), doc("gateway_credential_checks_total", "requests", Plugin, &["plugin", "outcome"], "Requests whose credentials a plugin looked for, by what it found."));
    KEY_FETCH = times(KEY_FETCHES.len(), doc("gateway_key_fetches_total", "fetches", Plugin, &["plugin", "outcome"], "Sets of keys fetched to check credentials with, by outcome."));
    REVISION = gauge(doc("gateway_config_revision_info", "info", Gateway, &["revision", "digest"], "Always 1; the labels name the config in use."));
    RELOADS = times(3, doc("gateway_config_reloads_total", "reloads", Gateway, &["outcome"], "Reloads tried, by outcome."));
    LAST_RELOAD = times(3, gauge(doc("gateway_config_last_reload_timestamp_seconds", "seconds", Gateway, &["outcome"], "When a reload last had this outcome, since 1970.")));
    CANARY = gauge(doc("gateway_config_canary_info", "info", Gateway, &["revision", "digest"], "1 while a config is tried on a share of requests; the labels name it."));
    CANARY_REQUESTS = times(4, doc("gateway_config_canary_requests_total", "requests", Gateway, &["by", "outcome"], "Requests that count for the trial of a config, by the config that served them (canary or in_force) and what became of them (good or failed)."));
    UPGRADES = times(2, doc("gateway_upgrades_total", "upgrades", Gateway, &["outcome"], "Upgrades tried, by outcome. A process that took over counts one success."));
    LOG_DROPPED = doc("gateway_access_log_dropped_total", "lines", Gateway, &[], "Access log lines dropped because the queue was full.");
    LOG_FAILED = doc("gateway_access_log_failed_total", "lines", Gateway, &[], "Access log lines that the output refused.");
    BUILD = gauge(doc("gateway_build_info", "info", Gateway, &["version"], "Always 1; the label names the program's version."));
    CPU = doc("process_cpu_seconds_total", "seconds", Gateway, &[], "User and system time the process has spent.");
    OPEN_FDS = gauge(doc("process_open_fds", "descriptors", Gateway, &[], "File descriptors open."));
    MAX_FDS = gauge(doc("process_max_fds", "descriptors", Gateway, &[], "File descriptors that may be open."));
    VIRTUAL_MEMORY = gauge(doc("process_virtual_memory_bytes", "bytes", Gateway, &[], "Virtual memory size."));
    RESIDENT_MEMORY = gauge(doc("process_resident_memory_bytes", "bytes", Gateway, &[], "Resident memory size."));
    START_TIME = gauge(doc("process_start_time_seconds", "seconds", Gateway, &[], "When the process started, since 1970."));
    THREADS = gauge(doc("process_threads", "threads", Gateway, &[], "Threads of the process."));
}

/// The most series that so many configured names can lead to; one route more stands for no route.
pub fn series_bound(routes: usize, listeners: usize, upstreams: usize, plugins: usize) -> usize {
    let owners = |owner| match owner {
        Gateway => 1,
        Route => routes + 1,
        Listener => listeners,
        Upstream => upstreams,
        Plugin => plugins,
    };
    let samples = |doc: &MetricDoc| match doc.kind {
        Kind::Histogram => doc.buckets.len() + 3,
        Kind::Counter | Kind::Gauge => 1,
    };
    DOCUMENTED.iter().map(|doc| owners(doc.owner) * doc.children * samples(doc)).sum()
}
