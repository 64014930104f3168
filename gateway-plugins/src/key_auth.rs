//! Lets in who brings an API key of a consumer.
//!
//! ```yaml
//! kind: key-auth
//! options:
//!   from: [{header: x-api-key}]
//! ```
//!
//! The keys are those of `consumers`. From then on the request is the consumer's: in the log, and as `consumer.name`,
//! `consumer.groups` and `consumer.label.NAME`. A request without a key, or with one of nobody, is answered 401 with `P3`.

use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::plugin::{
    BuildEnv, BuildError, Class, Flow, HookError, Hooks, OptionPath, Plugin, RequestHeader,
    RequestHook,
};
use gateway_core::telemetry::{CredentialCheck, FailureCode, PluginMetrics};
use gateway_core::{Consumers, RequestCtx};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::identity::{Challenge, Denial, Found, PlaceConfig, Places};

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where a key may stand; in more than one place at once is a fault of the request. Default: in `x-api-key`.
    #[serde(default = "x_api_key")]
    #[schemars(length(min = 1, max = 16))]
    from: Vec<PlaceConfig>,
    /// Whether the key goes up with the request. Default false: who gets it could use it.
    #[serde(default)]
    forward: bool,
    /// Whether requests without a key pass. A key of nobody is refused nevertheless. Default false.
    #[serde(default)]
    anonymous: bool,
    /// What is named in challenges as what keys are for. Default `gateway`.
    #[serde(default = "gateway")]
    realm: String,
}

fn x_api_key() -> Vec<PlaceConfig> {
    vec![PlaceConfig { header: Some("x-api-key".to_owned()), ..PlaceConfig::default() }]
}

fn gateway() -> String {
    "gateway".to_owned()
}

/// Lets in who brings an API key of a consumer.
pub struct KeyAuth {
    places: Places,
    forward: bool,
    anonymous: bool,
    challenge: Challenge,
    consumers: Arc<Consumers>,
    metrics: Arc<PluginMetrics>,
}

/// A longer key is nobody's.
const LONGEST: usize = 4096;

impl Plugin for KeyAuth {
    const KIND: &'static str = "key-auth";
    const CLASS: Class = Class::Security;
    type Config = Config;

    fn build(config: Config, env: &BuildEnv<'_>) -> Result<Self, BuildError> {
        let mut error = BuildError::none();
        let places = Places::new(&config.from, &OptionPath::root().key("from"), &mut error);
        places.conceal(env);
        let consumers = env.consumers();
        let challenge = match Challenge::new("ApiKey", &config.realm) {
            Ok(challenge) => challenge,
            Err(message) => {
                error.push(OptionPath::root().key("realm"), message);
                return Err(error);
            }
        };
        let Config { forward, anonymous, .. } = config;
        let metrics = env.metrics();
        error.or(|| Self { places, forward, anonymous, challenge, consumers, metrics })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        if !self.anonymous {
            hooks.refuses_strangers();
        }
        hooks.request(self);
    }
}

impl KeyAuth {
    fn refuse(&self, status: StatusCode, outcome: CredentialCheck, detail: &'static str) -> Flow {
        self.metrics.checked_credentials(outcome);
        let denial = Denial { status, code: FailureCode::P3, error: None, detail };
        Flow::Respond(self.challenge.answer(&denial, None))
    }
}

#[async_trait]
impl RequestHook for KeyAuth {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let consumer = match self.places.find(head) {
            Found::Nothing if self.anonymous => {
                self.metrics.checked_credentials(CredentialCheck::Missing);
                return Ok(Flow::Continue);
            }
            Found::Nothing => {
                let (status, outcome) = (StatusCode::UNAUTHORIZED, CredentialCheck::Missing);
                return Ok(self.refuse(status, outcome, "an API key is needed"));
            }
            Found::Several => {
                let (status, outcome) = (StatusCode::BAD_REQUEST, CredentialCheck::Invalid);
                return Ok(self.refuse(status, outcome, "more than one API key"));
            }
            Found::Unreadable => None,
            Found::One(key) if key.len() > LONGEST => None,
            Found::One(key) => self.consumers.by_key(&key).cloned(),
        };
        let Some(consumer) = consumer else {
            let (status, outcome) = (StatusCode::UNAUTHORIZED, CredentialCheck::Invalid);
            return Ok(self.refuse(status, outcome, "the API key is not known"));
        };
        ctx.set_consumer(consumer);
        if !self.forward {
            self.places.clear(head);
        }
        self.metrics.checked_credentials(CredentialCheck::Accepted);
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::plugin::testing::PluginTest;

    use super::*;

    const CONSUMERS: &str =
        "consumers: [{name: app, groups: [gold], keys: [k-1, k-2]}, {name: other, keys: [k-3]}]";

    fn test(options: &str) -> PluginTest<KeyAuth> {
        PluginTest::<KeyAuth>::yaml_beside(CONSUMERS, options)
    }

    #[tokio::test]
    async fn who_brings_a_key_is_known_and_the_key_goes_no_further() {
        let test = test("{from: [{header: x-api-key}, {query: key}]}");
        for (key, name) in [("k-1", "app"), ("k-2", "app"), ("k-3", "other")] {
            let outcome = test.get("/").header("x-api-key", key).send().await;
            assert_eq!((outcome.status(), outcome.upstream_saw("x-api-key")), (200, None));
            assert_eq!(&*outcome.ctx().consumer().unwrap().name, name);
            assert_eq!(test.get(&format!("/?key={key}")).send().await.status(), 200);
        }
        let two = test.get("/?key=k-1").header("x-api-key", "k-1").send().await;
        assert_eq!((two.status(), two.failure()), (400, Some(FailureCode::P3)));
        let kept = PluginTest::<KeyAuth>::yaml_beside(CONSUMERS, "{forward: true}");
        let outcome = kept.get("/").header("x-api-key", "k-1").send().await;
        assert_eq!(outcome.upstream_saw("x-api-key").as_deref(), Some("k-1"));
    }

    #[tokio::test]
    async fn who_brings_none_or_a_wrong_one_is_not_let_in() {
        let (strict, open) = (test("{realm: the api}"), test("{anonymous: true}"));
        let none = strict.get("/").send().await;
        assert_eq!((none.status(), none.failure()), (401, Some(FailureCode::P3)));
        assert_eq!(none.header("www-authenticate").as_deref(), Some("ApiKey realm=\"the api\""));
        let anonymous = open.get("/").send().await;
        assert!(anonymous.status() == 200 && anonymous.ctx().consumer().is_none());
        let long = "k".repeat(5000);
        for key in ["", "k-", "k-11", "K-1", " k-4", "app", long.as_str()] {
            for test in [&strict, &open] {
                let outcome = test.get("/").header("x-api-key", key).send().await;
                assert_eq!((outcome.status(), outcome.reached_upstream()), (401, false), "{key}");
            }
        }
    }

    #[test]
    fn options_that_cannot_be_right_are_refused() {
        let place = PluginTest::<KeyAuth>::faults("{from: [{}]}").join("\n");
        assert!(place.contains("exactly one of"), "{place}");
    }
}
