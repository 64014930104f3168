//! The Unix socket at which processes come that somebody else has started, to take over.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::give::handed_to;
use crate::lifecycle::State;
use crate::reload::is_own;

/// The socket, before anybody can find it.
pub(crate) struct Door {
    socket: Option<UnixListener>,
    hidden: PathBuf,
    path: PathBuf,
}

impl Door {
    /// Makes the socket beside the path where it is to be: whoever serves there still does so.
    ///
    /// # Errors
    /// The folder is not there, or others could put their own socket in place of this one.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        let because =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        is_own(folder.unwrap_or(Path::new("."))).map_err(because)?;
        let mut hidden = path.as_os_str().to_owned();
        hidden.push(format!(".{}", std::process::id()));
        let hidden = PathBuf::from(hidden);
        // One of that name is left from a process that had the same number.
        let _ = fs::remove_file(&hidden);
        let socket = UnixListener::bind(&hidden).map_err(because)?;
        fs::set_permissions(&hidden, Permissions::from_mode(0o600)).map_err(because)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some(socket), hidden, path: path.to_owned() })
    }

    /// Puts it where others find it, and hands over to who comes.
    pub(crate) fn open(mut self, state: &Arc<State>, runtime: &Handle) -> io::Result<()> {
        fs::rename(&self.hidden, &self.path)?;
        let _inside = runtime.enter();
        // Held by who serves there alone, so that it is closed with that.
        let Some(socket) = self.socket.take() else { return Ok(()) };
        let socket = tokio::net::UnixListener::from_std(socket)?;
        runtime.spawn(serve(socket, Arc::downgrade(state), state.leaving.subscribe()));
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Where it was opened there is no such file any more.
        let _ = fs::remove_file(&self.hidden);
    }
}

/// Serves until this process is about to end: who comes then finds nobody, and starts by itself.
async fn serve(
    socket: tokio::net::UnixListener,
    state: Weak<State>,
    mut leaving: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            _ = leaving.wait_for(|leaving| *leaving) => return,
            accepted = socket.accept() => accepted,
        };
        let line = match accepted {
            Ok((line, _)) => line.into_std(),
            Err(error) => {
                tracing::error!(%error, "cannot accept at the upgrade socket; trying again soon");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let (Some(state), Ok(line)) = (state.upgrade(), line) else { continue };
        // What becomes of it is in the log. Others hear that one is there.
        tokio::task::spawn_blocking(move || handed_to(&state, line).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_where_others_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upgrade.sock");
        let mode = |mode| fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        for writable in [0o777, 0o770, 0o1777] {
            mode(writable);
            assert!(Door::make(&path).is_err(), "{writable:o}");
        }
        mode(0o755);
        let door = Door::make(&path).unwrap();
        let made: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(made[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!path.exists(), "nobody finds it before it is open");

        drop(door);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
