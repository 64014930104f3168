//! Answers that the gateway makes itself, past the same response phases as an upstream's.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header;
use pingora::Result;
use pingora::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::exchange::Open;
use super::failure::Progress;
use super::response::is_bodiless;
use crate::action::ReplyPlan;
use crate::plugin::{Facts, Reply};
use crate::telemetry::StatusSource;

/// A request body up to this size is read to its end before an answer that does not need it, so
/// that the client's connection can stay open.
const DRAIN: usize = 64 * 1024;
/// How long a stream of HTTP/2 is left open behind an answer that did not wait for the request's end.
const LINGER: Duration = Duration::from_millis(500);
/// How much of a body Pingora keeps to send it again.
pub(super) const HELD: usize = 64 * 1024;
/// The most of a request's body that an echo shows.
const ECHO_BODY: usize = 1024 * 1024;

/// Answers a request that does not go up, and keeps its connection if it can.
pub(super) async fn give(session: &mut Session, open: &mut Open, reply: Reply) -> Result<()> {
    if !reply.close {
        drain(session, open).await;
    }
    send(session, open, reply).await
}

/// Sends a reply past the response phases of the request's chain.
pub(super) async fn send(session: &mut Session, open: &mut Open, reply: Reply) -> Result<()> {
    open.source = StatusSource::Gateway;
    if let Some(code) = reply.failure {
        open.ctx.fail(code);
        if super::failure::status(code).is_none() {
            // Nobody is there to be answered.
            session.set_keepalive(None);
            return Ok(());
        }
    }
    let (response, body) = compose(session, open, reply).await?;
    if !open.http2 && !session.is_body_done() {
        // What is left of the request's body cannot be told from a next request.
        session.set_keepalive(None);
        open.conn.linger();
    }
    let empty = body.is_empty();
    open.progress = Progress::Responding;
    match session.as_downstream_mut() {
        // Pingora's own way ends the stream in a frame of its own, and a status of gRPC has to be in the last head.
        ServerSession::H2(stream) if empty => {
            stream.write_response_header(Box::new(response), true)?
        }
        _ => session.write_response_header(Box::new(response), empty).await?,
    }
    if !empty {
        session.write_response_body(Some(body), true).await?;
    }
    open.answered = true;
    stay(session, open).await;
    Ok(())
}

/// Leaves a stream open for a moment behind an answer that did not wait for the request's end. Else it is reset at once,
/// and many clients see that before the answer.
pub(super) async fn stay(session: &mut Session, open: &Open) {
    if open.http2 && !session.is_body_done() {
        let _ = pingora::time::timeout(LINGER, linger(session)).await;
    }
}

/// Reads and drops what the client still sends on its stream, for a while and as much as is bearable: it may end the
/// stream when it has seen its answer.
async fn linger(session: &mut Session) {
    let mut read = 0;
    while read < DRAIN && !session.is_body_done() {
        match session.read_request_body().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Runs the response phases; a plugin that refuses there has its refusal sent as it is.
async fn compose(
    session: &mut Session,
    open: &mut Open,
    mut reply: Reply,
) -> Result<(ResponseHeader, Bytes)> {
    let chain = &open.chain;
    let mut close = reply.close;
    let status = super::grpc::of_reply(&reply);
    let failed = !reply.status.is_success();
    let mut response = head(&reply)?;
    if !is_bodiless(&http::Method::GET, response.status) {
        // Plugins may want to know; what they make of it is said below.
        response.insert_header(header::CONTENT_LENGTH, reply.body.len())?;
    }
    let mut body = Some(std::mem::take(&mut reply.body));
    let head_of_request = session.req_header();
    let outcome = match chain.response(&mut response, head_of_request, &mut open.ctx).await {
        Ok(()) => chain.response_body(&mut body, true, head_of_request, &mut open.ctx),
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) | Ok(Some(refusal)) = outcome {
        open.ctx.fail(crate::telemetry::FailureCode::P11);
        response = head(&refusal)?;
        body = Some(refusal.body);
        close = true;
    }
    if close {
        session.set_keepalive(None);
    }
    let body = body.unwrap_or_default();
    if let Some(form) = open.grpc.filter(|_| failed) {
        open.ctx.grpc = Some(status);
        super::grpc::speak(&mut response, &body, form, status)?;
        if !open.http2 {
            response.insert_header(header::CONTENT_LENGTH, 0)?;
        }
        return Ok((response, Bytes::new()));
    }
    let method = &session.req_header().method;
    let bodiless = is_bodiless(method, response.status);
    if !is_bodiless(&http::Method::GET, response.status) {
        response.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    Ok((response, if bodiless { Bytes::new() } else { body }))
}

fn head(reply: &Reply) -> Result<ResponseHeader> {
    let mut response = ResponseHeader::build(reply.status, Some(reply.headers.len() + 3))?;
    for (name, value) in &reply.headers {
        response.append_header(name.clone(), value.clone())?;
    }
    Ok(response)
}

/// Reads a short rest of the request's body, so that the connection can go on.
async fn drain(session: &mut Session, open: &Open) {
    let announced = super::admission::content_length(&session.req_header().headers);
    let waits = session.req_header().headers.contains_key(header::EXPECT);
    let long = announced.is_some_and(|length| length > DRAIN as u64);
    if open.http2 || waits || long {
        return;
    }
    let mut read = 0;
    while read < DRAIN && !session.is_body_done() {
        match session.read_request_body().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

/// The answer that a route's `reply` describes.
///
/// # Errors
/// The body it is to show cannot be read; what to answer instead.
pub(super) async fn planned(
    session: &mut Session,
    open: &mut Open,
    plan: &ReplyPlan,
) -> std::result::Result<Reply, Box<Reply>> {
    let facts = Facts { request: session.req_header(), response: None, ctx: &open.ctx };
    let mut reply = plan.reply(&facts);
    if plan.echo {
        let body = read(session, open).await?;
        reply.body = echo(session, open, &body).into();
        let json = http::HeaderValue::from_static("application/json");
        reply.set(header::CONTENT_TYPE, json);
    }
    Ok(reply)
}

async fn read(session: &mut Session, open: &mut Open) -> std::result::Result<BytesMut, Box<Reply>> {
    let limit = open.ctx.listener().limits.body_bytes.unwrap_or(u64::MAX);
    let mut body = BytesMut::new();
    if session.is_body_empty() {
        return Ok(body);
    }
    session.write_continue_if_expected().await.map_err(unread)?;
    while body.len() < ECHO_BODY {
        let Some(chunk) = session.read_request_body().await.map_err(unread)? else { break };
        body.extend_from_slice(&chunk);
        open.body_bytes = body.len() as u64;
        if open.body_bytes > limit {
            return Err(super::body_too_large());
        }
    }
    body.truncate(ECHO_BODY);
    Ok(body)
}

/// What to answer to a request whose body cannot be read to its end.
fn unread(mut error: Box<pingora::Error>) -> Box<Reply> {
    error.as_down();
    let code = super::failure::code(&error, Progress::Connecting);
    Box::new(super::refusal(code).closing())
}

/// Reads a whole body of at most `max` bytes, for the plugins that want it whole. `None` if the
/// request has none.
///
/// What Pingora will still send on is the part of a body that it holds back for repetitions, at
/// most 64 KiB. The last part is therefore read with that on, the rest before; the attempt then
/// sends the whole in its place. Where no length is announced the last part is not known
/// beforehand, so that such a body may have no more than that.
pub(super) async fn collect(
    session: &mut Session,
    max: usize,
) -> std::result::Result<Option<Bytes>, Box<Reply>> {
    if session.is_body_empty() {
        return Ok(None);
    }
    let announced = super::admission::content_length(&session.req_header().headers);
    let announced = announced.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let max = if announced.is_some() { max } else { max.min(HELD) };
    if announced.is_some_and(|length| length > max) {
        return Err(super::body_too_large());
    }
    session.write_continue_if_expected().await.map_err(unread)?;
    let mut body = BytesMut::new();
    loop {
        if announced.is_none_or(|length| length - body.len().min(length) <= HELD) {
            session.enable_retry_buffering();
        }
        match session.read_request_body().await.map_err(unread)? {
            Some(chunk) if body.len() + chunk.len() > max => return Err(super::body_too_large()),
            Some(chunk) => body.extend_from_slice(&chunk),
            None => return Ok(Some(body.freeze())),
        }
    }
}

/// The request as it arrived here, as JSON.
fn echo(session: &Session, open: &Open, body: &[u8]) -> Vec<u8> {
    let head = session.req_header();
    let mut headers = serde_json::Map::new();
    for name in head.headers.keys() {
        let values = head.headers.get_all(name).iter();
        let values: Vec<_> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        let value = match values.as_slice() {
            [one] => one.as_str().into(),
            _ => values.into(),
        };
        headers.insert(name.as_str().to_owned(), value);
    }
    let echo = serde_json::json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "protocol": format!("{:?}", head.version),
        "host": open.ctx.host(),
        "client": open.ctx.client_ip(),
        "listener": open.ctx.listener_name(),
        "route": open.ctx.route_name(),
        "headers": headers,
        "body": String::from_utf8_lossy(body),
    });
    let mut text = serde_json::to_vec_pretty(&echo).unwrap_or_default();
    text.push(b'\n');
    text
}

/// The answer to `Expect: 100-continue` when the gateway itself reads the body.
trait Continue {
    async fn write_continue_if_expected(&mut self) -> Result<()>;
}

impl Continue for Session {
    async fn write_continue_if_expected(&mut self) -> Result<()> {
        let expected = self.req_header().headers.contains_key(header::EXPECT);
        if expected { self.write_continue_response().await } else { Ok(()) }
    }
}
