//! `gateway version`.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

#[derive(Args)]
pub(crate) struct Version {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Version {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let version = gateway_core::admin::version();
        if self.json {
            writeln!(stdout(), "{version:#}")?;
        } else {
            writeln!(stdout(), "gateway {}", version["version"].as_str().unwrap_or_default())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
