//! The fields that a gateway adds to, and joins in, a request it passes on.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue, Version, header};
use pingora::{ErrorType, OrErr};
use pingora_http::RequestHeader;

use super::client::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, is_trusted};
use crate::context::RequestCtx;
use crate::listener::{Conn, Introduction};

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What a field that cannot be written means; it cannot happen with the texts made here.
type Outcome = pingora::Result<()>;

/// Brings an attempt's copy of the head into the form the upstream gets.
///
/// `X-Forwarded-*` and `Forwarded` are continued where the peer is a trusted proxy and begun anew
/// where it is not: whatever a client claims about others is not passed on.
pub(super) fn prepare(
    head: &mut RequestHeader,
    ctx: &RequestCtx,
    conn: &Conn,
    endpoint: SocketAddr,
    received: Version,
) -> Outcome {
    make_room(head)?;
    let host = head.headers.get(header::HOST).cloned();
    if is_trusted(ctx.peer_ip(), &ctx.listener().trusted) {
        carry_on(head, ctx, host.as_ref())?;
    } else {
        introduce(head, ctx, conn, host.as_ref())?;
    }
    if host.is_none() {
        // HTTP/1.0 may come without Host; HTTP/1.1, which goes up, may not.
        head.insert_header("Host", endpoint.to_string())?;
    }
    if let Some(traceparent) = ctx.traceparent() {
        // What stands in their place is no trace context, so its state means nothing.
        if head.headers.contains_key(TRACESTATE) {
            head.remove_header(&TRACESTATE);
        }
        head.insert_header("traceparent", traceparent)?;
    }
    via(head, received)?;
    join_cookies(head)?;
    one_content_length(head)
}

/// Fields that are added to a request.
const ADDED: usize = 8;

/// Gives a short head room for what is added to it. Pingora's copy has none to spare, and a map
/// that grows from one field to seven is built again three times over. A longer head grows once.
fn make_room(head: &mut RequestHeader) -> Outcome {
    let fields = head.headers.len();
    if fields >= ADDED || head.uri.authority().is_some() || !head.has_case() {
        return Ok(());
    }
    let mut roomy =
        RequestHeader::build(head.method.clone(), head.raw_path(), Some(fields + ADDED))?;
    roomy.set_version(head.version);
    for (name, value) in head.case_header_iter() {
        roomy.append_header(name.clone(), value.clone())?;
    }
    *head = roomy;
    Ok(())
}

/// What the gateway itself knows of the client. The values are the same for every request of a
/// connection that asks for the same host, so the connection keeps them.
fn introduce(
    head: &mut RequestHeader,
    ctx: &RequestCtx,
    conn: &Conn,
    host: Option<&HeaderValue>,
) -> Outcome {
    let peer = ctx.peer_ip().to_canonical();
    let known = conn.introduction().filter(|known| known.host.as_ref() == host);
    let known = known.map_or_else(
        || {
            let made = Introduction {
                host: host.cloned(),
                forwarded_for: HeaderValue::try_from(peer.to_string())?,
                forwarded: HeaderValue::try_from(element(peer, ctx.scheme(), host))?,
            };
            conn.introduce(made.clone());
            Ok::<_, http::header::InvalidHeaderValue>(made)
        },
        Ok,
    );
    let known = known.or_err(ErrorType::InvalidHTTPHeader, "forwarded fields")?;
    head.insert_header("X-Forwarded-For", known.forwarded_for)?;
    head.insert_header("X-Forwarded-Proto", HeaderValue::from_static(ctx.scheme()))?;
    head.insert_header("Forwarded", known.forwarded)?;
    match known.host {
        Some(host) => head.insert_header("X-Forwarded-Host", host),
        None => {
            head.remove_header(&FORWARDED_HOST);
            Ok(())
        }
    }
}

/// What a trusted proxy says of the client, and that the request came through it.
fn carry_on(head: &mut RequestHeader, ctx: &RequestCtx, host: Option<&HeaderValue>) -> Outcome {
    let peer = ctx.peer_ip().to_canonical();
    let mut value = joined(head, &FORWARDED_FOR);
    append(&mut value, &peer.to_string());
    head.insert_header("X-Forwarded-For", value)?;
    let mut value = joined(head, &header::FORWARDED);
    append(&mut value, &element(peer, ctx.scheme(), host));
    head.insert_header("Forwarded", value)?;
    if !head.headers.contains_key(FORWARDED_PROTO) {
        head.insert_header("X-Forwarded-Proto", HeaderValue::from_static(ctx.scheme()))?;
    }
    match host {
        Some(host) if !head.headers.contains_key(FORWARDED_HOST) => {
            head.insert_header("X-Forwarded-Host", host.clone())
        }
        _ => Ok(()),
    }
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

/// `Via` by RFC 9110, section 7.6.3.
fn via(head: &mut RequestHeader, received: Version) -> Outcome {
    let version = match received {
        Version::HTTP_2 => HeaderValue::from_static("2 gateway"),
        Version::HTTP_11 => HeaderValue::from_static("1.1 gateway"),
        _ => HeaderValue::from_static("1.0 gateway"),
    };
    head.append_header("Via", version)?;
    Ok(())
}

/// HTTP/2 may split cookies over several fields; HTTP/1 may not (RFC 9113, section 8.2.3).
fn join_cookies(head: &mut RequestHeader) -> Outcome {
    let mut cookies = head.headers.get_all(header::COOKIE).iter();
    if cookies.nth(1).is_none() {
        return Ok(());
    }
    let all: Vec<&[u8]> =
        head.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&all.join(&b"; "[..]));
    match joined {
        Ok(joined) => head.insert_header(header::COOKIE, joined),
        Err(_) => Ok(()),
    }
}

/// Pingora accepts several equal lengths, or a list of them, and passes all of them on.
fn one_content_length(head: &mut RequestHeader) -> Outcome {
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    if lengths.next().is_none() && !first.as_bytes().contains(&b',') {
        return Ok(());
    }
    match super::admission::content_length(&head.headers) {
        Some(length) => head.insert_header(header::CONTENT_LENGTH, length.to_string()),
        None => Ok(()),
    }
}

/// All fields of one name in their order, as a list.
fn joined(head: &RequestHeader, name: &HeaderName) -> String {
    let mut list = String::new();
    for field in head.headers.get_all(name) {
        if let Ok(text) = field.to_str() {
            append(&mut list, text);
        }
    }
    list
}

fn append(list: &mut String, element: &str) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.push_str(element);
}
