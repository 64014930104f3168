//! From the text of one file to its values: YAML, with every syntax fault on its line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_yaml::Value;

use super::document::Document;
use super::fault::{Fault, Faults};
use super::marks::Mark;
use super::path::ConfigPath;

/// A larger file is refused before it is read as YAML.
const LARGEST: u64 = 64 << 20;

/// Reads a file of at most 64 MiB of UTF-8.
pub(super) fn read(name: &str, path: &Path) -> Result<String, Fault> {
    let failed = |error| Fault::of_file(name, format!("cannot be read: {error}"));
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = "is not UTF-8 from this line on";
        Fault { line, column: 1, ..Fault::of_file(name, message) }
    })?;
    guard(name, &text)?;
    Ok(text)
}

/// Refuses a text larger than a file may be.
pub(super) fn guard(name: &str, text: &str) -> Result<(), Fault> {
    if text.len() as u64 > LARGEST {
        return Err(Fault::of_file(name, "is larger than 64MiB"));
    }
    Ok(())
}

/// Parses one file of the document, and puts in what its merge keys (`<<`) stand for.
pub(super) fn parse(document: &Document, file: usize) -> Result<Value, Faults> {
    refuse_deep(document, file)?;
    let mut value: Value = serde_yaml::from_str(document.text(file))
        .map_err(|error| unreadable(document, file, &error))?;
    if !document.text(file).contains("<<") {
        return Ok(value);
    }
    if let Some(path) = wrong_merge(&value, &ConfigPath::root()) {
        let what = "`<<` takes a mapping or a list of mappings";
        return Err(document.fault_in(file, &path, false, what).into());
    }
    value.apply_merge().map_err(|error| unreadable(document, file, &error))?;
    Ok(value)
}

/// Refuses a text nested so deeply that parsing it would take minutes: the time that the parser
/// takes for a node grows with the depth of the node.
fn refuse_deep(document: &Document, file: usize) -> Result<(), Faults> {
    if !may_be_deep(document.text(file)) {
        return Ok(());
    }
    match document.marks(file).too_deep {
        Some(at) => {
            let what = "not YAML: nested too deeply";
            Err(document.fault_on(file, at, &ConfigPath::root(), what).into())
        }
        None => Ok(()),
    }
}

/// Whether more could be open at once than any document needs. Brackets inside texts count too,
/// so a `true` must be looked into; a `false` is certain.
fn may_be_deep(text: &str) -> bool {
    const MANY: usize = 200;
    let mut open = 0usize;
    text.lines().any(|line| {
        let mut dashes = 0;
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                b'-' | b'?' | b':' => dashes += 1,
                _ => {}
            }
            if open > MANY || dashes > MANY {
                return true;
            }
        }
        false
    })
}

fn unreadable(document: &Document, file: usize, error: &serde_yaml::Error) -> Faults {
    let root = ConfigPath::root();
    let marks = document.marks(file);
    if let Some(second) = marks.second_document {
        let what = "a second YAML document begins here; a file holds one";
        return document.fault_on(file, second, &root, what).into();
    }
    let name = document.name(file);
    let mut duplicates = marks.duplicates.iter().map(|duplicate| {
        let path = ConfigPath::from(duplicate.path.clone());
        let Mark { line, column } = duplicate.first;
        let what = format!("this key stands at {name}:{line}:{column} already");
        document.fault_on(file, duplicate.at, &path, what)
    });
    if let Some(first) = duplicates.next() {
        return Faults::at_least(first, duplicates);
    }
    let message = error.to_string();
    // The fault has its own place; the message need not repeat it.
    let message = message.split(" at line ").next().unwrap_or_default();
    let what = format!("not YAML: {message}");
    let fault = match error.location() {
        Some(at) => {
            let mark = Mark { line: at.line(), column: at.column() };
            document.fault_on(file, mark, &root, what)
        }
        None => Fault::of_file(name, what),
    };
    fault.into()
}

/// The first `<<` that does not hold mappings.
fn wrong_merge(value: &Value, at: &ConfigPath) -> Option<ConfigPath> {
    match value {
        Value::Sequence(items) => items
            .iter()
            .enumerate()
            .filter(|(_, item)| item.is_mapping() || item.is_sequence())
            .find_map(|(index, item)| wrong_merge(item, &at.clone().index(index))),
        Value::Mapping(mapping) => mapping.iter().find_map(|(key, value)| {
            let key = key.as_str()?;
            let mergeable = match value {
                Value::Mapping(_) => true,
                Value::Sequence(items) => {
                    items.iter().all(|item| matches!(item, Value::Mapping(_)))
                }
                _ => false,
            };
            if key == "<<" && !mergeable {
                return Some(at.clone().key(key));
            }
            if !value.is_mapping() && !value.is_sequence() {
                return None;
            }
            wrong_merge(value, &at.clone().key(key))
        }),
        _ => None,
    }
}
