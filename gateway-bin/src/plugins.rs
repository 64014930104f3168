//! `gateway plugins`: the kinds of plugin that a config may name.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::check::Format;

#[derive(Args)]
pub(crate) struct Plugins {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Plugins {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let stock = crate::stock();
        match self.format {
            Format::Text => {
                for spec in stock.registry().iter() {
                    writeln!(stdout(), "{:<16} {:?}", spec.kind, spec.class)?;
                }
            }
            Format::Json => {
                let plugins: Vec<_> = stock
                    .registry()
                    .iter()
                    .map(|spec| json!({"kind": spec.kind, "class": spec.class, "options": spec.schema()}))
                    .collect();
                writeln!(stdout(), "{}", serde_json::to_string_pretty(&plugins)?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
