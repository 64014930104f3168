//! The moments in a request's life that a plugin can take part in, one trait a phase.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use pingora_http::{RequestHeader, ResponseHeader};

use super::Reply;
use crate::context::RequestCtx;
use crate::telemetry::RequestRecord;
use crate::upstream::BreakerOptions;

/// Why a hook could not do its part. What follows depends on the plugin's class and `on_error`.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// What a request hook decides.
#[derive(Debug)]
pub enum Flow {
    /// Go on with the next plugin.
    Continue,
    /// Answer here; no later plugin and no upstream sees the request.
    Respond(Reply),
}

/// How a body hook wants its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// Chunk by chunk, as it passes.
    Stream,
    /// Whole, before an upstream is chosen; a longer body is refused with 413.
    Collect {
        /// The longest body accepted, in bytes.
        max: usize,
    },
}

/// The head is routed, nothing is sent.
#[async_trait]
pub trait RequestHook: Send + Sync {
    /// May change the head, answer the request, or let it pass.
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError>;

    /// What it decides of such a request where head and addresses alone tell, for `gateway explain`, which sends nothing
    /// and asks no hook. `None` where it takes more: a credential to be checked, another service to be asked.
    fn foresee(&self, _head: &RequestHeader, _ctx: &RequestCtx) -> Option<Flow> {
        None
    }
}

/// The request's body on its way up.
#[async_trait]
pub trait RequestBodyHook: Send + Sync {
    /// Chunk by chunk or whole. Asked once, when the snapshot is compiled.
    fn mode(&self) -> BodyMode {
        BodyMode::Stream
    }

    /// Whether what goes on of this streamed body is as long as what came. If not, its length is not announced
    /// to the upstream. Asked before each attempt, ahead of the attempt hooks.
    fn keeps_length(&self, _ctx: &RequestCtx) -> bool {
        true
    }

    /// One chunk, or the whole body if it is collected. To withhold a chunk leave it empty, with
    /// `Some(Bytes::new())`. `last` comes once an attempt, perhaps without data: what was sent of
    /// a body comes again when it is sent again, behind the attempt hooks. A streamed body's
    /// refusal reaches the client only while no response has begun.
    async fn on_request_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError>;
}

/// Before each attempt, on a fresh copy of the head: signing, credentials.
#[async_trait]
pub trait AttemptHook: Send + Sync {
    /// Changes made here are seen by this attempt's endpoint alone.
    async fn on_attempt(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError>;
}

/// The response's head, ours or the upstream's. Runs in reverse order of listing.
#[async_trait]
pub trait ResponseHook: Send + Sync {
    /// May change the response's head. `request` is the client's, as the request phase left it.
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        request: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError>;
}

/// The response's body on its way down. Runs in reverse order of listing.
pub trait ResponseBodyHook: Send + Sync {
    /// Whether what goes down of this response is as long as what came. If not, its length is not announced to the
    /// client. Asked once its head has passed.
    fn keeps_length(&self, _ctx: &RequestCtx) -> bool {
        false
    }

    /// One chunk; `last` comes once, perhaps without data. Of a response without a body nothing
    /// comes.
    ///
    /// An answer in place of the rest ends the response: what the chunk still holds goes down, then a call of gRPC
    /// ends with the status that the answer has there, and any other is cut.
    fn on_response_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError>;

    /// What a body ends with besides, over HTTP/2: comes right before its last chunk, and also where the gateway ends a
    /// call of gRPC itself. If the last chunks of all plugins have data, that goes down in place of the trailers.
    ///
    /// # Errors
    /// They cannot be passed on. A call of gRPC ends with what the failure is called there.
    fn on_response_trailers(
        &self,
        _trailers: &HeaderMap,
        _ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        Ok(())
    }
}

/// Exactly once a request, on every exit.
pub trait LogHook: Send + Sync {
    /// Sees the finished record; cannot change it.
    fn on_log(&self, record: &RequestRecord<'_>, ctx: &RequestCtx);
}

/// The phases one plugin takes part in, filled by `Plugin::attach`.
#[derive(Default)]
pub struct Hooks {
    pub(crate) request: Option<Arc<dyn RequestHook>>,
    pub(crate) request_body: Option<Arc<dyn RequestBodyHook>>,
    pub(crate) breaker: Option<(BreakerOptions, Option<Reply>)>,
    pub(crate) attempt: Option<Arc<dyn AttemptHook>>,
    pub(crate) response: Option<Arc<dyn ResponseHook>>,
    pub(crate) response_body: Option<Arc<dyn ResponseBodyHook>>,
    pub(crate) log: Option<Arc<dyn LogHook>>,
    pub(crate) refuses_strangers: bool,
    pub(crate) answers_preflights: bool,
    /// The fields of the request that its request hook may change; `None` where it may change anything.
    pub(crate) changes: Option<Box<[HeaderName]>>,
}

impl Hooks {
    /// Takes part when the head is routed.
    pub fn request(&mut self, hook: Arc<dyn RequestHook>) -> &mut Self {
        self.request = Some(hook);
        self
    }

    /// Takes part as the request's body passes.
    pub fn request_body(&mut self, hook: Arc<dyn RequestBodyHook>) -> &mut Self {
        self.request_body = Some(hook);
        self
    }

    /// Puts circuit breakers before the upstream of each route that the plugin is part of. The gateway
    /// keeps them, asks them before it chooses an endpoint, and tells them how attempts end. What they
    /// refuse is answered with `reply`, else with 503; with the code `U9` and `Retry-After` where the
    /// reply has none of its own. Their state outlives a reload that does not change the options. Routes
    /// without an upstream have none.
    pub fn breaker(&mut self, options: BreakerOptions, reply: Option<Reply>) -> &mut Self {
        self.breaker = Some((options, reply));
        self
    }

    /// Takes part before each attempt.
    pub fn attempt(&mut self, hook: Arc<dyn AttemptHook>) -> &mut Self {
        self.attempt = Some(hook);
        self
    }

    /// Takes part when the response's head is known.
    pub fn response(&mut self, hook: Arc<dyn ResponseHook>) -> &mut Self {
        self.response = Some(hook);
        self
    }

    /// Takes part as the response's body passes.
    pub fn response_body(&mut self, hook: Arc<dyn ResponseBodyHook>) -> &mut Self {
        self.response_body = Some(hook);
        self
    }

    /// Takes part when the request is over.
    pub fn log(&mut self, hook: Arc<dyn LogHook>) -> &mut Self {
        self.log = Some(hook);
        self
    }

    /// Says that requests without credentials are refused. A preflight has none (Fetch standard), so that a config in
    /// which whoever [answers preflights](Self::answers_preflights) comes later is warned of.
    pub fn refuses_strangers(&mut self) -> &mut Self {
        self.refuses_strangers = true;
        self
    }

    /// Says that preflights of the Fetch standard are answered.
    pub fn answers_preflights(&mut self) -> &mut Self {
        self.answers_preflights = true;
        self
    }

    /// Says that the request hook changes no more of the head than these fields. What it leaves alone is known to
    /// `gateway explain`; of a plugin of the class Transform that says nothing everything may be another by then.
    pub fn changes_fields(&mut self, fields: impl IntoIterator<Item = HeaderName>) -> &mut Self {
        self.changes = Some(fields.into_iter().collect());
        self
    }

    /// The names of the phases taken part in, in the order of a request's life.
    pub fn phases(&self) -> Vec<&'static str> {
        [
            (self.request.is_some(), "request"),
            (self.request_body.is_some(), "request_body"),
            (self.breaker.is_some(), "breaker"),
            (self.attempt.is_some(), "attempt"),
            (self.response.is_some(), "response"),
            (self.response_body.is_some(), "response_body"),
            (self.log.is_some(), "log"),
        ]
        .into_iter()
        .filter_map(|(taken, name)| taken.then_some(name))
        .collect()
    }
}
