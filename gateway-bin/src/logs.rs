//! The gateway's own log, on stderr: text on a terminal, JSON lines elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Pingora reports every client that misbehaves as an error of its own. The gateway counts and
/// records those itself, so that Pingora is silent unless `RUST_LOG` asks for it.
const DEFAULT: &str = "info,pingora=off,pingora_core=off,pingora_proxy=off,pingora_pool=off,h2=off";

pub(crate) fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
