//! Routes that no row of the table tells apart, though one request could match both.

use std::collections::BTreeSet;

use regex_syntax::hir::literal::{ExtractKind, Extractor, Literal, Seq};

use super::{RouteIndex, RouteTable};
use crate::config::WholePattern;
use crate::routing::paths::{Candidate, Paths};
use crate::routing::pattern::PathPattern;

/// More ties than these are not looked for.
const ENOUGH: usize = 100;

/// More pairs than these are not held against each other: of some thousand routes of one path and one rank.
const MANY: usize = 10_000_000;

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
        let mut found = Found { table: self, ties: BTreeSet::new(), left: MANY };
        let named = self.exact.values().chain(self.wildcards.values());
        let regexes = self.regexes.iter().map(|(_, paths)| paths);
        for paths in named.chain(regexes).chain([&self.any_host]) {
            found.within(paths);
        }
        let patterns: Vec<&WholePattern> =
            self.regexes.iter().map(|(pattern, _)| pattern).collect();
        for (one, two) in meeting(&patterns) {
            if !found.is_enough() {
                found.between(&self.regexes[one].1, &self.regexes[two].1);
            }
        }
        found.ties.into_iter().collect()
    }
}

struct Found<'t> {
    table: &'t RouteTable,
    ties: BTreeSet<Tie>,
    /// How many pairs are still held against each other.
    left: usize,
}

impl Found<'_> {
    fn is_enough(&self) -> bool {
        self.ties.len() >= ENOUGH || self.left == 0
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
        for (_, slot) in regexes {
            let all: Vec<&Candidate> = slot.candidates().iter().collect();
            self.pairs(&all, &[]);
        }
        let patterns: Vec<&WholePattern> = regexes.iter().map(|(pattern, _)| pattern).collect();
        for (one, two) in meeting(&patterns) {
            for candidate in regexes[one].1.candidates() {
                self.across(candidate, regexes[two].1.candidates());
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
            if self.is_enough() {
                return;
            }
            for two in &others {
                if one != two && self.may_meet(*one, *two) {
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
        let ranked = |all: &[&Candidate]| all.iter().map(|one| one.rank()).collect::<Vec<_>>();
        let (ranks, other_ranks) = (ranked(candidates), ranked(others));
        for (place, (one, rank)) in candidates.iter().zip(&ranks).enumerate() {
            if self.is_enough() {
                return;
            }
            let later = candidates[place + 1..].iter().zip(&ranks[place + 1..]);
            for (two, other) in later.chain(others.iter().zip(&other_ranks)) {
                self.left = self.left.saturating_sub(1);
                if other == rank && one.route != two.route && one.meets(two) {
                    self.add(one.route, two.route);
                }
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
    Ends::of(one).meet(&Ends::of(two))
}

/// The pairs of expressions of one length, longer ones first, that a text could match both of. Those of which the
/// beginnings are known are held only against those that begin alike.
fn meeting(patterns: &[&WholePattern]) -> BTreeSet<(usize, usize)> {
    let mut found = BTreeSet::new();
    let mut start = 0;
    for group in patterns.chunk_by(|one, two| one.source().len() == two.source().len()) {
        if group.len() > 1 {
            let pairs = meeting_of_one_length(group);
            found.extend(pairs.into_iter().map(|(one, two)| (start + one, start + two)));
        }
        start += group.len();
    }
    found
}

fn meeting_of_one_length(group: &[&WholePattern]) -> BTreeSet<(usize, usize)> {
    let ends: Vec<Ends> = group.iter().map(|pattern| Ends::of(pattern)).collect();
    let heads = Index::new(ends.iter().map(|ends| ends.prefixes.literals()), |text| text.to_vec());
    let backwards = |text: &[u8]| text.iter().rev().copied().collect();
    let tails = Index::new(ends.iter().map(|ends| ends.suffixes.literals()), backwards);
    // Whichever tells more of them apart.
    let index = if heads.pairs() <= tails.pairs() { heads } else { tails };
    let mut found = BTreeSet::new();
    index.for_each(|one, two| {
        if one != two
            && !found.contains(&(one.min(two), one.max(two)))
            && ends[one].meet(&ends[two])
        {
            found.insert((one.min(two), one.max(two)));
        }
    });
    found
}

/// What texts begin with, or end with, backwards: those that may be the same stand side by side.
struct Index {
    texts: Vec<(Vec<u8>, usize)>,
    /// The places of those of which nothing is known.
    unknown: Vec<usize>,
    len: usize,
}

impl Index {
    fn new<'l>(
        literals: impl Iterator<Item = Option<&'l [Literal]>>,
        turn: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Self {
        let mut index = Self { texts: Vec::new(), unknown: Vec::new(), len: 0 };
        for (place, literals) in literals.enumerate() {
            index.len += 1;
            match literals {
                Some(all) => {
                    index.texts.extend(all.iter().map(|one| (turn(one.as_bytes()), place)));
                }
                None => index.unknown.push(place),
            }
        }
        index.texts.sort_unstable();
        index
    }

    /// About how many pairs there are.
    fn pairs(&self) -> usize {
        let mut pairs = self.unknown.len() * self.len;
        self.for_each_known(|_, _| {
            pairs += 1;
            pairs < MANY
        });
        pairs
    }

    fn for_each(&self, mut meet: impl FnMut(usize, usize)) {
        let mut left = MANY;
        for one in &self.unknown {
            (0..self.len).for_each(|two| meet(*one, two));
        }
        self.for_each_known(|one, two| {
            meet(one, two);
            left -= 1;
            left > 0
        });
    }

    fn for_each_known(&self, mut go_on: impl FnMut(usize, usize) -> bool) {
        for (place, (start, one)) in self.texts.iter().enumerate() {
            let later = self.texts[place + 1..].iter();
            for (_, two) in later.take_while(|(other, _)| other.starts_with(start)) {
                if !go_on(*one, *two) {
                    return;
                }
            }
        }
    }
}

/// What texts that an expression matches begin and end with, if that is known.
struct Ends {
    prefixes: Seq,
    suffixes: Seq,
}

impl Ends {
    fn of(pattern: &WholePattern) -> Self {
        let literals = |kind: ExtractKind| match regex_syntax::parse(pattern.regex().as_str()) {
            Ok(hir) => Extractor::new().kind(kind).limit_class(64).extract(&hir),
            Err(_) => Seq::infinite(),
        };
        Self { prefixes: literals(ExtractKind::Prefix), suffixes: literals(ExtractKind::Suffix) }
    }

    /// Whether one text could have the ends of both.
    fn meet(&self, other: &Self) -> bool {
        let starts = |one: &[u8], two: &[u8]| one.starts_with(two) || two.starts_with(one);
        let ends = |one: &[u8], two: &[u8]| one.ends_with(two) || two.ends_with(one);
        alike(&self.suffixes, &other.suffixes, ends)
            && alike(&self.prefixes, &other.prefixes, starts)
    }
}

/// Whether one text of each is like one of the other; those that are not known may be.
fn alike(one: &Seq, two: &Seq, are: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let (Some(one), Some(two)) = (one.literals(), two.literals()) else { return true };
    one.iter().any(|one| two.iter().any(|two| are(one.as_bytes(), two.as_bytes())))
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
