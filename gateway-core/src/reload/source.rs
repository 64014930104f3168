//! Where the text of a config is.

use std::path::PathBuf;

use super::History;
use crate::config::{
    AdminConfig, Fault, Faults, LoadOptions, Loaded, PluginSchemas, read, read_kept, read_text,
};

/// Where the text of a config is.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, with what it includes.
    File(PathBuf),
    /// A text in memory; relative paths in it are relative to the working directory.
    Text(String),
    /// An entry of a history.
    Kept(History, u64),
}

impl Source {
    /// The admin part as it stands in the text.
    pub(crate) fn admin(&self) -> Option<Option<AdminConfig>> {
        let here = std::env::current_dir().unwrap_or_default();
        let (text, folder) = match self {
            Self::File(path) => {
                let path = here.join(path);
                (std::fs::read_to_string(&path).ok()?, path.parent()?.to_owned())
            }
            Self::Text(text) => (text.clone(), here),
            Self::Kept(..) => return None,
        };
        let document: serde_yaml::Value = serde_yaml::from_str(&text).ok()?;
        match document.get("admin") {
            None => Some(None),
            Some(admin) => {
                let admin: AdminConfig = serde_yaml::from_value(admin.clone()).ok()?;
                Some(Some(admin.seen_from(&folder)))
            }
        }
    }

    pub(super) fn load(&self, plugins: &dyn PluginSchemas) -> Result<Loaded, Faults> {
        let options = LoadOptions::default();
        match self {
            Self::File(path) => read(path, plugins, &options),
            Self::Text(text) => {
                let here = std::env::current_dir().unwrap_or_default();
                read_text("config", &here, text, plugins, &options)
            }
            Self::Kept(history, number) => {
                let files = history.files(*number);
                let files = files.map_err(|error| Fault::of_file("history", error.to_string()))?;
                read_kept(files, plugins, &options)
            }
        }
    }
}
