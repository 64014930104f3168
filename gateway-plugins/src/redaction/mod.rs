//! Takes secrets out of what passes: fields, queries and bodies, by the names they stand under and by what they look
//! like.
//!
//! ```yaml
//! kind: redaction
//! options:
//!   surfaces: [response_body]
//!   keys:
//!     - {names: [ssn], action: remove}
//!     - {paths: [customer.iban], action: {keep_last: 4}}
//!   patterns:
//!     - {regex: "EMP-[0-9]{6}"}
//! ```
//!
//! JSON, forms and text are gone through as they pass; a secret that is cut into chunks is found. What cannot be read does
//! not pass: a request is answered 400, or 415 for its coding, and an answer is cut. Bodies of other types are left alone.
//! What is undone of a coding is bounded: what is far more than it looks does not pass.
//! Logs are redacted by default rules of their own, and by `redaction` beside `plugins`, whatever is said here.

mod body;
mod form;
mod json;
mod options;
mod rules;
mod text;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gateway_core::RequestCtx;
use gateway_core::plugin::{
    AttemptHook, BuildEnv, BuildError, Class, Flow, HookError, Hooks, Plugin, Reply,
    RequestBodyHook, RequestHeader, RequestHook, ResponseBodyHook, ResponseHeader, ResponseHook,
};
use gateway_core::telemetry::FailureCode;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HOST, IF_RANGE, RANGE,
    TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

use crate::coding::GoesUpPlain;
use body::Body;
pub use options::Config;
use rules::{Action, Rules};

/// Takes secrets out of what passes.
pub struct Redaction {
    rules: Rules,
    surfaces: Surfaces,
    except: Box<[HeaderName]>,
    /// Whether bodies that are coded are decoded.
    decodes: bool,
}

/// Where secrets are looked for.
struct Surfaces {
    request_headers: bool,
    query: bool,
    request_body: bool,
    response_headers: bool,
    response_body: bool,
}

/// What is in a text cannot be told, so it does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Unreadable {
    #[error("the body cannot be read: {0}")]
    Because(&'static str),
    #[error("the body cannot be read: {0}")]
    Coded(#[from] crate::coding::Fault),
}

/// The bodies of a request and its answer, by plugin: there may be several with rules of their own.
#[derive(Default)]
struct Bodies(Vec<(usize, Way, Result<Body, Unreadable>)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Plugin for Redaction {
    const KIND: &'static str = "redaction";
    const CLASS: Class = Class::Security;
    type Config = Config;

    fn build(config: Config, env: &BuildEnv<'_>) -> Result<Self, BuildError> {
        config.compile(env)
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        let surfaces = &self.surfaces;
        if surfaces.request_headers
            || surfaces.query
            || surfaces.request_body
            || surfaces.response_body
        {
            hooks.request(self.clone());
        }
        if surfaces.request_body {
            hooks.request_body(self.clone()).attempt(self.clone());
        }
        if surfaces.response_headers || surfaces.response_body {
            hooks.response(self.clone());
        }
        if surfaces.response_body {
            hooks.response_body(self);
        }
    }
}

impl Redaction {
    /// Notes what becomes of a body; in place of what was noted before, for it comes from the beginning again.
    fn note(&self, way: Way, body: Option<Result<Body, Unreadable>>, ctx: &mut RequestCtx) {
        if ctx.get::<Bodies>().is_none() {
            ctx.insert(Bodies::default());
        }
        let own = std::ptr::from_ref(self).addr();
        let Some(Bodies(all)) = ctx.get_mut::<Bodies>() else { return };
        all.retain(|(plugin, held, _)| (*plugin, *held) != (own, way));
        all.extend(body.map(|body| (own, way, body)));
    }

    /// What of a chunk may pass. Nothing is held for a body that is left alone.
    fn pass(
        &self,
        way: Way,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<(), Unreadable> {
        let own = std::ptr::from_ref(self).addr();
        let Some(Bodies(all)) = ctx.get_mut::<Bodies>() else { return Ok(()) };
        let held = all.iter_mut().find(|(plugin, held, _)| (*plugin, *held) == (own, way));
        let Some((_, _, body)) = held else { return Ok(()) };
        let text = chunk.take().unwrap_or_default();
        let outcome = match body {
            Ok(body) => body.push(&self.rules, &text, last),
            Err(fault) => Err(*fault),
        };
        match outcome {
            Ok(clean) => {
                *chunk = Some(clean);
                Ok(())
            }
            Err(fault) => {
                // Nothing of it passes any more.
                *body = Err(fault);
                *chunk = Some(Bytes::new());
                Err(fault)
            }
        }
    }

    /// What is to be set in place of a field; `None` if it has no secret, `Some(None)` to remove it.
    fn field(&self, name: &HeaderName, value: &HeaderValue) -> Option<Option<Vec<u8>>> {
        if self.is_excepted(name) {
            return None;
        }
        let value = value.as_bytes();
        match self.rules.key(name.as_str().as_bytes()).filter(|_| !value.is_empty()) {
            Some(Action::Remove) => Some(None),
            Some(action) => {
                let mut hidden = Vec::new();
                self.rules.write(action, value, &mut hidden);
                Some(Some(hidden))
            }
            None => self.rules.clean(value).map(Some),
        }
    }

    /// All values of the fields that have a secret, with what stands in place of it.
    fn fields(&self, fields: &HeaderMap) -> Vec<(HeaderName, Vec<HeaderValue>)> {
        // Hardly ever has one any, so looking comes before anything is made of it.
        let has = |(name, value)| self.field(name, value).is_some().then_some(name);
        let mut names: Vec<&HeaderName> = fields.iter().filter_map(has).collect();
        names.dedup();
        let all = names.into_iter().map(|name| {
            let values =
                fields.get_all(name).iter().filter_map(|value| match self.field(name, value) {
                    None => Some(value.clone()),
                    Some(clean) => HeaderValue::from_bytes(&clean?).ok(),
                });
            (name.clone(), values.collect())
        });
        all.collect()
    }

    fn is_excepted(&self, name: &HeaderName) -> bool {
        [HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) || self.except.contains(name)
    }
}

/// The secrets' places in a head, replaced.
macro_rules! replace_fields {
    ($plugin:expr, $head:expr) => {
        for (name, values) in $plugin.fields(&$head.headers) {
            $head.remove_header(&name);
            for value in values {
                $head.append_header(name.clone(), value)?;
            }
        }
    };
}

#[async_trait]
impl RequestHook for Redaction {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        if self.surfaces.request_headers {
            replace_fields!(self, head);
        }
        if self.surfaces.query
            && let Some(query) = head.uri.query().and_then(|query| form::query(&self.rules, query))
        {
            let path = head.uri.path();
            let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
            let mut parts = head.uri.clone().into_parts();
            parts.path_and_query = Some(PathAndQuery::try_from(target)?);
            head.set_uri(Uri::from_parts(parts)?);
        }
        if self.surfaces.response_body {
            // Nothing that could not be read, and all of it.
            if head.headers.contains_key(ACCEPT_ENCODING) {
                let codings = if self.decodes { "gzip, br, zstd" } else { "identity" };
                head.insert_header(ACCEPT_ENCODING, codings)?;
            }
            head.remove_header(&RANGE);
            head.remove_header(&IF_RANGE);
        }
        let decodes = self.decodes || ctx.get::<GoesUpPlain>().is_some();
        if self.surfaces.request_body
            && let Err(fault) = Body::of(&head.headers, decodes)
        {
            let reply = Reply::problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, &fault.to_string());
            return Ok(Flow::Respond(reply.because(FailureCode::P8)));
        }
        Ok(Flow::Continue)
    }

    fn foresee(&self, _: &RequestHeader, _: &RequestCtx) -> Option<Flow> {
        (!self.surfaces.request_body).then_some(Flow::Continue)
    }
}

#[async_trait]
impl AttemptHook for Redaction {
    async fn on_attempt(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        // The same again for each attempt, for which the body comes again.
        let body = Body::of(&head.headers, self.decodes).transpose();
        if body.as_ref().is_some_and(|body| body.as_ref().is_ok_and(Body::is_decoded)) {
            head.remove_header(&CONTENT_ENCODING);
        }
        self.note(Way::Up, body, ctx);
        Ok(())
    }
}

#[async_trait]
impl RequestBodyHook for Redaction {
    fn keeps_length(&self, _: &RequestCtx) -> bool {
        false
    }

    async fn on_request_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        Ok(match self.pass(Way::Up, chunk, last, ctx) {
            Ok(()) => Flow::Continue,
            Err(fault) => {
                let reply = Reply::problem(StatusCode::BAD_REQUEST, &fault.to_string());
                Flow::Respond(reply.because(FailureCode::P8).closing())
            }
        })
    }
}

#[async_trait]
impl ResponseHook for Redaction {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        _: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        if self.surfaces.response_headers {
            replace_fields!(self, response);
        }
        if self.surfaces.response_body {
            let body = Body::of(&response.headers, self.decodes).transpose();
            if body.as_ref().is_some_and(|body| body.as_ref().is_ok_and(Body::is_decoded)) {
                response.remove_header(&CONTENT_ENCODING);
            }
            if body.is_some() {
                // It is another body by now, or may be.
                response.remove_header(&ETAG);
                response.remove_header(&ACCEPT_RANGES);
                response.remove_header("content-md5");
                response.remove_header("digest");
                response.remove_header("content-digest");
            }
            self.note(Way::Down, body, ctx);
        }
        Ok(())
    }
}

impl ResponseBodyHook for Redaction {
    fn keeps_length(&self, ctx: &RequestCtx) -> bool {
        let own = std::ptr::from_ref(self).addr();
        let bodies = ctx.get::<Bodies>();
        bodies.is_none_or(|Bodies(all)| {
            !all.iter().any(|(plugin, way, _)| (*plugin, *way) == (own, Way::Down))
        })
    }

    fn on_response_body(
        &self,
        chunk: &mut Option<Bytes>,
        last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        self.pass(Way::Down, chunk, last, ctx)?;
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests;
