//! `gateway schema`: the JSON Schema of the config, for editors.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use gateway_core::config::json_schema;

pub(crate) fn run() -> Result<ExitCode> {
    writeln!(
        stdout(),
        "{}",
        serde_json::to_string_pretty(&json_schema(crate::stock().registry()))?
    )?;
    Ok(ExitCode::SUCCESS)
}
