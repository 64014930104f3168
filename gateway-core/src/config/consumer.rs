//! `consumers`: callers known by name, and what they are recognised by.

use std::collections::{BTreeMap, HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::path::ConfigPath;
use super::secret::SecretConfig;

/// A caller known by name. Which plugin recognises it is that plugin's matter; what it is called, and
/// which groups it is in, is the same for all.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumerConfig {
    /// The name that logs, limits and conditions call it by.
    #[schemars(extend("format" = "gateway-name"))]
    pub name: String,
    /// The groups it is in. They need not be declared anywhere else.
    #[serde(default)]
    #[schemars(inner(length(min = 1, max = 128)))]
    pub groups: Vec<String>,
    /// Words about it, read as `consumer.label.NAME`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What issuers of tokens call it: values of the claim that `jwt` takes the consumer from. Its
    /// `name` always is one.
    #[serde(default)]
    #[schemars(inner(length(min = 1, max = 1024)))]
    pub subjects: Vec<String>,
    /// Its API keys; several, so that one can be replaced while both are good.
    #[serde(default)]
    pub keys: Vec<SecretConfig>,
}

/// Checks that no two consumers are recognised by the same thing.
pub(super) fn check_list(list: &[ConsumerConfig], at: &ConfigPath, findings: &mut Findings<'_>) {
    // A name is a subject too, whoever comes first.
    let mut known: HashMap<&str, (usize, ConfigPath)> = HashMap::new();
    for (index, consumer) in list.iter().enumerate() {
        known.entry(&consumer.name).or_insert((index, at.clone().index(index).key("name")));
    }
    for (index, consumer) in list.iter().enumerate() {
        let at = at.clone().index(index);
        let mut groups = HashSet::new();
        for (place, group) in consumer.groups.iter().enumerate() {
            if !groups.insert(group) {
                let at = at.clone().key("groups").index(place);
                findings.add(&at, format!("the group `{group}` is in the list already"));
            }
        }
        for (place, subject) in consumer.subjects.iter().enumerate() {
            let at = at.clone().key("subjects").index(place);
            match known.get(subject.as_str()) {
                Some((owner, earlier)) if *owner != index => {
                    let place = findings.place(earlier);
                    findings.add(&at, format!("`{subject}` is another consumer, at {place}"));
                }
                Some(_) => findings.add(&at, format!("`{subject}` is known as this one already")),
                None => {
                    known.insert(subject, (index, at));
                }
            }
        }
    }
}
