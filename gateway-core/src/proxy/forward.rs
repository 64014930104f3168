//! The fields that a gateway adds to, and joins in, a request it passes on.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, header, request};
use pingora::{ErrorType, OrErr};
use pingora_http::RequestHeader;

use super::client::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, is_trusted};
use super::seen::{Seen, is_claim};
use crate::action::Rewritten;
use crate::context::RequestCtx;
use crate::listener::{Conn, Introduction};
use crate::telemetry::trace;

/// Fields that are added to a request.
const ADDED: usize = 8;

/// A field this file writes: its name, and how it is spelled where spelling is kept.
struct Field {
    name: HeaderName,
    spelled: &'static str,
}

impl Field {
    const fn new(name: HeaderName, spelled: &'static str) -> Self {
        Self { name, spelled }
    }
}

const X_FORWARDED_FOR: Field = Field::new(FORWARDED_FOR, "X-Forwarded-For");
const CLIENT_CERT_NAME: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const CLIENT_CERT: Field = Field::new(CLIENT_CERT_NAME, "X-Forwarded-Client-Cert");
const X_FORWARDED_PROTO: Field = Field::new(FORWARDED_PROTO, "X-Forwarded-Proto");
const X_FORWARDED_HOST: Field = Field::new(FORWARDED_HOST, "X-Forwarded-Host");
const FORWARDED: Field = Field::new(header::FORWARDED, "Forwarded");
const VIA: Field = Field::new(header::VIA, "Via");
const HOST: Field = Field::new(header::HOST, "Host");
const COOKIE: Field = Field::new(header::COOKIE, "Cookie");
const CONTENT_LENGTH: Field = Field::new(header::CONTENT_LENGTH, "Content-Length");
const TRACEPARENT: Field = Field::new(trace::TRACEPARENT, "traceparent");

/// What a field that cannot be written means: a head with more fields than a map can hold.
type Outcome = pingora::Result<()>;

/// A head whose fields can be changed.
trait Fields {
    fn fields(&self) -> &HeaderMap;
    fn set(&mut self, field: &Field, value: HeaderValue) -> Outcome;
    fn add(&mut self, field: &Field, value: HeaderValue) -> Outcome;
    fn remove(&mut self, name: &HeaderName);
}

/// Keeps the spelling of every name beside it, at the price of a second map and of reading each
/// name anew.
impl Fields for RequestHeader {
    fn fields(&self) -> &HeaderMap {
        &self.headers
    }

    fn set(&mut self, field: &Field, value: HeaderValue) -> Outcome {
        self.insert_header(field.spelled, value)
    }

    fn add(&mut self, field: &Field, value: HeaderValue) -> Outcome {
        self.append_header(field.spelled, value).map(drop)
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }
}

impl Fields for HeaderMap {
    fn fields(&self) -> &HeaderMap {
        self
    }

    fn set(&mut self, field: &Field, value: HeaderValue) -> Outcome {
        let set = self.try_insert(field.name.clone(), value);
        set.map(drop).or_err(ErrorType::InvalidHTTPHeader, "too many fields")
    }

    fn add(&mut self, field: &Field, value: HeaderValue) -> Outcome {
        let added = self.try_append(field.name.clone(), value);
        added.map(drop).or_err(ErrorType::InvalidHTTPHeader, "too many fields")
    }

    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }
}

/// Forgets how the client spelled the names of its fields: they go up in lower case, but for those
/// that Pingora spells itself. To be called once the target is normalised, which is what is kept
/// of it.
pub(super) fn forget_spelling(head: &mut RequestHeader) {
    if head.has_case() {
        let parts = take(head);
        *head = parts.into();
    }
}

/// Asks for another path or host than the client did; the query stays.
pub(super) fn rewrite(head: &mut RequestHeader, rewritten: &Rewritten) -> Outcome {
    if let Some(path) = &rewritten.path {
        let target = match head.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        };
        // What came over HTTP/2 has its authority in Host by now.
        let uri = Uri::try_from(target).or_err(ErrorType::InvalidHTTPHeader, "rewritten path")?;
        head.set_uri(uri);
    }
    match &rewritten.host {
        Some(host) => head.insert_header("Host", host.clone()),
        None => Ok(()),
    }
}

/// The parts of a head, which is to be given new ones.
fn take(head: &mut RequestHeader) -> request::Parts {
    let nothing = Request::new(()).into_parts().0;
    std::mem::replace(head, nothing.into()).into()
}

/// The way a request came and where it goes, which the fields tell of.
pub(super) struct Way<'a> {
    pub(super) ctx: &'a RequestCtx,
    pub(super) conn: &'a Conn,
    pub(super) endpoint: SocketAddr,
    /// What the head has.
    pub(super) seen: Seen,
}

impl Way<'_> {
    /// Brings an attempt's copy of the head into the form the upstream gets. `received` is the
    /// version it came in.
    ///
    /// `X-Forwarded-*` and `Forwarded` are continued where the peer is a trusted proxy and begun
    /// anew where it is not: whatever a client claims about others is not passed on, `X-Real-IP`
    /// included.
    pub(super) fn prepare(&self, head: &mut RequestHeader, received: Version) -> Outcome {
        if received == Version::HTTP_2
            && !head.headers.contains_key(header::HOST)
            && let Some(authority) = head.uri.authority().cloned()
        {
            // Pingora does so on its own connections alone.
            head.insert_header(header::HOST, authority.as_str())?;
        }
        if head.has_case() {
            return self.write(head, received);
        }
        let mut parts = take(head);
        parts.headers.reserve(ADDED);
        let outcome = self.write(&mut parts.headers, received);
        *head = parts.into();
        outcome
    }

    fn write(&self, head: &mut impl Fields, received: Version) -> Outcome {
        let seen = &self.seen;
        let host = head.fields().get(header::HOST).cloned();
        if is_trusted(self.ctx.peer_ip(), &self.ctx.listener().trusted) {
            self.carry_on(head, host.as_ref())?;
        } else {
            if seen.claims {
                remove_claims(head);
            }
            self.introduce(head, host.as_ref())?;
        }
        if let Some(told) =
            self.conn.secured.as_ref().and_then(|secured| secured.forwarded.as_ref())
        {
            match told {
                Some(told) => head.set(&CLIENT_CERT, told.clone())?,
                None => head.remove(&CLIENT_CERT_NAME),
            }
        }
        if host.is_none() {
            // HTTP/1.0 may come without Host; HTTP/1.1, which goes up, may not.
            let value = HeaderValue::try_from(self.endpoint.to_string());
            head.set(&HOST, value.or_err(ErrorType::InvalidHTTPHeader, "host")?)?;
        }
        if let Some(traceparent) = self.ctx.traceparent() {
            // What stands in their place is no trace context, so its state means nothing.
            if seen.tracestate {
                head.remove(&trace::TRACESTATE);
            }
            let value = HeaderValue::from_bytes(traceparent.as_bytes());
            head.set(&TRACEPARENT, value.or_err(ErrorType::InvalidHTTPHeader, "traceparent")?)?;
        }
        via(head, received)?;
        if seen.several_cookies {
            join_cookies(head)?;
        }
        if seen.content_length { one_content_length(head) } else { Ok(()) }
    }

    /// What the gateway itself knows of the client. The values are the same for every request of a
    /// connection that asks for the same host, so the connection keeps them.
    fn introduce(&self, head: &mut impl Fields, host: Option<&HeaderValue>) -> Outcome {
        let known = self.conn.introduction(host, || self.introduction(host));
        let known = known.or_err(ErrorType::InvalidHTTPHeader, "forwarded fields")?;
        head.set(&X_FORWARDED_FOR, known.forwarded_for)?;
        head.set(&X_FORWARDED_PROTO, scheme(self.ctx.scheme()))?;
        head.set(&FORWARDED, known.forwarded)?;
        match host {
            Some(host) => head.set(&X_FORWARDED_HOST, host.clone()),
            None => {
                head.remove(&FORWARDED_HOST);
                Ok(())
            }
        }
    }

    fn introduction(
        &self,
        host: Option<&HeaderValue>,
    ) -> Result<Introduction, http::header::InvalidHeaderValue> {
        let peer = self.ctx.peer_ip().to_canonical();
        Ok(Introduction {
            forwarded_for: HeaderValue::try_from(peer.to_string())?,
            forwarded: HeaderValue::try_from(element(peer, self.ctx.scheme(), host))?,
        })
    }

    /// What a trusted proxy says of the client, and that the request came through it.
    fn carry_on(&self, head: &mut impl Fields, host: Option<&HeaderValue>) -> Outcome {
        let peer = self.ctx.peer_ip().to_canonical();
        let addresses = continued(head, &FORWARDED_FOR, &peer.to_string())?;
        head.set(&X_FORWARDED_FOR, addresses)?;
        let element = element(peer, self.ctx.scheme(), host);
        let elements = continued(head, &header::FORWARDED, &element)?;
        head.set(&FORWARDED, elements)?;
        if !head.fields().contains_key(FORWARDED_PROTO) {
            head.set(&X_FORWARDED_PROTO, scheme(self.ctx.scheme()))?;
        }
        match host {
            Some(host) if !head.fields().contains_key(FORWARDED_HOST) => {
                head.set(&X_FORWARDED_HOST, host.clone())
            }
            _ => Ok(()),
        }
    }
}

/// `Via` by RFC 9110, section 7.6.3.
fn via(head: &mut impl Fields, received: Version) -> Outcome {
    // Constants, because making a value reads its text.
    const VIA_2: HeaderValue = HeaderValue::from_static("2 gateway");
    const VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 gateway");
    const VIA_1_0: HeaderValue = HeaderValue::from_static("1.0 gateway");
    let value = match received {
        Version::HTTP_2 => VIA_2,
        Version::HTTP_11 => VIA_1_1,
        _ => VIA_1_0,
    };
    head.add(&VIA, value)
}

/// The value of a scheme.
fn scheme(scheme: &'static str) -> HeaderValue {
    const HTTP: HeaderValue = HeaderValue::from_static("http");
    if scheme == "http" { HTTP } else { HeaderValue::from_static(scheme) }
}

/// One element of `Forwarded` (RFC 7239).
fn element(peer: IpAddr, scheme: &str, host: Option<&HeaderValue>) -> String {
    let mut text = match peer {
        IpAddr::V4(v4) => format!("for={v4}"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
    };
    // Hosts that get here hold neither quotes nor backslashes. Writing to a String cannot fail.
    let _ = match host.and_then(|host| host.to_str().ok()) {
        Some(host) => write!(text, ";host=\"{host}\";proto={scheme}"),
        None => write!(text, ";proto={scheme}"),
    };
    text
}

/// What a client that is no trusted proxy says of itself or of others, whatever upstreams make of
/// it.
fn remove_claims(head: &mut impl Fields) {
    let claims = head.fields().keys().filter(|name| is_claim(name)).cloned();
    for name in claims.collect::<Vec<_>>() {
        head.remove(&name);
    }
}

/// HTTP/2 may split cookies over several fields; HTTP/1 may not (RFC 9113, section 8.2.3).
fn join_cookies(head: &mut impl Fields) -> Outcome {
    let all: Vec<&[u8]> =
        head.fields().get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    match HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        Ok(joined) => head.set(&COOKIE, joined),
        Err(_) => Ok(()),
    }
}

/// Pingora accepts several equal lengths, or a list of them, and passes all of them on.
/// Announces no length of a body that may become longer or shorter on its way up.
pub(super) fn unframe(head: &mut RequestHeader, is_stream: bool) -> Outcome {
    if head.remove_header(&header::CONTENT_LENGTH).is_some() && !is_stream {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

fn one_content_length(head: &mut impl Fields) -> Outcome {
    let mut lengths = head.fields().get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    if lengths.next().is_none() && is_one_length(first) {
        return Ok(());
    }
    match super::admission::content_length(head.fields()) {
        Some(length) => head.set(&CONTENT_LENGTH, length.into()),
        None => Ok(()),
    }
}

/// Whether a length is one that nobody reads otherwise: no list, no zeros before it.
pub(super) fn is_one_length(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    value == b"0" || !value.starts_with(b"0") && !value.contains(&b',')
}

/// All fields of one name in their order, as a list with one more element.
fn continued(head: &impl Fields, name: &HeaderName, element: &str) -> pingora::Result<HeaderValue> {
    let mut list = String::new();
    for field in head.fields().get_all(name) {
        if let Ok(text) = field.to_str() {
            append(&mut list, text);
        }
    }
    append(&mut list, element);
    HeaderValue::try_from(list).or_err(ErrorType::InvalidHTTPHeader, "forwarded fields")
}

fn append(list: &mut String, element: &str) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.push_str(element);
}
