//! Attributes: named facts about a request, resolved once to an enum and read many times.
//!
//! | name | is |
//! |---|---|
//! | `tls.version`, `.cipher`, `.server_name` | of the client's connection, if it is secured; the name that it asked for |
//! | `tls.client.subject`, `.san`, `.fingerprint` | of the client's certificate, if it showed one; the alternative names are a list, each with its kind in front: `DNS:a.example` |
//! | `client.network` | the caller's network: its address, of IPv6 the first 64 bits |
//! | `client.ip`, `peer.ip` | the caller by the trusted chain; the other end of the socket |
//! | `request.method`, `.path`, `.host`, `.scheme` | path and host in normal form |
//! | `request.protocol` | `HTTP/1.0`, `HTTP/1.1`, `HTTP/2` |
//! | `request.query_string`, `request.query.NAME` | as sent; the first value, percent-decoded, `+` a space |
//! | `request.header.NAME`, `response.header.NAME` | fields of one name are joined with `, `, those of `cookie` with `; ` |
//! | `request.cookie.NAME` | the first value, as sent |
//! | `request.capture.NAME` | what the route's path captured, in normal form |
//! | `request.id`, `trace.id` | |
//! | `listener.name`, `route.name`, `upstream.name` | |
//! | `response.status` | a number; all others are text |
//! | `consumer.name`, `.groups`, `.label.NAME` | the caller, once a plugin recognised it; a list; a word about it |
//! | `jwt.sub` and the like | what a plugin publishes under its own names |
//!
//! Conditions are written in CEL: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` with a list of literals,
//! `&&`, `||`, `!`, `has(…)`, `size(…)`, `startsWith`, `endsWith`, `contains`, `matches`. Names with a
//! dash stand in brackets: `request.header["x-api-key"]`.
//!
//! A request need not have what a name stands for. What is missing equals nothing: `==`, `in`, the
//! tests of text and the comparisons of order are false for it, `!=` and `!has(…)` are true. In a
//! template it is empty.
//!
//! Bytes that are not UTF-8 are read as U+FFFD: a rule that denies by a field must not be evaded by
//! making the field unreadable.

mod names;
mod pairs;

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use http::header::{COOKIE, HeaderMap, HeaderName};
use http::{HeaderValue, Version};
use pingora_http::{RequestHeader, ResponseHeader};

use super::Fact;
use crate::context::RequestCtx;

pub use names::PublishedNames;

/// A fact about a request, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the table above says what each one is")]
pub enum Attribute {
    ClientIp,
    ClientNetwork,
    TlsVersion,
    TlsCipher,
    TlsServerName,
    TlsClientSubject,
    TlsClientSan,
    TlsClientFingerprint,
    PeerIp,
    RequestMethod,
    RequestPath,
    RequestHost,
    RequestScheme,
    RequestProtocol,
    RequestQueryString,
    RequestHeader(HeaderName),
    RequestQuery(String),
    RequestCookie(String),
    RequestCapture(String),
    RequestId,
    TraceId,
    ListenerName,
    RouteName,
    UpstreamName,
    ConsumerName,
    ConsumerGroups,
    ConsumerLabel(String),
    ResponseStatus,
    ResponseHeader(HeaderName),
    Published(Box<str>),
}

/// Where attributes are read from.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The head as the client sent it, with what plugins changed.
    pub request: &'a RequestHeader,
    /// The response head, once there is one.
    pub response: Option<&'a ResponseHeader>,
    /// The request in flight.
    pub ctx: &'a RequestCtx,
}

/// What an attribute holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Text, borrowed where it stands somewhere.
    Text(Cow<'a, str>),
    /// A number.
    Int(i64),
}

/// The type of what an attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::Text`].
    Text,
    /// [`Value::Int`].
    Int,
}

/// When in a request's life a fact is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// With the head, before a route is chosen.
    Head,
    /// While the request's plugins run.
    Request,
    /// With the response head.
    Response,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "the request",
            Self::Request => "a route is chosen",
            Self::Response => "the response",
        })
    }
}

/// Why a name is no attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// Neither one of ours nor published by a plugin.
    #[error("unknown attribute `{name}`{}", names::did_you_mean(.nearest))]
    Unknown {
        /// As written.
        name: String,
        /// A name there is, close to the one written.
        nearest: Option<String>,
    },
    /// The path of the route captures no such thing.
    #[error("the route's path has no `{name}`; {known}")]
    NotCaptured {
        /// What stands behind `request.capture.`.
        name: String,
        /// What it captures, in words.
        known: String,
    },
    /// `request.header.` and the like without a usable name behind it.
    #[error("`{name}` needs a valid name behind it, as in `request.header.accept`")]
    Key {
        /// As written.
        name: String,
    },
}

impl AttributeError {
    pub(crate) fn not_captured<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.collect();
        let known = match known.as_slice() {
            [] => "it captures nothing".to_owned(),
            all => format!("it captures `{}`", all.join("`, `")),
        };
        Self::NotCaptured { name: name.to_owned(), known }
    }
}

impl Attribute {
    /// Resolves a name.
    pub fn parse(name: &str, published: &PublishedNames) -> Result<Self, AttributeError> {
        if let Some(attribute) = names::fixed(name) {
            return Ok(attribute);
        }
        if let Some((make, key)) = names::keyed(name) {
            let made = make(key).ok_or_else(|| AttributeError::Key { name: name.to_owned() });
            return made.and_then(|attribute| published.check(attribute));
        }
        if names::is_prefix(name) {
            return Err(AttributeError::Key { name: name.to_owned() });
        }
        if published.covers(name) {
            return Ok(Self::Published(name.into()));
        }
        let nearest = names::nearest(name, published);
        Err(AttributeError::Unknown { name: name.to_owned(), nearest })
    }

    /// The type of what is read.
    pub fn kind(&self) -> Kind {
        match self {
            Self::ResponseStatus => Kind::Int,
            _ => Kind::Text,
        }
    }

    /// Whether there is nothing to read before the response head.
    pub fn needs_response(&self) -> bool {
        self.known_from() == Moment::Response
    }

    /// From when on there can be something to read.
    pub fn known_from(&self) -> Moment {
        match self {
            Self::ResponseStatus | Self::ResponseHeader(_) => Moment::Response,
            // What plugins find out, and what follows from the route.
            Self::RequestCapture(_)
            | Self::RequestId
            | Self::RouteName
            | Self::UpstreamName
            | Self::ConsumerName
            | Self::ConsumerGroups
            | Self::ConsumerLabel(_)
            | Self::Published(_) => Moment::Request,
            _ => Moment::Head,
        }
    }

    /// Whether a client chooses it as it likes, whatever it asks for: a field, a cookie, the query.
    pub(crate) fn is_free(&self) -> bool {
        matches!(
            self,
            Self::RequestHeader(_)
                | Self::RequestQuery(_)
                | Self::RequestCookie(_)
                | Self::RequestQueryString
                | Self::RequestProtocol
        )
    }

    /// Whether it can be a list, which `in` looks into.
    pub fn is_list(&self) -> bool {
        matches!(self, Self::ConsumerGroups | Self::TlsClientSan | Self::Published(_))
    }

    /// Whether the list has this item. A text is a list of itself.
    pub fn has(&self, item: &str, facts: &Facts<'_>) -> bool {
        match self {
            Self::ConsumerGroups => facts.ctx.consumer().is_some_and(|one| one.is_in(item)),
            Self::Published(name) => facts.ctx.published(name).is_some_and(|fact| fact.has(item)),
            Self::TlsClientSan => {
                let client = facts.ctx.secured().and_then(|secured| secured.client.as_ref());
                client.is_some_and(|client| client.names.iter().any(|name| **name == *item))
            }
            _ => self.with_text(facts, |text| text == Some(item)),
        }
    }

    /// Reads the fact; `None` if the request does not have it.
    pub fn read<'a>(&self, facts: &Facts<'a>) -> Option<Value<'a>> {
        match self {
            Self::ResponseStatus => Some(Value::Int(facts.response?.status.as_u16().into())),
            _ => self.read_text(facts).map(Value::Text),
        }
    }

    /// The same of a client that has made a connection and no request; `None` where that says nothing of it.
    pub(crate) fn with_address<R>(
        &self,
        client: IpAddr,
        take: impl FnOnce(Option<&str>) -> R,
    ) -> R {
        match self {
            Self::ClientIp | Self::PeerIp => with_display(client, take),
            Self::ClientNetwork => with_display(network(client), take),
            _ => take(None),
        }
    }

    /// Hands the fact over as text without allocating for addresses and numbers.
    pub fn with_text<R>(&self, facts: &Facts<'_>, take: impl FnOnce(Option<&str>) -> R) -> R {
        match self {
            Self::ClientIp => with_display(facts.ctx.client_ip(), take),
            Self::ClientNetwork => with_display(network(facts.ctx.client_ip()), take),
            Self::PeerIp => with_display(facts.ctx.peer_ip(), take),
            Self::ResponseStatus => take(facts.response.map(|response| response.status.as_str())),
            _ => take(self.read_text(facts).as_deref()),
        }
    }

    /// The address that it is, of those that are addresses.
    pub(crate) fn address(&self, facts: &Facts<'_>) -> Option<IpAddr> {
        match self {
            Self::ClientIp => Some(facts.ctx.client_ip()),
            Self::PeerIp => Some(facts.ctx.peer_ip()),
            _ => None,
        }
    }

    /// Hands over bytes that tell its values apart as their texts do, for whoever only compares them: of an
    /// address its octets, which take less to make than the text.
    pub fn with_bytes<R>(&self, facts: &Facts<'_>, take: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let address = match self {
            Self::ClientIp => facts.ctx.client_ip(),
            Self::ClientNetwork => network(facts.ctx.client_ip()),
            Self::PeerIp => facts.ctx.peer_ip(),
            _ => return self.with_text(facts, |text| take(text.map(str::as_bytes))),
        };
        match address {
            IpAddr::V4(address) => take(Some(&address.octets())),
            IpAddr::V6(address) => take(Some(&address.octets())),
        }
    }

    fn read_text<'a>(&self, facts: &Facts<'a>) -> Option<Cow<'a, str>> {
        let (request, ctx) = (facts.request, facts.ctx);
        let borrowed = match self {
            Self::ClientIp => return Some(Cow::Owned(ctx.client_ip().to_string())),
            Self::ClientNetwork => {
                return Some(Cow::Owned(network(ctx.client_ip()).to_string()));
            }
            Self::PeerIp => return Some(Cow::Owned(ctx.peer_ip().to_string())),
            Self::TraceId => return Some(Cow::Owned(ctx.trace_id()?.to_string())),
            Self::RequestHeader(name) => return joined(&request.headers, name),
            Self::RequestQuery(name) => return pairs::query(request.uri.query()?, name),
            Self::RequestCookie(name) => {
                return pairs::cookie(request.headers.get_all(COOKIE), name);
            }
            Self::ResponseHeader(name) => return joined(&facts.response?.headers, name),
            Self::ResponseStatus => return None,
            Self::TlsVersion => ctx.secured().map(|secured| secured.version),
            Self::TlsCipher => ctx.secured().map(|secured| &*secured.cipher),
            Self::TlsServerName => ctx.secured()?.server_name.as_deref(),
            Self::TlsClientSubject => Some(&*ctx.secured()?.client.as_ref()?.subject),
            Self::TlsClientSan => Some(&*ctx.secured()?.client.as_ref()?.all_names),
            Self::TlsClientFingerprint => Some(&*ctx.secured()?.client.as_ref()?.fingerprint),
            Self::RequestMethod => Some(request.method.as_str()),
            Self::RequestPath => Some(request.uri.path()),
            Self::RequestHost => ctx.host(),
            Self::RequestScheme => Some(ctx.scheme()),
            Self::RequestProtocol => protocol(request.version),
            Self::RequestQueryString => request.uri.query(),
            Self::RequestCapture(name) => ctx.capture(name),
            Self::RequestId => ctx.request_id(),
            Self::ListenerName => Some(ctx.listener_name()),
            Self::RouteName => ctx.route_name(),
            Self::UpstreamName => ctx.upstream_name(),
            Self::ConsumerName => ctx.consumer().map(|consumer| &*consumer.name),
            Self::ConsumerGroups => ctx.consumer().map(|consumer| consumer.group_fact.as_text()),
            Self::ConsumerLabel(name) => ctx.consumer()?.labels.get(name).map(String::as_str),
            Self::Published(name) => ctx.published(name).map(Fact::as_text),
        };
        borrowed.map(Cow::Borrowed)
    }
}

/// The name an operator would write.
impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestHeader(name) => write!(f, "request.header.{name}"),
            Self::RequestQuery(name) => write!(f, "request.query.{name}"),
            Self::RequestCookie(name) => write!(f, "request.cookie.{name}"),
            Self::RequestCapture(name) => write!(f, "request.capture.{name}"),
            Self::ConsumerLabel(name) => write!(f, "consumer.label.{name}"),
            Self::ResponseHeader(name) => write!(f, "response.header.{name}"),
            Self::Published(name) => f.write_str(name),
            fixed => f.write_str(names::of_fixed(fixed)),
        }
    }
}

fn protocol(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("HTTP/1.0"),
        Version::HTTP_11 => Some("HTTP/1.1"),
        Version::HTTP_2 => Some("HTTP/2"),
        _ => None,
    }
}

fn joined<'a>(headers: &'a HeaderMap<HeaderValue>, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter();
    let mut all = readable(values.next()?);
    for value in values {
        // HTTP/2 may send cookies one by one (RFC 9113, section 8.2.3).
        all += if *name == COOKIE { "; " } else { ", " };
        all += readable(value);
    }
    Some(all)
}

fn readable(value: &HeaderValue) -> Cow<'_, str> {
    // Checking the usual case first is faster than asking for the lossy form at once.
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(value.as_bytes()),
    }
}

/// Whoever has one address of IPv6 has all of its first 64 bits (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

fn with_display<R>(address: IpAddr, take: impl FnOnce(Option<&str>) -> R) -> R {
    let mut buffer = [0_u8; 64];
    let mut rest = buffer.as_mut_slice();
    let fits = write!(rest, "{address}").is_ok();
    let left = rest.len();
    let written = &buffer[..buffer.len() - left];
    take(std::str::from_utf8(written).ok().filter(|_| fits))
}

#[cfg(test)]
mod tests;
