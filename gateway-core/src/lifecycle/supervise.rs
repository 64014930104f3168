//! A process that stays while gateways come and go as its children: process 1 of a container, whose end is the
//! container's, or what runs under a supervisor that knows nothing of upgrades.
//!
//! It serves nothing. It passes signals on to the gateway that serves, learns by the protocol of systemd which one that
//! is, waits for what has ended, and ends as the last one did.

use std::borrow::Cow;
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::io::Interest;
use tokio::signal::unix::{SignalKind, signal};

use super::handover::Successor;
use crate::notify;

/// Set for the gateways that it starts, so that they serve.
const SUPERVISED: &str = "GATEWAY_SUPERVISED";
/// The longest notification that is read; systemd reads no longer ones.
const LONGEST: usize = 4096;
/// The exit code of what ended by a signal is that of a shell: this and the signal's number.
const BY_SIGNAL: u8 = 128;

/// Whether this process is to supervise: it is process 1, or was asked to, and is not itself what is supervised.
pub(crate) fn is_supervisor(asked: bool) -> bool {
    (asked || std::process::id() == 1) && std::env::var_os(SUPERVISED).is_none()
}

/// Starts the gateway and stays until the last one has ended.
pub(crate) fn supervise(gateway: &Successor) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = runtime.and_then(|runtime| runtime.block_on(run(gateway)));
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{}: {error}", gateway.program().display());
            ExitCode::FAILURE
        }
    }
}

async fn run(gateway: &Successor) -> io::Result<u8> {
    // Gateways whose own parent has ended become children of this process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut ended = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    let mut upgrade = signal(SignalKind::user_defined2())?;
    let ear = Ear::open()?;
    let first = Pid::from_child(&start(gateway, &ear)?);
    let mut gateways = Gateways { running: vec![first], is_ready: false, code: 0 };
    loop {
        let passed_on = tokio::select! {
            _ = ended.recv() => None,
            heard = ear.listen() => { heard?; None }
            _ = terminate.recv() => Some(Signal::TERM),
            _ = interrupt.recv() => Some(Signal::INT),
            _ = hangup.recv() => Some(Signal::HUP),
            _ = reopen.recv() => Some(Signal::USR1),
            _ = upgrade.recv() => Some(Signal::USR2),
        };
        // Who follows whom was said before anybody ended for it.
        ear.heard(|said| gateways.hear(&said))?;
        if let Some(signal) = passed_on {
            gateways.pass_on(signal);
        }
        if let Some(code) = gateways.reap()? {
            return Ok(code);
        }
    }
}

fn start(gateway: &Successor, ear: &Ear) -> io::Result<Child> {
    Command::new(gateway.program())
        .args(gateway.args())
        .env(SUPERVISED, "1")
        .env(notify::SOCKET, format!("@{}", ear.name))
        // What a terminal tells all of a group comes once, from here.
        .process_group(0)
        .spawn()
}

/// The gateways that have not ended.
struct Gateways {
    /// The one that serves is the last; those before it drain.
    running: Vec<Pid>,
    /// One of them has begun to serve.
    is_ready: bool,
    /// How the last of them ended.
    code: u8,
}

impl Gateways {
    fn hear(&mut self, said: &str) {
        self.is_ready |= said.lines().any(|line| line == "READY=1");
        if let Some(follower) = follower(said) {
            self.running.retain(|pid| *pid != follower);
            self.running.push(follower);
        }
    }

    /// Passes a signal on to the one that serves.
    fn pass_on(&self, signal: Signal) {
        // One that does not serve yet may not know what else they mean.
        let is_an_end = matches!(signal, Signal::TERM | Signal::INT);
        if let Some(main) = self.running.last().filter(|_| self.is_ready || is_an_end) {
            // One that has just ended is noticed next.
            let _ = rustix::process::kill_process(*main, signal);
        }
    }

    /// Waits for what has ended. The exit code, once no gateway is left.
    fn reap(&mut self) -> io::Result<Option<u8>> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ends(pid, code(status)),
                Ok(None) => break,
                // What another gateway has waited for has ended as well.
                Err(rustix::io::Errno::CHILD) => return Ok(Some(self.code)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.running.is_empty().then_some(self.code))
    }

    fn ends(&mut self, pid: Pid, code: u8) {
        let Some(place) = self.running.iter().position(|running| *running == pid) else { return };
        let served = place + 1 == self.running.len();
        self.running.remove(place);
        if !served && code == 0 {
            return;
        }
        self.code = code;
        if served && code != 0 {
            // Nobody serves: that is to be seen soon, and not when the last download is over.
            self.pass_on(Signal::TERM);
        }
    }
}

fn code(status: WaitStatus) -> u8 {
    let number = |number: i32| u8::try_from(number).unwrap_or(1);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => number(code),
        (None, Some(signal)) => BY_SIGNAL.saturating_add(number(signal)),
        (None, None) => 1,
    }
}

/// Where gateways say which of them serves: a socket with a name that no file has.
struct Ear {
    name: String,
    socket: tokio::net::UnixDatagram,
}

impl Ear {
    fn open() -> io::Result<Self> {
        let name = format!("gateway-{}-{:016x}", std::process::id(), rand::random::<u64>());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        socket.set_nonblocking(true)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        Ok(Self { name, socket: tokio::net::UnixDatagram::from_std(socket)? })
    }

    /// Waits until something is said.
    async fn listen(&self) -> io::Result<()> {
        // What is read, is read by `heard`, to its end.
        self.socket.readable().await
    }

    /// Hears all that was said, in its order.
    fn heard(&self, mut hear: impl FnMut(Cow<'_, str>)) -> io::Result<()> {
        loop {
            let mut text = [0; LONGEST];
            let received = self.socket.try_io(Interest::READABLE, || {
                let mut text = [IoSliceMut::new(&mut text)];
                let mut control = nix::cmsg_space!(UnixCredentials);
                let descriptor = self.socket.as_raw_fd();
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
                let message = recvmsg::<()>(descriptor, &mut text, Some(&mut control), flags)?;
                let own = rustix::process::geteuid().as_raw();
                let is_own = message.cmsgs()?.any(|part| match part {
                    ControlMessageOwned::ScmCredentials(who) => [0, own].contains(&who.uid()),
                    _ => false,
                });
                Ok((message.bytes, is_own))
            });
            match received {
                Ok((length, true)) => hear(String::from_utf8_lossy(&text[..length])),
                Ok((_, false)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Which process is said to serve, if that is what is said.
fn follower(said: &str) -> Option<Pid> {
    let number = said.lines().filter_map(|line| line.strip_prefix("MAINPID=")).next_back()?;
    Pid::from_raw(number.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_is_read_from_what_is_said() {
        assert_eq!(follower("MAINPID=7\n"), Pid::from_raw(7));
        assert_eq!(follower("READY=1\nMAINPID=7\nSTATUS=MAINPID=8\n"), Pid::from_raw(7));
        for nothing in ["READY=1\n", "MAINPID=\n", "MAINPID=0\n", "MAINPID=x", "XMAINPID=7", ""] {
            assert_eq!(follower(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn it_ends_when_no_gateway_is_left_and_as_the_last_one_did() {
        let pid = |number| Pid::from_raw(number).unwrap();
        let mut gateways = Gateways { running: vec![pid(7)], is_ready: false, code: 0 };
        gateways.hear("READY=1\nSTATUS=x");
        gateways.hear("MAINPID=8");
        assert_eq!((&*gateways.running, gateways.is_ready), (&[pid(7), pid(8)][..], true));
        // Others that became its children are nothing to it.
        gateways.ends(pid(99), 3);
        gateways.ends(pid(7), 0);
        assert_eq!((&*gateways.running, gateways.code), (&[pid(8)][..], 0));
        gateways.ends(pid(8), 5);
        assert_eq!((gateways.running.len(), gateways.code), (0, 5));
    }
}
