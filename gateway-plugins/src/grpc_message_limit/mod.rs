//! Refuses calls of gRPC whose messages are too long, with `RESOURCE_EXHAUSTED`, before a byte of such a message goes on.
//!
//! ```yaml
//! kind: grpc-message-limit
//! options:
//!   request: 4MiB
//!   response: 16MiB
//! ```
//!
//! Each message counts by itself, by the length that stands in front of it: of compressed ones that is what they have
//! compressed. Nothing is held. An answer ends with the status behind the messages before. Behind `grpc-web` in the list,
//! calls of that end so too; in front of it, their answers may be cut.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gateway_core::config::Size;
use gateway_core::plugin::{
    AttemptHook, BuildEnv, BuildError, Class, Flow, HookError, Hooks, OptionPath, Plugin, Reply,
    RequestBodyHook, RequestHeader, ResponseBodyHook, ResponseHeader, ResponseHook,
};
use gateway_core::telemetry::{FailureCode, GrpcStatus};
use gateway_core::{GrpcForm, RequestCtx};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::grpc::{Frames, Text, TooLong, Unreadable, encoded};

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The longest message that a client may send. Default: any.
    #[serde(default)]
    request: Option<Size>,
    /// The longest message that an endpoint may send. Default: any.
    #[serde(default)]
    response: Option<Size>,
}

/// Refuses calls whose messages are too long.
pub struct GrpcMessageLimit {
    request: Option<u64>,
    response: Option<u64>,
}

/// The bodies of a call, by plugin: there may be several with limits of their own.
#[derive(Default)]
struct Bodies(Vec<(usize, Way, Body)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// A body as far as it has passed.
struct Body {
    most: u64,
    frames: Frames,
    /// The head of a message that is not complete. Nothing of one goes on before its length is known.
    held: Bytes,
    /// What is decoded to be looked at, of gRPC-Web in base64.
    text: Option<Text>,
    /// It has ended. What comes is the end that others write.
    over: bool,
}

/// Why a body does not go on.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("message larger than max ({length} vs. {most})")]
    TooLong { length: u64, most: u64 },
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl Plugin for GrpcMessageLimit {
    const KIND: &'static str = "grpc-message-limit";
    const CLASS: Class = Class::Security;
    type Config = Config;

    fn build(config: Config, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        if config.request.is_none() && config.response.is_none() {
            let root = OptionPath::root();
            return Err(BuildError::at(root, "set `request`, `response`, or both"));
        }
        let bytes = |size: Option<Size>| size.map(|size| size.0);
        Ok(Self { request: bytes(config.request), response: bytes(config.response) })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        if self.request.is_some() {
            hooks.attempt(self.clone()).request_body(self.clone());
        }
        if self.response.is_some() {
            hooks.response(self.clone()).response_body(self);
        }
    }
}

impl GrpcMessageLimit {
    /// Begins to follow a body, if it is one of gRPC; in place of one before, for it comes from the beginning again.
    fn begin(&self, way: Way, most: Option<u64>, head: &HeaderMap, ctx: &mut RequestCtx) {
        if ctx.get::<Bodies>().is_none() {
            ctx.insert(Bodies::default());
        }
        let own = std::ptr::from_ref(self).addr();
        let Some(Bodies(all)) = ctx.get_mut::<Bodies>() else { return };
        all.retain(|(plugin, held, _)| (*plugin, *held) != (own, way));
        let body = GrpcForm::of(head).zip(most).map(|(form, most)| Body::new(form, most));
        all.extend(body.map(|body| (own, way, body)));
    }

    fn pass(
        &self,
        way: Way,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<(), Fault> {
        let own = std::ptr::from_ref(self).addr();
        let Some(Bodies(all)) = ctx.get_mut::<Bodies>() else { return Ok(()) };
        let held = all.iter_mut().find(|(plugin, held, _)| (*plugin, *held) == (own, way));
        held.map_or(Ok(()), |(_, _, body)| body.pass(chunk, last))
    }
}

impl Body {
    fn new(form: GrpcForm, most: u64) -> Self {
        let text = (form == GrpcForm::WebText).then(Text::default);
        Self { most, frames: Frames::default(), held: Bytes::new(), text, over: false }
    }

    /// Follows a chunk. Of one with a message that is too long, what stands before that is left.
    fn pass(&mut self, chunk: &mut Option<Bytes>, last: bool) -> Result<(), Fault> {
        if self.over {
            return Ok(());
        }
        let piece = chunk.take().unwrap_or_default();
        let passed = match self.text.take() {
            Some(mut text) => {
                let passed = self.pass_text(&mut text, &piece, last);
                self.text = Some(text);
                passed.map(|()| piece)
            }
            None => self.pass_bytes(piece, last),
        };
        match passed {
            Ok(piece) => {
                *chunk = Some(piece);
                Ok(())
            }
            Err((before, fault)) => {
                *chunk = Some(before);
                self.over = true;
                Err(fault)
            }
        }
    }

    fn pass_bytes(&mut self, piece: Bytes, last: bool) -> Result<Bytes, (Bytes, Fault)> {
        let mut piece = match self.held.is_empty() {
            true => piece,
            false => [std::mem::take(&mut self.held), piece].concat().into(),
        };
        match self.frames.follow(&piece, self.most) {
            Ok(()) if last => Ok(piece),
            Ok(()) => {
                self.held = piece.split_off(piece.len() - self.frames.step_back());
                Ok(piece)
            }
            Err(found) => Err((piece.slice(..found.at), self.fault(found))),
        }
    }

    /// The same of base64, which goes on as it came.
    fn pass_text(
        &mut self,
        text: &mut Text,
        piece: &[u8],
        last: bool,
    ) -> Result<(), (Bytes, Fault)> {
        let is_whole = text.is_whole();
        let bytes = text.push(piece, last).map_err(|fault| (Bytes::new(), fault.into()))?;
        self.frames.follow(&bytes, self.most).map_err(|found| {
            let before = if is_whole { encoded(&bytes[..found.at]) } else { String::new() };
            (before.into(), self.fault(found))
        })
    }

    fn fault(&self, found: TooLong) -> Fault {
        Fault::TooLong { length: found.length, most: self.most }
    }
}

#[async_trait]
impl AttemptHook for GrpcMessageLimit {
    async fn on_attempt(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        self.begin(Way::Up, self.request, &head.headers, ctx);
        Ok(())
    }
}

#[async_trait]
impl RequestBodyHook for GrpcMessageLimit {
    async fn on_request_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let Err(fault) = self.pass(Way::Up, chunk, last, ctx) else { return Ok(Flow::Continue) };
        let reply = match fault {
            Fault::TooLong { .. } => {
                Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, &format!("received {fault}"))
                    .in_grpc(GrpcStatus::ResourceExhausted)
            }
            Fault::Unreadable(_) => Reply::problem(StatusCode::BAD_REQUEST, &fault.to_string()),
        };
        Ok(Flow::Respond(reply.because(FailureCode::P8).closing()))
    }
}

#[async_trait]
impl ResponseHook for GrpcMessageLimit {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        _: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        self.begin(Way::Down, self.response, &response.headers, ctx);
        Ok(())
    }
}

impl ResponseBodyHook for GrpcMessageLimit {
    fn keeps_length(&self, _: &RequestCtx) -> bool {
        true
    }

    fn on_response_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        match self.pass(Way::Down, chunk, last, ctx) {
            Ok(()) => Ok(Flow::Continue),
            Err(fault @ Fault::Unreadable(_)) => Err(fault.into()),
            Err(fault) => {
                let reply = Reply::problem(StatusCode::BAD_GATEWAY, &format!("sent {fault}"));
                let reply = reply.in_grpc(GrpcStatus::ResourceExhausted);
                Ok(Flow::Respond(reply.because(FailureCode::P8)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
