//! `gateway config`: configs as they take effect, what differs between two, those that a running gateway has
//! accepted, and the way back to one of them.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use gateway_core::config::{
    AdminAddress, Difference, Faults, LoadOptions, Loaded, diff, diff_read_out, load, shown,
    shown_yaml,
};
use gateway_core::{EXIT_CONFIG, EXIT_FAILED};
use http::StatusCode;
use serde_json::Value;

use crate::ConfigFile;
use crate::admin::{Admin, call_with, refused};
use crate::check::Format;
use crate::reload;

#[derive(Args)]
pub(crate) struct ConfigCall {
    #[command(subcommand)]
    call: Call,
}

#[derive(Subcommand)]
enum Call {
    /// Print the config as it takes effect: merged, with defaults, without secrets
    Show {
        #[command(flatten)]
        config: ConfigFile,
        /// That of the running gateway at this admin address instead: `127.0.0.1:9901` or `unix:/run/gateway/admin.sock`
        #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
        at: Option<AdminAddress>,
        /// How to print
        #[arg(long, value_enum, default_value_t = Notation::Yaml)]
        format: Notation,
    },
    /// Tell what differs between two configs by meaning, and what of it needs a restart
    Diff {
        /// A config file
        a: PathBuf,
        /// The one that would follow it
        #[arg(required_unless_present = "at")]
        b: Option<PathBuf>,
        /// Compare the config of the running gateway at this admin address with the file, which would follow it
        #[arg(long, value_name = "ADDRESS", conflicts_with = "b")]
        at: Option<AdminAddress>,
        /// Exit with 1 where they differ
        #[arg(long)]
        exit_code: bool,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Notation {
    /// As a config is written
    Yaml,
    /// One JSON object
    Json,
}

impl ConfigCall {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        match &self.call {
            Call::Show { config, at, format } => show(&config.config, at.as_ref(), *format),
            Call::Diff { a, b, at, exit_code, format } => {
                let Some(difference) = compare(a, b.as_deref(), at.as_ref())? else {
                    return Ok(ExitCode::from(EXIT_CONFIG));
                };
                match format {
                    Format::Json => writeln!(stdout(), "{:#}", serde_json::to_value(&difference)?)?,
                    Format::Text => writeln!(stdout(), "{difference}")?,
                }
                let differ = *exit_code && !difference.changes.is_empty();
                Ok(if differ { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
            }
            Call::History { admin, format } => history(admin, *format),
            Call::Rollback { entry, admin } => rollback(*entry, admin),
        }
    }
}

fn show(config: &Path, at: Option<&AdminAddress>, format: Notation) -> Result<ExitCode> {
    let read_out = match at {
        Some(address) => in_force(address)?,
        None => read(config)?.config.redacted_json(),
    };
    let shown = shown(read_out);
    match format {
        Notation::Json => writeln!(stdout(), "{shown:#}")?,
        Notation::Yaml => write!(stdout(), "{}", shown_yaml(&shown)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What differs; `None` where faults of either are printed.
fn compare(a: &Path, b: Option<&Path>, at: Option<&AdminAddress>) -> Result<Option<Difference>> {
    if let Some(address) = at {
        let next = read(a)?;
        return Ok(Some(diff_read_out(&in_force(address)?, &next)));
    }
    match (read(a), read(b.unwrap_or(a))) {
        (Ok(a), Ok(b)) => Ok(Some(diff(&a, &b))),
        (a, b) => {
            for faults in [a.err(), b.err()].into_iter().flatten() {
                eprintln!("{faults}");
            }
            Ok(None)
        }
    }
}

fn read(path: &Path) -> Result<Loaded, Faults> {
    load(path, crate::stock().registry(), &LoadOptions::default())
}

/// The read-out of a running gateway's config.
fn in_force(address: &AdminAddress) -> Result<Value> {
    let (answer, body) = call_with(address, "GET", "/config", Vec::new())?;
    if answer.status != StatusCode::OK {
        bail!("{address} answers {} and no config", answer.status);
    }
    Ok(body)
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
