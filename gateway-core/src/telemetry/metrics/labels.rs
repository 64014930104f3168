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

/// `ok`, then every failure code.
pub(super) const ATTEMPT_OUTCOMES: [&str; FailureCode::ALL.len() + 1] = {
    let mut outcomes = ["ok"; FailureCode::ALL.len() + 1];
    let mut index = 0;
    while index < FailureCode::ALL.len() {
        outcomes[index + 1] = FailureCode::ALL[index].code();
        index += 1;
    }
    outcomes
};

/// The place of an attempt's outcome in [`ATTEMPT_OUTCOMES`].
pub(super) fn attempt_outcome(failure: Option<FailureCode>) -> usize {
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
}

pub(super) const CLOSED: [&str; 7] = [
    "header_timeout",
    "header_too_large",
    "too_many_headers",
    "bad_request",
    "idle_timeout",
    "client_closed",
    "io",
];

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
}

pub(super) const RELOAD_OUTCOMES: [&str; 2] = ["success", "failure"];

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
        assert_eq!(ATTEMPT_OUTCOMES[attempt_outcome(Some(FailureCode::U4))], "U4");
        assert_eq!(REFUSALS[Refusal::Draining as usize], "draining");
        assert_eq!(CLOSED[ConnectionEnd::Io as usize], "io");
    }

    /// The metrics library hashes the values of a series without a mark between them: were one
    /// value the end of another, `a` + `bc` and `ab` + `c` would be one series.
    #[test]
    fn no_label_value_is_the_end_of_another() {
        let requests: Vec<String> =
            METHODS.iter().flat_map(|m| STATUSES.iter().map(move |s| format!("{m}{s}"))).collect();
        let sets: [Vec<&str>; 5] = [
            requests.iter().map(String::as_str).collect(),
            ATTEMPT_OUTCOMES.to_vec(),
            REFUSALS.to_vec(),
            CLOSED.to_vec(),
            PLUGIN_ERRORS.to_vec(),
        ];
        for set in sets {
            for (a, b) in set.iter().flat_map(|a| set.iter().map(move |b| (a, b))) {
                assert!(a == b || !a.ends_with(b), "{a} ends with {b}");
            }
        }
    }
}
