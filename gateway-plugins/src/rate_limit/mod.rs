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
//! refuses counts in none. Each gateway counts for itself.

mod limit;
mod table;

use std::fmt::Write;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::BytesMut;
use gateway_core::RequestCtx;
use gateway_core::config::Span;
use gateway_core::plugin::{
    Attribute, BuildEnv, BuildError, Class, Facts, Flow, HookError, Hooks, OptionPath, Plugin,
    Reply, RequestHeader, RequestHook, ResponseHeader, ResponseHook,
};
use gateway_core::telemetry::{FailureCode, LimiterDecision, PluginMetrics};
use http::{HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use limit::{Limit, Standing, Way};
use table::{Full, Table};

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What tells requests apart: attributes, all of which together are the key. Empty: all requests share
    /// one. Default `client.ip`.
    #[serde(default = "client")]
    key: Vec<String>,
    /// What becomes of a request that lacks a part of the key.
    #[serde(default)]
    missing: Missing,
    /// The limits, all of which hold.
    #[schemars(length(min = 1, max = 8))]
    limits: Vec<LimitConfig>,
    /// How many requests' worth each request is. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    cost: u64,
    /// For how many keys at a time there is room, in each limit: 24 bytes each. Default 100000.
    #[serde(default = "hundred_thousand")]
    #[schemars(range(min = 1, max = 100_000_000))]
    keys: usize,
    /// What a new key meets when there is no room. A key that is counted never loses its place.
    #[serde(default)]
    on_full: OnFull,
    /// The fields in which answers tell what is left.
    #[serde(default)]
    fields: Fields,
    /// Whether requests that are too much pass nevertheless, and are only counted, as `would_limit` in
    /// `gateway_limiter_decisions_total`. Answers tell nothing then. Default false.
    #[serde(default)]
    dry_run: bool,
}

/// One limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LimitConfig {
    /// The name in answers. Default: its place, from 1.
    #[serde(default)]
    name: Option<String>,
    /// So many requests.
    #[schemars(range(min = 1, max = 1_000_000))]
    requests: u64,
    /// In such a time, `1ms` to `31d`.
    per: Span,
    /// How many may come together. With `gcra` alone. Default: as many as `requests`.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    burst: Option<u64>,
    /// How it counts.
    #[serde(default)]
    algorithm: Algorithm,
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Algorithm {
    /// The generic cell rate algorithm: a burst, and then as evenly as the rate.
    #[default]
    Gcra,
    /// So many in any window, estimated from this window and the one before.
    SlidingWindow,
}

/// What becomes of a request that lacks a part of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Missing {
    /// The part counts as empty: all that lack it share a key.
    #[default]
    Share,
    /// It is not counted.
    Skip,
    /// It is answered 400.
    Refuse,
}

/// What a new key meets when there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnFull {
    /// It is not counted.
    #[default]
    Allow,
    /// It is answered 429.
    Refuse,
}

/// The fields in which answers tell what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Fields {
    /// `RateLimit` and `RateLimit-Policy`.
    #[default]
    Ietf,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, of the limit of which least is
    /// left.
    Legacy,
    /// All of these.
    Both,
    /// None; `Retry-After` alone.
    None,
}

fn client() -> Vec<String> {
    vec!["client.ip".to_owned()]
}

fn one() -> u64 {
    1
}

fn hundred_thousand() -> usize {
    100_000
}

/// Bounds how many requests come in a time.
pub struct RateLimit {
    key: Box<[Attribute]>,
    missing: Missing,
    rules: Box<[Rule]>,
    cost: u64,
    on_full: OnFull,
    fields: Fields,
    dry_run: bool,
    metrics: Arc<PluginMetrics>,
    /// `RateLimit-Policy`, the same for all answers.
    policy: HeaderValue,
    base: Arc<Base>,
}

/// A limit and its buckets.
struct Rule {
    name: Box<str>,
    /// What stands before what is left, in `RateLimit`.
    item: Box<str>,
    table: Arc<Table>,
}

/// What the buckets' times count from, and what keys are hashed with: kept as long as they are.
struct Base {
    epoch: Instant,
    hasher: RandomState,
}

/// The most limits that a plugin has.
const MOST: usize = 8;

/// What is left of each limit after a request, in place: it is made for every request.
#[derive(Clone, Copy, Default)]
struct Standings {
    of: [Standing; MOST],
    count: usize,
}

impl Standings {
    fn push(&mut self, standing: Standing) {
        if let Some(place) = self.of.get_mut(self.count) {
            *place = standing;
            self.count += 1;
        }
    }

    fn all(&self) -> &[Standing] {
        &self.of[..self.count]
    }
}

/// The same by plugin: there may be several, but hardly ever are.
struct Left {
    first: (usize, Standings),
    more: Vec<(usize, Standings)>,
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LONGEST: Duration = Duration::from_secs(31 * 24 * 60 * 60);

impl Plugin for RateLimit {
    const KIND: &'static str = "rate-limit";
    const CLASS: Class = Class::Traffic;
    type Config = Config;

    fn build(config: Config, env: &BuildEnv<'_>) -> Result<Self, BuildError> {
        let mut error = BuildError::none();
        let mut key = Vec::with_capacity(config.key.len());
        for (index, name) in config.key.iter().enumerate() {
            let path = OptionPath::root().key("key").index(index);
            match env.attribute(name) {
                Ok(attribute) if attribute.needs_response() => {
                    error.push(path, format!("`{name}` is not known before there is an answer"));
                }
                Ok(attribute) => key.push(attribute),
                Err(fault) => error.push(path, fault.to_string()),
            }
        }
        let mut rules = Vec::with_capacity(config.limits.len());
        let mut policy = String::new();
        for (index, limit) in config.limits.iter().enumerate() {
            let at = OptionPath::root().key("limits").index(index);
            limit.check(&at, config.cost, &mut error);
            let name = limit.name.clone().unwrap_or_else(|| (index + 1).to_string());
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
                error.push(at.clone().key("name"), "letters, digits, `-`, `_` and `.` alone");
            }
            if rules.iter().any(|rule: &Rule| *rule.name == *name) {
                error.push(at.key("name"), format!("another limit is called `{name}`"));
            }
            let built = limit.build();
            // What is counted goes on as long as it means the same.
            let digest = format!("{built:?} {} {:?}", config.keys, config.key);
            let keys = config.keys;
            let table = env.state(&format!("limit/{name}"), &digest, || Table::new(built, keys));
            let separator = if policy.is_empty() { "" } else { ", " };
            let _ = write!(
                policy,
                "{separator}\"{name}\";q={};w={}",
                built.quota(),
                seconds(built.window())
            );
            let item = format!("{separator}\"{name}\";r=").into();
            rules.push(Rule { name: name.into(), item, table });
        }
        let policy = HeaderValue::try_from(policy);
        error.or(|| Self {
            key: key.into(),
            missing: config.missing,
            rules: rules.into(),
            cost: config.cost,
            on_full: config.on_full,
            // What would not be refused is not told that it would.
            fields: if config.dry_run { Fields::None } else { config.fields },
            dry_run: config.dry_run,
            metrics: env.metrics(),
            policy: policy.unwrap_or(HeaderValue::from_static("")),
            base: env
                .state("base", "", || Base { epoch: Instant::now(), hasher: RandomState::new() }),
        })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request(self.clone());
        if self.fields != Fields::None {
            hooks.response(self);
        }
    }
}

impl LimitConfig {
    fn check(&self, at: &OptionPath, cost: u64, error: &mut BuildError) {
        let per = Duration::from(self.per);
        if per < Duration::from_millis(1) || per > LONGEST {
            error.push(at.clone().key("per"), "from 1ms to 31d");
        }
        if per.as_nanos() / u128::from(self.requests.max(1)) < 1000 {
            error.push(at.clone().key("requests"), "more than a million a second");
        }
        if self.algorithm == Algorithm::SlidingWindow && self.burst.is_some() {
            error.push(at.clone().key("burst"), "a sliding window has none");
        }
        if cost > self.burst.unwrap_or(self.requests) {
            error.push(at.clone(), "no request can pass: `cost` is more than there ever is");
        }
    }

    fn build(&self) -> Limit {
        let way = match self.algorithm {
            Algorithm::Gcra => Way::Gcra,
            Algorithm::SlidingWindow => Way::SlidingWindow,
        };
        Limit::new(way, self.requests, self.per.into(), self.burst)
    }
}

/// In whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Writes a number in decimal digits.
fn number(to: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        // A remainder of ten is a digit.
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[from..]);
}

impl RateLimit {
    /// The hash of a request's key; `None` if a part is missing and that matters.
    fn key(&self, facts: &Facts<'_>) -> Option<u64> {
        let mut hasher = self.base.hasher.build_hasher();
        for attribute in &self.key {
            let there = attribute.with_text(facts, |text| {
                // The length keeps two parts from being read as two others.
                hasher.write_u64(text.map_or(u64::MAX, |text| text.len() as u64));
                hasher.write(text.unwrap_or_default().as_bytes());
                text.is_some()
            });
            if !there && self.missing != Missing::Share {
                return None;
            }
        }
        Some(hasher.finish().max(1))
    }

    /// Takes the request from each limit's bucket, or from none. What is left is of the limits up to the
    /// one that refused it.
    fn take(&self, key: u64) -> (Standings, Result<(), Refused>) {
        let now = u64::try_from(self.base.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // A state of 0 is one of long ago.
        let now = now.saturating_add(u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX) * 3);
        let mut left = Standings::default();
        for (place, rule) in self.rules.iter().enumerate() {
            match rule.table.take(key, self.cost, now) {
                Ok(Ok(standing)) => left.push(standing),
                Err(Full) if self.on_full == OnFull::Allow => left.push(Standing {
                    remaining: rule.table.limit().quota().saturating_sub(self.cost),
                    reset: Duration::ZERO,
                }),
                refused => {
                    let before = self.rules.iter().take(place);
                    before.for_each(|rule| rule.table.give_back(key, self.cost, now));
                    let (over, retry) = match refused {
                        Ok(Err(over)) => (Some(over.standing), over.retry),
                        _ => (None, None),
                    };
                    over.into_iter().for_each(|standing| left.push(standing));
                    return (left, Err(Refused { retry }));
                }
            }
        }
        (left, Ok(()))
    }

    fn note(&self, left: Standings, ctx: &mut RequestCtx) {
        if self.fields == Fields::None {
            return;
        }
        let own = (std::ptr::from_ref(self).addr(), left);
        match ctx.get_mut::<Left>() {
            Some(left) => left.more.push(own),
            None => ctx.insert(Left { first: own, more: Vec::new() }),
        }
    }

    fn write(&self, left: &[Standing], response: &mut ResponseHeader) -> Result<(), HookError> {
        if matches!(self.fields, Fields::Ietf | Fields::Both) {
            let mut list = BytesMut::with_capacity(64);
            for (rule, standing) in self.rules.iter().zip(left) {
                list.extend_from_slice(rule.item.as_bytes());
                number(&mut list, standing.remaining);
                list.extend_from_slice(b";t=");
                number(&mut list, seconds(standing.reset));
            }
            response.append_header(RATE_LIMIT_POLICY, self.policy.clone())?;
            response.append_header(RATE_LIMIT, HeaderValue::from_maybe_shared(list.freeze())?)?;
        }
        if matches!(self.fields, Fields::Legacy | Fields::Both) {
            let least = self.rules.iter().zip(left).min_by_key(|(_, standing)| standing.remaining);
            let Some((rule, standing)) = least else { return Ok(()) };
            response.insert_header("X-RateLimit-Limit", rule.table.limit().quota())?;
            response.insert_header("X-RateLimit-Remaining", standing.remaining)?;
            response.insert_header("X-RateLimit-Reset", seconds(standing.reset))?;
        }
        Ok(())
    }
}

/// A request that is too much.
struct Refused {
    /// How soon it may come again, if it ever may.
    retry: Option<Duration>,
}

#[async_trait]
impl RequestHook for RateLimit {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        let Some(key) = self.key(&Facts { request: head, response: None, ctx }) else {
            if self.missing == Missing::Skip {
                return Ok(Flow::Continue);
            }
            let detail = "the request lacks what its rate is counted by";
            let reply = Reply::problem(StatusCode::BAD_REQUEST, detail);
            return Ok(Flow::Respond(reply.because(FailureCode::P8)));
        };
        let (left, taken) = self.take(key);
        let (decision, retry) = match taken {
            Ok(()) => (LimiterDecision::Allowed, None),
            Err(Refused { retry }) if self.dry_run => (LimiterDecision::WouldLimit, retry),
            Err(Refused { retry }) => (LimiterDecision::Limited, retry),
        };
        self.metrics.decided(decision);
        self.note(left, ctx);
        if decision != LimiterDecision::Limited {
            return Ok(Flow::Continue);
        }
        let mut reply = Reply::refusal(StatusCode::TOO_MANY_REQUESTS, FailureCode::P6);
        if let Some(retry) = retry {
            reply.set(header::RETRY_AFTER, seconds(retry).max(1).into());
        }
        Ok(Flow::Respond(reply))
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
        let own = std::ptr::from_ref(self).addr();
        let Some(Left { first, more }) = ctx.get::<Left>() else { return Ok(()) };
        match std::iter::once(first).chain(more).find(|(plugin, _)| *plugin == own) {
            Some((_, left)) => self.write(left.all(), response),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
