//! Pairs of names and values, as in queries and forms (`application/x-www-form-urlencoded`).

use std::borrow::Cow;

use super::Unreadable;
use super::rules::{Action, Rules, decoded};

/// A single pair that is longer is not held.
const LONGEST: usize = 4 << 20;

/// A form on its way.
#[derive(Default)]
pub(super) struct Form {
    held: Vec<u8>,
    /// So much of it has been looked through for the end of a pair.
    seen: usize,
    /// A pair was written.
    written: bool,
    /// What stands before the next pair: `&`, or `;` as older forms have it.
    before: u8,
    /// That was the last that came.
    parted: bool,
}

impl Form {
    /// Takes a chunk, and writes the pairs that have ended.
    pub(super) fn push(
        &mut self,
        rules: &Rules,
        chunk: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        self.held.extend_from_slice(chunk);
        let end = memchr::memrchr2(b'&', b';', &self.held[self.seen..]);
        let cut = match end {
            _ if last => self.held.len(),
            Some(at) => self.seen + at + 1,
            None => 0,
        };
        if self.held.len() - cut > LONGEST {
            return Err(Unreadable::Because("a value of it is too long"));
        }
        let mut from = 0;
        while from < cut {
            let rest = &self.held[from..cut];
            let end = memchr::memchr2(b'&', b';', rest);
            let pair = &rest[..end.unwrap_or(rest.len())];
            if let Some(clean) = pair_without_secrets(rules, pair) {
                // What stood before it, unless nothing is left of what stood before that.
                out.extend(self.written.then_some(self.before));
                out.extend_from_slice(&clean);
                self.written = true;
            }
            from += pair.len() + 1;
            self.before = end.map_or(b'&', |end| rest[end]);
            self.parted = end.is_some();
        }
        if last && self.parted && self.written {
            out.push(self.before);
        }
        self.held.drain(..cut);
        self.seen = self.held.len();
        Ok(())
    }
}

/// A pair without its secrets; `None` if nothing is left of it.
fn pair_without_secrets<'a>(rules: &Rules, pair: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    if pair.is_empty() {
        return Some(Cow::Borrowed(pair));
    }
    let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
    let (name, value) = (&pair[..equals], pair.get(equals + 1..).unwrap_or_default());
    let action = rules.key(&decoded(name, true)).filter(|_| !value.is_empty());
    let mut masked = Vec::new();
    rules.write(Action::Mask, &[], &mut masked);
    let shown_name = match rules.clean(&decoded(name, true)) {
        Some(_) => Cow::Owned(masked.clone()),
        None => Cow::Borrowed(name),
    };
    let shown_value = match action {
        Some(Action::Remove) => return None,
        Some(action) => {
            let mut hidden = Vec::new();
            rules.write(action, value, &mut hidden);
            Cow::Owned(hidden)
        }
        None => match decoded(value, true) {
            Cow::Borrowed(value) => rules.clean(value).map_or(Cow::Borrowed(value), Cow::Owned),
            // Where in the text it stands cannot be told; all of it goes.
            Cow::Owned(plain) if rules.clean(&plain).is_some() => Cow::Owned(masked),
            Cow::Owned(_) if rules.clean(value).is_some() => Cow::Owned(masked),
            Cow::Owned(_) => Cow::Borrowed(value),
        },
    };
    match (&shown_name, &shown_value) {
        (Cow::Borrowed(_), Cow::Borrowed(_)) => Some(Cow::Borrowed(pair)),
        _ => Some(Cow::Owned([&shown_name, &b"="[..], &shown_value].concat())),
    }
}

/// A query without its secrets; `None` if it has none.
pub(super) fn query(rules: &Rules, query: &str) -> Option<String> {
    let mut clean = Vec::with_capacity(query.len());
    // A query is never too long to be held.
    Form::default().push(rules, query.as_bytes(), true, &mut clean).ok()?;
    (clean != query.as_bytes()).then(|| String::from_utf8_lossy(&clean).into_owned())
}
