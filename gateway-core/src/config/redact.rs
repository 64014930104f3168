//! The read-out of a config: merged, with defaults, without secrets.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};
use serde_yaml::Value as Yaml;

use super::Config;
use super::path::{ConfigPath, Segment};
use super::secret::HIDDEN;
use super::secret_name;
use super::value_match::ValueMatch;

/// Keys whose texts are taken for secrets in a plugin's options, besides those that are secret
/// everywhere. Of a list only what stands under such a key's plural is one.
const NAMES: [&str; 3] = ["key", "signing_key", "credential"];

impl Config {
    /// The config as JSON for a read-out: merged, with defaults, every secret that is written as
    /// text replaced by `***`, references to secrets kept.
    pub fn redacted_json(&self) -> Json {
        self.redacted_part(self, &ConfigPath::root())
    }

    /// The same of a part of it, and where that is.
    pub(crate) fn redacted_part<T: Serialize>(&self, part: &T, at: &ConfigPath) -> Json {
        let mut json = serde_json::to_value(part).expect("keys are text and no part can fail");
        let inside =
            self.secrets.iter().filter_map(|path| path.segments().strip_prefix(at.segments()));
        for path in inside {
            let mut place = Some(&mut json);
            for segment in path {
                place = place.and_then(|json| match segment {
                    Segment::Key(key) => json.get_mut(key),
                    Segment::Index(index) => json.get_mut(index),
                });
            }
            if let Some(place) = place {
                *place = HIDDEN.into();
            }
        }
        json
    }
}

/// Serializes a plugin's options without what their keys say is secret.
pub(super) fn options<S: Serializer>(options: &Yaml, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&shown(options), serializer)
}

fn shown(value: &Yaml) -> Json {
    match value {
        Yaml::Null => Json::Null,
        Yaml::Bool(value) => Json::Bool(*value),
        Yaml::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (_, Some(number), _) => number.into(),
            (_, _, number) => number.into(),
        },
        Yaml::String(text) => without_password(text).into(),
        Yaml::Sequence(items) => items.iter().map(shown).collect(),
        Yaml::Mapping(mapping) => {
            let entries = mapping.iter().map(|(key, value)| {
                let key = match key {
                    Yaml::String(key) => key.clone(),
                    other => shown(other).to_string(),
                };
                let value = shown_under(&key, value);
                (key, value)
            });
            Json::Object(entries.collect::<Map<String, Json>>())
        }
        Yaml::Tagged(tagged) => shown(&tagged.value),
    }
}

fn is_secret(key: &str) -> bool {
    NAMES.contains(&key) || secret_name::is_secret(key.as_bytes(), &[])
}

/// Serializes fields of a message without the values of those whose names say they are secret.
pub(super) fn headers<S: Serializer>(
    headers: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| {
        let secret = secret_name::is_secret(name.as_bytes(), &[]);
        (name, if secret { HIDDEN } else { value })
    }))
}

/// Serializes what values must be, without those whose names say they are secret.
pub(super) fn values<S: Serializer>(
    values: &BTreeMap<String, ValueMatch>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(values.iter().map(|(name, value)| {
        let secret = secret_name::is_secret(name.as_bytes(), &[]);
        let is_told = !secret || matches!(value, ValueMatch::Present(_));
        (name, if is_told { Shown::Value(value) } else { Shown::Hidden(HIDDEN) })
    }))
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Value(&'a ValueMatch),
    Hidden(&'static str),
}

/// Serializes a condition without the texts that a secret is held against.
pub(super) fn condition<S: Serializer>(
    condition: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    condition.as_deref().map(secret_name::shown_condition).serialize(serializer)
}

fn shown_under(key: &str, value: &Yaml) -> Json {
    let key = key.to_ascii_lowercase().replace('-', "_");
    match value {
        Yaml::String(_) | Yaml::Number(_) if is_secret(&key) => HIDDEN.into(),
        Yaml::Sequence(items) if key.strip_suffix('s').is_some_and(is_secret) => items
            .iter()
            .map(|item| if item.is_string() { HIDDEN.into() } else { shown(item) })
            .collect(),
        value => shown(value),
    }
}

/// A URL's password is a secret too: `redis://user:***@host`.
fn without_password(text: &str) -> String {
    let hidden = || {
        let (scheme, rest) = text.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let (userinfo, _) = authority.rsplit_once('@')?;
        let (user, _) = userinfo.split_once(':')?;
        Some(format!("{scheme}://{user}:{HIDDEN}{}", &rest[userinfo.len()..]))
    };
    hidden().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_shown_without_what_their_keys_say_is_secret() {
        let options: Yaml = serde_yaml::from_str(
            "{limit: 5, key: [jwt.sub], token: abc, password: {env: X}, keys: [a, {env: B}], \
             deep: [{Client-Secret: x}], set: {X-Upstream-Token: y}, url: 'redis://me:pw@host:1/0'}",
        )
        .unwrap();

        assert_eq!(
            shown(&options).to_string(),
            r#"{"limit":5,"key":["jwt.sub"],"token":"***","password":{"env":"X"},"keys":["***",{"env":"B"}],"deep":[{"Client-Secret":"***"}],"set":{"X-Upstream-Token":"***"},"url":"redis://me:***@host:1/0"}"#
        );
    }
}
