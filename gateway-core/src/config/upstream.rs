//! `upstreams`: named groups of endpoints a route sends to.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::EndpointAddress;
use super::check::Findings;
use super::discover::DiscoverConfig;
use super::health::HealthConfig;
use super::path::ConfigPath;
use super::retry::RetryConfig;
use super::transport::{ProxyProtocol, UpstreamProtocol, UpstreamTls};
use super::units::{Percent, Span};

/// A named group of endpoints.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// The name routes, logs and metrics call it by.
    #[schemars(extend("format" = "gateway-name"))]
    pub name: String,
    /// Where requests are sent. At least one with a weight, unless there is `discover`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub endpoints: Vec<EndpointConfig>,
    /// Where more endpoints are found. Default: nowhere.
    #[serde(default)]
    pub discover: Option<DiscoverConfig>,
    /// The version of HTTP that endpoints are spoken to in.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// How many requests may share a connection of HTTP/2, as far as the endpoint allows them.
    /// Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 10000))]
    pub streams_per_connection: u32,
    /// TLS to the endpoints. Default: none.
    #[serde(default)]
    pub tls: Option<UpstreamTls>,
    /// Tells endpoints whose connection it is, before anything else (the PROXY protocol). The
    /// requests of different clients' connections then share none. Default: nothing is told.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How the endpoint of each attempt is chosen.
    #[serde(default)]
    pub balance: BalanceConfig,
    /// Keeps a client at the endpoint that it was sent to first, for as long as it can be chosen.
    #[serde(default)]
    pub sticky: Option<StickyConfig>,
    /// Labels to look for, such as `zone: a`: endpoints that have all of them come before the others
    /// of their priority.
    #[serde(default)]
    pub prefer: BTreeMap<String, String>,
    /// Of endpoints of one priority, how much of their weight has to be usable for them to get all
    /// requests. Below, those of the next priority get a part. Default `70%`.
    #[serde(default = "spill_below")]
    pub spill_below: Percent,
    /// Which endpoints can be chosen.
    #[serde(default)]
    pub health: HealthConfig,
    /// Tries a request again, on another endpoint if there is one. Default: only one that a pooled
    /// connection lost before the endpoint saw it, if its method is idempotent.
    #[serde(default)]
    pub retry: Option<RetryConfig>,
    /// How many requests may be in flight. Default: as many as there are.
    #[serde(default)]
    pub limits: UpstreamLimits,
    /// How long an endpoint may take.
    #[serde(default)]
    pub timeouts: UpstreamTimeouts,
    /// How the names of fields are spelled on HTTP/1, where a client may use capitals.
    #[serde(default)]
    pub header_case: HeaderCase,
}

/// How the endpoint of an attempt is chosen. Each keeps to the weights.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(from = "BalanceWritten", into = "BalanceWritten")]
#[schemars(with = "BalanceWritten")]
pub enum BalanceConfig {
    /// One after the other, spread as evenly as can be. The default.
    #[default]
    RoundRobin,
    /// By chance. Gateways that know nothing of each other do not fall into step.
    Random,
    /// Of two chosen by chance, the one with fewer requests in flight for its weight.
    LeastRequests,
    /// Of two chosen by chance, the one that is expected to answer sooner.
    Ewma,
    /// By a fact about the request: the same value goes to the same endpoint.
    Hash {
        /// The attribute that is hashed.
        hash: String,
        /// How many times its fair share of requests in flight an endpoint may have.
        max_load: f64,
    },
}

impl BalanceConfig {
    /// Whether a choice depends on how many requests endpoints have in flight.
    pub(crate) fn counts_in_flight(&self) -> bool {
        !matches!(self, Self::RoundRobin | Self::Random)
    }
}

/// The forms a balancing is written in.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
#[schemars(rename = "BalanceConfig")]
enum BalanceWritten {
    /// A way that looks at endpoints alone.
    Way(BalanceWay),
    /// Consistent hashing: one value of an attribute, one endpoint, for as long as it is there.
    Hash {
        /// The attribute whose value is hashed, such as `request.cookie.sid` or `client.ip`. A
        /// request without it goes to the less busy of two endpoints.
        hash: String,
        /// How many requests an endpoint may have in flight, as a multiple of what is fair for its
        /// weight, 1 to 10. Default 1.25; what is beyond goes to the next endpoint.
        #[serde(default = "max_load")]
        #[schemars(range(min = 1, max = 10))]
        max_load: f64,
    },
}

/// A way of choosing that looks at endpoints alone.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum BalanceWay {
    /// One after the other, spread as evenly as can be. The default.
    RoundRobin,
    /// By chance. Gateways that know nothing of each other do not fall into step.
    Random,
    /// Of two chosen by chance, the one with fewer requests in flight for its weight: for endpoints
    /// or requests that are not all alike.
    LeastRequests,
    /// Of two chosen by chance, the one where requests in flight times the time of its answers,
    /// recent peaks first, is less for its weight: for endpoints that may become slow.
    Ewma,
}

fn max_load() -> f64 {
    1.25
}

impl From<BalanceWritten> for BalanceConfig {
    fn from(written: BalanceWritten) -> Self {
        match written {
            BalanceWritten::Way(BalanceWay::RoundRobin) => Self::RoundRobin,
            BalanceWritten::Way(BalanceWay::Random) => Self::Random,
            BalanceWritten::Way(BalanceWay::LeastRequests) => Self::LeastRequests,
            BalanceWritten::Way(BalanceWay::Ewma) => Self::Ewma,
            BalanceWritten::Hash { hash, max_load } => Self::Hash { hash, max_load },
        }
    }
}

impl From<BalanceConfig> for BalanceWritten {
    fn from(config: BalanceConfig) -> Self {
        match config {
            BalanceConfig::RoundRobin => Self::Way(BalanceWay::RoundRobin),
            BalanceConfig::Random => Self::Way(BalanceWay::Random),
            BalanceConfig::LeastRequests => Self::Way(BalanceWay::LeastRequests),
            BalanceConfig::Ewma => Self::Way(BalanceWay::Ewma),
            BalanceConfig::Hash { hash, max_load } => Self::Hash { hash, max_load },
        }
    }
}

/// How clients are kept at the endpoint they were sent to first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StickyConfig {
    /// The cookie that tells the endpoint. Its value is a fingerprint of the upstream's name and the
    /// endpoint's address: the same at every gateway, and after a restart.
    #[schemars(length(min = 1))]
    pub cookie: String,
    /// How long a client keeps the cookie. Default: until its session ends.
    #[serde(default)]
    pub ttl: Option<Span>,
    /// The paths the cookie is for. Default `/`.
    #[serde(default = "everywhere")]
    pub path: String,
}

fn everywhere() -> String {
    "/".to_owned()
}

/// How the names of fields are spelled: a request's on their way up, a response's on their way down. To HTTP
/// all are the same (RFC 9110, section 5.1); some old programs know only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeaderCase {
    /// In lower case, as on HTTP/2, but for a few common names such as `Host`. The default, and
    /// cheaper.
    #[default]
    Lower,
    /// As the client spelled them, and the endpoint.
    Preserve,
}

/// One address inside an upstream: `10.0.0.1:8080`, or a mapping that says more.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(from = "EndpointWritten")]
#[schemars(with = "EndpointWritten")]
pub struct EndpointConfig {
    /// IP address and port.
    pub address: SocketAddr,
    /// Its share beside the others, 0 to 65535. Default 1; 0 is never chosen.
    pub weight: u32,
    /// Which group it is in, 0 to 255: those of a lower number get requests first. Default 0.
    pub priority: u32,
    /// Words about it, such as `zone: a`, for `prefer`. They are shown at the admin address.
    pub labels: BTreeMap<String, String>,
}

/// The forms an endpoint is written in.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
#[schemars(rename = "EndpointConfig")]
enum EndpointWritten {
    /// IP address and port, such as `10.0.0.1:8080`.
    Address(EndpointAddress),
    /// An address and more.
    Full {
        /// IP address and port, such as `10.0.0.1:8080`.
        address: EndpointAddress,
        /// Its share beside the others, 0 to 65535. Default 1; 0 is never chosen.
        #[serde(default = "one")]
        #[schemars(range(max = 65535))]
        weight: u32,
        /// Which group it is in, 0 to 255: those of a lower number get requests first. Default 0.
        #[serde(default)]
        #[schemars(range(max = 255))]
        priority: u32,
        /// Words about it, such as `zone: a`, for `prefer`. They are shown at the admin address.
        #[serde(default)]
        labels: BTreeMap<String, String>,
    },
}

fn spill_below() -> Percent {
    Percent(70.0)
}

fn one() -> u32 {
    1
}

fn hundred() -> u32 {
    100
}

impl From<EndpointWritten> for EndpointConfig {
    fn from(written: EndpointWritten) -> Self {
        match written {
            EndpointWritten::Address(address) => Self {
                address: address.into(),
                weight: one(),
                priority: 0,
                labels: BTreeMap::new(),
            },
            EndpointWritten::Full { address, weight, priority, labels } => {
                Self { address: address.into(), weight, priority, labels }
            }
        }
    }
}

/// How many requests may be in flight at an upstream. What is more waits or is refused with 503 and
/// `U8`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamLimits {
    /// At all endpoints together. Default: no limit.
    #[schemars(range(min = 1))]
    pub in_flight: Option<u32>,
    /// Moves the limit at all endpoints together by how long answers take: `in_flight` is the most then,
    /// 1000 if it is not set. Default: it stays where it is.
    pub adaptive: Option<AdaptiveConfig>,
    /// At each endpoint. One that has so many is not chosen; if all have, a request waits in the `queue`,
    /// or is refused. Default: no limit.
    #[schemars(range(min = 1))]
    pub endpoint_in_flight: Option<u32>,
    /// How many requests may wait, in their order, where the limit is reached. Default 0: none.
    pub queue: u32,
    /// How long a request may wait. Default `1s`.
    pub queue_timeout: Span,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            in_flight: None,
            adaptive: None,
            endpoint_in_flight: None,
            queue: 0,
            queue_timeout: Span::seconds(1),
        }
    }
}

/// A limit that finds out how much endpoints can do at a time.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptiveConfig {
    /// It never goes below. Default 5.
    #[schemars(range(min = 1))]
    pub minimum: u32,
    /// How many times as long as in the long run answers may take before the limit shrinks, 1 to 10.
    /// Default 1.5.
    #[schemars(range(min = 1, max = 10))]
    pub tolerance: f64,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self { minimum: 5, tolerance: 1.5 }
    }
}

impl UpstreamLimits {
    /// The most requests that may be in flight, if there is a limit at all.
    pub fn most(&self) -> Option<u32> {
        const ADAPTIVE: u32 = 1000;
        self.in_flight.or(self.adaptive.as_ref().map(|_| ADAPTIVE))
    }
}

/// How long an endpoint may take.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTimeouts {
    /// Until a connection stands. Default `1s`.
    pub connect: Span,
    /// From the request's end to the response's first byte. Default `30s`.
    pub first_byte: Span,
    /// Between two pieces of the response, or of the request on its way. Default `60s`.
    pub idle: Span,
    /// From the request's head to the response's end, all attempts and waits included. Default: no
    /// limit of its own.
    pub total: Option<Span>,
    /// How long an unused connection is kept for the next request; less where an endpoint says in
    /// `Keep-Alive` that it closes sooner. Default `50s`; 0 keeps none.
    pub keepalive: Span,
    /// Without a byte either way, on a WebSocket connection. Default `5m`.
    pub tunnel: Span,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Span::seconds(1),
            first_byte: Span::seconds(30),
            idle: Span::seconds(60),
            total: None,
            keepalive: Span::seconds(50),
            tunnel: Span::seconds(300),
        }
    }
}

impl UpstreamConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let endpoints = at.clone().key("endpoints");
        if let Some(discover) = &self.discover {
            let named = self.tls.as_ref().is_none_or(|tls| tls.is_named());
            discover.check(!named, &at.clone().key("discover"), findings);
        } else if self.endpoints.is_empty() {
            let message =
                "there is no endpoint; write at least one under `endpoints`, or `discover` them";
            findings.add(at, message);
        } else if self.endpoints.iter().all(|endpoint| endpoint.weight == 0) {
            findings.add(&endpoints, "every endpoint has weight 0, so none can be chosen");
        }
        let mut first = HashMap::with_capacity(self.endpoints.len());
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if let Some(earlier) = first.insert(endpoint.address, index) {
                let place = findings.place(&endpoints.clone().index(earlier));
                findings.add(
                    &endpoints.clone().index(index),
                    format!(
                        "endpoint `{}` stands at {place} already; for a larger share use `weight`",
                        endpoint.address
                    ),
                );
            }
        }
        if self.spill_below.0 <= 0.0 || self.spill_below.0 > 100.0 {
            findings.add(&at.clone().key("spill_below"), "more than 0% and at most 100%");
        }
        if let Some(tls) = &self.tls {
            tls.check(&at.clone().key("tls"), findings);
        } else if self.protocol == UpstreamProtocol::Auto {
            let message =
                "the version is agreed on in the handshake of TLS; set `tls`, or write `http2`";
            findings.add(&at.clone().key("protocol"), message);
        }
        if self.header_case == HeaderCase::Preserve && self.protocol != UpstreamProtocol::Http1 {
            let message = "HTTP/2 knows no capitals; keep them with `protocol: http1`";
            findings.add(&at.clone().key("header_case"), message);
        }
        let hedges = self.retry.as_ref().is_some_and(|retry| retry.hedge.is_some());
        if self.header_case == HeaderCase::Preserve && hedges {
            let message = "the gateway's own connections, which hedging needs, keep no capitals";
            findings.add(&at.clone().key("header_case"), message);
        }
        self.health.check(&at.clone().key("health"), findings);
        let limits = at.clone().key("limits");
        findings.refuse_zero(&limits, "queue_timeout", self.limits.queue_timeout);
        if let Some(adaptive) = &self.limits.adaptive
            && self.limits.most().is_some_and(|most| adaptive.minimum > most)
        {
            let message = "more than the most that may be in flight";
            findings.add(&limits.clone().key("adaptive").key("minimum"), message);
        }
        let limited = self.limits.most().or(self.limits.endpoint_in_flight).is_some();
        if self.limits.queue > 0 && !limited {
            let message = "nobody waits where nothing is limited; set `in_flight` too";
            findings.add_at_key(&limits.key("queue"), message);
        }
        if let Some(retry) = &self.retry {
            retry.check(&at.clone().key("retry"), findings);
        }
        if let Some(sticky) = &self.sticky {
            sticky.check(&at.clone().key("sticky"), findings);
        }
        let wanted = |endpoint: &EndpointConfig| {
            self.prefer.iter().all(|(label, value)| endpoint.labels.get(label) == Some(value))
        };
        let written = self.discover.is_none();
        if written && !self.prefer.is_empty() && !self.endpoints.iter().any(wanted) {
            findings.add(&at.clone().key("prefer"), "no endpoint has these labels");
        }
        let timeouts = at.clone().key("timeouts");
        findings.refuse_zero(&timeouts, "connect", self.timeouts.connect);
        findings.refuse_zero(&timeouts, "first_byte", self.timeouts.first_byte);
        findings.refuse_zero(&timeouts, "idle", self.timeouts.idle);
        if let Some(total) = self.timeouts.total {
            findings.refuse_zero(&timeouts, "total", total);
        }
    }
}

impl StickyConfig {
    fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        // What a cookie's name may hold (RFC 6265, section 4.1.1).
        let token = |byte: u8| byte.is_ascii_graphic() && !br#"()<>@,;:\"/[]?={}"#.contains(&byte);
        if !self.cookie.bytes().all(token) {
            let message = format!("`{}` cannot be the name of a cookie", self.cookie);
            findings.add(&at.clone().key("cookie"), message);
        }
        if !self.path.starts_with('/')
            || self.path.bytes().any(|b| b == b';' || !b.is_ascii_graphic())
        {
            let message = format!("`{}` cannot be the path of a cookie", self.path);
            findings.add(&at.clone().key("path"), message);
        }
        if let Some(ttl) = self.ttl {
            findings.refuse_zero(at, "ttl", ttl);
        }
    }
}
