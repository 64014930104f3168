//! `gateway run`: serve in the foreground.

use std::process::ExitCode;

use crate::{ConfigFile, logs};

pub(crate) fn run(config: &ConfigFile) -> ExitCode {
    logs::init();
    config.gateway().run()
}
