//! `gateway status`: how a running gateway is doing.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use gateway_core::EXIT_FAILED;
use http::StatusCode;
use serde_json::Value;

use crate::admin::{Admin, refused};
use crate::check::Format;

#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    admin: Admin,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Status {
    /// The exit code is 1 where the gateway is not ready.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (answer, status) = self.admin.call("GET", "/status")?;
        if answer.status != StatusCode::OK {
            return Ok(refused(&answer, &status));
        }
        match self.format {
            Format::Json => writeln!(stdout(), "{status:#}")?,
            Format::Text => write!(stdout(), "{}", text(&status))?,
        }
        let is_ready = status["ready"] == true;
        Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
    }
}

fn text(status: &Value) -> String {
    let number = |key: &str| status[key].as_u64().unwrap_or_default();
    let is_ready = if status["ready"] == true { "ready" } else { "draining" };
    let mut lines = vec![
        format!("{is_ready}, process {}, version {}", status["pid"], word(&status["version"])),
        format!("up for {}", span(number("uptime_ms") / 1000)),
        format!(
            "revision {}, {}",
            status["revision"]["number"],
            word(&status["revision"]["digest"])
        ),
        format!(
            "{} connections, {} requests in flight",
            number("connections"),
            number("requests_in_flight")
        ),
    ];
    if number("requests_in_flight") > 0 {
        lines.push(format!("the oldest request has taken {} ms", number("oldest_request_ms")));
    }
    if status["before_drains"] == true {
        lines.push("the process before still drains".to_owned());
    }
    let is_open = |listener: &&Value| listener["address"].is_string();
    for listener in status["listeners"].as_array().into_iter().flatten().filter(is_open) {
        lines.push(format!(
            "listener {} at {}",
            word(&listener["name"]),
            word(&listener["address"])
        ));
    }
    let canary = &status["canary"];
    if canary.is_object() {
        let side = |side: &Value| format!("{} of {} failed", side["failed"], side["requests"]);
        lines.push(format!(
            "revision {} is tried on {} of requests: {}; of the others {}",
            canary["revision"]["number"],
            word(&canary["share"]),
            side(&canary["canary"]),
            side(&canary["in_force"]),
        ));
    }
    let last = &status["last_reload"];
    if let Some(entry) = last["history_entry"].as_u64() {
        lines.push(format!(
            "entry {entry} of the history is in force, not what the config's files say"
        ));
    }
    if let Some(why) = last["discarded"].as_str() {
        lines.push(format!("the last config was tried and discarded: {why}"));
    } else if last["succeeded"] == false {
        lines.push("the last reload was refused:".to_owned());
        let faults = last["faults"].as_array().into_iter().flatten();
        lines.extend(faults.map(|fault| format!("  {}", fault_line(fault))));
    }
    if let Some(why) = status["last_failed_upgrade"]["why"].as_str() {
        lines.push(format!("the last upgrade failed: {why}"));
    }
    lines.join("\n") + "\n"
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn fault_line(fault: &Value) -> String {
    match serde_json::from_value::<gateway_core::config::Fault>(fault.clone()) {
        Ok(fault) => fault.to_string(),
        Err(_) => fault.to_string(),
    }
}

/// Seconds, as people say them.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}
