//! `gateway upstreams` and `gateway endpoint`: what a running gateway's endpoints are, and calls that
//! change one.

use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::StatusCode;
use serde_json::Value;

use crate::admin::{Admin, refused};
use crate::breaker;
use crate::check::Format;

#[derive(Args)]
pub(crate) struct Upstreams {
    #[command(flatten)]
    admin: Admin,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Args)]
pub(crate) struct EndpointCall {
    #[command(subcommand)]
    call: Call,
}

#[derive(Subcommand)]
enum Call {
    /// Send it no more requests, and wait for those that it has
    Drain {
        #[command(flatten)]
        which: Which,
        /// How long to wait for its requests in flight, at most 10m
        #[arg(long, value_name = "TIME", default_value = "0s")]
        wait: String,
    },
    /// Send it requests again
    Restore {
        #[command(flatten)]
        which: Which,
    },
    /// Give it another weight until the config says a new one, or `config` for what the config says
    Weight {
        #[command(flatten)]
        which: Which,
        /// 0 to 65535, or `config`
        weight: String,
    },
}

/// Which endpoint of which gateway.
#[derive(Args)]
struct Which {
    /// The upstream's name
    upstream: String,
    /// The endpoint's address
    address: SocketAddr,
    #[command(flatten)]
    admin: Admin,
}

impl Upstreams {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (answer, body) = self.admin.call("GET", "/upstreams")?;
        if answer.status != StatusCode::OK {
            return Ok(refused(&answer, &body));
        }
        if self.format == Format::Json {
            writeln!(stdout(), "{body:#}")?;
            return Ok(ExitCode::SUCCESS);
        }
        for upstream in body.as_array().into_iter().flatten() {
            writeln!(stdout(), "{}", upstream["name"].as_str().unwrap_or_default())?;
            if let Some(fault) = upstream["discovery"]["fault"].as_str() {
                writeln!(stdout(), "    discovery fails: {fault}")?;
            }
            for endpoint in upstream["endpoints"].as_array().into_iter().flatten() {
                writeln!(stdout(), "    {}", line(endpoint))?;
            }
            for breaker in upstream["breakers"].as_array().into_iter().flatten() {
                writeln!(stdout(), "    circuit breaker {}", breaker::line(breaker))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// An endpoint on a line.
fn line(endpoint: &Value) -> String {
    let text = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
    let mut parts = vec![
        format!("{:<24} {:<10} {}", text("address"), text("state"), weight(endpoint)),
        format!("{} in flight", endpoint["in_flight"]),
    ];
    parts.extend(endpoint["reason"].as_str().map(str::to_owned));
    parts.join(", ")
}

fn weight(endpoint: &Value) -> String {
    match &endpoint["overrides"]["weight"] {
        Value::Null => format!("weight {}", endpoint["weight"]),
        changed => format!("weight {changed} in place of {}", endpoint["weight"]),
    }
}

impl EndpointCall {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (which, method, what) = match &self.call {
            Call::Drain { which, wait } => (which, "POST", format!("drain?wait={wait}")),
            Call::Restore { which } => (which, "DELETE", "drain".to_owned()),
            Call::Weight { which, weight } if weight == "config" => {
                (which, "DELETE", "weight".to_owned())
            }
            Call::Weight { which, weight } => (which, "POST", format!("weight?value={weight}")),
        };
        let Which { upstream, address, admin } = which;
        // IPv6 stands in brackets, which a path cannot hold.
        let address_there = address.to_string().replace('[', "%5B").replace(']', "%5D");
        let path = format!("/upstreams/{upstream}/endpoints/{address_there}/{what}");
        if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            bail!("`{what}` cannot be asked for");
        }
        let (answer, body) = admin.call(method, &path)?;
        if answer.status != StatusCode::OK {
            return Ok(refused(&answer, &body));
        }
        let state = body["state"].as_str().unwrap_or_default();
        let told = match &self.call {
            Call::Weight { .. } => weight(&body),
            _ => format!("{} in flight", body["in_flight"]),
        };
        writeln!(stdout(), "{address} {state}, {told}")?;
        Ok(ExitCode::SUCCESS)
    }
}
