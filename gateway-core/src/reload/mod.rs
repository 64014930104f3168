//! Where a config comes from, and how it takes the place of the one in force.

mod canary;
mod follow;
mod history;
mod source;
mod surroundings;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::runtime::Handle;

use crate::config::{Config, ConfigPath, Fault, Faults, Loaded, Percent, Span, restarting};
use crate::listener::{Prepared, Sockets};
use crate::notify::Notify;
use crate::plugin::Registry;
use crate::snapshot::{Compiler, Revision, Snapshot, SnapshotHandle, Store, compile};
use crate::telemetry::{AccessLog, Metrics, ReloadOutcome, Telemetry};

pub(crate) use self::canary::Trial;
use self::follow::Files;
pub(crate) use self::follow::LOOK;

pub use history::{Entry, History};
pub use source::Source;
pub(crate) use surroundings::is_own;

/// Builds snapshots from a source: the same way for `check`, start and reload.
pub struct Builder {
    pub(crate) source: Source,
    pub(crate) registry: Registry,
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Metrics>,
    files: Files,
    next: AtomicU64,
}

impl Builder {
    /// A builder over this source and these kinds of plugin.
    pub fn new(source: Source, registry: Registry) -> Self {
        Self {
            source,
            registry,
            store: Store::default(),
            metrics: Arc::new(
                Metrics::new(env!("CARGO_PKG_VERSION")).expect("the table of metrics is tested"),
            ),
            files: Files::default(),
            next: AtomicU64::new(1),
        }
    }

    /// Reads the source. What its checks find is reported by [`compile`](Self::compile), together
    /// with what the plugins find.
    ///
    /// # Errors
    /// Every fault of the document's form, each with its place.
    pub fn load(&self) -> Result<Loaded, Faults> {
        self.files.reading(&self.source);
        let loaded = self.source.load(&self.registry)?;
        self.files.naming(&loaded.named);
        Ok(loaded)
    }

    /// As [`load`](Self::load), of another source.
    pub(crate) fn load_from(&self, source: &Source) -> Result<Loaded, Faults> {
        source.load(&self.registry)
    }

    /// Builds everything a loaded config describes, without a socket and without a task.
    ///
    /// # Errors
    /// Every fault found by the document's checks, by the plugins and by the references between the
    /// nouns.
    pub fn compile(&self, loaded: &Loaded) -> Result<Snapshot, Faults> {
        self.compile_as(loaded, self.next(), false)
    }

    /// As [`compile`](Self::compile), with this number, of one that is in force or is tried beside it.
    fn compile_as(&self, loaded: &Loaded, number: u64, is_tried: bool) -> Result<Snapshot, Faults> {
        compile(
            loaded,
            &Compiler {
                registry: &self.registry,
                store: &self.store,
                metrics: &self.metrics,
                workers: workers(&loaded.config),
                number,
                is_tried,
            },
        )
    }

    /// Keeps a config that was accepted, where it says so.
    pub(crate) fn keep(&self, loaded: &Loaded) {
        let Some(history) = &loaded.config.reload.history else { return };
        if let Err(error) = History::new(&*history.folder).add(loaded, history.keep) {
            let folder = history.folder.display();
            tracing::error!(%folder, %error, "the config is in force and cannot be kept in the history");
        }
    }

    /// The number of the next revision.
    fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The number of the next revision is the one after this.
    pub(crate) fn follows(&self, revision: u64) {
        self.next.store(revision.saturating_add(1), Ordering::Relaxed);
    }

    /// Counts a snapshot that was installed and starts the tasks of its plugins and upstreams.
    pub(crate) fn installed(&self, snapshot: &Snapshot, runtime: &Handle) {
        snapshot.tasks.start(runtime);
        snapshot.upstreams().iter().for_each(|upstream| upstream.start(runtime));
        self.next.store(snapshot.revision.number + 1, Ordering::Relaxed);
        self.store.sweep();
        self.metrics.config_in_use(snapshot.revision.number, &snapshot.revision.digest);
        self.retain(snapshot);
    }

    /// Removes the series of all names that are not in this snapshot.
    fn retain(&self, snapshot: &Snapshot) {
        let metrics = &self.metrics;
        metrics.retain_routes(&snapshot.routes().iter().map(|route| &*route.name).collect());
        metrics.retain_upstreams(&snapshot.upstreams().iter().map(|one| one.name()).collect());
        metrics.retain_listeners(&snapshot.listeners().iter().map(|one| &*one.name).collect());
        metrics.retain_plugins(&snapshot.plugin_names());
    }
}

/// The outcome of the last reload, for the admin address.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LastReload {
    /// When it was tried, in seconds since 1970.
    pub at: u64,
    /// Whether the new config is in force.
    pub succeeded: bool,
    /// What was wrong with it, if it is not.
    pub faults: Vec<Fault>,
    /// Why a config that was tried does not take all requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discarded: Option<String>,
    /// The entry of the history that is in force in place of what the source says.
    pub history_entry: Option<u64>,
    /// How that came about, if it was rolled back to.
    #[serde(skip)]
    pub(crate) rolled_back: Option<RolledBack>,
    /// Whether a config that was tried had as many requests as it takes to tell how it does; `None` if none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enough_requests: Option<bool>,
}

/// Why a process that has handed over changes nothing.
pub(crate) const ELSEWHERE: &str =
    "another process serves in place of this one; call again to reach it";

/// What was rolled back to.
#[derive(Clone, Debug)]
pub(crate) struct RolledBack {
    /// The history.
    pub(crate) history: PathBuf,
    /// The digest of what the source said then; `None` if it had faults.
    pub(crate) from: Option<String>,
}

impl LastReload {
    pub(crate) fn now(succeeded: bool, faults: Vec<Fault>, in_force: InForce) -> Self {
        let at = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let InForce { history_entry, rolled_back } = in_force;
        let (discarded, enough_requests) = (None, None);
        Self { at, succeeded, faults, discarded, history_entry, rolled_back, enough_requests }
    }

    fn in_force(&self) -> InForce {
        InForce { history_entry: self.history_entry, rolled_back: self.rolled_back.clone() }
    }
}

/// What of a history is in force in place of what the source says.
#[derive(Clone, Debug, Default)]
pub(crate) struct InForce {
    pub(crate) history_entry: Option<u64>,
    pub(crate) rolled_back: Option<RolledBack>,
}

fn no_history() -> ReloadError {
    ReloadError::History("no history is kept; `reload.history` says where".to_owned())
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The config is not one that can run, or that can follow the one in force without a restart.
    #[error(transparent)]
    Config(#[from] Faults),
    /// An address of it cannot be bound.
    #[error("{0}")]
    Address(Fault),
    /// There is nothing to go back to.
    #[error("{0}")]
    History(String),
    /// Something else is in the way.
    #[error("{0}")]
    Busy(String),
}

/// Whether a config is tried on a share of requests first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// As the config in force says.
    AsConfigured,
    /// It takes all requests at once.
    AtOnce,
    /// It is, in such a way; what is not said is as the config in force says, or its defaults.
    Tried { share: Option<Percent>, time: Option<Span> },
}

/// A config that was read.
#[derive(Clone, Debug)]
pub(crate) struct Reloaded {
    pub(crate) revision: Revision,
    /// It is on trial, and not in force yet (`reload.canary`).
    pub(crate) is_tried: bool,
}

/// All that a config needs to take the place of the one in force.
struct Built {
    snapshot: Snapshot,
    log: Option<Arc<AccessLog>>,
    prepared: Prepared,
}

impl ReloadError {
    /// What is wrong, each with its place.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        let (faults, address) = match self {
            Self::Config(faults) => (Some(faults), None),
            Self::Address(fault) => (None, Some(fault)),
            Self::History(_) | Self::Busy(_) => (None, None),
        };
        faults.into_iter().flat_map(Faults::iter).chain(address)
    }
}

impl From<Fault> for ReloadError {
    fn from(fault: Fault) -> Self {
        Self::Config(fault.into())
    }
}

/// Replaces the snapshot in force, one reload at a time.
pub(crate) struct Reloader {
    pub(crate) builder: Arc<Builder>,
    pub(crate) snapshots: SnapshotHandle,
    pub(crate) sockets: Arc<Sockets>,
    /// What plugins' tasks run on.
    pub(crate) runtime: Handle,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Who is told that a reload is under way, and what came of it.
    pub(crate) notify: Notify,
    pub(crate) last: Mutex<Option<LastReload>>,
    pub(crate) trial: Mutex<Option<Trial>>,
    /// Another process serves: what is in force is its affair.
    pub(crate) handed_over: AtomicBool,
    pub(crate) turn: Mutex<()>,
}

impl Reloader {
    /// Reads the source again, builds the whole snapshot, then swaps, or tries it first. Blocks while it builds.
    ///
    /// # Errors
    /// Every fault; nothing has changed then.
    pub(crate) fn reload(&self, how: How) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.serves()?;
        let mut under_way = self.notify.reloading();
        let outcome = self.builder.load().map_err(ReloadError::from).and_then(|loaded| {
            if let Some(canary) = self.tried_as(&how, &loaded) {
                return self.put_on_trial(loaded, canary);
            }
            let revision = self.replace(&loaded, self.builder.next())?;
            self.builder.keep(&loaded);
            Ok(Reloaded { revision, is_tried: false })
        });
        if let Ok(Reloaded { revision, is_tried: true }) = &outcome {
            let in_force = &self.snapshots.load().revision;
            under_way.came_to(format!("{in_force}; revision {} is tried", revision.number));
            return outcome;
        }
        let told = outcome.map(|reloaded| reloaded.revision);
        self.tell(&told, InForce::default());
        under_way.came_to(self.status(&told));
        told.map(|revision| Reloaded { revision, is_tried: false })
    }

    /// Puts a config in force that was before: this entry of the history, or the one before the one in force. The
    /// source stays as it is, and the next reload reads it.
    ///
    /// # Errors
    /// There is no such entry, or it cannot be in force any more; nothing has changed then.
    pub(crate) fn rollback(&self, to: Option<u64>) -> Result<(Revision, Entry), ReloadError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.serves()?;
        let entry = self.earlier(to)?;
        let Some(history) = self.history() else { return Err(no_history()) };
        // What the source says may be why.
        let from = self.builder.load_from(&self.builder.source).ok().map(|loaded| loaded.digest);
        let kept = InForce {
            history_entry: Some(entry.number),
            rolled_back: Some(RolledBack { history: history.folder().to_owned(), from }),
        };
        let source = Source::Kept(history, entry.number);
        let mut under_way = self.notify.reloading();
        let loaded = self.builder.load_from(&source).map_err(ReloadError::from);
        let outcome = loaded.and_then(|loaded| self.replace(&loaded, self.builder.next()));
        self.tell(&outcome, kept);
        under_way.came_to(self.status(&outcome));
        if outcome.is_ok() {
            let entry = entry.number;
            tracing::warn!(
                entry,
                "rolled back; the config's files are as they were, and the next reload reads them"
            );
        }
        Ok((outcome?, entry))
    }

    /// What was accepted, the latest first.
    ///
    /// # Errors
    /// It cannot be read, or nothing is kept.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, ReloadError> {
        let entries = self.history().ok_or_else(no_history)?.entries();
        entries.map_err(|error| ReloadError::History(error.to_string()))
    }

    fn history(&self) -> Option<History> {
        let snapshot = self.snapshots.load();
        snapshot.config.reload.history.as_ref().map(|history| History::new(&*history.folder))
    }

    fn earlier(&self, to: Option<u64>) -> Result<Entry, ReloadError> {
        let entries = self.entries()?;
        let in_force = self.snapshots.load().revision.digest.clone();
        let found = match to {
            Some(number) => entries.into_iter().find(|entry| entry.number == number),
            None => {
                let at = entries.iter().position(|entry| entry.digest == in_force);
                let earlier = entries.into_iter().skip(at.map_or(0, |at| at + 1));
                earlier.into_iter().find(|entry| entry.digest != in_force)
            }
        };
        found.ok_or_else(|| {
            ReloadError::History(match to {
                Some(number) => format!("there is no entry {number} in the history"),
                None => "there is nothing before this config in the history".to_owned(),
            })
        })
    }

    /// What was rolled back to and is in force: how, and which entry.
    pub(crate) fn rolled_back_to(&self) -> Option<(RolledBack, u64)> {
        let InForce { history_entry, rolled_back } = self.last()?.in_force();
        rolled_back.zip(history_entry)
    }

    /// # Errors
    /// Another process serves in place of this one.
    fn serves(&self) -> Result<(), ReloadError> {
        if !self.handed_over.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(ReloadError::Busy(ELSEWHERE.to_owned()))
    }

    /// What is in force, and why not something else, in a line.
    fn status(&self, outcome: &Result<Revision, ReloadError>) -> String {
        match outcome {
            Ok(revision) => revision.to_string(),
            Err(error) => {
                let revision = &self.snapshots.load().revision;
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default();
                format!("{revision}; the last reload was refused: {why}")
            }
        }
    }

    /// Notes how it went, for whoever asks.
    fn tell(&self, outcome: &Result<Revision, ReloadError>, entry: InForce) {
        let result = if outcome.is_ok() { ReloadOutcome::Success } else { ReloadOutcome::Failure };
        self.builder.metrics.reloaded(result, SystemTime::now());
        let faults: Vec<Fault> = match outcome {
            Ok(revision) => {
                tracing::info!(revision = revision.number, digest = revision.digest, "reloaded");
                Vec::new()
            }
            Err(error) => {
                for fault in error.faults() {
                    tracing::error!(%fault, "reload refused; nothing has changed");
                }
                error.faults().cloned().collect()
            }
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.as_ref().map(LastReload::in_force).unwrap_or_default();
        // What is refused leaves in force what was.
        let in_force = if outcome.is_ok() { entry } else { before };
        *last = Some(LastReload::now(outcome.is_ok(), faults, in_force));
    }

    /// How the last reload went; `None` before there was one.
    pub(crate) fn last(&self) -> Option<LastReload> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reloads if files of the config have changed.
    pub(crate) fn follow(&self) {
        if self.builder.files.look(&self.builder.source) {
            tracing::info!("files of the config have changed; reading it again");
            // What is wrong with it is in the log.
            let _ = self.reload(How::AsConfigured);
        }
    }

    /// Does all that can fail.
    fn build(&self, loaded: &Loaded, number: u64, is_tried: bool) -> Result<Built, ReloadError> {
        refuse_restart(&self.snapshots.load().config, loaded)?;
        self.builder.surroundings(loaded)?;
        let snapshot = self.builder.compile_as(loaded, number, is_tried)?;
        let log = self.telemetry.prepare(&loaded.config, &snapshot.concealed).map_err(|error| {
            let path = ConfigPath::root().key("access_log").key("output");
            loaded.document.fault(&path, error.to_string())
        })?;
        let config = &loaded.config;
        let prepared =
            self.sockets.prepare(&snapshot, workers(config), &mut Vec::new()).map_err(|error| {
                let mut listeners = config.listeners.iter();
                let index =
                    listeners.position(|one| one.name == *error.listener).unwrap_or_default();
                let path = ConfigPath::root().key("listeners").index(index).key("address");
                ReloadError::Address(loaded.document.fault(&path, error.to_string()))
            })?;
        Ok(Built { snapshot, log, prepared })
    }

    fn replace(&self, loaded: &Loaded, number: u64) -> Result<Revision, ReloadError> {
        let Built { snapshot, log, prepared } = self.build(loaded, number, false)?;
        self.supersede();
        let config = &loaded.config;
        let revision = snapshot.revision.clone();
        // From here on nothing fails.
        self.sockets.leave(&prepared, &self.snapshots.load());
        let before = self.snapshots.replace(snapshot);
        self.telemetry.install(log);
        self.builder.installed(&self.snapshots.load(), &self.runtime);
        self.sockets.install(prepared, config.server.drain_timeout.into(), &self.runtime);
        drop(before);
        Ok(revision)
    }
}

/// How many workers a config asks for on this machine.
pub(crate) fn workers(config: &Config) -> usize {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    config.server.workers.on(cores).get()
}

/// Refuses what only a restart can change, with a message that says so.
fn refuse_restart(running: &Config, loaded: &Loaded) -> Result<(), Faults> {
    let faults = restarting(running, &loaded.config).map(|key| {
        let message = format!(
            "`{key}` cannot change while the gateway runs; `gateway upgrade` or a restart does that"
        );
        loaded.document.fault(&ConfigPath::root().key(key), message)
    });
    Faults::refuse_any(faults.collect())
}
