//! Handles: the metrics of one route, listener, upstream or plugin, held by who moves them.
//!
//! A handle whose name was removed by a reload still works for requests that began before; what it
//! counts is not shown any more.

use super::families::Families;
use super::labels::*;
use super::series::{Name, Series, no_more_labels};
use crate::telemetry::failure::FailureCode;
use crate::telemetry::grpc::GrpcStatus;
use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::Arc;
use std::time::Duration;

/// What all handles have in common, for the list of names.
pub(super) trait Handle {
    fn new(families: &Families, name: Arc<Name>) -> Self;
    /// Removes all series; the name takes no more.
    fn retire(&self);
}

macro_rules! handle {
    ($(#[$docs:meta])* $handle:ident {
        $($field:ident: Series<$family:ty, { $count:expr }> = $labels:expr,)*
    }) => {
        $(#[$docs])*
        pub struct $handle {
            name: Arc<Name>,
            $(pub(super) $field: Series<$family, { $count }>,)*
        }

        impl Handle for $handle {
            fn new(families: &Families, name: Arc<Name>) -> $handle {
                $(let $field = Series::new(&families.$field, &name, $labels);)*
                $handle { name, $($field,)* }
            }

            fn retire(&self) {
                self.name.retire(|| {
                    $(self.$field.remove();)*
                });
            }
        }

        impl $handle {
            /// The configured name.
            pub fn name(&self) -> &str {
                self.name.as_str()
            }
        }
    };
}

handle! {
    /// Metrics of one route, moved by [`super::observe`].
    RouteMetrics {
        requests: Series<IntCounterVec, { METHODS.len() * STATUSES.len() }> = |place| {
            vec![METHODS[place / STATUSES.len()], STATUSES[place % STATUSES.len()]]
        },
        failures: Series<IntCounterVec, { FailureCode::ALL.len() }> = |place| {
            vec![FailureCode::ALL[place].code()]
        },
        grpc: Series<IntCounterVec, { GrpcStatus::ALL.len() }> = |place| {
            vec![GrpcStatus::ALL[place].name()]
        },
        mirrored: Series<IntCounterVec, { COPY_OUTCOMES.len() }> = |place| {
            vec![COPY_OUTCOMES[place]]
        },
        compared: Series<IntCounterVec, { COMPARISONS.len() }> = |place| vec![COMPARISONS[place]],
        duration: Series<HistogramVec, { 1 }> = no_more_labels,
        request_bytes: Series<IntCounterVec, { 1 }> = no_more_labels,
        response_bytes: Series<IntCounterVec, { 1 }> = no_more_labels,
    }
}

handle! {
    /// Metrics of one listener.
    ListenerMetrics {
        in_flight: Series<IntGaugeVec, { 1 }> = no_more_labels,
        open: Series<IntGaugeVec, { 1 }> = no_more_labels,
        connections: Series<IntCounterVec, { 1 }> = no_more_labels,
        refused: Series<IntCounterVec, { REFUSALS.len() }> = |place| vec![REFUSALS[place]],
        ended: Series<IntCounterVec, { CLOSED.len() }> = |place| vec![CLOSED[place]],
        handshakes: Series<IntCounterVec, { HANDSHAKES.len() }> = |place| vec![HANDSHAKES[place]],
        handshake_failures: Series<IntCounterVec, { HANDSHAKE_FAILURES.len() }> = |place| {
            vec![HANDSHAKE_FAILURES[place]]
        },
        certificate_end: Series<IntGaugeVec, { 1 }> = no_more_labels,
        tcp_connections: Series<IntCounterVec, { CONNECTION_OUTCOMES.len() }> = |place| {
            vec![CONNECTION_OUTCOMES[place]]
        },
        tcp_duration: Series<HistogramVec, { 1 }> = no_more_labels,
        tcp_received: Series<IntCounterVec, { 1 }> = no_more_labels,
        tcp_sent: Series<IntCounterVec, { 1 }> = no_more_labels,
    }
}

handle! {
    /// Metrics of one upstream; but for its places, moved by [`super::observe`].
    UpstreamMetrics {
        first_byte: Series<HistogramVec, { 1 }> = no_more_labels,
        attempts: Series<IntCounterVec, { ATTEMPT_OUTCOMES.len() }> = |place| {
            vec![ATTEMPT_OUTCOMES[place]]
        },
        connect: Series<HistogramVec, { 1 }> = no_more_labels,
        upstream_connections: Series<IntCounterVec, { 2 }> = |place| {
            vec![["false", "true"][place]]
        },
        upstream_in_flight: Series<IntGaugeVec, { 1 }> = no_more_labels,
        endpoints: Series<IntGaugeVec, { ENDPOINT_STATES.len() }> = |place| {
            vec![ENDPOINT_STATES[place]]
        },
        ejections: Series<IntCounterVec, { EJECTION_REASONS.len() }> = |place| {
            vec![EJECTION_REASONS[place]]
        },
        checks: Series<IntCounterVec, { CHECK_OUTCOMES.len() }> = |place| {
            vec![CHECK_OUTCOMES[place]]
        },
        discoveries: Series<IntCounterVec, { LOOK_OUTCOMES.len() }> = |place| {
            vec![LOOK_OUTCOMES[place]]
        },
        retries: Series<IntCounterVec, { RETRY_REASONS.len() }> = |place| {
            vec![RETRY_REASONS[place]]
        },
        retries_refused: Series<IntCounterVec, { 1 }> = no_more_labels,
        breakers: Series<IntGaugeVec, { BREAKER_STATES.len() }> = |place| {
            vec![BREAKER_STATES[place]]
        },
        breaker_changes: Series<IntCounterVec, { BREAKER_STATES.len() }> = |place| {
            vec![BREAKER_STATES[place]]
        },
        limit: Series<IntGaugeVec, { 1 }> = no_more_labels,
        waiting: Series<IntGaugeVec, { 1 }> = no_more_labels,
        overflows: Series<IntCounterVec, { OVERFLOWS.len() }> = |place| vec![OVERFLOWS[place]],
    }
}

handle! {
    /// Metrics of one plugin; its times are moved by [`super::observe`].
    PluginMetrics {
        plugin_duration: Series<HistogramVec, { 1 }> = no_more_labels,
        plugin_errors: Series<IntCounterVec, { PLUGIN_ERRORS.len() }> = |place| {
            vec![PLUGIN_ERRORS[place]]
        },
        plugin_replies: Series<IntCounterVec, { 1 }> = no_more_labels,
        limiter_decisions: Series<IntCounterVec, { LIMITER_DECISIONS.len() }> = |place| {
            vec![LIMITER_DECISIONS[place]]
        },
        compression: Series<IntCounterVec, { COMPRESSION_FORMS.len() }> = |place| {
            vec![COMPRESSION_FORMS[place]]
        },
        store_calls: Series<IntCounterVec, { STORE_CALLS.len() }> = |place| {
            vec![STORE_CALLS[place]]
        },
        credential_checks: Series<IntCounterVec, { CREDENTIAL_CHECKS.len() }> = |place| {
            vec![CREDENTIAL_CHECKS[place]]
        },
        key_fetches: Series<IntCounterVec, { KEY_FETCHES.len() }> = |place| {
            vec![KEY_FETCHES[place]]
        },
    }
}

impl ListenerMetrics {
    /// A request begins. [`request_ends`](Self::request_ends) is to follow, whatever comes of it.
    pub fn request_begins(&self) {
        self.in_flight.at(0).iter().for_each(|gauge| gauge.inc());
    }

    /// A request that began has ended.
    pub fn request_ends(&self) {
        self.in_flight.at(0).iter().for_each(|gauge| gauge.dec());
    }

    /// A connection was accepted; it is open until the guard is dropped.
    #[must_use]
    pub fn connection(&self) -> Held {
        count(&self.connections, 0, 1);
        Held::one_of(&self.open)
    }

    /// A connection was closed at once.
    pub fn refused(&self, reason: Refusal) {
        count(&self.refused, reason as usize, 1);
    }

    /// A connection ended before a request head was read.
    pub fn ended(&self, reason: ConnectionEnd) {
        count(&self.ended, reason as usize, 1);
    }

    /// A TLS handshake succeeded.
    pub fn shook(&self, resumed: bool) {
        count(&self.handshakes, usize::from(resumed), 1);
    }

    /// A TLS handshake failed.
    pub fn failed_to_shake(&self, reason: HandshakeFailure) {
        count(&self.handshake_failures, reason as usize, 1);
    }

    /// So many bytes of a connection that is no HTTP were read from the client, and so many for it.
    pub fn relayed(&self, received: u64, sent: u64) {
        if received > 0 {
            count(&self.tcp_received, 0, received);
        }
        if sent > 0 {
            count(&self.tcp_sent, 0, sent);
        }
    }

    /// A connection that is no HTTP has ended.
    pub fn relay_ends(&self, failure: Option<FailureCode>, duration: Duration) {
        count(&self.tcp_connections, connection_outcome(failure), 1);
        time(&self.tcp_duration, duration);
    }

    /// The first of its certificates expires then, in seconds since 1970.
    pub fn certificate_ends(&self, at: i64) {
        self.certificate_end.at(0).iter().for_each(|gauge| gauge.set(at));
    }
}

impl RouteMetrics {
    /// A request was to be copied.
    pub fn copied(&self, outcome: Copied) {
        count(&self.mirrored, outcome as usize, 1);
    }

    /// The answer to a copy was compared.
    pub fn compared(&self, outcome: Compared) {
        count(&self.compared, outcome as usize, 1);
    }
}

impl UpstreamMetrics {
    /// So many requests are in flight at the upstream. Endpoints count them; what is scraped is
    /// added up from there when it is.
    pub fn set_in_flight(&self, requests: u32) {
        self.upstream_in_flight.at(0).iter().for_each(|gauge| gauge.set(requests.into()));
    }
}

impl UpstreamMetrics {
    /// So many of the endpoints are in this state, by its name.
    pub fn set_endpoints(&self, state: &str, endpoints: usize) {
        let place = ENDPOINT_STATES.iter().position(|known| *known == state);
        let gauge = place.and_then(|place| self.endpoints.at(place));
        gauge.iter().for_each(|gauge| gauge.set(i64::try_from(endpoints).unwrap_or(i64::MAX)));
    }

    /// An endpoint was taken out.
    pub fn ejected(&self, reason: EjectionReason) {
        count(&self.ejections, reason as usize, 1);
    }

    /// A circuit breaker before the upstream became this.
    pub fn breaker_changed(&self, to: BreakerChange) {
        count(&self.breaker_changes, to as usize, 1);
    }

    /// So many circuit breakers before the upstream are closed, open and half open.
    pub fn set_breakers(&self, counts: [usize; BREAKER_STATES.len()]) {
        for (place, count) in counts.into_iter().enumerate() {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.breakers.at(place).iter().for_each(|gauge| gauge.set(count));
        }
    }

    /// So many requests may be in flight; `None` where nothing limits them.
    pub fn set_limit(&self, requests: Option<u32>) {
        let limit = requests.unwrap_or(0).into();
        self.limit.at(0).iter().for_each(|gauge| gauge.set(limit));
    }

    /// So many requests wait for others to end.
    pub fn set_waiting(&self, requests: u32) {
        self.waiting.at(0).iter().for_each(|gauge| gauge.set(requests.into()));
    }

    /// A request was refused because too many were in flight: at once, or after it had waited.
    pub fn overflowed(&self, waited: bool) {
        count(&self.overflows, usize::from(waited), 1);
    }

    /// An attempt is repeated.
    pub fn retried(&self, reason: RetryReason) {
        count(&self.retries, reason as usize, 1);
    }

    /// An attempt is not repeated because the budget is used up.
    pub fn retry_refused(&self) {
        count(&self.retries_refused, 0, 1);
    }

    /// An endpoint was checked.
    pub fn checked(&self, good: bool) {
        count(&self.checks, usize::from(!good), 1);
    }

    /// Endpoints were looked for.
    pub fn looked(&self, good: bool) {
        count(&self.discoveries, usize::from(!good), 1);
    }
}

impl PluginMetrics {
    /// A hook failed.
    pub fn failed(&self, error: PluginError) {
        count(&self.plugin_errors, error as usize, 1);
    }

    /// The plugin, a limiter, decided this.
    pub fn decided(&self, decision: LimiterDecision) {
        count(&self.limiter_decisions, decision as usize, 1);
    }

    /// The plugin compressed a body of so many bytes into so many.
    pub fn compressed(&self, plain: u64, coded: u64) {
        count(&self.compression, 0, plain);
        count(&self.compression, 1, coded);
    }

    /// The plugin, a limiter, called its store.
    pub fn called_store(&self, outcome: StoreCall) {
        count(&self.store_calls, outcome as usize, 1);
    }

    /// The plugin, which looks for credentials, found this.
    pub fn checked_credentials(&self, outcome: CredentialCheck) {
        count(&self.credential_checks, outcome as usize, 1);
    }

    /// The plugin fetched a set of keys, or tried to.
    pub fn fetched_keys(&self, success: bool) {
        count(&self.key_fetches, usize::from(!success), 1);
    }

    /// The plugin answered a request itself.
    pub fn replied(&self) {
        count(&self.plugin_replies, 0, 1);
    }
}

/// One more in a gauge, until dropped.
#[derive(Debug)]
pub struct Held(Option<IntGauge>);

impl Held {
    fn one_of(gauge: &Series<IntGaugeVec, 1>) -> Held {
        let gauge = gauge.at(0).cloned();
        gauge.iter().for_each(IntGauge::inc);
        Held(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.iter().for_each(IntGauge::dec);
    }
}

#[inline]
pub(super) fn count<const N: usize>(series: &Series<IntCounterVec, N>, place: usize, by: u64) {
    if let Some(counter) = series.at(place) {
        counter.inc_by(by);
    }
}

/// Kept out of line: the code of a request's path does not fit the processor's first cache, and this
/// is needed several times.
#[inline(never)]
pub(super) fn time(series: &Series<HistogramVec, 1>, duration: Duration) {
    if let Some(histogram) = series.at(0) {
        histogram.observe(duration.as_secs_f64());
    }
}
