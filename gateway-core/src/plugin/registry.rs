//! The kinds of plugin a gateway knows: an explicit list, no global.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::Schema;
use serde_yaml::Value;

use super::{BuildEnv, BuildError, Class, Hooks, OptionPath, Plugin, PublishedNames};
use crate::config::PluginSchemas;

type Build = fn(Value, &BuildEnv<'_>) -> Result<Hooks, BuildError>;

/// One kind of plugin, its type erased.
#[derive(Clone)]
pub struct Spec {
    /// The name used in configuration.
    pub kind: &'static str,
    /// What its failures mean.
    pub class: Class,
    /// The attributes it publishes.
    pub attributes: &'static [&'static str],
    schema: fn() -> Schema,
    build: Build,
}

impl Spec {
    /// The entry for plugin `P`.
    pub fn of<P: Plugin>() -> Self {
        Self {
            kind: P::KIND,
            class: P::CLASS,
            attributes: P::ATTRIBUTES,
            schema: || schemars::schema_for!(P::Config),
            build: |options, env| {
                let options = match options {
                    Value::Null => Value::Mapping(serde_yaml::Mapping::new()),
                    given => given,
                };
                let config = serde_path_to_error::deserialize(options).map_err(|error| {
                    BuildError::at(OptionPath::from(error.path()), error.inner().to_string())
                })?;
                let mut hooks = Hooks::default();
                Arc::new(P::build(config, env)?).attach(&mut hooks);
                Ok(hooks)
            },
        }
    }

    /// The JSON Schema of this kind's options.
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }

    pub(crate) fn build(&self, options: Value, env: &BuildEnv<'_>) -> Result<Hooks, BuildError> {
        (self.build)(options, env)
    }
}

/// The kinds of plugin that a config may name.
#[derive(Clone, Default)]
pub struct Registry {
    specs: BTreeMap<&'static str, Spec>,
}

impl Registry {
    /// Adds a kind; a later one of the same name takes the place of the earlier.
    pub fn add(&mut self, spec: Spec) -> &mut Self {
        self.specs.insert(spec.kind, spec);
        self
    }

    /// The kind of this name.
    pub fn get(&self, kind: &str) -> Option<&Spec> {
        self.specs.get(kind)
    }

    /// All kinds in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Spec> {
        self.specs.values()
    }

    /// The attributes that the registered kinds publish.
    pub fn published(&self) -> PublishedNames {
        PublishedNames::new(self.iter().flat_map(|spec| spec.attributes.iter().copied()))
    }
}

impl PluginSchemas for Registry {
    fn kinds(&self) -> Vec<&'static str> {
        self.specs.keys().copied().collect()
    }

    fn options_schema(&self, kind: &str) -> Option<Schema> {
        self.get(kind).map(Spec::schema)
    }
}
