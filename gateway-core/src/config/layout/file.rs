//! Where texts to be laid out are: which files a config consists of, and how one is replaced.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::laid_out;
use crate::config::document::Document;
use crate::config::fault::{Fault, Faults};
use crate::config::interpolate::interpolate;
use crate::config::path::ConfigPath;
use crate::config::secret::environment;
use crate::config::{include, text};

/// A file, and what would stand in it if it were in the one layout.
#[derive(Debug)]
pub struct FileLayout {
    path: PathBuf,
    /// What stands there.
    pub written: String,
    /// The same in the one layout.
    pub laid_out: String,
}

impl FileLayout {
    /// Reads a file and lays out what stands there; nothing is written.
    ///
    /// # Errors
    /// It cannot be read, or [`laid_out`] refuses.
    pub fn of(path: &Path) -> Result<Self, Faults> {
        let name = path.to_string_lossy();
        let written = text::read(&name, path)?;
        let laid_out = laid_out(&name, &written)?;
        Ok(Self { path: path.to_owned(), written, laid_out })
    }

    /// Whether it is in the one layout already.
    pub fn is_in_form(&self) -> bool {
        self.written == self.laid_out
    }

    /// Puts the layout in place of what stands there, in one step: whoever reads the file finds the one or the
    /// other. Mode and owner stay, and a link goes on leading where it did.
    ///
    /// # Errors
    /// The system refuses; nothing has changed then.
    pub fn replace(&self) -> io::Result<()> {
        let target = self.path.canonicalize()?;
        let found = fs::metadata(&target)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let beside = target.with_file_name(format!(".{name}.{}", std::process::id()));
        let outcome = write(&beside, &self.laid_out, &found).and_then(|()| {
            // Somebody else may have written meanwhile.
            if fs::read(&target)? != self.written.as_bytes() {
                return Err(io::Error::other("it has changed meanwhile"));
            }
            fs::rename(&beside, &target)
        });
        if outcome.is_err() {
            // It may not be there.
            let _ = fs::remove_file(&beside);
        }
        outcome?;
        File::open(target.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}

/// Writes a new file of this mode and owner.
fn write(path: &Path, text: &str, like: &fs::Metadata) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        fchown(&file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(like.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A config's main file and the files that it includes, each once, whatever else is wrong with it.
///
/// # Errors
/// It cannot be read, is no YAML, or includes what is not there.
pub fn config_files(main: &Path) -> Result<Vec<PathBuf>, Faults> {
    let name = main.to_string_lossy();
    let mut document = Document::default();
    let file = document.add(name.to_string(), text::read(&name, main)?);
    let root = text::parse(&document, file)?;
    let folder = main.parent().unwrap_or(Path::new(""));
    let base = std::path::absolute(main)
        .map_err(|error| Fault::of_file(name.clone(), error.to_string()))?;
    let base = base.parent().unwrap_or(Path::new("/"));
    let mut files = vec![main.to_owned()];
    let patterns = root.get("include").and_then(Value::as_sequence);
    for (index, pattern) in patterns.into_iter().flatten().enumerate() {
        let Some(pattern) = pattern.as_str() else { continue };
        let at = ConfigPath::root().key("include").index(index);
        let fault = |message| document.fault_in(file, &at, false, message);
        let told = interpolate(pattern, &environment).map_err(fault)?;
        let pattern = told.as_deref().unwrap_or(pattern);
        let found = include::expand(pattern, base, folder).map_err(fault)?;
        files.extend(found.into_iter().map(|file| PathBuf::from(file.name)));
    }
    let mut seen = BTreeSet::new();
    files.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("routes.d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_file_is_replaced_where_a_link_leads_and_keeps_its_mode() {
        let folder = folder(&[("real.yaml", "a:   1\n")]);
        let (real, link) = (folder.path().join("real.yaml"), folder.path().join("link.yaml"));
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.yaml", &link).unwrap();

        let file = FileLayout::of(&link).unwrap();
        assert!(!file.is_in_form());
        file.replace().unwrap();

        assert_eq!(fs::read_to_string(&real).unwrap(), "a: 1\n");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(FileLayout::of(&link).unwrap().is_in_form());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_has_changed_meanwhile_is_left_alone() {
        let folder = folder(&[("a.yaml", "a:   1\n")]);
        let path = folder.path().join("a.yaml");

        let file = FileLayout::of(&path).unwrap();
        fs::write(&path, "a:   2\n").unwrap();

        assert_eq!(file.replace().unwrap_err().to_string(), "it has changed meanwhile");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a:   2\n");
    }

    #[test]
    fn the_files_of_a_config_are_found_even_if_it_has_faults() {
        let folder = folder(&[
            ("gateway.yaml", "include: [\"routes.d/*.yaml\", \"${NONE:-*.yaml}\"]\nrotues: 5\n"),
            ("routes.d/b.yaml", "{"),
            ("routes.d/a.yaml", ""),
        ]);

        let files = config_files(&folder.path().join("gateway.yaml")).unwrap();

        let told: Vec<_> =
            files.iter().map(|path| path.strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(told, ["gateway.yaml", "routes.d/a.yaml", "routes.d/b.yaml"].map(Path::new));
    }

    #[test]
    fn what_is_included_and_not_there_is_a_fault_with_its_place() {
        let folder = folder(&[("gateway.yaml", "include:\n  - none.yaml\n")]);

        let faults = config_files(&folder.path().join("gateway.yaml")).unwrap_err().to_string();

        assert!(faults.contains("gateway.yaml:2:5  include[0]: there is no file"), "{faults}");
    }
}
