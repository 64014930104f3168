//! The circuit breaker's state machine: it stops asking an upstream that fails, and tries it carefully
//! again.
//!
//! Closed, it counts what becomes of requests over a rolling window; where too many fail or are slow it
//! opens, and requests are refused at once. After a time it is half open: a few requests go through as
//! probes. If they go well it closes, else it opens again, for twice as long. While it is closed a
//! request costs it one load, and an ending a few additions; nothing is locked but to change its state.

mod carry;
mod each;
mod window;

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::health::{Ending, blames_endpoint};
use crate::config::StatusRange;
use crate::telemetry::{BreakerChange, FailureCode, UpstreamMetrics};

pub(crate) use each::Each;
use window::{Counts, Window};

/// When a breaker opens and closes.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerOptions {
    /// What each breaker stands before.
    pub per: BreakerScope,
    /// The statuses that are failures.
    pub status: Vec<StatusRange>,
    /// The failure codes that are failures, of those that an attempt can end with (`U1` to `X7`). What
    /// ends with another of these is not counted.
    pub codes: Vec<FailureCode>,
    /// It opens when such a share of the requests in the window failed, above 0 and at most 1; `None` if
    /// failures do not matter.
    pub failure_ratio: Option<f64>,
    /// It opens when such a share of them was slow; `None` if that does not matter.
    pub slow_ratio: Option<f64>,
    /// What is slow: an answer that begins after this time.
    pub slow: Duration,
    /// How far back is looked.
    pub window: Duration,
    /// How many requests in the window a share is told from.
    pub minimum: u32,
    /// How long it is open the first time; twice as long each time that probes fail.
    pub open_for: Duration,
    /// How long it is open at most.
    pub open_at_most: Duration,
    /// How many requests go through half open, and have to go well.
    pub probes: u32,
}

impl BreakerOptions {
    fn judge(&self, ending: Ending) -> Option<Outcome> {
        let failed = match ending {
            Ending::Answered(status, _) => {
                self.status.iter().any(|range| range.0.contains(&status))
            }
            Ending::Failed(code, _) if self.codes.contains(&code) => true,
            Ending::Failed(..) | Ending::Lost(_) => return None,
        };
        let slow = matches!(ending, Ending::Answered(_, took) if took >= self.slow);
        Some(match () {
            () if failed && self.failure_ratio.is_some() => Outcome::Failed,
            () if slow && self.slow_ratio.is_some() => Outcome::Slow,
            () => Outcome::Good,
        })
    }
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            per: BreakerScope::default(),
            status: vec![StatusRange(500..=500), StatusRange(502..=504)],
            codes: FailureCode::ALL.into_iter().filter(|code| blames_endpoint(*code)).collect(),
            failure_ratio: Some(0.5),
            slow_ratio: None,
            slow: Duration::from_secs(1),
            window: Duration::from_secs(30),
            minimum: 20,
            open_for: Duration::from_secs(5),
            open_at_most: Duration::from_secs(60),
            probes: 3,
        }
    }
}

/// What a breaker stands before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BreakerScope {
    /// An upstream: one for all routes to it that have the plugin from the same list.
    #[default]
    Upstream,
    /// An upstream as one route sees it.
    Route,
    /// Each endpoint of an upstream: an open one is passed over, as if the endpoint were not there.
    Endpoint,
}

/// What a breaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Requests go through.
    Closed,
    /// None does.
    Open,
    /// Probes do.
    HalfOpen,
}

/// What became of an attempt, to a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    Failed,
    Slow,
}

/// A breaker. Moments are those of the gateway's coarse clock, in milliseconds.
#[derive(Debug)]
pub(crate) struct Breaker {
    options: BreakerOptions,
    who: Who,
    /// What it is to do, whatever it finds: one of [`Told`].
    told: AtomicU8,
    /// 0 while it is closed, [`HALF`] while it is half open, else when it is open until.
    until: AtomicU64,
    probing: AtomicU32,
    probed: AtomicU32,
    /// How often it was half open: what is told by probes of an earlier time is not counted.
    phase: AtomicU32,
    /// How often in a row it opened.
    opened: AtomicU32,
    window: Window,
    /// Held to change its state.
    turn: Mutex<()>,
}

/// Whose breaker it is, for what is told of its changes.
#[derive(Clone)]
pub(crate) struct Who {
    pub(crate) plugin: Arc<str>,
    pub(crate) upstream: Arc<str>,
    /// The route or endpoint that it is for, if it is not for the whole upstream.
    pub(crate) of: Option<Arc<str>>,
    pub(crate) metrics: Arc<UpstreamMetrics>,
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} before {} {:?}", self.plugin, self.upstream, self.of)
    }
}

/// What a breaker can be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Told {
    /// What it finds right.
    Auto,
    /// To let nothing through.
    Open,
    /// To let everything through.
    Closed,
}

const HALF: u64 = u64::MAX;

/// Leave to go through. What becomes of the request is to be told by it; a probe that nothing is told of
/// makes room for another.
#[derive(Debug)]
pub(crate) struct Pass {
    breaker: Arc<Breaker>,
    /// The phase that it is a probe of, if it is one.
    probe: Option<u32>,
    /// What was told when the answer began, and the number of the slice that it was counted in; 0 if it
    /// was a probe.
    said: Option<(Outcome, u64)>,
}

impl Breaker {
    pub(crate) fn new(options: BreakerOptions, who: Who) -> Self {
        Self {
            window: Window::new(options.window),
            options,
            who,
            told: AtomicU8::new(Told::Auto as u8),
            until: AtomicU64::new(0),
            probing: AtomicU32::new(0),
            probed: AtomicU32::new(0),
            phase: AtomicU32::new(0),
            opened: AtomicU32::new(0),
            turn: Mutex::default(),
        }
    }

    /// Has it do this from now on.
    pub(crate) fn tell(&self, what: Told) {
        self.told.store(what as u8, Ordering::Release);
        let Who { plugin, upstream, of, .. } = &self.who;
        let of = of.as_deref();
        tracing::warn!(%plugin, %upstream, of, ?what, "circuit breaker is told what to do");
    }

    /// What it was told to do.
    pub(crate) fn told(&self) -> Told {
        match self.told.load(Ordering::Relaxed) {
            told if told == Told::Open as u8 => Told::Open,
            told if told == Told::Closed as u8 => Told::Closed,
            _ => Told::Auto,
        }
    }

    /// Whether it is for one route's requests.
    pub(crate) fn is_of_route(&self) -> bool {
        self.options.per == BreakerScope::Route
    }

    /// What it does now.
    pub(crate) fn state(&self, now: u64) -> BreakerState {
        match self.told() {
            Told::Auto => {}
            Told::Open => return BreakerState::Open,
            Told::Closed => return BreakerState::Closed,
        }
        match self.until.load(Ordering::Acquire) {
            0 => BreakerState::Closed,
            HALF => BreakerState::HalfOpen,
            until if now < until => BreakerState::Open,
            // The next request is a probe.
            _ => BreakerState::HalfOpen,
        }
    }

    /// Whether a request may go through; if not, how soon to ask again.
    pub(crate) fn ask(self: &Arc<Self>, now: u64) -> Result<Pass, Duration> {
        /// How soon to ask one again that does not say when it changes.
        const SOON: Duration = Duration::from_secs(1);
        let pass = |probe| Pass { breaker: self.clone(), probe, said: None };
        let through = || Ok(pass(None));
        match self.told() {
            Told::Auto => {}
            Told::Open => return Err(SOON),
            Told::Closed => return through(),
        }
        let until = self.until.load(Ordering::Acquire);
        match until {
            0 => return through(),
            HALF => {}
            _ if now < until => return Err(Duration::from_millis(until - now)),
            _ => self.half_open(until),
        }
        let more = |probing| (probing < self.options.probes.max(1)).then_some(probing + 1);
        match self.probing.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            // Known after it is counted: what is counted in one phase and given back in the next is
            // one probe too many, the other way round a place would be lost.
            Ok(_) => Ok(pass(Some(self.phase.load(Ordering::Acquire)))),
            // As soon as the probes have told.
            Err(_) => Err(SOON),
        }
    }

    /// Whether what was a probe of this phase still is one.
    fn is_in(&self, phase: u32) -> bool {
        self.until.load(Ordering::Acquire) == HALF && self.phase.load(Ordering::Acquire) == phase
    }

    fn half_open(&self, until: u64) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.until.load(Ordering::Acquire) == until {
            // The phase first: whoever is counted from here on reads it.
            self.phase.fetch_add(1, Ordering::AcqRel);
            self.probing.store(0, Ordering::Release);
            self.probed.store(0, Ordering::Release);
            self.until.store(HALF, Ordering::Release);
            self.who.metrics.breaker_changed(BreakerChange::HalfOpen);
        }
    }

    fn open(&self, now: u64, from: u64, why: &str) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.until.load(Ordering::Acquire) != from {
            return;
        }
        let opened = self.opened.fetch_add(1, Ordering::AcqRel).min(20);
        let time = self.options.open_for.saturating_mul(1 << opened);
        let time = time.min(self.options.open_at_most).max(Duration::from_millis(1));
        let millis = u64::try_from(time.as_millis()).unwrap_or(HALF / 2);
        self.until.store(now.saturating_add(millis).clamp(1, HALF - 1), Ordering::Release);
        let Who { plugin, upstream, of, metrics } = &self.who;
        let of = of.as_deref();
        tracing::warn!(%plugin, %upstream, of, why, for_ms = millis, "circuit breaker opens");
        metrics.breaker_changed(BreakerChange::Open);
    }

    fn close(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.until.load(Ordering::Acquire) == HALF {
            self.window.forget();
            self.opened.store(0, Ordering::Release);
            self.until.store(0, Ordering::Release);
            let Who { plugin, upstream, of, metrics } = &self.who;
            tracing::info!(%plugin, %upstream, of = of.as_deref(), "circuit breaker closes");
            metrics.breaker_changed(BreakerChange::Closed);
        }
    }

    /// Counts what became of a request, and tells in which slice of the window.
    fn count(&self, outcome: Outcome, now: u64) -> u64 {
        let number = self.window.count(outcome, now);
        if outcome != Outcome::Good {
            self.weigh(now);
        }
        number
    }

    /// Opens it if what the window holds is too bad.
    fn weigh(&self, now: u64) {
        let Counts { requests, failed, slow } = self.window.counts(now);
        if requests < f64::from(self.options.minimum.max(1)) {
            return;
        }
        let reached =
            |share: Option<f64>, of: f64| share.is_some_and(|share| of >= requests * share);
        if reached(self.options.failure_ratio, failed) {
            self.open(now, 0, &format!("{failed} of {requests} attempts failed"));
        } else if reached(self.options.slow_ratio, slow) {
            self.open(now, 0, &format!("{slow} of {requests} answers were slow"));
        }
    }
}

impl Pass {
    /// Tells how an attempt ended, at this moment. Nothing follows from an end that the client, the
    /// gateway or a limit brought about.
    pub(crate) fn tell(&mut self, ending: Ending, now: u64) {
        let said = self.said.take();
        let Some(outcome) = self.breaker.options.judge(ending) else { return };
        match said {
            None => drop(self.say(outcome, now)),
            Some((before, number)) if outcome == Outcome::Failed && before != Outcome::Failed => {
                if self.breaker.until.load(Ordering::Acquire) == 0 {
                    self.breaker.window.correct(number, now);
                    self.breaker.weigh(now);
                }
            }
            Some(_) => {}
        }
    }

    /// Tells that an answer has begun. It counts from now on: the client that it goes to may be back
    /// before the attempt has ended, and how long it goes on keeps nobody out.
    pub(crate) fn answered(&mut self, status: u16, took: Duration, now: u64) {
        if let Some(outcome) = self.breaker.options.judge(Ending::Answered(status, took)) {
            self.said = Some((outcome, self.say(outcome, now)));
        }
    }

    /// Has it count, and tells in which slice of the window; 0 if in none.
    fn say(&mut self, outcome: Outcome, now: u64) -> u64 {
        let breaker = &self.breaker;
        let Some(phase) = self.probe.take() else {
            // What began before it opened says nothing of how it is since.
            let closed = breaker.until.load(Ordering::Acquire) == 0;
            return if closed { breaker.count(outcome, now) } else { 0 };
        };
        if !breaker.is_in(phase) {
            return 0;
        }
        if outcome != Outcome::Good {
            let slow = outcome == Outcome::Slow;
            breaker.open(now, HALF, if slow { "a probe was slow" } else { "a probe failed" });
        } else if breaker.probed.fetch_add(1, Ordering::AcqRel) + 1 >= breaker.options.probes.max(1)
        {
            breaker.close();
        }
        0
    }

    /// Whether it is good for one attempt only: the breaker has opened since, or it is a probe.
    pub(crate) fn is_used(&self) -> bool {
        self.breaker.told() != Told::Closed && self.breaker.until.load(Ordering::Acquire) != 0
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe.is_some_and(|phase| self.breaker.is_in(phase)) {
            let less = |probing: u32| probing.checked_sub(1);
            let _ = self.breaker.probing.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        }
    }
}

#[cfg(test)]
mod tests;
