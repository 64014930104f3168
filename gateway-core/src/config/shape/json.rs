//! Reading of JSON Schemas: types, fixed texts, bounds, and one schema laid on another.

use serde_json::{Map, Value as Json};

use super::Kind;

/// `over` laid on `under`: keys and required keys are joined, everything else is replaced.
pub(super) fn merged(under: &Map<String, Json>, over: &Map<String, Json>) -> Map<String, Json> {
    let mut out = under.clone();
    for (key, value) in over {
        match (out.get_mut(key), value) {
            (Some(Json::Object(mine)), Json::Object(theirs)) if key == "properties" => {
                mine.extend(theirs.clone());
            }
            (Some(Json::Array(mine)), Json::Array(theirs)) if key == "required" => {
                mine.extend(theirs.clone());
            }
            _ if key == "$ref" => {}
            _ => drop(out.insert(key.clone(), value.clone())),
        }
    }
    out
}

pub(super) fn types(schema: &Map<String, Json>) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(many)) => many.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The texts a schema of fixed texts allows.
pub(super) fn texts(schema: &Map<String, Json>) -> Option<Vec<String>> {
    if let Some(Json::String(one)) = schema.get("const") {
        return Some(vec![one.clone()]);
    }
    let values = schema.get("enum")?.as_array()?;
    values.iter().filter(|value| !value.is_null()).map(text).collect()
}

pub(super) fn text(value: &Json) -> Option<String> {
    value.as_str().map(str::to_owned)
}

pub(super) fn integer(schema: &Map<String, Json>) -> Kind {
    let (lowest, highest) = match schema.get("format").and_then(Json::as_str) {
        Some("uint8") => (0, i128::from(u8::MAX)),
        Some("uint16") => (0, i128::from(u16::MAX)),
        Some("uint32") => (0, i128::from(u32::MAX)),
        Some("uint64" | "uint") => (0, i128::from(u64::MAX)),
        Some("int8") => (i128::from(i8::MIN), i128::from(i8::MAX)),
        Some("int16") => (i128::from(i16::MIN), i128::from(i16::MAX)),
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => (i128::from(i64::MIN), i128::from(u64::MAX)),
    };
    let bound = |key: &str| {
        let bound = schema.get(key)?;
        bound.as_i64().map(i128::from).or_else(|| bound.as_u64().map(i128::from))
    };
    Kind::Integer {
        min: bound("minimum").map_or(lowest, |min| min.max(lowest)),
        max: bound("maximum").map_or(highest, |max| max.min(highest)),
    }
}
