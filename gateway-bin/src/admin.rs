//! Where the admin address of a running gateway is, for the commands that call it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use gateway_core::admin::{Answer, Client};
use gateway_core::config::{AdminAddress, Secret};
use gateway_core::{EXIT_CONFIG, EXIT_FAILED};
use serde_json::Value;

#[derive(Args)]
pub(crate) struct Admin {
    /// The gateway's admin address: `127.0.0.1:9901` or `unix:/run/gateway/admin.sock`
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    admin: Option<AdminAddress>,
    /// A config file that says where the admin address is
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// A file that holds the admin token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Admin {
    /// Makes one call.
    pub(crate) fn call(&self, method: &str, path: &str) -> Result<(Answer, Value)> {
        let client = self.client()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(client.call(method, path))?;
        let body = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok((answer, body))
    }

    fn client(&self) -> Result<Client> {
        let token = self.token_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path);
            text.with_context(|| format!("cannot read {}", path.display()))
        });
        let token = token.transpose()?.map(|text| Secret::new(text.trim_end().to_owned()));
        if let Some(address) = &self.admin {
            return Ok(Client::new(address.clone(), token));
        }
        // The config on disk may be the very one with the fault, so only its admin part counts.
        let admin = crate::stock().config_file(&self.config).admin()?;
        let Some(admin) = admin else {
            bail!("{} has no `admin` address; give one with --admin", self.config.display());
        };
        let token = match (token, &admin.token) {
            (None, Some(configured)) => Some(
                configured.resolve(&|name| std::env::var(name).ok()).map_err(anyhow::Error::msg)?,
            ),
            (given, _) => given,
        };
        Ok(Client::new(admin.address, token))
    }
}

/// Makes one call with a body, and without a token.
pub(crate) fn call_with(
    address: &AdminAddress,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<(Answer, Value)> {
    let client = Client::new(address.clone(), None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(client.call_with(method, path, body))?;
    let body = serde_json::from_slice(&answer.body).unwrap_or_default();
    Ok((answer, body))
}

/// Says why a call was refused.
pub(crate) fn refused(answer: &Answer, body: &Value) -> ExitCode {
    eprintln!("{}: {}", answer.status, body["detail"].as_str().unwrap_or("no detail"));
    // What cannot be asked for is an error of the command line.
    let of_command = answer.status == http::StatusCode::BAD_REQUEST;
    ExitCode::from(if of_command { EXIT_CONFIG } else { EXIT_FAILED })
}
