//! Pairs of names and values, as in queries and forms (`application/x-www-form-urlencoded`).

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::Unreadable;
use super::rules::{Action, Rules};

/// A single pair that is longer is not held.
const LONGEST: usize = 4 << 20;

/// A form on its way.
#[derive(Default)]
pub(super) struct Form {
    held: Vec<u8>,
    /// A pair was written.
    written: bool,
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
        let cut = match memchr::memrchr(b'&', &self.held) {
            _ if last => self.held.len(),
            Some(at) => at,
            None if self.held.len() > LONGEST => {
                return Err(Unreadable("a value of it is too long"));
            }
            None => return Ok(()),
        };
        for pair in self.held[..cut].split(|byte| *byte == b'&') {
            // What was held begins with the sign that ended the pair before.
            if pair.is_empty() {
                continue;
            }
            if let Some(clean) = pair_without_secrets(rules, pair) {
                if self.written {
                    out.push(b'&');
                }
                out.extend_from_slice(&clean);
                self.written = true;
            }
        }
        self.held.drain(..cut);
        Ok(())
    }
}

/// A pair without its secrets; `None` if nothing is left of it.
fn pair_without_secrets<'a>(rules: &Rules, pair: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
    let (name, value) = (&pair[..equals], pair.get(equals + 1..).unwrap_or_default());
    let action = rules.key(&decoded(name)).filter(|_| !value.is_empty());
    let mut masked = Vec::new();
    rules.write(Action::Mask, &[], &mut masked);
    let shown_name = match rules.clean(&decoded(name)) {
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
        None => match rules.clean(value) {
            Some(clean) => Cow::Owned(clean),
            None if rules.clean(&decoded(value)).is_some() => Cow::Owned(masked),
            None => Cow::Borrowed(value),
        },
    };
    match (&shown_name, &shown_value) {
        (Cow::Borrowed(_), Cow::Borrowed(_)) => Some(Cow::Borrowed(pair)),
        _ => Some(Cow::Owned([&shown_name, &b"="[..], &shown_value].concat())),
    }
}

/// Decoded as often as it was encoded: to encode twice hides nothing.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..3 {
        if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
            break;
        }
        let spaced: Vec<u8> =
            text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        text = Cow::Owned(percent_decode(&spaced).collect());
    }
    text
}

/// A query without its secrets; `None` if it has none.
pub(super) fn query(rules: &Rules, query: &str) -> Option<String> {
    let mut clean = Vec::with_capacity(query.len());
    // A query is never too long to be held.
    Form::default().push(rules, query.as_bytes(), true, &mut clean).ok()?;
    (clean != query.as_bytes()).then(|| String::from_utf8_lossy(&clean).into_owned())
}
