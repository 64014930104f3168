//! From JSON Schemas to shapes. What a shape cannot say is left to the typed stage.

use std::collections::HashMap;

use schemars::Schema;
use serde_json::{Map, Value as Json};

use super::json::{integer, merged, text, texts, types};
use super::{Kind, MapShape, Rest, ShapeId, Shapes};
use crate::config::scalar::Format;

/// Schemas nested deeper than this accept anything below.
const DEEPEST: usize = 64;

/// Compiles the schemas of documents and one of each plugin's options.
pub(in crate::config) fn compile<const N: usize>(
    documents: [&Schema; N],
    options: &[(&'static str, Schema)],
) -> (Shapes, [ShapeId; N]) {
    let mut shapes = Shapes::default();
    let roots = documents.map(|document| {
        Compiler::new(&mut shapes, document.as_value()).shape(document.as_value(), 0)
    });
    for (kind, schema) in options {
        let id = Compiler::new(&mut shapes, schema.as_value()).shape(schema.as_value(), 0);
        shapes.options.insert(kind, id);
    }
    (shapes, roots)
}

struct Compiler<'a> {
    shapes: &'a mut Shapes,
    /// The schema that `#/...` references point into.
    root: &'a Json,
    /// Shapes of references, so that each is compiled once and may refer to itself.
    references: HashMap<String, ShapeId>,
}

impl<'a> Compiler<'a> {
    fn new(shapes: &'a mut Shapes, root: &'a Json) -> Self {
        Self { shapes, root, references: HashMap::new() }
    }

    fn shape(&mut self, schema: &Json, depth: usize) -> ShapeId {
        let Json::Object(schema) = schema else {
            return self.shapes.add(Kind::Any);
        };
        if depth > DEEPEST {
            return self.shapes.add(Kind::Any);
        }
        if let Some(Json::String(reference)) = schema.get("$ref") {
            return self.reference(reference, schema, depth);
        }
        let id = self.shapes.add(Kind::Any);
        self.fill(id, schema, depth);
        id
    }

    fn reference(&mut self, reference: &str, schema: &Map<String, Json>, depth: usize) -> ShapeId {
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(Json::Object(target)) = target else {
            return self.shapes.add(Kind::Any);
        };
        let says_more = schema.keys().any(|key| {
            !matches!(key.as_str(), "$ref" | "description" | "title" | "default" | "deprecated")
        });
        if says_more {
            let merged = merged(target, schema);
            return self.shape(&Json::Object(merged), depth + 1);
        }
        if let Some(id) = self.references.get(reference) {
            return *id;
        }
        let id = self.shapes.add(Kind::Any);
        self.references.insert(reference.to_owned(), id);
        let target = target.clone();
        match target.get("$ref") {
            Some(_) => {
                let inner = self.shape(&Json::Object(target), depth + 1);
                self.shapes.shapes[id.0].kind = Kind::Choice(vec![inner]);
            }
            None => self.fill(id, &target, depth + 1),
        }
        id
    }

    fn fill(&mut self, id: ShapeId, schema: &Map<String, Json>, depth: usize) {
        let mut nullable = schema.get("nullable") == Some(&Json::Bool(true));
        let kind = self.kind(schema, &mut nullable, depth);
        let shape = &mut self.shapes.shapes[id.0];
        shape.kind = kind;
        shape.nullable = nullable;
        shape.secret = schema.get("writeOnly") == Some(&Json::Bool(true))
            || schema.get("format").and_then(Json::as_str) == Some("password");
    }

    fn kind(&mut self, schema: &Map<String, Json>, nullable: &mut bool, depth: usize) -> Kind {
        if let Some(Json::Array(all)) = schema.get("allOf") {
            let whole = self.all_of(schema, all);
            return self.kind(&whole, nullable, depth + 1);
        }
        for word in ["oneOf", "anyOf"] {
            if let Some(Json::Array(choices)) = schema.get(word) {
                return self.choice(schema, word, choices, nullable, depth);
            }
        }
        let format = schema.get("format").and_then(Json::as_str);
        if let Some(format) = format.and_then(Format::named) {
            *nullable |= types(schema).contains(&"null");
            return Kind::Text { one_of: Vec::new(), min: 0, format: Some(format) };
        }
        if let Some(one_of) = texts(schema) {
            *nullable |= types(schema).contains(&"null");
            return Kind::Text { one_of, min: 0, format: None };
        }
        let mut types = types(schema);
        if types.len() > 1 && types.contains(&"null") {
            *nullable = true;
            types.retain(|one| *one != "null");
        }
        match types[..] {
            [] if schema.contains_key("properties") => self.of_type("object", schema, depth),
            [] => Kind::Any,
            [one] => self.of_type(one, schema, depth),
            _ => {
                let kinds: Vec<Kind> =
                    types.iter().map(|one| self.of_type(one, schema, depth)).collect();
                Kind::Choice(kinds.into_iter().map(|kind| self.shapes.add(kind)).collect())
            }
        }
    }

    fn of_type(&mut self, one: &str, schema: &Map<String, Json>, depth: usize) -> Kind {
        let count = |key: &str| {
            schema.get(key).and_then(Json::as_u64).and_then(|count| usize::try_from(count).ok())
        };
        match one {
            "null" => Kind::Null,
            "boolean" => Kind::Bool,
            "integer" => integer(schema),
            "number" => Kind::Number {
                min: schema.get("minimum").and_then(Json::as_f64).unwrap_or(f64::NEG_INFINITY),
                max: schema.get("maximum").and_then(Json::as_f64).unwrap_or(f64::INFINITY),
            },
            "string" => Kind::Text {
                one_of: Vec::new(),
                min: count("minLength").unwrap_or(0),
                format: None,
            },
            "array" => Kind::List {
                item: match schema.get("items") {
                    Some(items) => self.shape(items, depth + 1),
                    None => self.shapes.add(Kind::Any),
                },
                min: count("minItems").unwrap_or(0),
                max: count("maxItems").unwrap_or(usize::MAX),
            },
            "object" => self.map(schema, depth),
            _ => Kind::Any,
        }
    }

    fn map(&mut self, schema: &Map<String, Json>, depth: usize) -> Kind {
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&empty);
        let rest = match schema.get("additionalProperties") {
            Some(Json::Bool(false)) => Rest::Refused,
            Some(Json::Bool(true)) => Rest::Accepted(self.shapes.add(Kind::Any)),
            Some(rest) => Rest::Accepted(self.shape(rest, depth + 1)),
            // A type that forgot to say so still means the keys it lists.
            None if !properties.is_empty() => Rest::Refused,
            None => Rest::Accepted(self.shapes.add(Kind::Any)),
        };
        let required = schema.get("required").and_then(Json::as_array);
        let fixed = properties.iter().filter_map(|(key, value)| {
            Some((key.clone(), value.get("const")?.as_str()?.to_owned()))
        });
        Kind::Map(MapShape {
            required: required.into_iter().flatten().filter_map(text).collect(),
            rest,
            options_by_kind: schema.get("x-options-by-kind") == Some(&Json::Bool(true)),
            tags: fixed.collect(),
            keys: properties
                .iter()
                .map(|(key, value)| (key.clone(), self.shape(value, depth + 1)))
                .collect(),
        })
    }

    fn choice(
        &mut self,
        schema: &Map<String, Json>,
        word: &str,
        choices: &[Json],
        nullable: &mut bool,
        depth: usize,
    ) -> Kind {
        let mut base = schema.clone();
        for key in [word, "default", "description", "title", "writeOnly"] {
            base.remove(key);
        }
        let mut ids = Vec::new();
        let mut words = Vec::new();
        for choice in choices {
            let Json::Object(choice) = choice else {
                return Kind::Any;
            };
            if types(choice) == ["null"] {
                *nullable = true;
            } else if let Some(mut texts) = texts(choice) {
                words.append(&mut texts);
            } else if base.is_empty() {
                ids.push(self.shape(&Json::Object(choice.clone()), depth + 1));
            } else {
                let choice = self.resolved(choice);
                ids.push(self.shape(&Json::Object(merged(&base, &choice)), depth + 1));
            }
        }
        let texts = Kind::Text { one_of: words, min: 0, format: None };
        match &texts {
            Kind::Text { one_of, .. } if one_of.is_empty() => {}
            _ if ids.is_empty() => return texts,
            _ => ids.push(self.shapes.add(texts)),
        }
        Kind::Choice(ids)
    }

    /// One schema that says what all of them say.
    fn all_of(&self, schema: &Map<String, Json>, all: &[Json]) -> Map<String, Json> {
        let mut whole = schema.clone();
        whole.remove("allOf");
        for part in all.iter().filter_map(Json::as_object) {
            whole = merged(&whole, &self.resolved(part));
        }
        whole
    }

    fn resolved(&self, schema: &Map<String, Json>) -> Map<String, Json> {
        let reference = schema.get("$ref").and_then(Json::as_str);
        let target = reference
            .and_then(|reference| self.root.pointer(reference.strip_prefix('#')?))
            .and_then(Json::as_object);
        match target {
            Some(target) => merged(target, schema),
            None => schema.clone(),
        }
    }
}
