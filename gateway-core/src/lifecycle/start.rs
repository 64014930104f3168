//! From a config to a gateway that serves: everything that can fail is tried before it does.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::worker::Worker;
use super::{Running, StartError, State};
use crate::admin;
use crate::config::{Fault, Loaded};
use crate::listener::{Acceptor, Sockets};
use crate::proxy::Shared;
use crate::reload::{Builder, History, LOOK, LastReload, Reloader, Source};
use crate::snapshot::SnapshotHandle;
use crate::telemetry::{ReloadOutcome, Telemetry};
use crate::upstream::Watch;

/// Loads, compiles, binds, serves.
///
/// # Errors
/// The config has faults, an address cannot be bound, or a thread cannot be started. Nothing is
/// left behind then.
pub(crate) fn start(builder: Builder) -> Result<Running, StartError> {
    let loaded = builder.load()?;
    start_with(builder, &loaded, None)
}

/// As [`start`]; where the config cannot be started with, with the latest one in `history` that can.
pub(crate) fn start_or_fall_back(
    builder: impl Fn() -> Builder,
    history: &History,
) -> Result<Running, StartError> {
    let first = match start(builder()) {
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
        let started = loaded
            .map_err(StartError::from)
            .and_then(|loaded| start_with(builder, &loaded, Some((entry.number, &first))));
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

/// `instead` says which entry of the history this is, and why.
fn start_with(
    builder: Builder,
    loaded: &Loaded,
    instead: Option<(u64, &StartError)>,
) -> Result<Running, StartError> {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let snapshot = builder.compile(loaded)?;
    builder.surroundings(loaded)?;
    let config = snapshot.config.clone();
    let workers = crate::reload::workers(&config);
    let sockets = Arc::<Sockets>::default();
    let prepared = sockets.prepare(&snapshot, workers)?;
    let admin = config.admin.as_ref().map(admin::bind).transpose()?;
    let system = |what| move |source| StartError::System { what, source };
    let telemetry = Telemetry::start(builder.metrics.clone(), &config, &snapshot.concealed)
        .map_err(system("cannot open the access log"))?;
    let telemetry = Arc::new(telemetry);
    let stopping = watch::Sender::new(false);
    let watch = Watch::start(workers).map_err(system("cannot start a thread"))?;
    let (control, runtime) =
        control(stopping.subscribe()).map_err(system("cannot start a thread"))?;
    builder.installed(&snapshot, &runtime);
    match instead {
        None => builder.keep(loaded),
        Some(_) => builder.metrics.reloaded(ReloadOutcome::Failure, SystemTime::now()),
    }
    let plugins = builder.registry.iter().map(|spec| (spec.kind, spec.class)).collect();
    let snapshots = SnapshotHandle::new(snapshot);
    let reloader = Reloader {
        builder: Arc::new(builder),
        snapshots: snapshots.clone(),
        sockets: sockets.clone(),
        runtime: runtime.clone(),
        telemetry: telemetry.clone(),
        last: Mutex::new(instead.map(|(entry, why)| {
            let faults = match why {
                StartError::Config(faults) => faults.iter().cloned().collect(),
                other => vec![Fault::of_file("config", other.to_string())],
            };
            LastReload::now(false, faults, Some(entry))
        })),
        turn: Mutex::default(),
    };
    let state = Arc::new(State {
        snapshots,
        reloader,
        telemetry,
        connections: Arc::default(),
        watch,
        plugins,
        sockets,
        started: Instant::now(),
        asked: watch::Sender::new(None),
        leaving: watch::Sender::new(false),
        idle: watch::Sender::new(false),
        stopping,
    });
    let mut running = Running {
        admin: admin.as_ref().map(|admin| admin.address().to_owned()),
        workers: vec![control],
        state: state.clone(),
    };
    let mut hands = Vec::new();
    for index in 0..workers {
        let worker = worker(index, &state, config.server.connections);
        let (thread, hand) = worker.start().map_err(system("cannot start a worker"))?;
        running.workers.push(thread);
        hands.push(hand);
    }
    state.sockets.accepted_by(hands);
    if let Some(admin) = admin {
        tracing::info!(address = admin.address(), "admin calls are answered");
        admin.serve(&state, &runtime).map_err(system("cannot start the admin server"))?;
    }
    state.sockets.install(prepared, Duration::ZERO, &runtime);
    runtime.spawn(follow(state));
    Ok(running)
}

/// Looks at the files of the config for as long as the gateway runs, and the config says so.
async fn follow(state: Arc<State>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if !state.snapshots.load().config.reload.watch {
            continue;
        }
        let turn = state.clone();
        // Files may be slow, and a config takes time to be built.
        let _ = tokio::task::spawn_blocking(move || turn.reloader.follow()).await;
    }
}

/// The runtime of all that is not on a request's path: admin calls, plugins' background tasks.
fn control(mut stopping: watch::Receiver<bool>) -> std::io::Result<(JoinHandle<()>, Handle)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let name = "gateway-control".to_owned();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        // An error means that the gateway is gone: the same as being told to stop.
        let _ = runtime.block_on(stopping.wait_for(|stopping| *stopping));
        runtime.shutdown_background();
    })?;
    Ok((thread, handle))
}

fn worker(index: usize, state: &State, max_connections: usize) -> Worker {
    Worker {
        index,
        shared: Shared {
            snapshots: state.snapshots.clone(),
            telemetry: state.telemetry.clone(),
            watch: state.watch.clone(),
        },
        acceptor: Acceptor {
            snapshots: state.snapshots.clone(),
            connections: state.connections.clone(),
            max_connections,
        },
        idle: state.idle.subscribe(),
        stopping: state.stopping.subscribe(),
    }
}
