//! What a config needs of the machine that it runs on.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Builder;
use crate::config::{AdminAddress, ConfigPath, Faults, Loaded, LogOutput};

impl Builder {
    /// Looks at what a config needs of its surroundings, apart from addresses that others hold: what
    /// `check` accepts, `run` is to start with.
    ///
    /// # Errors
    /// Every fault.
    pub(crate) fn surroundings(&self, loaded: &Loaded) -> Result<(), Faults> {
        let config = &loaded.config;
        let mut faults = Vec::new();
        let mut add = |path: ConfigPath, message: String| {
            faults.push(loaded.document.fault(&path, message));
        };
        let admin = ConfigPath::root().key("admin");
        if let Some(token) = config.admin.as_ref().and_then(|admin| admin.token.as_ref())
            && let Err(message) = token.resolve(&|name| std::env::var(name).ok())
        {
            add(admin.clone().key("token"), message);
        }
        let held = config.admin.as_ref().and_then(|admin| match admin.address {
            AdminAddress::Tcp(address) if address.port() != 0 => Some(address),
            _ => None,
        });
        if let Some(held) = held
            && let Some(listener) = config.listeners.iter().find(|one| one.address == held)
        {
            let message = format!("the listener `{}` has this address already", listener.name);
            add(admin.key("address"), message);
        }
        if let Some(socket) = &config.server.upgrade_socket
            && let Err(error) = is_own(socket.parent().unwrap_or(socket))
        {
            let at = ConfigPath::root().key("server").key("upgrade_socket");
            add(at, error.to_string());
        }
        if let LogOutput::File(path) = &config.access_log.output {
            let at = ConfigPath::root().key("access_log").key("output");
            let folder = path.parent().unwrap_or(path);
            if !folder.is_dir() {
                add(at, format!("there is no folder `{}`", folder.display()));
            } else if path.is_dir() {
                add(at, format!("`{}` is a folder", path.display()));
            }
        }
        Faults::refuse_any(faults)
    }
}

/// Whether nobody but this user and root can change what is in a folder.
pub(crate) fn is_own(folder: &Path) -> io::Result<()> {
    let metadata = folder.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    let others_write = metadata.mode() & 0o022 != 0;
    if !metadata.is_dir() || others_write || ![0, own].contains(&metadata.uid()) {
        let message = "its folder has to be the gateway's own: nobody else may write there";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}
