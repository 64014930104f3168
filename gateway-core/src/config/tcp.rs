//! `listeners[].tcp`: connections that are passed on as they are.

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::Network;
use super::check::Findings;
use super::host::HostPattern;
use super::path::ConfigPath;
use super::scalar;
use super::units::Span;

/// Where connections go that are no HTTP, and who may make them. One of `upstream` and `sni` has to be there.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpConfig {
    /// The upstream of all connections, but of those for a name in `sni`. Default: none, and what is for no name in
    /// `sni` is closed.
    #[serde(default)]
    #[schemars(extend("format" = "gateway-name"))]
    pub upstream: Option<String>,
    /// Upstreams by the name that clients ask for in TLS, such as `db.example.com` or `*.example.com`; the longest that
    /// fits counts. Without `tls` in the listener what is secured passes through as it is, and the endpoint shows its
    /// own certificate.
    #[serde(default)]
    #[schemars(length(max = 10000))]
    pub sni: BTreeMap<String, String>,
    /// Networks of clients that may connect. Default: all that are not denied.
    #[serde(default, deserialize_with = "scalar::list::<Network, _, _>")]
    #[schemars(with = "Vec<Network>")]
    pub allow: Vec<IpNet>,
    /// Networks of clients that may not, also where `allow` names them.
    #[serde(default, deserialize_with = "scalar::list::<Network, _, _>")]
    #[schemars(with = "Vec<Network>")]
    pub deny: Vec<IpNet>,
    /// The protocols that are agreed to in TLS (ALPN), such as `postgresql`, where the listener has `tls`. Default:
    /// none, and what clients offer is not looked at.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 255)))]
    pub alpn: Vec<String>,
    /// How long a connection may last.
    #[serde(default)]
    pub timeouts: TcpTimeouts,
}

/// How long a connection may last. How long connecting to an endpoint may take is the upstream's `timeouts.connect`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpTimeouts {
    /// Without a byte either way. Default `1h`; it cannot be turned off.
    pub idle: Span,
    /// The same once one side has said that nothing more comes from it, or is gone. Default `1m`; it cannot be turned
    /// off, and counts where it is shorter than `idle`.
    pub half_closed: Span,
    /// In all. Default: no limit.
    pub total: Option<Span>,
}

impl Default for TcpTimeouts {
    fn default() -> Self {
        Self { idle: Span::seconds(3600), half_closed: Span::seconds(60), total: None }
    }
}

impl TcpConfig {
    /// The upstreams it names, each with its place under `tcp`.
    pub(crate) fn upstreams<'a>(
        &'a self,
        at: &ConfigPath,
    ) -> impl Iterator<Item = (ConfigPath, &'a str)> {
        let one = self.upstream.iter().map(|name| (at.clone().key("upstream"), name.as_str()));
        let sni = at.clone().key("sni");
        let named = self.sni.iter().map(|(host, name)| (sni.clone().key(host), name.as_str()));
        one.chain(named.collect::<Vec<_>>())
    }

    pub(super) fn check(&self, secured: bool, at: &ConfigPath, findings: &mut Findings<'_>) {
        if self.upstream.is_none() && self.sni.is_empty() {
            findings.add(at, "connections go nowhere; write `upstream`, or `sni`");
        }
        let mut met = HashMap::new();
        for host in self.sni.keys() {
            let fault = match host.parse::<HostPattern>() {
                Err(error) => error.to_string(),
                Ok(pattern) if pattern.is_address() => {
                    "clients ask for no address (RFC 6066, section 3)".to_owned()
                }
                Ok(pattern) => match met.insert(pattern, host) {
                    Some(other) => format!("it is the same name as `{other}`"),
                    None => continue,
                },
            };
            findings.add_at_key(&at.clone().key("sni").key(host), fault);
        }
        if !self.alpn.is_empty() && !secured {
            let message = "nothing is agreed to where what is secured passes through; write `tls` in the listener";
            findings.add(&at.clone().key("alpn"), message);
        }
        for (index, name) in self.alpn.iter().enumerate() {
            if name.is_empty() || name.len() > 255 {
                let at = at.clone().key("alpn").index(index);
                findings.add(&at, "the name of a protocol has 1 to 255 bytes");
            }
        }
        let timeouts = at.clone().key("timeouts");
        findings.refuse_zero(&timeouts, "idle", self.timeouts.idle);
        findings.refuse_zero(&timeouts, "half_closed", self.timeouts.half_closed);
        if let Some(total) = self.timeouts.total {
            findings.refuse_zero(&timeouts, "total", total);
        }
    }
}
