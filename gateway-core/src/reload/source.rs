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

/// The lines of a document's part, of one that may be no YAML elsewhere.
fn part<'t>(text: &'t str, key: &str) -> &'t str {
    let begins =
        |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'));
    let mut at = 0;
    let (mut from, mut to) = (None, text.len());
    for line in text.split_inclusive('\n') {
        let goes_on = line.starts_with([' ', '\t', '#', '\n', '\r', '}', ']']);
        if from.is_some() && !goes_on {
            to = at;
            break;
        }
        if from.is_none() && begins(line) {
            from = Some(at);
        }
        at += line.len();
    }
    from.map_or("", |from| &text[from..to])
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
        let document: serde_yaml::Value = serde_yaml::from_str(&text)
            .or_else(|error| match part(&text, "admin") {
                "" => Err(error),
                part => serde_yaml::from_str(part),
            })
            .ok()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_part_is_found_in_what_is_no_yaml_elsewhere() {
        for (text, found) in [
            ("version: 1\nadmin: {address: \"unix:a\"}\nroutes: [\n", "unix:/here/a"),
            ("a: [b\nadmin:\n  # where\n  address: unix:/run/a\n\nroutes: }\n", "unix:/run/a"),
            ("admin: {\n  address: \"127.0.0.1:1\"\n}\nx: [", "127.0.0.1:1"),
        ] {
            let source = Source::Text(text.to_owned());
            let admin = source.admin().flatten().expect(text);
            let told = admin.address.to_string();
            assert!(told == found || told.ends_with("/a"), "{text}: {told}");
        }
        assert!(Source::Text("a: [b\n  admin: x".to_owned()).admin().is_none());
    }
}
