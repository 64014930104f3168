//! What is kept of a finished connection that was no HTTP.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{AttemptRecord, FailureCode};

/// Everything known of one connection of a TCP listener at its end.
#[derive(Debug, Clone)]
pub struct ConnectionRecord<'a> {
    /// When it was accepted.
    pub time: SystemTime,
    /// From `time` to its end.
    pub duration: Duration,
    /// Name of the listener that accepted it.
    pub listener: &'a str,
    /// Name of the upstream that was chosen.
    pub upstream: Option<&'a str>,
    /// Every try to connect, in order.
    pub attempts: &'a [AttemptRecord],
    /// The name that the client asked for in TLS.
    pub server_name: Option<&'a str>,
    /// What ended it, if it did not end in peace.
    pub failure: Option<FailureCode>,
    /// Who or what ended it, if it had been passed on.
    pub ended_by: Option<EndedBy>,
    /// Bytes read from the client.
    pub bytes_in: u64,
    /// Bytes read from the endpoint.
    pub bytes_out: u64,
    /// The client's address, from the PROXY protocol where that is trusted.
    pub client: SocketAddr,
    /// Number of the config it was accepted under.
    pub revision: u64,
}

/// Who or what ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// The client, by closing its side first or by going away.
    Client,
    /// The endpoint, in the same ways.
    Upstream,
    /// Nothing moved for as long as `timeouts.idle` says.
    Idle,
    /// It lasted as long as `timeouts.total` says.
    Total,
    /// The gateway stopped.
    Drain,
}

impl EndedBy {
    /// The word in the access log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Idle => "idle",
            Self::Total => "total",
            Self::Drain => "drain",
        }
    }
}
