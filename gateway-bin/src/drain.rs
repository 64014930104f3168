//! `gateway drain`: has a running gateway finish what it serves, and end.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use http::StatusCode;

use crate::admin::{Admin, refused};

#[derive(Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    admin: Admin,
}

impl Drain {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (answer, body) = self.admin.call("POST", "/drain")?;
        if answer.status != StatusCode::ACCEPTED {
            return Ok(refused(&answer, &body));
        }
        writeln!(stdout(), "draining; it ends when it is done")?;
        Ok(ExitCode::SUCCESS)
    }
}
