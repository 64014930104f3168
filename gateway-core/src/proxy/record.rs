//! Builds the one record of a request, exactly once, and hands it to the sinks.

use std::time::{Duration, Instant};

use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use smallvec::SmallVec;

use super::exchange::Open;
use super::failure::CLIENT_GONE;
use crate::telemetry::{FailureCode, Handles, Outcome, Phases, RequestRecord, Telemetry, observe};

/// What went over the client's connection.
pub(super) struct Seen<'a> {
    pub(super) head: &'a RequestHeader,
    pub(super) written: Option<&'a ResponseHeader>,
    /// Bytes of the body that came, as far as Pingora knows.
    pub(super) read: u64,
    pub(super) sent: u64,
}

impl<'a> Seen<'a> {
    pub(super) fn of(session: &'a Session) -> Self {
        Self {
            head: session.req_header(),
            written: session.response_written(),
            read: session.body_bytes_read() as u64,
            sent: session.body_bytes_sent() as u64,
        }
    }
}

/// Ends a request: its outcome goes to the metrics, its record to the access log and the plugins
/// that watch.
pub(super) fn finish(seen: &Seen<'_>, open: &mut Open, telemetry: &Telemetry) {
    let written = seen.written;
    let status = match (written, open.ctx.failure()) {
        (Some(response), _) => Some(response.status.as_u16()),
        (None, Some(FailureCode::D1)) => Some(CLIENT_GONE),
        (None, _) => None,
    };
    let now = Instant::now();
    open.end_attempt_at(now, None, status);
    open.ctx.bytes_in = open.body_bytes.max(seen.read);
    open.ctx.bytes_out = seen.sent;
    let (ctx, head) = (&open.ctx, seen.head);
    let target = open.target.as_ref();
    let outcome = Outcome {
        method: &head.method,
        status,
        failure: ctx.failure(),
        duration: now.duration_since(ctx.started()),
        first_byte: target.and_then(|target| target.first_byte),
        attempts: &ctx.attempts,
        bytes_in: ctx.bytes_in,
        bytes_out: ctx.bytes_out,
        plugin_times: &ctx.plugin_times,
        grpc: ctx.grpc,
    };
    let handles = Handles {
        route: ctx.route().map_or(&ctx.snapshot().unrouted, |route| &route.metrics),
        upstream: target.map(|target| &**target.upstream.metrics()),
        plugins: open.chain.metrics(),
    };
    observe(&outcome, handles);
    if let Some(sample) = open.sample.take() {
        let failed = failed(&outcome);
        // How long the rest of the answer takes is as much the client's doing.
        let plugins: Duration = outcome.plugin_times.iter().sum();
        let took = outcome.first_byte.map_or(outcome.duration, |answer| plugins + answer);
        telemetry.tried(sample.is_tried(), failed);
        sample.ends(failed, Some(took));
    }
    if telemetry.writes() || open.chain.watches() {
        show(seen, open, &outcome, telemetry);
    }
}

/// Whether a request that counts for the trial of a config failed, by whose fault so ever but the client's.
fn failed(outcome: &Outcome<'_>) -> bool {
    let by_code = outcome.failure.is_some_and(|code| !code.is_of_client());
    let by_call = outcome.grpc.is_some_and(|status| status.as_http() >= 500);
    by_code || by_call || outcome.status.is_some_and(|status| status >= 500)
}

/// Puts the record together for those who look at it.
#[inline(never)]
fn show(seen: &Seen<'_>, open: &Open, outcome: &Outcome<'_>, telemetry: &Telemetry) {
    let (ctx, head) = (&open.ctx, seen.head);
    let plugin_times: SmallVec<[(&str, Duration); 4]> = open
        .chain
        .plugins()
        .map(|plugin| &*plugin.name)
        .zip(ctx.plugin_times.iter().copied())
        .collect();
    let (first, last) = (ctx.attempts.first(), ctx.attempts.last());
    let target = open.target.as_ref();
    let record = RequestRecord {
        time: ctx.started_at(),
        duration: outcome.duration,
        phases: Phases {
            plugins: ctx.plugin_times.iter().sum(),
            upstream_connect: last.and_then(|attempt| attempt.connect),
            upstream_first_byte: outcome.first_byte,
            upstream: first
                .zip(last)
                .map(|(first, last)| (last.started + last.duration).saturating_sub(first.started)),
        },
        listener: ctx.listener_name(),
        route: ctx.route_name(),
        upstream: target.map(|target| target.upstream.name()),
        attempts: &ctx.attempts,
        method: &head.method,
        scheme: ctx.scheme(),
        host: ctx.host(),
        path: head.uri.path(),
        query: head.uri.query(),
        protocol: head.version,
        status: outcome.status,
        status_source: open.source,
        failure: ctx.failure(),
        bytes_in: ctx.bytes_in,
        bytes_out: ctx.bytes_out,
        client: ctx.client_ip(),
        peer: ctx.peer(),
        request_headers: &head.headers,
        response_headers: seen.written.map(|response| &response.headers),
        request_id: ctx.request_id(),
        trace: ctx.trace(),
        consumer: ctx.consumer().map(|consumer| &*consumer.name),
        revision: ctx.snapshot().revision.number,
        retries: u32::try_from(ctx.attempts.len().saturating_sub(1)).unwrap_or(u32::MAX),
        plugin_times: &plugin_times,
        grpc_status: ctx.grpc,
        ended_by: ctx.ended_by.map(|place| &*open.chain.plugin(place).name),
    };
    telemetry.write(&record);
    open.chain.log(&record, head, ctx);
}
