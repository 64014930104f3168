//! The part of the process that follows.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::message::{Given, GivenSocket, Kept, Message, PROTOCOL};
use super::successor;
use crate::config::AdminAddress;
use crate::listener::Inherited;
use crate::snapshot::{SocketKey, Store};

/// How long the process before may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that serves, and is to be taken over from.
pub(crate) struct Predecessor {
    channel: Channel,
    given: Given,
    secret: Vec<u8>,
    listeners: Vec<Inherited>,
    admin: Option<(usize, AdminAddress, OwnedFd)>,
}

impl Predecessor {
    /// The process that has started this one to follow it, if that is why it was started.
    ///
    /// # Errors
    /// It says nothing that can be understood.
    pub(crate) fn that_started_this() -> io::Result<Option<Self>> {
        static MET: AtomicBool = AtomicBool::new(false);
        if !successor::is_to_take_over() || MET.swap(true, Ordering::Relaxed) {
            return Ok(None);
        }
        let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        Self::meet(line).map(Some)
    }

    /// The process that answers at this path, if one does.
    ///
    /// # Errors
    /// It says nothing that can be understood, or is another user's.
    pub(crate) fn at(path: &Path) -> io::Result<Option<Self>> {
        use io::ErrorKind::{ConnectionRefused, NotFound, UnexpectedEof};
        let met = UnixStream::connect(path).and_then(Self::meet);
        match met {
            Ok(before) => Ok(Some(before)),
            // One that ends just now hands nothing over.
            Err(error) if matches!(error.kind(), ConnectionRefused | NotFound | UnexpectedEof) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn meet(line: UnixStream) -> io::Result<Self> {
        let mut channel = Channel::over(line, Instant::now() + PATIENCE)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let pid = std::process::id();
        channel.send(&Message::Take { protocol: PROTOCOL, version, pid }, &[])?;
        let (given, secret) = match channel.receive()? {
            (Message::Given(given), secret) => (given, secret),
            (other, _) => return Err(other.unexpected()),
        };
        let descriptors = channel.receive_descriptors(given.sockets.len())?;
        let (mut listeners, mut admin) = (Vec::new(), None);
        for (place, (socket, descriptor)) in given.sockets.iter().zip(descriptors).enumerate() {
            match socket {
                GivenSocket::Listener { name, address } => {
                    let socket = TcpListener::from(descriptor);
                    listeners.push(Inherited {
                        place,
                        name: name.clone(),
                        key: Some(SocketKey::of_another(*address, name)),
                        address: socket.local_addr()?,
                        socket,
                    });
                }
                GivenSocket::Admin { address } => {
                    admin = Some((place, address.clone(), descriptor));
                }
            }
        }
        let (pid, version) = (given.pid, &given.version);
        tracing::info!(pid, version, sockets = given.sockets.len(), "taking over");
        Ok(Self { channel, given, secret, listeners, admin })
    }

    /// What is in force was rolled back to, and is not what the source says.
    pub(in crate::lifecycle) fn kept(&self) -> Option<Kept> {
        self.given.kept.clone()
    }

    /// The number of the revision that is in force, and its digest.
    pub(crate) fn revision(&self) -> (u64, &str) {
        (self.given.revision, &self.given.digest)
    }

    /// What session tickets are made with.
    pub(crate) fn ticket_secret(&self) -> Option<[u8; 32]> {
        self.secret.as_slice().try_into().ok()
    }

    /// The listeners' sockets. Those that are left in it are not taken over.
    pub(crate) fn listeners(&mut self) -> &mut Vec<Inherited> {
        &mut self.listeners
    }

    /// The socket of the admin address, if it is this one.
    pub(crate) fn admin(&mut self, address: &AdminAddress) -> Option<OwnedFd> {
        let (.., descriptor) = self.admin.take_if(|(_, known, _)| known == address)?;
        Some(descriptor)
    }

    /// Says that this process could serve. When this comes back the one before accepts nothing any more, and `store`
    /// has the state that it had.
    ///
    /// # Errors
    /// The one before does not want it any more. If it has ended, this process is to serve.
    pub(crate) fn ready(&mut self, store: &Store) -> io::Result<()> {
        self.channel.until(Instant::now() + PATIENCE);
        let left: Vec<_> = self.left().collect();
        let all = 0..self.given.sockets.len();
        let taken = all.filter(|place| !left.contains(place)).collect();
        // What cannot be sent any more is no reason to end yet: why not may have been said.
        let _ = self.channel.send(&Message::Ready { taken }, &[]);
        loop {
            match self.channel.receive() {
                Ok((Message::State(name), bytes)) => store.take_over(&name, &bytes),
                Ok((Message::Over, _)) => return Ok(()),
                Ok((other, _)) => return Err(other.unexpected()),
                Err(error) => return self.is_alone(error),
            }
        }
    }

    /// Whether the line is at an end because the process before is.
    ///
    /// # Errors
    /// It is not: that one serves on.
    fn is_alone(&self, error: io::Error) -> io::Result<()> {
        if error.kind() != io::ErrorKind::UnexpectedEof || !self.channel.peer_has_ended() {
            return Err(error);
        }
        tracing::warn!("the process before has ended; its last state is lost");
        Ok(())
    }

    /// Says that this process serves, and waits until the one before has heard it. What comes back closes when that one
    /// has ended.
    ///
    /// # Errors
    /// The one before serves on, and this one is to end.
    pub(crate) fn serving(mut self) -> io::Result<UnixStream> {
        self.channel.until(Instant::now() + PATIENCE);
        let _ = self.channel.send(&Message::Serving, &[]);
        match self.channel.receive() {
            Ok((Message::Released, _)) => {}
            Ok((other, _)) => return Err(other.unexpected()),
            Err(error) => self.is_alone(error)?,
        }
        Ok(self.channel.into_line())
    }

    /// Says why this process will not serve.
    pub(crate) fn failed(mut self, why: String) {
        // Whoever cannot be told finds out.
        let _ = self.channel.send(&Message::Failed { why }, &[]);
    }

    /// The places of what nobody has taken.
    fn left(&self) -> impl Iterator<Item = usize> {
        let listeners = self.listeners.iter().map(|left| left.place);
        listeners.chain(self.admin.iter().map(|(place, ..)| *place))
    }
}
