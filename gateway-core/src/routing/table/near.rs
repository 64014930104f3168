//! What a route failed of, and why another goes before it.

use http::Method;
use serde::{Deserialize, Serialize};

use super::shadow::host_order;
use super::{RouteQuery, RouteSpec};
use crate::plugin::Attribute;
use crate::routing::paths::order;
use crate::routing::pattern::HostPattern;
use crate::routing::rules::Unmet;

/// The first of a route's matchers that a request does not meet, the last of them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the keys of `match`")]
pub enum Unmatched {
    /// It matches, and another goes before it.
    Precedence,
    When,
    Clients,
    Cookies,
    Query,
    Headers,
    Listeners,
    Methods,
    Path,
    Hosts,
}

impl RouteSpec {
    /// The row of the table by which it goes before another that matches the same request for this host.
    pub(crate) fn decided_by(&self, other: &Self, query: &RouteQuery<'_>) -> &'static str {
        let host = query.host;
        let lists = |spec: &Self| spec.methods.contains(query.method);
        let own = self.matched_host(host);
        let others = other.matched_host(host);
        let (mine, theirs) = (order(&self.path), order(&other.path));
        let (strict, loose) = (self.rules.strictness(), other.rules.strictness());
        match () {
            () if self.priority != other.priority => "a higher priority",
            () if host_order(own) != host_order(others) => match (own, others) {
                (Some(_), None) => "it names hosts",
                (Some(HostPattern::Exact(_)), _) => "an exact host",
                (Some(HostPattern::Under(_)), Some(HostPattern::Regex(_))) => "a wildcard host",
                _ => "a longer host",
            },
            () if mine != theirs => match (mine.0, theirs.0) {
                (0, _) => "an exact path",
                (1, 2..) => "a template",
                (2, 3..) => "a regular expression of the whole path",
                (2, _) => "a longer regular expression",
                _ => "a more specific path",
            },
            () if self.methods.is_empty() != other.methods.is_empty() => "it lists methods",
            () if strict == loose && lists(self) && !lists(other) => {
                "it lists OPTIONS, and this is a preflight"
            }
            () => strict.over(&loose),
        }
    }

    /// The most specific of its hosts that a host is one of.
    fn matched_host(&self, host: &str) -> Option<&HostPattern> {
        let own = self.hosts.iter().filter(|pattern| pattern.matches(host));
        own.min_by_key(|pattern| host_order(Some(pattern)))
    }

    /// The first of what it asks that a request does not meet: nothing where it matches.
    pub(crate) fn first_unmet(&self, query: &RouteQuery<'_>) -> Unmatched {
        let wanted = query.preflight_method.unwrap_or(query.method);
        let lists = |method: &Method| self.methods.contains(method);
        let methods = self.methods.is_empty() || lists(wanted) || lists(query.method);
        match () {
            () if !self.hosts.is_empty() && self.matched_host(query.host).is_none() => {
                Unmatched::Hosts
            }
            () if !self.path.matches(query.path) => Unmatched::Path,
            () if !methods => Unmatched::Methods,
            () => match self.rules.unmet(query) {
                None => Unmatched::Precedence,
                Some(Unmet::Listener) => Unmatched::Listeners,
                Some(Unmet::Client(_)) => Unmatched::Clients,
                Some(Unmet::Condition(_)) => Unmatched::When,
                Some(Unmet::Value(rule)) => match rule.of {
                    Attribute::RequestQuery(_) => Unmatched::Query,
                    Attribute::RequestCookie(_) => Unmatched::Cookies,
                    _ => Unmatched::Headers,
                },
            },
        }
    }
}
