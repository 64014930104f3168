//! Lists of plugins, built and laid over each other.

use std::collections::HashSet;
use std::sync::Arc;

use super::Compile;
use crate::config::{ConfigPath, OnError, PluginConfig};
use crate::plugin::{Attribute, BuildEnv, Class, Condition, Level, Mounted};
use crate::snapshot::written::written;
use crate::snapshot::{ListenerPlan, Snapshot};

/// Whether a plugin's condition looks at what tells a preflight from other requests: the method, fields, cookies.
fn spares_preflights(plugin: &Mounted) -> bool {
    plugin.when.as_ref().is_some_and(|when| {
        when.attributes().into_iter().any(|attribute| {
            matches!(
                attribute,
                Attribute::RequestMethod
                    | Attribute::RequestHeader(_)
                    | Attribute::RequestCookie(_)
            )
        })
    })
}

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
        if level != Level::Route {
            self.outer.extend(mounted.iter().cloned());
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
        self.warn_of_condition(spec.class, name, when.as_ref(), path);
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

    /// Warns of a condition that never holds, and of one by which clients can do without a protection.
    fn warn_of_condition(
        &mut self,
        class: Class,
        name: &str,
        when: Option<&Condition>,
        path: &ConfigPath,
    ) {
        let Some(when) = when else { return };
        let at = path.clone().key("when");
        if when.is_never() {
            let message = format!("`{name}` acts on no request: its condition never holds");
            self.warnings.push(self.document.fault(&at, message));
        }
        let chosen =
            |attribute: &Attribute| attribute.is_free() || *attribute == Attribute::TlsServerName;
        let free = when.attributes().into_iter().find(|attribute| chosen(attribute));
        if let Some(free) = free.filter(|_| class == Class::Security) {
            let message = format!(
                "`{name}` protects, and a client can do without it: whether it acts depends on `{free}`, which \
                 the client chooses; let it depend on the path, the method or the client, or write a route of its own"
            );
            self.warnings.push(self.document.fault(&at, message));
        }
    }

    /// Warns of chains in which a preflight is refused before it is answered, and of plugins that no route meets.
    pub(super) fn warn_of_chains(&mut self, snapshot: &Snapshot) {
        let mut warned = HashSet::new();
        let mut met = HashSet::new();
        let http = || snapshot.listeners.iter().filter(|listener| listener.tcp.is_none());
        let (mut routed, mut reached) = (Vec::new(), HashSet::new());
        for (spec, route) in snapshot.table.specs().iter().zip(&snapshot.routes) {
            for listener in http().filter(|listener| spec.rules.admit(listener.index)) {
                routed.extend(route.chain(listener));
                reached.insert(listener.index);
            }
        }
        let listeners = http().map(|listener| &listener.chain);
        for chain in &routed {
            if warned.insert(Arc::as_ptr(chain).cast::<()>()) {
                met.extend(chain.plugins().map(Arc::as_ptr));
            }
        }
        let mut seen = HashSet::new();
        for chain in listeners.chain(routed) {
            let mut plugins = chain.plugins().take_while(|plugin| !plugin.hooks.answers_preflights);
            let refuses =
                plugins.find(|plugin| plugin.hooks.refuses_strangers && !spares_preflights(plugin));
            let answers = chain.plugins().find(|plugin| plugin.hooks.answers_preflights);
            let (Some(refuses), Some(answers)) = (refuses, answers) else { continue };
            if !seen.insert(Arc::as_ptr(refuses)) {
                continue;
            }
            let message = format!(
                "`{}` refuses preflights before `{}` can answer them, for they have no credentials; list `{}` first",
                refuses.name, answers.name, answers.name
            );
            let (path, _) = written(self.config, refuses).unwrap_or((ConfigPath::root(), None));
            self.warnings.push(self.document.fault(&path, message));
        }
        if snapshot.routes.is_empty() {
            return;
        }
        let unreached = |listener: &&Arc<ListenerPlan>| {
            listener.redirect.is_none() && !reached.contains(&listener.index)
        };
        for listener in http().filter(unreached) {
            let message = format!(
                "no route is reached through `{}`: its plugins act on nothing, and every request gets a 404",
                listener.name
            );
            let path = ConfigPath::root().key("listeners").index(usize::from(listener.index));
            self.warnings.push(self.document.fault(&path, message));
        }
        let listed = |kind: &str, name: &str| format!("{kind}/{name}");
        let mut empty: HashSet<String> = http()
            .filter(|listener| !reached.contains(&listener.index))
            .map(|listener| listed("listener", &listener.name))
            .collect();
        let routes = &self.config.routes;
        let groups = self.config.route_groups.iter();
        let named: HashSet<&str> = routes.iter().filter_map(|one| one.group.as_deref()).collect();
        empty.extend(
            groups
                .filter(|group| !named.contains(group.name.as_str()))
                .map(|group| listed("group", &group.name)),
        );
        for plugin in std::mem::take(&mut self.outer) {
            // Where its listener or group has no routes, that is told already.
            if met.contains(&Arc::as_ptr(&plugin)) || empty.contains(&*plugin.scope) {
                continue;
            }
            let message = format!(
                "no route meets `{}`: each that could disables it, or has one of that name in its place",
                plugin.name
            );
            let (path, _) = written(self.config, &plugin).unwrap_or((ConfigPath::root(), None));
            self.warnings.push(self.document.fault(&path, message));
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
