//! The candidates that one host and one path lead to, in the order in which they are tried.

use http::Method;
use smallvec::SmallVec;

use super::methods::Wanted;
use super::paths::{Candidate, Map, Place, Visitor};
use super::rules::Strictness;
use crate::plugin::Attribute;

/// More candidates than these are found by a value that most of them ask for.
const FEW: usize = 16;

/// The candidates of one host and one path.
#[derive(Debug, Default)]
pub(super) struct Slot {
    candidates: SmallVec<[Candidate; 1]>,
    index: Option<Box<ValueIndex>>,
}

/// Candidates by the text that they ask of one attribute.
#[derive(Debug)]
struct ValueIndex {
    of: Attribute,
    /// Their places, ascending.
    values: Map<Vec<u32>>,
    /// The places of those that ask for no text of it.
    rest: Vec<u32>,
}

/// How specific a candidate is among those of its slot: what is less goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    priority: std::cmp::Reverse<i32>,
    any_method: bool,
    rules: Strictness,
}

impl Candidate {
    pub(super) fn rank(&self) -> Rank {
        let none = super::rules::Rules::default();
        Rank {
            priority: std::cmp::Reverse(self.priority),
            any_method: self.methods.is_any(),
            rules: self.rules.as_deref().unwrap_or(&none).strictness(),
        }
    }
}

impl Slot {
    pub(super) fn add(&mut self, candidate: Candidate) {
        self.candidates.push(candidate);
    }

    /// Takes over the candidates of another slot.
    pub(super) fn take(&mut self, other: Self) {
        self.candidates.extend(other.candidates);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    pub(super) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The highest priority of its candidates.
    pub(super) fn priority(&self) -> i32 {
        self.candidates.first().map_or(i32::MIN, |first| first.priority)
    }

    /// Puts the candidates in order, once all are there. Of those of one rank the ones that list OPTIONS go first, of which
    /// preflights make use, and then the order of listing decides.
    pub(super) fn finish(&mut self) {
        self.candidates.shrink_to_fit();
        if self.candidates.len() > 1 {
            let options = Wanted::new(&Method::OPTIONS);
            let key = |one: &Candidate| (one.rank(), !one.methods.lists(options), one.route);
            self.candidates.sort_by_cached_key(key);
        }
        if self.candidates.len() > FEW {
            self.index = ValueIndex::new(&self.candidates).map(Box::new);
        }
    }

    /// Shows the candidates while any is wanted; those that ask for another text may be left out.
    pub(super) fn visit<'t>(&'t self, place: &Place<'_>, visitor: &mut impl Visitor<'t>) {
        let (Some(index), Some(facts)) = (&self.index, &place.facts) else {
            return self.show(self.candidates.iter(), visitor);
        };
        index.of.with_text(facts, |text| {
            let known = text.and_then(|text| index.values.get(text));
            let places = Merged { one: known.map_or(&[], |known| known), two: &index.rest };
            let found = places.filter_map(|place| self.candidates.get(place as usize));
            self.show(found, visitor);
        });
    }

    fn show<'t>(
        &'t self,
        candidates: impl Iterator<Item = &'t Candidate>,
        visitor: &mut impl Visitor<'t>,
    ) {
        for candidate in candidates {
            if !visitor.wants(candidate.priority) {
                return;
            }
            visitor.visit(candidate);
        }
    }

    /// Groups of candidates, of which none of one group can match what one of another does; those of
    /// the first may match what any does.
    pub(super) fn groups(&self) -> (Vec<&Candidate>, Vec<Vec<&Candidate>>) {
        let Some(index) = &self.index else {
            return (self.candidates.iter().collect(), Vec::new());
        };
        let at = |places: &Vec<u32>| {
            places.iter().filter_map(|place| self.candidates.get(*place as usize)).collect()
        };
        (at(&index.rest), index.values.values().map(at).collect())
    }
}

impl ValueIndex {
    /// By the attribute of which the most candidates ask for a text, if enough do.
    fn new(candidates: &[Candidate]) -> Option<Self> {
        let asked = candidates.iter().flat_map(|one| one.rules.as_deref()).flat_map(|rules| {
            rules.values.iter().map(|rule| &rule.of).filter(|of| rules.exact(of).is_some())
        });
        let mut counts: Vec<(&Attribute, usize)> = Vec::new();
        for of in asked {
            match counts.iter_mut().find(|(held, _)| *held == of) {
                Some((_, count)) => *count += 1,
                None => counts.push((of, 1)),
            }
        }
        let (of, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        if count <= FEW {
            return None;
        }
        let mut index = Self { of: of.clone(), values: Map::default(), rest: Vec::new() };
        for (candidate, place) in candidates.iter().zip(0..) {
            match candidate.rules.as_deref().and_then(|rules| rules.exact(of)) {
                Some(text) => index.values.entry(text.into()).or_default().push(place),
                None => index.rest.push(place),
            }
        }
        Some(index)
    }
}

/// Two ascending lists as one.
struct Merged<'a> {
    one: &'a [u32],
    two: &'a [u32],
}

impl Iterator for Merged<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let list = match (self.one.first(), self.two.first()) {
            (Some(one), Some(two)) if one > two => &mut self.two,
            (None, _) => &mut self.two,
            (Some(_), _) => &mut self.one,
        };
        let (first, rest) = list.split_first()?;
        *list = rest;
        Some(*first)
    }
}
