//! Whether a request's head is one that a gateway may pass on, and in which form (RFC 9110, 9112).
//!
//! What is checked here is what Pingora lets through. The path is normalised once; that one form
//! is matched, authorised and forwarded.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::client::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};
use super::seen::Seen;
use crate::plugin::Reply;
use crate::routing::{HostText, LastHost, Target, normalise, split_target};
use crate::snapshot::ListenerLimits;
use crate::telemetry::FailureCode;

/// A head as HTTP/1 sent it, for the checks that its parsed form no longer allows.
pub(super) struct RawHead(pub(super) Bytes);

/// Checks a head and brings its target into the form that is routed and forwarded. Returns the
/// host it asks for; HTTP/1.0 may ask for none.
///
/// # Errors
/// The answer to a head that may not pass.
pub(super) fn admit(
    head: &mut RequestHeader,
    raw: Option<&RawHead>,
    seen: &Seen,
    limits: &ListenerLimits,
    last_host: &LastHost,
) -> Result<Option<HostText>, Box<Reply>> {
    match raw {
        Some(raw) => check_framing(head, raw, seen, limits)?,
        None => check_size(&head.headers, limits)?,
    }
    if seen.expect {
        check_expectation(&head.headers)?;
    }
    if seen.connection {
        leave_nominated(head)?;
    }
    let host = host(head, last_host)?;
    complete_host(head)?;
    normalise_target(head)?;
    Ok(host)
}

/// What is asked for in absolute form is asked for upstream too, where HTTP/1.0 had no Host (RFC
/// 9112, section 3.2.2).
fn complete_host(head: &mut RequestHeader) -> Result<(), Box<Reply>> {
    if head.version > Version::HTTP_10 || head.headers.contains_key(header::HOST) {
        return Ok(());
    }
    let own = head.uri.authority().map(|authority| authority.as_str());
    let Some(authority) = own.or_else(|| absolute(head)).map(str::to_owned) else { return Ok(()) };
    head.insert_header("Host", authority).map_err(|_| bad_request("the Host is not valid"))
}

/// What `Connection` cannot take away: the host, what proxies tell of the client, the framing of the message.
const PROTECTED: [HeaderName; 4] = [header::HOST, FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST];
const FRAMING: [HeaderName; 2] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
/// What `Connection` may say that is no field.
const OPTIONS: [&str; 3] = ["close", "keep-alive", "upgrade"];
/// No client names more.
const NOMINATED: usize = 32;

/// Leaves behind the fields that `Connection` names (RFC 9110, section 7.6.1). Before anybody looks at the head: what
/// plugins put in later is not the client's to take away.
fn leave_nominated(head: &mut RequestHeader) -> Result<(), Box<Reply>> {
    let fields = head.headers.get_all(header::CONNECTION).iter();
    let options = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    let mut kept: SmallVec<[&'static str; 2]> = SmallVec::new();
    let mut named: SmallVec<[HeaderName; 4]> = SmallVec::new();
    let mut alone = true;
    for option in options.map(<[u8]>::trim_ascii).filter(|option| !option.is_empty()) {
        let is = |own: &&&str| option.eq_ignore_ascii_case(own.as_bytes());
        if let Some(known) = OPTIONS.iter().find(is) {
            kept.push(known);
            continue;
        }
        alone = false;
        let name = HeaderName::from_bytes(option).ok();
        let name = name.filter(|name| !PROTECTED.contains(name) && named.len() < NOMINATED);
        let Some(name) = name else {
            return Err(bad_request("`Connection` names a field that is not its to take away"));
        };
        named.push(name);
    }
    if alone {
        return Ok(());
    }
    for name in named.iter().filter(|name| !FRAMING.contains(name)) {
        head.remove_header(name);
    }
    head.remove_header(&header::CONNECTION);
    if !kept.is_empty() {
        let kept = kept.join(", ");
        head.insert_header(header::CONNECTION, kept).map_err(|_| bad_request("`Connection`"))?;
    }
    Ok(())
}

fn check_framing(
    head: &RequestHeader,
    raw: &RawHead,
    seen: &Seen,
    limits: &ListenerLimits,
) -> Result<(), Box<Reply>> {
    if raw.0.len() > limits.header_bytes || head.headers.len() > limits.headers {
        return Err(too_large());
    }
    // The parsed target has lost a fragment, which no request has (RFC 9112, section 3.2).
    let line = raw.0.split(|byte| *byte == b'\n').find(|line| line.len() > 1).unwrap_or_default();
    if line.contains(&b'#') {
        return Err(bad_request("the target holds a fragment"));
    }
    if !seen.transfer_encoding {
        return Ok(());
    }
    // Pingora drops Content-Length beside Transfer-Encoding and goes on. A message with both is
    // an attempt at smuggling or a broken client (RFC 9112, section 6.1).
    if has_field(&raw.0, b"content-length") {
        return Err(bad_request("both Content-Length and Transfer-Encoding"));
    }
    let codings = head.headers.get_all(header::TRANSFER_ENCODING);
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.iter().nth(1).is_some() || !codings.iter().all(chunked) {
        let reply = Reply::problem(StatusCode::NOT_IMPLEMENTED, "transfer coding not supported");
        return Err(Box::new(reply.because(FailureCode::P8).closing()));
    }
    Ok(())
}

/// The limits of HTTP/1 for a head that came as HTTP/2 frames; sizes as RFC 9113 counts them,
/// without the 32 bytes a field.
fn check_size(headers: &HeaderMap, limits: &ListenerLimits) -> Result<(), Box<Reply>> {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > limits.header_bytes || headers.len() > limits.headers {
        return Err(too_large());
    }
    Ok(())
}

#[cold]
fn too_large() -> Box<Reply> {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Box::new(Reply::refusal(status, FailureCode::P8).closing())
}

fn check_expectation(headers: &HeaderMap) -> Result<(), Box<Reply>> {
    match headers.get(header::EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            let reply = Reply::refusal(StatusCode::EXPECTATION_FAILED, FailureCode::P8);
            Err(Box::new(reply.closing()))
        }
        _ => Ok(()),
    }
}

/// The host that is asked for. Pingora has already refused several of them, and a Host field that
/// differs from the target's authority.
fn host(head: &RequestHeader, last_host: &LastHost) -> Result<Option<HostText>, Box<Reply>> {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let host = match (authority.or_else(|| absolute(head)), head.headers.get(header::HOST)) {
        (None, None) if head.version <= Version::HTTP_10 => return Ok(None),
        (_, None) if head.version == Version::HTTP_11 => {
            return Err(bad_request("the Host is missing"));
        }
        (Some(authority), _) => authority.as_bytes(),
        (None, Some(field)) => field.as_bytes(),
        (None, None) => return Err(bad_request("the Host is missing")),
    };
    last_host.normalise(host).map(Some).map_err(|fault| bad_request(&fault.to_string()))
}

/// The authority of a target in absolute form, which outranks Host (RFC 9112, section 3.2.2).
fn absolute(head: &RequestHeader) -> Option<&str> {
    let raw = head.raw_path();
    if raw.first() == Some(&b'/') {
        return None;
    }
    match split_target(&head.method, std::str::from_utf8(raw).ok()?).ok()? {
        Target::Resource { authority, .. } => authority,
        Target::Server => None,
    }
}

/// Rewrites the target to origin form with its path normalised. Costs nothing if it already is.
fn normalise_target(head: &mut RequestHeader) -> Result<(), Box<Reply>> {
    let bad = |fault: &dyn std::fmt::Display| bad_request(&fault.to_string());
    if !head.raw_path_is_utf8() {
        return Err(bad_request("the target is not valid"));
    }
    let raw = match head.uri.path_and_query() {
        Some(target) if head.uri.authority().is_some() => target.as_str(),
        _ => std::str::from_utf8(head.raw_path()).unwrap_or_default(),
    };
    let changed = match split_target(&head.method, raw).map_err(|fault| bad(&fault))? {
        Target::Server => return Ok(()),
        Target::Resource { authority, path, query } => {
            let path = normalise(path.as_bytes()).map_err(|fault| bad(&fault))?;
            let same = path.is_borrowed() && authority.is_none();
            let query = query.map(|query| format!("?{query}"));
            (!same || head.uri.authority().is_some())
                .then(|| format!("{}{}", path.as_str(), query.unwrap_or_default()))
        }
    };
    let Some(target) = changed else { return Ok(()) };
    let target = PathAndQuery::try_from(target).map_err(|fault| bad(&fault))?;
    let mut parts = std::mem::take(&mut head.uri.clone()).into_parts();
    parts.path_and_query = Some(target);
    let http2 = head.version == Version::HTTP_2;
    if !http2 {
        // A target in absolute form ends here; its authority is in Host.
        parts.scheme = None;
        parts.authority = None;
    }
    let uri = Uri::from_parts(parts).map_err(|fault| bad(&fault))?;
    head.set_uri(uri);
    Ok(())
}

/// A refusal of a message that cannot be trusted: the connection closes after it.
#[cold]
pub(super) fn bad_request(detail: &str) -> Box<Reply> {
    let reply = Reply::problem(StatusCode::BAD_REQUEST, detail);
    Box::new(reply.because(FailureCode::P8).closing())
}

/// The length that the head announces for the body.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let first = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    first.split(',').next()?.trim().parse().ok()
}

/// Whether a preflight of the Fetch standard asks for leave to use another method.
pub(crate) fn preflight_method(head: &RequestHeader) -> Option<Method> {
    if head.method != Method::OPTIONS || !head.headers.contains_key(header::ORIGIN) {
        return None;
    }
    let wanted = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(wanted.as_bytes()).ok()
}

/// Whether a raw head has a field of this lower-case name.
fn has_field(raw: &[u8], name: &[u8]) -> bool {
    raw.split(|byte| *byte == b'\n').skip(1).any(|line| {
        let field = line.split(|byte| *byte == b':').next().unwrap_or_default();
        field.eq_ignore_ascii_case(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ListenerLimits {
        ListenerLimits {
            connections: 1,
            connections_per_client: 1,
            header_bytes: 1024,
            headers: 8,
            body_bytes: None,
            requests_per_connection: None,
        }
    }

    fn head(target: &str, fields: &[(&'static str, &str)]) -> (RequestHeader, RawHead) {
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        head.set_version(Version::HTTP_11);
        let mut raw = format!("GET {target} HTTP/1.1\r\n");
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
            raw.push_str(&format!("{name}: {value}\r\n"));
        }
        (head, RawHead(format!("{raw}\r\n").into()))
    }

    fn outcome(target: &str, fields: &[(&'static str, &str)]) -> Result<(String, String), u16> {
        let (mut head, raw) = head(target, fields);
        let seen = Seen::of(&head.headers);
        match admit(&mut head, Some(&raw), &seen, &limits(), &LastHost::default()) {
            Ok(host) => {
                let host = host.map(|host| host.as_str().to_owned()).unwrap_or_default();
                Ok((host, String::from_utf8_lossy(head.raw_path()).into_owned()))
            }
            Err(reply) => Err(reply.status.as_u16()),
        }
    }

    #[test]
    fn target_is_brought_into_one_form() {
        let cases = [
            ("/a/./b/../c?x=%2e", "/a/c?x=%2e"),
            ("//a///b", "/a/b"),
            ("/%7Euser/%2f", "/~user/%2F"),
            ("/plain?q=1", "/plain?q=1"),
        ];
        for (target, expected) in cases {
            let (host, path) = outcome(target, &[("Host", "A.example.:80")]).unwrap();
            assert_eq!((host.as_str(), path.as_str()), ("a.example", expected));
        }
    }

    #[test]
    fn what_the_connection_names_is_gone_before_anybody_looks() {
        let left = |fields: &[(&'static str, &str)]| {
            let (mut head, raw) = head("/", &[&[("Host", "a")], fields].concat());
            let seen = Seen::of(&head.headers);
            let admitted = admit(&mut head, Some(&raw), &seen, &limits(), &LastHost::default());
            admitted.map_err(|reply| reply.status.as_u16())?;
            let all = head.headers.iter();
            let mut all: Vec<_> = all.map(|(name, value)| format!("{name}={value:?}")).collect();
            all.sort();
            Ok(all.join(" ").replace('"', ""))
        };
        let fields = [("Connection", "Keep-Alive, x-own, Content-Length"), ("X-Own", "1")];
        assert_eq!(left(&fields).as_deref(), Ok("connection=keep-alive host=a"));
        let fields = [("Connection", "x-own"), ("Connection", "Upgrade"), ("x-kept", "1")];
        assert_eq!(left(&fields).as_deref(), Ok("connection=upgrade host=a x-kept=1"));
        assert_eq!(left(&[("Connection", "x-own"), ("x-own", "1")]).as_deref(), Ok("host=a"));
        let many = "x, ".repeat(40);
        for option in ["Host", "X-Forwarded-For", ":path", "\"x\"", "a b", &many] {
            assert_eq!(left(&[("Connection", option)]), Err(400), "{option}");
        }
    }

    #[test]
    fn heads_that_may_not_pass_are_answered() {
        let host = ("Host", "a");
        type Case<'a> = (&'a str, &'a [(&'static str, &'a str)], u16);
        let cases: [Case<'_>; 8] = [
            ("/", &[], 400),
            ("/%00", &[host], 400),
            ("/a\\b", &[host], 400),
            ("/", &[("Host", "a b")], 400),
            ("/", &[host, ("Transfer-Encoding", "gzip, chunked")], 501),
            ("/", &[host, ("Transfer-Encoding", "chunked"), ("Content-Length", "3")], 400),
            ("/", &[host, ("Expect", "200-ok")], 417),
            ("/", &[host; 9], 431),
        ];
        for (target, fields, status) in cases {
            assert_eq!(outcome(target, fields), Err(status), "{target} {fields:?}");
        }
    }
}
