//! The configuration reference, from the JSON Schema that the types make.

use std::collections::VecDeque;

use gateway_core::Gateway;
use gateway_core::config::json_schema;
use serde_json::Value;

use super::{Page, table};

pub(super) fn page() -> Page {
    let stock = Gateway::builder().plugins(gateway_plugins::all());
    let schema = json_schema(stock.registry());
    let text = format!(
        "# Configuration\n\n{}\n\n{}",
        include_str!("configuration.md").trim(),
        Reference::new(&schema).sections("", &schema)
    );
    Page::generated("reference/configuration.md", "gateway-core/src/config", &text)
}

/// Walks a schema and describes each mapping once, where it is met first.
pub(super) struct Reference<'a> {
    root: &'a Value,
    waiting: VecDeque<(String, &'a Value)>,
    /// Definitions met so far, and where first.
    met: Vec<(&'a str, String)>,
}

impl<'a> Reference<'a> {
    /// Over the schema that references lead into.
    pub(super) fn new(root: &'a Value) -> Self {
        Self { root, waiting: VecDeque::new(), met: Vec::new() }
    }

    /// A section for the mapping `schema` at `path`, and one for each mapping below it.
    pub(super) fn sections(mut self, path: &str, schema: &'a Value) -> String {
        let mut sections = vec![self.properties(path, schema)];
        while let Some((path, schema)) = self.waiting.pop_front() {
            let about = schema["description"].as_str().unwrap_or_default();
            let properties = self.properties(&path, schema);
            sections.push(format!("## `{path}`\n\n{about}\n\n{properties}"));
        }
        sections.join("\n\n")
    }

    fn properties(&mut self, path: &str, schema: &'a Value) -> String {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut rows = Vec::new();
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let default = match &property["default"] {
                _ if required.contains(&key.as_str()) => "required".to_owned(),
                Value::String(text) => format!("`{text}`"),
                default @ (Value::Number(_) | Value::Bool(_)) => format!("`{default}`"),
                _ => String::new(),
            };
            let about = property["description"].as_str().unwrap_or_default().to_owned();
            rows.push(vec![format!("`{key}`"), self.kind(&place, property), default, about]);
        }
        table(&["key", "value", "default", "meaning"], rows)
    }

    /// What a value looks like; a mapping with keys of its own is put on the list.
    fn kind(&mut self, path: &str, schema: &'a Value) -> String {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.root.pointer(&reference[1..]).expect("references lead somewhere");
            let first = self.met.iter().find(|(known, _)| *known == reference);
            if let Some((_, first)) = first.cloned() {
                let waiting = self.waiting.len();
                let kind = self.kind(&first, target);
                self.waiting.truncate(waiting);
                return kind;
            }
            self.met.push((reference, path.to_owned()));
            return self.kind(path, target);
        }
        for alternatives in ["anyOf", "oneOf"] {
            if let Some(all) = schema[alternatives].as_array() {
                return self.alternatives(path, all);
            }
        }
        if let Some(word) = schema["const"].as_str() {
            return format!("`{word}`");
        }
        if let Some(format) = schema["format"].as_str().and_then(format_name) {
            return format;
        }
        let types = match &schema["type"] {
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect::<Vec<_>>(),
        };
        match types.iter().find(|name| **name != "null").copied() {
            _ if types.contains(&"integer") => format!("whole number{}", range(schema)),
            _ if types.contains(&"boolean") => "`true` or `false`".to_owned(),
            Some("array") => {
                format!("list of: {}", self.kind(&format!("{path}[]"), &schema["items"]))
            }
            Some("object") => self.mapping(path, schema),
            _ => "text".to_owned(),
        }
    }

    fn alternatives(&mut self, path: &str, all: &'a [Value]) -> String {
        let kinds: Vec<String> = all
            .iter()
            .filter(|one| one["type"] != "null")
            .map(|one| self.kind(path, one))
            .collect();
        kinds.join(" or ")
    }

    fn mapping(&mut self, path: &str, schema: &'a Value) -> String {
        let Some(properties) = schema["properties"].as_object() else {
            return match schema["additionalProperties"].is_object() {
                true => "mapping of text to text".to_owned(),
                false => "mapping".to_owned(),
            };
        };
        if properties.len() == 1 && is_tag(schema) {
            let key = properties.keys().next().expect("there is one");
            return format!("`{{{key}: …}}`");
        }
        self.waiting.push_back((path.to_owned(), schema));
        format!("[mapping](#{})", anchor(path))
    }
}

/// Whether a mapping of one key is a way to write a choice: the key must be there.
fn is_tag(schema: &Value) -> bool {
    schema["required"].as_array().is_some_and(|required| required.len() == 1)
}

fn format_name(format: &str) -> Option<String> {
    Some(match format {
        "path" => "path of a file".to_owned(),
        "gateway-url-path" => "path of a URL".to_owned(),
        "gateway-workers" => "`auto` or a whole number".to_owned(),
        "gateway-log-output" => "`stdout`, `stderr`, `off` or path of a file".to_owned(),
        "gateway-percent" => "percent".to_owned(),
        _ => format.strip_prefix("gateway-")?.replace('-', " "),
    })
}

fn range(schema: &Value) -> String {
    match (&schema["minimum"], &schema["maximum"]) {
        (Value::Number(least), Value::Number(most)) if least == most => format!(", {least}"),
        (Value::Number(least), Value::Number(most)) => format!(", {least} to {most}"),
        (Value::Number(least), _) if least.as_u64() != Some(0) => format!(", at least {least}"),
        _ => String::new(),
    }
}

/// The anchor that mdBook gives a heading of this path in code.
fn anchor(path: &str) -> String {
    path.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}
