//! The route table: which route serves a request head.
//!
//! Of the routes that match a request in every respect the first by this table is taken: by its first
//! row, among equals by its second, and so on. Hosts, paths, methods, headers and query follow the
//! Kubernetes Gateway API where that speaks.
//!
//! | | before | after |
//! |---|---|---|
//! | 1 | higher `priority` | lower; none is 0 |
//! | 2 | exact host `a.example.com` | wildcard `*.example.com` |
//! | 3 | longer wildcard `*.a.example.com` | shorter wildcard `*.example.com` |
//! | 4 | wildcard host | regular expression of hosts; of these the longer one |
//! | 5 | any `hosts` | none |
//! | 6 | exact path | template |
//! | 7 | template: at the first segment that differs, a text | a capture |
//! | 8 | template | regular expression of paths; of these the longer one |
//! | 9 | regular expression | prefix; also a template that ends in `{*rest}` |
//! | 10 | longer prefix; at the first segment that differs, a text before a capture | shorter prefix; no path at all is the prefix `/` |
//! | 11 | lists `methods` | takes any method |
//! | 12 | more `headers` | fewer |
//! | 13 | more `query` | fewer |
//! | 14 | more `cookies` | fewer |
//! | 15 | lists `clients` | takes any client |
//! | 16 | has `when` | has none |
//! | 17 | lists `listeners` | is reached through all |
//!
//! - **No ties.** Two routes that this table does not tell apart and that one request could match
//!   are refused by `check`, with both names; a `priority` decides. What cannot match the same
//!   request needs none: `x-version: "1"` beside `x-version: "2"`, GET beside POST. Of two regular
//!   expressions of one length that may match the same, no later row decides.
//! - **Falling through.** A route that fails in one respect does not hide a less specific one: a
//!   `/health` without hosts serves every host that has no `/health` of its own, and `POST /a/b`
//!   reaches `/` when `/a` takes GET alone. This is the reading of the Kubernetes Gateway API.
//! - **Wildcards.** `*.example.com` stands for one or more labels, never for `example.com`.
//! - **Prefixes** end on segment boundaries: `/api` and `/api/` both match `/api`, `/api/` and
//!   `/api/x`, neither matches `/apiary`; `/` matches every path.
//! - **Exact** paths match byte for byte: `/a` is not `/a/`.
//! - **Templates** capture whole segments that are not empty: `/u/{id}` is `/u/7`, neither `/u/` nor
//!   `/u/7/`. `{*rest}` at the end is all that is below, nothing included. What is captured is the
//!   attribute `request.capture.NAME`, in normal form, for plugins, rewrites, redirects and replies.
//! - **Regular expressions** of hosts and paths stand for the whole of it; those of headers, query
//!   and cookies are found anywhere, `^` and `$` bind them. Each host tries its own one after another.
//! - **405** is answered when no route matches but one would with another method; `allow` names
//!   the methods of all such routes.
//! - **HEAD** is not implied by GET: a route serves the methods it lists and no other.
//! - **A CORS preflight** is matched by the method it asks for, so that it reaches the plugins of
//!   the route that would serve it, and by OPTIONS where that is listed. Of two routes that are
//!   equal in all rows the one that lists OPTIONS goes first.

mod near;
mod shadow;
mod ties;

use std::sync::Arc;

use http::Method;

use super::methods::{AllowedMethods, MethodSet, Wanted};
use super::paths::{Candidate, Map, Paths, Place, Visitor, at_pattern};
use super::pattern::{HostPattern, PathPattern};
use super::rules::Rules;
use crate::config::WholePattern;
use crate::plugin::Facts;

pub use near::Unmatched;
pub use shadow::Shadow;
pub use ties::Tie;

/// A route's place in the order of listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteIndex(pub u32);

/// The match rules of one route. Hosts and paths are in normal form.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// The route's name.
    pub name: Arc<str>,
    /// Goes before lower ones.
    pub priority: i32,
    /// Empty means every host, and requests without one.
    pub hosts: Box<[HostPattern]>,
    /// Which paths.
    pub path: PathPattern,
    /// Empty means all.
    pub methods: Box<[Method]>,
    /// What it asks besides.
    pub rules: Arc<Rules>,
}

/// What of a request head decides the route.
#[derive(Clone, Copy)]
pub struct RouteQuery<'a> {
    /// As [`super::normalise_host`] gives it; empty for a request without a host.
    pub host: &'a str,
    /// As [`super::normalise`] gives it.
    pub path: &'a str,
    /// The method of the request.
    pub method: &'a Method,
    /// The listener it came through.
    pub listener: u16,
    /// `access-control-request-method` of an OPTIONS request that has one.
    pub preflight_method: Option<&'a Method>,
    /// Where headers, query, cookies and the client are read.
    pub facts: Facts<'a>,
}

impl<'a> RouteQuery<'a> {
    fn place(&self) -> Place<'a> {
        Place { host: self.host, path: self.path, facts: Some(self.facts) }
    }
}

/// The answer of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// This route serves it.
    Route(RouteIndex),
    /// 405: a route would match with another method.
    MethodNotAllowed(AllowedMethods),
    /// 404.
    NotFound,
}

/// All routes, compiled for lookup. A lookup allocates only for a 405.
#[derive(Debug, Default)]
pub struct RouteTable {
    specs: Vec<RouteSpec>,
    exact: Map<Paths>,
    /// By what follows `*.`.
    wildcards: Map<Paths>,
    /// The numbers of labels that wildcards have: bit `n - 1`, the last bit for all above.
    wildcard_labels: u128,
    /// Longer ones first.
    regexes: Vec<(WholePattern, Paths)>,
    any_host: Paths,
}

impl FromIterator<RouteSpec> for RouteTable {
    fn from_iter<I: IntoIterator<Item = RouteSpec>>(specs: I) -> Self {
        let mut table = Self::default();
        for spec in specs {
            table.add(spec);
        }
        table.finish();
        table
    }
}

/// Takes the first candidate that will do, but for one of a higher priority.
struct First<'t, F> {
    accept: F,
    best: Option<&'t Candidate>,
}

impl<'t, F: FnMut(&'t Candidate) -> bool> Visitor<'t> for First<'t, F> {
    fn wants(&self, priority: i32) -> bool {
        self.best.is_none_or(|best| priority > best.priority)
    }

    fn visit(&mut self, candidate: &'t Candidate) {
        if (self.accept)(candidate) {
            self.best = Some(candidate);
        }
    }
}

/// Sees every candidate.
struct All<F>(F);

impl<'t, F: FnMut(&'t Candidate)> Visitor<'t> for All<F> {
    fn wants(&self, _: i32) -> bool {
        true
    }

    fn visit(&mut self, candidate: &'t Candidate) {
        (self.0)(candidate);
    }
}

impl RouteTable {
    /// Compiles routes; a route's index is its place in the order given.
    pub fn new(specs: impl IntoIterator<Item = RouteSpec>) -> Self {
        specs.into_iter().collect()
    }

    /// The routes in the order given.
    pub fn specs(&self) -> &[RouteSpec] {
        &self.specs
    }

    /// A route's match rules, if it is of this table.
    pub fn spec(&self, route: RouteIndex) -> Option<&RouteSpec> {
        self.specs.get(usize::try_from(route.0).ok()?)
    }

    /// The route that serves a request.
    pub fn find(&self, query: &RouteQuery<'_>) -> Match {
        if !query.path.starts_with('/') {
            // `OPTIONS *` asks for the gateway itself, which is no route's.
            return Match::NotFound;
        }
        let own = Wanted::new(query.method);
        let asked_for = query.preflight_method.map(Wanted::new);
        let mut refused = false;
        let route = self.first(query, |candidate| {
            let methods = &candidate.methods;
            let serves = methods.is_any()
                || methods.lists(own)
                || asked_for.is_some_and(|asked_for| methods.lists(asked_for));
            refused |= !serves;
            serves && candidate.takes(query)
        });
        match route {
            Some(route) => Match::Route(route),
            None if refused => self.refused(query),
            None => Match::NotFound,
        }
    }

    fn first<'t>(
        &'t self,
        query: &RouteQuery<'_>,
        accept: impl FnMut(&'t Candidate) -> bool,
    ) -> Option<RouteIndex> {
        let mut first = First { accept, best: None };
        self.visit(&query.place(), &mut first);
        first.best.map(|best| best.route)
    }

    /// What is answered where no route serves the method.
    fn refused(&self, query: &RouteQuery<'_>) -> Match {
        let mut allowed: Option<AllowedMethods> = None;
        self.visit(
            &query.place(),
            &mut All(|candidate: &Candidate| {
                if candidate.takes(query) {
                    allowed.get_or_insert_default().add(&candidate.methods);
                }
            }),
        );
        allowed.map_or(Match::NotFound, Match::MethodNotAllowed)
    }

    /// Shows what matches in host and path, most specific first within a priority.
    fn visit<'t>(&'t self, place: &Place<'_>, visitor: &mut impl Visitor<'t>) {
        if let Some(paths) = self.exact.get(place.host) {
            paths.visit(place, visitor);
        }
        for paths in self.wildcards_of(place.host) {
            paths.visit(place, visitor);
        }
        let regexes = if visitor.tries(self.regexes.len()) { &*self.regexes } else { &[] };
        for (pattern, paths) in regexes {
            if visitor.wants(paths.priority()) && pattern.regex().is_match(place.host) {
                paths.visit(place, visitor);
            }
        }
        self.any_host.visit(place, visitor);
    }

    /// Whether a route has this host among those that it is for.
    pub(crate) fn names(&self, host: &str) -> bool {
        self.exact.contains_key(host)
            || self.wildcards_of(host).next().is_some()
            || self.regexes.iter().any(|(pattern, _)| pattern.regex().is_match(host))
    }

    /// The wildcards that cover a host, longest first.
    fn wildcards_of<'t>(&'t self, host: &str) -> impl Iterator<Item = &'t Paths> {
        let known = self.wildcard_labels;
        let dots = if known == 0 { "" } else { host }.as_bytes();
        let mut labels = memchr::memchr_iter(b'.', dots).count();
        memchr::memchr_iter(b'.', dots).filter_map(move |dot| {
            let bit = label_bit(labels);
            labels -= 1;
            if known & bit == 0 { None } else { self.wildcards.get(host.get(dot + 1..)?) }
        })
    }

    fn add(&mut self, spec: RouteSpec) {
        let candidate = Candidate {
            route: RouteIndex(u32::try_from(self.specs.len()).unwrap_or(u32::MAX)),
            priority: spec.priority,
            methods: MethodSet::new(&spec.methods),
            rules: (!spec.rules.is_empty()).then(|| spec.rules.clone()),
        };
        if spec.hosts.is_empty() {
            self.any_host.add(&spec.path, candidate);
        } else {
            for host in &spec.hosts {
                self.host(host).add(&spec.path, candidate.clone());
            }
        }
        self.specs.push(spec);
    }

    fn host(&mut self, host: &HostPattern) -> &mut Paths {
        match host {
            HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
            HostPattern::Under(name) => {
                self.wildcard_labels |= label_bit(name.split('.').count());
                self.wildcards.entry(name.clone()).or_default()
            }
            HostPattern::Regex(pattern) => at_pattern(&mut self.regexes, pattern),
        }
    }

    fn finish(&mut self) {
        self.specs.shrink_to_fit();
        let named = self.exact.values_mut().chain(self.wildcards.values_mut());
        named.for_each(Paths::finish);
        self.regexes.iter_mut().for_each(|(_, paths)| paths.finish());
        self.any_host.finish();
    }
}

impl Candidate {
    /// Whether a request is what it asks for besides host, path and method.
    fn takes(&self, query: &RouteQuery<'_>) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.hold(query))
    }
}

fn label_bit(labels: usize) -> u128 {
    1 << labels.saturating_sub(1).min(127)
}

#[cfg(test)]
mod tests;
