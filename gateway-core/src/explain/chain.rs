//! The plugins that a request meets.

use std::sync::Arc;

use serde_json::Value;

use super::{PluginTold, Seen};
use crate::plugin::{Attribute, Chain, Class, Moment, Mounted};
use crate::snapshot::written;

impl Seen<'_> {
    /// The chain of the route, or that of the listener where there is none.
    fn chain(&self) -> &Arc<Chain> {
        let route = self.ctx.route().and_then(|route| route.chain(self.listener));
        route.unwrap_or(&self.listener.chain)
    }

    /// Its plugins, each with what is known of it by then.
    pub(super) fn plugins(&self) -> Vec<PluginTold> {
        let mut changed = false;
        let told = self.chain().plugins().map(|plugin| {
            let told = self.plugin(plugin, changed);
            changed |= may_change(plugin);
            told
        });
        told.collect()
    }

    /// Those of the attributes that are not known before the plugins have run.
    pub(super) fn unknown(&self, attributes: &[&Attribute]) -> Vec<String> {
        let changed = self.chain().plugins().any(|plugin| may_change(plugin));
        self.found_out(attributes.iter().copied(), changed)
    }

    /// Those of the attributes that a plugin finds out, or may have changed.
    fn found_out<'a>(
        &self,
        attributes: impl Iterator<Item = &'a Attribute>,
        changed: bool,
    ) -> Vec<String> {
        let unknown = attributes.filter(|attribute| match attribute {
            Attribute::UpstreamName => self.ctx.upstream_name().is_none(),
            attribute => is_found_out(attribute) || changed && attribute.is_free(),
        });
        let mut names: Vec<String> = unknown.map(ToString::to_string).collect();
        names.sort();
        names.dedup();
        names
    }

    fn plugin(&self, plugin: &Mounted, changed: bool) -> PluginTold {
        let (acts, waits_for) = self.acts(plugin, changed);
        let of = plugin.scope.split_once('/').map(|(_, name)| name.to_owned());
        PluginTold {
            name: plugin.name.to_string(),
            kind: plugin.kind.to_owned(),
            class: plugin.class,
            from: plugin.level,
            options: self.options(plugin),
            of,
            when: plugin.when().map(str::to_owned),
            acts,
            waits_for,
        }
    }

    /// What the config says of a plugin.
    fn options(&self, plugin: &Mounted) -> Value {
        let config = &self.snapshot.config;
        match written(config, plugin) {
            Some((path, Some(written))) => config.redacted_part(written, &path)["options"].take(),
            _ => Value::Null,
        }
    }

    fn acts(&self, plugin: &Mounted, changed: bool) -> (Option<bool>, Vec<String>) {
        let Some(condition) = &plugin.when else { return (Some(true), Vec::new()) };
        let waits_for = self.found_out(condition.attributes().into_iter(), changed);
        match waits_for.is_empty() {
            true => (condition.holds(&self.facts()).ok(), waits_for),
            false => (None, waits_for),
        }
    }
}

/// Whether later plugins may find another head than the client's.
fn may_change(plugin: &Mounted) -> bool {
    plugin.class == Class::Transform && plugin.hooks.request.is_some()
}

/// Whether a plugin finds it out, or the response brings it.
fn is_found_out(attribute: &Attribute) -> bool {
    let follows_from_route = matches!(
        attribute,
        Attribute::RouteName | Attribute::UpstreamName | Attribute::RequestCapture(_)
    );
    attribute.known_from() > Moment::Head && !follows_from_route
}
