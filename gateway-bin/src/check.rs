//! `gateway check`: what `run` and `reload` would say of a config.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use gateway_core::config::Fault;
use gateway_core::{EXIT_CONFIG, EXIT_WARNINGS};
use serde_json::json;

use crate::ConfigFile;

#[derive(Args)]
pub(crate) struct Check {
    #[command(flatten)]
    config: ConfigFile,
    /// Treat warnings as faults: exit code 3
    #[arg(long)]
    strict: bool,
    /// Look at nothing outside this machine (nothing does so far)
    #[arg(long)]
    offline: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines to read
    Text,
    /// One JSON object
    Json,
}

impl Check {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (faults, warnings): (Vec<Fault>, Vec<Fault>) = match self.config.gateway().check() {
            Ok(checked) => (Vec::new(), checked.loaded.warnings),
            Err(faults) => (faults.iter().cloned().collect(), Vec::new()),
        };
        match self.format {
            Format::Json => {
                let valid = faults.is_empty();
                let told = json!({"valid": valid, "faults": faults, "warnings": warnings});
                writeln!(stdout(), "{told:#}")?;
            }
            Format::Text => {
                for fault in &faults {
                    eprintln!("{fault}");
                }
                for warning in &warnings {
                    eprintln!("warning: {warning}");
                }
                let config = self.config.config.display();
                if faults.is_empty() && self.strict && !warnings.is_empty() {
                    eprintln!("{config} has warnings, which --strict does not let pass");
                } else if faults.is_empty() {
                    writeln!(stdout(), "{config} is valid")?;
                }
            }
        }
        Ok(match (faults.is_empty(), warnings.is_empty() || !self.strict) {
            (false, _) => ExitCode::from(EXIT_CONFIG),
            (true, false) => ExitCode::from(EXIT_WARNINGS),
            (true, true) => ExitCode::SUCCESS,
        })
    }
}
