//! The fields of an access log line: their names, and the choice of an operator.

use std::fmt;

/// One field of a line. Names follow the OpenTelemetry semantic conventions where one exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// When the request began, RFC 3339 in UTC with milliseconds.
    Time,
    /// Request method.
    Method,
    /// `http` or `https`.
    Scheme,
    /// Host of the request, without port; of a TCP connection the name asked for in TLS.
    Host,
    /// Redacted path.
    Path,
    /// Redacted query.
    Query,
    /// Status sent.
    Status,
    /// Who chose the status: `gateway` or `upstream`.
    StatusSource,
    /// Number of the status of gRPC.
    GrpcStatus,
    /// Failure code, if one.
    Failure,
    /// From the request head to the last byte.
    DurationMs,
    /// All attempts together.
    UpstreamMs,
    /// Connecting to the upstream.
    ConnectMs,
    /// From the last attempt's start to its first byte.
    FirstByteMs,
    /// All plugins together.
    PluginMs,
    /// Each plugin by name, in milliseconds.
    Plugins,
    /// Name of the plugin that the request ended at; of a TCP connection `client`, `upstream`, `idle`, `total` or `drain`.
    EndedBy,
    /// Name of the listener.
    Listener,
    /// Name of the route.
    Route,
    /// Name of the upstream.
    Upstream,
    /// Address of the attempt that decided.
    Endpoint,
    /// How many attempts.
    Attempts,
    /// Each attempt: endpoint, failure, status, times, whether its connection was reused.
    AttemptList,
    /// Attempts after the first.
    Retries,
    /// The client's address, from the trusted chain.
    Client,
    /// Address of the other end of the connection.
    Peer,
    /// Redacted `user-agent`.
    UserAgent,
    /// `1.1`, `2`.
    Protocol,
    /// Request body bytes.
    BytesIn,
    /// Response body bytes.
    BytesOut,
    /// `content-type` of the response.
    ContentType,
    /// The caller by name.
    Consumer,
    /// The request's id.
    RequestId,
    /// The trace's id.
    TraceId,
    /// Number of the config.
    Revision,
    /// `tcp`, of a TCP connection.
    Transport,
    /// Bytes read from the client of a TCP connection.
    Received,
    /// Bytes read from the endpoint for the client of a TCP connection.
    Sent,
}

use Field::*;

/// The fields of a line if an operator chooses none.
pub const DEFAULT_FIELDS: &[Field] = &[
    Time,
    Status,
    Method,
    Scheme,
    Host,
    Path,
    DurationMs,
    StatusSource,
    GrpcStatus,
    Failure,
    EndedBy,
    Listener,
    Route,
    Upstream,
    Endpoint,
    Attempts,
    Retries,
    UpstreamMs,
    PluginMs,
    Client,
    Peer,
    UserAgent,
    Protocol,
    BytesIn,
    BytesOut,
    Consumer,
    RequestId,
    TraceId,
    Revision,
    Transport,
    Received,
    Sent,
];

impl Field {
    /// Every field, in the order of the type.
    pub const ALL: [Field; 38] = [
        Time,
        Method,
        Scheme,
        Host,
        Path,
        Query,
        Status,
        StatusSource,
        GrpcStatus,
        Failure,
        DurationMs,
        UpstreamMs,
        ConnectMs,
        FirstByteMs,
        PluginMs,
        Plugins,
        EndedBy,
        Listener,
        Route,
        Upstream,
        Endpoint,
        Attempts,
        AttemptList,
        Retries,
        Client,
        Peer,
        UserAgent,
        Protocol,
        BytesIn,
        BytesOut,
        ContentType,
        Consumer,
        RequestId,
        TraceId,
        Revision,
        Transport,
        Received,
        Sent,
    ];

    /// The name in a config and the key in a line.
    pub const fn name(self) -> &'static str {
        match self {
            Time => "time",
            Method => "http.request.method",
            Scheme => "url.scheme",
            Host => "server.address",
            Path => "url.path",
            Query => "url.query",
            Status => "http.response.status_code",
            StatusSource => "status_source",
            GrpcStatus => "rpc.grpc.status_code",
            Failure => "failure",
            DurationMs => "duration_ms",
            UpstreamMs => "upstream_ms",
            ConnectMs => "connect_ms",
            FirstByteMs => "first_byte_ms",
            PluginMs => "plugin_ms",
            Plugins => "plugins",
            EndedBy => "ended_by",
            Listener => "listener",
            Route => "route",
            Upstream => "upstream",
            Endpoint => "endpoint",
            Attempts => "attempts",
            AttemptList => "attempt_list",
            Retries => "retries",
            Client => "client.address",
            Peer => "network.peer.address",
            UserAgent => "user_agent.original",
            Protocol => "network.protocol.version",
            BytesIn => "http.request.body.size",
            BytesOut => "http.response.body.size",
            ContentType => "http.response.header.content-type",
            Consumer => "consumer",
            RequestId => "request_id",
            TraceId => "trace_id",
            Revision => "revision",
            Transport => "network.transport",
            Received => "bytes_in",
            Sent => "bytes_out",
        }
    }

    /// Finds a field by its exact name.
    ///
    /// # Errors
    /// Names the nearest field if one is near.
    pub fn parse(name: &str) -> Result<Field, UnknownField> {
        let found = Field::ALL.into_iter().find(|field| field.name() == name);
        found.ok_or_else(|| UnknownField { name: name.to_owned(), nearest: nearest(name) })
    }
}

/// A name that no field has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// As written.
    pub name: String,
    /// What may have been meant.
    pub nearest: Option<Field>,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown access log field {:?}", self.name)?;
        match self.nearest {
            Some(field) => write!(f, ", did you mean {:?}?", field.name()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UnknownField {}

/// The field whose name, or last part of the name, is at most a third of the letters away.
fn nearest(name: &str) -> Option<Field> {
    let name: Vec<char> = name.chars().take(64).flat_map(char::to_lowercase).collect();
    let distance_to = |field: Field| {
        let full = field.name();
        let last = full.rsplit('.').next().unwrap_or(full);
        distance(&name, full).min(distance(&name, last))
    };
    let best = Field::ALL.into_iter().min_by_key(|field| distance_to(*field))?;
    (distance_to(best) <= name.len().max(3) / 3).then_some(best)
}

/// Levenshtein's distance.
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (line, b) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, a) in a.iter().enumerate() {
            let change = diagonal + usize::from(*a != b);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_field_is_found_by_its_own_name() {
        let names: HashSet<&str> = Field::ALL.iter().map(|field| field.name()).collect();

        assert_eq!(names.len(), Field::ALL.len());
        for field in Field::ALL {
            assert_eq!(Field::parse(field.name()), Ok(field));
        }
        assert!(!DEFAULT_FIELDS.contains(&Query));
    }

    #[test]
    fn a_misspelled_name_is_answered_with_the_nearest() {
        for (name, meant) in [
            ("url.pat", Some(Path)),
            ("durations_ms", Some(DurationMs)),
            ("Route", Some(Route)),
            ("http.response.status", Some(Status)),
            ("status_code", Some(Status)),
            ("zzzzzz", None),
            ("", None),
        ] {
            let error = Field::parse(name).unwrap_err();
            assert_eq!(error.nearest, meant, "{name}");
        }
        let message = Field::parse("routes").unwrap_err().to_string();
        assert_eq!(message, r#"unknown access log field "routes", did you mean "route"?"#);
    }
}
