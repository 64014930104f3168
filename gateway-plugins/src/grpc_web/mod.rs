//! Lets browsers call services of gRPC: translates gRPC-Web, in bytes and in base64, into gRPC, and the answers back.
//!
//! ```yaml
//! kind: grpc-web
//! ```
//!
//! Requests of the types `application/grpc-web` and `application/grpc-web-text`, with what follows them such as `+proto`,
//! go up as `application/grpc`; the status that comes behind an answer goes down as its last frame. Answers are written
//! as the request is, or in base64 if `Accept` asks for that. Messages pass as they come. All else is left alone.
//! The endpoint has to be asked over HTTP/2. Pages of other origins need `cors` besides.

mod call;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gateway_core::plugin::{
    AttemptHook, BuildEnv, BuildError, Class, Flow, HookError, Hooks, Plugin, Reply,
    RequestBodyHook, RequestHeader, ResponseBodyHook, ResponseHeader, ResponseHook,
};
use gateway_core::telemetry::FailureCode;
use gateway_core::{GrpcForm, RequestCtx};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use call::{Answer, Call};

/// What operators write: nothing but that it is there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Translates gRPC-Web into gRPC and back.
pub struct GrpcWeb;

/// The call that a request is, and the plugin that translates it: behind it, there may be another, it is of gRPC.
struct Translated(usize, Call);

impl Plugin for GrpcWeb {
    const KIND: &'static str = "grpc-web";
    const CLASS: Class = Class::Transform;
    type Config = Config;

    fn build(Config {}: Config, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.attempt(self.clone()).request_body(self.clone());
        hooks.response(self.clone()).response_body(self);
    }
}

impl GrpcWeb {
    /// The call, if it is this plugin that translates it.
    fn own<'a>(&self, ctx: &'a mut RequestCtx) -> Option<&'a mut Call> {
        let own = std::ptr::from_ref(self).addr();
        ctx.get_mut::<Translated>().filter(|of| of.0 == own).map(|of| &mut of.1)
    }
}

/// The same type in another form.
fn in_form(form: GrpcForm, written: &[u8]) -> Result<HeaderValue, HookError> {
    Ok(HeaderValue::from_bytes(&[form.kind().as_bytes(), written].concat())?)
}

/// The type that a head says it has, if it is one of gRPC's.
fn kind(head: &HeaderMap) -> Option<(GrpcForm, &[u8])> {
    GrpcForm::split(head.get(CONTENT_TYPE)?.as_bytes())
}

#[async_trait]
impl AttemptHook for GrpcWeb {
    async fn on_attempt(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        let Some((form, written)) = kind(&head.headers).filter(|(form, _)| form.is_web()) else {
            return Ok(());
        };
        if head.method != Method::POST {
            return Ok(());
        }
        let plain = in_form(GrpcForm::Plain, written)?;
        let reads = GrpcForm::accepted(&head.headers).unwrap_or(form);
        let call = Call::new(form, reads);
        head.insert_header(CONTENT_TYPE, plain)?;
        head.insert_header(TE, HeaderValue::from_static("trailers"))?;
        if !call.keeps_length() {
            head.remove_header(&CONTENT_LENGTH);
        }
        // In place of an earlier attempt's, for the body comes again.
        ctx.insert(Translated(std::ptr::from_ref(self).addr(), call));
        Ok(())
    }
}

#[async_trait]
impl RequestBodyHook for GrpcWeb {
    async fn on_request_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let Some(call) = self.own(ctx) else { return Ok(Flow::Continue) };
        Ok(match call.ask(chunk, last) {
            Ok(()) => Flow::Continue,
            Err(fault) => {
                let reply = Reply::problem(StatusCode::BAD_REQUEST, &fault.to_string());
                Flow::Respond(reply.because(FailureCode::P8).closing())
            }
        })
    }
}

#[async_trait]
impl ResponseHook for GrpcWeb {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        _: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        let Some(call) = self.own(ctx) else { return Ok(()) };
        // What is no answer of gRPC, clients tell by its status.
        let plain = kind(&response.headers).filter(|(form, _)| *form == GrpcForm::Plain);
        call.answer = plain.map(|_| Answer::new(call.reads, &response.headers));
        let Some((_, written)) = plain else { return Ok(()) };
        let kind = in_form(call.reads, written)?;
        response.insert_header(CONTENT_TYPE, kind)?;
        Ok(())
    }
}

impl ResponseBodyHook for GrpcWeb {
    fn keeps_length(&self, ctx: &RequestCtx) -> bool {
        ctx.get::<Translated>().is_none_or(|of| of.1.answer.is_none())
    }

    fn on_response_trailers(
        &self,
        trailers: &HeaderMap,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        if let Some(answer) = self.own(ctx).and_then(|call| call.answer.as_mut()) {
            answer.end_with(trailers);
        }
        Ok(())
    }

    fn on_response_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        if let Some(answer) = self.own(ctx).and_then(|call| call.answer.as_mut()) {
            answer.write(chunk, last);
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests;
