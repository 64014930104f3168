//! THE CONTRACT: what a plugin is, the phases it can take part in, and how chains are made of them.
//!
//! A plugin pays only for the phases it hooks into. It sees header types and [`RequestCtx`], never
//! a connection, so that it can be driven without a socket ([`testing`]).

mod attribute;
mod build;
mod chain;
mod condition;
mod contain;
mod fact;
mod hooks;
mod registry;
mod reply;
mod template;
pub mod testing;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use attribute::{Attribute, AttributeError, Facts, Kind, Moment, PublishedNames, Value};
pub use build::{BuildEnv, BuildError, OptionPath};
pub use chain::{Chain, Level, Mounted};
pub use condition::{Condition, ConditionError, EvalError};
pub use fact::{Fact, FactSet};
pub use hooks::{
    AttemptHook, BodyMode, Flow, HookError, Hooks, LogHook, RequestBodyHook, RequestHook,
    ResponseBodyHook, ResponseHook,
};
pub use registry::{Registry, Spec};
pub use reply::Reply;
pub use template::{Escape, Template, TemplateError};

pub use pingora_http::{RequestHeader, ResponseHeader};

/// What kind of promise a plugin makes. It decides what a failure inside it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Keeps requests out. A failure refuses the request; it is never skipped.
    Security,
    /// Shapes load. A failure refuses, unless `on_error: skip`.
    Traffic,
    /// Changes messages. A failure refuses, unless `on_error: skip`.
    Transform,
    /// Only watches. A failure is skipped, unless `on_error: refuse`.
    Observe,
}

/// A configured unit of behaviour.
pub trait Plugin: Send + Sync + Sized + 'static {
    /// The name used in configuration, kebab-case.
    const KIND: &'static str;
    /// What kind of promise it makes.
    const CLASS: Class;
    /// The attributes it publishes: full names, or a namespace such as `jwt.*`.
    const ATTRIBUTES: &'static [&'static str] = &[];
    /// What operators write: unknown fields refused, defaults in one place.
    type Config: DeserializeOwned + JsonSchema;

    /// Compiles options, or explains every fault in them, each with its path.
    ///
    /// Runs for `gateway check` too, so it opens no socket; what must run goes to
    /// [`BuildEnv::background`].
    fn build(config: Self::Config, env: &BuildEnv<'_>) -> Result<Self, BuildError>;

    /// Hooks the plugin into the phases it takes part in.
    fn attach(self: Arc<Self>, hooks: &mut Hooks);
}
