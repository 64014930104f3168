//! The route table: which route serves a request head.
//!
//! Of the routes that match a request in every respect (listener, host, path, method) the most
//! specific one is taken. Specific is decided line by line:
//!
//! | | before | after |
//! |---|---|---|
//! | 1 | exact host `a.example.com` | wildcard `*.example.com` |
//! | 2 | longer wildcard `*.a.example.com` | shorter wildcard `*.example.com` |
//! | 3 | wildcard host | no host |
//! | 4 | exact path | prefix |
//! | 5 | longer prefix | shorter prefix; no path at all is the prefix `/` |
//! | 6 | lists methods | takes any method |
//! | 7 | listed earlier | listed later |
//!
//! - **Falling through.** A route that fails in one respect does not hide a less specific one: a
//!   `/health` without hosts serves every host that has no `/health` of its own, and `POST /a/b`
//!   reaches `/` when `/a` takes GET alone. This is the reading of the Kubernetes Gateway API.
//! - **Wildcards.** `*.example.com` stands for one or more labels, never for `example.com`.
//! - **Prefixes** end on segment boundaries: `/api` and `/api/` both match `/api`, `/api/` and
//!   `/api/x`, neither matches `/apiary`; `/` matches every path.
//! - **Exact** paths match byte for byte: `/a` is not `/a/`.
//! - **405** is answered when no route matches but one would with another method; `allow` names
//!   the methods of all such routes.
//! - **HEAD** is not implied by GET: a route serves the methods it lists and no other.
//! - **A CORS preflight** is matched by the method it asks for, so that it reaches the plugins of
//!   the route that would serve it; a route that lists OPTIONS itself goes first.

use std::ops::ControlFlow;
use std::sync::Arc;

use http::Method;

use super::methods::{AllowedMethods, MethodSet, Wanted};
use super::paths::{Candidate, Map, Paths};

/// A route's place in the order of listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteIndex(pub u32);

/// The match rules of one route. Hosts and paths are in normal form.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// The route's name.
    pub name: Arc<str>,
    /// Exact names or `*.name`; empty means every host, and requests without one.
    pub hosts: Vec<String>,
    /// Which paths.
    pub path: PathSpec,
    /// Empty means all.
    pub methods: Vec<Method>,
    /// Empty means all.
    pub listeners: Vec<u16>,
}

/// Which paths a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathSpec {
    /// All.
    Any,
    /// This one, byte for byte.
    Exact(String),
    /// This one and what is below it.
    Prefix(String),
}

/// What of a request head decides the route.
#[derive(Clone, Copy, Debug)]
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
    names: Vec<Arc<str>>,
    exact: Map<Paths>,
    /// By what follows `*.`.
    wildcards: Map<Paths>,
    /// The numbers of labels that wildcards have: bit `n - 1`, the last bit for all above.
    wildcard_labels: u128,
    any_host: Paths,
}

impl FromIterator<RouteSpec> for RouteTable {
    fn from_iter<I: IntoIterator<Item = RouteSpec>>(specs: I) -> Self {
        let mut table = Self::default();
        for spec in specs {
            table.add(spec);
        }
        table
    }
}

impl RouteTable {
    /// Compiles routes; a route's index is its place in the order given.
    pub fn new(specs: impl IntoIterator<Item = RouteSpec>) -> Self {
        specs.into_iter().collect()
    }

    /// The number of routes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a route, if it is of this table.
    pub fn name(&self, route: RouteIndex) -> Option<&Arc<str>> {
        self.names.get(usize::try_from(route.0).ok()?)
    }

    /// The route that serves a request.
    pub fn find(&self, query: &RouteQuery<'_>) -> Match {
        let Some(preflight) = query.preflight_method else {
            return self.find_method(query, Wanted::new(query.method));
        };
        let own = Wanted::new(query.method);
        match self.first(query, |candidate| candidate.methods.lists(own)) {
            Some(route) => Match::Route(route),
            None => self.find_method(query, Wanted::new(preflight)),
        }
    }

    fn find_method(&self, query: &RouteQuery<'_>, wanted: Wanted<'_>) -> Match {
        let mut refused = false;
        let route = self.first(query, |candidate| {
            let serves = candidate.methods.is_any() || candidate.methods.lists(wanted);
            refused |= !serves;
            serves
        });
        match route {
            Some(route) => Match::Route(route),
            None if refused => Match::MethodNotAllowed(self.allowed(query)),
            None => Match::NotFound,
        }
    }

    fn first(
        &self,
        query: &RouteQuery<'_>,
        mut accept: impl FnMut(&Candidate) -> bool,
    ) -> Option<RouteIndex> {
        let visited = self.visit(query, &mut |candidate| match accept(candidate) {
            true => ControlFlow::Break(candidate.route),
            false => ControlFlow::Continue(()),
        });
        visited.break_value()
    }

    fn allowed(&self, query: &RouteQuery<'_>) -> AllowedMethods {
        let mut allowed = AllowedMethods::default();
        let _: ControlFlow<()> = self.visit(query, &mut |candidate| {
            allowed.add(&candidate.methods);
            ControlFlow::Continue(())
        });
        allowed
    }

    /// Visits what matches in all but the method, most specific first.
    fn visit<'t, B>(
        &'t self,
        query: &RouteQuery<'_>,
        visit: &mut impl FnMut(&'t Candidate) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut here = |candidate: &'t Candidate| {
            let listeners = &candidate.listeners;
            if !listeners.is_empty() && !listeners.contains(&query.listener) {
                return ControlFlow::Continue(());
            }
            visit(candidate)
        };
        if let Some(paths) = self.exact.get(query.host) {
            paths.visit(query.path, &mut here)?;
        }
        for paths in self.wildcards_of(query.host) {
            paths.visit(query.path, &mut here)?;
        }
        self.any_host.visit(query.path, &mut here)
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
        let route = RouteIndex(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(spec.name);
        let candidate = Candidate {
            route,
            methods: MethodSet::new(&spec.methods),
            listeners: spec.listeners.into(),
        };
        if spec.hosts.is_empty() {
            self.any_host.add(&spec.path, candidate);
            return;
        }
        for host in &spec.hosts {
            self.host(host).add(&spec.path, candidate.clone());
        }
    }

    fn host(&mut self, host: &str) -> &mut Paths {
        match host.strip_prefix("*.") {
            Some(suffix) => {
                self.wildcard_labels |= label_bit(suffix.split('.').count());
                self.wildcards.entry(suffix.into()).or_default()
            }
            None => self.exact.entry(host.into()).or_default(),
        }
    }
}

fn label_bit(labels: usize) -> u128 {
    1 << labels.saturating_sub(1).min(127)
}

#[cfg(test)]
mod tests;
