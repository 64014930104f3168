//! A request's way in, from its head to its route: pure functions, which `explain` runs as traffic does.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora_http::RequestHeader;

use super::admission::RawHead;
use super::seen::Seen;
use super::{admission, body_too_large, client, grpc, refusal};
use crate::context::RequestCtx;
use crate::grpc::GrpcForm;
use crate::plugin::{Facts, Reply};
use crate::routing::{LastHost, Match, RouteQuery};
use crate::snapshot::RoutePlan;
use crate::telemetry::{FailureCode, TraceContext};
use crate::tls::Secured;

/// How a head arrived.
pub(super) struct Arrival<'a> {
    /// As HTTP/1 sent it.
    pub(super) raw: Option<&'a RawHead>,
    pub(super) seen: &'a Seen,
    pub(super) last_host: &'a LastHost,
    /// The connection, if it is secured.
    pub(super) secured: Option<&'a Arc<Secured>>,
}

/// Checks a head, brings it into the form that is routed, and notes who asks, how and for which host.
///
/// # Errors
/// The answer to a request that goes no further.
pub(super) fn enter(
    head: &mut RequestHeader,
    arrival: Arrival<'_>,
    ctx: &mut RequestCtx,
) -> Result<(), Box<Reply>> {
    let Arrival { raw, seen, last_host, secured } = arrival;
    ctx.set_secured(secured.cloned());
    let limits = ctx.listener().limits;
    if let Some(host) = admission::admit(head, raw, seen, &limits, last_host)? {
        ctx.set_host(host);
    }
    let (peer, trusted) = (ctx.peer_ip(), &ctx.listener().trusted);
    let address = client::address(peer, &head.headers, trusted);
    let own = if secured.is_some() { "https" } else { "http" };
    let scheme = client::scheme(own, peer, &head.headers, trusted);
    ctx.set_client(address, scheme);
    let belongs = |host: &str| {
        secured.is_none_or(|secured| secured.is_for(host, ctx.listener().tls.as_ref()))
    };
    if ctx.host().is_some_and(|host| !belongs(host)) {
        return Err(misdirected());
    }
    match ctx.listener().redirect {
        Some(port) if scheme == "http" => Err(to_https(head, ctx.host(), port)),
        _ => Ok(()),
    }
}

/// Looks at what a head says besides where it leads: of its trace, and of its body's length.
///
/// # Errors
/// The answer to a request that goes no further.
pub(super) fn accept(
    head: &RequestHeader,
    seen: &Seen,
    ctx: &mut RequestCtx,
) -> Result<(), Box<Reply>> {
    // A valid trace context goes on, or one begins (W3C Trace Context).
    let sent = seen.traceparent.then(|| TraceContext::from_headers(&head.headers)).flatten();
    match sent {
        Some((context, _)) => ctx.continue_trace(context),
        None => ctx.begin_trace(TraceContext::begin()),
    }
    let Some(limit) = ctx.listener().limits.body_bytes.filter(|_| seen.content_length) else {
        return Ok(());
    };
    match admission::content_length(&head.headers) {
        Some(length) if length > limit => Err(body_too_large()),
        _ => Ok(()),
    }
}

/// How long the client of a call of gRPC waits, if it says so.
pub(crate) fn asked_timeout(head: &RequestHeader) -> Option<Duration> {
    let is_call = head.method == Method::POST && GrpcForm::accepted(&head.headers).is_some();
    grpc::timeout(&head.headers).filter(|_| is_call)
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
/// # Errors
/// The answer to a head that goes no further, whatever the routes are.
pub(crate) fn arrive(
    head: &mut RequestHeader,
    secured: Option<&Arc<Secured>>,
    ctx: &mut RequestCtx,
) -> Result<Result<Arc<RoutePlan>, Box<Reply>>, Box<Reply>> {
    let seen = Seen::of(&head.headers);
    if head.method == Method::CONNECT {
        // Nobody is connected through; the server of HTTP says so itself.
        let detail = "no tunnels are made";
        return Err(Box::new(Reply::problem(StatusCode::METHOD_NOT_ALLOWED, detail)));
    }
    let last_host = LastHost::default();
    if head.headers.get_all(header::HOST).iter().count() > 1 {
        return Err(admission::bad_request("the Host is there twice"));
    }
    // As HTTP/1 would send it, for the limits and the checks of its framing.
    let raw = (head.version < Version::HTTP_2).then(|| RawHead(written(head).into()));
    let arrival = Arrival { raw: raw.as_ref(), seen: &seen, last_host: &last_host, secured };
    enter(head, arrival, ctx)?;
    accept(head, &seen, ctx)?;
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
