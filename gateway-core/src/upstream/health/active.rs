//! Active health: a task an endpoint that asks it from time to time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::Probe;
use crate::config::ActiveConfig;
use crate::upstream::{Endpoint, Upstream};

/// How many checks of one upstream run at once.
const AT_ONCE: usize = 32;

/// The checkers of an upstream, by their endpoints' addresses.
pub(in crate::upstream) struct Checkers {
    running: HashMap<SocketAddr, Checker>,
    turns: Arc<Semaphore>,
}

struct Checker(AbortHandle);

impl Drop for Checker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Checkers {
    pub(in crate::upstream) fn new() -> Self {
        Self { running: HashMap::new(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Begins to check the endpoints that are new, and ends the checks of those that are gone. To be
    /// called within the runtime that the checks run on.
    pub(in crate::upstream) fn follow(&mut self, upstream: &Arc<Upstream>) {
        let Some(config) = &upstream.config.health.active else { return };
        let endpoints = upstream.endpoints();
        let old = endpoints.len() == self.running.len()
            && endpoints.iter().all(|one| self.running.contains_key(&one.address));
        if old {
            return;
        }
        let addresses: std::collections::HashSet<_> =
            endpoints.iter().map(|endpoint| endpoint.address).collect();
        self.running.retain(|address, _| addresses.contains(address));
        for endpoint in endpoints.iter() {
            self.running.entry(endpoint.address).or_insert_with(|| {
                let (weak, turns) = (Arc::downgrade(upstream), self.turns.clone());
                let probe = Probe::new(config, endpoint.address, upstream.transport.clone());
                let check = check(weak, endpoint.clone(), config.clone(), probe, turns);
                Checker(tokio::spawn(check).abort_handle())
            });
        }
    }
}

async fn check(
    upstream: Weak<Upstream>,
    endpoint: Arc<Endpoint>,
    config: ActiveConfig,
    probe: Probe,
    turns: Arc<Semaphore>,
) {
    let interval: Duration = config.interval.into();
    // Not all at once, but soon where requests wait for the first one.
    let spread = if config.wait { interval.min(Duration::from_millis(50)) } else { interval };
    tokio::time::sleep(spread.mul_f64(rand::random())).await;
    loop {
        let began = Instant::now();
        let outcome = {
            // The semaphore is never closed.
            let _turn = turns.acquire().await;
            probe.run().await
        };
        let Some(upstream) = upstream.upgrade() else { return };
        upstream.checked(&endpoint, outcome.err());
        drop(upstream);
        let next = interval.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        tokio::time::sleep(next.saturating_sub(began.elapsed())).await;
    }
}
