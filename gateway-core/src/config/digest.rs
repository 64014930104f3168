//! The digest by which two revisions of a document are told apart.

use serde_yaml::Value;
use sha2::{Digest, Sha256};

/// SHA-256, in hexadecimal, of what a value means: the order of keys, comments and layout do not
/// count. A secret counts by its reference, not by what the variable or the file holds.
pub(super) fn digest(value: &Value) -> String {
    let mut hasher = Sha256::new();
    feed(value, &mut hasher);
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every value begins with a letter for its type and, if it has parts, their number.
fn feed(value: &Value, hasher: &mut Sha256) {
    match value {
        Value::Null => hasher.update(b"n"),
        Value::Bool(value) => hasher.update(if *value { b"t" } else { b"f" }),
        Value::Number(number) => feed_text(b'd', &number.to_string(), hasher),
        Value::String(text) => feed_text(b's', text, hasher),
        Value::Sequence(items) => {
            feed_count(b'l', items.len(), hasher);
            items.iter().for_each(|item| feed(item, hasher));
        }
        Value::Mapping(mapping) => {
            feed_count(b'm', mapping.len(), hasher);
            let mut entries: Vec<(&str, &Value)> = mapping
                .iter()
                .map(|(key, value)| (key.as_str().unwrap_or_default(), value))
                .collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                feed_text(b'k', key, hasher);
                feed(value, hasher);
            }
        }
        Value::Tagged(tagged) => feed(&tagged.value, hasher),
    }
}

fn feed_text(letter: u8, text: &str, hasher: &mut Sha256) {
    feed_count(letter, text.len(), hasher);
    hasher.update(text.as_bytes());
}

fn feed_count(letter: u8, count: usize, hasher: &mut Sha256) {
    hasher.update([letter]);
    hasher.update((count as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        digest(&serde_yaml::from_str(text).unwrap())
    }

    #[test]
    fn layout_and_order_of_keys_do_not_count() {
        assert_eq!(of("a: 1\nb: [x, y] # note"), of("{b: [x, y], a: 1}"));
        assert_eq!(of("a: 1").len(), 64);
    }

    #[test]
    fn values_and_order_of_items_count() {
        assert_ne!(of("a: 1"), of("a: '1'"));
        assert_ne!(of("[x, y]"), of("[y, x]"));
        assert_ne!(of("[[x], y]"), of("[[x, y]]"));
    }
}
