//! How the walk names values and what it expected of them.

use std::fmt;

use serde_yaml::Value;

use crate::config::nearest::{listed, nearest};

pub(super) fn not_among(text: &str, words: &[&str]) -> String {
    let did_you_mean = match nearest(text, words.iter().copied()) {
        Some(word) => format!(", did you mean `{word}`?"),
        None => String::new(),
    };
    let one_of = if words.len() > 1 { "one of " } else { "" };
    format!("expected {one_of}{}, got `{}`{did_you_mean}", listed(words), Short(text))
}

pub(super) fn counted(min: usize, max: usize) -> String {
    match (min, max) {
        (1, usize::MAX) => "at least one item".into(),
        (min, usize::MAX) => format!("at least {min} items"),
        (0, max) => format!("at most {max} items"),
        (min, max) => format!("from {min} to {max} items"),
    }
}

/// Names a value in a message; never shows a secret.
pub(super) fn describe(value: &Value, secret: bool) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) if secret => "another value".into(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text `{}`", Short(text)),
        Value::Sequence(_) => "a list".into(),
        Value::Mapping(_) => "a mapping".into(),
        Value::Tagged(tagged) => format!("the tag `{}`", tagged.tag),
    }
}

/// The beginning of a text that may be long.
struct Short<'t>(&'t str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(60) {
            Some((end, _)) => write!(f, "{}...", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}
