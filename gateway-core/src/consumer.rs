//! Consumers: callers known by name, as plugins find them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::{ConsumerConfig, SubjectConfig};
use crate::plugin::Fact;

/// A caller known by name.
#[derive(PartialEq, Eq)]
pub struct Consumer {
    /// What logs, limits and conditions call it.
    pub name: Box<str>,
    /// The groups it is in, in the order of the config.
    pub groups: Box<[Box<str>]>,
    /// Words about it.
    pub labels: BTreeMap<String, String>,
    /// The same groups, as an attribute.
    pub(crate) group_fact: Fact,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Consumer").field(&self.name).finish()
    }
}

impl Consumer {
    /// Whether it is in this group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| **own == *group)
    }
}

/// All consumers of a config, found by what they are recognised by.
#[derive(Default)]
pub struct Consumers {
    by_subject: HashMap<Box<str>, Arc<Consumer>>,
    /// By issuer, and what that one calls them.
    by_issued: HashMap<(Box<str>, Box<str>), Arc<Consumer>>,
    /// By the SHA-256 of the key: a lookup that takes longer for a better guess tells nothing of keys.
    by_key: HashMap<[u8; 32], Arc<Consumer>>,
    names: Box<[Box<str>]>,
}

impl Consumers {
    /// Builds them of the config. `key` resolves the key at a place of the list and of its consumer.
    /// Returns besides the places of keys that another consumer has.
    pub(crate) fn new(
        list: &[ConsumerConfig],
        mut key: impl FnMut(usize, usize) -> Option<crate::config::Secret>,
    ) -> (Self, Vec<(usize, usize)>) {
        let mut consumers = Self {
            names: list.iter().map(|one| one.name.as_str().into()).collect(),
            ..Self::default()
        };
        let mut taken = Vec::new();
        for (index, config) in list.iter().enumerate() {
            let consumer = Arc::new(Consumer {
                name: config.name.as_str().into(),
                groups: config.groups.iter().map(|group| group.as_str().into()).collect(),
                labels: config.labels.clone(),
                group_fact: Fact::list(config.groups.iter().map(String::as_str)),
            });
            let subjects = config.subjects.iter().map(SubjectConfig::parts);
            for (issuer, subject) in subjects.chain([(None, config.name.as_str())]) {
                match issuer {
                    None => consumers.by_subject.insert(subject.into(), consumer.clone()),
                    Some(issuer) => {
                        let place = (issuer.into(), subject.into());
                        consumers.by_issued.insert(place, consumer.clone())
                    }
                };
            }
            for place in 0..config.keys.len() {
                let Some(secret) = key(index, place) else { continue };
                let held = consumers.by_key.insert(digest(secret.expose()), consumer.clone());
                if held.is_some_and(|held| held != consumer) {
                    taken.push((index, place));
                }
            }
        }
        (consumers, taken)
    }

    /// The consumer that this issuer of tokens calls by this subject, that any does, or of this name.
    pub fn by_subject(&self, issuer: Option<&str>, subject: &str) -> Option<&Arc<Consumer>> {
        let issued = issuer
            .filter(|_| !self.by_issued.is_empty())
            .and_then(|issuer| self.by_issued.get(&(Box::from(issuer), Box::from(subject))));
        issued.or_else(|| self.by_subject.get(subject))
    }

    /// The consumer whose API key this is.
    pub fn by_key(&self, key: &str) -> Option<&Arc<Consumer>> {
        self.by_key.get(&digest(key))
    }

    /// Whether there is a consumer of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| **known == *name)
    }

    /// Whether any consumer is in this group.
    pub fn has_group(&self, group: &str) -> bool {
        self.by_subject.values().any(|consumer| consumer.is_in(group))
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn consumers_are_found_by_name_subject_and_key_and_no_key_is_of_two() {
        let config = "[{name: app, subjects: [auth0|1, {issuer: i, subject: x}], groups: [gold], keys: [a, b]}, \
                       {name: other, keys: [c, a]}]";
        let list: Vec<ConsumerConfig> = serde_yaml::from_str(config).unwrap();
        let keys = [["k-a", "k-b"], ["k-c", "k-a"]];

        let (consumers, taken) =
            Consumers::new(&list, |index, place| Some(Secret::new(keys[index][place])));

        let name = |found: Option<&Arc<Consumer>>| found.map(|consumer| consumer.name.to_string());
        assert_eq!(taken, [(1, 1)]);
        assert_eq!(name(consumers.by_subject(None, "app")).as_deref(), Some("app"));
        assert_eq!(name(consumers.by_subject(Some("i"), "auth0|1")).as_deref(), Some("app"));
        assert_eq!(name(consumers.by_subject(Some("i"), "x")).as_deref(), Some("app"));
        assert_eq!(name(consumers.by_subject(Some("j"), "x")), None);
        assert_eq!(name(consumers.by_key("k-c")).as_deref(), Some("other"));
        assert_eq!(name(consumers.by_key("k-d")), None);
        assert!(consumers.has("other") && !consumers.has("auth0|1"));
        assert!(consumers.has_group("gold") && !consumers.has_group("silver"));
    }
}
