//! `History`: the configs that were accepted, as they were written, so that one of them can be in force again.
//!
//! An entry is a folder: `entry.json`, which says what it is, and the files that the config was read from. References to
//! secrets and variables stay what they are. A secret that is written as text is left out, and an entry without one of
//! its secrets can be looked at but not be used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::config::{KeptFile, Loaded};

/// What says what an entry is.
const ENTRY: &str = "entry.json";

/// A config that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts the entries of a folder, from 1.
    pub number: u64,
    /// SHA-256 of the merged document, hexadecimal; secrets enter it by reference.
    pub digest: String,
    /// When it was accepted, in seconds since 1970.
    pub accepted_at: u64,
    /// Whether secrets that it has as text were left out, so that it cannot be used.
    pub redacted: bool,
    /// The files it was read from, the main file first.
    pub files: Vec<PathBuf>,
}

/// A folder of accepted configs.
#[derive(Clone, Debug)]
pub struct History {
    folder: PathBuf,
}

impl History {
    /// The history in this folder, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was accepted, the latest first. Folders that are no entries are passed over.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let folders = match self.folder.read_dir() {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let numbers = folders.filter_map(|one| one.ok()?.file_name().to_str()?.parse::<u64>().ok());
        let mut entries: Vec<Entry> =
            numbers.filter_map(|number| self.entry(number).ok()).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.number));
        Ok(entries)
    }

    /// The files of one entry, to be read as if they were where they were.
    ///
    /// # Errors
    /// There is no such entry, it cannot be read, or secrets of it were left out.
    pub(crate) fn files(&self, number: u64) -> io::Result<Vec<KeptFile>> {
        let entry = self.entry(number)?;
        if entry.redacted {
            let message = format!(
                "entry {number} has secrets written as text, which are not kept; write `{{env: NAME}}` or `{{file: path}}` so that it can be used"
            );
            return Err(io::Error::other(message));
        }
        let folder = self.at(number);
        let read = |(index, path): (usize, &PathBuf)| {
            let text = fs::read_to_string(folder.join(format!("{index}.yaml")))?;
            Ok(KeptFile { path: path.clone(), text })
        };
        entry.files.iter().enumerate().map(read).collect()
    }

    /// Keeps a config, unless it is the latest already, and forgets those before the last `keep`.
    pub(super) fn add(&self, loaded: &Loaded, keep: usize) -> io::Result<()> {
        let entries = self.entries()?;
        let latest = entries.first();
        if latest.is_some_and(|latest| latest.digest == loaded.digest) {
            return Ok(());
        }
        let files = loaded.kept();
        let entry = Entry {
            number: latest.map_or(1, |latest| latest.number + 1),
            digest: loaded.digest.clone(),
            accepted_at: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs(),
            redacted: loaded.has_literal_secrets(),
            files: files.iter().map(|file| file.path.clone()).collect(),
        };
        // Nobody else is to read what the gateway was configured with.
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.folder)?;
        let half = self.folder.join(format!(".{}", entry.number));
        if half.exists() {
            fs::remove_dir_all(&half)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&half)?;
        for (index, file) in files.iter().enumerate() {
            write(&half.join(format!("{index}.yaml")), file.text.as_bytes())?;
        }
        let said = serde_json::to_vec_pretty(&entry).map_err(io::Error::other)?;
        write(&half.join(ENTRY), &said)?;
        fs::rename(&half, self.at(entry.number))?;
        File::open(&self.folder)?.sync_all()?;
        for old in entries.iter().skip(keep.saturating_sub(1)) {
            fs::remove_dir_all(self.at(old.number))?;
        }
        Ok(())
    }

    fn entry(&self, number: u64) -> io::Result<Entry> {
        let text = fs::read(self.at(number).join(ENTRY)).map_err(|error| {
            let message = format!("{}: there is no entry {number}: {error}", self.folder.display());
            io::Error::new(error.kind(), message)
        })?;
        let entry: Entry = serde_json::from_slice(&text).map_err(io::Error::other)?;
        match entry.number == number {
            true => Ok(entry),
            false => Err(io::Error::other(format!("entry {number} says that it is another"))),
        }
    }

    fn at(&self, number: u64) -> PathBuf {
        self.folder.join(number.to_string())
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
