//! From a request's head to its answer or its upstream: the phases before Pingora is asked for a
//! connection.

use std::sync::Arc;

use http::{Method, StatusCode, header};
use pingora_proxy::Session;

use super::entry::Arrival;
use super::exchange::{Open, Target};
use super::seen::Seen;
use super::{GatewayProxy, admission, answer, entry, forward, grpc, refusal, tunnel};
use crate::action::Action;
use crate::grpc::GrpcForm;
use crate::plugin::{Attribute, Facts, Reply};
use crate::snapshot::RoutePlan;
use crate::telemetry::FailureCode;
use crate::upstream::{Choice, Upstream, hash};

/// What a request holds leads to no place.
#[cold]
fn unreachable_by(why: &dyn std::fmt::Display) -> Box<Reply> {
    let reply = Reply::problem(StatusCode::BAD_REQUEST, &why.to_string());
    Box::new(reply.because(FailureCode::P8))
}

impl GatewayProxy {
    /// Everything between the head and the choice of an upstream. `Some` is the answer.
    pub(super) async fn decide(
        &self,
        session: &mut Session,
        open: &mut Open,
    ) -> Option<Box<Reply>> {
        if let Err(reply) = self.admit(session, open) {
            return Some(reply);
        }
        let route = match self.route(session, open) {
            Ok(route) => Some(route),
            Err(reply) => {
                // No route: the gateway's and the listener's plugins still see the request first.
                let head = session.req_header_mut();
                return open.chain.request(head, &mut open.ctx).await.or(Some(reply));
            }
        };
        if let Some(Action::Send(Some(split))) = route.as_ref().map(|route| &route.action)
            && split.is_early()
        {
            // Conditions of plugins may ask for the upstream.
            let facts = Facts { request: session.req_header(), response: None, ctx: &open.ctx };
            let place = split.choose(&facts, rand::random());
            open.ctx.set_destination(place);
        }
        if let Some(reply) = open.chain.request(session.req_header_mut(), &mut open.ctx).await {
            return Some(reply);
        }
        if let Some(max) = open.chain.collects()
            && let Err(reply) = Box::pin(self.collect(session, open, max)).await
        {
            return Some(reply);
        }
        let route = route?;
        match &route.action {
            Action::Reply(plan) => {
                let reply = Box::pin(answer::planned(session, open, plan)).await;
                Some(reply.map_or_else(|refusal| refusal, Box::new))
            }
            Action::Redirect(plan) => {
                let facts = Facts { request: session.req_header(), response: None, ctx: &open.ctx };
                let reply = plan.reply(&facts);
                Some(reply.map_or_else(|nowhere| unreachable_by(&nowhere), Box::new))
            }
            Action::Send(split) => {
                let facts = Facts { request: session.req_header(), response: None, ctx: &open.ctx };
                let place = match (open.ctx.destination_place(), split) {
                    (Some(chosen), _) => chosen,
                    (None, Some(split)) => split.choose(&facts, rand::random()),
                    (None, None) => 0,
                };
                if let Some(rewrite) = &route.rewrite {
                    match rewrite.apply(&facts) {
                        Ok(rewritten) => open.rewritten = Some(Box::new(rewritten)),
                        Err(unfit) => return Some(unreachable_by(&unfit)),
                    }
                }
                open.ctx.set_destination(place);
                let upstream = &route.destinations.get(place)?.upstream;
                self.target(session, open, upstream).await
            }
        }
    }

    fn admit(&self, session: &mut Session, open: &mut Open) -> Result<(), Box<Reply>> {
        let raw = session
            .as_downstream()
            .as_http1()
            .map(|http1| admission::RawHead(http1.get_headers_raw_bytes()));
        let head = session.req_header_mut();
        open.seen = Seen::of(&head.headers);
        let arrival = Arrival {
            raw: raw.as_ref(),
            seen: &open.seen,
            last_host: &open.conn.last_host,
            secured: open.conn.secured.as_ref(),
        };
        entry::enter(head, arrival, &mut open.ctx)?;
        let head = session.req_header();
        if head.method == Method::POST {
            open.grpc = GrpcForm::accepted(&head.headers);
        }
        entry::accept(head, &open.seen, &mut open.ctx)
    }

    fn route(&self, session: &Session, open: &mut Open) -> Result<Arc<RoutePlan>, Box<Reply>> {
        let route = entry::route(session.req_header(), &mut open.ctx)?;
        if let Some(chain) = route.chain(open.ctx.listener()) {
            open.chain = chain.clone();
        }
        Ok(route)
    }

    /// Chooses the first attempt's endpoint, so that a refusal is a reply on a connection that
    /// stays open.
    async fn target(
        &self,
        session: &mut Session,
        open: &mut Open,
        upstream: &Arc<Upstream>,
    ) -> Option<Box<Reply>> {
        let own = open.ctx.route().and_then(|route| route.total);
        let mut total = own.or(upstream.timeouts().total);
        if open.grpc.is_some()
            && let Some(asked) = grpc::timeout(&session.req_header().headers)
        {
            // How long the client waits, but for what is configured.
            total = Some(total.map_or(asked, |total| total.min(asked)));
        }
        if let Some(total) = total {
            open.watched.limit_total(total.saturating_sub(open.ctx.started().elapsed()));
        }
        if let Err(reply) = open.pass_breakers(session.req_header()) {
            return Some(reply);
        }
        let Ok(slot) = upstream.enter(open.watched.left()).await else {
            return Some(Box::new(refusal(FailureCode::U8)));
        };
        if !upstream.is_found(open.watched.left()).await {
            return Some(Box::new(refusal(upstream.nobody())));
        }
        if let Err(reply) = self.keep_body(session, open, upstream).await {
            return Some(reply);
        }
        let head = session.req_header();
        let facts = Facts { request: head, response: None, ctx: &open.ctx };
        let read =
            |key: &Attribute| key.with_text(&facts, |text| text.map(|text| hash(text.as_bytes())));
        let key = upstream.key().and_then(read);
        let cookie = upstream.sticky().and_then(|sticky| sticky.read(&head.headers));
        let (worker, now) = (self.worker, open.watched.now());
        let choice = Choice { worker, first: true, now, key, cookie, avoid: &[] };
        let Some(endpoint) = upstream.choose_or_wait(choice, open.watched.left()).await else {
            return Some(Box::new(refusal(upstream.nobody())));
        };
        let passed = open.pass_endpoint(session.req_header(), upstream, &choice, endpoint);
        let passed = match passed {
            Err(reply) if upstream.queues() && upstream.full() > 0 => {
                let choice = Choice { first: false, ..choice };
                Box::pin(open.pass_soon(session.req_header(), upstream, &choice, reply)).await
            }
            passed => passed,
        };
        let (endpoint, passes) = match passed {
            Ok(passed) => passed,
            Err(reply) => return Some(reply),
        };
        if !upstream.keeps_spelling() {
            forward::forget_spelling(session.req_header_mut());
        }
        let head = session.req_header();
        let bodiless = !open.seen.transfer_encoding
            && admission::content_length(&head.headers).unwrap_or(0) == 0;
        if bodiless && tunnel::is_asked_for(head) {
            open.upgrade = Some(Arc::default());
            // To Pingora it is a request like others, so that it reads nothing that comes behind it.
            session.req_header_mut().remove_header(&header::UPGRADE);
        }
        let target = Target::new(upstream.clone(), endpoint, slot, key, cookie);
        open.target = Some(Target { passes, ..target });
        None
    }

    /// Reads a body before the first attempt that Pingora would not keep for another.
    async fn keep_body(
        &self,
        session: &mut Session,
        open: &mut Open,
        upstream: &Upstream,
    ) -> Result<(), Box<Reply>> {
        let Some(retry) = upstream.retry().filter(|_| open.seen.content_length) else {
            return Ok(());
        };
        let head = session.req_header();
        let length = admission::content_length(&head.headers).unwrap_or(0);
        let longest = retry.keeps(&head.method).unwrap_or(0);
        if open.collected.is_some() || length <= answer::HELD as u64 || length > longest {
            return Ok(());
        }
        let longest = usize::try_from(longest).unwrap_or(usize::MAX);
        let left = open.watched.left();
        let collect = Box::pin(self.collect(session, open, longest));
        match left {
            None => collect.await,
            Some(left) => match tokio::time::timeout(left, collect).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Box::new(refusal(FailureCode::X7).closing())),
            },
        }
    }

    /// Reads the whole body for the plugins that want it whole.
    async fn collect(
        &self,
        session: &mut Session,
        open: &mut Open,
        max: usize,
    ) -> Result<(), Box<Reply>> {
        let limit = open.ctx.listener().limits.body_bytes;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let body = answer::collect(session, max.min(limit)).await?;
        open.body_bytes = body.as_ref().map_or(0, |body| body.len() as u64);
        let mut body = Some(body.unwrap_or_default());
        let (chain, head) = (&open.chain, session.req_header());
        if let Some(reply) = chain.request_body(true, &mut body, true, head, &mut open.ctx).await {
            return Err(reply);
        }
        open.collected = body;
        Ok(())
    }
}
