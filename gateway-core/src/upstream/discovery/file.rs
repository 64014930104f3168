//! A file of endpoints, looked at from time to time: that follows links, folders that are swapped and
//! network file systems, which notifications do not.

use std::path::PathBuf;
use std::time::Duration;

use super::Found;
use crate::config::endpoints_of;

/// How often it is looked at.
const REFRESH: Duration = Duration::from_secs(1);

pub(super) struct File {
    path: PathBuf,
    /// What it said last.
    text: Option<String>,
}

impl File {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, text: None }
    }

    pub(super) async fn look(&mut self) -> Result<Found, String> {
        let name = self.path.display().to_string();
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
        let read = read.map_err(|error| error.to_string())?;
        let text = read.map_err(|error| format!("cannot read {name}: {error}"))?;
        if self.text.as_ref() == Some(&text) {
            return Ok(Found { endpoints: None, lasts: REFRESH });
        }
        // A long list takes milliseconds, which others on this thread need not wait for.
        let parse = tokio::task::spawn_blocking(move || {
            let endpoints = endpoints_of(&name, &text);
            endpoints.map(|endpoints| (endpoints, text)).map_err(|faults| faults.to_string())
        });
        let (endpoints, text) = parse.await.map_err(|error| error.to_string())??;
        self.text = Some(text);
        Ok(Found { endpoints: Some(endpoints), lasts: REFRESH })
    }
}
