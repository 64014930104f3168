//! `Gateway::builder()`: the embedding API.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::{AdminConfig, Faults, Loaded};
use crate::lifecycle::{self, Asked, DrainOutcome, Running, StartError};
use crate::plugin::{Plugin, Registry, Spec};
use crate::reload::{Builder, History, Source};
use crate::snapshot::Snapshot;

/// The config has faults, or the command line is wrong.
pub const EXIT_CONFIG: u8 = 2;
/// Something failed at run time.
pub const EXIT_FAILED: u8 = 1;
/// There are warnings, and they were asked to be faults.
pub const EXIT_WARNINGS: u8 = 3;
/// An address cannot be bound (`EX_UNAVAILABLE` of sysexits).
pub const EXIT_ADDRESS: u8 = 69;

/// A gateway, to be built.
pub struct Gateway;

impl Gateway {
    /// A gateway without plugins and without a config.
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder {
            registry: Registry::default(),
            source: Source::Text(String::new()),
            last_good: None,
        }
    }
}

/// Gathers what a gateway is made of.
pub struct GatewayBuilder {
    registry: Registry,
    source: Source,
    last_good: Option<History>,
}

/// A config that was found to be good, without a socket and without a task.
pub struct Checked {
    /// The config with its warnings.
    pub loaded: Loaded,
    /// Everything it describes, built.
    pub snapshot: Snapshot,
}

impl GatewayBuilder {
    /// Adds kinds of plugin, such as the whole catalogue.
    pub fn plugins(mut self, kinds: impl IntoIterator<Item = Spec>) -> Self {
        for spec in kinds {
            self.registry.add(spec);
        }
        self
    }

    /// Adds one kind of plugin; it takes the place of a kind of the same name.
    pub fn plugin<P: Plugin>(self) -> Self {
        self.plugins([Spec::of::<P>()])
    }

    /// Reads the config from this file, at start and at every reload.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.source = Source::File(path.into());
        self
    }

    /// Takes this text for the config.
    pub fn config_text(mut self, text: impl Into<String>) -> Self {
        self.source = Source::Text(text.into());
        self
    }

    /// Where the config has faults or an address of it cannot be bound at start, starts with the latest config in this
    /// folder of a history (`reload.history`) that can be started with. It says so as an error in the log, and the
    /// fault is told as that of a reload that failed.
    pub fn last_good(mut self, history: impl Into<PathBuf>) -> Self {
        self.last_good = Some(History::new(history));
        self
    }

    /// The kinds of plugin gathered so far.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The admin part of the config. It is found even in a config that has faults elsewhere, if
    /// need be without interpolation, so that a running gateway can be told of such a config.
    ///
    /// # Errors
    /// The config is not even YAML.
    pub fn admin(&self) -> Result<Option<AdminConfig>, Faults> {
        let builder = Builder::new(self.source.clone(), self.registry.clone());
        match builder.load() {
            Ok(loaded) => Ok(loaded.config.admin),
            Err(faults) => self.source.admin().ok_or(faults),
        }
    }

    /// Builds everything the config describes, by the same code as start and reload.
    ///
    /// # Errors
    /// Every fault, each with its place.
    pub fn check(self) -> Result<Checked, Faults> {
        let builder = Builder::new(self.source, self.registry);
        let loaded = builder.load()?;
        let snapshot = builder.compile(&loaded)?;
        builder.surroundings(&loaded)?;
        Ok(Checked { loaded, snapshot })
    }

    /// Starts to serve, on threads of its own, and returns.
    ///
    /// # Errors
    /// The config has faults, an address cannot be bound, or the system refuses a thread or a file.
    pub fn start(self) -> Result<Running, StartError> {
        let builder = || Builder::new(self.source.clone(), self.registry.clone());
        match &self.last_good {
            None => lifecycle::start(builder()),
            Some(history) => lifecycle::start_or_fall_back(builder, history),
        }
    }

    /// Serves until told to end, and returns the exit code.
    ///
    /// SIGTERM and SIGINT drain, a second one stops at once; SIGHUP reloads; SIGUSR1 opens log
    /// files again. Errors go to stderr and to the log.
    pub fn run(self) -> ExitCode {
        let signals = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let signals = match signals {
            Ok(runtime) => runtime,
            Err(error) => return failed(&error),
        };
        // Signals that come while the gateway starts wait until it has.
        let mut listening = match signals.block_on(async { Signals::listen() }) {
            Ok(listening) => listening,
            Err(error) => return failed(&error),
        };
        match self.start() {
            Ok(running) => signals.block_on(listening.serve(running)),
            Err(StartError::Config(faults)) => {
                eprintln!("{faults}");
                ExitCode::from(EXIT_CONFIG)
            }
            Err(error @ StartError::Bind(_)) => {
                eprintln!("{error}");
                ExitCode::from(EXIT_ADDRESS)
            }
            Err(error @ StartError::System { .. }) => failed(&error),
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(EXIT_FAILED)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    reopen: Signal,
    upgrade: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    async fn serve(&mut self, running: Running) -> ExitCode {
        let running = Arc::new(running);
        let mut asked = std::pin::pin!(running.asked());
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                Asked::Drain = &mut asked => break,
                _ = self.hangup.recv() => {
                    let running = running.clone();
                    // The outcome is logged and can be read at the admin address.
                    let _ = tokio::task::spawn_blocking(move || running.reload().is_ok()).await;
                }
                _ = self.reopen.recv() => running.reopen_logs(),
                _ = self.upgrade.recv() => tracing::warn!("this build cannot upgrade itself yet"),
            }
        }
        let Ok(running) = Arc::try_unwrap(running).map_err(drop) else {
            return failed(&"a reload is still under way");
        };
        self.drain(running).await
    }

    async fn drain(&mut self, running: Running) -> ExitCode {
        let limit = running.snapshots().load().config.server.drain_timeout.into();
        let hurry = watch::Sender::new(false);
        let told = hurry.subscribe();
        let mut drained = tokio::task::spawn_blocking(move || running.drain(limit, told));
        loop {
            tokio::select! {
                outcome = &mut drained => return match outcome {
                    // That time was up is in the log; the stop itself went as asked.
                    Ok(DrainOutcome::Complete | DrainOutcome::Cut(_)) => ExitCode::SUCCESS,
                    Err(error) => failed(&error),
                },
                _ = self.terminate.recv() => { hurry.send_replace(true); }
                _ = self.interrupt.recv() => { hurry.send_replace(true); }
            }
        }
    }
}
