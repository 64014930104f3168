//! The JSON Schema of the whole document, for editors and for other programs.

use schemars::{Schema, generate::SchemaSettings};
use serde_json::{Map, Value as Json, json};

use super::load::PluginSchemas;
use super::{Config, Fragment};

/// The document's own schema, without what depends on plugins.
pub(super) fn document() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>()
}

/// The schema of an included file.
pub(super) fn fragment() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Fragment>()
}

/// The JSON Schema (draft 2020-12) of the whole document, in which the `options` of a plugin
/// depend on its `kind`.
pub fn json_schema(plugins: &dyn PluginSchemas) -> Json {
    let mut schema = Json::from(document());
    let mut kinds = plugins.kinds();
    kinds.sort_unstable();
    let mut rules = Vec::new();
    let mut definitions = Map::new();
    for kind in &kinds {
        if let Some(options) = plugins.options_schema(kind) {
            rules.push(rule(kind, options.as_value()));
            define(kind, options, &mut definitions);
        }
    }
    let all = schema.pointer_mut("/$defs").and_then(Json::as_object_mut);
    if let Some(all) = all {
        all.extend(definitions);
        if let Some(plugin) = all.get_mut("PluginConfig").and_then(Json::as_object_mut) {
            plugin.remove("x-options-by-kind");
            plugin.insert("allOf".into(), rules.into());
            plugin["properties"]["kind"]["enum"] = kinds.into();
        }
    }
    relax(&mut schema);
    schema
}

/// If the kind is this one, the options are its own.
fn rule(kind: &str, options: &Json) -> Json {
    let mut then = json!({"properties": {"options": {"$ref": definition(kind)}}});
    let required = options.get("required").and_then(Json::as_array);
    if required.is_some_and(|required| !required.is_empty()) {
        then["required"] = json!(["options"]);
    }
    json!({
        "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
        "then": then,
    })
}

fn definition(kind: &str) -> String {
    format!("#/$defs/options.{kind}")
}

/// Adds a kind's schema to the definitions, and its own definitions under names of their own.
fn define(kind: &str, options: Schema, definitions: &mut Map<String, Json>) {
    let mut options = Json::from(options);
    refer(&mut options, kind);
    if let Some(object) = options.as_object_mut() {
        object.remove("$schema");
        if let Some(Json::Object(own)) = object.remove("$defs") {
            let named = own.into_iter().map(|(name, own)| (format!("options.{kind}.{name}"), own));
            definitions.extend(named);
        }
    }
    definitions.insert(format!("options.{kind}"), options);
}

/// Turns references inside a kind's schema towards where its definitions have gone.
fn refer(schema: &mut Json, kind: &str) {
    match schema {
        Json::Object(object) => {
            if let Some(Json::String(reference)) = object.get_mut("$ref") {
                let whole = definition(kind);
                match reference.strip_prefix("#/$defs/") {
                    Some(name) => *reference = format!("{whole}.{name}"),
                    None => *reference = reference.replacen('#', &whole, 1),
                }
            }
            object.values_mut().for_each(|value| refer(value, kind));
        }
        Json::Array(items) => items.iter_mut().for_each(|item| refer(item, kind)),
        _ => {}
    }
}

/// Allows what loading allows everywhere: `x-` keys beside fixed keys, and `${VAR}` in place of a
/// number, a boolean or a text of a certain form.
fn relax(schema: &mut Json) {
    const VARIABLE: &str = r"\$\{";
    match schema {
        Json::Object(object) => {
            if object.get("additionalProperties") == Some(&Json::Bool(false)) {
                object.insert("patternProperties".into(), json!({"^x-": true}));
            }
            match object.get_mut("type") {
                Some(Json::String(one)) if matches!(&**one, "integer" | "number" | "boolean") => {
                    let types = json!([one, "string"]);
                    object.insert("type".into(), types);
                    object.insert("pattern".into(), VARIABLE.into());
                }
                Some(Json::Array(many))
                    if !many.contains(&json!("string"))
                        && many.iter().any(|one| one == "integer" || one == "number") =>
                {
                    many.push("string".into());
                    object.insert("pattern".into(), VARIABLE.into());
                }
                _ => {
                    if let Some(Json::String(pattern)) = object.get_mut("pattern") {
                        *pattern = format!("{VARIABLE}|{pattern}");
                    }
                }
            }
            object
                .iter_mut()
                .filter(|(key, _)| !matches!(key.as_str(), "default" | "examples" | "const"))
                .for_each(|(_, value)| relax(value));
        }
        Json::Array(items) => items.iter_mut().for_each(relax),
        _ => {}
    }
}
