//! A request's way in, from its head to its route: pure functions, which `explain` runs as traffic does.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use pingora_http::RequestHeader;

use super::admission::RawHead;
use super::seen::Seen;
use super::{admission, client, refusal};
use crate::context::RequestCtx;
use crate::plugin::{Facts, Reply};
use crate::routing::{LastHost, Match, RouteQuery};
use crate::snapshot::{ListenerPlan, RoutePlan};
use crate::telemetry::FailureCode;

/// How a head arrived.
pub(super) struct Arrival<'a, F> {
    /// As HTTP/1 sent it.
    pub(super) raw: Option<&'a RawHead>,
    pub(super) seen: &'a Seen,
    pub(super) last_host: &'a LastHost,
    /// Whether the connection is secured.
    pub(super) secured: bool,
    /// Whether a request for this host belongs on the connection.
    pub(super) belongs: F,
}

/// Checks a head, brings it into the form that is routed, and notes who asks, how and for which host.
///
/// # Errors
/// The answer to a request that goes no further.
pub(super) fn enter<F: FnOnce(&str, &ListenerPlan) -> bool>(
    head: &mut RequestHeader,
    arrival: Arrival<'_, F>,
    ctx: &mut RequestCtx,
) -> Result<(), Box<Reply>> {
    let Arrival { raw, seen, last_host, secured, belongs } = arrival;
    let limits = ctx.listener().limits;
    if let Some(host) = admission::admit(head, raw, seen, &limits, last_host)? {
        ctx.set_host(host);
    }
    let (peer, trusted) = (ctx.peer_ip(), &ctx.listener().trusted);
    let address = client::address(peer, &head.headers, trusted);
    let own = if secured { "https" } else { "http" };
    let scheme = client::scheme(own, peer, &head.headers, trusted);
    ctx.set_client(address, scheme);
    if ctx.host().is_some_and(|host| !belongs(host, ctx.listener())) {
        return Err(misdirected());
    }
    match ctx.listener().redirect {
        Some(port) if scheme == "http" => Err(to_https(head, ctx.host(), port)),
        _ => Ok(()),
    }
}

/// Finds the route of a request, and notes it.
///
/// # Errors
/// The answer where there is none.
pub(super) fn route(
    head: &RequestHeader,
    ctx: &mut RequestCtx,
) -> Result<Arc<RoutePlan>, Box<Reply>> {
    let preflight = admission::preflight_method(head);
    let query = RouteQuery {
        host: ctx.host().unwrap_or_default(),
        path: head.uri.path(),
        method: &head.method,
        listener: ctx.listener().index,
        preflight_method: preflight.as_ref(),
        facts: Facts { request: head, response: None, ctx },
    };
    let snapshot = ctx.snapshot();
    match snapshot.table.find(&query) {
        Match::Route(index) => {
            let route = snapshot.routes[index.0 as usize].clone();
            let captures =
                snapshot.table.spec(index).and_then(|spec| spec.path.captures(query.path));
            ctx.set_route(route.clone(), captures);
            Ok(route)
        }
        Match::NotFound => Err(Box::new(refusal(FailureCode::P1))),
        Match::MethodNotAllowed(allowed) => {
            let mut reply = refusal(FailureCode::P2);
            if let Ok(value) = HeaderValue::from_str(&allowed.to_string()) {
                reply.set(header::ALLOW, value);
            }
            Err(Box::new(reply))
        }
    }
}

/// The connection was made for another name (RFC 9110, section 15.5.20).
#[cold]
fn misdirected() -> Box<Reply> {
    let detail = "the connection was made for another name";
    Box::new(Reply::problem(StatusCode::MISDIRECTED_REQUEST, detail).because(FailureCode::P8))
}

/// The same target over https. Who asked for no host cannot be told where that is.
fn to_https(head: &RequestHeader, host: Option<&str>, port: u16) -> Box<Reply> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let host = host.filter(|host| !host.is_empty());
    let place = host.map(|host| match port {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    });
    let Some(Ok(place)) = place.map(HeaderValue::try_from) else {
        return Box::new(refusal(FailureCode::P1));
    };
    let mut reply = Reply::new(StatusCode::PERMANENT_REDIRECT);
    reply.set(header::LOCATION, place);
    Box::new(reply)
}

/// What becomes of a head that arrived like this on a connection of its own: its route, or the answer without one.
///
/// `name` is what the client's TLS asked for, if the connection is secured.
///
/// # Errors
/// The answer to a head that goes no further, whatever the routes are.
pub(crate) fn arrive(
    head: &mut RequestHeader,
    name: Option<&str>,
    secured: bool,
    ctx: &mut RequestCtx,
) -> Result<Result<Arc<RoutePlan>, Box<Reply>>, Box<Reply>> {
    let seen = Seen::of(&head.headers);
    let belongs = |host: &str, listener: &ListenerPlan| {
        let plan = listener.tls.as_ref().filter(|_| secured);
        plan.is_none_or(|plan| plan.serves_alike(name, host))
    };
    let last_host = LastHost::default();
    if head.headers.get_all(header::HOST).iter().count() > 1 {
        return Err(admission::bad_request("the Host is there twice"));
    }
    // As HTTP/1 would send it, for the limits and the checks of its framing.
    let raw = RawHead(written(head).into());
    let arrival = Arrival { raw: Some(&raw), seen: &seen, last_host: &last_host, secured, belongs };
    enter(head, arrival, ctx)?;
    Ok(route(head, ctx))
}

fn written(head: &RequestHeader) -> Vec<u8> {
    let mut raw = format!("{} ", head.method).into_bytes();
    raw.extend_from_slice(head.raw_path());
    raw.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        raw.extend_from_slice(name.as_str().as_bytes());
        raw.extend_from_slice(b": ");
        raw.extend_from_slice(value.as_bytes());
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"\r\n");
    raw
}
