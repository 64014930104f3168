//! The closed sets of label values: nothing a client sends becomes a label.

use crate::telemetry::failure::FailureCode;
use http::Method;

/// Method classes.
pub(super) const METHODS: [&str; 8] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

/// Status classes; `none` if the request ended before a status was decided.
pub(super) const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of a method's class in [`METHODS`].
pub(super) fn method_class(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        _ => 7,
    }
}

/// The place of a status' class in [`STATUSES`].
pub(super) fn status_class(status: Option<u16>) -> usize {
    match status {
        Some(status @ 100..=599) => usize::from(status / 100),
        _ => 0,
    }
}

/// `ok`, then every failure code, then `lost`.
pub(super) const ATTEMPT_OUTCOMES: [&str; FailureCode::ALL.len() + 2] = {
    let mut outcomes = ["ok"; FailureCode::ALL.len() + 2];
    outcomes[FailureCode::ALL.len() + 1] = "lost";
    let mut index = 0;
    while index < FailureCode::ALL.len() {
        outcomes[index + 1] = FailureCode::ALL[index].code();
        index += 1;
    }
    outcomes
};

/// The place of an attempt's outcome in [`ATTEMPT_OUTCOMES`].
pub(super) fn attempt_outcome(failure: Option<FailureCode>, lost: bool) -> usize {
    match failure {
        _ if lost => FailureCode::ALL.len() + 1,
        Some(failure) => failure.index() + 1,
        None => 0,
    }
}

/// `ok`, then every failure code.
pub(super) const CONNECTION_OUTCOMES: [&str; FailureCode::ALL.len() + 1] = {
    let mut outcomes = ["ok"; FailureCode::ALL.len() + 1];
    let mut index = 0;
    while index < FailureCode::ALL.len() {
        outcomes[index + 1] = FailureCode::ALL[index].code();
        index += 1;
    }
    outcomes
};

/// The place of a connection's outcome in [`CONNECTION_OUTCOMES`].
pub(super) fn connection_outcome(failure: Option<FailureCode>) -> usize {
    failure.map_or(0, |failure| failure.index() + 1)
}

/// Which limit refused a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// Connections of the whole gateway.
    Total,
    /// Connections of the listener.
    Listener,
    /// Connections of one client address.
    PerClient,
    /// File descriptors.
    Descriptors,
    /// The gateway is shutting down.
    Draining,
}

pub(super) const REFUSALS: [&str; 5] =
    ["total", "listener", "per_client", "descriptors", "draining"];

/// What ended a connection before a request head was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnectionEnd {
    /// The head was not complete in time.
    HeaderTimeout,
    /// The head was longer than allowed.
    HeaderTooLarge,
    /// The head had more fields than allowed.
    TooManyHeaders,
    /// The head could not be read.
    BadRequest,
    /// No request came in time.
    IdleTimeout,
    /// The client closed in the middle of a head.
    ClientClosed,
    /// Reading or writing failed.
    Io,
    /// It did not begin with a header of the PROXY protocol, though it had to.
    ProxyProtocol,
    /// Frames of HTTP/2 came that only cost.
    Flood,
}

pub(super) const CLOSED: [&str; 9] = [
    "header_timeout",
    "header_too_large",
    "too_many_headers",
    "bad_request",
    "idle_timeout",
    "client_closed",
    "io",
    "proxy_protocol",
    "flood",
];

/// What a TLS handshake failed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HandshakeFailure {
    /// It took too long.
    Timeout,
    /// The client went away.
    Closed,
    /// The client spoke HTTP without TLS.
    Plaintext,
    /// What the client sent is no handshake.
    Protocol,
    /// There is no version, suite or protocol that both can.
    Incompatible,
    /// The client did not like what it was shown.
    Rejected,
    /// The client showed no certificate.
    CertificateMissing,
    /// The client's certificate is not signed by who is trusted, or is none.
    CertificateInvalid,
    /// The client's certificate has expired.
    CertificateExpired,
    /// The client's certificate was revoked.
    CertificateRevoked,
    /// The client's certificate is of somebody who is not let in.
    CertificateDenied,
}

pub(super) const HANDSHAKE_FAILURES: [&str; 11] = [
    "timeout",
    "closed",
    "plaintext",
    "protocol",
    "incompatible",
    "rejected",
    "certificate_missing",
    "certificate_invalid",
    "certificate_expired",
    "certificate_revoked",
    "certificate_denied",
];

/// Whether a session went on that there was before.
pub(super) const HANDSHAKES: [&str; 2] = ["full", "resumed"];

/// Why an endpoint was taken out for what became of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EjectionReason {
    /// Failures in a row.
    InARow,
    /// The share of requests that failed.
    Ratio,
    /// The time its answers took.
    Latency,
}

pub(super) const EJECTION_REASONS: [&str; 3] = ["consecutive_failures", "failure_ratio", "latency"];

/// Why a request was not let in where too many were in flight.
pub(super) const OVERFLOWS: [&str; 2] = ["queue_full", "queue_timeout"];

/// What became of a copy of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Copied {
    /// It was answered.
    Answered,
    /// It could not be sent, or its answer not be read.
    Failed,
    /// It took too long.
    Timeout,
    /// It was not sent, because too many were in flight.
    Full,
    /// It was not sent, because its body was too long.
    TooLarge,
    /// It was not sent, because the request ended before its body had.
    Incomplete,
}

pub(super) const COPY_OUTCOMES: [&str; 6] =
    ["answered", "failed", "timeout", "full", "too_large", "incomplete"];

/// What the answer to a copy has in common with that to the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Compared {
    /// All that is compared.
    Same,
    /// Not the status.
    Status,
    /// Not a header field.
    Header,
    /// Not the body.
    Body,
    /// The original failed, or a body was too long to tell.
    Skipped,
}

pub(super) const COMPARISONS: [&str; 5] = ["same", "status", "header", "body", "skipped"];

/// Why an attempt was repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RetryReason {
    /// There was no connection.
    ConnectFailure,
    /// The endpoint had not looked at it.
    RefusedStream,
    /// The connection ended before an answer began.
    Reset,
    /// No answer began in time.
    Timeout,
    /// The answer was not HTTP.
    BadResponse,
    /// The status of the answer.
    Status,
    /// No answer had begun after the usual time: it was not repeated but sent a second time.
    Hedge,
}

pub(super) const RETRY_REASONS: [&str; 7] =
    ["connect_failure", "refused_stream", "reset", "timeout", "bad_response", "status", "hedge"];

/// The states of endpoints, by the names that the admin address has for them.
pub(super) const ENDPOINT_STATES: [&str; 5] =
    ["usable", "unchecked", "unhealthy", "ejected", "drained"];

/// How looks for endpoints ended.
pub(super) const LOOK_OUTCOMES: [&str; 2] = ["success", "failure"];

/// What a circuit breaker became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakerChange {
    /// Everything goes through.
    Closed,
    /// Nothing does.
    Open,
    /// Probes do.
    HalfOpen,
}

/// The states of circuit breakers. Half open is called by another name: no value may be the end of
/// another.
pub(super) const BREAKER_STATES: [&str; 3] = ["closed", "open", "probing"];

/// What health checks said.
pub(super) const CHECK_OUTCOMES: [&str; 2] = ["pass", "fail"];

/// What a limiter made of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LimiterDecision {
    /// It passed.
    Allowed,
    /// It was refused.
    Limited,
    /// It passed, because the limiter is only tried: else it would have been refused.
    WouldLimit,
}

pub(super) const LIMITER_DECISIONS: [&str; 3] = ["allowed", "limited", "would_limit"];

/// What a compressed body is counted as: as it came, and as it went on.
pub(super) const COMPRESSION_FORMS: [&str; 2] = ["plain", "coded"];

/// What became of a call of a limiter's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StoreCall {
    /// It answered.
    Success,
    /// It answered with a fault.
    Failure,
    /// It did not answer in time.
    Timeout,
    /// It was not called, as there is no connection to it.
    Down,
}

pub(super) const STORE_CALLS: [&str; 4] = ["success", "failure", "timeout", "down"];

/// What became of a request's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CredentialCheck {
    /// They are good.
    Accepted,
    /// There are none.
    Missing,
    /// They are not what they should be.
    Invalid,
    /// They were good.
    Expired,
    /// They are good, but not for this.
    Denied,
    /// They cannot be checked for now.
    Unchecked,
}

pub(super) const CREDENTIAL_CHECKS: [&str; 6] =
    ["accepted", "missing", "invalid", "expired", "denied", "unchecked"];

/// How fetching keys ended.
pub(super) const KEY_FETCHES: [&str; 2] = ["success", "failure"];

/// How a hook of a plugin failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PluginError {
    /// It returned an error.
    Error,
    /// It panicked.
    Panic,
}

pub(super) const PLUGIN_ERRORS: [&str; 2] = ["error", "panic"];

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReloadOutcome {
    /// The new config is in use.
    Success,
    /// The old config stays in use.
    Failure,
    /// The new config was tried, and the old one stays in use.
    Discarded,
}

/// How an upgrade ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum UpgradeOutcome {
    /// The process that follows serves.
    Success,
    /// The process before serves on.
    Failure,
}

/// Of reloads; the first two of upgrades.
pub(super) const CHANGE_OUTCOMES: [&str; 3] = ["success", "failure", "discarded"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_statuses_fall_into_their_classes() {
        for (method, class) in [("GET", "GET"), ("OPTIONS", "OPTIONS"), ("TRACE", "other")] {
            assert_eq!(METHODS[method_class(&method.parse().unwrap())], class);
        }
        for (status, class) in
            [(Some(101), "1xx"), (Some(599), "5xx"), (Some(600), "none"), (None, "none")]
        {
            assert_eq!(STATUSES[status_class(status)], class);
        }
        assert_eq!(ATTEMPT_OUTCOMES[attempt_outcome(Some(FailureCode::U4), false)], "U4");
        assert_eq!(REFUSALS[Refusal::Draining as usize], "draining");
        assert_eq!(CLOSED[ConnectionEnd::Io as usize], "io");
    }

    /// The metrics library hashes the values of a series without a mark between them: were one
    /// value the end of another, `a` + `bc` and `ab` + `c` would be one series.
    #[test]
    fn no_label_value_is_the_end_of_another() {
        let requests: Vec<String> =
            METHODS.iter().flat_map(|m| STATUSES.iter().map(move |s| format!("{m}{s}"))).collect();
        let sets: [Vec<&str>; 12] = [
            requests.iter().map(String::as_str).collect(),
            ATTEMPT_OUTCOMES.to_vec(),
            CONNECTION_OUTCOMES.to_vec(),
            REFUSALS.to_vec(),
            CLOSED.to_vec(),
            PLUGIN_ERRORS.to_vec(),
            BREAKER_STATES.to_vec(),
            LIMITER_DECISIONS.to_vec(),
            COMPRESSION_FORMS.to_vec(),
            CREDENTIAL_CHECKS.to_vec(),
            KEY_FETCHES.to_vec(),
            STORE_CALLS.to_vec(),
        ];
        for set in sets {
            for (a, b) in set.iter().flat_map(|a| set.iter().map(move |b| (a, b))) {
                assert!(a == b || !a.ends_with(b), "{a} ends with {b}");
            }
        }
    }
}
