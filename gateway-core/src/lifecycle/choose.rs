//! Which config a gateway starts with, and whom it takes over from.

use std::path::Path;

use super::handover::{Kept, Predecessor, is_to_take_over};
use super::start::start_with;
use super::{Origins, Running, StartError};
use crate::config::Loaded;
use crate::reload::{Builder, History, Source};

/// Loads, compiles, binds, serves; takes over from a process that serves already, if there is one.
///
/// # Errors
/// The config has faults, an address cannot be bound, or a thread cannot be started. Nothing is
/// left behind then, and a process that was there serves on.
pub(crate) fn start(builder: Builder, origins: Origins) -> Result<Running, StartError> {
    let mut before = Predecessor::that_started_this().map_err(no_hand_over)?;
    let started = meet_and_start(builder, origins, &mut before);
    if let (Err(error), Some(before)) = (&started, before) {
        before.failed(error.to_string());
    }
    started
}

fn meet_and_start(
    builder: Builder,
    origins: Origins,
    before: &mut Option<Predecessor>,
) -> Result<Running, StartError> {
    let read = builder.load();
    if let (None, Ok(read)) = (&before, &read) {
        *before = at_the_door(read)?;
    }
    let Some(Kept { history, entry, from }) = before.as_ref().and_then(Predecessor::kept) else {
        return start_with(builder, &read?, None, origins, before);
    };
    // An upgrade changes the program, and not what was rolled back to, unless the source says something else since.
    let (loaded, instead) = match read {
        Ok(read) if Some(&read.digest) != from.as_ref() => {
            tracing::info!(
                entry,
                "the config has changed since it was rolled back, and counts again"
            );
            (read, None)
        }
        _ => {
            tracing::warn!(
                entry,
                "what was rolled back to stays in force, not what the config's files say"
            );
            let loaded = builder.load_from(&Source::Kept(History::new(&history), entry))?;
            (loaded, Some(Instead { history: &history, entry, from, why: None }))
        }
    };
    start_with(builder, &loaded, instead, origins, before)
}

/// The process that serves already, and hands over at the address that a config names.
fn at_the_door(loaded: &Loaded) -> Result<Option<Predecessor>, StartError> {
    let path = loaded.config.server.upgrade_socket.as_deref();
    Ok(path.map(Predecessor::at).transpose().map_err(no_hand_over)?.flatten())
}

pub(super) fn no_hand_over(source: std::io::Error) -> StartError {
    StartError::System { what: "the process before does not hand over", source }
}

/// What a gateway starts with in place of what its source says.
pub(super) struct Instead<'a> {
    pub(super) history: &'a Path,
    pub(super) entry: u64,
    /// What the source said when it was rolled back to, if it was.
    pub(super) from: Option<String>,
    /// What is wrong with what the source says, if that is why.
    pub(super) why: Option<&'a StartError>,
}

/// As [`start`]; where the config cannot be started with, with the latest one in `history` that can.
pub(crate) fn start_or_fall_back(
    builder: impl Fn() -> Builder,
    history: &History,
    origins: Origins,
) -> Result<Running, StartError> {
    let takes_over = is_to_take_over();
    let first = match start(builder(), origins.clone()) {
        // The process before serves on, with a config that is better than an old one.
        Err(error) if takes_over => return Err(error),
        Err(error @ (StartError::Config(_) | StartError::Bind(_))) => error,
        other => return other,
    };
    for line in first.to_string().lines() {
        tracing::error!(fault = line, "the config cannot be started with");
    }
    let entries = history.entries().map_err(|source| StartError::System {
        what: "the history of configs cannot be read",
        source,
    })?;
    for entry in entries {
        let builder = builder();
        // What is read later is the source again.
        let loaded = builder.load_from(&Source::Kept(history.clone(), entry.number));
        let started = loaded.map_err(StartError::from).and_then(|loaded| {
            if let Some(before) = at_the_door(&loaded)? {
                let why = "a gateway serves already, with a config that can be started with";
                before.failed(why.to_owned());
                return Err(no_hand_over(std::io::Error::other(why)));
            }
            let (history, entry) = (history.folder(), entry.number);
            let instead = Some(Instead { history, entry, from: None, why: Some(&first) });
            start_with(builder, &loaded, instead, origins.clone(), &mut None)
        });
        match started {
            Ok(running) => {
                let (entry, accepted_at) = (entry.number, entry.accepted_at);
                tracing::error!(
                    entry,
                    accepted_at,
                    "started with the last good config in place of the one given"
                );
                return Ok(running);
            }
            Err(error) => {
                tracing::error!(entry = entry.number, %error, "this one cannot be started with either");
            }
        }
    }
    Err(first)
}
