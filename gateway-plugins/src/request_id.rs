//! Gives each request an identifier: accepts the client's, makes one if there is none, sends it up
//! and back, and lets logs carry it.
//!
//! ```yaml
//! kind: request-id
//! options:
//!   header: x-request-id   # where it is read from and written to
//!   accept: true           # false: always make a new one
//!   echo: true             # false: do not send it back
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::RequestCtx;
use gateway_core::plugin::{
    BuildEnv, BuildError, Class, Flow, HookError, Hooks, OptionPath, Plugin, RequestHeader,
    RequestHook, ResponseHeader, ResponseHook,
};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

/// The longest identifier accepted from a client, in bytes.
const LONGEST: usize = 128;

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The field the identifier is read from and written to.
    header: String,
    /// Whether a client's own identifier is kept. It must be 1 to 128 visible ASCII characters;
    /// any other is replaced.
    accept: bool,
    /// Whether the response carries the identifier.
    echo: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { header: "x-request-id".to_owned(), accept: true, echo: true }
    }
}

/// Gives each request an identifier.
pub struct RequestId {
    header: HeaderName,
    accept: bool,
    echo: bool,
}

impl Plugin for RequestId {
    const KIND: &'static str = "request-id";
    const CLASS: Class = Class::Transform;
    type Config = Config;

    fn build(config: Config, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        let header = HeaderName::try_from(&config.header).map_err(|_| {
            let message = format!("`{}` is not a field name", config.header);
            BuildError::at(OptionPath::root().key("header"), message)
        })?;
        Ok(Self { header, accept: config.accept, echo: config.echo })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request(self.clone()).changes_fields([self.header.clone()]);
        if self.echo {
            hooks.response(self);
        }
    }
}

#[async_trait]
impl RequestHook for RequestId {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let given = head.headers.get(&self.header).filter(|_| self.accept);
        if let Some(given) = given.filter(|given| is_acceptable(given.as_bytes())) {
            ctx.set_request_id(given.to_str()?);
            // Several of them would leave it open which one counts.
            let given = given.clone();
            head.insert_header(self.header.clone(), given)?;
            return Ok(Flow::Continue);
        }
        let mut buffer = uuid::Uuid::encode_buffer();
        let made = uuid::Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
        ctx.set_request_id(made);
        head.insert_header(self.header.clone(), HeaderValue::from_str(made)?)?;
        Ok(Flow::Continue)
    }

    fn foresee(&self, _: &RequestHeader, _: &RequestCtx) -> Option<Flow> {
        Some(Flow::Continue)
    }
}

#[async_trait]
impl ResponseHook for RequestId {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        _: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        if let Some(id) = ctx.request_id() {
            response.insert_header(self.header.clone(), HeaderValue::from_str(id)?)?;
        }
        Ok(())
    }
}

fn is_acceptable(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use gateway_core::plugin::testing::PluginTest;

    use super::*;

    #[tokio::test]
    async fn a_missing_identifier_is_made_sent_up_and_sent_back() {
        let test = PluginTest::<RequestId>::yaml("{}");

        let outcome = test.get("/").send().await;

        let made = outcome.upstream_saw("x-request-id").unwrap();
        assert_eq!(made.len(), 36);
        assert_eq!(outcome.header("x-request-id"), Some(made));
    }

    #[tokio::test]
    async fn two_requests_get_two_identifiers() {
        let test = PluginTest::<RequestId>::yaml("{}");

        let (first, second) = (test.get("/").send().await, test.get("/").send().await);

        assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    }

    #[tokio::test]
    async fn a_clients_identifier_is_kept_if_it_is_short_and_visible() {
        let test = PluginTest::<RequestId>::yaml("{}");
        let long = "x".repeat(129);
        for (given, kept) in [("abc-123", true), (long.as_str(), false), ("a b", false)] {
            let outcome = test.get("/").header("x-request-id", given).send().await;

            assert_eq!(outcome.header("x-request-id").as_deref() == Some(given), kept, "{given}");
        }
    }

    #[tokio::test]
    async fn options_choose_the_field_and_what_is_done_with_it() {
        let test = PluginTest::<RequestId>::yaml("{header: x-id, accept: false, echo: false}");

        let outcome = test.get("/").header("x-id", "mine").send().await;

        assert_ne!(outcome.upstream_saw("x-id").as_deref(), Some("mine"));
        assert_eq!(outcome.header("x-id"), None);
    }

    #[test]
    fn a_field_name_that_is_none_is_refused_with_its_place() {
        let faults = PluginTest::<RequestId>::faults("{header: 'a b'}");

        assert_eq!(faults, ["plugins[0].options.header: `a b` is not a field name"]);
    }
}
