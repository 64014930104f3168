//! The program that is started to follow this one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Set for a process that is to take over from the one that has started it: the line is its standard input.
pub(super) const TAKES_OVER: &str = "GATEWAY_TAKES_OVER";

/// What whoever started this process said to it alone.
const OURS_ALONE: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Successor {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Successor {
    pub(crate) fn new(program: PathBuf, args: Vec<OsString>) -> Self {
        Self { program, args }
    }

    /// The program that this process was started as, found anew where it was found then: a file or link of that name may
    /// be another one by then.
    pub(crate) fn like_this() -> io::Result<Self> {
        let mut args = std::env::args_os();
        let running = std::env::current_exe()?;
        let program = args.next().map(PathBuf::from).and_then(|named| named_so(&named, &running));
        Ok(Self { program: program.unwrap_or(running), args: args.collect() })
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn args(&self) -> &[OsString] {
        &self.args
    }

    /// Starts it. What comes back with it is this end of the line.
    pub(super) fn start(&self) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).env(TAKES_OVER, "stdin");
        for name in OURS_ALONE {
            command.env_remove(name);
        }
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn()?;
        Ok((child, ours))
    }
}

/// The path by which a program was called, if that is the program that runs.
fn named_so(named: &Path, running: &Path) -> Option<PathBuf> {
    let is_it = |path: &Path| path.canonicalize().ok().as_deref() == Some(running);
    if named.components().count() > 1 || named.is_absolute() {
        let path = std::path::absolute(named).ok()?;
        return is_it(&path).then_some(path);
    }
    let folders = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&folders).map(|folder| folder.join(named));
    found.into_iter().find(|path| path.is_file()).filter(|path| is_it(path))
}

/// Whether this process was started to take over.
pub(crate) fn is_to_take_over() -> bool {
    std::env::var_os(TAKES_OVER).as_deref() == Some(OsStr::new("stdin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_again_by_the_link_that_it_was_called_by() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        std::fs::write(at("gateway-1"), "").unwrap();
        std::fs::write(at("another"), "").unwrap();
        std::os::unix::fs::symlink(at("gateway-1"), at("gateway")).unwrap();

        assert_eq!(named_so(&at("gateway"), &at("gateway-1")), Some(at("gateway")));
        assert_eq!(named_so(&at("another"), &at("gateway-1")), None, "it called itself so");
        assert_eq!(named_so(Path::new("sh"), Path::new("/nowhere/sh")), None);
    }
}
