//! `gateway config`: the configs that a running gateway has accepted, and the way back to one of them.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use http::StatusCode;
use serde_json::Value;

use crate::admin::{Admin, refused};
use crate::check::Format;
use crate::reload;

#[derive(Args)]
pub(crate) struct ConfigCall {
    #[command(subcommand)]
    call: Call,
}

#[derive(Subcommand)]
enum Call {
    /// List the configs that were accepted, the latest first
    History {
        #[command(flatten)]
        admin: Admin,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Put a config in force that was before; its files stay as they are, and the next reload reads them
    Rollback {
        /// The entry's number; by default the one before the config in force
        entry: Option<u64>,
        #[command(flatten)]
        admin: Admin,
    },
}

impl ConfigCall {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        match &self.call {
            Call::History { admin, format } => history(admin, *format),
            Call::Rollback { entry, admin } => rollback(*entry, admin),
        }
    }
}

fn history(admin: &Admin, format: Format) -> Result<ExitCode> {
    let (answer, body) = admin.call("GET", "/history")?;
    if answer.status != StatusCode::OK {
        return Ok(refused(&answer, &body));
    }
    if format == Format::Json {
        writeln!(stdout(), "{body:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    if body["folder"].is_null() {
        eprintln!("no history is kept; `reload.history` says where");
    }
    for entry in body["entries"].as_array().into_iter().flatten() {
        writeln!(stdout(), "{}", line(entry))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(entry: &Value) -> String {
    let moment = entry["accepted"].as_str().unwrap_or_default();
    let digest = entry["digest"].as_str().unwrap_or_default();
    let marks = [("in_force", "in force"), ("redacted", "without its secrets: it cannot be used")];
    let marks = marks.iter().filter(|(key, _)| entry[key] == true);
    let mut parts = vec![
        format!("{:>6}", entry["number"]),
        moment.to_owned(),
        digest.chars().take(12).collect(),
    ];
    parts.extend(marks.map(|(_, words)| (*words).to_owned()));
    parts.join("  ")
}

fn rollback(entry: Option<u64>, admin: &Admin) -> Result<ExitCode> {
    let path = match entry {
        Some(number) => format!("/rollback?to={number}"),
        None => "/rollback".to_owned(),
    };
    let (answer, body) = admin.call("POST", &path)?;
    if answer.status != StatusCode::OK {
        return Ok(reload::not_done(&answer, &body));
    }
    let (number, digest) = (&body["entry"]["number"], body["entry"]["digest"].as_str());
    let digest: String = digest.unwrap_or_default().chars().take(12).collect();
    writeln!(
        stdout(),
        "entry {number} ({digest}) is in force, as revision {}",
        body["revision"]["number"]
    )?;
    eprintln!("the config's files are as they were; the next reload reads them");
    Ok(ExitCode::SUCCESS)
}
