//! `plugins`: configured units of behaviour, for the gateway, a listener or a route.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::path::ConfigPath;
use super::redact;

/// One plugin of a list; the list's order is the order of execution.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-options-by-kind" = true))]
pub struct PluginConfig {
    /// Which plugin this is, such as `headers`.
    pub kind: String,
    /// The name by which `disable`, logs and metrics call it. Default: its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "gateway-name"))]
    pub name: Option<String>,
    /// What the kind lets you set.
    #[serde(default, serialize_with = "redact::options")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub options: serde_yaml::Value,
    /// A condition in CEL: the plugin acts only on requests for which it is true. Default: on all.
    #[serde(
        default,
        serialize_with = "redact::condition",
        skip_serializing_if = "Option::is_none"
    )]
    pub when: Option<String>,
    /// What happens to a request when the plugin fails; the plugin's own choice when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
}

/// What happens to a request when a plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The request is refused.
    Refuse,
    /// The request goes on without the plugin.
    Skip,
}

impl PluginConfig {
    /// The name by which `disable`, logs and metrics call it.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }
}

/// Checks one list: no two plugins of one name.
pub(super) fn check_list(list: &[PluginConfig], at: &ConfigPath, findings: &mut Findings<'_>) {
    if list.len() < 2 {
        return;
    }
    let mut first = HashMap::with_capacity(list.len());
    for (index, plugin) in list.iter().enumerate() {
        let at = at.clone().index(index);
        let Some(earlier) = first.get(plugin.name()) else {
            first.insert(plugin.name(), at);
            continue;
        };
        let place = findings.place(earlier);
        let key = if plugin.name.is_some() { "name" } else { "kind" };
        findings.add(
            &at.key(key),
            format!(
                "a plugin named `{}` stands at {place} already; give one of them another `name`",
                plugin.name()
            ),
        );
    }
}
