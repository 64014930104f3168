//! `listeners`: addresses the gateway accepts on, their limits and deadlines.

use std::net::SocketAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::{ListenAddress, Network};
use super::check::Findings;
use super::path::ConfigPath;
use super::plugin::{self, PluginConfig};
use super::scalar;
use super::tcp::TcpConfig;
use super::tls::ListenerTls;
use super::units::{Size, Span};

/// An address the gateway accepts on.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// The name routes, logs and metrics call it by.
    #[schemars(extend("format" = "gateway-name"))]
    pub name: String,
    /// IP address and port, such as `0.0.0.0:8080` or `[::]:8080`.
    #[schemars(with = "ListenAddress")]
    pub address: SocketAddr,
    /// TLS for those who connect. Default: none.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// Whether every request is sent to the same place over https, with 308. A number is the port there. Default false.
    #[serde(default)]
    pub redirect_https: RedirectHttps,
    /// The PROXY protocol (versions 1 and 2), with which a load balancer in front says whose connection it is.
    /// Default: none is understood.
    #[serde(default)]
    pub proxy_protocol: Option<ListenerProxyProtocol>,
    /// Passes connections on as they are, instead of speaking HTTP. Of `limits` and `timeouts` those count that are not
    /// about requests: `connections`, `connections_per_client` and `handshake`.
    #[serde(default)]
    pub tcp: Option<TcpConfig>,
    /// What a client may use.
    #[serde(default)]
    pub limits: ListenerLimits,
    /// How long a client may take.
    #[serde(default)]
    pub timeouts: ListenerTimeouts,
    /// Networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Default: none.
    #[serde(default, deserialize_with = "scalar::list::<Network, _, _>")]
    #[schemars(with = "Vec<Network>")]
    pub trusted_proxies: Vec<IpNet>,
    /// Plugins for every route reached through this listener.
    #[serde(default)]
    pub plugins: Vec<PluginConfig>,
}

/// Whether requests are sent to https.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RedirectHttps {
    /// To port 443, or not at all.
    Usual(bool),
    /// To this port.
    Port(#[schemars(range(min = 1, max = 65535))] u16),
}

impl Default for RedirectHttps {
    fn default() -> Self {
        Self::Usual(false)
    }
}

impl RedirectHttps {
    /// The port, if requests are sent there.
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Usual(is) => is.then_some(443),
            Self::Port(port) => Some(port),
        }
    }
}

/// Who says whose connection it is.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerProxyProtocol {
    /// Networks of those who may. Their connections have to begin with the header; all others are served as they
    /// come, and a header from them is a request that cannot be read.
    #[serde(deserialize_with = "scalar::list::<Network, _, _>")]
    #[schemars(with = "Vec<Network>", length(min = 1))]
    pub trusted: Vec<IpNet>,
}

/// What a client may use. A request beyond a limit is refused.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Most connections at a time on this listener. Default 20000.
    #[schemars(range(min = 1))]
    pub connections: usize,
    /// Most connections at a time from one client address. Default 1024; 0 is no limit.
    pub connections_per_client: usize,
    /// Most bytes of a request's head, `1KiB` to below `1MiB`. Default `32KiB`.
    pub header_bytes: Size,
    /// Most header fields of a request, 1 to 255. Default 100.
    #[schemars(range(min = 1, max = 255))]
    pub headers: usize,
    /// Most bytes of a request's body. Default: no limit.
    pub body_bytes: Option<Size>,
    /// Requests after which a connection is closed. Default: no limit.
    #[schemars(range(min = 1))]
    pub requests_per_connection: Option<u32>,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_client: 1024,
            header_bytes: Size(32 << 10),
            headers: 100,
            body_bytes: None,
            requests_per_connection: None,
        }
    }
}

/// How long a client may take. None of them can be turned off.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerTimeouts {
    /// For the TLS handshake, and for the header of the PROXY protocol. Default `5s`.
    pub handshake: Span,
    /// From a request's first byte to the end of its head. Default `10s`.
    pub header: Span,
    /// Between two requests of one connection. Default `75s`.
    pub idle: Span,
    /// Between two pieces of a request's body. Default `30s`.
    pub body_read: Span,
    /// Until the client takes the next piece of a response. Default `30s`.
    pub write: Span,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            handshake: Span::seconds(5),
            header: Span::seconds(10),
            idle: Span::seconds(75),
            body_read: Span::seconds(30),
            write: Span::seconds(30),
        }
    }
}

const HEADER_BYTES: std::ops::Range<u64> = (1 << 10)..(1 << 20);

impl ListenerConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let bytes = self.limits.header_bytes;
        if !HEADER_BYTES.contains(&bytes.0) {
            let at = at.clone().key("limits").key("header_bytes");
            findings.add(&at, format!("expected from `1KiB` to below `1MiB`, got `{bytes}`"));
        }
        let timeouts = at.clone().key("timeouts");
        findings.refuse_zero(&timeouts, "handshake", self.timeouts.handshake);
        findings.refuse_zero(&timeouts, "header", self.timeouts.header);
        findings.refuse_zero(&timeouts, "idle", self.timeouts.idle);
        findings.refuse_zero(&timeouts, "body_read", self.timeouts.body_read);
        findings.refuse_zero(&timeouts, "write", self.timeouts.write);
        if let Some(tls) = &self.tls {
            tls.check(&at.clone().key("tls"), findings);
        }
        if self.tls.is_some() && self.redirect_https.port().is_some() {
            let at = at.clone().key("redirect_https");
            findings.add(&at, "its requests come over https already");
        }
        if self.proxy_protocol.as_ref().is_some_and(|proxy| proxy.trusted.is_empty()) {
            let at = at.clone().key("proxy_protocol").key("trusted");
            findings.add(&at, "nobody could say anything; write a network at least");
        }
        plugin::check_list(&self.plugins, &at.clone().key("plugins"), findings);
        if let Some(tcp) = &self.tcp {
            tcp.check(self.tls.is_some(), &at.clone().key("tcp"), findings);
            self.check_without_requests(at, findings);
        }
    }

    /// What is about requests says nothing where there are none.
    fn check_without_requests(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let (limits, timeouts) = (&self.limits, &self.timeouts);
        let (usual, usually) = (ListenerLimits::default(), ListenerTimeouts::default());
        let tls = self.tls.as_ref();
        for (keys, is) in [
            (&["redirect_https"][..], self.redirect_https.port().is_some()),
            (&["trusted_proxies"], !self.trusted_proxies.is_empty()),
            (&["plugins"], !self.plugins.is_empty()),
            (&["tls", "forward_client_cert"], tls.is_some_and(|tls| tls.forward_client_cert)),
            (&["limits", "header_bytes"], limits.header_bytes != usual.header_bytes),
            (&["limits", "headers"], limits.headers != usual.headers),
            (&["limits", "body_bytes"], limits.body_bytes != usual.body_bytes),
            (
                &["limits", "requests_per_connection"],
                limits.requests_per_connection != usual.requests_per_connection,
            ),
            (&["timeouts", "header"], timeouts.header != usually.header),
            (&["timeouts", "idle"], timeouts.idle != usually.idle),
            (&["timeouts", "body_read"], timeouts.body_read != usually.body_read),
            (&["timeouts", "write"], timeouts.write != usually.write),
        ] {
            if is {
                let at = keys.iter().fold(at.clone(), |at, key| at.key(*key));
                findings.add(&at, "it is about requests, and a listener with `tcp` has none");
            }
        }
    }
}
