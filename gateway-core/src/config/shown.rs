//! What `config show` prints of a config: its read-out without what is not set.

use serde_json::{Map, Value as Json};

use super::laid_out;

/// Tables and keys in them that may be nothing, or an empty list, and mean something else where they are left out.
const TELLING: [(&str, &str); 4] =
    [("compare", "headers"), ("passive", "failures"), ("passive", "status"), ("retry", "methods")];

/// Keys of tables that are empty where the key is left out.
const TABLES: [&str; 8] =
    ["cookies", "headers", "labels", "options", "prefer", "query", "redaction", "sni"];

/// A read-out ([`Config::redacted_json`](super::Config::redacted_json)) without `include`, whose files are in it,
/// and without what is not set. Read as a config it means the same, but for secrets.
pub fn shown(mut read_out: Json) -> Json {
    if let Some(whole) = read_out.as_object_mut() {
        whole.shift_remove("include");
    }
    strip("", &mut read_out);
    read_out
}

/// As YAML, the parts apart from each other, in which `$${` is what `${` was.
pub fn shown_yaml(shown: &Json) -> Result<String, serde_yaml::Error> {
    let mut shown = shown.clone();
    escape(&mut shown);
    let mut text = String::new();
    for (key, value) in shown.as_object().into_iter().flatten() {
        // An empty line behind a text that ends in some is part of it.
        if !text.is_empty() && !text.ends_with("\n\n") {
            text.push('\n');
        }
        text += &serde_yaml::to_string(&Map::from_iter([(key.clone(), value.clone())]))?;
    }
    // There are texts that cannot be laid out; they can be read all the same.
    Ok(laid_out("config", &text).unwrap_or(text))
}

/// A text that was read does not name a variable of the environment any more.
fn escape(value: &mut Json) {
    match value {
        Json::String(text) if text.contains("${") => *text = text.replace("${", "$${"),
        Json::Array(items) => items.iter_mut().for_each(escape),
        Json::Object(object) => object.values_mut().for_each(escape),
        _ => {}
    }
}

/// `table` is the key that leads to the value, of an item the one that leads to its list.
fn strip(table: &str, value: &mut Json) {
    match value {
        Json::Object(object) => {
            // What a plugin's options mean is its own affair.
            for (key, value) in object.iter_mut().filter(|(key, _)| *key != "options") {
                strip(key, value);
            }
            object.retain(|key, value| !is_unset(table, key, value));
        }
        Json::Array(items) => items.iter_mut().for_each(|item| strip(table, item)),
        _ => {}
    }
}

/// Whether leaving a key out of a table says the same.
pub(super) fn is_unset(table: &str, key: &str, value: &Json) -> bool {
    match value {
        Json::Null => !TELLING.contains(&(table, key)),
        Json::Array(items) => items.is_empty() && !TELLING.contains(&(table, key)),
        Json::Object(entries) => entries.is_empty() && TABLES.contains(&key),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use schemars::Schema;
    use serde_json::json;

    use super::*;
    use crate::config::{Config, LoadOptions, PluginSchemas, load_text, schema};

    struct Catalogue;

    impl PluginSchemas for Catalogue {
        fn kinds(&self) -> Vec<&'static str> {
            vec!["cors"]
        }

        fn options_schema(&self, _: &str) -> Option<Schema> {
            Some(schemars::json_schema!({"type": "object", "additionalProperties": true}))
        }
    }

    fn loaded(text: &str) -> Config {
        let loaded = load_text("a", Path::new("/etc"), text, &Catalogue, &LoadOptions::default());
        loaded.unwrap_or_else(|faults| panic!("{faults}\nin\n{text}")).config
    }

    /// What is set in every way that an empty value can be.
    const TEXT: &str = "\
version: 1
include: []
access_log: {sample: {ok: 10%}}
plugins: [{kind: cors, options: {origins: [], x: null}}]
listeners: [{name: public, address: \"0.0.0.0:8080\"}]
upstreams:
  - name: users
    endpoints: [\"10.0.0.1:80\"]
    tls: {}
    health: {passive: {failures: null, failure_ratio: 50%, status: []}}
    retry: {methods: []}
  - {name: next, endpoints: [\"10.0.0.2:80\"]}
routes:
  - name: a
    match: {path: /a}
    upstream: users
    mirror: {upstream: next, compare: {headers: []}}
  - {name: b, match: {path: /b}, reply: {}}
";

    #[test]
    fn what_is_shown_means_the_same_when_it_is_read() {
        let config = loaded(TEXT);

        let text = shown_yaml(&shown(config.redacted_json())).unwrap();

        assert_eq!(loaded(&text).redacted_json(), config.redacted_json(), "{text}");
    }

    #[test]
    fn keys_come_in_the_order_of_the_document_and_without_what_is_not_set() {
        let text = shown_yaml(&shown(loaded(TEXT).redacted_json())).unwrap();

        let parts: Vec<&str> =
            text.lines().filter(|line| line.starts_with(char::is_alphabetic)).collect();
        let expected = ["version: 1", "server:", "reload:", "access_log:", "plugins:"];
        assert_eq!(parts[..5], expected);
        assert!(text.contains("\n\nroutes:\n  - name: a\n    match:\n      path:\n"), "{text}");
        assert!(!text.contains("canary") && !text.contains("disable"), "{text}");
        assert!(text.contains("origins: []"), "{text}");
    }

    #[test]
    fn texts_that_cannot_be_laid_out_are_shown_all_the_same() {
        let value = json!({"a": "kept\n\n\n", "b": 1});

        let text = shown_yaml(&value).unwrap();

        assert_eq!(serde_yaml::from_str::<Json>(&text).unwrap(), value);
    }

    /// Whether a property may be of this type.
    fn may_be(property: &Json, kind: &str) -> bool {
        let types = match &property["type"] {
            Json::Array(types) => types.iter().any(|one| one == kind),
            one => one == kind,
        };
        let others = property["anyOf"].as_array().into_iter().flatten();
        types || others.into_iter().any(|other| may_be(other, kind))
    }

    #[test]
    fn what_is_not_there_and_what_is_empty_are_shown_where_they_tell_something() {
        let document = Json::from(schema::document());
        let mut telling = std::collections::BTreeSet::new();
        let mut places = Vec::new();

        for (name, definition) in document["$defs"].as_object().unwrap() {
            for (key, property) in definition["properties"].as_object().into_iter().flatten() {
                let default = property.get("default").unwrap_or(&Json::Null);
                let is_something = !default.is_null() && *default != json!([]);
                let may_be_empty =
                    may_be(property, "array") && property["minItems"].as_u64().unwrap_or(0) == 0;
                let may_be_null = may_be(property, "null");
                let is_required = definition["required"]
                    .as_array()
                    .is_some_and(|keys| keys.contains(&json!(key)));
                if is_something && (may_be_null || may_be_empty)
                    || may_be_null && may_be_empty
                    || is_required && may_be_empty
                {
                    telling.insert(key.as_str());
                    places.push(format!("{name}.{key}"));
                }
            }
        }

        // Where this fails `TELLING` lacks a key, or has one too many.
        let told = TELLING.map(|(_, key)| key).into_iter().collect();
        assert_eq!(telling, told, "of {places:?}");
    }
}
