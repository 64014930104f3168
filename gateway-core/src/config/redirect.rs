//! `redirect`: a reply that sends the client elsewhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::host::HostPattern;
use super::path::ConfigPath;
use super::url_path::UrlPath;

/// Sends the client elsewhere. What is left out stays as the client asked for it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectConfig {
    /// The status: 301, 302, 303, 307 or 308. 307 and 308 keep the method; 301 and 308 are for good. Default 302.
    #[serde(default = "found")]
    pub status: u16,
    /// The scheme. Default: the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The host. Default: the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPattern>,
    /// The port. Default: the scheme's own where `scheme` or `host` is written, else the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The whole path. `{NAME}` stands for what the route's path captured, `{request.query.page}` and the like for an
    /// attribute. Default: the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What takes the place of the prefix that the route matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<UrlPath>,
    /// Whether the query goes along. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub query: bool,
}

/// A scheme of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

fn found() -> u16 {
    302
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_yes(query: &bool) -> bool {
    *query
}

impl RedirectConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        if ![301, 302, 303, 307, 308].contains(&self.status) {
            let message = "a redirect has status 301, 302, 303, 307 or 308";
            findings.add(&at.clone().key("status"), message);
        }
        if self.host.as_ref().is_some_and(|host| host.to_string().starts_with("*.")) {
            let message = "a redirect leads to one host; `*.` stands for many";
            findings.add(&at.clone().key("host"), message);
        }
        if self.path.is_some() && self.prefix.is_some() {
            let message = "`path` is the whole path; leave one of `path` and `prefix` out";
            findings.add_at_key(&at.clone().key("prefix"), message);
        }
        let leads = self.scheme.is_some()
            || self.host.is_some()
            || self.port.is_some()
            || self.path.is_some()
            || self.prefix.is_some();
        if !leads {
            let message = "this leads to where it came from; write `scheme`, `host`, `port`, `path` or `prefix`";
            findings.add(at, message);
        }
    }
}
