//! What is different of gRPC (its "HTTP/2 transport mapping"): a status of its own behind the body, a time of its own,
//! and answers of the gateway that its clients can read.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora_http::ResponseHeader;

use crate::grpc::GrpcForm;
use crate::plugin::Reply;
use crate::telemetry::{FailureCode, GrpcStatus};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The status in a head or in trailers; one that is none is unknown.
pub(super) fn status(fields: &HeaderMap) -> Option<GrpcStatus> {
    let said = fields.get(GRPC_STATUS)?.to_str().ok()?;
    Some(said.parse().ok().and_then(GrpcStatus::of).unwrap_or(GrpcStatus::Unknown))
}

/// The answer to a call that was to be translated for an endpoint which has no trailers.
#[cold]
pub(super) fn unspoken() -> Box<Reply> {
    let detail = "the endpoint is asked over HTTP/1.1, and gRPC needs HTTP/2";
    Box::new(Reply::problem(StatusCode::NOT_IMPLEMENTED, detail).because(FailureCode::P8))
}

/// How long a client waits (`grpc-timeout`): at most eight digits, and a unit.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get(GRPC_TIMEOUT)?.as_bytes();
    let (unit, digits) = said.split_last()?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| {
        (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    })?;
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// What an answer of the gateway is called in gRPC.
pub(super) fn of_reply(reply: &Reply) -> GrpcStatus {
    if let Some(status) = reply.grpc {
        return status;
    }
    match (reply.failure, reply.status) {
        (Some(FailureCode::X7), _) => GrpcStatus::DeadlineExceeded,
        (_, status) => match status {
            StatusCode::OK => GrpcStatus::Ok,
            StatusCode::BAD_REQUEST => GrpcStatus::Internal,
            StatusCode::UNAUTHORIZED => GrpcStatus::Unauthenticated,
            StatusCode::FORBIDDEN => GrpcStatus::PermissionDenied,
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => GrpcStatus::Unimplemented,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => {
                GrpcStatus::ResourceExhausted
            }
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::REQUEST_TIMEOUT => GrpcStatus::Unavailable,
            status if status.is_server_error() => GrpcStatus::Internal,
            _ => GrpcStatus::Unknown,
        },
    }
}

/// Makes an answer of the gateway one that clients of gRPC can read: a status in a head that ends the stream. The fields
/// that plugins set stay.
pub(super) fn speak(
    response: &mut ResponseHeader,
    body: &Bytes,
    form: GrpcForm,
    status: GrpcStatus,
) -> pingora::Result<()> {
    let message = message(response.status, body);
    response.set_status(StatusCode::OK)?;
    response.remove_header(&header::CONTENT_LENGTH);
    response.insert_header(header::CONTENT_TYPE, HeaderValue::from_static(form.kind()))?;
    response.insert_header(GRPC_STATUS, status.number().to_string())?;
    if let Some(message) = message {
        response.insert_header(GRPC_MESSAGE, message)?;
    }
    Ok(())
}

/// The same behind an answer that has begun.
pub(super) fn trailers(reply: &Reply, status: GrpcStatus) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status.number())));
    if let Some(message) = message(reply.status, &reply.body) {
        trailers.insert(GRPC_MESSAGE, message);
    }
    trailers
}

/// What an answer says of itself: the detail of a problem, else what its status is called.
fn message(status: StatusCode, body: &[u8]) -> Option<HeaderValue> {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = said.as_ref().and_then(|said| said.get("detail")).and_then(|said| said.as_str());
    let said = said.or(status.canonical_reason()).unwrap_or("refused");
    HeaderValue::try_from(encoded(said)).ok()
}

/// A message as gRPC has it: all but printable ASCII is percent-encoded, and `%` itself.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn times_are_read_to_the_letter() {
        let read = |text: &str| timeout(&fields(GRPC_TIMEOUT, text));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for wrong in ["", "1", "S", "999999999S", "-1S", "1.5S", "1 S", "1s", "+1S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_status_is_a_number_and_any_other_is_unknown() {
        let read = |text: &str| status(&fields(GRPC_STATUS, text));
        assert_eq!(read("0"), Some(GrpcStatus::Ok));
        assert_eq!(read("14"), Some(GrpcStatus::Unavailable));
        for wrong in ["17", "-1", "x", ""] {
            assert_eq!(read(wrong), Some(GrpcStatus::Unknown), "{wrong}");
        }
        assert_eq!(status(&HeaderMap::new()), None);
    }

    #[test]
    fn messages_are_encoded() {
        assert_eq!(encoded("100% sûr\n"), "100%25 s%C3%BBr%0A");
    }
}
