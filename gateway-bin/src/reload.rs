//! `gateway reload`: tell a running gateway to read its config again.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use gateway_core::admin::Answer;
use gateway_core::config::{Fault, Percent, Span};
use gateway_core::{EXIT_CONFIG, EXIT_FAILED};
use http::StatusCode;
use serde_json::Value;

use crate::admin::{Admin, refused};

/// How often it is asked how a trial goes.
const STEP: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    admin: Admin,
    /// Try the config on this share of requests first, such as `10%`, and discard it if it does worse
    #[arg(long, value_name = "SHARE")]
    canary: Option<Percent>,
    /// How long to try it, such as `30s`
    #[arg(long, value_name = "TIME")]
    time: Option<Span>,
    /// Have it take all requests at once, whatever the config says of trials
    #[arg(long, conflicts_with_all = ["canary", "time"])]
    no_canary: bool,
    /// Do not wait until the trial is over
    #[arg(long)]
    no_wait: bool,
    /// Have the config that is on trial take all requests now
    #[arg(long, conflicts_with_all = ["canary", "time", "no_canary", "discard"])]
    accept: bool,
    /// Have the config that is on trial take none any more
    #[arg(long, conflicts_with_all = ["canary", "time", "no_canary"])]
    discard: bool,
}

impl Reload {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (method, path) = match (self.accept, self.discard) {
            (true, _) => ("POST", "/canary".to_owned()),
            (_, true) => ("DELETE", "/canary".to_owned()),
            _ => ("POST", self.path()),
        };
        let (answer, body) = self.admin.call(method, &path)?;
        if answer.status != StatusCode::OK {
            return Ok(not_done(&answer, &body));
        }
        let number = &body["revision"]["number"];
        if body["on_trial"] != true {
            writeln!(stdout(), "revision {number}")?;
            return Ok(ExitCode::SUCCESS);
        }
        writeln!(stdout(), "revision {number} is tried on a share of requests")?;
        if self.no_wait { Ok(ExitCode::SUCCESS) } else { self.await_verdict(number) }
    }

    fn path(&self) -> String {
        let share =
            self.canary.map(|share| format!("canary={}", share.to_string().replace('%', "%25")));
        let time = self.time.map(|time| format!("time={time}"));
        let off = self.no_canary.then(|| "canary=off".to_owned());
        let query: Vec<String> = [share, time, off].into_iter().flatten().collect();
        if query.is_empty() { "/reload".to_owned() } else { format!("/reload?{}", query.join("&")) }
    }

    /// Waits until the trial of this revision is over.
    fn await_verdict(&self, number: &Value) -> Result<ExitCode> {
        loop {
            let (answer, told) = self.admin.call("GET", "/revision")?;
            if answer.status != StatusCode::OK {
                return Ok(refused(&answer, &told));
            }
            if told["canary"]["revision"]["number"] == *number {
                thread::sleep(STEP);
                continue;
            }
            if told["revision"]["number"] == *number {
                writeln!(stdout(), "revision {number} takes all requests")?;
                if told["last_reload"]["enough_requests"] == false {
                    eprintln!("there were too few requests to tell whether it does worse");
                }
                return Ok(ExitCode::SUCCESS);
            }
            let why = told["last_reload"]["discarded"].as_str();
            eprintln!("revision {number} is discarded: {}", why.unwrap_or("another followed it"));
            return Ok(ExitCode::from(EXIT_FAILED));
        }
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
