//! Refuses request bodies that are too long, with 413: at once if the length is announced, else as
//! soon as it is passed.
//!
//! ```yaml
//! kind: body-limit
//! options:
//!   max: 10MiB
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gateway_core::RequestCtx;
use gateway_core::config::Size;
use gateway_core::plugin::{
    AttemptHook, BuildEnv, BuildError, Class, Flow, HookError, Hooks, Plugin, Reply,
    RequestBodyHook, RequestHeader, RequestHook,
};
use gateway_core::telemetry::FailureCode;
use http::{StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The longest body that may pass. 0 lets only requests without a body pass.
    max: Size,
}

/// Refuses request bodies that are too long.
pub struct BodyLimit {
    max: u64,
}

/// How much of a request's body has passed, by plugin: there may be several with limits of their
/// own.
#[derive(Default)]
struct Passed(Vec<(usize, u64)>);

impl Plugin for BodyLimit {
    const KIND: &'static str = "body-limit";
    const CLASS: Class = Class::Security;
    type Config = Config;

    fn build(config: Config, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        Ok(Self { max: config.max.0 })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request(self.clone()).attempt(self.clone()).request_body(self);
    }
}

impl BodyLimit {
    /// How much has passed this plugin.
    fn passed<'a>(&self, ctx: &'a mut RequestCtx) -> &'a mut u64 {
        if ctx.get::<Passed>().is_none() {
            ctx.insert(Passed::default());
        }
        let Passed(all) = ctx.get_mut::<Passed>().expect("it was just put there");
        let own = std::ptr::from_ref(self).addr();
        let place = all.iter().position(|(plugin, _)| *plugin == own).unwrap_or_else(|| {
            all.push((own, 0));
            all.len() - 1
        });
        &mut all[place].1
    }

    /// What is announced of the body.
    fn announced(&self, head: &RequestHeader) -> Flow {
        let announced = head.headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse().ok());
        self.check(announced.unwrap_or(0))
    }

    fn check(&self, length: u64) -> Flow {
        if length <= self.max {
            return Flow::Continue;
        }
        let detail = format!("the request's body is longer than {} bytes", self.max);
        let reply = Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, &detail);
        Flow::Respond(reply.because(FailureCode::P8))
    }
}

#[async_trait]
impl RequestHook for BodyLimit {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        _: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        Ok(self.announced(head))
    }

    fn foresee(&self, head: &RequestHeader, _: &RequestCtx) -> Option<Flow> {
        Some(self.announced(head))
    }
}

#[async_trait]
impl AttemptHook for BodyLimit {
    async fn on_attempt(
        &self,
        _: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        // What an earlier attempt had sent of the body comes again.
        *self.passed(ctx) = 0;
        Ok(())
    }
}

#[async_trait]
impl RequestBodyHook for BodyLimit {
    async fn on_request_body(
        &self,
        chunk: &mut Option<Bytes>,
        _last: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let passed = self.passed(ctx);
        *passed = passed.saturating_add(length);
        let passed = *passed;
        Ok(self.check(passed))
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::plugin::testing::PluginTest;

    use super::*;

    #[tokio::test]
    async fn a_body_up_to_the_limit_passes() {
        let test = PluginTest::<BodyLimit>::yaml("{max: 10}");

        let outcome = test.post("/").body(["12345", "67890"]).send().await;

        assert_eq!(outcome.status(), 200);
        assert_eq!(outcome.upstream_body(), b"1234567890");
    }

    #[tokio::test]
    async fn an_announced_length_is_refused_before_anything_is_sent() {
        let test = PluginTest::<BodyLimit>::yaml("{max: 10}");

        let outcome = test.post("/").header("content-length", "11").send().await;

        assert_eq!((outcome.status(), outcome.failure()), (413, Some(FailureCode::P8)));
        assert!(!outcome.reached_upstream());
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_cut_off_where_it_passes_the_limit() {
        let test = PluginTest::<BodyLimit>::yaml("{max: 10}");

        let outcome = test.post("/").body(["12345", "67890", "!"]).send().await;

        assert_eq!(outcome.status(), 413);
        assert_eq!(outcome.upstream_body(), b"1234567890");
    }

    #[test]
    fn a_limit_that_is_no_size_is_refused_with_its_place() {
        let faults = PluginTest::<BodyLimit>::faults("{max: much}");

        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("plugins[0].options.max: "), "{faults:?}");
    }
}
