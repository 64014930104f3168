//! A difference as it is told to people: a change on a line, and how many there are.

use std::fmt;

use serde_json::Value as Json;

use super::{Change, ChangeKind, Difference};
use crate::config::secret::HIDDEN;
use crate::config::shown::is_unset;

/// A value with more characters is cut short.
const LONGEST: usize = 80;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        if !self.secrets_compared {
            writeln!(
                f,
                "secrets that are written as text were not compared: a gateway tells none"
            )?;
        }
        f.write_str(&self.summary())
    }
}

impl Difference {
    /// How many changes there are, and how many of them need a restart.
    fn summary(&self) -> String {
        let all = self.changes.len();
        let restarts = self.changes.iter().filter(|change| change.needs_restart).count();
        match (all, restarts) {
            (0, _) => "no difference".to_owned(),
            (1, 0) => "1 change, which needs no restart".to_owned(),
            (1, _) => "1 change, which needs a restart".to_owned(),
            (all, 0) => format!("{all} changes, none needs a restart"),
            (all, 1) => format!("{all} changes, 1 needs a restart"),
            (all, some) => format!("{all} changes, {some} need a restart"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            ChangeKind::Added => "added",
            ChangeKind::Removed => "removed",
            ChangeKind::Changed => "changed",
            ChangeKind::Moved => "moved",
        };
        write!(f, "{word:<8} {}: ", self.path)?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) if before == after => write!(f, "another secret")?,
            (Some(before), Some(after)) if self.kind == ChangeKind::Moved => {
                write!(f, "from place {before} to {after}")?;
            }
            (Some(before), Some(after)) => write!(f, "{} -> {}", short(before), short(after))?,
            (Some(one), None) | (None, Some(one)) => f.write_str(&short(one))?,
            (None, None) => {}
        }
        if self.needs_restart { f.write_str("  (needs a restart)") } else { Ok(()) }
    }
}

fn short(value: &Json) -> String {
    let text = on_a_line(value);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A value as YAML on one line, without what is not set.
fn on_a_line(value: &Json) -> String {
    match value {
        Json::Object(entries) => {
            let set = entries.iter().filter(|(key, value)| !is_unset("", key, value));
            let told = set.map(|(key, value)| format!("{}: {}", plain(key), on_a_line(value)));
            format!("{{{}}}", told.collect::<Vec<_>>().join(", "))
        }
        Json::Array(items) => {
            format!("[{}]", items.iter().map(on_a_line).collect::<Vec<_>>().join(", "))
        }
        Json::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// A text as it is, or in quotes where it could be taken for something else.
fn plain(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || "-_./:%@+<>".contains(c);
    let is_plain = text.starts_with(|c: char| c.is_alphanumeric() || c == '/')
        && text.chars().all(is_word)
        && serde_yaml::from_str::<serde_yaml::Value>(text).is_ok_and(|value| value.is_string());
    match is_plain || text == HIDDEN {
        true => text.to_owned(),
        false => Json::from(text).to_string(),
    }
}
