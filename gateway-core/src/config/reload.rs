//! `reload`: how a config takes the place of another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How another config takes the place of this one. What it says counts from this config on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// Whether the config is read again when one of its files changes: the file itself, what it includes, and the files
    /// of secrets, keys and certificates that it names. Default `false`: when it is told to. Certificates of listeners,
    /// and files of endpoints, are followed either way.
    pub watch: bool,
}
