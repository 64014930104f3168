//! From a config to a gateway that serves: everything that can fail is tried before it does.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::choose::{Instead, no_hand_over};
use super::handover::{Door, Predecessor};
use super::worker::Worker;
use super::{Origins, Running, StartError, State, activation, watchdog};
use crate::admin::{self, Admin};
use crate::config::{AdminConfig, Fault, Loaded};
use crate::listener::{Acceptor, Accepts, Sockets};
use crate::proxy::Shared;
use crate::reload::{Builder, InForce, LOOK, LastReload, Reloader, RolledBack};
use crate::snapshot::SnapshotHandle;
use crate::telemetry::{ReloadOutcome, Telemetry, UpgradeOutcome};
use crate::upstream::Watch;

/// From a config to a gateway that serves. `before` is who serves already, and is gone from it when that one has let go.
pub(super) fn start_with(
    builder: Builder,
    loaded: &Loaded,
    instead: Option<Instead<'_>>,
    origins: Origins,
    before: &mut Option<Predecessor>,
) -> Result<Running, StartError> {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let system = |what| move |source| StartError::System { what, source };
    let server = &loaded.config.server;
    builder.surroundings(loaded)?;
    let door = server.upgrade_socket.as_deref().map(Door::make).transpose();
    let door = door.map_err(system("server.upgrade_socket"))?;
    if let Some(before) = before {
        builder.follows(before.revision().0);
        if let Some(secret) = before.ticket_secret() {
            builder.store.keep_ticket_secret(secret);
        }
    }
    let snapshot = builder.compile(loaded)?;
    if let Some((_, digest)) = before.as_ref().map(Predecessor::revision)
        && digest != snapshot.revision.digest
    {
        tracing::info!("the config is another one than that of the process before");
    }
    let config = snapshot.config.clone();
    let workers = crate::reload::workers(&config);
    let sockets = Arc::<Sockets>::default();
    let passed = activation::passed().map_err(system("sockets of whoever started the gateway"))?;
    if before.is_none() {
        activation::warn_of(&passed, &snapshot);
        sockets.passed(passed);
    }
    let mut nothing = Vec::new();
    let inherited = before.as_mut().map_or(&mut nothing, Predecessor::listeners);
    let prepared = sockets.prepare(&snapshot, workers, inherited)?;
    let bind_admin = |admin: &AdminConfig| {
        let bound = before.as_mut().and_then(|before| before.admin(&admin.address));
        admin::bind(admin, bound)
    };
    let admin = config.admin.as_ref().map(bind_admin).transpose()?;
    let telemetry = Telemetry::start(builder.metrics.clone(), &config, &snapshot.concealed)
        .map_err(system("cannot open the access log"))?;
    let telemetry = Arc::new(telemetry);
    let stopping = watch::Sender::new(false);
    let watch = Watch::start(workers).map_err(system("cannot start a thread"))?;
    let (control, runtime) =
        control(stopping.subscribe()).map_err(system("cannot start a thread"))?;
    builder.installed(&snapshot, &runtime);
    let is_new = instead.is_none();
    if instead.as_ref().is_some_and(|instead| instead.why.is_some()) {
        builder.metrics.reloaded(ReloadOutcome::Failure, SystemTime::now());
    }
    let plugins = builder.registry.iter().map(|spec| (spec.kind, spec.class)).collect();
    let snapshots = SnapshotHandle::new(snapshot);
    let reloader = Reloader {
        builder: Arc::new(builder),
        snapshots: snapshots.clone(),
        sockets: sockets.clone(),
        runtime: runtime.clone(),
        telemetry: telemetry.clone(),
        notify: origins.notify,
        last: Mutex::new(instead.map(|Instead { history, entry, from, why }| {
            let faults = match why {
                Some(StartError::Config(faults)) => faults.iter().cloned().collect(),
                Some(other) => vec![Fault::of_file("config", other.to_string())],
                None => Vec::new(),
            };
            // What it fell back to lasts until what the source says can be started with.
            let rolled_back =
                why.is_none().then(|| RolledBack { history: history.to_owned(), from });
            let in_force = InForce { history_entry: Some(entry), rolled_back };
            LastReload::now(why.is_none(), faults, in_force)
        })),
        trial: Mutex::default(),
        handed_over: AtomicBool::new(false),
        turn: Mutex::default(),
    };
    let copy = admin.as_ref().map(Admin::copy).transpose();
    let state = Arc::new(State {
        snapshots,
        reloader,
        telemetry,
        connections: Arc::default(),
        watch,
        plugins,
        sockets,
        started: Instant::now(),
        successor: origins.successor,
        upgrading: Mutex::default(),
        last_upgrade: Mutex::default(),
        follower: AtomicU32::new(0),
        follower_ended: Arc::default(),
        line_after: Mutex::default(),
        line_before: Mutex::default(),
        admin: Mutex::new(copy.map_err(system("the admin socket"))?),
        admin_accepts: watch::Sender::new(true),
        admin_connections: AtomicUsize::new(0),
        admin_calls: AtomicUsize::new(0),
        notify: origins.notify,
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
    let mut threads = vec![("gateway-control".to_owned(), runtime.clone())];
    for index in 0..workers {
        let worker = worker(index, &state, config.server.connections);
        let (thread, hand) = worker.start().map_err(system("cannot start a worker"))?;
        threads.push((format!("gateway-worker-{index}"), hand.runtime.clone()));
        running.workers.push(thread);
        hands.push(hand as Box<dyn Accepts>);
    }
    state.sockets.accepted_by(hands);
    if let Some(before) = before {
        warm(&state, &runtime);
        before.ready(&state.reloader.builder.store).map_err(no_hand_over)?;
        // What is known of endpoints by now decides which are chosen.
        state.snapshots.load().upstreams().iter().for_each(|upstream| upstream.look_again());
        state.reloader.builder.metrics.upgraded(UpgradeOutcome::Success);
    }
    if let Some(admin) = admin {
        tracing::info!(address = admin.address(), "admin calls are answered");
        admin.serve(&state, &runtime).map_err(system("cannot start the admin server"))?;
    }
    state.sockets.install(prepared, Duration::ZERO, &runtime);
    match before.take().map(Predecessor::serving).transpose() {
        Ok(line) => *state.line_before.lock().unwrap_or_else(PoisonError::into_inner) = line,
        Err(error) => {
            // Who waits to be accepted is the other one's.
            state.sockets.leave_to_another(|_| true);
            return Err(no_hand_over(error));
        }
    }
    // From here on it is this process that serves, whatever else fails.
    if is_new {
        state.reloader.builder.keep(loaded);
    }
    if let Some(Err(error)) = door.map(|door| door.open(&state, &runtime)) {
        tracing::error!(%error, "server.upgrade_socket: nobody can take over there");
    }
    let revision = &state.snapshots.load().revision;
    state.notify.serving(&revision.to_string());
    if let Err(error) = watchdog::watch(&state, threads) {
        tracing::error!(%error, "whoever watches the gateway cannot be told that it lives");
    }
    runtime.spawn(follow(state));
    Ok(running)
}

/// Waits until it is known which endpoints there are, for as long as that is worth it.
fn warm(state: &State, runtime: &Handle) {
    const LONGEST: Duration = Duration::from_secs(5);
    let snapshot = state.snapshots.load();
    let (done, looked) = mpsc::channel();
    runtime.spawn(async move {
        for upstream in snapshot.upstreams() {
            upstream.first_look(LONGEST).await;
        }
        // Nobody waits for it any longer than this.
        let _ = done.send(());
    });
    let _ = looked.recv_timeout(LONGEST);
}

/// Looks at the files of the config for as long as the gateway runs, and the config says so; and at what is on trial.
async fn follow(state: Arc<State>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let turn = state.clone();
        let watches = state.snapshots.load().config.reload.watch;
        if !watches && state.reloader.on_trial().is_none() {
            continue;
        }
        // Files may be slow, and a config takes time to be built.
        let looked = tokio::task::spawn_blocking(move || {
            turn.reloader.judge();
            if watches {
                turn.reloader.follow();
            }
        });
        let _ = looked.await;
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
