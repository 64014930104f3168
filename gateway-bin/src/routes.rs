//! `gateway routes`: the route table of a config, in the order in which its rows are tried.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use gateway_core::EXIT_CONFIG;
use gateway_core::admin::routes;
use gateway_core::config::AdminAddress;
use gateway_core::explain::{Row, columns};

use crate::ConfigFile;
use crate::admin::{call_with, refused};
use crate::check::Format;

#[derive(Args)]
pub(crate) struct Routes {
    #[command(flatten)]
    config: ConfigFile,
    /// Ask the running gateway at this admin address instead: `127.0.0.1:9901` or `unix:/run/gateway/admin.sock`
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    at: Option<AdminAddress>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Routes {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        if let Some(address) = &self.at {
            return self.of_running(address);
        }
        let checked = match self.config.gateway().check() {
            Ok(checked) => checked,
            Err(faults) => {
                eprintln!("{faults}");
                return Ok(ExitCode::from(EXIT_CONFIG));
            }
        };
        match self.format {
            Format::Json => writeln!(stdout(), "{:#}", routes(&checked.snapshot))?,
            Format::Text => write!(stdout(), "{}", columns(&checked.snapshot.rows()))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn of_running(&self, address: &AdminAddress) -> Result<ExitCode> {
        let path = if self.format == Format::Json { "/routes" } else { "/routes/rows" };
        let (answer, rows) = call_with(address, "GET", path, Vec::new())?;
        if !answer.status.is_success() {
            return Ok(refused(&answer, &rows));
        }
        match self.format {
            Format::Json => writeln!(stdout(), "{rows:#}")?,
            Format::Text => {
                let rows: Vec<Row> = serde_json::from_value(rows).context("it tells other rows")?;
                write!(stdout(), "{}", columns(&rows))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
