//! The way through two documents at once.

use serde_json::{Value as Json, json};

use super::side::Side;
use super::{Change, ChangeKind};
use crate::config::path::ConfigPath;
use crate::config::restart;

/// Where in the document two values are.
#[derive(Clone, Default)]
pub(super) struct At {
    path: String,
    /// The key that leads there last.
    pub key: String,
    /// The first key.
    part: String,
    /// Whether it is in a plugin's options: what their keys mean is the plugin's own affair.
    pub in_options: bool,
}

impl At {
    fn below(&self, key: &str) -> Self {
        // Written as everywhere: `key`, or `["the key"]`.
        let step = ConfigPath::root().key(key).to_string();
        let dot = if self.path.is_empty() || step.starts_with('[') { "" } else { "." };
        Self {
            path: format!("{}{dot}{step}", self.path),
            key: key.to_owned(),
            part: if self.part.is_empty() { key.to_owned() } else { self.part.clone() },
            in_options: self.in_options || key == "options",
        }
    }

    /// The item of this name, or number.
    pub(super) fn item(&self, name: impl std::fmt::Display) -> Self {
        Self { path: format!("{}[{name}]", self.path), ..self.clone() }
    }
}

/// What was found on the way.
#[derive(Default)]
pub(super) struct Walk {
    pub changes: Vec<Change>,
    /// There are secrets that may be the same or not.
    pub blind: bool,
}

impl Walk {
    pub(super) fn document(&mut self, before: Side<'_>, after: Side<'_>) {
        // What is included is in the lists.
        self.entries(&At::default(), before, after, |key| key != "include");
    }

    pub(super) fn values(&mut self, at: &At, before: Side<'_>, after: Side<'_>) {
        match (before.shown, after.shown) {
            (Json::Object(_), Json::Object(_)) if have_a_key_in_common(at, before, after) => {
                self.entries(at, before, after, |_| true);
            }
            (Json::Array(_), Json::Array(_)) => self.lists(at, before, after),
            _ if !self.are_same(before, after) => self.changed(at, before, after),
            _ => {}
        }
    }

    fn entries(
        &mut self,
        at: &At,
        before: Side<'_>,
        after: Side<'_>,
        counts: impl Fn(&str) -> bool,
    ) {
        // What is gone stands at the end, as it does not say behind what it stood.
        let gone = before.keys().filter(|key| after.key(key).is_none());
        for key in after.keys().chain(gone).filter(|key| counts(key)) {
            let at = at.below(key);
            match (set(&at, before.key(key)), set(&at, after.key(key))) {
                (Some(before), Some(after)) => self.values(&at, before, after),
                (None, Some(after)) => self.added(&at, after),
                (Some(before), None) => self.removed(&at, before),
                (None, None) => {}
            }
        }
    }

    /// Whether nothing differs, secrets included.
    pub(super) fn are_same(&mut self, before: Side<'_>, after: Side<'_>) -> bool {
        if before.shown != after.shown {
            return false;
        }
        match before.shown {
            Json::Object(_) => before.keys().all(|key| {
                let both = before.key(key).zip(after.key(key));
                both.is_some_and(|(before, after)| self.are_same(before, after))
            }),
            Json::Array(_) => {
                let both = before.items().into_iter().zip(after.items());
                both.into_iter().all(|(before, after)| self.are_same(before, after))
            }
            _ if !before.is_hidden() => true,
            _ => match before.written.zip(after.written) {
                Some((before, after)) => before == after,
                None => {
                    self.blind = true;
                    true
                }
            },
        }
    }

    pub(super) fn added(&mut self, at: &At, after: Side<'_>) {
        self.push(at, ChangeKind::Added, None, Some(after.shown.clone()));
    }

    pub(super) fn removed(&mut self, at: &At, before: Side<'_>) {
        self.push(at, ChangeKind::Removed, Some(before.shown.clone()), None);
    }

    pub(super) fn changed(&mut self, at: &At, before: Side<'_>, after: Side<'_>) {
        let (before, after) = (before.shown.clone(), after.shown.clone());
        self.push(at, ChangeKind::Changed, Some(before), Some(after));
    }

    /// Places are counted from 0 here.
    pub(super) fn moved(&mut self, at: &At, before: usize, after: usize) {
        self.push(at, ChangeKind::Moved, Some(json!(before + 1)), Some(json!(after + 1)));
    }

    fn push(&mut self, at: &At, kind: ChangeKind, before: Option<Json>, after: Option<Json>) {
        let path = if at.path.is_empty() { "the config".to_owned() } else { at.path.clone() };
        let needs_restart = restart::needs_restart(&at.part);
        self.changes.push(Change { kind, path, before, after, needs_restart });
    }
}

/// A value, unless it is nothing where that means what leaving it out does.
fn set<'a>(at: &At, side: Option<Side<'a>>) -> Option<Side<'a>> {
    side.filter(|side| at.in_options || !side.shown.is_null())
}

/// Whether two tables can be told as changes of their entries. A path that is `exact` in place of `prefix` is another.
fn have_a_key_in_common(at: &At, before: Side<'_>, after: Side<'_>) -> bool {
    let is_set = |side: Side<'_>, key: &str| set(at, side.key(key)).is_some();
    let mut keys = before.keys().filter(|key| is_set(before, key)).peekable();
    let mut others = after.keys().filter(|key| is_set(after, key)).peekable();
    if keys.peek().is_none() || others.peek().is_none() {
        return true;
    }
    keys.any(|key| is_set(after, key))
}
