//! The part of the process before: it serves on until the one that follows does.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, TryLockError};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::channel::Channel;
use super::message::{Given, GivenSocket, Kept, Message, PROTOCOL};
use super::{LastUpgrade, UpgradeError, Upgraded};
use crate::config::AdminAddress;
use crate::lifecycle::{Asked, ENDED_BADLY, ENDED_WELL, State};
use crate::reload::RolledBack;
use crate::telemetry::UpgradeOutcome;

/// How long a process that was told to end may take to.
const ENDING: Duration = Duration::from_secs(2);
/// How long connections may wait while the one that follows is told of the state.
const PAUSE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(10);
/// How long it may take to say why there is no upgrade.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Starts the program that follows, and has it take over. Blocks until it serves, or until it is clear that it will not.
pub(in crate::lifecycle) fn upgrade(state: &State) -> Result<Upgraded, UpgradeError> {
    let Some(successor) = &state.successor else {
        let why = "it is not known how this gateway is started: it is part of another program";
        return Err(UpgradeError::NotNow(why.to_owned()));
    };
    one_at_a_time(state, |deadline| {
        let program = successor.program().display();
        tracing::info!(%program, "upgrading: starting the process that is to follow");
        let (mut child, line) = successor
            .start()
            .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        let outcome = Channel::over(line, deadline)
            .and_then(|channel| give(state, channel, Some(child.id())));
        match outcome {
            Ok(upgraded) => {
                follow(state, child);
                Ok(upgraded)
            }
            Err(error) => Err(ended(&mut child, error)),
        }
    })
}

/// Waits for the end of the process that follows, for as long as this one drains: nobody else can see it.
fn follow(state: &State, mut child: Child) {
    let ended = state.follower_ended.clone();
    let wait = move || {
        let Ok(status) = child.wait() else { return };
        if status.success() {
            // Told to, and with haste: else it would have waited for this one.
            tracing::info!("the process that followed this one has ended");
            ended.store(ENDED_WELL, Ordering::Release);
        } else {
            tracing::error!(%status, "the process that followed this one has ended");
            ended.store(ENDED_BADLY, Ordering::Release);
        }
    };
    if let Err(error) = thread::Builder::new().name("gateway-follower".to_owned()).spawn(wait) {
        tracing::warn!(%error, "the end of the process that follows would not be seen");
    }
}

/// Has a process take over that somebody else has started.
pub(super) fn handed_to(state: &State, line: UnixStream) -> Result<Upgraded, UpgradeError> {
    let refused = line.try_clone();
    let outcome =
        one_at_a_time(state, |deadline| give(state, Channel::over(line, deadline)?, None));
    if let (Err(UpgradeError::NotNow(why)), Ok(refused)) = (&outcome, refused)
        && let Ok(mut channel) = Channel::over(refused, Instant::now())
    {
        say_why(&mut channel, why);
    }
    outcome
}

/// Whoever cannot be told finds out.
fn say_why(channel: &mut Channel, why: &str) {
    channel.until(Instant::now() + LAST_WORD);
    let _ = channel.send(&Message::Failed { why: why.to_owned() }, &[]);
}

fn one_at_a_time(
    state: &State,
    hand_over: impl FnOnce(Instant) -> io::Result<Upgraded>,
) -> Result<Upgraded, UpgradeError> {
    let _turn = match state.upgrading.try_lock() {
        Ok(turn) => turn,
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
        Err(TryLockError::WouldBlock) => {
            return Err(UpgradeError::NotNow("an upgrade is under way already".to_owned()));
        }
    };
    if let Some(why) = ending(state) {
        return Err(UpgradeError::NotNow(why));
    }
    if state.reloader.on_trial().is_some() {
        let why = "a config is on trial; `gateway reload --accept` or `--discard` ends that";
        return Err(UpgradeError::NotNow(why.to_owned()));
    }
    let longest: Duration = state.snapshots.load().config.server.upgrade_timeout.into();
    let outcome = hand_over(Instant::now() + longest);
    let metrics = &state.reloader.builder.metrics;
    match &outcome {
        Ok(Upgraded { pid, version }) => {
            tracing::info!(pid, version, "another process serves in place of this one");
            metrics.upgraded(UpgradeOutcome::Success);
        }
        Err(error) => {
            tracing::error!(%error, "the upgrade failed; this process serves on");
            metrics.upgraded(UpgradeOutcome::Failure);
            let mut last = state.last_upgrade.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(LastUpgrade::failed(&error.to_string()));
        }
    }
    if let Err(error) = &outcome {
        let revision = &state.snapshots.load().revision;
        state.notify.says(&format!("{revision}; the last upgrade failed: {error}"));
    }
    outcome.map_err(|error| UpgradeError::Failed(error.to_string()))
}

/// Why this process takes part in no upgrade, if it does not.
fn ending(state: &State) -> Option<String> {
    state.leaving.borrow().then(|| "this process is about to end".to_owned())
}

/// Hands everything over. Whatever fails, this process is as it was before.
fn give(state: &State, mut channel: Channel, child: Option<u32>) -> io::Result<Upgraded> {
    let outcome = give_until_it_serves(state, &mut channel, child);
    let outcome = outcome.map_err(|error| match error.kind() {
        // It may have said why before it went.
        io::ErrorKind::UnexpectedEof => match channel.receive::<Message>() {
            Ok((message, _)) => message.unexpected(),
            Err(said) => said,
        },
        _ => error,
    });
    match &outcome {
        Err(error) => say_why(&mut channel, &error.to_string()),
        Ok(_) => {
            // The one that serves waits for this one's end when it is told to end itself.
            let mut line = state.line_after.lock().unwrap_or_else(PoisonError::into_inner);
            *line = Some(channel.into_line());
        }
    }
    outcome
}

fn give_until_it_serves(
    state: &State,
    channel: &mut Channel,
    child: Option<u32>,
) -> io::Result<Upgraded> {
    channel.wait(|| ending(state))?;
    let upgraded = match channel.receive()?.0 {
        // What it says of its number is believed of none that can be known by itself.
        Message::Take { protocol: PROTOCOL, version, pid } => {
            Upgraded { pid: child.or(channel.peer()).unwrap_or(pid), version }
        }
        Message::Take { protocol, version, .. } => {
            return Err(io::Error::other(format!(
                "version {version} hands over by protocol {protocol}, this one by {PROTOCOL}"
            )));
        }
        other => return Err(other.unexpected()),
    };
    // Nothing changes any more: what it is told stays true.
    let reloader = &state.reloader;
    let _turn = reloader.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let listeners = state.sockets.copies()?;
    let mut sockets = Vec::new();
    let mut descriptors = Vec::new();
    for (address, name, socket) in &listeners {
        sockets.push(GivenSocket::Listener { name: name.to_string(), address: *address });
        descriptors.push(socket.as_fd());
    }
    let admin = {
        let admin = state.admin.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = |(address, socket): &(AdminAddress, OwnedFd)| -> io::Result<_> {
            Ok((address.clone(), socket.try_clone()?))
        };
        admin.as_ref().map(copy).transpose()?
    };
    if let Some((address, socket)) = &admin {
        sockets.push(GivenSocket::Admin { address: address.clone() });
        descriptors.push(socket.as_fd());
    }
    let revision = state.snapshots.load().revision.clone();
    let given = Given {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        revision: revision.number,
        digest: revision.digest,
        kept: reloader.rolled_back_to().map(|(rolled_back, entry)| {
            let RolledBack { history, from } = rolled_back;
            Kept { history, entry, from }
        }),
        sockets,
    };
    channel.send(&Message::Given(given), reloader.builder.store.ticket_secret())?;
    channel.send_descriptors(&descriptors)?;
    channel.wait(|| ending(state))?;
    let taken = match channel.receive()?.0 {
        Message::Ready { taken } => taken,
        other => return Err(other.unexpected()),
    };
    tracing::info!(pid = upgraded.pid, "the process that follows is ready; it takes over");
    let held = Held::new(state);
    let longest: Duration = state.snapshots.load().config.server.upgrade_timeout.into();
    channel.until(Instant::now() + PAUSE.min(longest));
    for (name, held) in reloader.builder.store.carry() {
        channel.send(&Message::State(name), &held.carry())?;
    }
    if let Some(why) = ending(state) {
        return Err(io::Error::other(why));
    }
    channel.send(&Message::Over, &[])?;
    match channel.receive()?.0 {
        Message::Serving => {}
        other => return Err(other.unexpected()),
    }
    held.leave(&taken);
    // Whoever is told that this process ends must know by then which one goes on.
    let known = child.or(channel.peer());
    if let Some(pid) = known {
        state.notify.succeeded_by(pid);
        state.follower.store(pid, Ordering::Release);
    }
    // It serves whether it hears this or not.
    let _ = channel.send(&Message::Released, &[]);
    if state.leaving.send_replace(true) {
        // Told to end in the very moment: that is meant for whoever serves.
        state.pass_on(rustix::process::Signal::TERM);
    }
    state.asked.send_replace(Some(Asked::Drain));
    Ok(upgraded)
}

/// New connections wait until this is gone.
struct Held<'a>(Option<&'a State>);

impl<'a> Held<'a> {
    fn new(state: &'a State) -> Self {
        state.sockets.hold(true);
        state.admin_accepts.send_replace(false);
        Self(Some(state))
    }

    /// They are another process's, at those sockets that it has taken.
    fn leave(mut self, taken: &[usize]) {
        if let Some(state) = self.0.take() {
            state.sockets.leave_to_another(|index| taken.contains(&index));
            state.reloader.handed_over.store(true, Ordering::Release);
            state.admin.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Those who accept there see that it is over.
            state.admin_accepts.send_replace(true);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.0 {
            state.sockets.hold(false);
            state.admin_accepts.send_replace(true);
        }
    }
}

/// Ends a process that is of no use, and tells what became of it where that says more.
fn ended(child: &mut Child, error: io::Error) -> io::Error {
    let since = Instant::now();
    let lives_on = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::InvalidData);
    while !lives_on && since.elapsed() < ENDING {
        match child.try_wait() {
            Ok(Some(status)) => {
                return io::Error::new(error.kind(), format!("{error} ({status})"));
            }
            Ok(None) => thread::sleep(STEP),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    error
}
