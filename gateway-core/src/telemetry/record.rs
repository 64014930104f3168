//! What is kept of a finished request: the one source of metrics, access log and traces.

use super::failure::FailureCode;
use super::{Ascii, GrpcStatus, TraceContext};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
#[cfg(test)]
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

/// Everything known of one request at its end. Borrows all it can, so that building it is free.
#[derive(Debug, Clone)]
pub struct RequestRecord<'a> {
    /// When the request head was complete.
    pub time: SystemTime,
    /// From `time` to the last byte sent or the failure.
    pub duration: Duration,
    /// Where the time went.
    pub phases: Phases,
    /// Name of the listener that accepted the connection.
    pub listener: &'a str,
    /// Name of the route that matched.
    pub route: Option<&'a str>,
    /// Name of the upstream that was chosen.
    pub upstream: Option<&'a str>,
    /// Every try, in order; the last one decided.
    pub attempts: &'a [AttemptRecord],
    /// Request method.
    pub method: &'a Method,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'a str,
    /// Authority of the request, with a port if the client sent one.
    pub host: Option<&'a str>,
    /// Path in its normalised form; what sinks show of it is redacted.
    pub path: &'a str,
    /// Raw query without the question mark; what sinks show of it is redacted.
    pub query: Option<&'a str>,
    /// HTTP version the client speaks.
    pub protocol: Version,
    /// Status sent or, if the client was gone, the one that stands for it; none before a decision.
    pub status: Option<u16>,
    /// Who chose the status.
    pub status_source: StatusSource,
    /// The first event that ended the stream; none if the upstream's answer was complete.
    pub failure: Option<FailureCode>,
    /// Request body bytes read from the client.
    pub bytes_in: u64,
    /// Response body bytes written to the client.
    pub bytes_out: u64,
    /// The client's address, from the trusted chain of proxies.
    pub client: IpAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The fields of the request.
    pub request_headers: &'a HeaderMap,
    /// The fields of the response, if one was sent.
    pub response_headers: Option<&'a HeaderMap>,
    /// The request's id, accepted or made.
    pub request_id: Option<&'a str>,
    /// The trace it is part of.
    pub trace: Option<TraceContext>,
    /// The caller, if known by name.
    pub consumer: Option<&'a str>,
    /// Number of the config the request was served under.
    pub revision: u64,
    /// Attempts after the first.
    pub retries: u32,
    /// Time spent in each plugin, by its name, in the order they ran.
    pub plugin_times: &'a [(&'a str, Duration)],
    /// How it ended, if it was a call of gRPC and that is known.
    pub grpc_status: Option<GrpcStatus>,
    /// The plugin that answered, or failed, so that the request ended there.
    pub ended_by: Option<&'a str>,
}

/// Where the time of a request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// All plugins together.
    pub plugins: Duration,
    /// Connecting, TLS included; none if a connection was reused or never made.
    pub upstream_connect: Option<Duration>,
    /// From the last attempt's start to the first byte of its answer.
    pub upstream_first_byte: Option<Duration>,
    /// All attempts together, waits between them included.
    pub upstream: Option<Duration>,
}

/// One try of a request on one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Where it went.
    pub endpoint: SocketAddr,
    /// How it failed; none if an answer came.
    pub failure: Option<FailureCode>,
    /// Since the start of the request.
    pub started: Duration,
    /// From its start to its end.
    pub duration: Duration,
    /// Connecting, TLS included; none if a connection was reused or never made.
    pub connect: Option<Duration>,
    /// Whether it ran on a connection from the pool.
    pub reused: bool,
    /// Status of the answer, if one came.
    pub status: Option<u16>,
    /// Another attempt of the same request answered first, so that this one was given up.
    pub lost: bool,
}

/// Who chose the status that the client saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusSource {
    /// A plugin, a refusal or a failure.
    Gateway,
    /// The endpoint's answer, passed on.
    Upstream,
}

impl StatusSource {
    /// `"gateway"` or `"upstream"`.
    pub const fn name(self) -> &'static str {
        match self {
            StatusSource::Gateway => "gateway",
            StatusSource::Upstream => "upstream",
        }
    }
}

impl<'a> RequestRecord<'a> {
    /// The endpoint of the attempt that decided.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.attempts.last().map(|attempt| attempt.endpoint)
    }

    /// `user-agent` of the request.
    pub fn user_agent(&self) -> Option<Cow<'a, str>> {
        self.request_headers.get(header::USER_AGENT).map(text)
    }

    /// `content-type` of the response.
    pub fn response_content_type(&self) -> Option<Cow<'a, str>> {
        self.response_headers?.get(header::CONTENT_TYPE).map(text)
    }

    /// The identifier of its trace, in 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<Ascii<32>> {
        self.trace.as_ref().map(TraceContext::trace_id_hex)
    }

    /// Whether the request counts as failed: by a code, or by a status of 500 and above.
    pub fn is_error(&self) -> bool {
        self.failure.is_some() || self.status.is_some_and(|status| status >= 500)
    }
}

fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// A map of one field whose value may be any text, for tests of the sinks.
#[cfg(test)]
pub(crate) fn field(name: http::HeaderName, value: &str) -> HeaderMap {
    let value = HeaderValue::from_bytes(value.as_bytes()).expect("the test's value is valid");
    HeaderMap::from_iter([(name, value)])
}

#[cfg(test)]
impl<'a> RequestRecord<'a> {
    /// A plain request that went well, for tests of the sinks.
    pub(crate) fn sample() -> RequestRecord<'a> {
        const ATTEMPT: AttemptRecord = AttemptRecord {
            endpoint: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 8080),
            failure: None,
            started: Duration::from_micros(80),
            duration: Duration::from_millis(12),
            connect: Some(Duration::from_micros(900)),
            reused: false,
            status: Some(200),
            lost: false,
        };
        const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36";
        static REQUEST: LazyLock<HeaderMap> = LazyLock::new(|| field(header::USER_AGENT, AGENT));
        static RESPONSE: LazyLock<HeaderMap> =
            LazyLock::new(|| field(header::CONTENT_TYPE, "application/json"));
        RequestRecord {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_668_168_123),
            duration: Duration::from_micros(12_345),
            phases: Phases {
                plugins: Duration::from_micros(42),
                upstream_connect: ATTEMPT.connect,
                upstream_first_byte: Some(Duration::from_millis(9)),
                upstream: Some(Duration::from_millis(12)),
            },
            listener: "public",
            route: Some("users"),
            upstream: Some("users"),
            attempts: const { &[ATTEMPT] },
            method: &Method::GET,
            scheme: "https",
            host: Some("api.example.com:8443"),
            path: "/users/550e8400-e29b-41d4-a716-446655440000/orders",
            query: Some("page=2&sort=name"),
            protocol: Version::HTTP_11,
            status: Some(200),
            status_source: StatusSource::Upstream,
            failure: None,
            bytes_in: 0,
            bytes_out: 4096,
            client: IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7)),
            peer: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3)), 51234),
            request_headers: &REQUEST,
            response_headers: Some(&RESPONSE),
            request_id: Some("01J9ZQ3V7K8M2N4P6R8T0W2Y4A"),
            trace: TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            consumer: None,
            revision: 7,
            retries: 0,
            plugin_times: &[],
            grpc_status: None,
            ended_by: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_or_a_status_of_the_500s_makes_an_error() {
        let good = RequestRecord::sample();

        assert!(!good.is_error());
        assert!(!RequestRecord { status: Some(404), ..good.clone() }.is_error());
        assert!(RequestRecord { status: Some(502), ..good.clone() }.is_error());
        assert!(RequestRecord { failure: Some(FailureCode::P6), ..good }.is_error());
    }
}
