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
    pub subjects: Vec<SubjectConfig>,
    /// Its API keys; several, so that one can be replaced while both are good.
    #[serde(default)]
    pub keys: Vec<SecretConfig>,
}

/// What issuers of tokens call a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SubjectConfig {
    /// Any issuer whose tokens are of consumers.
    Any(#[schemars(length(min = 1, max = 1024))] String),
    /// This issuer alone: what one calls somebody another may call somebody else.
    Of(IssuedSubject),
}

/// What one issuer of tokens calls a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuedSubject {
    /// The issuer, as `iss` has it.
    #[schemars(length(min = 1, max = 1024))]
    pub issuer: String,
    /// The value of the claim.
    #[schemars(length(min = 1, max = 1024))]
    pub subject: String,
}

impl SubjectConfig {
    /// The issuer, if it is one's alone, and the value of the claim.
    pub fn parts(&self) -> (Option<&str>, &str) {
        match self {
            Self::Any(subject) => (None, subject),
            Self::Of(IssuedSubject { issuer, subject }) => (Some(issuer), subject),
        }
    }
}

/// Checks that no two consumers are recognised by the same thing.
pub(super) fn check_list(list: &[ConsumerConfig], at: &ConfigPath, findings: &mut Findings<'_>) {
    // A name is a subject too, whoever comes first.
    let mut known: HashMap<(Option<&str>, &str), (usize, ConfigPath)> = HashMap::new();
    for (index, consumer) in list.iter().enumerate() {
        known.entry((None, &consumer.name)).or_insert((index, at.clone().index(index).key("name")));
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
            let parts = subject.parts();
            let subject = parts.1;
            match known.get(&parts) {
                Some((owner, earlier)) if *owner != index => {
                    let place = findings.place(earlier);
                    findings.add(&at, format!("`{subject}` is another consumer, at {place}"));
                }
                Some(_) => findings.add(&at, format!("`{subject}` is known as this one already")),
                None => {
                    known.insert(parts, (index, at));
                }
            }
        }
    }
}
