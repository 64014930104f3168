//! Follows the files of a config.
//!
//! They are looked at, not listened to: that sees files that are replaced, links that lead elsewhere (as in a mounted
//! ConfigMap), files that come and go, and file systems that tell nothing, all in one way.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::Source;
use crate::config::included;

/// How often files are looked at. A change counts once two looks in a row have seen the same.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// What tells that a file is another: when it was written, how long it is, and which one it is.
type Stamp = Option<(SystemTime, u64, u64)>;

/// The files of a config, and how they were.
#[derive(Debug, Default)]
pub(super) struct Files {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Files as they were when the config was last read, whatever came of it.
    read: Vec<(PathBuf, Stamp)>,
    /// The same at the last look.
    looked: Vec<(PathBuf, Stamp)>,
    /// What the last config that could be read names beside itself.
    named: BTreeSet<PathBuf>,
    /// What the main file includes, and how that was then.
    includes: (Stamp, Vec<String>),
}

impl Files {
    /// The config is about to be read.
    pub(super) fn reading(&self, source: &Source) {
        let mut known = self.known();
        known.read = known.stamps(source);
    }

    /// It could be read, and names these, which are about to be read.
    pub(super) fn naming(&self, files: &[PathBuf]) {
        let mut known = self.known();
        let before = std::mem::replace(&mut known.named, files.iter().cloned().collect());
        let Known { read, named, .. } = &mut *known;
        read.retain(|(file, _)| named.contains(file) || !before.contains(file));
        for file in named.iter() {
            let stamp = stamp(file);
            match read.iter_mut().find(|(held, _)| held == file) {
                Some((_, held)) => *held = stamp,
                None => read.push((file.clone(), stamp)),
            }
        }
        read.sort();
    }

    /// Looks at them. Whether there is something new, which has stayed so since the last look.
    pub(super) fn look(&self, source: &Source) -> bool {
        let mut known = self.known();
        let now = known.stamps(source);
        let settled = known.looked == now;
        let is_new = known.read != now;
        known.looked = now;
        settled && is_new
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn stamps(&mut self, source: &Source) -> Vec<(PathBuf, Stamp)> {
        let mut files = self.named.clone();
        if let Source::File(main) = source {
            let now = stamp(main);
            if self.includes.0 != now {
                // What cannot be read includes what it did before.
                let before = std::mem::take(&mut self.includes.1);
                self.includes = (now, patterns(main).unwrap_or(before));
            }
            let folder = main.parent().unwrap_or(Path::new(""));
            files.extend(self.includes.1.iter().flat_map(|pattern| included(pattern, folder)));
            files.insert(main.clone());
        }
        files.into_iter().map(|file| (file.clone(), stamp(&file))).collect()
    }
}

/// What a file includes, whatever else is wrong with it.
fn patterns(main: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(main).ok()?;
    let document: serde_yaml::Value = serde_yaml::from_str(&text).ok()?;
    let patterns = document.get("include").and_then(serde_yaml::Value::as_sequence);
    let patterns = patterns.into_iter().flatten();
    Some(patterns.filter_map(|pattern| pattern.as_str().map(str::to_owned)).collect())
}

/// Follows links to where they lead.
fn stamp(file: &Path) -> Stamp {
    let known = std::fs::metadata(file).ok()?;
    Some((known.modified().ok()?, known.len(), known.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks until nothing is new; whether anything was.
    fn changes(files: &Files, source: &Source) -> bool {
        let seen: Vec<bool> = (0..2).map(|_| files.look(source)).collect();
        if seen[1] {
            files.reading(source);
        }
        assert!(!seen[0], "one look is not enough");
        seen[1]
    }

    #[test]
    fn what_changes_is_seen_once_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(file(name), text).unwrap();
        write("main.yaml", "include: [\"r.d/*.yaml\", one.yaml]\n");
        write("one.yaml", "");
        write("key", "1");
        let source = Source::File(file("main.yaml"));
        let files = Files::default();
        files.reading(&source);
        files.naming(&[file("key")]);
        assert!(!files.look(&source) && !files.look(&source));

        write("one.yaml", "routes: []\n");
        assert!(changes(&files, &source));
        std::fs::create_dir(file("r.d")).unwrap();
        write("r.d/new.yaml", "");
        assert!(changes(&files, &source));
        write("r.d/.hidden.yaml", "");
        write("other", "");
        assert!(!changes(&files, &source));
        write("key", "22");
        assert!(changes(&files, &source));
        std::fs::remove_file(file("key")).unwrap();
        assert!(changes(&files, &source));
        assert!(!changes(&files, &source), "what is gone is gone once");
        // A file in the place of another, and a main file that cannot be read.
        write("next", "include: [r.d/*.yaml, one.yaml, {");
        std::fs::rename(file("next"), file("main.yaml")).unwrap();
        assert!(changes(&files, &source));
        write("one.yaml", "");
        assert!(changes(&files, &source), "it is still looked at what it included");
        // One that still changes is not looked at yet.
        write("one.yaml", "a");
        assert!(!files.look(&source));
        write("one.yaml", "ab");
        assert!(!files.look(&source));
        assert!(files.look(&source));
    }
}
