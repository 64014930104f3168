//! The line between two processes of a gateway: messages in JSON, each with bytes behind it where it has any, and
//! descriptors.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Descriptors in one message; the kernel takes 253.
const AT_ONCE: usize = 100;
/// What is said when they have arrived: no message begins like this.
const ARRIVED: &[u8; 1] = b"a";
/// The longest message, and the most bytes behind one.
const LONGEST: u32 = 16 << 20;
const MOST_BYTES: u32 = u32::MAX;
/// How often it is looked whether to give up.
const STEP: Duration = Duration::from_millis(50);

/// How long a process that closes the line may take to end, if that is why.
const ENDING: Duration = Duration::from_secs(2);

/// One end of the line. Whatever takes longer than until its deadline fails.
pub(super) struct Channel {
    stream: UnixStream,
    deadline: Instant,
    /// The process at the other end, and where its end is seen; neither is known of one in another space of processes.
    peer: Option<(u32, OwnedFd)>,
}

impl Channel {
    /// # Errors
    /// Whoever is at the other end is neither of the user that this process is of nor root.
    pub(super) fn over(stream: UnixStream, deadline: Instant) -> io::Result<Self> {
        let peer = getsockopt(&stream, PeerCredentials)?;
        if ![0, rustix::process::geteuid().as_raw()].contains(&peer.uid()) {
            let message = format!("process {} is of another user", peer.pid());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        stream.set_nonblocking(false)?;
        let pid = Pid::from_raw(peer.pid());
        let ends = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let peer = u32::try_from(peer.pid()).ok().zip(ends);
        Ok(Self { stream, deadline, peer })
    }

    /// The process that made the other end.
    pub(super) fn peer(&self) -> Option<u32> {
        self.peer.as_ref().map(|(pid, _)| *pid)
    }

    /// Whether the process that made the other end has ended, or does so by and by. One of which that cannot be known is
    /// taken to have.
    pub(super) fn peer_has_ended(&self) -> bool {
        let Some((_, ends)) = &self.peer else { return true };
        let until = Instant::now() + ENDING;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut polled = [PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
                Ok(0) => return false,
                Err(nix::errno::Errno::EINTR) => {}
                Ok(_) | Err(_) => return true,
            }
        }
    }

    /// What is left of the line when all is said: it closes when the other process ends.
    pub(super) fn into_line(self) -> UnixStream {
        self.stream
    }

    /// From now on it is this deadline that counts.
    pub(super) fn until(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    pub(super) fn send(&mut self, message: &impl Serialize, bytes: &[u8]) -> io::Result<()> {
        let message = serde_json::to_vec(message)?;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let mut frame = Vec::with_capacity(8 + message.len());
        frame.extend_from_slice(&length(&message)?.to_be_bytes());
        frame.extend_from_slice(&length(bytes)?.to_be_bytes());
        frame.extend_from_slice(&message);
        self.patient()?;
        self.stream.write_all(&frame).map_err(told)?;
        self.stream.write_all(bytes).map_err(told)
    }

    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<u8>)> {
        self.patient()?;
        let mut lengths = [0; 8];
        self.stream.read_exact(&mut lengths).map_err(told)?;
        let (message, bytes) = lengths.split_at(4);
        let length = |bytes: &[u8], most: u32| {
            let length = bytes.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
            let length = (length <= most).then_some(length as usize);
            length.ok_or_else(otherwise)
        };
        let (message, bytes) = (length(message, LONGEST)?, length(bytes, MOST_BYTES)?);
        let (message, bytes) = (self.bytes(message)?, self.bytes(bytes)?);
        let message = serde_json::from_slice(&message).map_err(|_| otherwise())?;
        Ok((message, bytes))
    }

    /// So many bytes; room is made as they come.
    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.stream).take(length as u64).read_to_end(&mut bytes).map_err(told)?;
        if read < length { Err(gone()) } else { Ok(bytes) }
    }

    /// Waits until there is something to receive; looks from time to time whether to give up.
    pub(super) fn wait(&self, gives_up: impl Fn() -> Option<String>) -> io::Result<()> {
        loop {
            if let Some(why) = gives_up() {
                return Err(io::Error::other(why));
            }
            let left = self.left()?.min(STEP);
            let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut polled, timeout) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends descriptors, a bunch at a time: the next one when the last has arrived.
    pub(super) fn send_descriptors(&mut self, all: &[BorrowedFd<'_>]) -> io::Result<()> {
        for bunch in all.chunks(AT_ONCE) {
            self.patient()?;
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = SendAncillaryBuffer::new(&mut room);
            control.push(SendAncillaryMessage::ScmRights(bunch));
            sendmsg(&self.stream, &[IoSlice::new(b"d")], &mut control, SendFlags::NOSIGNAL)
                .map_err(|error| told(error.into()))?;
            let mut arrived = [0];
            // A message in its place is left to be read: it says why.
            let peeked = recv(&self.stream, &mut arrived, RecvFlags::PEEK);
            peeked.map_err(|error| told(error.into()))?;
            if arrived != *ARRIVED {
                return Err(gone());
            }
            self.stream.read_exact(&mut arrived).map_err(told)?;
        }
        Ok(())
    }

    pub(super) fn receive_descriptors(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut all = Vec::new();
        while all.len() < count {
            self.patient()?;
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = RecvAncillaryBuffer::new(&mut room);
            let (mut byte, before) = ([0], all.len());
            let got = recvmsg(
                &self.stream,
                &mut [IoSliceMut::new(&mut byte)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
            .map_err(|error| told(error.into()))?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    all.extend(descriptors);
                }
            }
            match got.bytes {
                0 => return Err(gone()),
                _ if all.len() == before => {
                    // As where this process may not have so many.
                    return Err(io::Error::other("descriptors were lost on their way"));
                }
                _ => self.stream.write_all(ARRIVED).map_err(told)?,
            }
        }
        Ok(all)
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(late()) } else { Ok(left) }
    }

    fn patient(&self) -> io::Result<()> {
        let left = self.left()?;
        self.stream.set_read_timeout(Some(left))?;
        self.stream.set_write_timeout(Some(left))
    }
}

fn otherwise() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other process speaks another protocol")
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the other process ended")
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other process took too long")
}

/// An error in words that say what it means here.
fn told(error: io::Error) -> io::Error {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    match error.kind() {
        BrokenPipe | ConnectionReset | UnexpectedEof => gone(),
        TimedOut | WouldBlock => late(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn pair() -> (Channel, Channel) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::over(one, deadline).unwrap(), Channel::over(other, deadline).unwrap())
    }

    #[test]
    fn messages_bytes_and_any_number_of_descriptors_arrive() {
        let (mut here, mut there) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, bytes) = (listener.local_addr().unwrap(), vec![7; 3 << 20]);
        let received = thread::spawn(move || {
            let (message, bytes) = there.receive::<Vec<String>>().unwrap();
            (message, bytes, there.receive_descriptors(350).unwrap())
        });

        here.send(&["taken"], &bytes).unwrap();
        here.send_descriptors(&vec![listener.as_fd(); 350]).unwrap();

        let (message, arrived, descriptors) = received.join().unwrap();
        assert_eq!((message, arrived), (vec!["taken".to_owned()], bytes));
        assert_eq!(descriptors.len(), 350);
        let last = TcpListener::from(descriptors.into_iter().last().unwrap());
        assert_eq!(last.local_addr().unwrap(), address);
    }

    #[test]
    fn whoever_ends_is_slow_or_speaks_otherwise_is_told_apart() {
        let said = |error: io::Error| error.to_string();
        let (mut here, there) = pair();
        drop(there);
        assert_eq!(said(here.receive::<String>().unwrap_err()), "the other process ended");
        assert_eq!(said(here.receive_descriptors(1).unwrap_err()), "the other process ended");

        let (mut here, mut there) = pair();
        here.until(Instant::now() + Duration::from_millis(50));
        assert_eq!(said(here.receive::<String>().unwrap_err()), "the other process took too long");
        assert_eq!(said(here.wait(|| None).unwrap_err()), "the other process took too long");
        here.until(Instant::now() + Duration::from_secs(9));
        assert_eq!(said(here.wait(|| Some("told to".to_owned())).unwrap_err()), "told to");

        there.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let otherwise = said(here.receive::<String>().unwrap_err());
        assert_eq!(otherwise, "the other process speaks another protocol");
    }
}
