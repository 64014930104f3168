//! Pingora's callbacks, translated into the phases of a request.
//!
//! The proxy decides nothing: it asks the router, the chain and the upstream, and calls Pingora.
//! [`failure`] alone chooses what a failure is called and which status it has.

mod admission;
mod answer;
mod client;
mod decide;
mod exchange;
mod failure;
mod forward;
mod record;
mod response;
mod seen;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use tokio::sync::watch;

pub use failure::status as failure_status;

use self::exchange::{Exchange, Open};
use self::failure::Progress;
use crate::context::RequestCtx;
use crate::listener::connection;
use crate::plugin::Reply;
use crate::snapshot::SnapshotHandle;
use crate::telemetry::{FailureCode, StatusSource, Telemetry};
use crate::upstream::{SocketId, Watch};

/// What the proxies of all workers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) snapshots: SnapshotHandle,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) draining: watch::Receiver<bool>,
}

/// The gateway as Pingora sees it; one a worker.
pub(crate) struct GatewayProxy {
    worker: usize,
    shared: Shared,
}

impl GatewayProxy {
    pub(crate) fn new(worker: usize, shared: Shared) -> Self {
        Self { worker, shared }
    }

    fn is_draining(&self) -> bool {
        *self.shared.draining.borrow()
    }

    /// What to call an error: what the watch or a plugin ended it with, else what Pingora says.
    fn code(open: &Open, error: &Error) -> FailureCode {
        let refused = open.refused.as_ref().and_then(|reply| reply.failure);
        let malformed = open.conn.is_malformed().then_some(FailureCode::D3);
        refused
            .or(malformed)
            .or_else(|| open.watched.fired())
            .unwrap_or_else(|| failure::code(error, open.progress))
    }
}

/// A refusal with the status that its code has.
fn refusal(code: FailureCode) -> Reply {
    let status = failure::status(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Reply::refusal(status, code)
}

fn body_too_large() -> Box<Reply> {
    let detail = "the request's body is longer than the listener's limit";
    let reply = Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, detail);
    Box::new(reply.because(FailureCode::P8))
}

/// Ends an exchange with an answer of our own; Pingora brings the error back to `fail_to_proxy`.
fn refuse(open: &mut Open, reply: Box<Reply>) -> Box<Error> {
    open.refused = Some(reply);
    let mut error = Error::explain(ErrorType::Custom("refused"), "refused by the gateway");
    error.set_retry(false);
    error
}

#[async_trait]
impl ProxyHttp for GatewayProxy {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::default()
    }

    /// None of Pingora's modules: each costs an allocation a request.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ex: &mut Exchange) -> Result<()> {
        let Some(conn) = connection(session.digest()).cloned() else {
            return Error::e_explain(ErrorType::InternalError, "a connection of another listener");
        };
        let requests = conn.begin_request();
        let snapshot = self.shared.snapshots.load();
        let known = snapshot.listener(&conn.listener.name);
        let listener = known.unwrap_or(&conn.listener).clone();
        let http2 = session.is_http2();
        let last = listener.limits.requests_per_connection.is_some_and(|max| requests >= max);
        if last || self.is_draining() {
            session.set_keepalive(None);
        }
        session.set_read_timeout(Some(listener.timeouts.body_read));
        if http2 {
            // On HTTP/1 the connection itself bounds how long a write may take.
            session.set_write_timeout(Some(listener.timeouts.write));
        }
        session.set_total_drain_timeout(Some(listener.timeouts.body_read));
        session.set_pipelining_enabled(true);
        // HTTP/1.0 knows no interim responses (RFC 9110, section 15.2).
        let ignores_interim = session.req_header().version < Version::HTTP_11;
        session.set_ignore_info_resp(ignores_interim);
        listener.metrics.request_begins();
        ex.begin(Open {
            watched: self.shared.watch.begin(self.worker, conn.waits()),
            chain: listener.chain.clone(),
            ctx: RequestCtx::new(snapshot, listener, conn.peer),
            conn,
            target: None,
            progress: Progress::Connecting,
            source: StatusSource::Gateway,
            answered: false,
            refused: None,
            collected: None,
            body_bytes: 0,
            untouched: false,
            http2,
        });
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ex: &mut Exchange) -> Result<bool> {
        let open = ex.open();
        let Some(reply) = self.decide(session, open).await else { return Ok(false) };
        if !reply.close {
            answer::drain(session, open).await;
        }
        answer::send(session, open, *reply).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ex: &mut Exchange,
    ) -> Result<Box<HttpPeer>> {
        let sends_body = !session.is_body_empty();
        let open = ex.open();
        let left = open.watched.left();
        let unchosen = || Error::explain(ErrorType::InternalError, "no endpoint was chosen");
        let target = open.target.as_mut().ok_or_else(unchosen)?;
        if target.attempts > 0 {
            // A pooled connection had died unseen; the request is safe to repeat.
            let endpoint = target.upstream.choose(self.worker).ok_or_else(unchosen)?;
            target.renew(endpoint);
        }
        target.attempts += 1;
        open.progress = Progress::Connecting;
        if left == Some(Duration::ZERO) {
            return Err(refuse(open, Box::new(refusal(FailureCode::X7))));
        }
        target.upstream.peer(target.endpoint, left, sends_body, open.http2).ok_or_else(unchosen)
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        fd: RawFd,
        digest: Option<&Digest>,
        ex: &mut Exchange,
    ) -> Result<()> {
        let open = ex.open();
        open.progress = Progress::AwaitingHead;
        let Some(target) = open.target.as_mut() else { return Ok(()) };
        target.connected = (!reused).then(Instant::now);
        target.reused = reused;
        let remote = target.upstream.endpoints()[target.endpoint].address;
        let local = digest
            .and_then(|digest| digest.socket_digest.as_ref())
            .and_then(|sockets| sockets.local_addr()?.as_inet().copied());
        let socket = local.map(|local| SocketId { fd, local, remote });
        let first_byte = target.upstream.timeouts().first_byte;
        if !open.watched.attach(socket, FailureCode::X3, first_byte) {
            // Nothing was sent yet, so that any request whose time is not up may be tried again.
            open.untouched = open.watched.fired().is_none();
            return Error::e_explain(ErrorType::ConnectionClosed, "ended before it was used");
        }
        target.sending = !session.is_body_done();
        // The wait for an answer begins with the end of the request.
        open.expect_progress(false);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        ex: &mut Exchange,
    ) -> Result<()> {
        let open = ex.open();
        if open.collected.is_none() {
            // What an earlier attempt had sent of the body comes again.
            open.body_bytes = 0;
        }
        let Some(target) = open.target.as_ref() else { return Ok(()) };
        let endpoint = target.upstream.endpoints()[target.endpoint].address;
        forward::prepare(head, &open.ctx, &open.conn, endpoint, session.req_header().version)?;
        if let Some(body) = &open.collected
            && !session.is_body_empty()
        {
            head.remove_header(&header::TRANSFER_ENCODING);
            head.insert_header(header::CONTENT_LENGTH, body.len())?;
        }
        let allowed = open.chain.attempt(head, &mut open.ctx).await;
        allowed.map_err(|reply| refuse(open, reply))
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ex: &mut Exchange,
    ) -> Result<()> {
        let open = ex.open();
        if let Some(collected) = &open.collected {
            *body = end_of_stream.then(|| collected.clone());
        } else {
            open.body_bytes += body.as_ref().map_or(0, |chunk| chunk.len() as u64);
            let limit = open.ctx.listener().limits.body_bytes;
            if limit.is_some_and(|limit| open.body_bytes > limit) {
                return Err(refuse(open, body_too_large()));
            }
        }
        if open.chain.reads_request_body() {
            let (chain, head) = (&open.chain, session.req_header());
            let refused = chain.request_body(false, body, end_of_stream, head, &mut open.ctx).await;
            if let Some(reply) = refused {
                return Err(refuse(open, reply));
            }
        }
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            // Pingora writes the last chunk twice for an empty last frame, which would poison the
            // pooled connection.
            *body = None;
        }
        open.expect_progress(end_of_stream);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ex: &mut Exchange,
    ) -> Result<()> {
        let open = ex.open();
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            // No upgrade is asked for upstream, so nobody can have agreed to one.
            return Err(refuse(open, Box::new(refusal(FailureCode::X5))));
        }
        if response.status.is_informational() {
            return Ok(());
        }
        open.head_arrived();
        let (method, version) = {
            let head = session.req_header();
            (head.method.clone(), head.version)
        };
        let mut closes = response::clean(response, &method, version);
        let refused = open.chain.response(response, session.req_header(), &mut open.ctx).await;
        refused.map_err(|reply| refuse(open, reply))?;
        let bodiless = response::is_bodiless(&method, response.status);
        if open.chain.changes_response_body() && !bodiless {
            closes |= response::unframe(response, version);
        }
        if bodiless {
            open.answer_complete();
        }
        if closes || self.is_draining() {
            session.set_keepalive(None);
        }
        open.source = StatusSource::Upstream;
        open.progress = Progress::Responding;
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ex: &mut Exchange,
    ) -> Result<Option<Duration>> {
        let open = ex.open();
        if end_of_stream {
            open.answer_complete();
            open.answered = true;
        } else {
            open.body_arrived();
        }
        if open.chain.changes_response_body() {
            let (chain, head) = (&open.chain, session.req_header());
            let changed = chain.response_body(body, end_of_stream, head, &mut open.ctx);
            changed.map_err(|reply| refuse(open, reply))?;
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ex: &mut Exchange,
        error: Box<Error>,
    ) -> Box<Error> {
        let open = ex.open();
        let code = Self::code(open, &error);
        open.end_attempt(Some(code), None);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ex: &mut Exchange,
        client_reused: bool,
    ) -> Box<Error> {
        let open = ex.open();
        let code = Self::code(open, &error);
        open.end_attempt(Some(code), None);
        open.watched.detach();
        // The one repetition that needs no leave: a pooled connection that the upstream had closed
        // before it saw the request, of a method that may be repeated (RFC 9110, section 9.2.2).
        let repeatable = session.req_header().method.is_idempotent()
            && !session.as_ref().retry_buffer_truncated()
            && session.response_written().is_none()
            && code == FailureCode::X1;
        if std::mem::take(&mut open.untouched) {
            error.set_retry(true);
        } else if repeatable {
            error.retry.decide_reuse(client_reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ex: &mut Exchange,
    ) -> FailToProxy {
        if !ex.is_open() {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let open = ex.open();
        let code = Self::code(open, error);
        open.end_attempt(Some(code), None);
        open.watched.detach();
        open.ctx.fail(code);
        // After an attempt Pingora closes the connection, whatever its answer says.
        session.set_keepalive(None);
        let begun = session.response_written().is_some_and(|head| !head.status.is_informational());
        let reply = match open.refused.take() {
            Some(reply) => Some(reply),
            None => failure::status(code).map(|status| Box::new(Reply::refusal(status, code))),
        };
        let Some(reply) = reply.filter(|_| !begun) else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        let status = reply.status.as_u16();
        tracing::debug!(%error, code = code.code(), status, "request failed");
        if let Err(error) = answer::send(session, open, *reply).await {
            tracing::debug!(%error, "the answer to a failed request could not be sent");
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    /// The record says what failed, once a request.
    fn suppress_error_log(&self, _: &Session, _: &Exchange, _: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ex: &mut Exchange) {
        if !ex.is_open() {
            return;
        }
        let open = ex.open();
        match error {
            None => open.release(),
            Some(_) => open.watched.detach(),
        }
        if let Some(error) = error.filter(|_| !open.answered) {
            let code = Self::code(open, error);
            open.end_attempt(Some(code), None);
            open.ctx.fail(code);
        }
        record::finish(session, open, &self.shared.telemetry);
        open.conn.end_request();
    }
}
