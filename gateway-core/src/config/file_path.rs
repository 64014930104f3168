//! Paths of files: relative to the file that names them, absolute once it is loaded.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::scalar::{Invalid, Scalar, scalar};

/// A path of a file. Loading makes a relative one absolute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilePath(pub PathBuf);

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl From<FilePath> for PathBuf {
    fn from(path: FilePath) -> Self {
        path.0
    }
}

impl Scalar for FilePath {
    const FORMAT: &'static str = "path";
    const EXPECTS: &'static str = "the path of a file";
    const PATTERN: &'static str = ".";
    const RELOCATE: Option<fn(&str, &Path) -> String> = Some(against);
}

impl FromStr for FilePath {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.contains('\0') {
            return Err(Invalid::new("expected the path of a file, got an empty or broken one"));
        }
        Ok(Self(PathBuf::from(text)))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

scalar!(FilePath);

/// The path of `text` as seen from the directory `base`, without `.` components.
pub(super) fn against(text: &str, base: &Path) -> String {
    let joined = base.join(text);
    // `components` drops every `.`; `..` stays, because it may lead through a symbolic link.
    joined.components().collect::<PathBuf>().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_seen_from_the_file_that_names_them() {
        let base = Path::new("/etc/gateway");

        assert_eq!(against("certs/a.pem", base), "/etc/gateway/certs/a.pem");
        assert_eq!(against("./a.pem", base), "/etc/gateway/a.pem");
        assert_eq!(against("../a.pem", base), "/etc/gateway/../a.pem");
        assert_eq!(against("/run/a.pem", base), "/run/a.pem");
    }
}
