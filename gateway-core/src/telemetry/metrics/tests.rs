//! Every documented family moves, no more series than promised exist, and removed names are gone.

use super::*;
use crate::telemetry::failure::FailureCode;
use crate::telemetry::grpc::GrpcStatus;
use crate::telemetry::record::{AttemptRecord, RequestRecord};
use http::Method;
use labels::{ENDPOINT_STATES, METHODS};
use std::collections::BTreeMap;
use std::time::Duration;

fn metrics() -> Metrics {
    Metrics::new("1.2.3").unwrap()
}

/// Sample lines by name and labels.
fn samples(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.gather_text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

/// A request that went well.
fn good(attempts: &[AttemptRecord]) -> Outcome<'_> {
    Outcome {
        method: &Method::GET,
        status: Some(200),
        failure: None,
        duration: Duration::from_micros(12_345),
        first_byte: Some(Duration::from_millis(9)),
        attempts,
        bytes_in: 0,
        bytes_out: 4096,
        plugin_times: &[],
        grpc: None,
    }
}

/// Moves everything that the names can move.
fn drive_everything(metrics: &Metrics, names: &[&str]) {
    for name in names {
        let listener = metrics.listener(name);
        listener.request_begins();
        let _held = listener.connection();
        for reason in [
            Refusal::Total,
            Refusal::Listener,
            Refusal::PerClient,
            Refusal::Descriptors,
            Refusal::Draining,
        ] {
            listener.refused(reason);
        }
        for reason in [
            ConnectionEnd::HeaderTimeout,
            ConnectionEnd::HeaderTooLarge,
            ConnectionEnd::TooManyHeaders,
            ConnectionEnd::BadRequest,
            ConnectionEnd::IdleTimeout,
            ConnectionEnd::ClientClosed,
            ConnectionEnd::Io,
            ConnectionEnd::ProxyProtocol,
            ConnectionEnd::Flood,
        ] {
            listener.ended(reason);
        }
        listener.shook(true);
        listener.shook(false);
        for reason in [
            HandshakeFailure::Timeout,
            HandshakeFailure::Closed,
            HandshakeFailure::Plaintext,
            HandshakeFailure::Protocol,
            HandshakeFailure::Incompatible,
            HandshakeFailure::Rejected,
            HandshakeFailure::CertificateMissing,
            HandshakeFailure::CertificateInvalid,
            HandshakeFailure::CertificateExpired,
            HandshakeFailure::CertificateRevoked,
            HandshakeFailure::CertificateDenied,
        ] {
            listener.failed_to_shake(reason);
        }
        listener.certificate_ends(1);
        listener.relayed(1, 1);
        let outcomes = FailureCode::ALL.into_iter().map(Some).chain([None]);
        outcomes.for_each(|failure| listener.relay_ends(failure, Duration::from_secs(1)));
        drive_requests(metrics, &metrics.route(name), name);
    }
    drive_requests(metrics, &metrics.no_route(), names[0]);
    metrics.config_in_use(1, "abc");
    metrics.config_in_use(2, "def");
    metrics.reloaded(ReloadOutcome::Success, UNIX_EPOCH + Duration::from_millis(1500));
    metrics.reloaded(ReloadOutcome::Failure, UNIX_EPOCH);
    metrics.reloaded(ReloadOutcome::Discarded, UNIX_EPOCH);
    metrics.canary_in_use(Some((3, "ghi")));
    for (is_tried, failed) in [(true, true), (true, false), (false, true), (false, false)] {
        metrics.tried(is_tried, failed);
    }
    metrics.upgraded(UpgradeOutcome::Success);
    metrics.upgraded(UpgradeOutcome::Failure);
}

fn drive_requests(metrics: &Metrics, route: &RouteMetrics, name: &str) {
    let upstream = metrics.upstream(name);
    let plugin = metrics.plugin(name);
    for outcome in [
        Copied::Answered,
        Copied::Failed,
        Copied::Timeout,
        Copied::Full,
        Copied::TooLarge,
        Copied::Incomplete,
    ] {
        route.copied(outcome);
    }
    for outcome in
        [Compared::Same, Compared::Status, Compared::Header, Compared::Body, Compared::Skipped]
    {
        route.compared(outcome);
    }
    upstream.set_in_flight(1);
    ENDPOINT_STATES.iter().for_each(|state| upstream.set_endpoints(state, 1));
    upstream.set_endpoints("another", 1);
    for reason in [EjectionReason::InARow, EjectionReason::Ratio, EjectionReason::Latency] {
        upstream.ejected(reason);
    }
    for reason in [
        RetryReason::ConnectFailure,
        RetryReason::RefusedStream,
        RetryReason::Reset,
        RetryReason::Timeout,
        RetryReason::BadResponse,
        RetryReason::Status,
        RetryReason::Hedge,
    ] {
        upstream.retried(reason);
    }
    upstream.retry_refused();
    upstream.set_waiting(1);
    upstream.set_limit(Some(1));
    upstream.set_breakers([1, 1, 1]);
    for change in [BreakerChange::Closed, BreakerChange::Open, BreakerChange::HalfOpen] {
        upstream.breaker_changed(change);
    }
    upstream.overflowed(false);
    upstream.overflowed(true);
    upstream.checked(true);
    upstream.checked(false);
    upstream.looked(true);
    upstream.looked(false);
    plugin.failed(PluginError::Error);
    plugin.failed(PluginError::Panic);
    plugin.replied();
    for decision in
        [LimiterDecision::Allowed, LimiterDecision::Limited, LimiterDecision::WouldLimit]
    {
        plugin.decided(decision);
    }
    for outcome in [
        CredentialCheck::Accepted,
        CredentialCheck::Missing,
        CredentialCheck::Invalid,
        CredentialCheck::Expired,
        CredentialCheck::Denied,
        CredentialCheck::Unchecked,
    ] {
        plugin.checked_credentials(outcome);
    }
    for outcome in [StoreCall::Success, StoreCall::Failure, StoreCall::Timeout, StoreCall::Down] {
        plugin.called_store(outcome);
    }
    plugin.fetched_keys(true);
    plugin.fetched_keys(false);
    plugin.compressed(2, 1);
    let plain = RequestRecord::sample().attempts[0];
    let lost = [AttemptRecord { lost: true, ..plain }];
    observe(&good(&lost), Handles { route, upstream: Some(&upstream), plugins: &[] });
    for said in GrpcStatus::ALL {
        let outcome = Outcome { grpc: Some(said), ..good(&lost) };
        observe(&outcome, Handles { route, upstream: None, plugins: &[] });
    }
    let failures = FailureCode::ALL.map(Some).into_iter().chain([None]);
    let statuses =
        [None, Some(0), Some(101), Some(204), Some(304), Some(404), Some(502), Some(999)];
    for (failure, reused) in failures.flat_map(|failure| [(failure, true), (failure, false)]) {
        let attempts = [AttemptRecord { failure, reused, ..plain }];
        for method in METHODS.into_iter().chain(["TRACE", "CONNECT", "X-HOSTILE-7"]) {
            for status in statuses {
                let outcome = Outcome {
                    method: &method.parse().unwrap(),
                    status,
                    failure,
                    bytes_in: 1,
                    plugin_times: &[Duration::from_micros(20)],
                    ..good(&attempts)
                };
                let plugins = std::slice::from_ref(&plugin);
                observe(&outcome, Handles { route, upstream: Some(&upstream), plugins });
            }
        }
    }
}

#[test]
fn series_reach_the_bound_and_never_exceed_it() {
    let metrics = metrics();

    drive_everything(&metrics, &["a", "b", "c"]);

    assert_eq!(samples(&metrics).len(), series_bound(3, 3, 3, 3));
}

#[test]
fn what_is_registered_is_what_is_documented() {
    let metrics = metrics();
    drive_everything(&metrics, &["a"]);

    let families = metrics.registry.gather();

    assert_eq!(families.len(), DOCUMENTED.len());
    for doc in DOCUMENTED {
        let family = families.iter().find(|family| family.name() == doc.name).unwrap();
        assert_eq!(
            format!("{:?}", family.get_field_type()),
            format!("{:?}", doc.kind).to_uppercase()
        );
        assert_eq!(family.help(), doc.meaning);
        let mut labels: Vec<&str> =
            family.get_metric()[0].get_label().iter().map(|label| label.name()).collect();
        let mut documented = doc.labels.to_vec();
        labels.sort_unstable();
        documented.sort_unstable();
        assert_eq!(labels, documented, "{}", doc.name);
    }
}

/// The rules of `promtool check metrics`.
#[test]
fn names_and_meanings_pass_the_linter_of_prometheus() {
    for doc in DOCUMENTED {
        let name = doc.name;
        assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'_')), "{name}");
        assert_eq!(name.ends_with("_total"), doc.kind == Kind::Counter, "{name}");
        assert_eq!(!doc.buckets.is_empty(), doc.kind == Kind::Histogram, "{name}");
        assert!(!["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)), "{name}");
        assert_eq!(name.contains("_seconds"), doc.unit == "seconds", "{name}");
        assert_eq!(name.contains("_bytes"), doc.unit == "bytes", "{name}");
        assert!(
            !["histogram", "gauge", "counter", "milli"].iter().any(|w| name.contains(w)),
            "{name}"
        );
        assert!(!doc.meaning.is_empty() && !doc.labels.contains(&"le"), "{name}");
        assert!(doc.buckets.is_sorted());
    }
}

#[test]
fn nothing_exists_before_it_is_used() {
    let metrics = metrics();
    let handles = (metrics.route("a"), metrics.upstream("a"), metrics.plugin("a"));
    metrics.listener("a");

    let text = metrics.gather_text();

    assert!(!text.contains("\"a\""), "{text}");
    assert!(text.contains("gateway_build_info{version=\"1.2.3\"} 1\n"));
    assert!(text.contains("gateway_access_log_dropped_total 0\n"));
    drop(handles);
}

#[test]
fn a_request_moves_the_metrics_of_its_route_upstream_and_plugins() {
    let metrics = metrics();
    let (route, upstream) = (metrics.route("users"), metrics.upstream("up"));
    let plugins = [metrics.plugin("cors"), metrics.plugin("jwt")];
    let mut attempts = [RequestRecord::sample().attempts[0]; 2];
    attempts[0] = AttemptRecord { failure: Some(FailureCode::U3), connect: None, ..attempts[0] };
    let outcome = Outcome {
        bytes_in: 10,
        plugin_times: &[Duration::from_micros(20), Duration::from_micros(500)],
        ..good(&attempts)
    };

    observe(&outcome, Handles { route: &route, upstream: Some(&upstream), plugins: &plugins });

    let samples = samples(&metrics);
    for (series, value) in [
        (r#"gateway_requests_total{method="GET",route="users",status="2xx"}"#, 1.0),
        (r#"gateway_request_duration_seconds_sum{route="users"}"#, 0.012345),
        (r#"gateway_request_duration_seconds_bucket{route="users",le="0.01"}"#, 0.0),
        (r#"gateway_request_duration_seconds_bucket{route="users",le="0.025"}"#, 1.0),
        (r#"gateway_request_body_bytes_total{route="users"}"#, 10.0),
        (r#"gateway_response_body_bytes_total{route="users"}"#, 4096.0),
        (r#"gateway_request_first_byte_seconds_sum{upstream="up"}"#, 0.009),
        (r#"gateway_upstream_attempts_total{outcome="U3",upstream="up"}"#, 1.0),
        (r#"gateway_upstream_attempts_total{outcome="ok",upstream="up"}"#, 1.0),
        (r#"gateway_upstream_connections_total{reused="false",upstream="up"}"#, 1.0),
        (r#"gateway_upstream_connect_seconds_count{upstream="up"}"#, 1.0),
        (r#"gateway_plugin_duration_seconds_sum{plugin="cors"}"#, 0.00002),
        (r#"gateway_plugin_duration_seconds_sum{plugin="jwt"}"#, 0.0005),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    assert!(!samples.keys().any(|series| series.contains("failures")));
}

#[test]
fn gauges_follow_what_is_held() {
    let metrics = metrics();
    let listener = metrics.listener("public");
    let gauge = r#"gateway_connections_open{listener="public"}"#;

    let first = listener.connection();
    let second = listener.connection();
    drop(first);
    assert_eq!(samples(&metrics)[gauge], 1.0);

    drop(second);
    assert_eq!(samples(&metrics)[gauge], 0.0);
    assert_eq!(samples(&metrics)[r#"gateway_connections_total{listener="public"}"#], 2.0);
}

#[test]
fn removed_names_are_gone_even_if_old_requests_still_move_them() {
    let metrics = metrics();
    drive_everything(&metrics, &["old", "kept"]);
    let (route, listener) = (metrics.route("old"), metrics.listener("old"));
    listener.request_begins();
    let unused = metrics.listener("unused");

    let kept = HashSet::from(["kept"]);
    metrics.retain_routes(&kept);
    metrics.retain_listeners(&kept);
    metrics.retain_upstreams(&kept);
    metrics.retain_plugins(&kept);
    drive_requests_of_a_removed_route(&route);
    unused.refused(Refusal::Total);
    listener.request_ends();

    let left = samples(&metrics);
    assert!(!left.keys().any(|series| series.contains("old") || series.contains("unused")));
    assert_eq!(left.len(), series_bound(1, 1, 1, 1));
    drive_requests_of_a_removed_route(&metrics.route("old"));
    assert!(samples(&metrics).keys().any(|series| series.contains("old")));
}

fn drive_requests_of_a_removed_route(route: &RouteMetrics) {
    let outcome = Outcome { status: Some(500), ..good(&[]) };
    observe(&outcome, Handles { route, upstream: None, plugins: &[] });
}

#[test]
fn only_the_config_in_use_is_shown() {
    let metrics = metrics();

    metrics.config_in_use(1, "abc");
    metrics.config_in_use(1, "abc");
    metrics.config_in_use(2, "abc");

    let shown: Vec<String> =
        samples(&metrics).into_keys().filter(|series| series.contains("revision")).collect();
    assert_eq!(shown, [r#"gateway_config_revision_info{digest="abc",revision="2"}"#]);
}

#[test]
fn odd_names_are_escaped() {
    let metrics = metrics();

    metrics.listener("a\"\n\\b").refused(Refusal::Total);

    assert!(metrics.gather_text().contains(r#"{listener="a\"\n\\b",reason="total"} 1"#));
}

#[test]
#[ignore = "a measurement, meaningful in release mode only"]
fn cost_of_a_request() {
    let metrics = metrics();
    let (route, upstream) = (metrics.route("users"), metrics.upstream("users"));
    let plugins = [metrics.plugin("jwt"), metrics.plugin("rate-limit")];
    let micros = Duration::from_micros;
    let attempts = RequestRecord::sample().attempts;
    for plugin_times in [&[][..], &[micros(30), micros(2)]] {
        let outcome = Outcome { plugin_times, bytes_in: 9, ..good(attempts) };
        let handles = Handles { route: &route, upstream: Some(&upstream), plugins: &plugins };
        let start = std::time::Instant::now();
        for _ in 0..5_000_000 {
            observe(std::hint::black_box(&outcome), std::hint::black_box(handles));
        }
        let nanos = start.elapsed().as_nanos() / 5_000_000;
        println!("{} plugins: {nanos} ns", plugin_times.len());
    }
}
