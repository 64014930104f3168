//! From a config to a gateway that serves: everything that can fail is tried before it does.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::worker::Worker;
use super::{Running, StartError, State};
use crate::admin;
use crate::listener::{Acceptor, Bound, bind};
use crate::proxy::Shared;
use crate::reload::{Builder, Reloader};
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
    let bound = snapshot
        .listeners()
        .iter()
        .map(|listener| bind(&listener.name, listener.address))
        .collect::<Result<Vec<Bound>, _>>()?;
    let config = snapshot.config.clone();
    let admin = config.admin.as_ref().map(admin::bind).transpose()?;
    let system = |what| move |source| StartError::System { what, source };
    let telemetry = Telemetry::start(builder.metrics.clone(), &config, &snapshot.concealed)
        .map_err(system("cannot open the access log"))?;
    let telemetry = Arc::new(telemetry);
    let workers = crate::reload::workers(&config);
    let stopping = watch::Sender::new(false);
    let watch = Watch::start(workers).map_err(system("cannot start a thread"))?;
    let (control, runtime) =
        control(stopping.subscribe()).map_err(system("cannot start a thread"))?;
    builder.installed(&snapshot, &runtime);
    let plugins = builder.registry.iter().map(|spec| (spec.kind, spec.class)).collect();
    let snapshots = SnapshotHandle::new(snapshot);
    let reloader =
        Reloader::new(Arc::new(builder), snapshots.clone(), runtime.clone(), telemetry.clone());
    let state = Arc::new(State {
        snapshots,
        reloader,
        telemetry,
        connections: Arc::default(),
        watch,
        plugins,
        closing: watch::Sender::new(false),
        draining: watch::Sender::new(false),
        idle: watch::Sender::new(false),
        stopping,
    });
    let mut running = Running {
        listeners: bound.iter().map(|one| (one.listener.clone(), one.address)).collect(),
        admin: admin.as_ref().map(|admin| admin.address().to_owned()),
        workers: vec![control],
        state: state.clone(),
    };
    for index in 0..workers {
        let started = worker(index, &state, &bound, config.server.connections)
            .and_then(Worker::start)
            .map_err(system("cannot start a worker"))?;
        running.workers.push(started);
    }
    if let Some(admin) = admin {
        tracing::info!(address = admin.address(), "admin calls are answered");
        admin.serve(&state, &runtime).map_err(system("cannot start the admin server"))?;
    }
    for (name, address) in running.listeners() {
        tracing::info!(listener = name, %address, "listening");
    }
    Ok(running)
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

fn worker(
    index: usize,
    state: &State,
    bound: &[Bound],
    max_connections: usize,
) -> std::io::Result<Worker> {
    let listeners = bound
        .iter()
        .map(|one| Ok((one.listener.clone(), one.socket.try_clone()?)))
        .collect::<std::io::Result<_>>()?;
    Ok(Worker {
        index,
        listeners,
        shared: Shared {
            snapshots: state.snapshots.clone(),
            telemetry: state.telemetry.clone(),
            watch: state.watch.clone(),
            draining: state.draining.subscribe(),
        },
        acceptor: Acceptor {
            snapshots: state.snapshots.clone(),
            connections: state.connections.clone(),
            max_connections,
            closing: state.closing.subscribe(),
            draining: state.draining.subscribe(),
        },
        idle: state.idle.subscribe(),
        stopping: state.stopping.subscribe(),
    })
}
