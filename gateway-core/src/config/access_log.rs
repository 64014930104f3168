//! `access_log`: where the line about each finished request goes, and which requests get one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::path::ConfigPath;
use super::scalar::{Invalid, Scalar, scalar};
use super::units::{Percent, Span};

/// The access log: one line a finished request.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLogConfig {
    /// `stdout` (the default), `stderr`, `off`, or the path of a file, reopened on SIGUSR1.
    pub output: LogOutput,
    /// `auto` (the default: text on a terminal, else JSON), `json` or `text`.
    pub format: LogFormat,
    /// Which lines are kept; left out: all of them.
    pub sample: Option<SampleConfig>,
    /// The fields of a line, in order; left out: the default set.
    #[schemars(length(min = 1))]
    pub fields: Option<Vec<String>>,
    /// Lines that may wait to be written; further ones are dropped and counted. Default 8192.
    #[schemars(range(min = 1, max = 1048576))]
    pub queue: usize,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self {
            output: LogOutput::Stdout,
            format: LogFormat::Auto,
            sample: None,
            fields: None,
            queue: 8192,
        }
    }
}

/// Which lines are kept. Errors always are.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SampleConfig {
    /// The share kept of the requests that succeeded. Default `100%`.
    pub ok: Percent,
    /// Requests that took longer than this are always kept. Default: none for being slow.
    pub slower_than: Option<Span>,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self { ok: Percent(100.0), slower_than: None }
    }
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For eyes.
    Text,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogOutput {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// A file, appended to; absolute once loaded.
    File(PathBuf),
}

impl Scalar for LogOutput {
    const FORMAT: &'static str = "gateway-log-output";
    const EXPECTS: &'static str = "`stdout`, `stderr`, `off` or the path of a file";
    const PATTERN: &'static str = ".";
    const RELOCATE: Option<fn(&str, &Path) -> String> = Some(|text, base| match text {
        "stdout" | "stderr" | "off" => text.to_owned(),
        path => super::file_path::against(path, base),
    });
}

impl FromStr for LogOutput {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            "off" => Ok(Self::Off),
            "" => Err(Invalid::new(format!("expected {}, got ``", Self::EXPECTS))),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl fmt::Display for LogOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Stderr => f.write_str("stderr"),
            Self::Off => f.write_str("off"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

scalar!(LogOutput);

impl AccessLogConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let fields = self.fields.as_deref().unwrap_or_default();
        for (index, field) in fields.iter().enumerate() {
            if fields[..index].contains(field) {
                let at = at.clone().key("fields").index(index);
                findings.add(&at, format!("field `{field}` is listed twice"));
            }
        }
    }
}
