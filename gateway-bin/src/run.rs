//! `gateway run`: serve in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::{ConfigFile, logs};

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    config: ConfigFile,
    /// Start with the latest config in this folder of a history that can be started with, where the one given cannot
    #[arg(long, value_name = "FOLDER")]
    last_good: Option<PathBuf>,
    /// Serve in a process of its own, and stay while that one is upgraded; process 1 does so in any case
    #[arg(long)]
    supervise: bool,
}

impl Run {
    pub(crate) fn run(&self) -> ExitCode {
        logs::init();
        let mut gateway = self.config.gateway();
        if let Some(history) = &self.last_good {
            gateway = gateway.last_good(history);
        }
        if self.supervise {
            gateway = gateway.supervised();
        }
        gateway.run()
    }
}
