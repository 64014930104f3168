//! What operators write of `rate-limit`, and how it is compiled.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::config::{FilePath, SecretConfig, Span};
use gateway_core::plugin::{Attribute, BuildEnv, BuildError, OptionPath};
use gateway_core::telemetry::lower_hex;
use http::{HeaderName, HeaderValue};
use redis::{Client, IntoConnectionInfo, TlsCertificates};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::base::Base;
use super::cost::Cost;
use super::fields::seconds;
use super::lease::Leases;
use super::limit::{Limit, Way};
use super::plan::{Plan, Rule};
use super::store::{Line, Store};
use super::table::Table;
use super::{Override, RateLimit};

pub(super) const LONGEST: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What tells requests apart: attributes, all of which together are the key. Empty: all requests share
    /// one. Default `client.network`: of IPv6 whoever has one address has as many as they like.
    #[serde(default = "client")]
    key: Vec<String>,
    /// What becomes of a request that lacks a part of the key.
    #[serde(default)]
    missing: Missing,
    /// The limits, all of which hold.
    #[schemars(length(min = 1, max = 8))]
    limits: Vec<LimitConfig>,
    /// Other limits for some consumers, in place of `limits`. The first one that is for a request's consumer
    /// holds.
    #[serde(default)]
    #[schemars(length(max = 100))]
    overrides: Vec<OverrideConfig>,
    /// How many requests' worth each request is: a number, or where that is said. Default 1.
    #[serde(default)]
    cost: CostConfig,
    /// Where several gateways count together. Default: each counts for itself.
    #[serde(default)]
    store: Option<StoreConfig>,
    /// What becomes of a request when the store does not answer.
    #[serde(default)]
    on_store_error: OnStoreError,
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

/// Limits for some consumers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OverrideConfig {
    /// For these consumers.
    #[serde(default)]
    consumers: Vec<String>,
    /// And for those of these groups.
    #[serde(default)]
    groups: Vec<String>,
    /// Their limits, all of which hold. None: they have none.
    #[schemars(length(max = 8))]
    limits: Vec<LimitConfig>,
}

/// How many requests' worth a request is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum CostConfig {
    /// Each as many.
    Fixed(#[schemars(range(min = 1, max = 1_000_000))] u64),
    /// As many as is said somewhere.
    Said(CostSaid),
}

/// Where it is said what a request costs: exactly one of `attribute` and `response_header`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CostSaid {
    /// A fact about the request that is a whole number.
    #[serde(default)]
    attribute: Option<String>,
    /// A field of the answer that is a whole number: what a request has cost is taken when that is known, and may be
    /// more than was left.
    #[serde(default)]
    response_header: Option<String>,
    /// What a request costs of which nothing is said, or no number; with `response_header` what is taken until it is.
    /// Default 1.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    otherwise: u64,
    /// What it costs at least, whatever is said. Default 1 for an attribute, which may be the client's word, and 0 for a
    /// field of the answer.
    #[serde(default)]
    #[schemars(range(max = 1_000_000))]
    least: Option<u64>,
    /// What it costs at most, whatever is said. Default 1000.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 1_000_000))]
    most: u64,
}

/// A Redis or Valkey that several gateways count in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StoreConfig {
    /// Where it is: `redis://host:6379/0`, or `rediss://` for TLS. The database is optional.
    redis: String,
    /// Who the gateway is there. Default: `default`, if there is a password.
    #[serde(default)]
    username: Option<String>,
    /// Its password. Default: none.
    #[serde(default)]
    password: Option<SecretConfig>,
    /// A PEM file of the certificates that are trusted to sign the server's. Default: those that the system trusts.
    #[serde(default)]
    ca: Option<FilePath>,
    /// What the names of all keys begin with. Gateways share what they count if it, the plugin's name and its place in
    /// the config, its key and the limits are the same. Default `gateway`.
    #[serde(default = "gateway")]
    #[schemars(length(min = 1, max = 64))]
    prefix: String,
    /// How long a request waits for it. Default `20ms`.
    #[serde(default = "twenty_ms")]
    timeout: Span,
    /// Whether a gateway takes several requests at once for keys that are asked for often. Default: none.
    #[serde(default)]
    lease: Option<LeaseConfig>,
}

/// How a gateway takes several requests of a key at once, to let them in without asking the store, and does not ask it
/// again for what it refused before that may pass. Never do more pass than without; fewer do while other gateways
/// hold what this one lacks: of what is left a lease is at most a quarter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LeaseConfig {
    /// How many requests at most, for a key that needs as many in the time.
    #[schemars(range(min = 2, max = 1000))]
    requests: u64,
    /// For how long; what is not needed until then is given back with the key's next request. `10ms` to `1m`, default
    /// `1s`.
    #[serde(default = "second", rename = "for")]
    time: Span,
}

/// What becomes of a request when the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnStoreError {
    /// The gateway counts for itself meanwhile, as if it were the only one.
    #[default]
    Local,
    /// It passes.
    Allow,
    /// It is answered 503.
    Refuse,
}

impl Default for CostConfig {
    fn default() -> Self {
        Self::Fixed(1)
    }
}

fn one() -> u64 {
    1
}

fn thousand() -> u64 {
    1000
}

fn gateway() -> String {
    "gateway".to_owned()
}

fn second() -> Span {
    Span(Duration::from_secs(1))
}

fn twenty_ms() -> Span {
    Span(Duration::from_millis(20))
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
pub(super) enum Missing {
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
pub(super) enum OnFull {
    /// It is not counted.
    #[default]
    Allow,
    /// It is answered 429.
    Refuse,
}

/// The fields in which answers tell what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fields {
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
    vec!["client.network".to_owned()]
}

fn hundred_thousand() -> usize {
    100_000
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

impl LeaseConfig {
    fn check(&self, at: &OptionPath, cost: &CostConfig, error: &mut BuildError) {
        let time = Duration::from(self.time);
        if time < Duration::from_millis(10) || time > Duration::from_secs(60) {
            error.push(at.clone().key("for"), "from 10ms to 1m");
        }
        if !matches!(cost, CostConfig::Fixed(_)) {
            error.push(at.clone(), "only where all requests cost the same: `cost` is no number");
        }
    }
}

impl Config {
    pub(super) fn compile(self, env: &BuildEnv<'_>) -> Result<RateLimit, BuildError> {
        let mut error = BuildError::none();
        let root = OptionPath::root;
        let key = self.key(env, &mut error);
        let cost = self.cost(env, &mut error);
        let plan = self.plan("", &self.limits, &root().key("limits"), env, &mut error);
        let mut overrides = Vec::with_capacity(self.overrides.len());
        for (index, config) in self.overrides.iter().enumerate() {
            let at = root().key("overrides").index(index);
            let known = env.consumers();
            if config.consumers.is_empty() && config.groups.is_empty() {
                error.push(at.clone(), "for whom? Write `consumers` or `groups`");
            }
            for (place, name) in config.consumers.iter().enumerate() {
                if !known.has(name) {
                    let at = at.clone().key("consumers").index(place);
                    error.push(at, format!("there is no consumer `{name}`"));
                }
            }
            for (place, name) in config.groups.iter().enumerate() {
                if !known.has_group(name) {
                    let at = at.clone().key("groups").index(place);
                    error.push(at, format!("no consumer is in a group `{name}`"));
                }
            }
            let scope = format!("{index}/");
            let plan = self.plan(&scope, &config.limits, &at.key("limits"), env, &mut error);
            let texts = |list: &[String]| list.iter().map(|one| one.as_str().into()).collect();
            overrides.push(Override {
                consumers: texts(&config.consumers),
                groups: texts(&config.groups),
                plan: (!config.limits.is_empty()).then_some(plan),
            });
        }
        let store = self.store.as_ref().and_then(|config| {
            if let Some(lease) = &config.lease {
                let at = root().key("store").key("lease");
                lease.check(&at, &self.cost, &mut error);
            }
            config.compile(env, &mut error)
        });
        error.or(|| RateLimit {
            key,
            missing: self.missing,
            plan,
            overrides: overrides.into(),
            cost,
            on_full: self.on_full,
            // What would not be refused is not told that it would.
            fields: if self.dry_run { Fields::None } else { self.fields },
            dry_run: self.dry_run,
            store,
            on_store_error: self.on_store_error,
            metrics: env.metrics(),
            base: env.carried_state("base", "", Base::new),
        })
    }

    fn key(&self, env: &BuildEnv<'_>, error: &mut BuildError) -> Box<[Attribute]> {
        let mut key = Vec::with_capacity(self.key.len());
        for (index, name) in self.key.iter().enumerate() {
            let path = OptionPath::root().key("key").index(index);
            match env.attribute(name) {
                Ok(attribute) if attribute.needs_response() => {
                    error.push(path, format!("`{name}` is not known before there is an answer"));
                }
                Ok(attribute) => key.push(attribute),
                Err(fault) => error.push(path, fault.to_string()),
            }
        }
        key.into()
    }

    fn cost(&self, env: &BuildEnv<'_>, error: &mut BuildError) -> Cost {
        let at = OptionPath::root().key("cost");
        let said = match &self.cost {
            CostConfig::Fixed(cost) => {
                if !(1..=1_000_000).contains(cost) {
                    error.push(at, "from 1 to 1000000");
                }
                return Cost::Fixed(*cost);
            }
            CostConfig::Said(said) => said,
        };
        if said.otherwise > said.most {
            error.push(at.clone().key("otherwise"), "more than `most`");
        }
        let (otherwise, most) = (said.otherwise, said.most);
        let least = said.least.unwrap_or(u64::from(said.attribute.is_some()));
        if least > most {
            error.push(at, "`least` is more than `most`");
            return Cost::Fixed(1);
        }
        match (&said.attribute, &said.response_header) {
            (Some(name), None) => match env.attribute(name) {
                Ok(attribute) if attribute.needs_response() => {
                    let message = "not known before there is an answer; write `response_header`";
                    error.push(at.key("attribute"), message);
                }
                Ok(attribute) => return Cost::Attribute { attribute, otherwise, least, most },
                Err(fault) => error.push(at.key("attribute"), fault.to_string()),
            },
            (None, Some(name)) => match name.parse::<HeaderName>() {
                Ok(field) => return Cost::Response { field, at_first: otherwise, least, most },
                Err(_) => error.push(at.key("response_header"), "no name of a field"),
            },
            _ => error.push(at, "exactly one of `attribute` and `response_header`"),
        }
        Cost::Fixed(1)
    }

    /// The most that is taken before a request passes, whatever is said.
    fn certain_cost(&self) -> u64 {
        match &self.cost {
            CostConfig::Fixed(cost) => *cost,
            CostConfig::Said(said) => said.otherwise,
        }
    }

    fn plan(
        &self,
        scope: &str,
        limits: &[LimitConfig],
        path: &OptionPath,
        env: &BuildEnv<'_>,
        error: &mut BuildError,
    ) -> Plan {
        let mut rules = Vec::with_capacity(limits.len());
        let mut policy = String::new();
        for (index, limit) in limits.iter().enumerate() {
            let at = path.clone().index(index);
            limit.check(&at, self.certain_cost(), error);
            let name = limit.name.clone().unwrap_or_else(|| (index + 1).to_string());
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
                error.push(at.clone().key("name"), "letters, digits, `-`, `_` and `.` alone");
            }
            if rules.iter().any(|rule: &Rule| rule.shown == name) {
                error.push(at.key("name"), format!("another limit is called `{name}`"));
            }
            let built = limit.build();
            // What is counted goes on as long as it means the same.
            let digest = format!("{built:?} {} {:?}", self.keys, self.key);
            let keys = self.keys;
            let full = format!("{scope}{name}");
            let table =
                env.carried_state(&format!("limit/{full}"), &digest, || Table::new(built, keys));
            // In a store what does not mean the same has another name.
            let shared = Sha256::digest(format!("{} {built:?} {:?}", env.scope(), self.key));
            let shared = format!("{full}:{}", &lower_hex(&shared)[..8]);
            let separator = if policy.is_empty() { "" } else { ", " };
            let _ = write!(
                policy,
                "{separator}\"{name}\";q={};w={}",
                built.quota(),
                seconds(built.window())
            );
            let item = format!("{separator}\"{name}\";r=").into();
            rules.push(Rule { name: shared.into(), shown: name, item, table });
        }
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(""));
        let leases = self.leases(scope, limits, env);
        Plan { rules: rules.into(), policy, leases }
    }

    /// Where what is leased of the keys under these limits is held.
    fn leases(
        &self,
        scope: &str,
        limits: &[LimitConfig],
        env: &BuildEnv<'_>,
    ) -> Option<Arc<Leases>> {
        let config = self.store.as_ref()?.lease.as_ref()?;
        let (most, time, cost) = (config.requests, config.time.into(), self.certain_cost());
        let (keys, count) = (self.keys, limits.len());
        let digest = format!("{limits:?} {cost} {keys} {:?} {:?}", self.key, self.store);
        let new = || Leases::new(keys, count, cost, most, time);
        Some(env.state(&format!("leases/{scope}"), &digest, new))
    }
}

impl StoreConfig {
    fn compile(&self, env: &BuildEnv<'_>, error: &mut BuildError) -> Option<Store> {
        let at = OptionPath::root().key("store");
        let timeout = Duration::from(self.timeout);
        if timeout < Duration::from_millis(1) || timeout > Duration::from_secs(10) {
            error.push(at.clone().key("timeout"), "from 1ms to 10s");
        }
        let fit = |byte: u8| byte.is_ascii_graphic() && !b"{}".contains(&byte);
        if !self.prefix.bytes().all(fit) {
            error.push(at.clone().key("prefix"), "letters, digits and signs, without braces");
        }
        let info = match self.redis.as_str().into_connection_info() {
            Ok(info) => info,
            Err(fault) => {
                error.push(at.key("redis"), format!("no URL of a server: {fault}"));
                return None;
            }
        };
        if info.redis_settings().password().is_some() {
            error.push(at.clone().key("redis"), "a password does not stand here; write `password`");
        }
        let mut settings = info.redis_settings().clone();
        if let Some(name) = &self.username {
            settings = settings.set_username(name);
        }
        // Whoever connected before goes on with the password that it had.
        let mut password = String::new();
        if let Some(secret) = &self.password {
            match env.secret(secret) {
                Ok(secret) => {
                    settings = settings.set_password(secret.expose());
                    password = lower_hex(&Sha256::digest(secret.expose()));
                }
                Err(fault) => error.push(at.clone().key("password"), fault),
            }
        }
        let info = info.set_redis_settings(settings);
        let name = info.addr().to_string();
        let mut digest = format!("{info:?} {password}");
        let client = match &self.ca {
            None => Client::open(info),
            Some(file) => match std::fs::read(file) {
                Ok(pem) => {
                    let _ = write!(digest, " {pem:?}");
                    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
                    Client::build_with_tls(info, certificates)
                }
                Err(fault) => {
                    error.push(at.key("ca"), format!("cannot be read: {fault}"));
                    return None;
                }
            },
        };
        let client = match client {
            Ok(client) => client,
            Err(fault) => {
                error.push(at.key("redis"), fault.to_string());
                return None;
            }
        };
        let line = env.state("store", &digest, Line::default);
        env.background(line.clone().follow(client, name));
        let prefix = format!("{}:{}:", self.prefix, env.name);
        Some(Store::new(line, &prefix, timeout, env.metrics()))
    }
}
