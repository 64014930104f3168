//! The paths of a host that has few: one after another, in the order in which they are tried.
//!
//! All of them lie side by side in memory. Where there are many hosts, a lookup waits for memory and for nothing else.

use super::{Candidate, Place, Visitor, order};
use crate::routing::pattern::{PathPattern, Segment, Template};
use crate::routing::slot::Slot;

/// With more paths than these, maps and trees take less time.
const MOST: usize = 24;
/// What stands for a capture. No path holds it.
const CAPTURE: u8 = 1;

#[derive(Debug)]
pub(super) struct Few {
    entries: Box<[Entry]>,
    /// What is compared with paths, one behind the other.
    text: Box<[u8]>,
    slots: Box<[Slot]>,
}

/// Where a path's text is, and what it is compared as. Its slot is at the same place among the slots.
#[derive(Debug)]
struct Entry {
    start: u32,
    length: u16,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Exact,
    Prefix,
    Template,
    /// A template that ends in all that is below.
    Open,
}

impl Few {
    /// Puts them in order, unless there are too many of them, or regular expressions among them.
    pub(super) fn new(
        mut listed: Vec<(PathPattern, Candidate)>,
    ) -> Result<Self, Vec<(PathPattern, Candidate)>> {
        let readable = listed.iter().all(|(path, _)| text(path).is_some());
        if !readable {
            return Err(listed);
        }
        listed.sort_by_cached_key(|(path, _)| (order(path), text(path)));
        let mut texts: Vec<(Kind, Vec<u8>)> = Vec::new();
        let mut slots: Vec<Slot> = Vec::new();
        for (path, candidate) in &listed {
            let Some(text) = text(path) else { continue };
            if texts.last() != Some(&text) {
                texts.push(text);
                slots.push(Slot::default());
            }
            if let Some(slot) = slots.last_mut() {
                slot.add(candidate.clone());
            }
            if texts.len() > MOST {
                return Err(listed);
            }
        }
        slots.iter_mut().for_each(Slot::finish);
        let mut all = Vec::new();
        let entries = texts.iter().map(|(kind, text)| {
            let start = u32::try_from(all.len()).ok()?;
            all.extend_from_slice(text);
            Some(Entry { start, length: u16::try_from(text.len()).ok()?, kind: *kind })
        });
        match entries.collect::<Option<Box<[Entry]>>>() {
            Some(entries) => Ok(Self { entries, text: all.into(), slots: slots.into() }),
            None => Err(listed),
        }
    }

    #[inline]
    pub(super) fn visit<'t>(
        &'t self,
        place: &Place<'_>,
        priority: i32,
        visitor: &mut impl Visitor<'t>,
    ) {
        let path = place.path.as_bytes();
        for (entry, slot) in self.entries.iter().zip(&self.slots) {
            let length = usize::from(entry.length);
            let start = entry.start as usize;
            let text = self.text.get(start..start + length).unwrap_or_default();
            let matches = match entry.kind {
                Kind::Exact => text == path,
                Kind::Prefix => {
                    matches!(path.get(length), None | Some(b'/')) && path.starts_with(text)
                }
                Kind::Template => walk(text, path) == Some(path.len()),
                Kind::Open => {
                    walk(text, path).is_some_and(|end| matches!(path.get(end), None | Some(b'/')))
                }
            };
            if matches {
                slot.visit(place, visitor);
                if !visitor.wants(priority) {
                    return;
                }
            }
        }
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

/// How much of a path a template's text stands for.
fn walk(text: &[u8], path: &[u8]) -> Option<usize> {
    let mut at = 0;
    for &byte in text {
        if byte == CAPTURE {
            let rest = path.get(at..).unwrap_or_default();
            let end = memchr::memchr(b'/', rest).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            at += end;
        } else if path.get(at) == Some(&byte) {
            at += 1;
        } else {
            return None;
        }
    }
    Some(at)
}

/// What is compared with paths; `None` for a regular expression.
fn text(path: &PathPattern) -> Option<(Kind, Vec<u8>)> {
    Some(match path {
        PathPattern::Any => (Kind::Prefix, Vec::new()),
        PathPattern::Exact(path) => (Kind::Exact, path.as_bytes().to_vec()),
        PathPattern::Prefix(prefix) => {
            (Kind::Prefix, prefix.trim_end_matches('/').as_bytes().to_vec())
        }
        PathPattern::Template(template) => {
            let text = segments(template);
            let kind = match template.is_open() {
                // It is the prefix that it says.
                true if !text.contains(&CAPTURE) => Kind::Prefix,
                true => Kind::Open,
                false => Kind::Template,
            };
            (kind, text)
        }
        PathPattern::Regex(_) => return None,
    })
}

fn segments(template: &Template) -> Vec<u8> {
    let mut text = Vec::new();
    for segment in template.segments() {
        text.push(b'/');
        match segment {
            Segment::Literal(literal) => text.extend_from_slice(literal.as_bytes()),
            Segment::Capture(_) => text.push(CAPTURE),
        }
    }
    text
}
