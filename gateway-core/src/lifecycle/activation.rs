//! Sockets that whoever started the gateway has opened for it, by the protocol of systemd (`sd_listen_fds(3)`).

use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};

use crate::listener::Inherited;
use crate::snapshot::{ListenerPlan, Snapshot};

/// The first of the descriptors.
const FIRST: RawFd = 3;

/// Copies of what was passed to this process.
///
/// # Errors
/// One of them is no TCP socket that listens, or there are no more descriptors.
pub(super) fn passed() -> io::Result<Vec<Inherited>> {
    static PASSED: OnceLock<Vec<(String, OwnedFd)>> = OnceLock::new();
    let passed = PASSED.get_or_init(|| {
        let said = |name: &str| std::env::var(name).ok();
        let names = names(&said, std::process::id()).unwrap_or_default();
        names.into_iter().zip(FIRST..).map(|(name, descriptor)| (name, own(descriptor))).collect()
    });
    let copies = passed.iter().enumerate();
    copies
        .map(|(place, (name, socket))| inherited(place, name.clone(), socket.try_clone()?))
        .collect()
}

/// The names of as many descriptors as were passed to this process, if any were.
fn names(said: &impl Fn(&str) -> Option<String>, pid: u32) -> Option<Vec<String>> {
    if said("LISTEN_PID")?.parse() != Ok(pid) {
        return None;
    }
    let count = said("LISTEN_FDS")?.parse().ok()?;
    let names = said("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    Some(names.take(count).collect())
}

#[expect(unsafe_code, reason = "descriptors that were passed have no owner yet")]
fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: whoever set LISTEN_PID to this process has opened it for the one that reads LISTEN_FDS, which is done
    // once; one that is not open after all is found so before it is used.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // One that cannot be marked is none that can be used.
    let _ = rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC);
    owned
}

fn inherited(place: usize, name: String, descriptor: OwnedFd) -> io::Result<Inherited> {
    let because = |what: &dyn std::fmt::Display| {
        let message = format!("`{name}`, descriptor {}: {what}", place + FIRST as usize);
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    let listens = rustix::net::sockopt::socket_acceptconn(&descriptor);
    if !listens.map_err(|error| because(&error))? {
        return Err(because(&"it does not listen"));
    }
    let socket = TcpListener::from(descriptor);
    let address = socket.local_addr().map_err(|_| because(&"it is no TCP socket"))?;
    socket.set_nonblocking(true)?;
    Ok(Inherited { place, name, key: None, address, socket })
}

/// Says which of them no listener has.
pub(super) fn warn_of(passed: &[Inherited], snapshot: &Snapshot) {
    for Inherited { name, address, .. } in passed {
        let has =
            |listener: &Arc<ListenerPlan>| listener.address == *address || *listener.name == **name;
        if !snapshot.listeners().iter().any(has) {
            tracing::warn!(
                name,
                %address,
                "no listener has this address or name; the socket that was passed for it is not used"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_of_the_process_that_they_were_passed_to() {
        let said = |pid: &'static str, count: &'static str, all: Option<&'static str>| {
            move |name: &str| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some(count.to_owned()),
                _ => all.map(str::to_owned),
            }
        };
        let two = vec!["public".to_owned(), "inner".to_owned()];
        assert_eq!(names(&said("7", "2", Some("public:inner")), 7), Some(two));
        assert_eq!(names(&said("7", "2", None), 7), Some(vec![String::new(), String::new()]));
        assert_eq!(names(&said("8", "2", None), 7), None);
        assert_eq!(names(&said("7", "many", None), 7), None);
        assert_eq!(names(&|_: &str| None, 7), None);
    }

    #[test]
    fn what_does_not_listen_is_named() {
        let listens = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listens.local_addr().unwrap();
        assert_eq!(inherited(0, "public".to_owned(), listens.into()).unwrap().address, address);

        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let error = inherited(1, "inner".to_owned(), one.into()).unwrap_err();
        assert_eq!(error.to_string(), "`inner`, descriptor 4: it does not listen");

        let folder = tempfile::tempdir().unwrap();
        let unix = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        let error = inherited(0, "unix".to_owned(), unix.into()).unwrap_err();
        assert_eq!(error.to_string(), "`unix`, descriptor 3: it is no TCP socket");
    }
}
