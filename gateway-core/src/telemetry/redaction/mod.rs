//! Redaction: the one rule set that keeps secrets out of everything the gateway shows.
//!
//! Two things make a text secret: the name it stands under (`keys`) and its own shape (`patterns`).
//! What is found becomes `***`; what is not is handed back borrowed. Numbers glued to letters or
//! other digits are taken for ids and left alone.

mod decode;
mod numbers;
mod patterns;

use crate::config::{RedactionConfig, secret_name};
use decode::with_decoded;
use patterns::Patterns;
pub use patterns::{Found, Shape};
use regex::bytes::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::ops::Range;

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// The rules: default keys and patterns, and what an operator adds. Build once, share by `Arc`.
#[derive(Debug)]
pub struct Redactor {
    keys: Vec<String>,
    patterns: Patterns,
}

impl Redactor {
    /// The default rules, and more keys and patterns on top.
    pub fn new(keys: impl IntoIterator<Item = impl AsRef<str>>, patterns: Vec<Regex>) -> Redactor {
        let keys = keys.into_iter().map(|key| secret_name::normalise(key.as_ref())).collect();
        Redactor { keys, patterns: Patterns::new(patterns) }
    }

    /// A name in the form in which names are compared: lower-case, without `-`, `_` and spaces.
    pub fn normalise(name: &str) -> String {
        secret_name::normalise(name)
    }

    /// Whether what stands under this name is secret. Case, `-` and `_` make no difference; the
    /// parts of `user[password]` and `user.password` count each.
    pub fn is_secret_key(&self, name: impl AsRef<[u8]>) -> bool {
        secret_name::is_secret(name.as_ref(), &self.keys)
    }

    /// Appends every secret that is known by its shape, percent-encoded ones not among them; places may
    /// overlap.
    pub fn find(&self, text: &[u8], found: &mut Vec<Found>) {
        self.patterns.find(text, found);
    }

    /// A header's value: masked whole under a secret name, else as [`Redactor::text`].
    pub fn header<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        match self.is_secret_key(name) && !value.is_empty() {
            true => Cow::Borrowed(MASK),
            false => self.text(value),
        }
    }

    /// A raw query: values of secret keys, and secrets anywhere, percent-encoded or not.
    pub fn query<'a>(&self, query: &'a str) -> Cow<'a, str> {
        self.redact(query, Pieces::Query)
    }

    /// A path: secrets in its segments and values of secret `;key=value` parameters.
    pub fn path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        self.redact(path, Pieces::Path)
    }

    /// Free text: secrets by their shape alone, percent-encoded or not.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.redact(text, Pieces::Text)
    }

    fn redact<'a>(&self, text: &'a str, pieces: Pieces) -> Cow<'a, str> {
        let mut shapes = Vec::new();
        self.patterns.find(text.as_bytes(), &mut shapes);
        let mut found: Vec<Range<usize>> = shapes.into_iter().map(|one| one.range).collect();
        if pieces.are_worth_a_look(text) {
            let mut start = 0;
            for piece in text.split(|c| pieces.separates(c)) {
                self.piece(piece, start, pieces, &mut found);
                start += piece.len() + 1;
            }
        }
        match found.is_empty() {
            true => Cow::Borrowed(text),
            false => Cow::Owned(mask(text, found)),
        }
    }

    /// Looks at what a pattern over the whole text cannot see: names and percent-encoding.
    fn piece(&self, piece: &str, start: usize, pieces: Pieces, found: &mut Vec<Range<usize>>) {
        let (key, value) = match piece.split_once('=') {
            Some((key, value)) if pieces != Pieces::Text => (key, value),
            _ => ("", piece),
        };
        let value_start = start + piece.len() - value.len();
        let plus = pieces == Pieces::Query;
        let secret_key = !key.is_empty()
            && match is_encoded(key, plus) {
                false => self.is_secret_key(key),
                true => with_decoded(key, plus, |key| secret_name::is_secret(key, &self.keys)),
            };
        if secret_key && !value.is_empty() || self.hides_a_secret(value, plus) {
            found.push(value_start..value_start + value.len());
        }
        if self.hides_a_secret(key, plus) {
            found.push(start..start + key.len());
        }
    }

    fn hides_a_secret(&self, text: &str, plus: bool) -> bool {
        is_encoded(text, plus) && with_decoded(text, plus, |text| self.patterns.is_in(text))
    }
}

/// Compiles a pattern of an operator's own.
///
/// # Errors
/// It is no regular expression, it is too large, or it finds nothing as well as something; the message says which.
pub fn pattern(source: &str) -> Result<Regex, String> {
    const COMPILED_BYTES: usize = 1 << 20;
    let built = RegexBuilder::new(source).size_limit(COMPILED_BYTES).build();
    let built = built.map_err(|error| {
        // The regex crate draws the pattern over several lines; the last one says what is wrong.
        let text = error.to_string();
        let said = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("not a regular expression: {said}")
    })?;
    if built.is_match(b"") {
        return Err("it finds nothing as well as something".to_owned());
    }
    Ok(built)
}

/// The patterns of a config, which was checked.
pub(crate) fn patterns_of(config: &RedactionConfig) -> Vec<Regex> {
    config.patterns.iter().filter_map(|source| pattern(source).ok()).collect()
}

impl Default for Redactor {
    fn default() -> Redactor {
        Redactor::new([""; 0], Vec::new())
    }
}

/// How a text falls into pieces that are decoded one by one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pieces {
    Query,
    Path,
    Text,
}

impl Pieces {
    fn separates(self, c: char) -> bool {
        match self {
            Pieces::Query => matches!(c, '&' | ';'),
            Pieces::Path => matches!(c, '/' | ';'),
            Pieces::Text => matches!(c, ' ' | '\t' | '\n'),
        }
    }

    fn are_worth_a_look(self, text: &str) -> bool {
        match self {
            Pieces::Query => !text.is_empty(),
            Pieces::Path => memchr::memchr2(b'%', b'=', text.as_bytes()).is_some(),
            Pieces::Text => memchr::memchr(b'%', text.as_bytes()).is_some(),
        }
    }
}

fn is_encoded(text: &str, plus: bool) -> bool {
    match plus {
        true => memchr::memchr2(b'%', b'+', text.as_bytes()).is_some(),
        false => memchr::memchr(b'%', text.as_bytes()).is_some(),
    }
}

/// Replaces the ranges, which may overlap and come in any order.
fn mask(text: &str, mut found: Vec<Range<usize>>) -> String {
    found.sort_unstable_by_key(|range| range.start);
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for range in found {
        let (start, end) = (floor(text, range.start), ceil(text, range.end));
        if start >= done {
            masked.push_str(&text[done..start]);
            masked.push_str(MASK);
        }
        done = done.max(end);
    }
    masked.push_str(&text[done..]);
    masked
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests;
