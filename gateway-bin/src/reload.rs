//! `gateway reload`: tell a running gateway to read its config again.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use gateway_core::admin::Client;
use gateway_core::config::{AdminAddress, Fault, Secret};
use gateway_core::{EXIT_CONFIG, EXIT_FAILED};
use http::StatusCode;

#[derive(Args)]
pub(crate) struct Reload {
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

impl Reload {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let client = self.client()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(client.call("POST", "/reload"))?;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.status == StatusCode::OK {
            writeln!(stdout(), "revision {}", body["revision"]["number"])?;
            return Ok(ExitCode::SUCCESS);
        }
        let faults: Vec<Fault> = serde_json::from_value(body["faults"].clone()).unwrap_or_default();
        for fault in faults {
            eprintln!("{fault}");
        }
        if answer.status == StatusCode::UNPROCESSABLE_ENTITY {
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
        eprintln!("{}: {}", answer.status, body["detail"].as_str().unwrap_or("no detail"));
        Ok(ExitCode::from(EXIT_FAILED))
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
