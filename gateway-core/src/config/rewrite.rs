//! `rewrite`: another path or host for the upstream than the client asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::host::HostPattern;
use super::path::ConfigPath;
use super::pattern::Pattern;
use super::url_path::UrlPath;

/// What an upstream is asked for in place of what the client asked for. Plugins and logs see what the client asked for.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewriteConfig {
    /// What takes the place of the prefix that the route matches: `/` takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<UrlPath>,
    /// The whole path. `{NAME}` stands for what the route's path captured, `{request.header.x-tenant}` and the like for
    /// an attribute, escaped as one segment. What is no path in normal form then is refused with 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A regular expression and what takes the place of the first that it finds in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<ReplaceConfig>,
    /// The Host that the upstream is asked for. `X-Forwarded-Host` tells it the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPattern>,
}

/// A text in place of another.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceConfig {
    /// What is looked for; `^` and `$` bind it to the ends of the path.
    pub pattern: Pattern,
    /// What takes its place; `$1` and `${name}` (written `$${name}`) are its groups, `$$` (written `$$$$`) is a dollar.
    pub replacement: String,
}

impl RewriteConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let ways = [
            ("prefix", self.prefix.is_some()),
            ("path", self.path.is_some()),
            ("regex", self.regex.is_some()),
        ];
        let mut written = ways.iter().filter(|(_, written)| *written).map(|(key, _)| *key);
        let first = written.next();
        if let (Some(first), Some(second)) = (first, written.next()) {
            let message =
                format!("one path is rewritten in one way; leave out `{first}` or `{second}`");
            findings.add_at_key(&at.clone().key(second), message);
        }
        if first.is_none() && self.host.is_none() {
            findings.add(at, "nothing is rewritten; write `prefix`, `path`, `regex` or `host`");
        }
        if self.host.as_ref().is_some_and(|host| host.to_string().starts_with("*.")) {
            findings.add(&at.clone().key("host"), "one host is asked for; `*.` stands for many");
        }
    }
}
