//! `reload`: how a config takes the place of another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::file_path::FilePath;
use super::path::ConfigPath;

/// How another config takes the place of this one. What it says counts from this config on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// Whether the config is read again when one of its files changes: the file itself, what it includes, and the files
    /// of secrets, keys and certificates that it names. Default `false`: when it is told to. Certificates of listeners,
    /// and files of endpoints, are followed either way.
    pub watch: bool,
    /// Where configs that were accepted are kept, so that one of them can be in force again. Default: nowhere.
    pub history: Option<HistoryConfig>,
}

/// Where accepted configs are kept, as they were written; secrets that are written as text are left out.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryConfig {
    /// The folder, which is made if it is not there. Nobody but the gateway's user may read what is written there.
    pub folder: FilePath,
    /// How many are kept. Default 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep: usize,
}

fn ten() -> usize {
    10
}

impl ReloadConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        if let Some(history) = &self.history
            && !(1..=1000).contains(&history.keep)
        {
            findings.add(&at.clone().key("history").key("keep"), "it is 1 to 1000");
        }
    }
}
