//! `include`: which files a document adds to its lists.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A file to include: as the operator would name it, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Included {
    pub path: PathBuf,
    pub name: String,
}

impl Included {
    /// A file that is known by where it is.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { name: path.to_string_lossy().into_owned(), path }
    }
}

/// The files a pattern stands for, sorted. `*` and `?` are read in the last part of it only.
pub(super) fn expand(pattern: &str, base: &Path, prefix: &Path) -> Result<Vec<Included>, String> {
    let (folder, last) = match pattern.rsplit_once('/') {
        Some(("", last)) => ("/", last),
        Some((folder, last)) => (folder, last),
        None => ("", pattern),
    };
    if folder.contains(['*', '?']) {
        return Err("`*` and `?` can stand only after the last `/`".into());
    }
    if last.is_empty() {
        return Err("this names a folder; write `folder/*.yaml`".into());
    }
    let place = |last: &str| Included {
        path: base.join(folder).join(last),
        name: prefix.join(folder).join(last).to_string_lossy().into_owned(),
    };
    if !last.contains(['*', '?']) {
        let file = place(last);
        if !file.path.is_file() {
            return Err(format!("there is no file `{}`", file.path.display()));
        }
        return Ok(vec![file]);
    }
    let folder = base.join(folder);
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("folder `{}`: {error}", folder.display())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("folder `{}`: {error}", folder.display()))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let hidden = name.starts_with('.') && !last.starts_with('.');
        if hidden || !matches(last, name) {
            continue;
        }
        match entry.path().metadata() {
            Ok(found) if found.is_file() => files.push(place(name)),
            Ok(_) => {}
            // What it says would be gone without a word.
            Err(error) => return Err(format!("`{}`: {error}", place(name).name)),
        }
    }
    files.sort();
    Ok(files)
}

/// The files that a pattern stands for now, or would if they were there.
pub(crate) fn included(pattern: &str, base: &Path) -> Vec<PathBuf> {
    match expand(pattern, base, Path::new("")) {
        Ok(files) => files.into_iter().map(|file| file.path).collect(),
        Err(_) => vec![base.join(pattern)],
    }
}

/// Whether a name fits a pattern of `*` (any characters) and `?` (one).
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stood, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_names() {
        for (pattern, name, expected) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", ".yaml", true),
            ("*.yaml", "a.yml", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("0?-*.yaml", "01-users.yaml", true),
            ("0?-*.yaml", "0-users.yaml", false),
            ("*", "", true),
            ("***", "abc", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_come_sorted_and_without_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yaml", ".hidden.yaml", "c.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("d.yaml")).unwrap();
        std::os::unix::fs::symlink("b.yaml", folder.path().join("e.yaml")).unwrap();

        let files = expand("./*.yaml", folder.path(), Path::new("conf")).unwrap();

        let names: Vec<String> = files.into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["conf/./a.yaml", "conf/./b.yaml", "conf/./e.yaml"]);
        std::fs::remove_file(folder.path().join("b.yaml")).unwrap();
        assert_eq!(
            expand("*.yaml", folder.path(), Path::new("conf")).unwrap_err(),
            "`conf/e.yaml`: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn pattern_that_cannot_be_read_says_why() {
        let base = Path::new("/nowhere");

        assert_eq!(expand("*.yaml", base, base), Ok(Vec::new()));
        assert_eq!(expand("a.yaml", base, base).unwrap_err(), "there is no file `/nowhere/a.yaml`");
        assert_eq!(
            expand("*/a.yaml", base, base).unwrap_err(),
            "`*` and `?` can stand only after the last `/`"
        );
        assert_eq!(
            expand("routes.d/", base, base).unwrap_err(),
            "this names a folder; write `folder/*.yaml`"
        );
    }
}
