//! Routes that no row of the table tells apart, though one request could match both.

use std::collections::BTreeSet;

use regex_syntax::hir::literal::{ExtractKind, Extractor, Literal, Seq};

use super::{RouteIndex, RouteTable};
use crate::config::WholePattern;
use crate::routing::paths::{Candidate, Paths};
use crate::routing::pattern::PathPattern;

/// More ties than these are not looked for.
const ENOUGH: usize = 100;

/// Two routes that a request could match, none of which goes before the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tie {
    /// The one that is listed first.
    pub first: RouteIndex,
    /// The other.
    pub second: RouteIndex,
}

impl RouteTable {
    /// Routes that are not told apart, in the order of listing; the first hundred or so.
    pub fn ties(&self) -> Vec<Tie> {
        let mut found = Found { table: self, ties: BTreeSet::new() };
        let named = self.exact.values().chain(self.wildcards.values());
        let regexes = self.regexes.iter().map(|(_, paths)| paths);
        for paths in named.chain(regexes).chain([&self.any_host]) {
            found.within(paths);
        }
        for (place, (one, paths)) in self.regexes.iter().enumerate() {
            for (two, others) in &self.regexes[place + 1..] {
                if one.source().len() == two.source().len() && may_meet(one, two) {
                    found.between(paths, others);
                }
            }
        }
        found.ties.into_iter().collect()
    }
}

struct Found<'t> {
    table: &'t RouteTable,
    ties: BTreeSet<Tie>,
}

impl Found<'_> {
    fn is_enough(&self) -> bool {
        self.ties.len() >= ENOUGH
    }

    /// Among the routes of one host.
    fn within(&mut self, paths: &Paths) {
        for slot in paths.slots() {
            if slot.candidates().len() < 2 || self.is_enough() {
                continue;
            }
            let (common, groups) = slot.groups();
            self.pairs(&common, &[]);
            for group in groups {
                self.pairs(&group, &common);
            }
        }
        let regexes = paths.regexes();
        for (place, (one, slot)) in regexes.iter().enumerate() {
            let all: Vec<&Candidate> = slot.candidates().iter().collect();
            self.pairs(&all, &[]);
            for (two, other) in &regexes[place + 1..] {
                if one.source().len() == two.source().len() && may_meet(one, two) {
                    for candidate in slot.candidates() {
                        self.across(candidate, other.candidates());
                    }
                }
            }
        }
    }

    /// Among the routes of two groups of hosts that may have some in common: nothing says whose go first, so that
    /// their other rows are not looked at.
    fn between(&mut self, paths: &Paths, others: &Paths) {
        let all = |paths: &Paths| -> Vec<RouteIndex> {
            let slots = paths.slots();
            let regexes = paths.regexes().iter().map(|(_, slot)| slot);
            let slots = slots.into_iter().chain(regexes);
            slots.flat_map(|slot| slot.candidates().iter().map(|one| one.route)).collect()
        };
        let (all, others) = (all(paths), all(others));
        for one in &all {
            for two in &others {
                if one != two && !self.is_enough() && self.may_meet(*one, *two) {
                    self.add(*one, *two);
                }
            }
        }
    }

    /// Whether one request could match two routes whose hosts have some in common.
    fn may_meet(&self, one: RouteIndex, two: RouteIndex) -> bool {
        let (Some(one), Some(two)) = (self.table.spec(one), self.table.spec(two)) else {
            return false;
        };
        let methods = one.methods.is_empty()
            || two.methods.is_empty()
            || one.methods.iter().any(|method| two.methods.contains(method));
        let paths = match (&one.path, &two.path) {
            (PathPattern::Regex(one), PathPattern::Regex(two)) => may_meet(one, two),
            (one, two) => one.may_meet(two),
        };
        one.priority == two.priority && methods && paths && !one.rules.exclude(&two.rules)
    }

    /// Between a candidate and those of a path that may be the same.
    fn across(&mut self, one: &Candidate, others: &[Candidate]) {
        for two in others {
            let apart = one.route == two.route || one.priority != two.priority;
            if !apart && !self.is_enough() && one.meets(two) {
                self.add(one.route, two.route);
            }
        }
    }

    /// Among candidates, and between them and others.
    fn pairs(&mut self, candidates: &[&Candidate], others: &[&Candidate]) {
        for (place, one) in candidates.iter().enumerate() {
            self.against(one, &candidates[place + 1..]);
            self.against(one, others);
        }
    }

    fn against(&mut self, one: &Candidate, others: &[&Candidate]) {
        if self.is_enough() || others.is_empty() {
            return;
        }
        let rank = one.rank();
        for two in others {
            if one.route != two.route && two.rank() == rank && one.meets(two) {
                self.add(one.route, two.route);
            }
        }
    }

    fn add(&mut self, one: RouteIndex, two: RouteIndex) {
        self.ties.insert(Tie { first: one.min(two), second: one.max(two) });
    }
}

impl Candidate {
    /// Whether one request could match both.
    fn meets(&self, other: &Self) -> bool {
        let apart = match (&self.rules, &other.rules) {
            (Some(one), Some(two)) => one.exclude(two),
            _ => false,
        };
        !apart && self.methods.meets(&other.methods)
    }
}

/// Whether a text could match both, as far as their beginnings and their ends tell.
fn may_meet(one: &WholePattern, two: &WholePattern) -> bool {
    let meet = |kind: ExtractKind, alike: fn(&[u8], &[u8]) -> bool| {
        let (one, two) = (literals(one, kind.clone()), literals(two, kind));
        let (Some(one), Some(two)) = (one.literals(), two.literals()) else { return true };
        let alike = |one: &Literal, two: &Literal| {
            alike(one.as_bytes(), two.as_bytes()) || alike(two.as_bytes(), one.as_bytes())
        };
        one.iter().any(|one| two.iter().any(|two| alike(one, two)))
    };
    meet(ExtractKind::Prefix, |one, two| one.starts_with(two))
        && meet(ExtractKind::Suffix, |one, two| one.ends_with(two))
}

fn literals(pattern: &WholePattern, kind: ExtractKind) -> Seq {
    match regex_syntax::parse(pattern.regex().as_str()) {
        Ok(hir) => Extractor::new().kind(kind).limit_class(64).extract(&hir),
        Err(_) => Seq::infinite(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_expressions_that_cannot_meet_are_told() {
        for (one, two, expected) in [
            ("/a/[0-9]+", "/b/[0-9]+", false),
            ("/a/[0-9]+", "/a/[a-z]+", false),
            ("/a/[0-9a]+", "/a/[a-z]+", true),
            (".*\\.a\\.com", ".*\\.b\\.com", false),
            ("[a-z]+", "[0-9]+", false),
            (".*", "/a", true),
            ("(/a|/b)x+", "(/c|/d)x+", false),
        ] {
            assert_eq!(
                may_meet(&one.parse().unwrap(), &two.parse().unwrap()),
                expected,
                "{one} {two}"
            );
        }
    }
}
