//! The plugins that a request meets.

use serde_json::Value;

use super::{PluginTold, Seen};
use crate::config::ConfigPath;
use crate::plugin::{Attribute, Level, Moment, Mounted};

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
            options: self.options(plugin, of.as_deref()),
            of,
            when: plugin.when().map(str::to_owned),
            acts,
            waits_for,
        }
    }

    /// What the config says of a plugin.
    fn options(&self, plugin: &Mounted, of: Option<&str>) -> Value {
        let config = &self.snapshot.config;
        let list = match (plugin.level, of) {
            (Level::Gateway, _) => Some((ConfigPath::root(), &config.plugins)),
            (Level::Listener, Some(of)) => {
                let mut all = config.listeners.iter().enumerate();
                let found = all.find(|(_, listener)| listener.name == of);
                found.map(|(place, one)| (at("listeners", place), &one.plugins))
            }
            (Level::Group, Some(of)) => {
                let mut all = config.route_groups.iter().enumerate();
                let found = all.find(|(_, group)| group.name == of);
                found.map(|(place, one)| (at("route_groups", place), &one.plugins))
            }
            (Level::Route, Some(of)) => {
                let mut all = config.routes.iter().enumerate();
                let found = all.find(|(_, route)| route.name == of);
                found.map(|(place, one)| (at("routes", place), &one.plugins))
            }
            _ => None,
        };
        let Some((path, list)) = list else { return Value::Null };
        let place = list.iter().position(|one| one.name() == &*plugin.name);
        let Some((place, written)) = place.and_then(|place| Some((place, list.get(place)?))) else {
            return Value::Null;
        };
        let path = path.key("plugins").index(place);
        config.redacted_part(written, &path)["options"].take()
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

fn at(list: &str, place: usize) -> ConfigPath {
    ConfigPath::root().key(list).index(place)
}

/// Whether a plugin finds it out, or the response brings it.
fn is_found_out(attribute: &Attribute) -> bool {
    let follows_from_route = matches!(
        attribute,
        Attribute::RouteName | Attribute::UpstreamName | Attribute::RequestCapture(_)
    );
    attribute.known_from() > Moment::Head && !follows_from_route
}
