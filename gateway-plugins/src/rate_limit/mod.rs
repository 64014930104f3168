//! Bounds how many requests come in a time, for each client or whatever else tells them apart.
//!
//! ```yaml
//! kind: rate-limit
//! options:
//!   key: [client.ip]
//!   limits:
//!     - {requests: 10, per: 1s, burst: 20}
//!     - {requests: 1000, per: 1h}
//! ```
//!
//! What is too much is answered 429 with `P6` and `Retry-After`. Answers tell what is left in the fields
//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers). A request that one limit
//! refuses counts in none. Each gateway counts for itself, unless they share a `store`.

mod base;
mod cost;
mod fields;
mod lease;
mod limit;
mod options;
mod places;
mod plan;
mod store;
mod table;

use std::hash::Hasher;
use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::RequestCtx;
use gateway_core::plugin::{
    Attribute, BuildEnv, BuildError, Class, Facts, Flow, HookError, Hooks, Plugin, Reply,
    RequestHeader, RequestHook, ResponseHeader, ResponseHook,
};
use gateway_core::telemetry::{FailureCode, LimiterDecision, PluginMetrics, lower_hex};
use http::{StatusCode, header};
use sha2::{Digest, Sha256};

use base::Base;
use cost::Cost;
use fields::seconds;
use lease::{Ask, Leased};
pub use options::Config;
use options::{Fields, Missing, OnFull, OnStoreError};
use plan::{Plan, Refused, Standings, Taken};
use store::{Call, Store, Unknown};

/// Bounds how many requests come in a time.
pub struct RateLimit {
    key: Box<[Attribute]>,
    missing: Missing,
    plan: Plan,
    overrides: Box<[Override]>,
    cost: Cost,
    on_full: OnFull,
    fields: Fields,
    dry_run: bool,
    store: Option<Store>,
    on_store_error: OnStoreError,
    metrics: Arc<PluginMetrics>,
    base: Arc<Base>,
}

/// Other limits for some consumers.
struct Override {
    consumers: Box<[Box<str>]>,
    groups: Box<[Box<str>]>,
    /// `None` for no limit at all.
    plan: Option<Plan>,
}

/// What was taken for a request.
struct Own {
    /// By the address of the plugin: there may be several.
    plugin: usize,
    /// Which override's limits hold, if one's do.
    chosen: Option<usize>,
    left: Standings,
    /// What was taken before it is known what it costs, and by which key.
    owed: Option<Box<Owed>>,
}

struct Owed {
    at_first: u64,
    key: Key,
}

/// The same by plugin: there may be several, but hardly ever are.
struct Left {
    first: Own,
    more: Vec<Own>,
}

/// A request's key: a number that nobody can foresee for the buckets here, or what all gateways call it.
#[derive(Clone)]
enum Key {
    Here(u64),
    Shared(String),
}

impl Plugin for RateLimit {
    const KIND: &'static str = "rate-limit";
    const CLASS: Class = Class::Traffic;
    type Config = Config;

    fn build(config: Config, env: &BuildEnv<'_>) -> Result<Self, BuildError> {
        config.compile(env)
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request(self.clone());
        if self.fields != Fields::None || self.cost.is_told_later() {
            hooks.response(self);
        }
    }
}

impl RateLimit {
    /// Hands each part of the key over, and whether it is there; false if one is missing and that matters.
    fn parts(&self, facts: &Facts<'_>, mut part: impl FnMut(&[u8], bool)) -> bool {
        self.key.iter().all(|attribute| {
            let there = attribute.with_bytes(facts, |bytes| {
                part(bytes.unwrap_or_default(), bytes.is_some());
                bytes.is_some()
            });
            there || self.missing == Missing::Share
        })
    }

    /// The key by which buckets here are found.
    fn key_here(&self, facts: &Facts<'_>) -> Option<u64> {
        let mut hasher = self.base.hasher();
        let complete = self.parts(facts, |bytes, there| {
            // The length keeps two parts from being read as two others.
            hasher.write_u64(if there { bytes.len() as u64 } else { u64::MAX });
            hasher.write(bytes);
        });
        complete.then(|| hasher.finish().max(1))
    }

    /// The key by which all gateways call it: nobody can make up another of the same name.
    fn key_shared(&self, facts: &Facts<'_>) -> Option<String> {
        let mut hasher = Sha256::new();
        let complete = self.parts(facts, |bytes, there| {
            hasher.update(if there { bytes.len() as u64 } else { u64::MAX }.to_le_bytes());
            hasher.update(bytes);
        });
        complete.then(|| lower_hex(&hasher.finalize()[..16]))
    }

    /// Which override holds for the request's consumer.
    fn chosen(&self, ctx: &RequestCtx) -> Option<usize> {
        if self.overrides.is_empty() {
            return None;
        }
        let consumer = ctx.consumer()?;
        self.overrides.iter().position(|one| {
            one.consumers.iter().any(|name| *name == consumer.name)
                || one.groups.iter().any(|group| consumer.is_in(group))
        })
    }

    fn plan(&self, chosen: Option<usize>) -> Option<&Plan> {
        chosen.map_or(Some(&self.plan), |index| self.overrides[index].plan.as_ref())
    }

    /// Takes the request, or what is answered to it; `None` if it is not counted.
    async fn take(
        &self,
        plan: &Plan,
        cost: u64,
        facts: &Facts<'_>,
    ) -> Result<Option<(Key, Taken)>, Reply> {
        let here = || {
            let key = self.key_here(facts)?;
            Some((Key::Here(key), plan.take(key, cost, Base::now(), self.on_full)))
        };
        let Some(store) = &self.store else {
            return here().map_or_else(|| self.incomplete(), |taken| Ok(Some(taken)));
        };
        let shared = match &plan.leases {
            None => {
                let Some(key) = self.key_shared(facts) else { return self.incomplete() };
                let cost = i64::try_from(cost).unwrap_or(i64::MAX);
                let call = Call { cost, ..Call::default() };
                store.take(plan, &key, call).await.map(|(taken, _)| (Key::Shared(key), taken))
            }
            Some(leases) => {
                let Some(key) = self.key_here(facts) else { return self.incomplete() };
                let taken = match leases.take(key, Base::now()) {
                    Leased::Known(taken) => Ok(taken),
                    Leased::Ask(ask) => self.lease(store, plan, cost, &ask, facts).await,
                };
                taken.map(|taken| (Key::Here(key), taken))
            }
        };
        match (shared, self.on_store_error) {
            (Ok(taken), _) => Ok(Some(taken)),
            (Err(_), OnStoreError::Local) => Ok(here()),
            (Err(_), OnStoreError::Allow) => Ok(None),
            // What is only tried refuses nobody.
            (Err(_), OnStoreError::Refuse) if self.dry_run => Ok(None),
            (Err(_), OnStoreError::Refuse) => {
                Err(Reply::refusal(StatusCode::SERVICE_UNAVAILABLE, FailureCode::P7))
            }
        }
    }

    /// Takes a request from the store, and as many more as are leased.
    async fn lease(
        &self,
        store: &Store,
        plan: &Plan,
        cost: u64,
        ask: &Ask,
        facts: &Facts<'_>,
    ) -> Result<Taken, Unknown> {
        let leases = plan.leases.as_ref().ok_or(Unknown)?;
        let key = self.key_shared(facts).ok_or(Unknown)?;
        let call = Call {
            cost: i64::try_from(cost).unwrap_or(i64::MAX),
            forced: false,
            more: ask.requests - 1,
            back: ask.unused * cost,
            age: ask.age,
        };
        match store.take(plan, &key, call).await {
            Ok((mut taken, count)) => {
                leases.put(ask, count, &taken);
                // What is leased is left all the same.
                taken.0.add(count.saturating_sub(1) * cost);
                Ok(taken)
            }
            Err(unknown) => {
                leases.fail(ask);
                Err(unknown)
            }
        }
    }

    /// What becomes of a request that lacks a part of the key.
    fn incomplete(&self) -> Result<Option<(Key, Taken)>, Reply> {
        if self.missing == Missing::Skip || self.dry_run {
            return Ok(None);
        }
        let detail = "the request lacks what its rate is counted by";
        Err(Reply::problem(StatusCode::BAD_REQUEST, detail).because(FailureCode::P8))
    }

    fn note(&self, own: Own, ctx: &mut RequestCtx) {
        if self.fields == Fields::None && own.owed.is_none() {
            return;
        }
        match ctx.get_mut::<Left>() {
            Some(left) => left.more.push(own),
            None => ctx.insert(Left { first: own, more: Vec::new() }),
        }
    }

    /// Takes what a request has cost beyond what was taken at first, or gives back what it has not.
    async fn settle(&self, plan: &Plan, owed: &Owed, cost: u64) -> Option<Standings> {
        match &owed.key {
            Key::Here(key) if cost < owed.at_first => {
                plan.give_back(*key, owed.at_first - cost, Base::now());
                Some(plan.charge(*key, 0, Base::now()))
            }
            Key::Here(key) => Some(plan.charge(*key, cost - owed.at_first, Base::now())),
            Key::Shared(_) if cost == owed.at_first => None,
            Key::Shared(key) => {
                // Neither is above a million.
                let more = i64::try_from(cost).ok()? - i64::try_from(owed.at_first).ok()?;
                let call = Call { cost: more, forced: true, ..Call::default() };
                let taken = self.store.as_ref()?.take(plan, key, call).await;
                taken.ok().map(|((left, _), _)| left)
            }
        }
    }
}

#[async_trait]
impl RequestHook for RateLimit {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let chosen = self.chosen(ctx);
        let Some(plan) = self.plan(chosen) else { return Ok(Flow::Continue) };
        let facts = Facts { request: head, response: None, ctx };
        let cost = self.cost.at_first(&facts);
        let (key, (left, taken)) = match self.take(plan, cost, &facts).await {
            Ok(Some(taken)) => taken,
            Ok(None) => return Ok(Flow::Continue),
            Err(reply) => return Ok(Flow::Respond(reply)),
        };
        let (decision, retry) = match taken {
            Ok(()) => (LimiterDecision::Allowed, None),
            Err(Refused { retry }) if self.dry_run => (LimiterDecision::WouldLimit, retry),
            Err(Refused { retry }) => (LimiterDecision::Limited, retry),
        };
        self.metrics.decided(decision);
        let owes = self.cost.is_told_later() && decision == LimiterDecision::Allowed;
        let owed = owes.then(|| Box::new(Owed { at_first: cost, key }));
        let plugin = std::ptr::from_ref(self).addr();
        self.note(Own { plugin, chosen, left, owed }, ctx);
        if decision != LimiterDecision::Limited {
            return Ok(Flow::Continue);
        }
        let mut reply = Reply::refusal(StatusCode::TOO_MANY_REQUESTS, FailureCode::P6);
        if let Some(retry) = retry {
            reply.set(header::RETRY_AFTER, seconds(retry).max(1).into());
        }
        Ok(Flow::Respond(reply))
    }

    fn foresee(&self, _: &RequestHeader, _: &RequestCtx) -> Option<Flow> {
        // One request of the usual cost is not too much; another cost may be, and so may be what is missing.
        let is_plain = matches!(self.cost, Cost::Fixed(_)) && self.missing != Missing::Refuse;
        (self.dry_run || is_plain && self.store.is_none()).then_some(Flow::Continue)
    }
}

#[async_trait]
impl ResponseHook for RateLimit {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        _: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        let plugin = std::ptr::from_ref(self).addr();
        let Some(Left { first, more }) = ctx.get::<Left>() else { return Ok(()) };
        let own = std::iter::once(first).chain(more).find(|own| own.plugin == plugin);
        let Some((own, plan)) = own.and_then(|own| Some((own, self.plan(own.chosen)?))) else {
            return Ok(());
        };
        let mut left = own.left;
        if let Some(owed) = &own.owed
            && let Some(cost) = self.cost.at_last(response)
            && let Some(now) = self.settle(plan, owed, cost).await
        {
            left = now;
        }
        self.fields.write(plan, left.all(), response)
    }
}

#[cfg(test)]
mod tests;
