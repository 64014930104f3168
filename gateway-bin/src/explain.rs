//! `gateway explain`: what would become of a request, and why.

use std::io::{Write, stdout};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use gateway_core::config::AdminAddress;
use gateway_core::explain::{Case, Expectation, Explanation, Question, field, given, table};
use gateway_core::snapshot::Snapshot;
use gateway_core::{EXIT_CONFIG, EXIT_FAILED};
use serde_json::{Value, json};

use crate::ConfigFile;
use crate::admin::call_with;
use crate::check::Format;

#[derive(Args)]
pub(crate) struct Explain {
    /// The method
    #[arg(required_unless_present = "table")]
    method: Option<String>,
    /// The URL, or a path alone
    #[arg(required_unless_present = "table")]
    url: Option<String>,
    /// A header field, as `name: value`; may be given several times
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = field)]
    headers: Vec<(String, String)>,
    /// The address that the connection comes from
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    client_ip: IpAddr,
    /// The listener that it comes through; by default the first of the URL's scheme, and port if it says one
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// What the gateway would see of the connection, as `request.protocol=HTTP/2` or `tls.client.san=DNS:a.example`;
    /// may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = given)]
    given: Vec<(String, String)>,
    #[command(flatten)]
    config: ConfigFile,
    /// Ask the running gateway at this admin address instead: `127.0.0.1:9901` or `unix:/run/gateway/admin.sock`
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    at: Option<AdminAddress>,
    /// What has to be so, as `route=users`; may be given several times. Exit code 1 if one is not
    #[arg(long, value_name = "KEY=VALUE")]
    expect: Vec<Expectation>,
    /// A file of questions and what is expected of each, one a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "url", "headers", "listener", "given", "expect"])]
    table: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Who answers.
enum Source {
    Config(Arc<Snapshot>),
    Running(AdminAddress),
}

impl Explain {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let source = match &self.at {
            Some(address) => Source::Running(address.clone()),
            None => Source::Config(self.config.gateway().check()?.snapshot),
        };
        if let Some(path) = &self.table {
            return run_table(path, &source, self.format);
        }
        let (Some(method), Some(url)) = (&self.method, &self.url) else {
            bail!("a method and a URL are needed");
        };
        let question = Question {
            headers: self.headers.clone(),
            client: self.client_ip,
            listener: self.listener.clone(),
            given: self.given.iter().cloned().collect(),
            ..Question::new(method, url)
        };
        let explanation = match source.ask(&question) {
            Ok(explanation) => explanation,
            Err(Refused::Question(message)) => {
                eprintln!("{message}");
                return Ok(ExitCode::from(EXIT_CONFIG));
            }
            Err(Refused::Other(error)) => return Err(error),
        };
        match self.format {
            Format::Json => writeln!(stdout(), "{:#}", serde_json::to_value(&explanation)?)?,
            Format::Text => write!(stdout(), "{explanation}")?,
        }
        let mut outcome = ExitCode::SUCCESS;
        for wrong in self.expect.iter().filter_map(|expected| expected.check(&explanation).err()) {
            eprintln!("{wrong}");
            outcome = ExitCode::from(EXIT_FAILED);
        }
        Ok(outcome)
    }
}

/// Why there is no answer.
enum Refused {
    /// The question is none.
    Question(String),
    Other(anyhow::Error),
}

impl Source {
    fn ask(&self, question: &Question) -> Result<Explanation, Refused> {
        let address = match self {
            Self::Config(snapshot) => {
                let asked = snapshot.explain(question);
                return asked.map_err(|error| Refused::Question(error.to_string()));
            }
            Self::Running(address) => address,
        };
        let body = serde_json::to_vec(question).map_err(|error| Refused::Other(error.into()))?;
        let (answer, told) =
            call_with(address, "POST", "/explain", body).map_err(Refused::Other)?;
        let detail = || told["detail"].as_str().unwrap_or("no detail").to_owned();
        match answer.status.as_u16() {
            200 => {
                serde_json::from_value(told.clone()).map_err(|error| Refused::Other(error.into()))
            }
            400 => Err(Refused::Question(detail())),
            _ => Err(Refused::Other(anyhow::anyhow!("{}: {}", answer.status, detail()))),
        }
    }
}

fn run_table(path: &Path, source: &Source, format: Format) -> Result<ExitCode> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let cases = match table(&text) {
        Ok(cases) => cases,
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("{shown}:{}: {}", error.line, error.message));
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    let (mut failed, mut unasked, mut told) = (0, false, Vec::new());
    for case in &cases {
        let wrong: Vec<String> = match source.ask(&case.question) {
            Ok(explanation) => {
                case.expected.iter().filter_map(|one| one.check(&explanation).err()).collect()
            }
            Err(Refused::Question(message)) => {
                unasked = true;
                vec![message]
            }
            Err(Refused::Other(error)) => return Err(error),
        };
        failed += usize::from(!wrong.is_empty());
        match format {
            Format::Text => {
                wrong.iter().for_each(|wrong| eprintln!("{shown}:{}: {wrong}", case.line));
            }
            Format::Json => told.push(outcome(case, &wrong)),
        }
    }
    match format {
        Format::Text => writeln!(stdout(), "{} as expected, {failed} not", cases.len() - failed)?,
        Format::Json => writeln!(stdout(), "{:#}", Value::Array(told))?,
    }
    Ok(match (failed, unasked) {
        (0, _) => ExitCode::SUCCESS,
        (_, true) => ExitCode::from(EXIT_CONFIG),
        _ => ExitCode::from(EXIT_FAILED),
    })
}

fn outcome(case: &Case, wrong: &[String]) -> Value {
    json!({
        "line": case.line,
        "method": case.question.method,
        "url": case.question.url,
        "as_expected": wrong.is_empty(),
        "wrong": wrong,
    })
}
