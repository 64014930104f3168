//! Sets, adds and removes fields of requests and responses, with values from attributes.
//!
//! ```yaml
//! kind: headers
//! options:
//!   request:
//!     set: {x-client: "{client.ip}", x-tenant: "{request.query.tenant}"}
//!     add: {x-tag: gateway}
//!     remove: [x-internal]
//!   response:
//!     set: {x-route: "{route.name}"}
//!     remove: [server]
//! ```
//!
//! In each direction first `remove`, then `set`, then `add`. A literal brace is written twice. An
//! attribute that the request does not have leaves nothing in its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::RequestCtx;
use gateway_core::plugin::{
    BuildEnv, BuildError, Class, Facts, Flow, HookError, Hooks, OptionPath, Plugin, RequestHeader,
    RequestHook, ResponseHeader, ResponseHook, Template,
};
use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::Deserialize;

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What happens to the request on its way up.
    #[serde(default)]
    request: Rules,
    /// What happens to the response on its way down, ours or the upstream's.
    #[serde(default)]
    response: Rules,
}

/// What happens to the fields of one direction.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Rules {
    /// Fields that get this value in place of any they have.
    set: BTreeMap<String, String>,
    /// Fields that get this value beside those they have.
    add: BTreeMap<String, String>,
    /// Fields that are removed.
    remove: Vec<String>,
}

/// Fields that frame a message or belong to one connection; they are not an operator's to change.
const RESERVED: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Sets, adds and removes fields.
pub struct Headers {
    request: Edits,
    response: Edits,
}

/// The rules of one direction, compiled.
struct Edits {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, Template)]>,
    add: Box<[(HeaderName, Template)]>,
}

impl Plugin for Headers {
    const KIND: &'static str = "headers";
    const CLASS: Class = Class::Transform;
    type Config = Config;

    fn build(config: Config, env: &BuildEnv<'_>) -> Result<Self, BuildError> {
        let mut error = BuildError::none();
        let request = Edits::build(&config.request, "request", env, &mut error);
        let response = Edits::build(&config.response, "response", env, &mut error);
        error.or(|| Self { request, response })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        if !self.request.is_empty() {
            hooks.request(self.clone()).changes_fields(self.request.fields().cloned());
        }
        if !self.response.is_empty() {
            hooks.response(self);
        }
    }
}

impl Edits {
    fn build(rules: &Rules, part: &str, env: &BuildEnv<'_>, error: &mut BuildError) -> Self {
        let path = OptionPath::root().key(part);
        let of_response = part == "response";
        let mut values = |rules: &BTreeMap<String, String>, key: &str| {
            let mut compiled = Vec::with_capacity(rules.len());
            for (field, value) in rules {
                let path = path.clone().key(key).key(field);
                let template = env.template(value, of_response).map_err(|fault| fault.to_string());
                match (name(field), template) {
                    (Ok(name), Ok(template)) => compiled.push((name, template)),
                    (Err(message), Ok(_)) | (Ok(_), Err(message)) => error.push(path, message),
                    (Err(first), Err(second)) => {
                        error.push(path.clone(), first);
                        error.push(path, second);
                    }
                }
            }
            compiled.into_boxed_slice()
        };
        let (set, add) = (values(&rules.set, "set"), values(&rules.add, "add"));
        let mut remove = Vec::with_capacity(rules.remove.len());
        for (index, field) in rules.remove.iter().enumerate() {
            match name(field) {
                Ok(name) => remove.push(name),
                Err(message) => error.push(path.clone().key("remove").index(index), message),
            }
        }
        Self { remove: remove.into(), set, add }
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// The fields that are other ones then.
    fn fields(&self) -> impl Iterator<Item = &HeaderName> {
        let written = self.set.iter().chain(&self.add).map(|(name, _)| name);
        self.remove.iter().chain(written)
    }

    /// The values that go in, computed before anything is changed.
    fn values(&self, facts: &Facts<'_>) -> Result<Vec<HeaderValue>, HookError> {
        let templates = self.set.iter().chain(&self.add);
        let value = |(_, template): &(HeaderName, Template)| {
            Ok(HeaderValue::from_str(template.render(facts).trim())?)
        };
        templates.map(value).collect()
    }
}

fn name(field: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(field).map_err(|_| format!("`{field}` is not a field name"))?;
    if RESERVED.contains(&name) {
        return Err(format!("`{name}` is the gateway's own to write"));
    }
    Ok(name)
}

#[async_trait]
impl RequestHook for Headers {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let edits = &self.request;
        let values = edits.values(&Facts { request: head, response: None, ctx })?;
        let (set, add) = values.split_at(edits.set.len());
        for name in &edits.remove {
            head.remove_header(name);
        }
        for ((name, _), value) in edits.set.iter().zip(set) {
            head.insert_header(name.clone(), value.clone())?;
        }
        for ((name, _), value) in edits.add.iter().zip(add) {
            head.append_header(name.clone(), value.clone())?;
        }
        Ok(Flow::Continue)
    }

    fn foresee(&self, _: &RequestHeader, _: &RequestCtx) -> Option<Flow> {
        Some(Flow::Continue)
    }
}

#[async_trait]
impl ResponseHook for Headers {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        request: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        let edits = &self.response;
        let values = edits.values(&Facts { request, response: Some(response), ctx })?;
        let (set, add) = values.split_at(edits.set.len());
        for name in &edits.remove {
            response.remove_header(name);
        }
        for ((name, _), value) in edits.set.iter().zip(set) {
            response.insert_header(name.clone(), value.clone())?;
        }
        for ((name, _), value) in edits.add.iter().zip(add) {
            response.append_header(name.clone(), value.clone())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::plugin::testing::PluginTest;

    use super::*;

    #[tokio::test]
    async fn request_fields_are_removed_set_and_added_in_that_order() {
        let test = PluginTest::<Headers>::yaml(
            "request: {remove: [x-a], set: {x-b: new}, add: {x-a: back, x-c: more}}",
        );

        let request = test.get("/").header("x-a", "old").header("x-b", "old").header("x-c", "old");
        let outcome = request.send().await;

        assert_eq!(outcome.upstream_saw_all("x-a"), ["back"]);
        assert_eq!(outcome.upstream_saw_all("x-b"), ["new"]);
        assert_eq!(outcome.upstream_saw_all("x-c"), ["old", "more"]);
    }

    #[tokio::test]
    async fn values_are_taken_from_attributes() {
        let test = PluginTest::<Headers>::yaml(
            "request: {set: {x-client: 'ip={client.ip}', x-q: '{request.query.q}', x-none: '[{request.header.nope}]'}}",
        );

        let outcome = test.get("/?q=a%20b").client("192.0.2.1").send().await;

        assert_eq!(outcome.upstream_saw("x-client").as_deref(), Some("ip=192.0.2.1"));
        assert_eq!(outcome.upstream_saw("x-q").as_deref(), Some("a b"));
        assert_eq!(outcome.upstream_saw("x-none").as_deref(), Some("[]"));
    }

    #[tokio::test]
    async fn response_fields_are_changed_too_and_may_use_the_status() {
        let test = PluginTest::<Headers>::yaml(
            "response: {remove: [server], set: {x-status: '{response.status}'}}",
        );

        let outcome = test.get("/").upstream_header("server", "origin").send().await;

        assert_eq!(outcome.header("server"), None);
        assert_eq!(outcome.header("x-status").as_deref(), Some("200"));
    }

    #[test]
    fn every_fault_is_reported_with_its_place() {
        let faults = PluginTest::<Headers>::faults(
            "{request: {set: {'a b': x, host: y}, remove: [content-length]}, response: {add: {x: '{client.pi}'}}}",
        );

        assert_eq!(faults.len(), 4, "{faults:#?}");
        assert!(
            faults.iter().any(|fault| fault.contains("did you mean `client.ip`")),
            "{faults:#?}"
        );
    }
}
