//! The paths of one host: exact ones, and prefixes on segment boundaries.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::methods::MethodSet;
use super::table::{PathSpec, RouteIndex};

/// Keys come from clients, so the hash is keyed at random.
pub(super) type Map<V> = HashMap<Box<str>, V, ahash::RandomState>;

/// One route, as seen at the end of a host and a path.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) route: RouteIndex,
    pub(super) methods: MethodSet,
    /// Empty means all.
    pub(super) listeners: Box<[u16]>,
}

/// The candidates of one host, by path.
#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: Map<Vec<Candidate>>,
    prefixes: Map<Vec<Candidate>>,
    /// The length of the longest exact path.
    longest: usize,
    /// The lengths of all prefixes, longest first. Only these and [`Self::longest`] are looked up,
    /// so that the work is bounded by the configuration and not by the path.
    lengths: Vec<usize>,
}

impl Paths {
    pub(super) fn add(&mut self, path: &PathSpec, candidate: Candidate) {
        let candidates = match path {
            PathSpec::Exact(path) => {
                self.longest = self.longest.max(path.len());
                self.exact.entry(path.as_str().into()).or_default()
            }
            PathSpec::Prefix(prefix) => self.prefix(prefix.trim_end_matches('/')),
            PathSpec::Any => self.prefix(""),
        };
        candidates.push(candidate);
        // Stable: what lists methods goes before what does not, then the order of listing.
        candidates.sort_by_key(|candidate| candidate.methods.is_any());
    }

    fn prefix(&mut self, prefix: &str) -> &mut Vec<Candidate> {
        if let Err(place) = self.lengths.binary_search_by(|length| prefix.len().cmp(length)) {
            self.lengths.insert(place, prefix.len());
        }
        self.prefixes.entry(prefix.into()).or_default()
    }

    /// Visits the candidates that match the path, most specific first, until one breaks.
    pub(super) fn visit<'t, B>(
        &'t self,
        path: &str,
        visit: &mut impl FnMut(&'t Candidate) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let known = if path.len() <= self.longest { self.exact.get(path) } else { None };
        if let Some(candidates) = known {
            candidates.iter().try_for_each(&mut *visit)?;
        }
        for &length in &self.lengths {
            let Some(prefix) = on_boundary(path, length) else {
                continue;
            };
            if let Some(candidates) = self.prefixes.get(prefix) {
                candidates.iter().try_for_each(&mut *visit)?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// The first bytes of the path, if a segment ends there.
fn on_boundary(path: &str, length: usize) -> Option<&str> {
    match path.as_bytes().get(length) {
        None | Some(b'/') => path.get(..length),
        Some(_) => None,
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
        let mut paths = Paths::default();
        for prefix in ["/a", "/", "/a/b", "/b/", "/c"] {
            let candidate = Candidate {
                route: RouteIndex(0),
                methods: MethodSet::new(&[]),
                listeners: [].into(),
            };
            paths.add(&PathSpec::Prefix(prefix.into()), candidate);
        }

        assert_eq!(paths.lengths, [4, 2, 0]);
    }
}
