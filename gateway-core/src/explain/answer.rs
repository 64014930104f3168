//! What is told of a request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plugin::{Class, Level};
use crate::routing::Unmatched;

/// What would become of a request, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The number of the config's revision.
    pub revision: u64,
    /// The request as it is matched.
    pub request: RequestTold,
    /// What becomes of it.
    #[serde(flatten)]
    pub told: Told,
    /// Routes that were near, the nearest first, each with what it failed of.
    pub misses: Vec<Miss>,
    /// How many more there are.
    pub more_misses: usize,
}

/// A request as it is matched: host and path in normal form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of attributes")]
pub struct RequestTold {
    pub method: String,
    pub host: String,
    pub path: String,
    /// The path as it was sent, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_sent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    pub scheme: String,
    pub client: String,
    pub listener: String,
    pub protocol: String,
}

/// What becomes of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// The route.
    pub route: Option<String>,
    /// The group that the route belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What the route's path captured.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub captures: BTreeMap<String, String>,
    /// The plugins, in the order in which the request meets them.
    pub plugins: Vec<PluginTold>,
    /// What is done with it then.
    pub action: Explained,
    /// The plugin that answers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Plugins that may answer it before, of which only they themselves know: what is told here is so unless they do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unless: Vec<String>,
    /// The status, where the gateway answers itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Its failure code, if it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Why it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Where its client is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The methods that would be allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<String>,
    /// The upstreams that it is shared among, if it is, with their parts of the whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<Share>,
    /// The attribute that keeps callers at one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
    /// Where it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Destination>,
    /// The upstream that gets copies, and of which share of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Share>,
    /// The path that the upstream is asked for, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten_path: Option<String>,
    /// The Host that the upstream is asked for, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten_host: Option<String>,
    /// The attributes that what is done waits for: a plugin finds them out, or may change them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// What the listener allows a request to have.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub limits: serde_json::Value,
    /// How long it may take altogether, and who says so: the route, its group or the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<(String, String)>,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Explained {
    /// It is answered without a route, or a value in it fits nowhere.
    #[default]
    Refusal,
    /// It is sent to an upstream.
    Upstream,
    /// Its client is sent elsewhere.
    Redirect,
    /// The gateway answers it as the config says.
    Reply,
    /// A plugin answers it.
    Plugin,
}

/// One upstream's part of a route's requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The upstream.
    pub upstream: String,
    /// Its part, 0 to 1.
    pub share: f64,
}

/// An upstream, and what is in force there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// How an endpoint is chosen.
    pub balance: serde_json::Value,
    /// Its endpoints.
    pub endpoints: Vec<String>,
    /// Where more of them are found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discover: Option<serde_json::Value>,
    /// How long what may take.
    pub timeouts: serde_json::Value,
    /// What is repeated, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<serde_json::Value>,
    /// How many requests may be there.
    pub limits: serde_json::Value,
}

/// A plugin of the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginTold {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// What it promises.
    pub class: Class,
    /// Where it is listed.
    pub from: Level,
    /// The name of the listener, group or route where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Its options, without their secrets.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub options: serde_json::Value,
    /// Its condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Whether it acts on the request; nothing if that is known only once other plugins have run.
    pub acts: Option<bool>,
    /// The attributes that its condition waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}

/// A route that does not serve the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Miss {
    /// The route.
    pub route: String,
    /// What it failed of.
    pub failed: Unmatched,
    /// In words.
    pub why: String,
}
