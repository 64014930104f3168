//! `Gateway::builder()`: the embedding API.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal as PassedOn;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::{AdminConfig, ConfigPath, Faults, Loaded};
use crate::explain::Circle;
use crate::lifecycle::{
    self, Asked, DrainOutcome, Origins, Running, StartError, Successor, UpgradeError, is_supervisor,
};
use crate::notify::Notify;
use crate::plugin::{Plugin, Registry, Spec};
use crate::reload::{Builder, History, How, ReloadError, Source};
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
            successor: None,
            supervised: false,
        }
    }
}

/// Gathers what a gateway is made of.
pub struct GatewayBuilder {
    registry: Registry,
    source: Source,
    last_good: Option<History>,
    successor: Option<Successor>,
    supervised: bool,
}

/// A config that was found to be good, without a socket and without a task.
pub struct Checked {
    /// The config with its warnings.
    pub loaded: Loaded,
    /// Everything it describes, built.
    pub snapshot: Arc<Snapshot>,
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

    /// What is started where the gateway is told to upgrade itself: this program with these arguments, which is to
    /// [`start`](Self::start) or [`run`](Self::run) a gateway in its turn; it takes over from this one then. Without it
    /// `run` starts what its process was started as, and `start` upgrades nothing.
    pub fn successor(
        mut self,
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        self.successor = Some(Successor::new(program.into(), args));
        self
    }

    /// Has [`run`](Self::run) serve in a process of its own, which this one waits for. This one stays where that one is
    /// upgraded, and passes signals on to whichever serves; it ends as the last one did. Process 1, as in a container,
    /// does so in any case.
    pub fn supervised(mut self) -> Self {
        self.supervised = true;
        self
    }

    /// The kinds of plugin gathered so far.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The admin part of the config. It is found even in a config that has faults elsewhere or is no YAML there, if
    /// need be without interpolation, so that a running gateway can be told of such a config.
    ///
    /// # Errors
    /// It is not found, and the config has these faults.
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
        let mut loaded = builder.load()?;
        let snapshot = builder.compile(&loaded)?;
        builder.surroundings(&loaded)?;
        loaded.warnings.extend(snapshot.warnings.iter().cloned());
        let snapshot = Arc::new(snapshot);
        for Circle { route, way } in snapshot.circles() {
            let path = ConfigPath::root().key("routes").index(route).key("redirect");
            const SHOWN: usize = 5;
            let more = if way.len() > SHOWN { "... -> " } else { "" };
            let again = way.first().map(|(url, _)| url.clone()).unwrap_or_default();
            let way = way.into_iter().take(SHOWN).map(|(url, by)| format!("{url} ({by}) -> "));
            let message =
                format!("leads in a circle: {}{more}{again}", way.collect::<Vec<_>>().concat());
            loaded.warnings.push(loaded.document.fault(&path, message));
        }
        loaded.warnings.sort();
        Ok(Checked { loaded, snapshot })
    }

    /// Starts to serve, on threads of its own, and returns. Where another process serves that has started this one to
    /// follow it, or that answers at `server.upgrade_socket`, this one takes over.
    ///
    /// # Errors
    /// The config has faults, an address cannot be bound, or the system refuses a thread or a file.
    pub fn start(self) -> Result<Running, StartError> {
        self.start_as(Notify { is_process: false })
    }

    fn start_as(self, notify: Notify) -> Result<Running, StartError> {
        let origins = Origins { successor: self.successor, notify };
        let builder = || Builder::new(self.source.clone(), self.registry.clone());
        match &self.last_good {
            None => lifecycle::start(builder(), origins),
            Some(history) => lifecycle::start_or_fall_back(builder, history, origins),
        }
    }

    /// Serves until told to end, and returns the exit code.
    ///
    /// SIGTERM and SIGINT drain, a second one stops at once; SIGHUP reloads; SIGUSR1 opens log
    /// files again; SIGUSR2 has another process of the same program take over. Errors go to stderr and to the log.
    pub fn run(mut self) -> ExitCode {
        let successor = self.successor.take();
        // Where it is not known what runs here, nothing can be started to follow it.
        self.successor = successor.or_else(|| Successor::like_this().ok());
        if let Some(gateway) = self.successor.as_ref().filter(|_| is_supervisor(self.supervised)) {
            return lifecycle::supervise(gateway);
        }
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
        match self.start_as(Notify { is_process: true }) {
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

/// Signals that come together are one: of a terminal to a group of processes, and passed on by another of them.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

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
        let state = running.state().clone();
        let mut asked = std::pin::pin!(running.asked());
        loop {
            let state = state.clone();
            // Neither keeps the next signal waiting. Their outcomes are logged and can be read at the admin address.
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                Asked::Drain = &mut asked => break,
                _ = self.hangup.recv() => {
                    tokio::task::spawn_blocking(move || {
                        if let Err(ReloadError::Busy(_)) = state.reloader.reload(How::AsConfigured) {
                            state.pass_on(PassedOn::HUP);
                        }
                    });
                }
                _ = self.reopen.recv() => running.reopen_logs(),
                _ = self.upgrade.recv() => {
                    tokio::task::spawn_blocking(move || {
                        if let Err(UpgradeError::NotNow(why)) = state.upgrade() {
                            tracing::error!(why, "no upgrade now");
                        }
                    });
                }
            }
        }
        drop(state);
        self.drain(running).await
    }

    async fn drain(&mut self, running: Running) -> ExitCode {
        let limit = running.snapshots().load().config.server.drain_timeout.into();
        let hurry = watch::Sender::new(false);
        let told = hurry.subscribe();
        let state = running.state().clone();
        let (mut told_before, mut passed) = (Instant::now(), false);
        // Whoever tells one that has handed over to end means the process that serves; and a terminal tells all.
        let mut end = |passed_on: Option<PassedOn>| {
            // The process before passes on what it may have been told together with this one.
            if told_before.elapsed() < SAME_SIGNAL && state.is_before_there() {
                return;
            }
            told_before = Instant::now();
            if state.is_handed_over() && !std::mem::replace(&mut passed, true) {
                passed_on.into_iter().for_each(|signal| state.pass_on(signal));
            } else {
                hurry.send_replace(true);
            }
        };
        let mut drained = tokio::task::spawn_blocking(move || running.drain(limit, told));
        loop {
            tokio::select! {
                outcome = &mut drained => return match outcome {
                    // That time was up is in the log; the stop itself went as asked.
                    Ok(DrainOutcome::Complete | DrainOutcome::Cut(_)) => ExitCode::SUCCESS,
                    Ok(DrainOutcome::Deserted(_)) => ExitCode::from(EXIT_FAILED),
                    Err(error) => failed(&error),
                },
                _ = self.terminate.recv() => end(Some(PassedOn::TERM)),
                _ = self.interrupt.recv() => end(None),
                // Whoever sends these means the process that serves by now, if there is one.
                _ = self.hangup.recv() => state.pass_on(PassedOn::HUP),
                _ = self.reopen.recv() => {
                    state.telemetry.reopen();
                    state.pass_on(PassedOn::USR1);
                }
                _ = self.upgrade.recv() => state.pass_on(PassedOn::USR2),
            }
        }
    }
}
