//! From a config to a gateway that serves: everything that can fail is tried before it does.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::worker::Worker;
use super::{Running, StartError, State};
use crate::admin;
use crate::listener::{Acceptor, Sockets};
use crate::proxy::Shared;
use crate::reload::{Builder, LOOK, Reloader};
use crate::snapshot::SnapshotHandle;
use crate::telemetry::Telemetry;
use crate::upstream::Watch;

/// Loads, compiles, binds, serves.
///
/// # Errors
/// The config has faults, an address cannot be bound, or a thread cannot be started. Nothing is
/// left behind then.
pub(crate) fn start(builder: Builder) -> Result<Running, StartError> {
    let loaded = builder.load()?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let snapshot = builder.compile(&loaded)?;
    builder.surroundings(&loaded)?;
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
    let plugins = builder.registry.iter().map(|spec| (spec.kind, spec.class)).collect();
    let snapshots = SnapshotHandle::new(snapshot);
    let reloader = Reloader {
        builder: Arc::new(builder),
        snapshots: snapshots.clone(),
        sockets: sockets.clone(),
        runtime: runtime.clone(),
        telemetry: telemetry.clone(),
        last: Mutex::default(),
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

/// Looks at the files of the config for as long as the gateway runs.
async fn follow(state: Arc<State>) {
    loop {
        tokio::time::sleep(LOOK).await;
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
