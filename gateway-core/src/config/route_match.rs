//! `match`: which requests a route is for. What is left out matches everything.

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::HostPattern;
use super::method::{self, MethodName};
use super::scalar;
use super::url_path::UrlPath;

/// Which requests a route is for: those that meet every key, of which an empty one is met by all.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MatchConfig {
    /// Hosts, exact (`api.example.com`) or every name under one (`*.example.com`), without port.
    #[serde(deserialize_with = "scalar::list::<HostPattern, _, _>")]
    #[schemars(with = "Vec<HostPattern>")]
    pub hosts: Vec<String>,
    /// The path: `/users` for it and all below it, `{exact: /users}` for it alone.
    pub path: Option<PathMatch>,
    /// Methods, in upper case.
    #[serde(
        deserialize_with = "scalar::list::<MethodName, _, _>",
        serialize_with = "method::names"
    )]
    #[schemars(with = "Vec<MethodName>")]
    pub methods: Vec<Method>,
    /// Names of the listeners through which the request came.
    pub listeners: Vec<String>,
}

/// A path, in the normal form in which requests are matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(from = "PathWritten", rename_all = "snake_case")]
#[schemars(with = "PathWritten")]
pub enum PathMatch {
    /// This path alone.
    Exact(String),
    /// This path and all below it: `/users` matches `/users/7`, not `/users-v2`.
    Prefix(String),
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
}

impl From<PathWritten> for PathMatch {
    fn from(written: PathWritten) -> Self {
        match written {
            PathWritten::Long(PathRule::Exact(path)) => Self::Exact(path.into()),
            PathWritten::Short(path) | PathWritten::Long(PathRule::Prefix(path)) => {
                Self::Prefix(path.into())
            }
        }
    }
}

impl MatchConfig {
    /// A text that two matches share when they are met by the same requests by their wording.
    pub(super) fn wording(&self) -> String {
        let path = match &self.path {
            None => "p/".to_owned(),
            Some(PathMatch::Prefix(path)) => format!("p{path}"),
            Some(PathMatch::Exact(path)) => format!("e{path}"),
        };
        let mut wording = path;
        let methods = self.methods.iter().map(Method::as_str).collect();
        let hosts = self.hosts.iter().map(String::as_str).collect();
        let listeners = self.listeners.iter().map(String::as_str).collect();
        for mut words in [hosts, methods, listeners] as [Vec<&str>; 3] {
            words.sort_unstable();
            words.dedup();
            wording.push('\n');
            for word in words {
                wording.push_str(word);
                wording.push(' ');
            }
        }
        wording
    }
}
