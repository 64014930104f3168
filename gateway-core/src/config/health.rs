//! `health` of an upstream: which endpoints can be chosen, and how that is found out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::path::ConfigPath;
use super::status_range::StatusRange;
use super::units::{Percent, Span};

/// What is known of endpoints' health, and what follows from it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Asks every endpoint from time to time. Default: nobody is asked.
    pub active: Option<ActiveConfig>,
    /// Watches what becomes of requests, and takes an endpoint out for a while where they fail.
    /// Default: nobody is taken out.
    pub passive: Option<PassiveConfig>,
    /// If less than this share of the weight can be chosen, health is not believed and all endpoints
    /// are. Default `0%`: it is always believed, and a request for which there is none is answered
    /// 503 with `U2`.
    pub panic: Percent,
    /// How long an endpoint that came, or came back, takes to get its full share: it begins with a
    /// tenth. Default: it gets all at once.
    pub slow_start: Option<Span>,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { active: None, passive: None, panic: Percent(0.0), slow_start: None }
    }
}

/// What is asked of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// A GET request, for its status and perhaps its body. The default.
    #[default]
    Http,
    /// A connection, nothing more.
    Tcp,
    /// The standard health service of gRPC (`grpc.health.v1`), over HTTP/2.
    Grpc,
}

/// Checks of every endpoint, each on a connection of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ActiveConfig {
    /// What is asked.
    pub kind: CheckKind,
    /// The path and query of an HTTP check. Default `/`.
    #[schemars(length(min = 1))]
    pub path: Option<String>,
    /// The Host of an HTTP check, and the authority of a gRPC one. Default: the endpoint's address.
    #[schemars(length(min = 1))]
    pub host: Option<String>,
    /// The statuses of a healthy endpoint: numbers, or ranges such as `200-399`. Default `200-299`.
    #[schemars(length(min = 1))]
    pub status: Option<Vec<StatusRange>>,
    /// A text that the body of a healthy endpoint's answer holds, within its first 64 KiB.
    #[schemars(length(min = 1))]
    pub body: Option<String>,
    /// The service a gRPC check asks for. Default: the server as a whole.
    #[schemars(length(min = 1))]
    pub service: Option<String>,
    /// The port that is asked, if it is not that of requests.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// From one check to the next, a tenth more or less by chance. Default `5s`.
    pub interval: Span,
    /// How long a check may take in all. Default `1s`.
    pub timeout: Span,
    /// So many good checks in a row make an endpoint healthy again. Default 2.
    #[schemars(range(min = 1))]
    pub healthy_after: u32,
    /// So many bad checks in a row make an endpoint unhealthy. Default 3.
    #[schemars(range(min = 1))]
    pub unhealthy_after: u32,
    /// Whether an endpoint gets requests only after its first good check. Default `false`.
    pub wait: bool,
}

impl Default for ActiveConfig {
    fn default() -> Self {
        Self {
            kind: CheckKind::Http,
            path: None,
            host: None,
            status: None,
            body: None,
            service: None,
            port: None,
            interval: Span::seconds(5),
            timeout: Span::seconds(1),
            healthy_after: 2,
            unhealthy_after: 3,
            wait: false,
        }
    }
}

/// When an endpoint is taken out for what became of requests to it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PassiveConfig {
    /// So many failures in a row. Default 5.
    #[schemars(range(min = 1))]
    pub failures: Option<u32>,
    /// The statuses that count as failures, beside failures to connect and to answer by the letter:
    /// numbers, or ranges such as `500-599`. Default 500, 502, 503 and 504.
    pub status: Vec<StatusRange>,
    /// Such a share of the requests within `window` failed. Default: their share does not matter.
    pub failure_ratio: Option<Percent>,
    /// Answers took, on average over `window`, so many times as long as at the endpoint in the middle;
    /// at least 2. Default: their time does not matter.
    #[schemars(range(min = 2))]
    pub slower_than: Option<f64>,
    /// How far back shares and times are looked at. Default `30s`.
    pub window: Span,
    /// How many requests within `window` a share, or a time, is told from. Default 20.
    #[schemars(range(min = 1))]
    pub minimum: u32,
    /// For how long an endpoint is taken out the first time; twice as long the next. Default `10s`.
    pub eject_for: Span,
    /// For how long it is taken out at most. Default `5m`.
    pub eject_at_most: Span,
    /// The share of the endpoints that may be out at once, rounded down. Default `50%`.
    pub max_ejected: Percent,
}

impl Default for PassiveConfig {
    fn default() -> Self {
        Self {
            failures: Some(5),
            status: [500..=500, 502..=504].map(StatusRange).to_vec(),
            failure_ratio: None,
            slower_than: None,
            window: Span::seconds(30),
            minimum: 20,
            eject_for: Span::seconds(10),
            eject_at_most: Span::seconds(300),
            max_ejected: Percent(50.0),
        }
    }
}

impl HealthConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        if let Some(active) = &self.active {
            active.check(&at.clone().key("active"), findings);
        }
        if let Some(passive) = &self.passive {
            let at = at.clone().key("passive");
            findings.refuse_zero(&at, "window", passive.window);
            findings.refuse_zero(&at, "eject_for", passive.eject_for);
            if passive.eject_at_most.0 < passive.eject_for.0 {
                findings.add(&at.key("eject_at_most"), "less than `eject_for`");
            }
        }
    }
}

impl ActiveConfig {
    fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        findings.refuse_zero(at, "interval", self.interval);
        findings.refuse_zero(at, "timeout", self.timeout);
        let http = self.kind == CheckKind::Http;
        let set = [
            ("path", self.path.is_some(), http),
            ("host", self.host.is_some(), self.kind != CheckKind::Tcp),
            ("status", self.status.is_some(), http),
            ("body", self.body.is_some(), http),
            ("service", self.service.is_some(), self.kind == CheckKind::Grpc),
        ];
        for (key, set, fits) in set {
            if set && !fits {
                let message = format!("a check of this `kind` has no `{key}`");
                findings.add_at_key(&at.clone().key(key), message);
            }
        }
        if let Some(path) = &self.path
            && (!path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err())
        {
            let message = format!("`{path}` is no path; it begins with `/` and is percent-encoded");
            findings.add(&at.clone().key("path"), message);
        }
        if let Some(host) = &self.host
            && host.parse::<http::uri::Authority>().is_err()
        {
            findings.add(&at.clone().key("host"), format!("`{host}` is no host"));
        }
    }
}
