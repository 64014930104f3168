//! Sets of request methods: those a route lists, and those a 405 names.

use std::fmt;

use http::Method;

/// The methods a route lists; empty means all.
#[derive(Clone, Debug, Default)]
pub(super) struct MethodSet {
    known: u16,
    others: Box<[Method]>,
}

static KNOWN: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
    Method::OPTIONS,
    Method::CONNECT,
    Method::TRACE,
];

/// A method and its place among the known ones, looked up once a request.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    method: &'a Method,
    bit: u16,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(method: &'a Method) -> Self {
        Self { method, bit: bit(method) }
    }
}

fn bit(method: &Method) -> u16 {
    KNOWN.iter().position(|known| known == method).map_or(0, |place| 1 << place)
}

impl MethodSet {
    pub(super) fn new(methods: &[Method]) -> Self {
        Self {
            known: methods.iter().map(bit).fold(0, |set, bit| set | bit),
            others: methods.iter().filter(|method| bit(method) == 0).cloned().collect(),
        }
    }

    /// Whether the route lists no method and so takes any.
    pub(super) fn is_any(&self) -> bool {
        self.known == 0 && self.others.is_empty()
    }

    pub(super) fn lists(&self, wanted: Wanted<'_>) -> bool {
        self.known & wanted.bit != 0
            || wanted.bit == 0 && self.others.iter().any(|method| method == wanted.method)
    }

    /// Whether both take some method.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.is_any()
            || other.is_any()
            || self.known & other.known != 0
            || self.others.iter().any(|method| other.others.contains(method))
    }

    fn iter(&self) -> impl Iterator<Item = &Method> {
        let known = KNOWN.iter().enumerate().filter(|(place, _)| self.known & (1 << place) != 0);
        known.map(|(_, method)| method).chain(&self.others)
    }
}

/// What a 405 says is allowed: sorted, each once. Its text is the value of the `allow` field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedMethods(Vec<Method>);

impl AllowedMethods {
    /// The methods, sorted by name.
    pub fn as_slice(&self) -> &[Method] {
        &self.0
    }

    pub(super) fn add(&mut self, set: &MethodSet) {
        for method in set.iter() {
            let name = |known: &Method| known.as_str().cmp(method.as_str());
            if let Err(place) = self.0.binary_search_by(name) {
                self.0.insert(place, method.clone());
            }
        }
    }
}

impl fmt::Display for AllowedMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, method) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{method}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lists_what_it_was_made_of() {
        let purge = Method::from_bytes(b"PURGE").unwrap();
        let set = MethodSet::new(&[Method::GET, purge.clone()]);

        assert!(set.lists(Wanted::new(&Method::GET)));
        assert!(set.lists(Wanted::new(&purge)));
        assert!(!set.lists(Wanted::new(&Method::HEAD)));
        assert!(!set.lists(Wanted::new(&Method::from_bytes(b"LINK").unwrap())));
        assert!(!set.is_any());
        assert!(MethodSet::new(&[]).is_any());
    }

    #[test]
    fn allowed_methods_are_sorted_and_named_once() {
        let mut allowed = AllowedMethods::default();
        allowed.add(&MethodSet::new(&[Method::POST, Method::GET]));
        allowed.add(&MethodSet::new(&[Method::GET, Method::from_bytes(b"LINK").unwrap()]));

        assert_eq!(allowed.to_string(), "GET, LINK, POST");
    }
}
