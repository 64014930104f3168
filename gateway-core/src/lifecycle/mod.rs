//! Start, serve, drain, end.

mod activation;
mod choose;
mod drain;
mod handover;
mod start;
mod supervise;
mod watchdog;
mod worker;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::sync::watch;

use crate::config::AdminAddress;
use crate::listener::{BindError, Connections, Sockets};
use crate::notify::Notify;
use crate::reload::{How, ReloadError, Reloader};
use crate::snapshot::SnapshotHandle;
use crate::telemetry::Telemetry;
use crate::upstream::Watch;

pub(crate) use choose::{start, start_or_fall_back};
pub use drain::DrainOutcome;
use handover::LastUpgrade;
pub(crate) use handover::Successor;
pub use handover::{UpgradeError, Upgraded};
pub(crate) use supervise::{is_supervisor, supervise};

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The config is not one that can run.
    #[error(transparent)]
    Config(#[from] crate::config::Faults),
    /// An address cannot be accepted on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system refuses something else.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// What a gateway knows of how its process was started.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    /// What follows the process where it is to be upgraded.
    pub(crate) successor: Option<Successor>,
    pub(crate) notify: Notify,
}

/// How a process that follows has ended; 0 while it has not.
const ENDED_WELL: u8 = 1;
const ENDED_BADLY: u8 = 2;

/// What a running gateway's parts are told, and what they tell.
pub(crate) struct State {
    pub(crate) snapshots: SnapshotHandle,
    pub(crate) reloader: Reloader,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) plugins: Vec<(&'static str, crate::plugin::Class)>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) started: Instant,
    /// What follows this process where it is to be upgraded.
    pub(crate) successor: Option<Successor>,
    /// Held while it is.
    upgrading: Mutex<()>,
    last_upgrade: Mutex<Option<LastUpgrade>>,
    /// The process that serves in place of this one, where its number is known; 0 before.
    follower: AtomicU32,
    /// It was started by this one, and has ended while this one drains.
    follower_ended: Arc<AtomicU8>,
    /// Open until this process ends: the one that follows waits for that when it ends itself.
    line_after: Mutex<Option<UnixStream>>,
    /// Closes when the process before has ended.
    line_before: Mutex<Option<UnixStream>>,
    /// The admin address's socket.
    admin: Mutex<Option<(AdminAddress, OwnedFd)>>,
    /// Admin calls are answered; where not, they wait.
    pub(crate) admin_accepts: watch::Sender<bool>,
    /// How many connections to it are open, and how many calls are being answered.
    pub(crate) admin_connections: AtomicUsize,
    pub(crate) admin_calls: AtomicUsize,
    pub(crate) notify: Notify,
    /// What whoever runs the gateway was asked for at the admin address.
    pub(crate) asked: watch::Sender<Option<Asked>>,
    /// Requests are not welcome any more, though they may still be served.
    pub(crate) leaving: watch::Sender<bool>,
    /// Connections that wait for a request end now.
    pub(crate) idle: watch::Sender<bool>,
    /// Workers end now, whatever they do.
    pub(crate) stopping: watch::Sender<bool>,
}

impl State {
    /// Whether requests are welcome: the snapshot serves and no drain has begun.
    pub(crate) fn is_ready(&self) -> bool {
        !*self.leaving.borrow()
    }

    /// Has another process take over, of the program that this one was started as. Blocks until it serves.
    ///
    /// # Errors
    /// It does not, and this one serves on.
    pub(crate) fn upgrade(&self) -> Result<Upgraded, UpgradeError> {
        handover::upgrade(self)
    }

    /// How the last upgrade failed.
    pub(crate) fn last_upgrade(&self) -> Option<LastUpgrade> {
        self.last_upgrade.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether another process serves in place of this one.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.reloader.handed_over.load(Ordering::Acquire)
    }

    /// Whether the process before still drains.
    pub(crate) fn is_before_there(&self) -> bool {
        let line = self.line_before.lock().unwrap_or_else(PoisonError::into_inner);
        line.as_ref().is_some_and(drain::is_open)
    }

    /// Passes a signal on to the process that serves in place of this one, if it is known.
    pub(crate) fn pass_on(&self, signal: Signal) {
        let pid = i32::try_from(self.follower.load(Ordering::Acquire)).ok();
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It may have ended.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// What whoever runs a gateway may be asked for at the admin address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To drain, and to end then: it was asked for, or another process serves in place of this one.
    Drain,
}

/// A gateway that serves. Dropping it ends it at once; [`drain`](Self::drain) ends it well.
pub struct Running {
    state: Arc<State>,
    admin: Option<String>,
    workers: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    /// The address that a listener is bound to; its port is the real one where the config says 0.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        let snapshot = self.state.snapshots.load();
        self.state.sockets.address(snapshot.listener(listener)?)
    }

    /// The listeners' names and addresses, as they are now.
    pub fn listeners(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let snapshot = self.state.snapshots.load();
        let listeners = snapshot.listeners().iter();
        let bound = |listener| self.state.sockets.address(listener);
        listeners.filter_map(|one| Some((one.name.clone(), bound(one)?))).collect()
    }

    /// The admin address as it is bound, if there is one.
    pub fn admin(&self) -> Option<&str> {
        self.admin.as_deref()
    }

    /// The snapshot in force.
    pub fn snapshots(&self) -> &SnapshotHandle {
        &self.state.snapshots
    }

    /// Reads the config again and swaps. Blocks while the snapshot is built. Where the config in force says
    /// (`reload.canary`) that others are tried first, it comes back as soon as this one is.
    ///
    /// # Errors
    /// Every fault in the new config, or an address of it that cannot be bound; nothing has changed then.
    pub fn reload(&self) -> Result<crate::snapshot::Revision, ReloadError> {
        self.state.reloader.reload(How::AsConfigured).map(|reloaded| reloaded.revision)
    }

    /// Puts a config in force that was before: this entry of the history (`reload.history`), or the one before the one in
    /// force. The files of the config stay as they are, and the next reload reads them. Blocks while it builds.
    ///
    /// # Errors
    /// There is no such entry, or it cannot be in force any more; nothing has changed then.
    pub fn rollback(&self, to: Option<u64>) -> Result<crate::snapshot::Revision, ReloadError> {
        self.state.reloader.rollback(to).map(|(revision, _)| revision)
    }

    /// Starts the program that this gateway was started as once more, and has it take over: sockets, and state that it
    /// goes on with. Blocks until it serves, for at most `server.upgrade_timeout`; then [`asked`](Self::asked) says that
    /// this one is to drain.
    ///
    /// # Errors
    /// The other one does not serve. Nothing has changed then.
    pub fn upgrade(&self) -> Result<Upgraded, UpgradeError> {
        self.state.upgrade()
    }

    /// What can be shared with tasks that outlive this.
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Comes back when somebody who may has asked for something at the admin address, at once if it was before. It is
    /// for whoever runs the gateway to do it; one that is asked to drain says already that it is not ready.
    pub fn asked(&self) -> impl Future<Output = Asked> + Send + use<> {
        let mut asked = self.state.asked.subscribe();
        async move {
            match asked.wait_for(Option::is_some).await.map(|asked| *asked) {
                Ok(Some(asked)) => asked,
                // Nobody is left who could ask.
                _ => std::future::pending().await,
            }
        }
    }

    /// Opens the access log's file again, after it was moved away.
    pub fn reopen_logs(&self) {
        self.state.telemetry.reopen();
    }

    /// How many client connections are open.
    pub fn connections(&self) -> usize {
        self.state.connections.open()
    }

    /// How many requests are in flight, and the age of the oldest.
    pub fn in_flight(&self) -> (usize, Duration) {
        self.state.watch.in_flight()
    }

    /// Says that it is not ready, serves on for as long as `server.drain_delay` says, stops accepting, lets requests
    /// finish for at most `limit`, and ends. Blocks until then, or until `hurry` turns true.
    pub fn drain(mut self, limit: Duration, hurry: watch::Receiver<bool>) -> DrainOutcome {
        let outcome = drain::drain(&self.state, limit, &hurry);
        self.end();
        outcome
    }

    fn end(&mut self) {
        self.state.leaving.send_replace(true);
        self.state.sockets.drain();
        self.state.stopping.send_replace(true);
        for worker in self.workers.drain(..) {
            // A worker that panicked has already said so.
            let _ = worker.join();
        }
        self.state.telemetry.shutdown();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
