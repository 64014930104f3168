//! What is different of gRPC (its "HTTP/2 transport mapping"): a status of its own behind the body, a time of its own,
//! and answers of the gateway that its clients can read.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora_http::ResponseHeader;

use crate::plugin::Reply;
use crate::telemetry::{FailureCode, GrpcStatus};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether a message is of gRPC; gRPC-Web is not.
pub(super) fn is_spoken(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return false };
    let rest = kind.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The status in a head or in trailers; one that is none is unknown.
pub(super) fn status(fields: &HeaderMap) -> Option<GrpcStatus> {
    let said = fields.get(GRPC_STATUS)?.to_str().ok()?;
    Some(said.parse().ok().and_then(GrpcStatus::of).unwrap_or(GrpcStatus::Unknown))
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
    status: GrpcStatus,
) -> pingora::Result<()> {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = said.as_ref().and_then(|said| said.get("detail")).and_then(|said| said.as_str());
    let said = said.or(response.status.canonical_reason()).unwrap_or("refused");
    let message = HeaderValue::try_from(encoded(said));
    response.set_status(StatusCode::OK)?;
    response.remove_header(&header::CONTENT_LENGTH);
    response.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))?;
    response.insert_header(GRPC_STATUS, status.number().to_string())?;
    if let Ok(message) = message {
        response.insert_header(GRPC_MESSAGE, message)?;
    }
    Ok(())
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
    fn grpc_is_told_by_its_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web-text", false),
            ("application/json", false),
        ] {
            assert_eq!(is_spoken(&fields(header::CONTENT_TYPE, kind)), expected, "{kind}");
        }
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
