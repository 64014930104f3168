//! What is told to whoever started the gateway, by the protocol of systemd (`sd_notify(3)`).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::carried::monotonic;

/// Where it is told.
pub(crate) const SOCKET: &str = "NOTIFY_SOCKET";

/// Tells it where `NOTIFY_SOCKET` says, if this process as a whole is the gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notify {
    pub(crate) is_process: bool,
}

/// A reload is under way until this is gone.
pub(crate) struct Reload(Notify, String);

impl Notify {
    /// The gateway serves.
    pub(crate) fn serving(self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// How it is doing, while it serves or reloads.
    pub(crate) fn says(self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// A reload begins.
    pub(crate) fn reloading(self) -> Reload {
        // The moment is what systemd knows it by.
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic().as_micros()));
        Reload(self, "reload refused".to_owned())
    }

    /// Another process is the gateway from now on.
    pub(crate) fn succeeded_by(self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    /// All of it lives.
    pub(crate) fn lives(self) {
        self.tell("WATCHDOG=1");
    }

    /// The gateway ends.
    pub(crate) fn stopping(self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    /// How long nothing may be said of the gateway's life, if somebody waits for that.
    pub(crate) fn watchdog(self) -> Option<Duration> {
        let said = |name: &str| std::env::var(name).ok();
        self.is_process.then(|| watchdog(said, std::process::id())).flatten()
    }

    fn tell(self, what: &str) {
        let Some(socket) = std::env::var_os(SOCKET).filter(|_| self.is_process) else { return };
        if let Err(error) = send(&socket, what) {
            tracing::warn!(%error, "whoever started the gateway cannot be told of it");
        }
    }
}

impl Reload {
    /// It came to this.
    pub(crate) fn came_to(&mut self, status: String) {
        self.1 = status;
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        self.0.serving(&self.1);
    }
}

/// `socket` is a path, or with `@` in front a name that no file has.
fn send(socket: &OsStr, what: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address).map(drop)
}

/// The time of the watchdog of the process with this number, as its environment says it (`sd_watchdog_enabled(3)`).
fn watchdog(said: impl Fn(&str) -> Option<String>, pid: u32) -> Option<Duration> {
    let is_for_another = said("WATCHDOG_PID").is_some_and(|of| of.parse() != Ok(pid));
    let micros = said("WATCHDOG_USEC")?.parse().ok().filter(|micros| *micros > 0)?;
    (!is_for_another).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_arrives_at_files_and_at_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("gateway-notify-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        let ears = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&by_name).unwrap()];

        for (ear, socket) in ears.iter().zip([path.as_os_str(), OsStr::new(&format!("@{name}"))]) {
            send(socket, "READY=1").unwrap();
            let mut heard = [0; 16];
            let length = ear.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
        assert!(send(OsStr::new("/nowhere/notify"), "READY=1").is_err());
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names_if_it_names_one() {
        let said = |micros: Option<&'static str>, pid: Option<&'static str>| {
            move |name: &str| {
                let said = if name == "WATCHDOG_PID" { pid } else { micros };
                said.map(str::to_owned)
            }
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(said(Some("1000000"), Some("7")), 7), second);
        assert_eq!(watchdog(said(Some("1000000"), None), 7), second);
        assert_eq!(watchdog(said(Some("1000000"), Some("8")), 7), None);
        assert_eq!(watchdog(said(Some("0"), None), 7), None);
        assert_eq!(watchdog(said(None, Some("7")), 7), None);
    }
}
