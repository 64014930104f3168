//! Brings an upstream's response head into the form that may go on to the client.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, StatusCode, Version, header};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::forward::is_one_length;
use crate::upstream::{KEEP_ALIVE, kept_for};

/// Whether a field concerns one connection only (RFC 9110, section 7.6.1). `Connection` itself is
/// written by Pingora, `Transfer-Encoding` is kept for it to act on.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    // Names are compared as such: the text of a known one lies far from its number.
    name == header::TE
        || name == header::TRAILER
        || name == header::UPGRADE
        || name == KEEP_ALIVE
        || name == PROXY_CONNECTION
}

/// Whether a response to this method with this status has no body (RFC 9112, section 6.3).
pub(super) fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What was learned of a response while its head was cleaned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cleaned {
    /// Its body can only end with the client's connection, because the client does not know chunks.
    pub(super) closes: bool,
    /// How long the upstream keeps its own connection.
    pub(super) kept_for: Option<Duration>,
}

/// Forgets how the endpoint spelled the names of its fields: they go down in lower case, but for those that
/// Pingora spells itself. To keep a second map beside that of the fields doubles what each change costs.
pub(super) fn forget_spelling(head: &mut ResponseHeader) {
    if !head.has_case() {
        return;
    }
    let canonical = head.status.canonical_reason();
    let reason = head.get_reason_phrase().filter(|reason| Some(*reason) != canonical);
    let reason = reason.map(str::to_owned);
    let nothing = http::Response::new(()).into_parts().0;
    let parts: http::response::Parts = std::mem::replace(head, nothing.into()).into();
    *head = parts.into();
    if let Some(reason) = reason {
        // It was one already.
        let _ = head.set_reason_phrase(Some(&reason));
    }
}

/// Cleans the head of a final response.
pub(super) fn clean(response: &mut ResponseHeader, method: &Method, client: Version) -> Cleaned {
    response.set_version(Version::HTTP_11);
    let seen = Seen::of(&response.headers);
    let kept_for = if seen.hop_by_hop { kept_for(&response.headers) } else { None };
    Cleaned { closes: frame(response, method, client, &seen), kept_for }
}

/// Whether the body can only end with the client's connection.
fn frame(response: &mut ResponseHeader, method: &Method, client: Version, seen: &Seen) -> bool {
    if seen.nominations {
        remove_nominated(response);
    }
    if seen.hop_by_hop {
        let names: Vec<HeaderName> =
            response.headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
        for name in &names {
            response.remove_header(name);
        }
    }
    if seen.unclear_length {
        one_content_length(response);
    }
    let status = response.status;
    if is_bodiless(method, status) {
        if seen.transfer_encoding {
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        if status == StatusCode::NO_CONTENT {
            response.remove_header(&header::CONTENT_LENGTH);
        }
        return false;
    }
    if seen.transfer_encoding {
        // Chunks outrank a length (RFC 9112, section 6.3); to send both invites smuggling.
        response.remove_header(&header::CONTENT_LENGTH);
        if client < Version::HTTP_11 {
            response.remove_header(&header::TRANSFER_ENCODING);
            return true;
        }
    }
    false
}

/// What one look at a response's fields tells. It costs less than asking for each of those that are
/// hardly ever there.
#[derive(Default)]
struct Seen {
    /// `Connection` says more than `keep-alive`.
    nominations: bool,
    hop_by_hop: bool,
    transfer_encoding: bool,
    /// Several lengths, or a list of them.
    unclear_length: bool,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        let mut lengths = 0;
        for (name, value) in headers {
            if name == header::CONTENT_LENGTH {
                lengths += 1;
                seen.unclear_length |= lengths > 1 || !is_one_length(value);
            } else if name == header::TRANSFER_ENCODING {
                seen.transfer_encoding = true;
            } else if name == header::CONNECTION {
                seen.nominations |= !value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
            } else {
                seen.hop_by_hop |= is_hop_by_hop(name);
            }
        }
        seen
    }
}

/// Pingora accepts a length that is said several times, and passes all of them on. No field may
/// go on that is no single length (RFC 9110, section 8.6).
fn one_content_length(response: &mut ResponseHeader) {
    let Some(first) = response.headers.get(header::CONTENT_LENGTH).cloned() else { return };
    let length = super::admission::content_length(&response.headers);
    let length = length.map_or(first, http::HeaderValue::from);
    // A number is always a valid value.
    let _ = response.insert_header("Content-Length", length);
}

/// Lets a body change its length on the way: chunks for those who know them.
pub(super) fn unframe(response: &mut ResponseHeader, client: Version) -> bool {
    response.remove_header(&header::CONTENT_LENGTH);
    if client == Version::HTTP_11 {
        // Pingora frames what it is told to frame.
        let chunked = http::HeaderValue::from_static("chunked");
        return response.insert_header(header::TRANSFER_ENCODING, chunked).is_err();
    }
    response.remove_header(&header::TRANSFER_ENCODING);
    client < Version::HTTP_11
}

/// Sends the head of an answer that came over a connection of the gateway's own to a client that does not
/// know chunks. Where it has no length, Pingora would say that chunks follow whatever the client is; of a
/// head that was sent already it takes no notice.
pub(super) async fn send_unchunked(
    session: &mut Session,
    response: &ResponseHeader,
) -> pingora::Result<()> {
    if response.headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(());
    }
    session.set_keepalive(None);
    let sent = session.write_response_header(Box::new(response.clone()), false).await;
    sent.map_err(|error| error.into_down())
}

fn remove_nominated(response: &mut ResponseHeader) {
    for name in nominated(&response.headers) {
        // Framing and Date are not a connection's to give away.
        if ![header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::DATE].contains(&name) {
            response.remove_header(&name);
        }
    }
}

fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let fields = headers.get_all(header::CONNECTION).iter();
    let options = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    options.filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(status: u16, method: &Method, client: Version) -> (ResponseHeader, Cleaned) {
        let mut response = ResponseHeader::build(status, None).unwrap();
        response.set_version(Version::HTTP_10);
        for (name, value) in [
            ("Connection", "close, X-Private"),
            ("X-Private", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Trailer", "X-Sum"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "3"),
            ("Server", "origin"),
        ] {
            response.append_header(name, value).unwrap();
        }
        let cleaned = clean(&mut response, method, client);
        (response, cleaned)
    }

    #[test]
    fn fields_of_the_upstreams_connection_stay_behind() {
        let (response, learned) = cleaned(200, &Method::GET, Version::HTTP_11);

        for gone in ["x-private", "keep-alive", "trailer", "content-length"] {
            assert!(!response.headers.contains_key(gone), "{gone}");
        }
        assert_eq!(response.headers["server"], "origin");
        assert_eq!(response.version, Version::HTTP_11);
        let kept_for = Some(Duration::from_secs(5));
        assert_eq!(learned, Cleaned { closes: false, kept_for });
    }

    #[test]
    fn chunks_are_not_sent_to_a_client_that_does_not_know_them() {
        let (response, learned) = cleaned(200, &Method::GET, Version::HTTP_10);

        assert!(!response.headers.contains_key("transfer-encoding"));
        assert!(learned.closes);
    }

    #[test]
    fn statuses_without_a_body_have_no_framing() {
        let (response, _) = cleaned(204, &Method::GET, Version::HTTP_11);
        assert!(!response.headers.contains_key("transfer-encoding"));
        assert!(!response.headers.contains_key("content-length"));

        let (response, _) = cleaned(200, &Method::HEAD, Version::HTTP_11);
        assert!(!response.headers.contains_key("transfer-encoding"));
    }
}
