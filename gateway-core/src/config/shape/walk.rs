//! The walk: compares one file's values with their shapes, and finds every fault of them.
//!
//! On the way it puts variables in, drops keys that begin with `x-`, and makes paths absolute.

use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Number, Value};

use super::at::At;
use super::choice::Meant;
use super::words::{counted, describe, not_among};
use super::{Kind, MapShape, Rest, ShapeId, Shapes};
use crate::config::file_path::FilePath;
use crate::config::interpolate::interpolate;
use crate::config::nearest::{hint, listed};
use crate::config::path::ConfigPath;
use crate::config::scalar::{Format, Scalar};

/// One walk over one file.
pub(in crate::config) struct Walk<'a> {
    shapes: &'a Shapes,
    env: &'a dyn Fn(&str) -> Option<String>,
    /// The directory of the file, absolute.
    base: &'a Path,
    pub found: Found,
    /// Whether a variable put the text in that is being walked.
    from_env: bool,
}

/// What a walk found, by place in the file.
#[derive(Default)]
pub(in crate::config) struct Found {
    pub faults: Vec<Finding>,
    /// Secrets written as text in the file itself.
    pub literal_secrets: Vec<ConfigPath>,
    /// Every secret that is a text, also those that a variable put in.
    pub secrets: Vec<ConfigPath>,
    /// Where the path of a file stands, and the path.
    pub files: Vec<(ConfigPath, PathBuf)>,
}

/// A fault without its line yet.
pub(in crate::config) struct Finding {
    pub path: ConfigPath,
    /// Whether the key is at fault, not its value.
    pub at_key: bool,
    pub message: String,
}

impl<'a> Walk<'a> {
    pub fn new(
        shapes: &'a Shapes,
        env: &'a dyn Fn(&str) -> Option<String>,
        base: &'a Path,
    ) -> Self {
        Self { shapes, env, base, found: Found::default(), from_env: false }
    }

    /// Walks the whole of a file.
    pub fn root(&mut self, value: &mut Value, shape: ShapeId) {
        self.value(value, shape, &At::ROOT);
    }

    fn fault(&mut self, at: &At<'_>, message: impl Into<String>) {
        let message = message.into();
        self.found.faults.push(Finding { path: at.path(), at_key: false, message });
    }

    fn fault_at_key(&mut self, at: &At<'_>, message: String) {
        self.found.faults.push(Finding { path: at.path(), at_key: true, message });
    }

    fn value(&mut self, value: &mut Value, id: ShapeId, at: &At<'_>) {
        self.from_env = false;
        if let Value::String(text) = value {
            match interpolate(text, self.env) {
                Ok(None) => {}
                Ok(Some(replaced)) => {
                    // `$$` alone puts nothing in.
                    self.from_env = text.contains("${");
                    *value = coerced(replaced, self.shapes, id);
                }
                Err(message) => return self.fault(at, message),
            }
        }
        self.replaced(value, id, at, &[]);
    }

    /// As `value`, of a value whose variables are put in; `siblings` are the other choices.
    fn replaced(&mut self, value: &mut Value, id: ShapeId, at: &At<'_>, siblings: &[ShapeId]) {
        let shapes = self.shapes;
        let shape = shapes.get(id);
        if value.is_null() && shape.nullable {
            return;
        }
        if shape.secret && value.is_string() {
            self.found.secrets.push(at.path());
            if !self.from_env {
                self.found.literal_secrets.push(at.path());
            }
        }
        match (&shape.kind, &mut *value) {
            (_, Value::Tagged(tagged)) => {
                let message = format!("tags such as `{}` are not supported", tagged.tag);
                self.fault(at, message);
            }
            (Kind::Any, value) => self.anything(value, id, at),
            (Kind::Choice(choices), _) => self.choice(value, id, choices, at),
            (Kind::Null, Value::Null) | (Kind::Bool, Value::Bool(_)) => {}
            (Kind::Integer { min, max }, Value::Number(number)) => {
                let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
                if !whole.is_some_and(|whole| (*min..=*max).contains(&whole)) {
                    let message = format!("expected {}, got {number}", shapes.expects(id));
                    self.fault(at, message);
                }
            }
            (Kind::Number { min, max }, Value::Number(number)) => {
                if !number.as_f64().is_some_and(|figure| (*min..=*max).contains(&figure)) {
                    let message = format!("expected {}, got {number}", shapes.expects(id));
                    self.fault(at, message);
                }
            }
            (Kind::Text { format: Some(format), .. }, value) => self.formatted(value, format, at),
            (Kind::Text { one_of, min, .. }, Value::String(text)) => {
                self.text(text, one_of, *min, at);
            }
            (Kind::List { item, min, max }, Value::Sequence(items)) => {
                if items.len() < *min || items.len() > *max {
                    let message = format!("expected {}, got {}", counted(*min, *max), items.len());
                    self.fault(at, message);
                }
                for (index, value) in items.iter_mut().enumerate() {
                    self.value(value, *item, &at.index(index));
                }
            }
            (Kind::Map(map), Value::Mapping(mapping)) => self.map(mapping, map, at, siblings),
            (_, value) => {
                let what = describe(value, shape.secret);
                let quote = match (&shape.kind, value) {
                    (Kind::Text { .. }, Value::Number(_) | Value::Bool(_)) => "; put it in quotes",
                    _ => "",
                };
                let message = format!("expected {}, got {what}{quote}", shapes.expects(id));
                self.fault(at, message);
            }
        }
    }

    /// A value of no known shape still has variables, and keys that are text.
    fn anything(&mut self, value: &mut Value, any: ShapeId, at: &At<'_>) {
        match value {
            Value::Sequence(items) => {
                for (index, value) in items.iter_mut().enumerate() {
                    self.value(value, any, &at.index(index));
                }
            }
            Value::Mapping(mapping) => {
                for (key, value) in mapping.iter_mut() {
                    match key.as_str() {
                        Some(key) => self.value(value, any, &at.key(key)),
                        None => self.key_is_no_text(key, at),
                    }
                }
            }
            _ => {}
        }
    }

    fn key_is_no_text(&mut self, key: &Value, at: &At<'_>) {
        let what = describe(key, false);
        self.fault(at, format!("a key must be text, got {what}; put it in quotes"));
    }

    fn choice(&mut self, value: &mut Value, id: ShapeId, choices: &[ShapeId], at: &At<'_>) {
        let shapes = self.shapes;
        match shapes.meant(choices, value) {
            Meant::Shape(meant) => self.replaced(value, meant, at, choices),
            // The only shape there is says best what it expects.
            Meant::None if choices.len() == 1 => self.replaced(value, choices[0], at, &[]),
            Meant::None => {
                let what = describe(value, shapes.get(id).secret);
                self.fault(at, format!("expected {}, got {what}", shapes.expects(id)));
            }
            Meant::NoKnownKey(keys) => {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                let written = value.as_mapping().into_iter().flat_map(Mapping::keys);
                let unknown: Vec<&str> = written.filter_map(Value::as_str).collect();
                if unknown.is_empty() {
                    self.fault(at, format!("expected one of the keys {}", listed(&keys)));
                }
                for key in unknown {
                    let message = format!("unknown key `{key}`{}", hint(key, &keys));
                    self.fault_at_key(&at.key(key), message);
                }
            }
            Meant::Tag(tag, texts) => {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                match value.get(tag.as_str()).and_then(Value::as_str) {
                    None => self.fault(at, format!("missing required key `{tag}`")),
                    Some(text) => {
                        let message = not_among(text, &texts);
                        self.fault(&at.key(&tag), message);
                    }
                }
            }
        }
    }

    fn text(&mut self, text: &str, one_of: &[String], min: usize, at: &At<'_>) {
        if !one_of.is_empty() && !one_of.iter().any(|one| one == text) {
            let words: Vec<&str> = one_of.iter().map(String::as_str).collect();
            self.fault(at, not_among(text, &words));
        }
        if text.chars().count() < min {
            let message = match min {
                1 => "the text must not be empty".to_owned(),
                _ => format!("the text must have at least {min} characters"),
            };
            self.fault(at, message);
        }
    }

    fn formatted(&mut self, value: &mut Value, format: &Format, at: &At<'_>) {
        let checked = match &*value {
            Value::String(text) => (format.check)(text),
            Value::Number(number) if format.numbers => (format.check)(&number.to_string()),
            _ => {
                let what = describe(value, false);
                return self.fault(at, format!("expected {}, got {what}", format.expects));
            }
        };
        if let Err(invalid) = checked {
            return self.fault(at, invalid.to_string());
        }
        if let (Some(relocate), Value::String(text)) = (format.relocate, value) {
            *text = relocate(text, self.base);
            if format.name == FilePath::FORMAT {
                self.found.files.push((at.path(), PathBuf::from(&*text)));
            }
        }
    }

    fn map(&mut self, mapping: &mut Mapping, map: &MapShape, at: &At<'_>, siblings: &[ShapeId]) {
        let mut ignored = false;
        for (key, value) in mapping.iter_mut() {
            let Some(key) = key.as_str() else {
                self.key_is_no_text(key, at);
                continue;
            };
            match (map.keys.get(key), &map.rest) {
                (Some(_), _) if map.options_by_kind && key == "options" => {}
                (Some(id), _) => self.value(value, *id, &at.key(key)),
                (None, Rest::Accepted(id)) => self.value(value, *id, &at.key(key)),
                (None, Rest::Refused) if key.starts_with("x-") => ignored = true,
                (None, Rest::Refused) => {
                    let message = self.unknown_key(key, map, siblings);
                    self.fault_at_key(&at.key(key), message);
                }
            }
        }
        if ignored {
            mapping.retain(|key, _| {
                let key = key.as_str().unwrap_or_default();
                map.keys.contains_key(key) || !key.starts_with("x-")
            });
        }
        for key in &map.required {
            if !mapping.contains_key(key.as_str()) {
                self.fault(at, format!("missing required key `{key}`"));
            }
        }
        if map.options_by_kind {
            self.options(mapping, at);
        }
    }

    fn unknown_key(&self, key: &str, map: &MapShape, siblings: &[ShapeId]) -> String {
        let mut keys: Vec<&str> = map.keys.keys().map(String::as_str).collect();
        keys.sort_unstable();
        if self.shapes.is_key_of_another(siblings, key) {
            let others = listed(&keys);
            return format!("`{key}` cannot stand beside {others}; leave one out");
        }
        format!("unknown key `{key}`{}", hint(key, &keys))
    }

    /// A plugin's options have the shape its kind gives them.
    fn options(&mut self, mapping: &mut Mapping, at: &At<'_>) {
        let shapes = self.shapes;
        let Some(kind) = mapping.get("kind").and_then(Value::as_str) else {
            return;
        };
        let Some(shape) = shapes.options.get(kind).copied() else {
            let kinds = shapes.kinds();
            let message = format!("unknown plugin kind `{kind}`{}", hint(kind, &kinds));
            return self.fault(&at.key("kind"), message);
        };
        let takes_nothing = matches!(shapes.get(shape).kind, Kind::Any | Kind::Null);
        if !takes_nothing && mapping.get("options").is_none_or(Value::is_null) {
            mapping.insert("options".into(), Value::Mapping(Mapping::new()));
        }
        if let Some(options) = mapping.get_mut("options") {
            self.value(options, shape, &at.key("options"));
        }
    }
}

/// What an interpolated text is where a number or a boolean is wanted.
fn coerced(text: String, shapes: &Shapes, id: ShapeId) -> Value {
    let wants = |wanted: fn(&Kind) -> bool| wants(shapes, id, wanted);
    if wants(|kind| matches!(kind, Kind::Text { .. } | Kind::Any)) {
        return Value::String(text);
    }
    if wants(|kind| matches!(kind, Kind::Bool))
        && let Ok(value) = text.parse::<bool>()
    {
        return Value::Bool(value);
    }
    if wants(|kind| matches!(kind, Kind::Integer { .. } | Kind::Number { .. })) {
        let unsigned = text.parse::<u64>().map(Number::from).ok();
        let signed = || text.parse::<i64>().map(Number::from).ok();
        let float = || text.parse::<f64>().map(Number::from).ok();
        if let Some(number) = unsigned.or_else(signed).or_else(float) {
            return Value::Number(number);
        }
    }
    Value::String(text)
}

fn wants(shapes: &Shapes, id: ShapeId, wanted: fn(&Kind) -> bool) -> bool {
    match &shapes.get(id).kind {
        Kind::Choice(choices) => choices.iter().any(|choice| wants(shapes, *choice, wanted)),
        kind => wanted(kind),
    }
}
