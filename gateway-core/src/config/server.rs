//! `server`: what concerns the process as a whole and needs a restart to change.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FilePath;
use super::scalar::{Invalid, Scalar, scalar};
use super::units::Span;

/// The process: the only part of the document that needs a restart to change.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Threads that serve requests: `auto` (one a core, the default) or 1 to 1024.
    pub workers: Workers,
    /// How long to serve on after readiness has turned to 503, before listeners close: as long as balancers in front take
    /// to notice. Default 0.
    pub drain_delay: Span,
    /// How long requests in flight may take to finish after the gateway is told to stop. Default `30s`.
    pub drain_timeout: Span,
    /// A Unix socket at which another process of this config takes over, whoever started it. It is this user's alone (mode
    /// 0600), as its folder has to be. None unless it is set; what `gateway upgrade` and SIGUSR2 start needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_socket: Option<FilePath>,
    /// How long a process that takes over may need until it serves. Default `60s`.
    pub upgrade_timeout: Span,
    /// Most connections from clients at a time, all listeners together. Default 100000.
    #[schemars(range(min = 1))]
    pub connections: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            workers: Workers::Auto,
            drain_delay: Span::seconds(0),
            drain_timeout: Span::seconds(30),
            upgrade_socket: None,
            upgrade_timeout: Span::seconds(60),
            connections: 100_000,
        }
    }
}

/// A number of threads, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Workers {
    /// One a core.
    #[default]
    Auto,
    /// From 1 to 1024.
    Count(NonZeroUsize),
}

impl Workers {
    /// The number of threads on a machine of so many cores.
    pub fn on(self, cores: NonZeroUsize) -> NonZeroUsize {
        match self {
            Self::Auto => cores,
            Self::Count(count) => count,
        }
    }
}

impl Scalar for Workers {
    const FORMAT: &'static str = "gateway-workers";
    const EXPECTS: &'static str = "`auto` or a whole number from 1 to 1024";
    const PATTERN: &'static str = r"^(auto|\d{1,4})$";
    const NUMBERS: bool = true;
}

impl FromStr for Workers {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text.parse::<NonZeroUsize>().ok().filter(|count| count.get() <= 1024);
        count
            .map(Self::Count)
            .ok_or_else(|| Invalid::new(format!("expected {}, got `{text}`", Self::EXPECTS)))
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

scalar!(Workers);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_counted_or_one_a_core() {
        let cores = NonZeroUsize::new(8).unwrap();

        assert_eq!("auto".parse::<Workers>().unwrap().on(cores).get(), 8);
        assert_eq!("2".parse::<Workers>().unwrap().on(cores).get(), 2);
        for wrong in ["0", "1025", "all", "-1", "1.5"] {
            let expected =
                format!("expected `auto` or a whole number from 1 to 1024, got `{wrong}`");
            assert_eq!(wrong.parse::<Workers>().unwrap_err().to_string(), expected);
        }
    }
}
