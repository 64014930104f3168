//! `gateway upgrade`: has a process of the program as it is on disk now take over from a running gateway.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use http::StatusCode;

use crate::admin::{Admin, refused};

#[derive(Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    admin: Admin,
}

impl Upgrade {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (answer, body) = self.admin.call("POST", "/upgrade")?;
        if answer.status != StatusCode::OK {
            return Ok(refused(&answer, &body));
        }
        let version = body["version"].as_str().unwrap_or_default();
        writeln!(
            stdout(),
            "process {} of version {version} serves; the one before drains",
            body["pid"]
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
