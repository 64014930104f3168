//! Lists of plugins, built and laid over each other.

use std::sync::Arc;

use super::Compile;
use crate::config::{ConfigPath, OnError, PluginConfig};
use crate::plugin::{BuildEnv, Class, Condition, Level, Mounted};

impl Compile<'_> {
    /// Builds the plugins of one list.
    pub(super) fn mount(
        &mut self,
        plugins: &[PluginConfig],
        level: Level,
        list: &ConfigPath,
        scope: &str,
    ) -> Vec<Arc<Mounted>> {
        let mut mounted = Vec::with_capacity(plugins.len());
        for (index, plugin) in plugins.iter().enumerate() {
            let path = list.clone().index(index);
            if let Some(built) = self.build(plugin, level, &path, scope) {
                mounted.push(Arc::new(built));
            }
        }
        mounted
    }

    pub(super) fn build(
        &mut self,
        plugin: &PluginConfig,
        level: Level,
        path: &ConfigPath,
        scope: &str,
    ) -> Option<Mounted> {
        let Some(spec) = self.with.registry.get(&plugin.kind) else {
            let message = format!("no plugin of kind `{}` is known", plugin.kind);
            self.fault(&path.clone().key("kind"), message);
            return None;
        };
        let name = plugin.name.as_deref().unwrap_or(spec.kind);
        let when = plugin.when.as_deref().map(|source| {
            Condition::parse(source, &self.published, false).map_err(|error| error.to_string())
        });
        let when = match when.transpose() {
            Ok(when) => when,
            Err(message) => {
                self.fault(&path.clone().key("when"), message);
                None
            }
        };
        if spec.class == Class::Security && plugin.on_error == Some(OnError::Skip) {
            let message = format!("`{}` protects; it cannot be skipped when it fails", spec.kind);
            self.fault(&path.clone().key("on_error"), message);
        }
        let default = if spec.class == Class::Observe { OnError::Skip } else { OnError::Refuse };
        let metrics = self.with.metrics.plugin(name);
        let env = BuildEnv::new(
            name,
            scope,
            self.with.store,
            &self.published,
            &self.consumers,
            &self.config.redaction,
            metrics.clone(),
        );
        let built = spec.build(plugin.options.clone(), &env);
        let (tasks, concealed) = env.into_parts();
        self.concealed.extend(concealed);
        match built {
            Ok(hooks) => {
                self.tasks.extend(tasks);
                Some(Mounted {
                    name: name.into(),
                    kind: spec.kind,
                    class: spec.class,
                    level,
                    scope: scope.into(),
                    on_error: plugin.on_error.unwrap_or(default),
                    when,
                    hooks,
                    metrics,
                })
            }
            Err(error) => {
                for (inner, message) in error.faults {
                    self.fault(&path.clone().key("options").join(&inner), message);
                }
                None
            }
        }
    }

    /// Lays one list of plugins over an outer one: `disable` removes, the same name replaces in
    /// place, the rest follows in the order of listing.
    pub(super) fn layer(
        &mut self,
        outer: &[Arc<Mounted>],
        own: &[Arc<Mounted>],
        disable: &[String],
        path: &ConfigPath,
    ) -> Vec<Arc<Mounted>> {
        let kept = |plugin: &&Arc<Mounted>| !disable.iter().any(|name| **name == *plugin.name);
        let mut plugins: Vec<Arc<Mounted>> = outer.iter().filter(kept).cloned().collect();
        for plugin in own {
            match plugins.iter_mut().find(|held| held.name == plugin.name) {
                Some(held) if held.kind != plugin.kind => {
                    let message = format!(
                        "the plugin `{}` is of kind `{}` here and of kind `{}` further out; give one of them another name",
                        plugin.name, plugin.kind, held.kind
                    );
                    self.fault(path, message);
                }
                Some(held) => *held = plugin.clone(),
                None => plugins.push(plugin.clone()),
            }
        }
        plugins
    }
}
