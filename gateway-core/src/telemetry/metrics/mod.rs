//! Metrics: counted where things happen, by handles that need no lookup; shown as Prometheus text.

mod documented;
mod families;
mod handles;
mod labels;
mod observe;
mod process;
mod series;

pub use documented::{DOCUMENTED, Kind, MetricDoc, series_bound};
pub use handles::{Held, ListenerMetrics, PluginMetrics, RouteMetrics, UpstreamMetrics};
pub use labels::{
    BreakerChange, Compared, ConnectionEnd, Copied, CredentialCheck, EjectionReason,
    HandshakeFailure, LimiterDecision, PluginError, Refusal, ReloadOutcome, RetryReason, StoreCall,
    UpgradeOutcome,
};
pub use observe::Handles;
pub(crate) use observe::{Outcome, observe, observe_attempt};

use super::access_log::Losses;
use families::Families;
use handles::Handle;
use labels::CHANGE_OUTCOMES;
use prometheus::{Registry, TextEncoder};
use series::Name;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// `content-type` of [`Metrics::gather_text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of one gateway, in a registry of its own.
pub struct Metrics {
    registry: Registry,
    families: Families,
    no_route: Arc<RouteMetrics>,
    routes: Names<RouteMetrics>,
    listeners: Names<ListenerMetrics>,
    upstreams: Names<UpstreamMetrics>,
    plugins: Names<PluginMetrics>,
    revision: Mutex<Option<[String; 2]>>,
}

impl Metrics {
    /// Registers every family; `version` is the program's.
    ///
    /// # Errors
    /// A family is malformed or registered twice, which only a fault in the table can cause.
    pub fn new(version: &str) -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        families.build.get_metric_with_label_values(&[version])?.set(1);
        Ok(Metrics {
            registry,
            no_route: Arc::new(RouteMetrics::new(&families, Name::new(""))),
            families,
            routes: Names::default(),
            listeners: Names::default(),
            upstreams: Names::default(),
            plugins: Names::default(),
            revision: Mutex::new(None),
        })
    }

    /// The handle of a route; the same one for the same name until it is removed.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        if name.is_empty() { self.no_route() } else { self.routes.get(&self.families, name) }
    }

    /// The handle for requests that no route matched; never removed.
    pub fn no_route(&self) -> Arc<RouteMetrics> {
        self.no_route.clone()
    }

    /// The handle of a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        self.listeners.get(&self.families, name)
    }

    /// The handle of an upstream.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        self.upstreams.get(&self.families, name)
    }

    /// The handle of a plugin.
    pub fn plugin(&self, name: &str) -> Arc<PluginMetrics> {
        self.plugins.get(&self.families, name)
    }

    /// Removes the series of all other routes. To be called after a reload with the new names.
    pub fn retain_routes(&self, names: &HashSet<&str>) {
        self.routes.retain(names);
    }

    /// Removes the series of all other listeners.
    pub fn retain_listeners(&self, names: &HashSet<&str>) {
        self.listeners.retain(names);
    }

    /// Removes the series of all other upstreams.
    pub fn retain_upstreams(&self, names: &HashSet<&str>) {
        self.upstreams.retain(names);
    }

    /// Removes the series of all other plugins.
    pub fn retain_plugins(&self, names: &HashSet<&str>) {
        self.plugins.retain(names);
    }

    /// The config now in use; the one before is shown no longer.
    pub fn config_in_use(&self, revision: u64, digest: &str) {
        let mut shown = lock(&self.revision);
        let labels = [revision.to_string(), digest.to_owned()];
        if let Ok(gauge) = self.families.revision.get_metric_with_label_values(&labels) {
            gauge.set(1);
        }
        if let Some(before) = shown.replace(labels).filter(|before| Some(before) != shown.as_ref())
        {
            let _ = self.families.revision.remove_label_values(&before);
        }
    }

    /// The config on trial, by number and digest, or that there is none any more.
    pub fn canary_in_use(&self, shown: Option<(u64, &str)>) {
        self.families.canary.reset();
        if let Some((number, digest)) = shown
            && let Ok(gauge) =
                self.families.canary.get_metric_with_label_values(&[&number.to_string(), digest])
        {
            gauge.set(1);
        }
    }

    /// A request that counts for the trial of a config has ended.
    pub fn tried(&self, is_tried: bool, failed: bool) {
        let by = if is_tried { "canary" } else { "in_force" };
        let outcome = if failed { "failed" } else { "good" };
        if let Ok(requests) =
            self.families.canary_requests.get_metric_with_label_values(&[by, outcome])
        {
            requests.inc();
        }
    }

    /// A reload was tried.
    pub fn reloaded(&self, outcome: ReloadOutcome, now: SystemTime) {
        let labels = [CHANGE_OUTCOMES[outcome as usize]];
        if let Ok(reloads) = self.families.reloads.get_metric_with_label_values(&labels) {
            reloads.inc();
        }
        if let Ok(last) = self.families.last_reload.get_metric_with_label_values(&labels) {
            let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            last.set(since.as_secs_f64());
        }
    }

    /// An upgrade was tried.
    pub fn upgraded(&self, outcome: UpgradeOutcome) {
        let labels = [CHANGE_OUTCOMES[outcome as usize]];
        if let Ok(upgrades) = self.families.upgrades.get_metric_with_label_values(&labels) {
            upgrades.inc();
        }
    }

    /// Counters for the lines that an access log loses; the same for every log of the gateway.
    pub fn access_log_losses(&self) -> Losses {
        Losses {
            dropped: self.families.log_dropped.clone(),
            failed: self.families.log_failed.clone(),
        }
    }

    /// For families of other rooms.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything, in the Prometheus text format 0.0.4.
    pub fn gather_text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be written as text");
            String::new()
        })
    }
}

/// The handles in use, by name.
struct Names<H>(Mutex<HashMap<Box<str>, Arc<H>>>);

impl<H: Handle> Names<H> {
    fn get(&self, families: &Families, name: &str) -> Arc<H> {
        let mut handles = lock(&self.0);
        if let Some(handle) = handles.get(name) {
            return handle.clone();
        }
        let handle = Arc::new(H::new(families, Name::new(name)));
        handles.insert(name.into(), handle.clone());
        handle
    }

    fn retain(&self, names: &HashSet<&str>) {
        lock(&self.0).retain(|name, handle| {
            let kept = names.contains(&**name);
            if !kept {
                handle.retire();
            }
            kept
        });
    }
}

impl<H> Default for Names<H> {
    fn default() -> Names<H> {
        Names(Mutex::default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
