//! `Reply`: an answer the gateway makes itself.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::telemetry::{FailureCode, GrpcStatus};

/// A complete answer made by the gateway or by one of its plugins.
///
/// The gateway adds `Content-Length` and `Date`, and runs the response phases over it like over an
/// upstream's answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status, 200 to 599.
    pub status: StatusCode,
    /// Fields in the order they are sent.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; not sent where the method or the status has none.
    pub body: Bytes,
    /// Why the request was refused, if it was.
    pub failure: Option<FailureCode>,
    /// What clients of gRPC are told, if it is not what the status says.
    pub grpc: Option<GrpcStatus>,
    /// Whether the client's connection must close after this answer.
    pub close: bool,
}

impl Reply {
    /// An empty answer with this status.
    pub fn new(status: StatusCode) -> Self {
        let (headers, body) = (Vec::new(), Bytes::new());
        Self { status, headers, body, failure: None, grpc: None, close: false }
    }

    /// A refusal: problem details (RFC 9457) with the status's own title, and the code that logs,
    /// metrics and the record carry.
    pub fn refusal(status: StatusCode, failure: FailureCode) -> Self {
        let detail = status.canonical_reason().unwrap_or("Refused");
        Self::problem(status, detail).because(failure)
    }

    /// Problem details (RFC 9457) with this text as `detail`.
    pub fn problem(status: StatusCode, detail: &str) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let body = serde_json::json!({"status": status.as_u16(), "title": title, "detail": detail});
        let mut reply = Self::new(status).with_body(body.to_string());
        reply.set(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        reply
    }

    /// The same answer with this failure code.
    pub fn because(mut self, failure: FailureCode) -> Self {
        self.failure = Some(failure);
        self
    }

    /// The same answer, which is this status to clients of gRPC.
    pub fn in_grpc(mut self, status: GrpcStatus) -> Self {
        self.grpc = Some(status);
        self
    }

    /// The same answer with this body.
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The same answer with one more field.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same answer, after which the client's connection closes.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Replaces every field of this name.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.retain(|(held, _)| *held != name);
        self.headers.push((name, value));
    }
}
