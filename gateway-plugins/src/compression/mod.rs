//! Compresses answers as they pass, as their clients accept it: gzip, brotli, zstd. Decompresses requests, if asked to.
//!
//! ```yaml
//! kind: compression
//! options:
//!   codings: [zstd, br, gzip]
//!   types: ["text/*", application/json]
//!   min_size: 1KiB
//!   request: {codings: [gzip, br], max: 10MiB}
//! ```
//!
//! Left as they are: bodies that are coded already, of other types or too short, parts of bodies, messages of gRPC,
//! upgraded connections, and whatever says `Cache-Control: no-transform`. A compressed answer has no length, and what
//! was said of its bytes goes: ranges, digests; its `ETag` becomes weak. List it before plugins that look into bodies,
//! so that they see them plain, both ways.

mod accept;
mod answer;
mod encode;
mod media;
mod options;
mod request;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gateway_core::RequestCtx;
use gateway_core::plugin::{
    AttemptHook, BuildEnv, BuildError, Class, Fact, Flow, HookError, Hooks, Plugin,
    RequestBodyHook, RequestHeader, RequestHook, ResponseBodyHook, ResponseHeader, ResponseHook,
};
use gateway_core::telemetry::PluginMetrics;
use http::{HeaderValue, header};

use crate::coding::{Coding, GoesUpPlain, Undoing};
use accept::Accepted;
use answer::{Rules, may_transform};
use encode::{Effort, Encoding};
use media::is_grpc;
pub use options::Config;
use options::Flush;
use request::Decompress;

/// Compresses answers, and decompresses requests.
pub struct Compression {
    /// Of answers, the preferred one first.
    codings: Box<[Coding]>,
    rules: Rules,
    effort: Effort,
    flush: Flush,
    offload: bool,
    request: Option<Decompress>,
    metrics: Arc<PluginMetrics>,
}

/// A request and its answer, as one plugin sees them.
#[derive(Default)]
struct Exchange {
    accepted: Accepted,
    /// The answer, if it is compressed.
    encoding: Option<Encoding>,
    /// Whether the request has codings that are undone.
    is_coded: bool,
    undoing: Option<Undoing>,
}

/// Exchanges by plugin: there may be several with rules of their own.
#[derive(Default)]
struct Exchanges(Vec<(usize, Exchange)>);

const CODING: &str = "compression.coding";
const PLAIN_BYTES: &str = "compression.plain_bytes";
const RATIO: &str = "compression.ratio";
const REQUEST_CODING: &str = "compression.request_coding";

impl Plugin for Compression {
    const KIND: &'static str = "compression";
    const CLASS: Class = Class::Transform;
    const ATTRIBUTES: &'static [&'static str] = &[CODING, PLAIN_BYTES, RATIO, REQUEST_CODING];
    type Config = Config;

    fn build(config: Config, env: &BuildEnv<'_>) -> Result<Self, BuildError> {
        config.compile(env)
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request(self.clone()).changes_fields([header::ACCEPT_ENCODING]);
        if self.request.is_some() {
            hooks.attempt(self.clone()).request_body(self.clone());
        }
        if !self.codings.is_empty() {
            hooks.response(self.clone()).response_body(self);
        }
    }
}

impl Compression {
    fn note(&self, exchange: Exchange, ctx: &mut RequestCtx) {
        if ctx.get::<Exchanges>().is_none() {
            ctx.insert(Exchanges::default());
        }
        let Some(Exchanges(all)) = ctx.get_mut::<Exchanges>() else { return };
        all.push((std::ptr::from_ref(self).addr(), exchange));
    }

    fn noted<'a>(&self, ctx: &'a RequestCtx) -> Option<&'a Exchange> {
        let own = std::ptr::from_ref(self).addr();
        let Exchanges(all) = ctx.get::<Exchanges>()?;
        all.iter().find(|(plugin, _)| *plugin == own).map(|(_, exchange)| exchange)
    }

    fn noted_mut<'a>(&self, ctx: &'a mut RequestCtx) -> Option<&'a mut Exchange> {
        let own = std::ptr::from_ref(self).addr();
        let Exchanges(all) = ctx.get_mut::<Exchanges>()?;
        all.iter_mut().find(|(plugin, _)| *plugin == own).map(|(_, exchange)| exchange)
    }

    /// What a body of this length, if that is known, is compressed by.
    fn encoding(&self, coding: Coding, length: Option<u64>) -> Encoding {
        let flushes = match self.flush {
            Flush::Auto => length.is_none(),
            Flush::Always => true,
            Flush::Never => false,
        };
        Encoding::new(coding, self.effort, length, flushes)
    }
}

#[async_trait]
impl RequestHook for Compression {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let kind = head.headers.get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| is_grpc(kind.as_bytes())) {
            return Ok(Flow::Continue);
        }
        let mut exchange = Exchange::default();
        // Noted now: plugins that come later may ask upstreams for something else.
        if may_transform(&head.headers) {
            exchange.accepted = Accepted::of(&head.headers, &self.codings);
        }
        if self.offload && head.headers.contains_key(header::ACCEPT_ENCODING) {
            head.insert_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
        }
        if let Some(request) = &self.request {
            let applied = match request.look(head) {
                Ok(applied) => applied,
                Err(reply) => return Ok(Flow::Respond(reply)),
            };
            if !applied.is_empty() {
                exchange.is_coded = true;
                ctx.publish(REQUEST_CODING, Fact::list(applied.iter().map(|coding| coding.name())));
                ctx.insert(GoesUpPlain);
            }
        }
        self.note(exchange, ctx);
        Ok(Flow::Continue)
    }

    fn foresee(&self, head: &RequestHeader, _: &RequestCtx) -> Option<Flow> {
        // A body that comes compressed may be one that is refused.
        let coded = self.request.is_some() && head.headers.contains_key(header::CONTENT_ENCODING);
        (!coded).then_some(Flow::Continue)
    }
}

#[async_trait]
impl AttemptHook for Compression {
    async fn on_attempt(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        let (Some(request), Some(exchange)) = (&self.request, self.noted_mut(ctx)) else {
            return Ok(());
        };
        // The body comes from its beginning, perhaps again.
        exchange.undoing = if exchange.is_coded { request.begin(head) } else { None };
        Ok(())
    }
}

#[async_trait]
impl RequestBodyHook for Compression {
    fn keeps_length(&self, ctx: &RequestCtx) -> bool {
        self.noted(ctx).is_none_or(|exchange| !exchange.is_coded)
    }

    async fn on_request_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let exchange = self.noted_mut(ctx);
        let Some(undoing) = exchange.and_then(|exchange| exchange.undoing.as_mut()) else {
            return Ok(Flow::Continue);
        };
        match request::undo(undoing, &chunk.take().unwrap_or_default(), last) {
            Ok(plain) => *chunk = Some(plain),
            Err(reply) => return Ok(Flow::Respond(reply)),
        }
        Ok(Flow::Continue)
    }
}

#[async_trait]
impl ResponseHook for Compression {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        request: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        let Some(exchange) = self.noted_mut(ctx) else { return Ok(()) };
        // The gateway's own answer may follow on one that came to nothing.
        exchange.encoding = None;
        if response.status.is_informational() || !may_transform(&request.headers) {
            return Ok(());
        }
        let Some(chosen) = self.rules.apply(response, request, exchange.accepted)? else {
            return Ok(());
        };
        exchange.encoding = Some(self.encoding(chosen.coding, chosen.length));
        ctx.publish(CODING, chosen.coding.name());
        Ok(())
    }
}

impl ResponseBodyHook for Compression {
    fn keeps_length(&self, ctx: &RequestCtx) -> bool {
        self.noted(ctx).is_none_or(|exchange| exchange.encoding.is_none())
    }

    fn on_response_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let exchange = self.noted_mut(ctx);
        let Some(encoding) = exchange.and_then(|exchange| exchange.encoding.as_mut()) else {
            return Ok(Flow::Continue);
        };
        let plain = chunk.replace(Bytes::new()).unwrap_or_default();
        *chunk = Some(encoding.push(&plain, last)?);
        if last {
            let (plain, coded) = encoding.lengths();
            self.metrics.compressed(plain, coded);
            ctx.publish(PLAIN_BYTES, plain.to_string());
            ctx.publish(RATIO, format!("{:.2}", plain as f64 / coded.max(1) as f64));
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests;
