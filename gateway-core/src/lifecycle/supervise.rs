//! A process that stays while gateways come and go as its children: process 1 of a container, whose end is the
//! container's, or what runs under a supervisor that knows nothing of upgrades.
//!
//! It serves nothing. It passes signals on to the gateway that serves, learns by the protocol of systemd which one that
//! is, waits for what has ended, and ends as the last one did.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, ExitCode};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
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
    let first = start(gateway, &ear)?;
    let mut serving = Serving { main: pid(&first), code: None };
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
        for follower in ear.heard()? {
            serving.main = follower;
        }
        if let Some(signal) = passed_on {
            serving.pass_on(signal);
        }
        if let Some(code) = serving.reap()? {
            return Ok(code);
        }
    }
}

fn start(gateway: &Successor, ear: &Ear) -> io::Result<Child> {
    Command::new(gateway.program())
        .args(gateway.args())
        .env(SUPERVISED, "1")
        .env(notify::SOCKET, format!("@{}", ear.name))
        .spawn()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// The gateway that serves, or served last.
struct Serving {
    main: Pid,
    /// How it ended, if it has.
    code: Option<u8>,
}

impl Serving {
    fn pass_on(&self, signal: Signal) {
        // One that has just ended is noticed next.
        let _ = rustix::process::kill_process(self.main, signal);
    }

    /// Waits for what has ended. The exit code, once nothing is left to wait for.
    fn reap(&mut self) -> io::Result<Option<u8>> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main => self.code = Some(code(status)),
                Ok(Some(_)) => {}
                // Those before may still drain.
                Ok(None) => return Ok(None),
                Err(rustix::io::Errno::CHILD) => return Ok(Some(self.code.unwrap_or(1))),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
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

    /// The processes that were said to serve from then on, in their order.
    fn heard(&self) -> io::Result<Vec<Pid>> {
        let mut said = Vec::new();
        loop {
            let mut text = [0; LONGEST];
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut room);
            let received = self.socket.try_io(Interest::READABLE, || {
                let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
                let mut text = [IoSliceMut::new(&mut text)];
                Ok(recvmsg(&self.socket, &mut text, &mut control, flags)?)
            });
            let length = match received {
                Ok(message) => message.bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(said),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let own = rustix::process::geteuid();
            let is_own = control.drain().any(|message| match message {
                RecvAncillaryMessage::ScmCredentials(who) => who.uid == own || who.uid.is_root(),
                _ => false,
            });
            if is_own {
                said.extend(follower(&text[..length]));
            }
        }
    }
}

/// Which process is said to serve, if that is what is said.
fn follower(text: &[u8]) -> Option<Pid> {
    let lines = std::str::from_utf8(text).ok()?.lines();
    let number = lines.filter_map(|line| line.strip_prefix("MAINPID=")).next_back()?;
    Pid::from_raw(number.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_is_read_from_what_is_said() {
        assert_eq!(follower(b"MAINPID=7\n"), Pid::from_raw(7));
        assert_eq!(follower(b"READY=1\nMAINPID=7\nSTATUS=MAINPID=8\n"), Pid::from_raw(7));
        for nothing in ["READY=1\n", "MAINPID=\n", "MAINPID=0\n", "MAINPID=x", "XMAINPID=7", ""] {
            assert_eq!(follower(nothing.as_bytes()), None, "{nothing}");
        }
    }
}
