//! One of two values that are compared: as it is shown, and as it is written.

use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

use crate::config::load::{Loaded, append};
use crate::config::secret::HIDDEN;
use crate::config::text;

/// A value of one of two configs.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    /// As a read-out shows it: typed, with defaults, without secrets.
    pub shown: &'a Json,
    /// As it stands in the text, where that is at hand and has something there. Only to tell secrets apart.
    pub written: Option<&'a Yaml>,
}

impl<'a> Side<'a> {
    pub(super) fn key(self, key: &str) -> Option<Self> {
        let written = self.written.and_then(|written| written.get(key));
        self.shown.get(key).map(|shown| Self { shown, written })
    }

    pub(super) fn items(self) -> Vec<Self> {
        let item = |(index, shown)| Self {
            shown,
            written: self.written.and_then(|written| written.get(index)),
        };
        self.shown.as_array().into_iter().flatten().enumerate().map(item).collect()
    }

    pub(super) fn keys(self) -> impl Iterator<Item = &'a str> {
        self.shown.as_object().into_iter().flatten().map(|(key, _)| key.as_str())
    }

    /// Whether it is a single value of which something is left out.
    pub(super) fn is_hidden(self) -> bool {
        self.shown.as_str().is_some_and(|text| text.contains(HIDDEN))
    }
}

/// What the files of a config say, merged, before variables are put in.
pub(super) fn written(loaded: &Loaded) -> Yaml {
    // They could be read before.
    let read = |file| text::parse(&loaded.document, file).unwrap_or_default();
    let mut root = read(0);
    for file in 1..loaded.document.files() {
        append(&mut root, read(file));
    }
    root
}
