//! What is secret, and what becomes of it.

use std::borrow::Cow;
use std::collections::HashMap;

use gateway_core::telemetry::lower_hex;
use gateway_core::telemetry::redaction::{Found, MASK, Redactor, Shape};
use percent_encoding::percent_decode;
use ring::hmac;

/// What becomes of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// `***` stands in its place.
    Mask,
    /// A keyed hash: the same for the same secret, and nothing can be learnt from it.
    Hash,
    /// It is not there.
    Remove,
    /// Its last characters, behind `***`.
    KeepLast(usize),
}

/// One part of a path into JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Name(Box<str>),
    Any,
}

/// The rules, compiled.
pub(super) struct Rules {
    /// The shapes, and the names that are secret everywhere.
    pub(super) redactor: Redactor,
    /// What becomes of what stands under one of those names, if anything.
    pub(super) default_keys: Option<Action>,
    /// By names in the form in which they are compared.
    pub(super) names: HashMap<Box<[u8]>, Action>,
    /// At most 64.
    pub(super) paths: Vec<(Box<[Step]>, Action)>,
    pub(super) shapes: HashMap<Shape, Action>,
    /// By their place among the patterns of one's own.
    pub(super) own: Vec<Action>,
    pub(super) hash_key: Option<hmac::Key>,
}

/// A secret that was found by its shape, and what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) action: Action,
}

/// The longest name that is compared.
const LONGEST_NAME: usize = 64;

/// The form in which names are compared: lower case, without `-`, `_` and spaces.
pub(super) fn normalised(name: &[u8]) -> Vec<u8> {
    let kept = name.iter().filter(|byte| !matches!(byte, b'-' | b'_' | b' '));
    kept.map(u8::to_ascii_lowercase).collect()
}

/// Decoded as often as it was encoded: to encode twice hides nothing. In forms a `+` is a space.
pub(super) fn decoded(text: &[u8], form: bool) -> Cow<'_, [u8]> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..3 {
        if !text.iter().any(|byte| *byte == b'%' || form && *byte == b'+') {
            break;
        }
        let space = |byte: &u8| if form && *byte == b'+' { b' ' } else { *byte };
        let spaced: Vec<u8> = text.iter().map(space).collect();
        text = Cow::Owned(percent_decode(&spaced).collect());
    }
    text
}

impl Rules {
    /// What becomes of what stands under this name, if anything.
    pub(super) fn key(&self, name: &[u8]) -> Option<Action> {
        if !self.names.is_empty() && name.len() <= LONGEST_NAME {
            let mut buffer = [0; LONGEST_NAME];
            let mut length = 0;
            for byte in name.iter().filter(|byte| !matches!(byte, b'-' | b'_' | b' ')) {
                buffer[length] = byte.to_ascii_lowercase();
                length += 1;
            }
            if let Some(action) = self.names.get(&buffer[..length]) {
                return Some(*action);
            }
        }
        let action = self.default_keys?;
        self.redactor.is_secret_key(name).then_some(action)
    }

    /// Whether anything is removed, so that what stands around it has to be seen to.
    pub(super) fn removes_keys(&self) -> bool {
        self.default_keys == Some(Action::Remove)
            || self.names.values().any(|action| *action == Action::Remove)
            || self.paths.iter().any(|(_, action)| *action == Action::Remove)
    }

    /// All secrets that are known by their shape, in order and apart from each other.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Hit> {
        let mut found: Vec<Found> = Vec::new();
        self.redactor.find(text, &mut found);
        let mut hits: Vec<Hit> = found
            .into_iter()
            .filter_map(|Found { range, shape }| {
                Some(Hit { start: range.start, end: range.end, action: self.action(&shape)? })
            })
            .collect();
        if memchr::memchr(b'%', text).is_some() {
            self.find_encoded(text, &mut hits);
        }
        hits.sort_unstable_by_key(|hit| (hit.start, usize::MAX - hit.end));
        let mut apart: Vec<Hit> = Vec::with_capacity(hits.len());
        for hit in hits {
            match apart.last_mut() {
                // Of two that overlap nothing may be left.
                Some(last) if hit.start < last.end => {
                    if hit.end > last.end {
                        *last = Hit { end: hit.end, action: Action::Mask, ..*last };
                    }
                }
                _ => apart.push(hit),
            }
        }
        apart
    }

    /// What is secret once it is decoded, as in a URL (RFC 3986, section 2.1). Where in it the secret stands cannot be
    /// told; all of it goes that stands between two marks of a URL or a text.
    fn find_encoded(&self, text: &[u8], hits: &mut Vec<Hit>) {
        let parts = |byte: &u8| *byte <= b' ' || b"\"'<>&;?/=,(){}[]|\\^`".contains(byte);
        let ends = |byte: &u8| *byte <= b' ' || b"\"'<>".contains(byte);
        let mut from = 0;
        while let Some(found) = memchr::memchr(b'%', &text[from..]) {
            let at = from + found;
            let start =
                text[from..at].iter().rposition(parts).map_or(from, |place| from + place + 1);
            let end = at + text[at..].iter().position(parts).unwrap_or(text.len() - at);
            let plain = decoded(&text[start..end], false);
            let mut inside = Vec::new();
            self.redactor.find(&plain, &mut inside);
            let end_of = |shape: &Shape| match shape {
                // It has marks in it.
                Shape::PrivateKey => {
                    end + text[end..].iter().position(ends).unwrap_or(text.len() - end)
                }
                _ => end,
            };
            let counts = inside.iter().filter(|one| self.action(&one.shape).is_some());
            let reach = counts.map(|one| end_of(&one.shape)).max();
            if let Some(end) = reach {
                hits.push(Hit { start, end, action: Action::Mask });
            }
            from = reach.unwrap_or(end);
        }
    }

    fn action(&self, shape: &Shape) -> Option<Action> {
        match shape {
            Shape::Own(place) => self.own.get(*place).copied(),
            shape => self.shapes.get(shape).copied(),
        }
    }

    /// Writes what stands in a secret's place. It never has a character that JSON would have to escape.
    pub(super) fn write(&self, action: Action, secret: &[u8], to: &mut Vec<u8>) {
        match action {
            Action::Remove => {}
            Action::Hash if self.hash_key.is_some() => {
                let Some(key) = &self.hash_key else { return };
                let tag = hmac::sign(key, secret);
                to.extend_from_slice(b"hmac:");
                to.extend_from_slice(lower_hex(&tag.as_ref()[..16]).as_bytes());
            }
            Action::KeepLast(count) if secret.len() > count => {
                to.extend_from_slice(MASK.as_bytes());
                let last = &secret[secret.len() - count..];
                let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\".contains(byte);
                if last.iter().all(plain) && !secret.contains(&b'\\') {
                    to.extend_from_slice(last);
                }
            }
            _ => to.extend_from_slice(MASK.as_bytes()),
        }
    }

    /// A text without its secrets; `None` if it has none.
    pub(super) fn clean(&self, text: &[u8]) -> Option<Vec<u8>> {
        let hits = self.find(text);
        if hits.is_empty() {
            return None;
        }
        let mut clean = Vec::with_capacity(text.len());
        self.write_clean(text, 0, text.len(), &hits, &mut clean);
        Some(clean)
    }

    /// Writes a part of a text with what stands in place of the secrets that begin in it.
    pub(super) fn write_clean(
        &self,
        text: &[u8],
        from: usize,
        to: usize,
        hits: &[Hit],
        out: &mut Vec<u8>,
    ) {
        let mut done = from;
        for hit in hits {
            let (start, end) = (hit.start.max(done), hit.end.min(to));
            if start >= end {
                continue;
            }
            out.extend_from_slice(&text[done..start]);
            self.write(hit.action, &text[start..end], out);
            done = end;
        }
        out.extend_from_slice(&text[done..to]);
    }
}
