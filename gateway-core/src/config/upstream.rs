//! `upstreams`: named groups of endpoints a route sends to.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::EndpointAddress;
use super::check::Findings;
use super::path::ConfigPath;
use super::units::Span;

/// A named group of endpoints.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// The name routes, logs and metrics call it by.
    #[schemars(extend("format" = "gateway-name"))]
    pub name: String,
    /// Where requests are sent; at least one, and at least one with a weight.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<EndpointConfig>,
    /// How the endpoint of each attempt is chosen.
    #[serde(default)]
    pub balance: BalanceConfig,
    /// How long an endpoint may take.
    #[serde(default)]
    pub timeouts: UpstreamTimeouts,
    /// How the names of fields are spelled on HTTP/1, where a client may use capitals.
    #[serde(default)]
    pub header_case: HeaderCase,
}

/// How the endpoint of an attempt is chosen. Each keeps to the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalanceConfig {
    /// One after the other, spread as evenly as can be. The default.
    #[default]
    RoundRobin,
    /// By chance. Gateways that know nothing of each other do not fall into step.
    Random,
    /// Of two chosen by chance, the one with fewer requests in flight for its weight: for endpoints
    /// or requests that are not all alike.
    LeastRequests,
}

/// How the names of a request's fields are spelled on their way up. To HTTP all are the same (RFC
/// 9110, section 5.1); some old programs know only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeaderCase {
    /// In lower case, as on HTTP/2, but for a few common names such as `Host`. The default, and
    /// cheaper.
    #[default]
    Lower,
    /// As the client spelled them.
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
    /// Words about it, such as `zone: a`. They are shown at the admin address.
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
        /// Words about it, such as `zone: a`. They are shown at the admin address.
        #[serde(default)]
        labels: BTreeMap<String, String>,
    },
}

fn one() -> u32 {
    1
}

impl From<EndpointWritten> for EndpointConfig {
    fn from(written: EndpointWritten) -> Self {
        match written {
            EndpointWritten::Address(address) => {
                Self { address: address.into(), weight: one(), labels: BTreeMap::new() }
            }
            EndpointWritten::Full { address, weight, labels } => {
                Self { address: address.into(), weight, labels }
            }
        }
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
    /// From the first attempt to the response's end. Default: no limit of its own.
    pub total: Option<Span>,
    /// How long an unused connection is kept for the next request. Default `50s`; 0 keeps none.
    pub keepalive: Span,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Span::seconds(1),
            first_byte: Span::seconds(30),
            idle: Span::seconds(60),
            total: None,
            keepalive: Span::seconds(50),
        }
    }
}

impl UpstreamConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let endpoints = at.clone().key("endpoints");
        if self.endpoints.iter().all(|endpoint| endpoint.weight == 0) {
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
        let timeouts = at.clone().key("timeouts");
        findings.refuse_zero(&timeouts, "connect", self.timeouts.connect);
        findings.refuse_zero(&timeouts, "first_byte", self.timeouts.first_byte);
        findings.refuse_zero(&timeouts, "idle", self.timeouts.idle);
        if let Some(total) = self.timeouts.total {
            findings.refuse_zero(&timeouts, "total", total);
        }
    }
}
