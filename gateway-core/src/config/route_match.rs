//! `match`: which requests a route is for. What is left out matches everything.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use http::{HeaderName, Method};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::Network;
use super::check::Findings;
use super::host::HostPattern;
use super::method::{self, MethodName};
use super::path::ConfigPath;
use super::path_template::PathTemplate;
use super::pattern::WholePattern;
use super::redact;
use super::scalar;
use super::url_path::UrlPath;
use super::value_match::ValueMatch;

/// Which requests a route is for: those that meet every key, of which an empty one is met by all.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MatchConfig {
    /// Hosts, exact (`api.example.com`), every name under one (`*.example.com`) or
    /// `{regex: "api-[0-9]+\\.example\\.com"}`, without port.
    pub hosts: Vec<HostMatch>,
    /// The path: `/users` for it and all below it, `{exact: /users}` for it alone,
    /// `{template: "/users/{id}"}`, or `{regex: "/users/[0-9]+"}`.
    pub path: Option<PathMatch>,
    /// Methods, in upper case.
    #[serde(
        deserialize_with = "scalar::list::<MethodName, _, _>",
        serialize_with = "method::names"
    )]
    #[schemars(with = "Vec<MethodName>")]
    pub methods: Vec<Method>,
    /// Header fields, name to what it must be: `"2"`, `{present: true}`, `{absent: true}`, `{prefix: v}`,
    /// `{regex: "^4\\."}`, `{range: {min: 1, max: 9}}`. Several fields of a name are one value, joined with `, `.
    #[serde(serialize_with = "redact::values", skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, ValueMatch>,
    /// Parameters of the query, as `headers`; percent-decoded, the first of a name.
    #[serde(serialize_with = "redact::values", skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, ValueMatch>,
    /// Cookies, as `headers`; the first of a name.
    #[serde(serialize_with = "redact::values", skip_serializing_if = "BTreeMap::is_empty")]
    pub cookies: BTreeMap<String, ValueMatch>,
    /// Networks that the client's address is in: `10.0.0.0/8`.
    #[serde(
        deserialize_with = "scalar::list::<Network, _, _>",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(with = "Vec<Network>")]
    pub clients: Vec<IpNet>,
    /// Names of the listeners through which the request came.
    pub listeners: Vec<String>,
    /// A condition besides, over what is known before a route is: `request.header["x-beta"] == "1"`.
    #[serde(serialize_with = "redact::condition", skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// A host, or many of them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HostMatch {
    /// A name, an address, or `*.name` for every name under it.
    Name(HostPattern),
    /// Hosts that a regular expression stands for, from the first character to the last.
    Long(HostRule),
}

/// A way to match a host.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum HostRule {
    /// Of the whole host, in lower case and without port.
    Regex(WholePattern),
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Long(HostRule::Regex(pattern)) => write!(f, "~{pattern}"),
        }
    }
}

/// A path, in the normal form in which requests are matched.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(from = "PathWritten", rename_all = "snake_case")]
#[schemars(with = "PathWritten")]
pub enum PathMatch {
    /// This path alone.
    Exact(String),
    /// This path and all below it: `/users` matches `/users/7`, not `/users-v2`.
    Prefix(String),
    /// Paths in which `{name}` stands for a segment, and `{*name}` for all that is below.
    Template(PathTemplate),
    /// Paths that a regular expression stands for, from the first character to the last.
    Regex(WholePattern),
}

/// The forms a path match is written in.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "PathMatch")]
enum PathWritten {
    /// This path and all below it.
    Short(UrlPath),
    /// A path and how it matches.
    Long(PathRule),
}

/// A path and how it matches.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum PathRule {
    /// This path alone.
    Exact(UrlPath),
    /// This path and all below it, on the boundary of a segment.
    Prefix(UrlPath),
    /// A path in which `{name}` stands for a segment, and `{*name}` at the end for all that is below, nothing
    /// included. What they stand for is the attribute `request.capture.NAME`.
    Template(PathTemplate),
    /// The whole path. Its named groups, `(?<name>…)`, are attributes `request.capture.NAME`.
    Regex(WholePattern),
}

impl From<PathWritten> for PathMatch {
    fn from(written: PathWritten) -> Self {
        match written {
            PathWritten::Long(PathRule::Exact(path)) => Self::Exact(path.into()),
            PathWritten::Long(PathRule::Template(template)) => Self::Template(template),
            PathWritten::Long(PathRule::Regex(pattern)) => Self::Regex(pattern),
            PathWritten::Short(path) | PathWritten::Long(PathRule::Prefix(path)) => {
                Self::Prefix(path.into())
            }
        }
    }
}

impl PathMatch {
    /// The names of what it captures.
    pub(crate) fn captures(&self) -> Vec<&str> {
        match self {
            Self::Exact(_) | Self::Prefix(_) => Vec::new(),
            Self::Template(template) => template.names().collect(),
            Self::Regex(pattern) => pattern.regex().capture_names().flatten().collect(),
        }
    }
}

impl MatchConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        for (kind, values) in
            [("headers", &self.headers), ("query", &self.query), ("cookies", &self.cookies)]
        {
            let at = at.clone().key(kind);
            for (name, value) in values {
                value.check(&at.clone().key(name), findings);
            }
        }
        for (place, host) in self.hosts.iter().enumerate() {
            let HostMatch::Long(HostRule::Regex(pattern)) = host else { continue };
            if let Some(capitals) = pattern.needs(|one| one.is_ascii_uppercase()) {
                let at = at.clone().key("hosts").index(place).key("regex");
                let message = format!("hosts are matched in lower case, and none has `{capitals}`");
                findings.add(&at, message);
            }
        }
        if let Some(PathMatch::Regex(pattern)) = &self.path
            && !pattern.may_begin_with(b'/')
        {
            let at = at.clone().key("path").key("regex");
            findings.add(
                &at,
                "no path is matched: each begins with `/`, and this is for the whole of it",
            );
        }
        if let Some(PathMatch::Regex(pattern)) = &self.path
            && let Some(bare) = pattern.needs(|one| "|[]{}^`\"<>\\ ?#".contains(one))
        {
            let at = at.clone().key("path").key("regex");
            let message = format!(
                "no path is matched: none has `{bare}` in it, for such characters are encoded, as `%5B`"
            );
            findings.add(&at, message);
        }
        self.check_headers(&at.clone().key("headers"), findings);
        self.check_cookies(&at.clone().key("cookies"), findings);
    }

    fn check_headers(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let mut seen: HashMap<HeaderName, &str> = HashMap::new();
        for name in self.headers.keys() {
            let at = at.clone().key(name);
            let Ok(parsed) = HeaderName::try_from(name) else {
                findings.add_at_key(&at, format!("`{name}` is no header name"));
                continue;
            };
            if parsed == http::header::HOST {
                findings.add_at_key(&at, "the host is matched by `hosts`");
            }
            if let Some(before) = seen.insert(parsed, name) {
                let message = format!("`{name}` is the field `{before}`, which is listed already");
                findings.add_at_key(&at, message);
            }
        }
    }

    fn check_cookies(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        for name in self.cookies.keys() {
            // A cookie's name is a token (RFC 6265, section 4.1.1), as a header's is.
            if HeaderName::try_from(name).is_err() {
                findings.add_at_key(&at.clone().key(name), format!("`{name}` is no cookie name"));
            }
        }
    }
}
