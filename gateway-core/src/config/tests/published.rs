//! What is shown to others: the JSON Schema and the redacted read-out.

use serde_json::Value as Json;

use super::*;
use crate::config::json_schema;

#[test]
fn schema_tells_options_by_kind_and_allows_x_keys() {
    let schema = json_schema(&Catalogue);

    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["patternProperties"]["^x-"], true);
    let plugin = &schema["$defs"]["PluginConfig"];
    assert_eq!(plugin["properties"]["kind"]["enum"].as_array().unwrap().len(), 3);
    let rule = &plugin["allOf"][1];
    assert_eq!(rule["if"]["properties"]["kind"]["const"], "jwt");
    assert_eq!(rule["then"]["properties"]["options"]["$ref"], "#/$defs/options.jwt");
    assert_eq!(rule["then"]["required"][0], "options");
}

#[test]
fn every_reference_of_the_schema_leads_somewhere() {
    let schema = json_schema(&Catalogue);

    let mut references = Vec::new();
    collect(&schema, &mut references);

    assert!(references.len() > 10);
    for reference in references {
        assert!(schema.pointer(&reference[1..]).is_some(), "{reference}");
    }
}

fn collect(schema: &Json, references: &mut Vec<String>) {
    match schema {
        Json::Object(object) => {
            references.extend(object.get("$ref").and_then(Json::as_str).map(str::to_owned));
            object.values().for_each(|value| collect(value, references));
        }
        Json::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

#[test]
fn every_field_of_the_schema_is_described() {
    let schema = json_schema(&Catalogue);

    for (name, definition) in schema["$defs"].as_object().unwrap() {
        if name.starts_with("options.") {
            continue;
        }
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}.{key} is not described");
        }
    }
}

#[test]
fn read_out_holds_references_and_no_secret() {
    let text = format!(
        "{HEAD}admin: {{address: 127.0.0.1:9901, token: hunter2}}
plugins:
  - {{kind: jwt, options: {{issuer: i, audience: [a], secret: '${{KEY}}'}}}}
  - {{kind: cors, options: {{password: hunter2, token: {{env: KEY}}}}}}
"
    );

    let json = loaded(&text).config.redacted_json();

    let shown = json.to_string();
    assert!(!shown.contains("hunter2") && !shown.contains("s3cr3t"), "{shown}");
    assert_eq!(json["admin"]["token"], "***");
    assert_eq!(json["plugins"][0]["options"]["secret"], "***");
    assert_eq!(json["plugins"][1]["options"]["token"]["env"], "KEY");
    assert_eq!(json["listeners"][0]["timeouts"]["idle"], "1m15s");
    assert_eq!(json["upstreams"][0]["endpoints"][0]["address"], "10.0.0.1:8080");
}

#[test]
fn read_out_is_a_document_that_can_be_loaded_again() {
    let first = loaded(include_str!("whole.yaml"));

    let again = loaded(&first.config.redacted_json().to_string());

    assert_eq!(again.config.redacted_json(), first.config.redacted_json());
}
