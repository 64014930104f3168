//! The plugins that a request meets.

use serde_json::Value;

use super::{PluginTold, Seen};
use crate::plugin::{Attribute, Moment, Mounted};
use crate::snapshot::written;

impl Seen<'_> {
    /// The chain of the route, or that of the listener where there is none.
    pub(super) fn plugins(&self) -> Vec<PluginTold> {
        let route = self.ctx.route().and_then(|route| route.chain(self.listener));
        let chain = route.unwrap_or(&self.listener.chain);
        chain.plugins().map(|plugin| self.plugin(plugin)).collect()
    }

    fn plugin(&self, plugin: &Mounted) -> PluginTold {
        let (acts, waits_for) = self.acts(plugin);
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

    fn acts(&self, plugin: &Mounted) -> (Option<bool>, Vec<String>) {
        let Some(condition) = &plugin.when else { return (Some(true), Vec::new()) };
        let mut waits_for: Vec<String> = condition
            .attributes()
            .into_iter()
            .filter(|attribute| is_found_out(attribute))
            .map(ToString::to_string)
            .collect();
        waits_for.sort();
        waits_for.dedup();
        match waits_for.is_empty() {
            true => (condition.holds(&self.facts()).ok(), waits_for),
            false => (None, waits_for),
        }
    }
}

/// Whether a plugin finds it out, or the response brings it.
fn is_found_out(attribute: &Attribute) -> bool {
    let follows_from_route = matches!(
        attribute,
        Attribute::RouteName | Attribute::UpstreamName | Attribute::RequestCapture(_)
    );
    attribute.known_from() > Moment::Head && !follows_from_route
}
