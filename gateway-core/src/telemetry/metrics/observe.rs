//! From a request's outcome to its metrics: one function that moves all of them.

use super::handles::{PluginMetrics, RouteMetrics, UpstreamMetrics, count, time};
use super::labels::{STATUSES, attempt_outcome, method_class, status_class};
use crate::telemetry::failure::FailureCode;
use crate::telemetry::grpc::GrpcStatus;
use crate::telemetry::record::AttemptRecord;
use http::Method;
use std::sync::Arc;
use std::time::Duration;

/// Where a request's metrics go; resolved when the snapshot is made, so that none is looked up.
#[derive(Clone, Copy)]
pub struct Handles<'a> {
    /// The route, or [`super::Metrics::no_route`].
    pub route: &'a RouteMetrics,
    /// The upstream, if one was chosen.
    pub upstream: Option<&'a UpstreamMetrics>,
    /// The plugins of the chain, in its order.
    pub plugins: &'a [Arc<PluginMetrics>],
}

/// The part of a finished request's record that metrics are made of. It is known of every request;
/// the whole record is put together only where someone looks at it.
#[derive(Clone, Copy)]
pub(crate) struct Outcome<'a> {
    pub(crate) method: &'a Method,
    pub(crate) status: Option<u16>,
    pub(crate) failure: Option<FailureCode>,
    pub(crate) duration: Duration,
    /// From the last attempt's start to the first byte of its answer.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) attempts: &'a [AttemptRecord],
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Time spent in each plugin, by its place in the chain.
    pub(crate) plugin_times: &'a [Duration],
    pub(crate) grpc: Option<GrpcStatus>,
}

/// Moves every metric that follows from the outcome; to be called once a request.
pub(crate) fn observe(outcome: &Outcome<'_>, to: Handles<'_>) {
    let class = method_class(outcome.method) * STATUSES.len() + status_class(outcome.status);
    count(&to.route.requests, class, 1);
    time(&to.route.duration, outcome.duration);
    if let Some(said) = outcome.grpc {
        count(&to.route.grpc, usize::from(said.number()), 1);
    }
    if let Some(failure) = outcome.failure {
        count(&to.route.failures, failure.index(), 1);
    }
    if outcome.bytes_in > 0 {
        count(&to.route.request_bytes, 0, outcome.bytes_in);
    }
    if outcome.bytes_out > 0 {
        count(&to.route.response_bytes, 0, outcome.bytes_out);
    }
    if let Some(upstream) = to.upstream {
        observe_upstream(outcome, upstream);
    }
    for (plugin, spent) in to.plugins.iter().zip(outcome.plugin_times) {
        time(&plugin.plugin_duration, *spent);
    }
}

fn observe_upstream(outcome: &Outcome<'_>, upstream: &UpstreamMetrics) {
    if let Some(first_byte) = outcome.first_byte {
        time(&upstream.first_byte, first_byte);
    }
    for attempt in outcome.attempts {
        observe_attempt(attempt, upstream);
    }
}

/// Moves every metric that follows from one attempt.
pub(crate) fn observe_attempt(attempt: &AttemptRecord, upstream: &UpstreamMetrics) {
    count(&upstream.attempts, attempt_outcome(attempt.failure, attempt.lost), 1);
    if attempt.reused || attempt.connect.is_some() {
        count(&upstream.upstream_connections, usize::from(attempt.reused), 1);
    }
    if let Some(connect) = attempt.connect {
        time(&upstream.connect, connect);
    }
}
