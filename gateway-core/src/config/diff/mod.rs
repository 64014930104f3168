//! What differs between two configs, by meaning: defaults filled in, nouns matched by name.

mod lists;
mod side;
mod told;
mod walk;

use serde::Serialize;
use serde_json::Value as Json;

use self::side::{Side, written};
use self::walk::Walk;
use super::load::Loaded;

/// All that differs between two configs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// In the order of the document.
    pub changes: Vec<Change>,
    /// Whether secrets that are written as text were compared, where both have some.
    pub secrets_compared: bool,
}

/// One difference. It displays on a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// What has become of it.
    pub kind: ChangeKind,
    /// Where it is, items by their names: `routes[users].timeouts.total`.
    pub path: String,
    /// What it was, without secrets; of what has moved its place, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Json>,
    /// What it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Json>,
    /// Whether a reload cannot bring it about.
    pub needs_restart: bool,
}

/// What has become of a part of a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It is another.
    Changed,
    /// It is the same at another place of an order that counts.
    Moved,
}

/// Compares two configs, secrets included: what they are is told of neither.
pub fn diff(before: &Loaded, after: &Loaded) -> Difference {
    let shown = [before, after].map(|loaded| loaded.config.redacted_json());
    let written = [before, after].map(written);
    compare(
        Side { shown: &shown[0], written: Some(&written[0]) },
        Side { shown: &shown[1], written: Some(&written[1]) },
    )
}

/// Compares a read-out ([`Config::redacted_json`](super::Config::redacted_json)), such as that of a running gateway,
/// with a config. Secrets that are written as text count as the same.
pub fn diff_read_out(before: &Json, after: &Loaded) -> Difference {
    let shown = after.config.redacted_json();
    compare(Side { shown: before, written: None }, Side { shown: &shown, written: None })
}

fn compare(before: Side<'_>, after: Side<'_>) -> Difference {
    let mut walk = Walk::default();
    walk.document(before, after);
    Difference { changes: walk.changes, secrets_compared: !walk.blind }
}

#[cfg(test)]
mod tests;
