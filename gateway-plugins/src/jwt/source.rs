//! Keys that come from elsewhere: fetched before they are needed, kept while they cannot be, and fetched once
//! more for a key that is not among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use gateway_core::config::FilePath;
use gateway_core::fetch::{Fetched, Fetcher, max_age};
use gateway_core::telemetry::PluginMetrics;
use serde_json::Value;
use tokio::sync::{Mutex, Notify, watch};

use super::algorithm::Algorithm;
use super::key_set::KeySet;

/// A longer document is no set of keys.
const LONGEST: usize = 1 << 20;
/// How often keys are fetched again for one that is not among them, in milliseconds, and how often at first:
/// nobody who makes names up may have an issuer asked for each.
const EVERY: u64 = 10_000;
const AT_FIRST: u64 = 5;
/// Keys are fetched again no sooner and no later, whatever their server says.
const SOONEST: Duration = Duration::from_secs(30);
const LATEST: Duration = Duration::from_secs(24 * 60 * 60);
/// And after so long if it says nothing.
const USUAL: Duration = Duration::from_secs(5 * 60);
/// After a failure they are fetched again after this time, then twice as much.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);
/// Keys are good for so much longer than they were to be, while others are on their way.
const LATE: Duration = Duration::from_secs(10);

/// Where keys are fetched from.
pub(super) struct Source {
    pub(super) fetcher: Fetcher,
    /// The issuer whose configuration is there, if it is not the keys themselves.
    pub(super) discovers: Option<Box<str>>,
    pub(super) ca: Option<FilePath>,
    pub(super) timeout: Duration,
    pub(super) allow_http: bool,
    pub(super) refresh: Option<Duration>,
    pub(super) allowed: Box<[Algorithm]>,
    pub(super) name: Box<str>,
}

/// Keys that were fetched.
pub(super) struct Held {
    pub(super) keys: KeySet,
    /// Another number if a key that was there is there no more.
    pub(super) generation: u64,
    /// When others were to be there in their place.
    due: Instant,
}

impl Held {
    fn is_good(&self, stale_for: Duration) -> bool {
        // What takes its time is not late yet.
        Instant::now().saturating_duration_since(self.due) <= stale_for.max(LATE)
    }
}

/// The keys of one source, shared by all that the plugin becomes through reloads.
pub(super) struct Remote {
    held: ArcSwapOption<Held>,
    /// Keys are being fetched, or are about to be.
    busy: AtomicBool,
    /// When to fetch again, in milliseconds since `epoch`.
    next: AtomicU64,
    /// When fetching for unknown keys is paid for, in the same way (a virtual scheduling time, as in GCRA).
    paid: AtomicU64,
    epoch: Instant,
    wanted: Notify,
    /// How many fetches ended.
    ended: watch::Sender<u64>,
    /// Who has it fetches; others wait until they are the last.
    fetches: Mutex<()>,
}

impl Remote {
    pub(super) fn new() -> Self {
        Self {
            held: ArcSwapOption::empty(),
            busy: AtomicBool::new(true),
            next: AtomicU64::new(0),
            paid: AtomicU64::new(0),
            epoch: Instant::now(),
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
            fetches: Mutex::new(()),
        }
    }

    /// The keys, if there are any that are not too old.
    pub(super) fn held(&self, stale_for: Duration) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| held.is_good(stale_for))
    }

    /// The generation of the keys, if there are any that are not too old.
    pub(super) fn generation(&self, stale_for: Duration) -> Option<u64> {
        let held = self.held.load();
        held.as_ref().filter(|held| held.is_good(stale_for)).map(|held| held.generation)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Has the keys fetched, unless that was done too often, and waits until they are. All who ask meanwhile
    /// wait for the same fetch.
    pub(super) async fn renew(&self, longest: Duration) {
        let mut ended = self.ended.subscribe();
        if !self.busy.swap(true, Ordering::AcqRel) {
            let now = self.now();
            let pay = |paid: u64| {
                let next = paid.max(now) + EVERY;
                (next - now <= EVERY * AT_FIRST).then_some(next)
            };
            if self.paid.fetch_update(Ordering::AcqRel, Ordering::Acquire, pay).is_err() {
                self.busy.store(false, Ordering::Release);
                return;
            }
            self.wanted.notify_one();
        }
        let _ = tokio::time::timeout(longest, ended.changed()).await;
    }

    /// Fetches for as long as somebody needs the keys.
    pub(super) async fn follow(self: Arc<Self>, source: Source, metrics: Arc<PluginMetrics>) {
        let _only = self.fetches.lock().await;
        let mut failures: u32 = 0;
        let mut told = None;
        loop {
            // If it is busy already, somebody waits, or whoever fetched before was stopped at it.
            if !self.busy.load(Ordering::Acquire) {
                let wait = self.next.load(Ordering::Acquire).saturating_sub(self.now());
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                    () = self.wanted.notified() => {}
                }
                self.busy.store(true, Ordering::Release);
            }
            let outcome = source.fetch().await;
            metrics.fetched_keys(outcome.is_ok());
            let pause = match outcome {
                Ok((keys, pause)) => {
                    if failures > 0 {
                        tracing::info!(source = &*source.name, "keys are fetched again");
                    }
                    (failures, told) = (0, None);
                    self.take(keys, pause);
                    pause
                }
                Err(fault) => {
                    failures += 1;
                    if told.as_ref() != Some(&fault) {
                        let kept = self.held.load().as_ref().map_or(0, |held| held.keys.0.len());
                        tracing::warn!(source = &*source.name, fault, kept, "keys are not fetched");
                        told = Some(fault);
                    }
                    AGAIN.saturating_mul(1 << (failures - 1).min(10)).min(AGAIN_AT_MOST)
                }
            };
            let pause = pause.mul_f64(0.9 + 0.1 * rand::random::<f64>());
            let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            self.next.store(self.now().saturating_add(pause), Ordering::Release);
            self.busy.store(false, Ordering::Release);
            self.ended.send_modify(|ended| *ended += 1);
        }
    }

    fn take(&self, keys: KeySet, pause: Duration) {
        let before = self.held.load_full();
        let generation = match &before {
            // What was good with the keys before is good with these.
            Some(before) if keys.covers(&before.keys) => before.generation,
            Some(before) => before.generation + 1,
            None => 1,
        };
        self.held.store(Some(Arc::new(Held { keys, generation, due: Instant::now() + pause })));
    }
}

impl Source {
    /// The keys, and when to fetch them again.
    async fn fetch(&self) -> Result<(KeySet, Duration), String> {
        let answer = self.fetcher.get().await.map_err(|error| error.to_string())?;
        let answer = match &self.discovers {
            None => answer,
            Some(issuer) => self.discovered(issuer, &answer).await?,
        };
        let (keys, broken) = KeySet::read(&answer.body, &self.allowed)?;
        if let Some(fault) = broken.first() {
            let count = broken.len();
            tracing::warn!(source = &*self.name, fault, count, "keys that cannot be used");
        }
        // Ahead of their end, so that nobody waits for new ones.
        let said = max_age(&answer.headers).map(|age| age.mul_f64(0.8));
        let pause = self.refresh.unwrap_or_else(|| said.unwrap_or(USUAL).clamp(SOONEST, LATEST));
        Ok((keys, pause))
    }

    /// Fetches the keys that an issuer's configuration names (OpenID Connect Discovery 1.0, section 4).
    async fn discovered(&self, issuer: &str, answer: &Fetched) -> Result<Fetched, String> {
        let found: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("the issuer's configuration is no JSON: {error}"))?;
        let text = |name: &str| found.get(name).and_then(Value::as_str);
        if text("issuer") != Some(issuer) {
            let said = text("issuer").unwrap_or("none");
            return Err(format!("the configuration is that of another issuer: `{said}`"));
        }
        let place = text("jwks_uri").ok_or("the issuer's configuration has no `jwks_uri`")?;
        let fetcher = Fetcher::new(place, self.ca.as_ref(), self.timeout, LONGEST)?;
        if fetcher.is_plain() && !fetcher.is_local() && !self.allow_http {
            return Err(format!("`jwks_uri` is not safe from whoever is on the way: {place}"));
        }
        fetcher.get().await.map_err(|error| format!("{place}: {error}"))
    }
}

/// A fetcher of keys, or of an issuer's configuration.
pub(super) fn fetcher(
    url: &str,
    ca: Option<&FilePath>,
    timeout: Duration,
    allow_http: bool,
) -> Result<Fetcher, String> {
    let fetcher = Fetcher::new(url, ca, timeout, LONGEST)?;
    if fetcher.is_plain() && !fetcher.is_local() && !allow_http {
        return Err("whoever is on the way could change the keys: use https, or set `allow_http`"
            .to_owned());
    }
    Ok(fetcher)
}
