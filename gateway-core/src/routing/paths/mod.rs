//! The paths of one host: exact ones, templates, regular expressions, and prefixes on segment
//! boundaries, in this order.

mod few;
mod many;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use few::Few;
use many::Many;

use super::methods::MethodSet;
use super::pattern::{PathPattern, Segment, Template};
use super::rules::Rules;
use super::slot::Slot;
use super::table::RouteIndex;
use crate::config::WholePattern;
use crate::plugin::Facts;

/// Keys come from clients, so the hash is keyed at random.
pub(super) type Map<V> = HashMap<Box<str>, V, ahash::RandomState>;

/// One route, as seen at the end of a host and a path.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) route: RouteIndex,
    pub(super) priority: i32,
    pub(super) methods: MethodSet,
    /// What it asks besides, if anything.
    pub(super) rules: Option<Arc<Rules>>,
}

/// Where candidates are looked for.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    /// Candidates that ask for other values may be left out; without it none is.
    pub(super) facts: Option<Facts<'a>>,
}

/// Who is shown candidates, most specific first within a priority.
pub(super) trait Visitor<'t> {
    /// Whether a candidate of this priority can still be of interest.
    fn wants(&self, priority: i32) -> bool;
    fn visit(&mut self, candidate: &'t Candidate);

    /// Whether it is worth trying so many regular expressions.
    fn tries(&self, _expressions: usize) -> bool {
        true
    }
}

/// What a list has for a regular expression. In the list they stand as they are tried: longer ones first.
pub(super) fn at_pattern<'l, T: Default>(
    list: &'l mut Vec<(WholePattern, T)>,
    pattern: &WholePattern,
) -> &'l mut T {
    let key = |pattern: &WholePattern| Reverse(pattern.source().len());
    let place = list.binary_search_by(|(held, _)| {
        key(held).cmp(&key(pattern)).then_with(|| held.source().cmp(pattern.source()))
    });
    let place = place.unwrap_or_else(|place| {
        list.insert(place, (pattern.clone(), T::default()));
        place
    });
    &mut list[place].1
}

/// The candidates of one host, by path.
#[derive(Debug)]
pub(super) struct Paths {
    /// The highest priority in it.
    priority: i32,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// Until all are there.
    Listed(Vec<(PathPattern, Candidate)>),
    Few(Few),
    Many(Box<Many>),
}

impl Default for Paths {
    fn default() -> Self {
        Self { priority: i32::MIN, kept: Kept::Listed(Vec::new()) }
    }
}

impl Paths {
    pub(super) fn add(&mut self, path: &PathPattern, candidate: Candidate) {
        self.priority = self.priority.max(candidate.priority);
        if let Kept::Listed(listed) = &mut self.kept {
            listed.push((path.clone(), candidate));
        }
    }

    /// Puts all candidates in order, once all are there.
    pub(super) fn finish(&mut self) {
        let Kept::Listed(listed) = &mut self.kept else { return };
        self.kept = match Few::new(std::mem::take(listed)) {
            Ok(few) => Kept::Few(few),
            Err(listed) => {
                let mut many = Many::default();
                listed.into_iter().for_each(|(path, candidate)| many.add(&path, candidate));
                many.finish();
                Kept::Many(Box::new(many))
            }
        };
    }

    /// Shows the candidates whose path matches, most specific first, while any is wanted.
    #[inline]
    pub(super) fn visit<'t>(&'t self, place: &Place<'_>, visitor: &mut impl Visitor<'t>) {
        if !visitor.wants(self.priority) {
            return;
        }
        match &self.kept {
            Kept::Few(few) => few.visit(place, self.priority, visitor),
            Kept::Many(many) => many.visit(place, self.priority, visitor),
            Kept::Listed(_) => {}
        }
    }

    /// The highest priority in it.
    pub(super) fn priority(&self) -> i32 {
        self.priority
    }

    /// Every group of candidates that the same paths lead to, but for regular expressions.
    pub(super) fn slots(&self) -> Vec<&Slot> {
        match &self.kept {
            Kept::Few(few) => few.slots().iter().collect(),
            Kept::Many(many) => many.slots(),
            Kept::Listed(_) => Vec::new(),
        }
    }

    /// The regular expressions, longer ones first.
    pub(super) fn regexes(&self) -> &[(WholePattern, Slot)] {
        match &self.kept {
            Kept::Many(many) => many.regexes(),
            Kept::Few(_) | Kept::Listed(_) => &[],
        }
    }
}

/// How specific a path is among those that match the same: what is less goes first.
pub(super) fn order(path: &PathPattern) -> (u8, Reverse<usize>, Vec<u8>) {
    let kinds = |template: &Template, end: &[u8]| {
        let kind = |segment: &Segment| u8::from(matches!(segment, Segment::Capture(_)));
        template.segments().iter().map(kind).chain(end.iter().copied()).collect()
    };
    let prefix = |prefix: &str| {
        let prefix = prefix.trim_end_matches('/');
        let mut kinds = vec![0; prefix.matches('/').count()];
        kinds.push(2);
        kinds
    };
    match path {
        PathPattern::Exact(_) => (0, Reverse(0), Vec::new()),
        PathPattern::Template(template) if template.is_open() => {
            (3, Reverse(0), kinds(template, &[2]))
        }
        PathPattern::Template(template) => (1, Reverse(0), kinds(template, &[])),
        PathPattern::Regex(pattern) => (2, Reverse(pattern.source().len()), Vec::new()),
        PathPattern::Prefix(text) => (3, Reverse(0), prefix(text)),
        PathPattern::Any => (3, Reverse(0), prefix("")),
    }
}
