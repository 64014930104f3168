//! `reload`: how a config takes the place of another.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::file_path::FilePath;
use super::path::ConfigPath;
use super::units::{Percent, Span};

/// How another config takes the place of this one. What it says counts from this config on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// Whether the config is read again when one of its files changes: the file itself, what it includes, and the files
    /// of secrets, keys and certificates that it names. Default `false`: when it is told to. Certificates of listeners,
    /// and files of endpoints, are followed either way.
    pub watch: bool,
    /// Tries each new config on a share of requests first, and discards it if it does worse. Default: it takes all at once.
    pub canary: Option<CanaryConfig>,
    /// Where configs that were accepted are kept, so that one of them can be in force again. Default: nowhere.
    pub history: Option<HistoryConfig>,
}

/// How a new config is tried before it takes all requests. It is that of the config in force that counts.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CanaryConfig {
    /// The share of requests that it takes meanwhile, above 0% and below 100%. Default `10%`.
    pub share: Percent,
    /// How long it is tried, from `1s` to `1h`. Default `1m`.
    pub time: Span,
    /// By how many of a hundred requests more may fail of its than of those of the config in force. What fails ends with a
    /// status of 500 and above, or a [failure code](../reference/failure-codes.md) that is not the client's own (`D`).
    /// Default `1%`.
    pub failure_margin: Percent,
    /// How much longer its answers may take, as a typical time (the geometric mean). Default `50%`.
    pub latency_margin: Percent,
    /// How many requests each of the two has to have had in the end for the log to say that there were enough. Default 100.
    pub minimum: u32,
}

impl Default for CanaryConfig {
    fn default() -> Self {
        Self {
            share: Percent(10.0),
            time: Span::seconds(60),
            failure_margin: Percent(1.0),
            latency_margin: Percent(50.0),
            minimum: 100,
        }
    }
}

impl CanaryConfig {
    /// What is wrong with it: the key, and why.
    pub(crate) fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        if !(self.share.0 > 0.0 && self.share.0 < 100.0) {
            faults.push(("share", "it is above 0% and below 100%"));
        }
        let range = Duration::from_secs(1)..=Duration::from_secs(3600);
        if !range.contains(&self.time.0) {
            faults.push(("time", "it is 1s to 1h"));
        }
        faults
    }
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
        for (key, why) in self.canary.iter().flat_map(CanaryConfig::faults) {
            findings.add(&at.clone().key("canary").key(key), why);
        }
    }
}
