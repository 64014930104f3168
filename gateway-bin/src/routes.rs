//! `gateway routes`: the route table of a config, in the order in which its rows are tried.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use gateway_core::EXIT_CONFIG;
use gateway_core::admin::routes;
use gateway_core::explain::columns;

use crate::ConfigFile;
use crate::check::Format;

#[derive(Args)]
pub(crate) struct Routes {
    #[command(flatten)]
    config: ConfigFile,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Routes {
    pub(crate) fn run(&self) -> Result<ExitCode> {
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
}
