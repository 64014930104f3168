//! The document: what an operator may write, one noun a file, each with its own checks.
//!
//! [`load`] reads a file and all it includes, and reports every fault of it at once, each with
//! its line. What it returns is right in itself; building it is another room's work.

mod access_log;
mod address;
mod admin;
mod check;
mod check_routes;
mod consumer;
mod diff;
mod digest;
mod discover;
mod document;
mod fault;
mod file_path;
mod health;
mod host;
mod include;
mod interpolate;
mod kept;
mod layout;
mod listener;
mod load;
mod marks;
mod method;
mod mirror;
mod name;
mod nearest;
mod path;
mod path_template;
mod pattern;
mod plugin;
mod redact;
mod redaction;
mod redirect;
mod reload;
mod reply;
mod restart;
mod retry;
mod rewrite;
mod route;
mod route_group;
mod route_match;
mod scalar;
mod schema;
mod secret;
pub(crate) mod secret_name;
mod server;
mod shape;
mod shown;
mod split;
mod status_range;
mod tcp;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod transport;
mod units;
mod upstream;
mod url_path;
mod value_match;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access_log::{AccessLogConfig, LogFormat, LogOutput, SampleConfig};
pub use address::{AdminAddress, EndpointAddress, ListenAddress, Network};
pub use admin::AdminConfig;
pub use consumer::{ConsumerConfig, IssuedSubject, SubjectConfig};
pub use diff::{Change, ChangeKind, Difference, diff, diff_read_out};
pub(crate) use discover::endpoints_of;
pub use discover::{DiscoverConfig, Family};
pub use document::Document;
pub use fault::{Fault, Faults};
pub use file_path::FilePath;
pub use health::{ActiveConfig, CheckKind, HealthConfig, PassiveConfig};
pub use host::HostPattern;
pub(crate) use include::included;
pub(crate) use kept::{KeptFile, read_kept};
pub use layout::{FileLayout, config_files, laid_out};
pub use listener::{ListenerConfig, ListenerLimits, ListenerTimeouts};
pub use load::{Env, LoadOptions, Loaded, PluginSchemas, load, load_text};
pub(crate) use load::{read, read_text};
pub use method::MethodName;
pub use mirror::{CompareConfig, MirrorConfig};
pub use name::Name;
pub use path::{ConfigPath, Segment};
pub use path_template::PathTemplate;
pub(crate) use pattern::compile as compile_regex;
pub use pattern::{MAX_COMPILED, Pattern, WholePattern};
pub use plugin::{OnError, PluginConfig};
pub use redaction::RedactionConfig;
pub use redirect::{RedirectConfig, Scheme};
pub use reload::{CanaryConfig, HistoryConfig, ReloadConfig};
pub use reply::ReplyConfig;
pub(crate) use restart::restarting;
pub use retry::{HedgeConfig, RetryCondition, RetryConfig, RetryOn};
pub use rewrite::{ReplaceConfig, RewriteConfig};
pub use route::{RouteConfig, RouteTimeouts};
pub use route_group::RouteGroupConfig;
pub use route_match::{HostMatch, HostRule, MatchConfig, PathMatch};
pub use scalar::Invalid;
pub use schema::json_schema;
pub(crate) use secret::environment;
pub use secret::{Secret, SecretConfig};
pub use server::{ServerConfig, Workers};
pub use shown::{shown, shown_yaml};
pub use split::{ShareConfig, SplitConfig};
pub use status_range::StatusRange;
pub use tcp::{TcpConfig, TcpTimeouts};
pub use tls::{CertificateConfig, ClientAuthConfig, ClientAuthMode, ListenerTls, TlsVersion};
pub use transport::{ClientCertificate, ProxyProtocol, UpstreamProtocol, UpstreamTls, Verify};
pub use units::{Percent, Size, Span};
pub use upstream::{
    AdaptiveConfig, BalanceConfig, EndpointConfig, HeaderCase, StickyConfig, UpstreamConfig,
    UpstreamLimits, UpstreamTimeouts,
};
pub use url_path::UrlPath;
pub use value_match::{Bounds, ValueMatch};

/// A gateway's document. Keys that begin with `x-` are ignored; anchors may live there.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The version of this language: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Files that add to the lists below, relative to this file: `routes.d/*.yaml`.
    #[serde(default)]
    pub include: Vec<String>,
    /// The process. It needs a restart to change.
    #[serde(default)]
    pub server: ServerConfig,
    /// The admin interface. Default: none.
    #[serde(default)]
    pub admin: Option<AdminConfig>,
    /// How another config takes the place of this one.
    #[serde(default)]
    pub reload: ReloadConfig,
    /// The access log.
    #[serde(default)]
    pub access_log: AccessLogConfig,
    /// What is secret besides, in what the gateway writes of requests.
    #[serde(default)]
    pub redaction: RedactionConfig,
    /// Plugins for every route, in order of execution.
    #[serde(default)]
    pub plugins: Vec<PluginConfig>,
    /// Addresses the gateway accepts on; at least one, here or in an included file.
    #[serde(default)]
    pub listeners: Vec<ListenerConfig>,
    /// Groups of endpoints that routes send to.
    #[serde(default)]
    pub upstreams: Vec<UpstreamConfig>,
    /// Callers known by name.
    #[serde(default)]
    pub consumers: Vec<ConsumerConfig>,
    /// What many routes have in common.
    #[serde(default)]
    pub route_groups: Vec<RouteGroupConfig>,
    /// Which requests, which plugins, and what becomes of them.
    #[serde(default)]
    pub routes: Vec<RouteConfig>,
    /// Where secrets stand as text, so that a read-out can leave them out.
    #[serde(skip)]
    #[schemars(skip)]
    pub secrets: Vec<ConfigPath>,
}

/// An included file: it may add to the lists and nothing else.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used; its lists are merged before typing")]
struct Fragment {
    version: Option<u32>,
    #[serde(default)]
    plugins: Vec<PluginConfig>,
    #[serde(default)]
    listeners: Vec<ListenerConfig>,
    #[serde(default)]
    upstreams: Vec<UpstreamConfig>,
    #[serde(default)]
    consumers: Vec<ConsumerConfig>,
    #[serde(default)]
    route_groups: Vec<RouteGroupConfig>,
    #[serde(default)]
    routes: Vec<RouteConfig>,
}
