//! The texts a config was read from, and the way back from a path to a line.

use std::sync::OnceLock;

use serde_yaml::Value;

use super::fault::Fault;
use super::marks::{Mark, Marks};
use super::path::{ConfigPath, Segment};

/// The lists that included files add to.
pub(super) const LISTS: [&str; 6] =
    ["plugins", "listeners", "upstreams", "consumers", "route_groups", "routes"];

/// The files a config was read from; says where a part of the merged config is written.
#[derive(Debug, Default)]
pub struct Document {
    files: Vec<Source>,
    /// Which items of each list of [`LISTS`] come from which file, in order.
    parts: [Vec<Part>; LISTS.len()],
}

#[derive(Debug)]
struct Source {
    name: String,
    text: String,
    /// Read when the first fault must be placed.
    marks: OnceLock<Marks>,
}

#[derive(Debug)]
struct Part {
    file: usize,
    start: usize,
    length: usize,
}

impl Document {
    /// A fault of the value at `path` in the merged config, placed in the file that holds it; a
    /// value that is not written is placed at its nearest ancestor.
    pub fn fault(&self, path: &ConfigPath, message: impl Into<String>) -> Fault {
        self.fault_at(path, false, message.into())
    }

    /// As [`Document::fault`], of the key that `path` ends in instead of its value.
    pub fn fault_at_key(&self, path: &ConfigPath, message: impl Into<String>) -> Fault {
        self.fault_at(path, true, message.into())
    }

    /// `gateway.yaml:12:5`, where the value at `path` is written.
    pub fn place(&self, path: &ConfigPath) -> String {
        let (file, mark) = self.locate(path, false);
        format!("{}:{}:{}", file.name, mark.line, mark.column)
    }

    fn fault_at(&self, path: &ConfigPath, at_key: bool, message: String) -> Fault {
        let (file, mark) = self.locate(path, at_key);
        Fault {
            file: file.name.clone(),
            line: mark.line,
            column: mark.column,
            path: path.to_string(),
            message,
        }
    }

    fn locate(&self, path: &ConfigPath, at_key: bool) -> (&Source, Mark) {
        let mut local = path.segments().to_vec();
        let mut file = 0;
        if let [Segment::Key(list), Segment::Index(index), ..] = &mut local[..]
            && let Some(part) = self.part(list, *index)
        {
            *index -= part.start;
            file = part.file;
        }
        let file = &self.files[file];
        (file, file.marks().locate(&local, at_key))
    }

    fn part(&self, list: &str, index: usize) -> Option<&Part> {
        let parts = &self.parts[LISTS.iter().position(|name| *name == list)?];
        parts.iter().find(|part| (part.start..part.start + part.length).contains(&index))
    }

    /// Adds a file; its number is what the other methods know it by. The first is the main file.
    pub(super) fn add(&mut self, name: String, text: String) -> usize {
        self.files.push(Source { name, text, marks: OnceLock::new() });
        self.files.len() - 1
    }

    /// How many files it was read from.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    pub(super) fn text(&self, file: usize) -> &str {
        &self.files[file].text
    }

    pub(super) fn name(&self, file: usize) -> &str {
        &self.files[file].name
    }

    pub(super) fn marks(&self, file: usize) -> &Marks {
        self.files[file].marks()
    }

    /// Notes how many items the file's value adds to each list.
    pub(super) fn note_items(&mut self, file: usize, value: &Value) {
        for (list, parts) in LISTS.iter().zip(&mut self.parts) {
            let length = value.get(list).and_then(Value::as_sequence).map_or(0, Vec::len);
            let start = parts.last().map_or(0, |part| part.start + part.length);
            parts.push(Part { file, start, length });
        }
    }

    /// The merged path of a path inside one file.
    pub(super) fn merged(&self, file: usize, local: &ConfigPath) -> ConfigPath {
        let mut segments = local.segments().to_vec();
        if let [Segment::Key(list), Segment::Index(index), ..] = &mut segments[..]
            && let Some(position) = LISTS.iter().position(|name| name == list)
            && let Some(part) = self.parts[position].iter().find(|part| part.file == file)
        {
            *index += part.start;
        }
        segments.into()
    }

    /// A fault inside one file, at a path of that file.
    pub(super) fn fault_in(
        &self,
        file: usize,
        local: &ConfigPath,
        at_key: bool,
        message: impl Into<String>,
    ) -> Fault {
        let mark = self.marks(file).locate(local.segments(), at_key);
        self.fault_on(file, mark, &self.merged(file, local), message)
    }

    /// A fault on a known line of one file.
    pub(super) fn fault_on(
        &self,
        file: usize,
        mark: Mark,
        path: &ConfigPath,
        message: impl Into<String>,
    ) -> Fault {
        Fault {
            file: self.files[file].name.clone(),
            line: mark.line,
            column: mark.column,
            path: path.to_string(),
            message: message.into(),
        }
    }
}

impl Source {
    fn marks(&self) -> &Marks {
        self.marks.get_or_init(|| Marks::read(&self.text))
    }
}
