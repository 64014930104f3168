//! Pingora's callbacks, translated into the phases of a request.
//!
//! The proxy decides nothing: it asks the router, the chain and the upstream, and calls Pingora.
//! [`failure`] alone chooses what a failure is called and which status it has.

mod admission;
mod again;
mod answer;
mod breakers;
mod client;
mod decide;
mod ending;
mod entry;
mod exchange;
mod failure;
mod forward;
mod grpc;
mod hedge;
mod mirror;
mod record;
mod response;
mod seen;
mod stream;
mod tcp;
mod tunnel;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

pub(crate) use admission::preflight_method;
pub(crate) use entry::{arrive, asked_timeout};
pub use failure::status as failure_status;
pub(crate) use tcp::TcpRelay;

use self::exchange::{Exchange, Open};
use self::failure::Progress;
use self::forward::Way;
use self::mirror::Mirroring;
use self::seen::Seen;
use crate::context::RequestCtx;
use crate::grpc::GrpcForm;
use crate::listener::connection;
use crate::plugin::Reply;
use crate::snapshot::{Sample, SnapshotHandle};
use crate::telemetry::{FailureCode, StatusSource, Telemetry};
use crate::upstream::{Choice, GOODBYE, Line, REFUSED, SocketId, Upgraded, Watch, Why, cut_of};

/// What the proxies of all workers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) snapshots: SnapshotHandle,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) watch: Arc<Watch>,
}

/// The gateway as Pingora sees it; one a worker.
pub(crate) struct GatewayProxy {
    worker: usize,
    shared: Shared,
}

/// How often a request may be sent again because its connection was just ending, beside its retries.
const GOODBYES: u32 = 3;

impl GatewayProxy {
    pub(crate) fn new(worker: usize, shared: Shared) -> Self {
        Self { worker, shared }
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

impl GatewayProxy {
    /// The endpoint agreed to speak something else: the client's connection is taken out of Pingora's hands, which
    /// lets go of what has failed.
    async fn tunnel(
        &self,
        session: &Session,
        response: &mut ResponseHeader,
        ex: &mut Exchange,
        upstream: Upgraded,
    ) -> Result<()> {
        let open = ex.open();
        open.head_arrived(response.status);
        open.source = StatusSource::Upstream;
        open.progress = Progress::Responding;
        let head = session.req_header();
        response::clean(response, &head.method, head.version);
        open.keep_client(response)?;
        let refused = open.chain.response(response, head, &mut open.ctx).await;
        refused.map_err(|reply| refuse(open, reply))?;
        open.end_attempt(None, Some(response.status.as_u16()));
        open.watched.unbound();
        let idle = open.target.as_ref().map(|target| target.upstream.timeouts().tunnel);
        let Some(open) = ex.take() else { return Ok(()) };
        let conn = open.conn.clone();
        let tunnel = tunnel::Tunnel {
            open,
            request: session.req_header().clone(),
            response: response.clone(),
            upstream,
            shared: self.shared.clone(),
            idle: idle.unwrap_or(Duration::MAX),
        };
        conn.hand_over(tunnel.taker());
        Error::e_explain(ErrorType::Custom("upgraded"), "the connection is HTTP no more")
    }
}

/// A refusal with the status that its code has.
#[cold]
fn refusal(code: FailureCode) -> Reply {
    let status = failure::status(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Reply::refusal(status, code)
}

#[cold]
fn body_too_large() -> Box<Reply> {
    let detail = "the request's body is longer than the listener's limit";
    let reply = Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, detail);
    Box::new(reply.because(FailureCode::P8))
}

/// Ends an exchange with an answer of our own; Pingora brings the error back to `fail_to_proxy`.
#[cold]
fn refuse(open: &mut Open, reply: Box<Reply>) -> Box<Error> {
    open.refused = Some(reply);
    let mut error = Error::explain(ErrorType::Custom("refused"), "refused by the gateway");
    error.set_retry(false);
    error
}

/// Ends an attempt whose answer is not passed on; another follows.
#[cold]
fn refuse_answer() -> Box<Error> {
    Error::explain(ErrorType::Custom("repeated"), "the answer is not passed on")
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
        let place = conn.listener.index;
        let mut sample = self.shared.snapshots.sample();
        let tried = sample.as_ref().and_then(Sample::tried).cloned();
        let mut serving = tried.and_then(|tried| conn.socket.serving(tried, place));
        if serving.is_none() {
            // One on trial may not know the listener.
            sample = sample.filter(|sample| !sample.is_tried());
            serving = conn.socket.serving(self.shared.snapshots.load(), place);
        }
        let Some((snapshot, listener)) = serving else {
            return Error::e_explain(ErrorType::InternalError, "a connection of no listener");
        };
        let http2 = session.is_http2();
        let last = listener.limits.requests_per_connection.is_some_and(|max| requests >= max);
        if last || conn.is_draining() {
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
            seen: Seen::default(),
            passes: Vec::new(),
            target: None,
            progress: Progress::Connecting,
            source: StatusSource::Gateway,
            answered: false,
            refused: None,
            collected: None,
            body_bytes: 0,
            untouched: false,
            http2,
            upgrade: None,
            grpc: None,
            mirroring: Mirroring::Undecided,
            rewritten: None,
            sample,
        });
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ex: &mut Exchange) -> Result<bool> {
        let open = ex.open();
        let Some(reply) = self.decide(session, open).await else { return Ok(false) };
        // Boxed, so that requests which go up do not carry the room for it.
        Box::pin(answer::give(session, open, *reply)).await?;
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
            target.endpoint.leave();
            // A probe that was lost unseen makes room for its repetition.
            target.passes.clear();
            let pause = std::mem::take(&mut target.pause);
            if !pause.is_zero() {
                tokio::time::sleep(left.map_or(pause, |left| pause.min(left))).await;
            }
            if open.watched.left() == Some(Duration::ZERO) {
                return Err(refuse(open, Box::new(refusal(FailureCode::X7))));
            }
            let choice = Choice {
                worker: self.worker,
                first: false,
                now: open.watched.now(),
                key: target.key,
                cookie: target.cookie,
                avoid: &target.avoid,
            };
            let Some(endpoint) = target.upstream.choose(choice) else {
                let code = target.upstream.nobody();
                return Err(refuse(open, Box::new(refusal(code))));
            };
            let (upstream, tried) = (target.upstream.clone(), target.avoid.clone());
            let choice = Choice { avoid: &tried, ..choice };
            let head = session.req_header();
            let passed = open.pass_endpoint(head, &upstream, &choice, endpoint);
            let (endpoint, passes) = passed.map_err(|reply| refuse(open, reply))?;
            let target = open.target.as_mut().ok_or_else(unchosen)?;
            target.renew(endpoint);
            target.passes = passes;
        }
        let target = open.target.as_mut().ok_or_else(unchosen)?;
        let left = open.watched.left();
        target.attempts += 1;
        open.progress = Progress::Connecting;
        if left == Some(Duration::ZERO) {
            return Err(refuse(open, Box::new(refusal(FailureCode::X7))));
        }
        let mut peer = target.upstream.peer(&target.endpoint, left, sends_body, open.http2);
        target.upstream.introduce(&mut peer, open.conn.peer, open.conn.local);
        if target.fresh {
            target.keepalive = Duration::ZERO;
            peer.group_key = rand::random();
        }
        if let Some(upgrade) = &open.upgrade {
            target.upstream.upgrade(&mut peer, upgrade.clone());
        } else if !sends_body && target.upstream.hedges_after().is_some() {
            self.hedge(session.req_header(), open, &mut peer);
        }
        Ok(peer)
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
        let remote = target.endpoint.address;
        let cut = cut_of(digest).cloned();
        target.is_stream = cut.is_some();
        let line = cut.map(Line::Stream).or_else(|| {
            let local = digest?.socket_digest.as_ref()?.local_addr()?.as_inet().copied()?;
            Some(Line::Connection(SocketId { fd, local, remote }))
        });
        let patience = open.patience();
        if !open.watched.attach(line, FailureCode::X3, patience) {
            // Nothing was sent yet, so that any request whose time is not up may be tried again.
            open.untouched = open.watched.fired().is_none();
            return Error::e_explain(ErrorType::ConnectionClosed, "ended before it was used");
        }
        let Some(target) = open.target.as_mut() else { return Ok(()) };
        target.sending = !session.is_body_done() || open.collected.is_some();
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
        let (endpoint, is_stream) = (target.endpoint.address, target.is_stream);
        let seen = if open.chain.reads_request() { Seen::of(&head.headers) } else { open.seen };
        let way = Way { ctx: &open.ctx, conn: &open.conn, endpoint, seen };
        if target.is_stream {
            stream::leave_behind(head)?;
        }
        // Over HTTP/1.1 an endpoint has no trailers to end a call with that a plugin made one of gRPC.
        let is_untold = !target.is_stream && open.grpc.is_some_and(GrpcForm::is_web);
        way.prepare(head, session.req_header().version)?;
        if let Some(rewritten) = &open.rewritten {
            forward::rewrite(head, rewritten)?;
        }
        open.begin_to_mirror(head, session.is_body_empty());
        if open.upgrade.is_some() {
            tunnel::ask(head)?;
        }
        if let Some(body) = &open.collected
            && !session.is_body_empty()
        {
            head.remove_header(&header::TRANSFER_ENCODING);
            head.insert_header(header::CONTENT_LENGTH, body.len())?;
        }
        if open.chain.changes_request_length(&open.ctx) && !session.is_body_empty() {
            forward::unframe(head, is_stream)?;
        }
        let allowed = open.chain.attempt(head, &mut open.ctx).await;
        allowed.map_err(|reply| refuse(open, reply))?;
        if is_untold && GrpcForm::of(&head.headers) == Some(GrpcForm::Plain) {
            return Err(refuse(open, grpc::unspoken()));
        }
        Ok(())
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
                open.give_up();
                return Err(refuse(open, body_too_large()));
            }
        }
        if open.chain.reads_request_body() {
            let (chain, head) = (&open.chain, session.req_header());
            let refused = chain.request_body(false, body, end_of_stream, head, &mut open.ctx).await;
            if let Some(reply) = refused {
                open.give_up();
                return Err(refuse(open, reply));
            }
        }
        open.mirror_body(body.as_ref(), end_of_stream);
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
        if let Some(upgraded) = open.upgrade.as_ref().and_then(|upgrade| upgrade.take()) {
            response.set_status(StatusCode::SWITCHING_PROTOCOLS)?;
            return self.tunnel(session, response, ex, upgraded).await;
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            // No upgrade was asked for upstream, so nobody can have agreed to one.
            return Err(refuse(open, Box::new(refusal(FailureCode::X5))));
        }
        if response.status.is_informational() {
            return Ok(());
        }
        if open.refused.is_some() {
            // The request's body was refused on its way up; the endpoint answered what it had of it.
            return Err(refuse_answer());
        }
        let keeps = open.target.as_ref().is_some_and(|target| target.upstream.keeps_spelling());
        if !keeps {
            response::forget_spelling(response);
        }
        open.settle_hedge();
        // What a status of gRPC means counts as the status of HTTP that means it. Without a body it is here already.
        open.ctx.grpc = None;
        let mut meant = response.status;
        if open.grpc.is_some() && GrpcForm::of(&response.headers).is_some() {
            open.ctx.grpc = grpc::status(&response.headers);
            let said = open.ctx.grpc.and_then(|said| StatusCode::from_u16(said.as_http()).ok());
            meant = said.unwrap_or(meant);
        }
        open.head_arrived(meant);
        let status = meant.as_u16();
        if open.tries_again(session, Why::Status(status), Some(&response.headers)) {
            open.end_attempt(None, Some(status));
            open.count_attempt();
            open.untouched = true;
            return Err(refuse_answer());
        }
        open.mirrored_head(response);
        let (method, version) = {
            let head = session.req_header();
            (head.method.clone(), head.version)
        };
        let response::Cleaned { mut closes, kept_for } =
            response::clean(response, &method, version);
        if let (Some(target), Some(kept)) = (&mut open.target, kept_for) {
            target.kept_for(kept);
        }
        open.keep_client(response)?;
        let refused = open.chain.response(response, session.req_header(), &mut open.ctx).await;
        refused.map_err(|reply| refuse(open, reply))?;
        let bodiless = response::is_bodiless(&method, response.status);
        if !bodiless && open.chain.changes_response_length(session.req_header(), &open.ctx) {
            closes |= response::unframe(response, version);
        }
        if bodiless {
            open.answer_complete();
        }
        if closes || open.conn.is_draining() {
            session.set_keepalive(None);
        }
        open.source = StatusSource::Upstream;
        open.progress = Progress::Responding;
        let ours = open.target.as_ref().is_some_and(|target| target.is_stream);
        if ours && version < Version::HTTP_11 && !bodiless {
            response::send_unchunked(session, response).await?;
        }
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
        } else {
            open.body_arrived();
        }
        open.mirrored_body(body.as_ref());
        open.pass_down(body, end_of_stream, session.req_header())?;
        open.answered |= end_of_stream;
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        trailers: &mut http::HeaderMap,
        ex: &mut Exchange,
    ) -> Result<Option<Bytes>> {
        let open = ex.open();
        open.mirrored_trailers(trailers);
        Ok(open.pass_trailers(trailers, session.req_header()))
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ex: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let open = ex.open();
        let code = Self::code(open, &error);
        open.end_attempt(Some(code), None);
        if open.tries_again(session, Why::Failure(code), None) {
            open.count_attempt();
            error.set_retry(true);
        }
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
        if !ex.is_open() {
            // The request is none of Pingora's any more.
            error.set_retry(false);
            return error;
        }
        let open = ex.open();
        let code = Self::code(open, &error);
        // The one repetition that needs no leave: a pooled connection that the upstream had closed
        // before it saw the request, of a method that may be repeated (RFC 9110, section 9.2.2). It has
        // a connection of its own, so that it is not lost the same way.
        let sendable =
            !session.as_ref().retry_buffer_truncated() && session.response_written().is_none();
        let repeatable = session.req_header().method.is_idempotent() && code == FailureCode::X1;
        // Who says goodbye to a connection has not looked at what it refuses there. Its others may be
        // about to end as well.
        let goodbye = *error.etype() == GOODBYE;
        let refused = goodbye || *error.etype() == REFUSED;
        let unseen = open.target.as_ref().is_some_and(|target| match target.is_stream {
            true if goodbye => target.attempts <= GOODBYES,
            true => client_reused && refused && !target.repeated,
            false => client_reused && repeatable && !target.repeated,
        });
        let untouched = std::mem::take(&mut open.untouched);
        error.set_retry(untouched || (sendable && unseen));
        if let Some(target) = open.target.as_mut() {
            target.unseen = error.retry();
            let repeats = target.unseen && !untouched;
            target.fresh |= !target.is_stream && repeats;
            target.repeated |= repeats && !goodbye;
        }
        open.end_attempt(Some(code), None);
        open.watched.detach();
        let why = if refused { Why::Refused } else { Why::Failure(code) };
        if !error.retry() && open.tries_again(session, why, None) {
            open.count_attempt();
            error.set_retry(true);
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
        let code = open.verdict(code);
        open.ctx.fail(code);
        // After an attempt Pingora closes the connection, whatever its answer says.
        session.set_keepalive(None);
        let begun = session.response_written().is_some_and(|head| !head.status.is_informational());
        let reply = match open.refused.take() {
            Some(reply) => Some(reply),
            None => failure::status(code).map(|status| Box::new(Reply::refusal(status, code))),
        };
        // Who does not take an answer does not take its end either.
        let told = reply.filter(|_| !begun || *error.esource() != ErrorSource::Downstream);
        let Some(reply) = told else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        if begun {
            if let Err(error) = Box::pin(ending::end(session, open, &reply)).await {
                tracing::debug!(%error, "the end of an answer could not be sent");
            }
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let status = reply.status.as_u16();
        tracing::debug!(%error, code = code.code(), status, "request failed");
        if let Err(error) = Box::pin(answer::send(session, open, *reply)).await {
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
        open.end_mirroring(error.is_none());
        match error {
            None => open.release(),
            Some(_) => open.watched.detach(),
        }
        if let Some(error) = error.filter(|_| !open.answered) {
            let code = Self::code(open, error);
            open.end_attempt(Some(code), None);
            open.ctx.fail(code);
        }
        record::finish(&record::Seen::of(session), open, &self.shared.telemetry);
        open.conn.end_request();
    }
}
