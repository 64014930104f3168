//! The families in a registry, made from the documented table.

use super::documented::{self as doc, MetricDoc};
use super::process::ProcessCollector;
use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    Result,
};

/// Families by the field names of the handles, then those of the gateway itself.
pub(super) struct Families {
    pub(super) requests: IntCounterVec,
    pub(super) failures: IntCounterVec,
    pub(super) grpc: IntCounterVec,
    pub(super) mirrored: IntCounterVec,
    pub(super) compared: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) request_bytes: IntCounterVec,
    pub(super) response_bytes: IntCounterVec,
    pub(super) in_flight: IntGaugeVec,
    pub(super) open: IntGaugeVec,
    pub(super) connections: IntCounterVec,
    pub(super) refused: IntCounterVec,
    pub(super) handshakes: IntCounterVec,
    pub(super) handshake_failures: IntCounterVec,
    pub(super) certificate_end: IntGaugeVec,
    pub(super) ended: IntCounterVec,
    pub(super) tcp_connections: IntCounterVec,
    pub(super) tcp_duration: HistogramVec,
    pub(super) tcp_received: IntCounterVec,
    pub(super) tcp_sent: IntCounterVec,
    pub(super) first_byte: HistogramVec,
    pub(super) attempts: IntCounterVec,
    pub(super) connect: HistogramVec,
    pub(super) upstream_connections: IntCounterVec,
    pub(super) upstream_in_flight: IntGaugeVec,
    pub(super) endpoints: IntGaugeVec,
    pub(super) ejections: IntCounterVec,
    pub(super) checks: IntCounterVec,
    pub(super) discoveries: IntCounterVec,
    pub(super) retries: IntCounterVec,
    pub(super) limit: IntGaugeVec,
    pub(super) waiting: IntGaugeVec,
    pub(super) overflows: IntCounterVec,
    pub(super) retries_refused: IntCounterVec,
    pub(super) breakers: IntGaugeVec,
    pub(super) breaker_changes: IntCounterVec,
    pub(super) plugin_duration: HistogramVec,
    pub(super) plugin_errors: IntCounterVec,
    pub(super) plugin_replies: IntCounterVec,
    pub(super) limiter_decisions: IntCounterVec,
    pub(super) compression: IntCounterVec,
    pub(super) store_calls: IntCounterVec,
    pub(super) credential_checks: IntCounterVec,
    pub(super) key_fetches: IntCounterVec,
    pub(super) revision: IntGaugeVec,
    pub(super) reloads: IntCounterVec,
    pub(super) canary: IntGaugeVec,
    pub(super) canary_requests: IntCounterVec,
    pub(super) upgrades: IntCounterVec,
    pub(super) last_reload: GaugeVec,
    pub(super) log_dropped: IntCounter,
    pub(super) log_failed: IntCounter,
    pub(super) build: IntGaugeVec,
}

impl Families {
    pub(super) fn register(registry: &Registry) -> Result<Families> {
        registry.register(Box::new(ProcessCollector::new()?))?;
        let counters = |doc| added(registry, IntCounterVec::new(opts(&doc), doc.labels)?);
        let gauges = |doc| added(registry, IntGaugeVec::new(opts(&doc), doc.labels)?);
        let counter = |doc| added(registry, IntCounter::with_opts(opts(&doc))?);
        let histograms = |doc: MetricDoc| {
            let opts = HistogramOpts::from(opts(&doc)).buckets(doc.buckets.to_vec());
            added(registry, HistogramVec::new(opts, doc.labels)?)
        };
        Ok(Families {
            requests: counters(doc::REQUESTS)?,
            failures: counters(doc::FAILURES)?,
            grpc: counters(doc::GRPC)?,
            mirrored: counters(doc::MIRRORED)?,
            compared: counters(doc::COMPARED)?,
            duration: histograms(doc::DURATION)?,
            request_bytes: counters(doc::REQUEST_BYTES)?,
            response_bytes: counters(doc::RESPONSE_BYTES)?,
            in_flight: gauges(doc::IN_FLIGHT)?,
            open: gauges(doc::OPEN)?,
            connections: counters(doc::CONNECTIONS)?,
            refused: counters(doc::REFUSED)?,
            handshakes: counters(doc::TLS_HANDSHAKES)?,
            handshake_failures: counters(doc::TLS_HANDSHAKE_FAILURES)?,
            certificate_end: gauges(doc::CERTIFICATE_END)?,
            ended: counters(doc::ENDED)?,
            tcp_connections: counters(doc::TCP_CONNECTIONS)?,
            tcp_duration: histograms(doc::TCP_DURATION)?,
            tcp_received: counters(doc::TCP_RECEIVED)?,
            tcp_sent: counters(doc::TCP_SENT)?,
            first_byte: histograms(doc::FIRST_BYTE)?,
            attempts: counters(doc::ATTEMPTS)?,
            connect: histograms(doc::CONNECT)?,
            upstream_connections: counters(doc::UPSTREAM_CONNECTIONS)?,
            upstream_in_flight: gauges(doc::UPSTREAM_IN_FLIGHT)?,
            endpoints: gauges(doc::ENDPOINTS)?,
            ejections: counters(doc::EJECTIONS)?,
            checks: counters(doc::CHECKS)?,
            discoveries: counters(doc::DISCOVERIES)?,
            retries: counters(doc::RETRIES)?,
            limit: gauges(doc::LIMIT)?,
            waiting: gauges(doc::WAITING)?,
            overflows: counters(doc::OVERFLOWED)?,
            retries_refused: counters(doc::RETRIES_REFUSED)?,
            breakers: gauges(doc::BREAKERS)?,
            breaker_changes: counters(doc::BREAKER_CHANGES)?,
            plugin_duration: histograms(doc::PLUGIN_DURATION)?,
            plugin_errors: counters(doc::PLUGIN_FAILURES)?,
            plugin_replies: counters(doc::PLUGIN_REPLIES)?,
            limiter_decisions: counters(doc::LIMITER)?,
            compression: counters(doc::COMPRESSION)?,
            store_calls: counters(doc::STORE)?,
            credential_checks: counters(doc::CREDENTIALS)?,
            key_fetches: counters(doc::KEY_FETCH)?,
            revision: gauges(doc::REVISION)?,
            reloads: counters(doc::RELOADS)?,
            canary: gauges(doc::CANARY)?,
            canary_requests: counters(doc::CANARY_REQUESTS)?,
            upgrades: counters(doc::UPGRADES)?,
            last_reload: {
                let family = GaugeVec::new(opts(&doc::LAST_RELOAD), doc::LAST_RELOAD.labels)?;
                added(registry, family)?
            },
            log_dropped: counter(doc::LOG_DROPPED)?,
            log_failed: counter(doc::LOG_FAILED)?,
            build: gauges(doc::BUILD)?,
        })
    }
}

pub(super) fn opts(doc: &MetricDoc) -> Opts {
    Opts::new(doc.name, doc.meaning)
}

fn added<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}
