//! `gateway breaker`: opens and closes a running gateway's circuit breakers, whatever they find.

use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use http::StatusCode;
use serde_json::Value;

use crate::admin::{Admin, refused};

#[derive(Args)]
pub(crate) struct BreakerCall {
    #[command(subcommand)]
    call: Call,
}

#[derive(Subcommand)]
enum Call {
    /// Let nothing through
    Open(Which),
    /// Let everything through
    Close(Which),
    /// Let them do again what they find right
    Auto(Which),
}

/// Which breakers of which gateway.
#[derive(Args)]
struct Which {
    /// The upstream's name
    upstream: String,
    /// The plugin's name
    plugin: String,
    /// Those of one route alone
    #[arg(long)]
    route: Option<String>,
    /// That of one endpoint alone
    #[arg(long, value_name = "ADDRESS")]
    endpoint: Option<SocketAddr>,
    #[command(flatten)]
    admin: Admin,
}

impl BreakerCall {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (which, method, state) = match &self.call {
            Call::Open(which) => (which, "POST", Some("state=open".to_owned())),
            Call::Close(which) => (which, "POST", Some("state=closed".to_owned())),
            Call::Auto(which) => (which, "DELETE", None),
        };
        let Which { upstream, plugin, route, endpoint, admin } = which;
        let route = route.as_ref().map(|route| format!("route={route}"));
        // IPv6 stands in brackets, which a query cannot hold.
        let endpoint = endpoint.map(|address| {
            format!("endpoint={}", address.to_string().replace('[', "%5B").replace(']', "%5D"))
        });
        let query: Vec<String> = [state, route, endpoint].into_iter().flatten().collect();
        let path = format!("/upstreams/{upstream}/breakers/{plugin}?{}", query.join("&"));
        let (answer, body) = admin.call(method, &path)?;
        if answer.status != StatusCode::OK {
            return Ok(refused(&answer, &body));
        }
        for breaker in body.as_array().into_iter().flatten() {
            writeln!(stdout(), "{}", line(breaker))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A breaker on a line.
pub(crate) fn line(breaker: &Value) -> String {
    let text = |key: &str| breaker[key].as_str();
    let mut parts = vec![format!("{} {}", text("plugin").unwrap_or_default(), {
        text("state").unwrap_or_default().replace('_', " ")
    })];
    parts.extend(text("told").map(|_| "as it was told".to_owned()));
    parts.extend(text("route").map(|route| format!("route {route}")));
    parts.extend(text("endpoint").map(|endpoint| format!("endpoint {endpoint}")));
    parts.join(", ")
}
