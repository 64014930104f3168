//! `gateway reload`: tell a running gateway to read its config again.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use gateway_core::admin::Answer;
use gateway_core::config::Fault;
use gateway_core::{EXIT_CONFIG, EXIT_FAILED};
use http::StatusCode;
use serde_json::Value;

use crate::admin::{Admin, refused};

#[derive(Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    admin: Admin,
}

impl Reload {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (answer, body) = self.admin.call("POST", "/reload")?;
        if answer.status == StatusCode::OK {
            writeln!(stdout(), "revision {}", body["revision"]["number"])?;
            return Ok(ExitCode::SUCCESS);
        }
        Ok(not_done(&answer, &body))
    }
}

/// Says why a config is not in force.
pub(crate) fn not_done(answer: &Answer, body: &Value) -> ExitCode {
    let faults: Vec<Fault> = serde_json::from_value(body["faults"].clone()).unwrap_or_default();
    if faults.is_empty() {
        return refused(answer, body);
    }
    for fault in faults {
        eprintln!("{fault}");
    }
    let config = answer.status == StatusCode::UNPROCESSABLE_ENTITY;
    ExitCode::from(if config { EXIT_CONFIG } else { EXIT_FAILED })
}
