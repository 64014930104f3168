//! Routes that no request can reach, because others take all of theirs.

use std::cmp::Reverse;

use super::{RouteIndex, RouteSpec, RouteTable};
use crate::routing::paths::{Candidate, Paths, Place, Visitor, order};
use crate::routing::pattern::{HostPattern, PathPattern};

/// More candidates than these are not looked at for one host of one route.
const ENOUGH: usize = 256;

/// Where there are more regular expressions than these, none is tried on what other routes match.
const FEW_EXPRESSIONS: usize = 256;

/// A route whose requests another one takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// The one that serves nothing.
    pub route: RouteIndex,
    /// The one that serves in its place; of several hosts the first.
    pub by: RouteIndex,
}

impl RouteTable {
    /// Routes that no request can reach, as far as their patterns tell.
    pub fn shadowed(&self) -> Vec<Shadow> {
        let routes = (0..).map(RouteIndex).zip(&self.specs);
        let shadow = |(route, spec): (RouteIndex, &RouteSpec)| {
            let own = spec.hosts.iter().map(Some);
            let every = spec.hosts.is_empty().then_some(None);
            let mut by = own.chain(every).map(|host| self.shadow_at(route, spec, host));
            let first = by.next()??;
            by.all(|other| other.is_some()).then_some(Shadow { route, by: first })
        };
        routes.filter_map(shadow).collect()
    }

    /// The route that takes everything that this one could take at one host.
    fn shadow_at(
        &self,
        route: RouteIndex,
        spec: &RouteSpec,
        host: Option<&HostPattern>,
    ) -> Option<RouteIndex> {
        let sample = match host {
            Some(HostPattern::Exact(host)) => host.to_string(),
            Some(HostPattern::Under(name)) => format!("x.{name}"),
            Some(HostPattern::Regex(_)) | None => String::new(),
        };
        let path = spec.path.sample().unwrap_or_else(|| "/".into());
        let place = Place { host: &sample, path: &path, facts: None };
        let mut takers = Takers { table: self, route, spec, host, found: None, left: ENOUGH };
        // No sample tells what an expression matches, but for an expression that is the same.
        let same: Vec<&Paths> = match host {
            Some(HostPattern::Regex(pattern)) => {
                let same = self.regexes.iter().filter(|(held, _)| held == pattern);
                same.map(|(_, paths)| paths).collect()
            }
            Some(HostPattern::Exact(host)) => self.exact.get(host).into_iter().collect(),
            Some(HostPattern::Under(name)) => self.wildcards.get(name).into_iter().collect(),
            None => Vec::new(),
        };
        for paths in same.into_iter().chain([&self.any_host]) {
            if let PathPattern::Regex(pattern) = &spec.path {
                let slots = paths.regexes().iter().filter(|(held, _)| held == pattern);
                slots.flat_map(|(_, slot)| slot.candidates()).for_each(|one| takers.visit(one));
            }
            if matches!(host, Some(HostPattern::Regex(_))) {
                paths.visit(&place, &mut takers);
            }
        }
        self.visit(&place, &mut takers);
        takers.found
    }
}

/// Looks for a route that takes everything that another could take.
struct Takers<'s> {
    table: &'s RouteTable,
    route: RouteIndex,
    spec: &'s RouteSpec,
    host: Option<&'s HostPattern>,
    found: Option<RouteIndex>,
    /// How many are still looked at.
    left: usize,
}

impl<'t> Visitor<'t> for Takers<'_> {
    fn wants(&self, priority: i32) -> bool {
        self.found.is_none() && self.left > 0 && priority >= self.spec.priority
    }

    fn tries(&self, expressions: usize) -> bool {
        expressions <= FEW_EXPRESSIONS
    }

    fn visit(&mut self, candidate: &'t Candidate) {
        if !self.wants(candidate.priority) || candidate.route == self.route {
            return;
        }
        self.left -= 1;
        let Some(other) = self.table.spec(candidate.route) else { return };
        if other.goes_before(self.spec, self.host) && other.takes_all_of(self.spec, self.host) {
            self.found = Some(candidate.route);
        }
    }
}

impl RouteSpec {
    /// Whether it takes every request that another could take at one of that one's hosts.
    fn takes_all_of(&self, other: &Self, host: Option<&HostPattern>) -> bool {
        let hosts = match host {
            _ if self.hosts.is_empty() => true,
            None => false,
            Some(host) => self.hosts.iter().any(|own| own.covers(host)),
        };
        let methods = self.methods.is_empty()
            || !other.methods.is_empty()
                && other.methods.iter().all(|method| self.methods.contains(method));
        hosts && methods && self.path.covers(&other.path) && self.rules.cover(&other.rules)
    }

    /// Whether it is tried first where both match a request for such a host.
    fn goes_before(&self, other: &Self, host: Option<&HostPattern>) -> bool {
        let rank = |spec: &Self, host: Option<&HostPattern>| {
            let (path, methods) = (order(&spec.path), spec.methods.is_empty());
            (Reverse(spec.priority), host_order(host), path, methods, spec.rules.strictness())
        };
        let own = self.hosts.iter().filter(|own| host.is_none_or(|host| own.covers(host)));
        let best = own.min_by_key(|own| host_order(Some(own)));
        rank(self, best) < rank(other, host)
    }
}

impl RouteSpec {
    /// What its place in the table is decided by, for a host of it: less goes first.
    pub(crate) fn place(&self, host: Option<&HostPattern>) -> impl Ord + use<> {
        let (path, methods) = (order(&self.path), self.methods.is_empty());
        let own = host.map(ToString::to_string).unwrap_or_default();
        let texts = (own, self.path.to_string());
        let (class, length) = host_order(host);
        (
            Reverse(self.priority),
            (class, length),
            texts.0,
            path,
            texts.1,
            methods,
            self.rules.strictness(),
        )
    }
}

/// How specific a host is: less goes first.
pub(super) fn host_order(host: Option<&HostPattern>) -> (u8, Reverse<usize>) {
    match host {
        Some(HostPattern::Exact(_)) => (0, Reverse(0)),
        Some(HostPattern::Under(name)) => (1, Reverse(name.len())),
        Some(HostPattern::Regex(pattern)) => (2, Reverse(pattern.source().len())),
        None => (3, Reverse(0)),
    }
}
