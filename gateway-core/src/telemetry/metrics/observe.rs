//! From a record to its metrics: one function that moves all of them.

use super::handles::{PluginMetrics, RouteMetrics, UpstreamMetrics, count, time};
use super::labels::{STATUSES, attempt_outcome, method_class, status_class};
use crate::telemetry::record::RequestRecord;
use std::sync::Arc;

/// Where a request's metrics go; resolved when the snapshot is made, so that none is looked up.
#[derive(Clone, Copy)]
pub struct Handles<'a> {
    /// The route, or [`super::Metrics::no_route`].
    pub route: &'a RouteMetrics,
    /// The upstream, if one was chosen.
    pub upstream: Option<&'a UpstreamMetrics>,
    /// The plugins of the chain, at best in the order they run.
    pub plugins: &'a [Arc<PluginMetrics>],
}

/// Moves every metric that follows from the record; to be called once a request.
pub fn observe(record: &RequestRecord<'_>, to: Handles<'_>) {
    let class = method_class(record.method) * STATUSES.len() + status_class(record.status);
    count(&to.route.requests, class, 1);
    time(&to.route.duration, record.duration);
    if let Some(failure) = record.failure {
        count(&to.route.failures, failure.index(), 1);
    }
    if record.bytes_in > 0 {
        count(&to.route.request_bytes, 0, record.bytes_in);
    }
    if record.bytes_out > 0 {
        count(&to.route.response_bytes, 0, record.bytes_out);
    }
    if let Some(upstream) = to.upstream {
        observe_upstream(record, upstream);
    }
    observe_plugins(record, to.plugins);
}

fn observe_upstream(record: &RequestRecord<'_>, upstream: &UpstreamMetrics) {
    if let Some(first_byte) = record.phases.upstream_first_byte {
        time(&upstream.first_byte, first_byte);
    }
    for attempt in record.attempts {
        count(&upstream.attempts, attempt_outcome(attempt.failure), 1);
        if attempt.reused || attempt.connect.is_some() {
            count(&upstream.upstream_connections, usize::from(attempt.reused), 1);
        }
        if let Some(connect) = attempt.connect {
            time(&upstream.connect, connect);
        }
    }
}

/// Looks for a plugin's handle where it stands in the chain first, then everywhere.
fn observe_plugins(record: &RequestRecord<'_>, plugins: &[Arc<PluginMetrics>]) {
    for (place, (name, duration)) in record.plugin_times.iter().enumerate() {
        let mut candidates = plugins.get(place).into_iter().chain(plugins);
        if let Some(plugin) = candidates.find(|plugin| plugin.name() == *name) {
            time(&plugin.plugin_duration, *duration);
        }
    }
}
