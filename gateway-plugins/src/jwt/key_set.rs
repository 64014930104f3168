//! A set of keys (RFC 7517, section 5), and which of them a token may have been signed with.

use serde_json::Value;

use super::algorithm::Algorithm;
use super::key::Key;

/// How many keys are tried for a token that does not say which is its own.
const TRIES: usize = 16;
/// A set of more keys is no set of keys.
const MOST: usize = 1000;

/// A set of keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KeySet(pub(super) Vec<Key>);

impl KeySet {
    /// Reads a JWK Set. Keys that are for something else, of kinds that are not known, or broken are ignored;
    /// beside the set comes what is wrong with those that are broken.
    ///
    /// # Errors
    /// It is none, or none of its keys can be used.
    pub(super) fn read(json: &[u8], allowed: &[Algorithm]) -> Result<(Self, Vec<String>), String> {
        let set: Value =
            serde_json::from_slice(json).map_err(|error| format!("no JSON: {error}"))?;
        let list = set.get("keys").and_then(Value::as_array);
        let list = list.ok_or("no set of keys: `keys` is missing")?;
        if list.len() > MOST {
            return Err(format!("{} keys; {MOST} are accepted at most", list.len()));
        }
        let (mut keys, mut broken) = (Vec::new(), Vec::new());
        for (place, jwk) in list.iter().enumerate() {
            match jwk.as_object().and_then(|jwk| Key::jwk(jwk, allowed)) {
                Some(Ok(key)) => keys.push(key),
                Some(Err(fault)) => broken.push(format!("keys[{place}]: {fault}")),
                None => {}
            }
        }
        if keys.is_empty() {
            let said = broken.first().map(|fault| format!(": {fault}")).unwrap_or_default();
            return Err(format!("none of the {} keys can be used{said}", list.len()));
        }
        Ok((Self(keys), broken))
    }

    /// The keys that a token which names this one may have been signed with. A key without a name is meant by
    /// every name.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Key> {
        let is_meant = move |key: &&Key| match (id, &key.id) {
            (Some(id), Some(own)) => id == &**own,
            _ => true,
        };
        let fits = move |key: &&Key| key.is_for(algorithm);
        self.0.iter().filter(is_meant).filter(fits).take(TRIES)
    }

    /// Whether it has a key of this name, whatever that is for.
    pub(super) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Whether all keys of another set are in this one.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|key| self.0.contains(key))
    }
}
