//! Discovery: endpoints that are found while the upstream serves, in DNS or in a file.
//!
//! What was found last stays in use for as long as looking fails, and outlives reloads. Endpoints that
//! are still there keep everything: their connections, their state, their checks.

mod dns;
mod family;
mod file;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use self::dns::Dns;
use self::file::File;
use super::{Endpoint, Upstream};
use crate::config::{DiscoverConfig, EndpointConfig};

/// How soon to look again after looking failed, at first and at most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(30);

/// What was found.
struct Found {
    /// `None` if nothing has changed since the last time.
    endpoints: Option<Vec<EndpointConfig>>,
    /// How long it is certain to be true.
    lasts: Duration,
}

/// Where to look.
enum Place {
    Dns(Box<Dns>),
    File(File),
}

impl Place {
    fn of(config: &DiscoverConfig) -> Result<Self, String> {
        Ok(match &config.file {
            Some(file) => Self::File(File::new(file.0.clone())),
            None => Self::Dns(Box::new(Dns::new(config)?)),
        })
    }

    async fn look(&mut self) -> Result<Found, String> {
        match self {
            Self::Dns(dns) => dns.look().await,
            Self::File(file) => file.look().await,
        }
    }
}

/// What is known of an upstream's discovery, whatever the upstream becomes through reloads.
#[derive(Default)]
pub(super) struct Discovered {
    known: Mutex<Known>,
    told: Notify,
}

#[derive(Default)]
struct Known {
    /// What was found, and by which config.
    last: Option<(DiscoverConfig, Arc<[EndpointConfig]>)>,
    at: Option<SystemTime>,
    /// By which config a look has ended last, well or not.
    looked: Option<DiscoverConfig>,
    /// Why the last look failed.
    fault: Option<String>,
}

/// What can be said of an upstream's discovery, for those who ask.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Discovery {
    /// How many endpoints were found.
    pub found: usize,
    /// When that was, in seconds since 1970.
    pub found_at: Option<u64>,
    /// Why the last look failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Discovered {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found last by such a config, at whatever pace it looked.
    pub(super) fn by(&self, config: &DiscoverConfig) -> Option<Arc<[EndpointConfig]>> {
        let known = self.known();
        let (by, endpoints) = known.last.as_ref()?;
        is_same(by, config).then(|| endpoints.clone())
    }

    fn ended(&self, config: &DiscoverConfig) {
        self.known().looked = Some(config.clone());
        self.told.notify_waiters();
    }

    fn has_looked(&self, config: &DiscoverConfig) -> bool {
        self.known().looked.as_ref().is_some_and(|by| is_same(by, config))
    }

    /// Comes back when a look by such a config has ended.
    async fn looked(&self, config: &DiscoverConfig) {
        loop {
            let told = self.told.notified();
            if self.has_looked(config) {
                return;
            }
            told.await;
        }
    }
}

/// Whether both look for the same, at whatever pace.
fn is_same(one: &DiscoverConfig, other: &DiscoverConfig) -> bool {
    DiscoverConfig { refresh: other.refresh, ..one.clone() } == *other
}

impl Upstream {
    /// Waits for the first look to end, for at most this long, if there is one to wait for.
    pub(crate) async fn first_look(&self, longest: Duration) {
        if let Some(config) = &self.config.discover {
            // Whatever comes of it, what is known then is what the request goes by.
            let looked = self.states.discovered.looked(config);
            let _ = tokio::time::timeout(longest, looked).await;
        }
    }

    /// Whether nobody could say where its endpoints are.
    pub(crate) fn is_unresolved(&self) -> bool {
        let by = self.config.discover.as_ref();
        by.is_some_and(|by| self.endpoints().is_empty() && self.states.discovered.by(by).is_none())
    }

    /// What is known of its discovery, if it has any.
    pub fn discovery(&self) -> Option<Discovery> {
        let config = self.config.discover.as_ref()?;
        let found = self.states.discovered.by(config).map_or(0, |found| found.len());
        let known = self.states.discovered.known();
        let since_1970 = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok();
        let found_at = known.at.and_then(since_1970).map(|at| at.as_secs());
        Some(Discovery { found, found_at, fault: known.fault.clone() })
    }

    /// Takes up what was found. For the upstream that is in force alone.
    fn found(&self, config: &DiscoverConfig, found: Option<Vec<EndpointConfig>>) {
        self.metrics.looked(true);
        let discovered = &self.states.discovered;
        let first = {
            let mut known = discovered.known();
            if known.fault.take().is_some() {
                tracing::info!(upstream = self.name(), "endpoints are found again");
            }
            known.at = Some(SystemTime::now());
            let first = known.last.is_none();
            if let Some(found) = &found {
                known.last = Some((config.clone(), found.as_slice().into()));
            }
            first
        };
        if let Some(found) = found {
            self.take(&found, !first);
            self.refresh(Instant::now());
            self.states.forget();
            // Whoever checks endpoints has others to check.
            self.states.stir.notify_one();
        }
        discovered.ended(config);
    }

    /// Notes that looking failed; what was found before stays.
    fn not_found(&self, config: &DiscoverConfig, fault: String) {
        self.metrics.looked(false);
        let mut known = self.states.discovered.known();
        if known.fault.as_ref() != Some(&fault) {
            let last = known.last.as_ref().filter(|(by, _)| is_same(by, config));
            let kept = last.map_or(0, |(_, endpoints)| endpoints.len());
            tracing::warn!(upstream = self.name(), fault, kept, "endpoints are not found");
        }
        known.fault = Some(fault);
        drop(known);
        self.states.discovered.ended(config);
    }

    /// Makes its endpoints those that are written and these. Those that stay as they are are the same
    /// ones; those that come are `newcomers` to a fleet that serves already, or not.
    pub(super) fn take(&self, found: &[EndpointConfig], newcomers: bool) {
        let current = self.endpoints();
        let known: HashMap<SocketAddr, &Arc<Endpoint>> =
            current.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
        let written: HashMap<SocketAddr, ()> =
            self.config.endpoints.iter().map(|endpoint| (endpoint.address, ())).collect();
        // What is written outranks what is found at the same address.
        let beside = found.iter().filter(|endpoint| !written.contains_key(&endpoint.address));
        let all = self.config.endpoints.iter().chain(beside).map(|config| {
            let same = known.get(&config.address).filter(|endpoint| endpoint.is_as(config));
            same.map_or_else(|| self.endpoint(config, newcomers), |endpoint| Arc::clone(endpoint))
        });
        self.make_roster_of(&all.collect::<Vec<_>>().into(), Instant::now());
    }
}

/// Looks for endpoints for as long as the upstream is there.
pub(super) async fn follow(upstream: Weak<Upstream>, config: DiscoverConfig) {
    let mut place = Place::of(&config);
    let mut failures = 0;
    loop {
        let look = async {
            match &mut place {
                Ok(place) => place.look().await,
                Err(fault) => Err(fault.clone()),
            }
        };
        let outcome = look.await;
        let Some(upstream) = upstream.upgrade() else { return };
        let pause = match outcome {
            Ok(Found { endpoints, lasts }) => {
                failures = 0;
                upstream.found(&config, endpoints);
                config.refresh.map_or(lasts, Into::into)
            }
            Err(fault) => {
                upstream.not_found(&config, fault);
                failures += 1;
                let doubled = AGAIN.saturating_mul(1 << (failures - 1).min(10)).min(AGAIN_AT_MOST);
                // A file costs nobody anything.
                let longest = if config.file.is_some() { AGAIN } else { doubled };
                config.refresh.map_or(longest, |refresh| refresh.0.min(longest))
            }
        };
        drop(upstream);
        // Gateways that were started together do not ask together.
        tokio::time::sleep(pause.mul_f64(0.9 + 0.2 * rand::random::<f64>())).await;
    }
}
