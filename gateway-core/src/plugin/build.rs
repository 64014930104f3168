//! What a plugin is given when it is built, and how it explains what is wrong with its options.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use regex::bytes::Regex;

use super::TemplateError;
use super::{Attribute, AttributeError, Condition, ConditionError, PublishedNames, Template};
use crate::carried::Carried;
use crate::config::{RedactionConfig, Secret, SecretConfig, environment};
use crate::consumer::Consumers;
use crate::snapshot::Store;
use crate::telemetry::PluginMetrics;
use crate::telemetry::redaction::patterns_of;

/// A place inside a plugin's options, such as `set[2].value`; empty for the options as a whole.
pub type OptionPath = crate::config::ConfigPath;

/// Every fault found in a plugin's options.
#[derive(Debug, Default)]
pub struct BuildError {
    pub(crate) faults: Vec<(OptionPath, String)>,
}

impl BuildError {
    /// No fault yet.
    pub fn none() -> Self {
        Self::default()
    }

    /// One fault at `path`.
    pub fn at(path: OptionPath, message: impl Into<String>) -> Self {
        Self { faults: vec![(path, message.into())] }
    }

    /// Adds a fault and goes on looking.
    pub fn push(&mut self, path: OptionPath, message: impl Into<String>) {
        self.faults.push((path, message.into()));
    }

    /// The value if no fault was found, else all of them.
    pub fn or<T>(self, value: impl FnOnce() -> T) -> Result<T, Self> {
        if self.faults.is_empty() { Ok(value()) } else { Err(self) }
    }

    /// The messages, each with its path.
    pub fn messages(&self) -> impl Iterator<Item = (String, &str)> {
        self.faults.iter().map(|(path, message)| (path.to_string(), message.as_str()))
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (path, message)) in self.messages().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{path}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}

/// A task that runs while a snapshot uses the plugin that asked for it.
pub(crate) type Background = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a plugin may use while it is built.
pub struct BuildEnv<'a> {
    /// The plugin's name: its kind, unless the config sets another.
    pub name: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) store: &'a Store,
    pub(crate) published: &'a PublishedNames,
    pub(crate) consumers: &'a Arc<Consumers>,
    pub(crate) redaction: &'a RedactionConfig,
    pub(crate) metrics: Arc<PluginMetrics>,
    pub(crate) tasks: Mutex<Vec<Background>>,
    pub(crate) concealed: Mutex<Vec<String>>,
}

impl<'a> BuildEnv<'a> {
    pub(crate) fn new(
        name: &'a str,
        scope: &'a str,
        store: &'a Store,
        published: &'a PublishedNames,
        consumers: &'a Arc<Consumers>,
        redaction: &'a RedactionConfig,
        metrics: Arc<PluginMetrics>,
    ) -> Self {
        let (tasks, concealed) = (Mutex::default(), Mutex::default());
        Self { name, scope, store, published, consumers, redaction, metrics, tasks, concealed }
    }

    /// State that outlives a reload while `key` and `digest` stay the same. `key` is unique within
    /// the plugin's own place in the config; `digest` covers the options that shape the state.
    pub fn state<T>(&self, key: &str, digest: &str, new: impl FnOnce() -> T) -> Arc<T>
    where
        T: Any + Send + Sync,
    {
        self.store.get(&format!("{}/{}/{key}", self.scope, self.name), digest, new)
    }

    /// As [`state`](Self::state), of state that an upgrade hands on to the process that follows, where key and digest
    /// are the same there.
    pub fn carried_state<T>(&self, key: &str, digest: &str, new: impl FnOnce() -> T) -> Arc<T>
    where
        T: Any + Carried,
    {
        let key = format!("{}/{}/{key}", self.scope, self.name);
        self.store.get_carried(&key, digest, digest, new)
    }

    /// Runs `task` from the moment a snapshot with this plugin is installed until the last request
    /// of the last such snapshot is over. Nothing runs when a config is only checked.
    pub fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tasks.push(Box::pin(task));
    }

    /// Where the plugin is listed: empty for all routes, else the listener or route.
    pub fn scope(&self) -> &'a str {
        self.scope
    }

    /// From the moment a snapshot with this plugin is installed, hides from the access log what stands under this
    /// name in queries: a credential that is not called like one.
    pub fn conceal(&self, name: &str) {
        let mut names = self.concealed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        names.push(name.to_owned());
    }

    /// The plugin's own metrics, for what the gateway cannot count by itself.
    pub fn metrics(&self) -> Arc<PluginMetrics> {
        self.metrics.clone()
    }

    /// The callers that the config knows by name.
    pub fn consumers(&self) -> Arc<Consumers> {
        self.consumers.clone()
    }

    /// What the config says is secret besides the default rules: names, and patterns.
    pub fn secrets_besides(&self) -> (&'a [String], Vec<Regex>) {
        (&self.redaction.keys, patterns_of(self.redaction))
    }

    /// Fetches a secret of the options.
    ///
    /// # Errors
    /// Says which variable is not set, or which file could not be read and why.
    pub fn secret(&self, secret: &SecretConfig) -> Result<Secret, String> {
        secret.resolve(&environment)
    }

    /// Resolves an attribute's name.
    ///
    /// # Errors
    /// The name is not known; the message offers the nearest one.
    pub fn attribute(&self, name: &str) -> Result<Attribute, AttributeError> {
        Attribute::parse(name, self.published)
    }

    /// Compiles a condition over the request's attributes.
    ///
    /// # Errors
    /// It is not a condition, or it names an attribute that does not exist.
    pub fn condition(&self, source: &str) -> Result<Condition, ConditionError> {
        Condition::parse(source, self.published, false)
    }

    /// Compiles a text with attributes in braces; `response` allows those of the response.
    ///
    /// # Errors
    /// A brace is not closed, or an attribute does not exist.
    pub fn template(&self, source: &str, response: bool) -> Result<Template, TemplateError> {
        Template::parse(source, self.published, response)
    }

    /// The tasks, and the names that are concealed.
    pub(crate) fn into_parts(self) -> (Vec<Background>, Vec<String>) {
        let poisoned = std::sync::PoisonError::into_inner;
        let tasks = self.tasks.into_inner().unwrap_or_else(poisoned);
        (tasks, self.concealed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
