//! The fields that a gateway adds to, and joins in, a request it passes on.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue, Version, header};
use pingora_http::RequestHeader;

use super::client::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, is_trusted};
use crate::context::RequestCtx;

/// What a field that cannot be written means; it cannot happen with the texts made here.
type Outcome = pingora::Result<()>;

/// Brings an attempt's copy of the head into the form the upstream gets.
///
/// `X-Forwarded-*` and `Forwarded` are continued where the peer is a trusted proxy and begun anew
/// where it is not: whatever a client claims about others is not passed on.
pub(super) fn prepare(
    head: &mut RequestHeader,
    ctx: &RequestCtx,
    endpoint: SocketAddr,
    received: Version,
) -> Outcome {
    let trusted = is_trusted(ctx.peer_ip(), &ctx.listener().trusted);
    let peer = ctx.peer_ip().to_canonical();
    let host = head.headers.get(header::HOST).cloned();
    forwarded_for(head, peer, trusted)?;
    if !(trusted && head.headers.contains_key(FORWARDED_PROTO)) {
        head.insert_header(FORWARDED_PROTO, HeaderValue::from_static(ctx.scheme()))?;
    }
    match host {
        Some(host) if trusted && head.headers.contains_key(FORWARDED_HOST) => {
            forwarded(head, peer, ctx.scheme(), Some(&host), trusted)?;
        }
        Some(host) => {
            forwarded(head, peer, ctx.scheme(), Some(&host), trusted)?;
            head.insert_header(FORWARDED_HOST, host)?;
        }
        None => {
            forwarded(head, peer, ctx.scheme(), None, trusted)?;
            // HTTP/1.0 may come without Host; HTTP/1.1, which goes up, may not.
            head.insert_header(header::HOST, endpoint.to_string())?;
        }
    }
    via(head, received)?;
    join_cookies(head)?;
    one_content_length(head)
}

fn forwarded_for(head: &mut RequestHeader, peer: IpAddr, trusted: bool) -> Outcome {
    let mut value = String::with_capacity(48);
    if trusted {
        join(head, &FORWARDED_FOR, &mut value);
    }
    append(&mut value, ", ", format_args!("{peer}"));
    head.insert_header(FORWARDED_FOR, value)
}

/// `Forwarded` by RFC 7239.
fn forwarded(
    head: &mut RequestHeader,
    peer: IpAddr,
    scheme: &str,
    host: Option<&HeaderValue>,
    trusted: bool,
) -> Outcome {
    let mut value = String::with_capacity(64);
    if trusted {
        join(head, &header::FORWARDED, &mut value);
    }
    match peer {
        IpAddr::V4(v4) => append(&mut value, ", ", format_args!("for={v4}")),
        IpAddr::V6(v6) => append(&mut value, ", ", format_args!("for=\"[{v6}]\"")),
    }
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        // Hosts that get here hold neither quotes nor backslashes.
        append(&mut value, ";", format_args!("host=\"{host}\""));
    }
    append(&mut value, ";", format_args!("proto={scheme}"));
    head.insert_header(header::FORWARDED, value)
}

/// `Via` by RFC 9110, section 7.6.3.
fn via(head: &mut RequestHeader, received: Version) -> Outcome {
    let version = match received {
        Version::HTTP_2 => HeaderValue::from_static("2 gateway"),
        Version::HTTP_11 => HeaderValue::from_static("1.1 gateway"),
        _ => HeaderValue::from_static("1.0 gateway"),
    };
    head.append_header(header::VIA, version)?;
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

/// Joins all fields of one name in their order.
fn join(head: &RequestHeader, name: &HeaderName, into: &mut String) {
    for field in head.headers.get_all(name) {
        if let Ok(text) = field.to_str() {
            append(into, ", ", format_args!("{text}"));
        }
    }
}

fn append(into: &mut String, separator: &str, text: std::fmt::Arguments<'_>) {
    if !into.is_empty() {
        into.push_str(separator);
    }
    // Writing to a String cannot fail.
    let _ = into.write_fmt(text);
}
