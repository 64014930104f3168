//! `gateway routes`: the routes of a config with their plugins.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use gateway_core::EXIT_CONFIG;
use gateway_core::admin::routes;

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
        let routes = routes(&checked.snapshot);
        match self.format {
            Format::Json => writeln!(stdout(), "{routes:#}")?,
            Format::Text => {
                for route in routes.as_array().into_iter().flatten() {
                    print_route(route)?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_route(route: &serde_json::Value) -> Result<()> {
    writeln!(stdout(), "{}", route["name"].as_str().unwrap_or_default())?;
    writeln!(stdout(), "    match    {}", route["match"])?;
    writeln!(stdout(), "    action   {}", route["action"])?;
    for (listener, plugins) in route["plugins"].as_object().into_iter().flatten() {
        let names: Vec<&str> = plugins
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["name"].as_str())
            .collect();
        writeln!(stdout(), "    plugins  {} (through {listener})", names.join(" > "))?;
    }
    Ok(())
}
