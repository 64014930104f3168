//! Where the config says so of a plugin in a chain.

use crate::config::{Config, ConfigPath, PluginConfig};
use crate::plugin::{Level, Mounted};

/// The place where a plugin is listed, and what is written there.
pub(crate) fn written<'c>(
    config: &'c Config,
    plugin: &Mounted,
) -> Option<(ConfigPath, Option<&'c PluginConfig>)> {
    let of = plugin.scope.split_once('/').map(|(_, name)| name);
    let (path, list) = match plugin.level {
        Level::Gateway => (ConfigPath::root(), &config.plugins),
        Level::Listener => {
            let place = config.listeners.iter().position(|one| Some(&*one.name) == of)?;
            (at("listeners", place), &config.listeners.get(place)?.plugins)
        }
        Level::Group => {
            let place = config.route_groups.iter().position(|one| Some(&*one.name) == of)?;
            (at("route_groups", place), &config.route_groups.get(place)?.plugins)
        }
        Level::Route => {
            let place = config.routes.iter().position(|one| Some(&*one.name) == of)?;
            (at("routes", place), &config.routes.get(place)?.plugins)
        }
    };
    let place = list.iter().position(|one| one.name() == &*plugin.name)?;
    Some((path.key("plugins").index(place), list.get(place)))
}

fn at(list: &str, place: usize) -> ConfigPath {
    ConfigPath::root().key(list).index(place)
}
