//! Holds a value against a JSON Schema, as far as the gateway's own schema goes.
//!
//! A keyword that is not known here is a panic: the judge must not look away.

use regex::Regex;
use serde_json::{Map, Value};

/// Says nothing about what is valid.
const NOTES: [&str; 9] = [
    "$schema",
    "$defs",
    "title",
    "description",
    "default",
    "format",
    "examples",
    "writeOnly",
    "if",
];

/// Where a value breaks a schema, one line a place; empty if it keeps to it.
pub fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Judge { root: schema, found: &mut found }.judge(schema, value, "");
    found
}

struct Judge<'a> {
    root: &'a Value,
    found: &'a mut Vec<String>,
}

impl Judge<'_> {
    fn judge(&mut self, schema: &Value, value: &Value, at: &str) {
        let Value::Object(keywords) = schema else {
            if *schema == Value::Bool(false) {
                self.found.push(format!("{at}: nothing is allowed here"));
            }
            return;
        };
        for (keyword, rule) in keywords {
            if !self.keeps(keywords, keyword, rule, value, at) {
                self.found.push(format!("{at}: {keyword} {rule} is not kept by {value}"));
            }
        }
    }

    fn keeps(
        &mut self,
        schema: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
        at: &str,
    ) -> bool {
        let length = value.as_array().map(Vec::len);
        match keyword {
            "$ref" => {
                let pointer = rule.as_str().and_then(|rule| rule.strip_prefix('#'));
                let target = pointer.and_then(|pointer| self.root.pointer(pointer));
                self.judge(target.expect("references lead somewhere"), value, at);
            }
            "type" => return is_of(rule, value),
            "const" => return rule == value,
            "enum" => return rule.as_array().is_some_and(|all| all.contains(value)),
            "pattern" => return value.as_str().is_none_or(|text| matches(rule, text)),
            "minimum" => return value.as_f64() >= rule.as_f64() || !value.is_number(),
            "maximum" => return value.as_f64() <= rule.as_f64() || !value.is_number(),
            "minItems" => return length.is_none_or(|length| length as u64 >= number(rule)),
            "minLength" => {
                return value.as_str().is_none_or(|text| text.len() as u64 >= number(rule));
            }
            "required" => return has_all(rule, value),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.judge(rule, item, &format!("{at}/{index}"));
                }
            }
            "properties" | "patternProperties" | "additionalProperties" => {
                for (key, held) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = property(schema, keyword, rule, key) {
                        self.judge(rule, held, &format!("{at}/{key}"));
                    }
                }
            }
            "allOf" => each(rule).for_each(|rule| self.judge(rule, value, at)),
            "anyOf" => return each(rule).any(|rule| self.is_valid(rule, value)),
            "oneOf" => return each(rule).filter(|rule| self.is_valid(rule, value)).count() == 1,
            "then" if self.is_valid(&schema["if"], value) => self.judge(rule, value, at),
            "then" => {}
            note => assert!(NOTES.contains(&note), "the judge does not know `{note}`"),
        }
        true
    }

    fn is_valid(&self, schema: &Value, value: &Value) -> bool {
        let mut found = Vec::new();
        Judge { root: self.root, found: &mut found }.judge(schema, value, "");
        found.is_empty()
    }
}

/// The rule that a keyword has for the property of this name.
fn property<'a>(
    schema: &'a Map<String, Value>,
    keyword: &str,
    rule: &'a Value,
    key: &str,
) -> Option<&'a Value> {
    let fixed = |rules: &'a Value| rules.get(key);
    let by_pattern = |rules: &'a Value| {
        let rules = rules.as_object()?;
        rules
            .iter()
            .find(|(pattern, _)| matches(&(*pattern).clone().into(), key))
            .map(|rule| rule.1)
    };
    match keyword {
        "properties" => fixed(rule),
        "patternProperties" => by_pattern(rule),
        _ => {
            let named = schema.get("properties").and_then(fixed).is_some()
                || schema.get("patternProperties").and_then(by_pattern).is_some();
            (!named).then_some(rule)
        }
    }
}

fn each(rule: &Value) -> impl Iterator<Item = &Value> {
    rule.as_array().into_iter().flatten()
}

fn has_all(names: &Value, value: &Value) -> bool {
    let Some(object) = value.as_object() else { return true };
    each(names).all(|name| name.as_str().is_some_and(|name| object.contains_key(name)))
}

fn is_of(types: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some("null") => value.is_null(),
        unknown => panic!("the judge does not know the type {unknown:?}"),
    };
    if types.is_array() { each(types).any(is) } else { is(types) }
}

fn matches(pattern: &Value, text: &str) -> bool {
    let pattern = pattern.as_str().expect("a pattern is text");
    Regex::new(pattern).expect("a pattern is a regular expression").is_match(text)
}

fn number(rule: &Value) -> u64 {
    rule.as_u64().expect("a limit is a number")
}
