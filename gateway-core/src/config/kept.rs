//! What is kept of a config that was accepted: its files, to be read again whatever stands there then.

use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::fault::{Fault, Faults};
use super::load::{Load, LoadOptions, Loaded, PluginSchemas};
use super::path::Segment;
use super::secret::HIDDEN;
use super::text;

/// A file of a config, at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptFile {
    /// Where it is or was. What it names relative to itself is there.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Loaded {
    /// The files as they were written, the main file first, but for secrets written as text.
    pub(crate) fn kept(&self) -> Vec<KeptFile> {
        // A text that came from no file counts as one that is where it is read from.
        let is_text = self.document.files() > self.files.len();
        let text = is_text.then(|| self.base.join(self.document.name(0)));
        let kept = |(file, path): (usize, &PathBuf)| KeptFile {
            path: std::path::absolute(path).unwrap_or_else(|_| path.clone()),
            text: self.without_literals(file),
        };
        text.iter().chain(&self.files).enumerate().map(kept).collect()
    }

    pub(crate) fn has_literal_secrets(&self) -> bool {
        !self.literals.is_empty()
    }

    fn without_literals(&self, file: usize) -> String {
        let mut paths = self.literals.iter().filter(|(held, _)| *held == file).peekable();
        if paths.peek().is_none() {
            return self.document.text(file).to_owned();
        }
        // It could be read before.
        let mut value = text::parse(&self.document, file).unwrap_or_default();
        for (_, path) in paths {
            let mut place = Some(&mut value);
            for segment in path.segments() {
                place = place.and_then(|value| match segment {
                    Segment::Key(key) => value.get_mut(key.as_str()),
                    Segment::Index(index) => value.get_mut(*index),
                });
            }
            if let Some(place) = place {
                *place = Value::String(HIDDEN.to_owned());
            }
        }
        serde_yaml::to_string(&value).unwrap_or_default()
    }
}

/// As [`read`], of files at hand, the main file first: what stands there now is not looked at.
pub(crate) fn read_kept(
    mut files: Vec<KeptFile>,
    plugins: &dyn PluginSchemas,
    options: &LoadOptions,
) -> Result<Loaded, Faults> {
    if files.is_empty() {
        return Err(Fault::of_file("history", "the entry has no files").into());
    }
    let KeptFile { path, text } = files.remove(0);
    let base = path.parent().unwrap_or(Path::new("/"));
    let name = path.to_string_lossy().into_owned();
    let mut loaded =
        Load::new(base, plugins, options)?.run(&name, text, Some(&path), Some(files))?;
    loaded.files.insert(0, path);
    Ok(loaded)
}
