//! Ending without cutting a request.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{ENDED_WELL, State};
use crate::listener::parting;

/// How long an idle connection is left open once a drain has begun. A client that is just sending
/// on it would see a reset; after this it has had its answer and a `Connection: close`.
const IDLE_GRACE: Duration = Duration::from_secs(2);
/// How long requests that were cut may take to be answered and recorded.
const LAST_ANSWERS: Duration = Duration::from_millis(250);
/// How long admin calls may take to be answered in the end.
const LAST_CALLS: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(20);

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Every connection came to its end.
    Complete,
    /// This many connections were cut: time was up, or haste was asked for.
    Cut(usize),
    /// This many connections were cut, because the process that followed this one has ended: nobody serves.
    Deserted(usize),
}

/// Says that it is leaving, closes the listeners, lets requests finish, and returns when the last connection has ended.
pub(super) fn drain(state: &State, limit: Duration, hurry: &watch::Receiver<bool>) -> DrainOutcome {
    state.leaving.send_replace(true);
    if !state.is_handed_over() {
        state.notify.stopping();
        pause(state, hurry);
    }
    let began = Instant::now();
    tracing::info!(connections = state.connections.open(), ?limit, "draining");
    state.sockets.drain();
    let mut parted = false;
    while state.connections.open() > 0 {
        let waited = began.elapsed();
        if waited >= limit || *hurry.borrow() {
            let cut = state.connections.open();
            tracing::warn!(connections = cut, "drain ended before all connections did");
            cut_requests(state);
            return DrainOutcome::Cut(cut);
        }
        match state.follower_ended.load(Ordering::Acquire) {
            0 => {}
            how => {
                let cut = state.connections.open();
                tracing::warn!(connections = cut, "drain ended: no process serves any more");
                cut_requests(state);
                let is_well = how == ENDED_WELL;
                return if is_well { DrainOutcome::Cut(cut) } else { DrainOutcome::Deserted(cut) };
            }
        }
        if waited >= IDLE_GRACE.min(limit / 2) && !*state.idle.borrow() {
            state.idle.send_replace(true);
        }
        if waited >= parting(limit) && !parted {
            parted = true;
            state.sockets.part();
        }
        thread::sleep(STEP);
    }
    // Whoever has asked for it hears so: first the answer is made, and then it is sent.
    let since = Instant::now();
    let waits = |count: &AtomicUsize, longest: Duration| {
        while count.load(Ordering::Acquire) > 0 && since.elapsed() < longest {
            thread::sleep(STEP);
        }
    };
    waits(&state.admin_calls, LAST_CALLS);
    waits(&state.admin_connections, since.elapsed() + LAST_ANSWERS);
    await_before(state, began + limit, hurry);
    tracing::info!("drained");
    DrainOutcome::Complete
}

/// Waits for the process before to have drained, too: whoever waits for this one cuts what is left when it ends.
fn await_before(state: &State, until: Instant, hurry: &watch::Receiver<bool>) {
    let line = state.line_before.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(line) = line else { return };
    if is_open(&line) {
        tracing::info!("waiting for the process before, which still drains");
    }
    while is_open(&line) && Instant::now() < until && !*hurry.borrow() {
        thread::sleep(STEP);
    }
}

/// Whether the process at the other end is there. Nothing is said on the line any more.
pub(super) fn is_open(mut line: &UnixStream) -> bool {
    let would_wait = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    line.set_nonblocking(true).is_ok() && line.read(&mut [0]).is_err_and(|error| would_wait(&error))
}

/// Serves on while whoever sends requests here finds out that others are to have them.
fn pause(state: &State, hurry: &watch::Receiver<bool>) {
    let delay = Duration::from(state.snapshots.load().config.server.drain_delay);
    if !delay.is_zero() {
        tracing::info!(?delay, "not ready any more; serving on");
    }
    let began = Instant::now();
    while began.elapsed() < delay && !*hurry.borrow() {
        thread::sleep(STEP);
    }
}

/// Ends what still runs by its ordinary error path, so that it is answered and recorded.
fn cut_requests(state: &State) {
    state.watch.cut();
    let began = Instant::now();
    while !state.watch.is_empty() && began.elapsed() < LAST_ANSWERS {
        thread::sleep(STEP);
    }
}
