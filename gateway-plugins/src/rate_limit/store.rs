//! Limits that several gateways share, counted in Redis or Valkey: one round trip a request, by a script that runs as
//! one step there and reads the server's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use gateway_core::telemetry::{PluginMetrics, StoreCall};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Script};
use tokio::sync::{Mutex, Notify};

use super::limit::Standing;
use super::plan::{Plan, Refused, Standings, Taken};

/// After so many calls in a row without an answer in time, the server counts as gone until it answers again: no request
/// waits for it meanwhile.
const SILENT: u32 = 5;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// After a failure it is tried again after this time, then twice as much.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_AT_MOST: Duration = Duration::from_secs(5);

/// The connection to a server, kept through reloads.
#[derive(Default)]
pub(super) struct Line {
    held: ArcSwapOption<MultiplexedConnection>,
    silences: AtomicU32,
    lost: Notify,
    /// Who has it connects; others wait until they are the last.
    connects: Mutex<()>,
}

/// The place of limits that are shared.
pub(super) struct Store {
    line: Arc<Line>,
    script: Script,
    /// What stands before the names of all keys.
    prefix: Box<str>,
    timeout: Duration,
    metrics: Arc<PluginMetrics>,
}

/// What the store is asked for a key.
#[derive(Clone, Copy, Default)]
pub(super) struct Call {
    /// What a request costs; less than nothing is given back.
    pub(super) cost: i64,
    /// Whether it is taken whatever is left.
    pub(super) forced: bool,
    /// How many such requests more may be taken with it.
    pub(super) more: u64,
    /// What is given back first, and how long ago that was taken.
    pub(super) back: u64,
    pub(super) age: Duration,
}

/// The store did not say whether a request passes.
#[derive(Debug)]
pub(super) struct Unknown;

impl Line {
    /// Connects, and connects again, for as long as somebody needs it.
    pub(super) async fn follow(self: Arc<Self>, client: Client, name: String) {
        let _only = self.connects.lock().await;
        let mut failures: u32 = 0;
        loop {
            if self.held.load().is_none() {
                match connect(&client).await {
                    Ok(connection) => {
                        if failures > 0 {
                            tracing::info!(store = name, "limits are shared again");
                        }
                        failures = 0;
                        self.silences.store(0, Ordering::Relaxed);
                        self.held.store(Some(Arc::new(connection)));
                    }
                    Err(error) => {
                        if failures == 0 {
                            tracing::warn!(store = name, %error, "limits are not shared");
                        }
                        failures += 1;
                        let pause = AGAIN.saturating_mul(1 << (failures - 1).min(10));
                        let pause = pause.min(AGAIN_AT_MOST);
                        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
                        continue;
                    }
                }
            }
            self.lost.notified().await;
        }
    }

    fn lose(&self, connection: &Arc<MultiplexedConnection>) {
        // Not one that took its place meanwhile.
        let held = self.held.load();
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, connection)) {
            self.held.store(None);
            self.lost.notify_one();
        }
    }
}

/// Connects, and sees whether the server answers: one that is stopped is connected to as well.
async fn connect(client: &Client) -> Result<MultiplexedConnection, redis::RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(CONNECT));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").query_async::<()>(&mut connection).await?;
    Ok(connection)
}

impl Store {
    pub(super) fn new(
        line: Arc<Line>,
        prefix: &str,
        timeout: Duration,
        metrics: Arc<PluginMetrics>,
    ) -> Self {
        let script = Script::new(include_str!("script.lua"));
        Self { line, script, prefix: prefix.into(), timeout, metrics }
    }

    /// Takes a request from the buckets of its key, or from none, and says how many were taken.
    pub(super) async fn take(
        &self,
        plan: &Plan,
        key: &str,
        wanted: Call,
    ) -> Result<(Taken, u64), Unknown> {
        let Some(connection) = self.line.held.load_full() else {
            self.metrics.called_store(StoreCall::Down);
            return Err(Unknown);
        };
        let mut call = self.script.prepare_invoke();
        call.arg(wanted.cost).arg(u8::from(wanted.forced)).arg(wanted.more + 1);
        call.arg(wanted.back).arg(u64::try_from(wanted.age.as_micros()).unwrap_or(u64::MAX));
        for rule in &plan.rules {
            // In a cluster the keys of one call have to be in one place.
            call.key(format!("{}{{{key}}}:{}", self.prefix, rule.name));
            let (way, quota, window, tolerance) = rule.table.limit().told();
            call.arg(way).arg(quota).arg(window).arg(tolerance);
        }
        let mut own = MultiplexedConnection::clone(&connection);
        let answer = call.invoke_async::<Vec<i64>>(&mut own);
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => {
                self.line.silences.store(0, Ordering::Relaxed);
                let taken = read(&answer);
                let outcome = if taken.is_some() { StoreCall::Success } else { StoreCall::Failure };
                self.metrics.called_store(outcome);
                taken.ok_or(Unknown)
            }
            Ok(Err(error)) => {
                self.metrics.called_store(StoreCall::Failure);
                // A server that is no longer the first of its kind says so, and stays connected.
                let demoted = matches!(error.code(), Some("READONLY" | "MASTERDOWN"));
                if error.is_io_error() || error.is_unrecoverable_error() || demoted {
                    self.line.lose(&connection);
                }
                tracing::debug!(%error, "the store of limits refused a call");
                Err(Unknown)
            }
            Err(_) => {
                self.metrics.called_store(StoreCall::Timeout);
                if self.line.silences.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT {
                    self.line.lose(&connection);
                }
                Err(Unknown)
            }
        }
    }
}

/// What the script says.
fn read(answer: &[i64]) -> Option<(Taken, u64)> {
    let [taken, count, wait, standings @ ..] = answer else { return None };
    let micros = |micros: i64| Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    let mut left = Standings::default();
    for pair in standings.chunks_exact(2) {
        let remaining = u64::try_from(pair[0]).unwrap_or(0);
        left.push(Standing { remaining, reset: micros(pair[1]) });
    }
    if *taken == 1 {
        return Some(((left, Ok(())), u64::try_from(*count).unwrap_or(0)));
    }
    let retry = (*wait >= 0).then(|| micros(*wait));
    Some(((left, Err(Refused { retry })), 0))
}
