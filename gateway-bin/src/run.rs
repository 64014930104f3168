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
}

impl Run {
    pub(crate) fn run(&self) -> ExitCode {
        logs::init();
        let gateway = self.config.gateway();
        match &self.last_good {
            None => gateway.run(),
            Some(history) => gateway.last_good(history).run(),
        }
    }
}
