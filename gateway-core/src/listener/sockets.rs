//! The sockets that are accepted on: opened and closed while the gateway runs, as the config says.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::bind::{BindError, Bound, bind};
use super::inherited::{self, Inherited};
use crate::snapshot::{ListenerPlan, Snapshot, SocketKey};

/// How long those who accept may take to hear that they are to stop.
const CLOSING: Duration = Duration::from_secs(1);
/// How long before their time is up conversations are told so: longer than they have to say goodbye.
const PARTING: Duration = Duration::from_secs(6);
const STEP: Duration = Duration::from_millis(1);

/// One socket that is accepted on, as its connections know it.
pub(crate) struct Socket {
    key: SocketKey,
    /// The snapshot that its connections are served by once no later one knows the socket.
    last: OnceLock<Arc<Snapshot>>,
    /// What becomes of new connections.
    accepting: watch::Sender<Accepting>,
    /// Connections end after their next answer. What is received of it is never marked as seen, so that a connection
    /// that comes to look at it late still sees the change.
    draining: (watch::Sender<bool>, watch::Receiver<bool>),
    /// How what never ends by itself is to end.
    parting: watch::Sender<Parting>,
}

/// What becomes of connections that never end by themselves, as a drain goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Parting {
    /// They stay.
    No,
    /// Who can be told that it is over is told.
    Goodbye,
    /// They are cut.
    Cut,
}

/// What becomes of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    /// They are taken.
    Yes,
    /// They wait.
    Wait,
    /// Those that wait are taken, and no more.
    Last,
    /// They are another process's.
    Never,
}

impl Socket {
    fn new(key: SocketKey) -> Self {
        Self {
            key,
            last: OnceLock::new(),
            accepting: watch::Sender::new(Accepting::Yes),
            draining: watch::channel(false),
            parting: watch::Sender::new(Parting::No),
        }
    }

    /// What its connections are served by now, and as whose. `place` is where the listener stood before, and is looked
    /// at first.
    pub(crate) fn serving(
        &self,
        now: Arc<Snapshot>,
        place: u16,
    ) -> Option<(Arc<Snapshot>, Arc<ListenerPlan>)> {
        let snapshot = self.last.get().cloned().unwrap_or(now);
        let there = snapshot.listeners().get(usize::from(place));
        let there = there.filter(|listener| self.key.is_of(listener));
        let listener = there.or_else(|| snapshot.listener_on(&self.key))?.clone();
        Some((snapshot, listener))
    }

    pub(super) fn accepting(&self) -> watch::Receiver<Accepting> {
        self.accepting.subscribe()
    }

    /// True from the moment connections are to end after their next answer.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.1.clone()
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.0.borrow()
    }

    /// How what never ends by itself is to end.
    pub(crate) fn parting(&self) -> watch::Receiver<Parting> {
        self.parting.subscribe()
    }

    fn drain(&self) {
        self.accepting.send_if_modified(|accepting| {
            let accepts = matches!(accepting, Accepting::Yes | Accepting::Wait);
            *accepting = if accepts { Accepting::Last } else { *accepting };
            accepts
        });
        self.draining.0.send_replace(true);
    }

    /// Waits until nobody accepts any more.
    fn await_closed(&self) {
        let until = Instant::now() + CLOSING;
        while self.accepting.receiver_count() > 0 && Instant::now() < until {
            thread::sleep(STEP);
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Who accepts on sockets: a worker.
pub(crate) trait Accepts: Send + Sync {
    /// Accepts on this socket until it is told not to.
    fn accept(&self, socket: Arc<Socket>, listener: TcpListener);
}

/// How far into a drain of this length those are told that never end by themselves.
pub(crate) fn parting(limit: Duration) -> Duration {
    limit.saturating_sub(PARTING).max(limit / 2)
}

/// The sockets of a gateway.
#[derive(Default)]
pub(crate) struct Sockets {
    /// Those that whoever started the process has opened, and holds.
    passed: OnceLock<Vec<Inherited>>,
    workers: OnceLock<Vec<Box<dyn Accepts>>>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    open: Vec<Open>,
    /// Those that are accepted on no more and may have connections.
    leaving: Vec<Weak<Socket>>,
    /// No socket is opened any more.
    closed: bool,
}

/// A socket that is accepted on.
struct Open {
    socket: Arc<Socket>,
    bound: Bound,
}

/// What is to change, with all done that can fail.
pub(crate) struct Prepared {
    new: Vec<Open>,
    /// For each of the new ones, one descriptor a worker.
    copies: Vec<Vec<TcpListener>>,
    gone: Vec<Arc<Socket>>,
}

impl Sockets {
    /// Says who accepts. Has to be told before anything is installed.
    pub(crate) fn accepted_by(&self, workers: Vec<Box<dyn Accepts>>) {
        // Told once, at start.
        let _ = self.workers.set(workers);
    }

    /// Says which sockets were passed to this process. They are taken in place of binding the same.
    pub(crate) fn passed(&self, passed: Vec<Inherited>) {
        // Told once, at start.
        let _ = self.passed.set(passed);
    }

    /// Binds what `next` has and is not open yet, unless it is inherited. Nothing is accepted on it before it is
    /// installed.
    ///
    /// # Errors
    /// An address cannot be bound. Nothing has changed then.
    pub(crate) fn prepare(
        &self,
        next: &Snapshot,
        workers: usize,
        inherited: &mut Vec<Inherited>,
    ) -> Result<Prepared, BindError> {
        let table = self.table();
        let mut prepared = Prepared { new: Vec::new(), copies: Vec::new(), gone: Vec::new() };
        let is_kept = |open: &Open| next.listener_on(&open.socket.key).is_some();
        prepared.gone = table
            .open
            .iter()
            .filter(|open| !is_kept(open))
            .map(|open| open.socket.clone())
            .collect();
        for listener in next.listeners() {
            if table.closed || table.open.iter().any(|open| open.socket.key.is_of(listener)) {
                continue;
            }
            let failed = |source| BindError {
                listener: listener.name.clone(),
                address: listener.address,
                source,
            };
            let passed = || inherited::copy(self.passed.get().map_or(&[], Vec::as_slice), listener);
            let bound = match inherited::take(inherited, listener) {
                Some(bound) => bound,
                None => match passed().map_err(failed)? {
                    Some(bound) => bound,
                    None => bind(&listener.name, listener.address).map_err(|error| {
                        error.held_by(table.open.iter().map(|open| &open.bound))
                    })?,
                },
            };
            let copies = (0..workers).map(|_| bound.socket.try_clone()).collect::<Result<_, _>>();
            prepared.copies.push(copies.map_err(failed)?);
            let socket = Arc::new(Socket::new(SocketKey::of(listener)));
            prepared.new.push(Open { socket, bound });
        }
        Ok(prepared)
    }

    /// The connections of sockets that are about to go are served by this snapshot to their end.
    pub(crate) fn leave(&self, prepared: &Prepared, last: &Arc<Snapshot>) {
        for socket in &prepared.gone {
            // Nobody goes twice.
            let _ = socket.last.set(last.clone());
        }
    }

    /// Accepts on what is new and no longer on what is gone, whose connections end within `limit`. Requests may take
    /// longer. Blocks until the sockets that are gone are closed, which takes milliseconds.
    pub(crate) fn install(&self, prepared: Prepared, limit: Duration, runtime: &Handle) {
        let Prepared { new, copies, gone } = prepared;
        let workers = self.workers.get().map_or(&[][..], Vec::as_slice);
        for (open, copies) in new.iter().zip(copies) {
            for (worker, copy) in workers.iter().zip(copies) {
                worker.accept(open.socket.clone(), copy);
            }
        }
        for Bound { listener, address, .. } in new.iter().map(|open| &open.bound) {
            tracing::info!(%listener, %address, "listening");
        }
        let mut table = self.table();
        table.open.extend(new);
        table.open.retain(|open| !gone.iter().any(|gone| Arc::ptr_eq(gone, &open.socket)));
        table.leaving.retain(|socket| socket.strong_count() > 0);
        table.leaving.extend(gone.iter().map(Arc::downgrade));
        drop(table);
        for socket in gone {
            tracing::info!(address = %socket.key.address, "accepting no more; connections are drained");
            socket.drain();
            socket.await_closed();
            let leaving = Arc::downgrade(&socket);
            runtime.spawn(async move {
                let goodbye = parting(limit);
                for (after, parting) in
                    [(goodbye, Parting::Goodbye), (limit - goodbye, Parting::Cut)]
                {
                    tokio::time::sleep(after).await;
                    let Some(socket) = leaving.upgrade() else { return };
                    socket.parting.send_replace(parting);
                }
            });
        }
    }

    /// Where a listener is bound.
    pub(crate) fn address(&self, listener: &ListenerPlan) -> Option<SocketAddr> {
        let table = self.table();
        let open = table.open.iter().find(|open| open.socket.key.is_of(listener));
        open.map(|open| open.bound.address)
    }

    /// All that are accepted on, as they are known to another process: their keys' addresses, names and descriptors.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub(crate) fn copies(&self) -> io::Result<Vec<(SocketAddr, Arc<str>, TcpListener)>> {
        let table = self.table();
        let copy = |Open { socket, bound }: &Open| {
            Ok((socket.key.address, bound.listener.clone(), bound.socket.try_clone()?))
        };
        table.open.iter().map(copy).collect()
    }

    /// Has new connections wait, or takes them again.
    pub(crate) fn hold(&self, wait: bool) {
        let (from, to) = match wait {
            true => (Accepting::Yes, Accepting::Wait),
            false => (Accepting::Wait, Accepting::Yes),
        };
        self.table().each(|socket| {
            socket.accepting.send_if_modified(|accepting| {
                let is_so = *accepting == from;
                *accepting = if is_so { to } else { *accepting };
                is_so
            });
        });
    }

    /// The connections that wait at those of the [`copies`](Self::copies) are another process's from now on that it has
    /// taken.
    pub(crate) fn leave_to_another(&self, is_taken: impl Fn(usize) -> bool) {
        let mut table = self.table();
        table.closed = true;
        for (_, open) in table.open.iter().enumerate().filter(|(index, _)| is_taken(*index)) {
            open.socket.accepting.send_replace(Accepting::Never);
        }
    }

    /// Accepts no more, and has connections end after their next answer.
    pub(crate) fn drain(&self) {
        let mut table = self.table();
        table.closed = true;
        table.each(|socket| socket.drain());
        // The last descriptors go with those of the workers.
        let open = std::mem::take(&mut table.open);
        table.leaving.extend(open.iter().map(|open| Arc::downgrade(&open.socket)));
    }

    /// Tells who can be told of those that never end by themselves that it is over.
    pub(crate) fn part(&self) {
        self.table().each(|socket| {
            socket.parting.send_replace(Parting::Goodbye);
        });
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn each(&self, tell: impl Fn(&Socket)) {
        self.open.iter().for_each(|open| tell(&open.socket));
        self.leaving.iter().filter_map(Weak::upgrade).for_each(|socket| tell(&socket));
    }
}
