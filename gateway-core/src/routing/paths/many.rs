//! The paths of a host that has many: maps of exact ones and prefixes, trees of templates.

use super::{Candidate, Map, Place, Visitor, at_pattern};
use crate::config::WholePattern;
use crate::routing::pattern::{PathPattern, Segment, Template};
use crate::routing::slot::Slot;

/// The candidates of one host, by path.
#[derive(Debug, Default)]
pub(super) struct Many {
    exact: Map<Slot>,
    templates: Node,
    /// Longer ones first.
    regexes: Vec<(WholePattern, Slot)>,
    prefixes: Map<Slot>,
    /// Templates that end in `{*rest}`, and the prefixes of a host that has any of these.
    open: Option<Node>,
    /// The length of the longest exact path.
    longest: usize,
    /// The lengths of all prefixes, longest first. Only these and [`Self::longest`] are looked up,
    /// so that the work is bounded by the configuration and not by the path.
    lengths: Vec<usize>,
}

impl Many {
    pub(super) fn add(&mut self, path: &PathPattern, candidate: Candidate) {
        self.slot(path).add(candidate);
    }

    fn slot(&mut self, path: &PathPattern) -> &mut Slot {
        match path {
            PathPattern::Any => self.prefix(""),
            PathPattern::Prefix(prefix) => self.prefix(prefix.trim_end_matches('/')),
            PathPattern::Exact(path) => {
                self.longest = self.longest.max(path.len());
                self.exact.entry(path.clone()).or_default()
            }
            PathPattern::Template(template) if template.is_open() => {
                self.open.get_or_insert_default().at(template)
            }
            PathPattern::Template(template) => self.templates.at(template),
            PathPattern::Regex(pattern) => at_pattern(&mut self.regexes, pattern),
        }
    }

    fn prefix(&mut self, prefix: &str) -> &mut Slot {
        if let Err(place) = self.lengths.binary_search_by(|length| prefix.len().cmp(length)) {
            self.lengths.insert(place, prefix.len());
        }
        self.prefixes.entry(prefix.into()).or_default()
    }

    /// Puts all candidates in order, once all are there.
    pub(super) fn finish(&mut self) {
        if let Some(open) = &mut self.open {
            self.lengths.clear();
            for (prefix, slot) in self.prefixes.drain() {
                open.at_prefix(&prefix).take(slot);
            }
            open.finish();
        }
        self.exact.values_mut().for_each(Slot::finish);
        self.templates.finish();
        self.regexes.iter_mut().for_each(|(_, slot)| slot.finish());
        self.prefixes.values_mut().for_each(Slot::finish);
    }

    /// Shows the candidates whose path matches, most specific first, while any is wanted.
    pub(super) fn visit<'t>(
        &'t self,
        place: &Place<'_>,
        priority: i32,
        visitor: &mut impl Visitor<'t>,
    ) {
        let path = place.path;
        let known = if path.len() <= self.longest { self.exact.get(path) } else { None };
        if let Some(slot) = known {
            slot.visit(place, visitor);
        }
        let below = path.get(1..).unwrap_or_default();
        if !self.templates.is_empty() && visitor.wants(priority) {
            self.templates.visit_ends(Some(below), place, visitor);
        }
        let regexes = if visitor.tries(self.regexes.len()) { &*self.regexes } else { &[] };
        for (pattern, slot) in regexes {
            if visitor.wants(slot.priority()) && pattern.regex().is_match(path) {
                slot.visit(place, visitor);
            }
        }
        if let Some(open) = &self.open {
            return open.visit_prefixes(Some(below), place, visitor);
        }
        for &length in &self.lengths {
            if !visitor.wants(priority) {
                return;
            }
            let Some(prefix) = on_boundary(path, length) else { continue };
            if let Some(slot) = self.prefixes.get(prefix) {
                slot.visit(place, visitor);
            }
        }
    }

    /// Every group of candidates that the same paths lead to, but for regular expressions.
    pub(super) fn slots(&self) -> Vec<&Slot> {
        let mut slots: Vec<&Slot> = self.exact.values().chain(self.prefixes.values()).collect();
        self.templates.slots(&mut slots);
        if let Some(open) = &self.open {
            open.slots(&mut slots);
        }
        slots
    }

    /// The regular expressions, longer ones first.
    pub(super) fn regexes(&self) -> &[(WholePattern, Slot)] {
        &self.regexes
    }
}

/// The first bytes of the path, if a segment ends there.
fn on_boundary(path: &str, length: usize) -> Option<&str> {
    match path.as_bytes().get(length) {
        None | Some(b'/') => path.get(..length),
        Some(_) => None,
    }
}

/// Templates by their segments. The way to a node is the one way to it, so that a lookup sees each
/// at most once.
#[derive(Debug, Default)]
struct Node {
    literals: Map<Node>,
    capture: Option<Box<Node>>,
    slot: Slot,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.capture.is_none() && self.slot.is_empty()
    }

    fn at(&mut self, template: &Template) -> &mut Slot {
        let mut node = self;
        for segment in template.segments() {
            node = match segment {
                Segment::Literal(literal) => node.literals.entry(literal.clone()).or_default(),
                Segment::Capture(_) => node.capture.get_or_insert_default(),
            };
        }
        &mut node.slot
    }

    fn at_prefix(&mut self, prefix: &str) -> &mut Slot {
        let mut node = self;
        for segment in prefix.split('/').skip(1) {
            node = node.literals.entry(segment.into()).or_default();
        }
        &mut node.slot
    }

    fn finish(&mut self) {
        self.slot.finish();
        self.literals.values_mut().for_each(Self::finish);
        if let Some(capture) = &mut self.capture {
            capture.finish();
        }
    }

    /// Shows what ends where the path ends. `rest` is what is left of it, without the slash before it.
    fn visit_ends<'t>(
        &'t self,
        rest: Option<&str>,
        place: &Place<'_>,
        visitor: &mut impl Visitor<'t>,
    ) {
        let Some(rest) = rest else { return self.slot.visit(place, visitor) };
        let (segment, rest) = split(rest);
        if let Some(node) = self.literals.get(segment) {
            node.visit_ends(rest, place, visitor);
        }
        if let Some(node) = self.capture.as_ref().filter(|_| !segment.is_empty()) {
            node.visit_ends(rest, place, visitor);
        }
    }

    /// Shows what the path begins with, longest first.
    fn visit_prefixes<'t>(
        &'t self,
        rest: Option<&str>,
        place: &Place<'_>,
        visitor: &mut impl Visitor<'t>,
    ) {
        if let Some(rest) = rest {
            let (segment, rest) = split(rest);
            if let Some(node) = self.literals.get(segment) {
                node.visit_prefixes(rest, place, visitor);
            }
            if let Some(node) = self.capture.as_ref().filter(|_| !segment.is_empty()) {
                node.visit_prefixes(rest, place, visitor);
            }
        }
        self.slot.visit(place, visitor);
    }

    fn slots<'t>(&'t self, slots: &mut Vec<&'t Slot>) {
        slots.push(&self.slot);
        let capture = self.capture.as_deref();
        self.literals.values().chain(capture).for_each(|node| node.slots(slots));
    }
}

/// The first segment, and what follows the slash behind it.
fn split(rest: &str) -> (&str, Option<&str>) {
    match memchr::memchr(b'/', rest.as_bytes()) {
        Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
        None => (rest, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_segment_ends() {
        assert_eq!(on_boundary("/api", 4), Some("/api"));
        assert_eq!(on_boundary("/api/x", 4), Some("/api"));
        assert_eq!(on_boundary("/apiary", 4), None);
        assert_eq!(on_boundary("/a", 4), None);
        assert_eq!(on_boundary("/a", 0), Some(""));
    }

    #[test]
    fn lengths_are_kept_once_and_longest_first() {
        let mut paths = Many::default();
        for prefix in ["/a", "/", "/a/b", "/b/", "/c"] {
            paths.slot(&PathPattern::Prefix(prefix.into()));
        }

        assert_eq!(paths.lengths, [4, 2, 0]);
    }
}
