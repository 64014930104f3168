//! The identity of an upstream's connection, and how to end exactly that connection from outside.
//!
//! Pingora reads and writes upstream connections itself and takes no deadline but one a read. What
//! it does tell is the descriptor. Shutting the socket down makes the pending read end at once;
//! that the descriptor still is the same connection is made certain first, on a duplicate that
//! nobody else can close.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, getsockname, shutdown};

/// A connection: its descriptor, and the two addresses that tell it from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketId {
    pub(crate) fd: RawFd,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

impl SocketId {
    /// Ends the connection in both directions, if the descriptor still is that connection.
    /// Returns whether it was.
    pub(crate) fn shut_down(&self) -> bool {
        self.own().is_some_and(|own| shutdown(own.as_raw_fd(), Shutdown::Both).is_ok())
    }

    /// Whether the other end takes so little that nothing more can be written.
    pub(crate) fn is_full(&self) -> bool {
        let Some(own) = self.own() else { return false };
        let mut asked = [PollFd::new(own.as_fd(), PollFlags::POLLOUT)];
        poll(&mut asked, PollTimeout::ZERO) == Ok(0)
    }

    /// A descriptor of its own, if that of the connection still is the connection's.
    fn own(&self) -> Option<OwnedFd> {
        let own = duplicate(self.fd)?;
        let own_fd = own.as_raw_fd();
        let local = getsockname::<SockaddrStorage>(own_fd).ok().and_then(address);
        let remote = getpeername::<SockaddrStorage>(own_fd).ok().and_then(address);
        (local == Some(self.local) && remote == Some(self.remote)).then_some(own)
    }
}

#[expect(unsafe_code, reason = "a bare descriptor is all that Pingora gives")]
fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the borrow lasts for this one call, which only passes the number to the kernel. If
    // the descriptor was closed or reused meanwhile, the call fails or yields a socket of other
    // addresses, which the caller refuses.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().ok()
}

fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn identity(stream: &TcpStream) -> SocketId {
        SocketId {
            fd: stream.as_raw_fd(),
            local: stream.local_addr().unwrap(),
            remote: stream.peer_addr().unwrap(),
        }
    }

    /// One end of a connection, the other, and what the first is known by.
    pub(in crate::upstream) fn connection() -> (TcpStream, TcpStream, SocketId) {
        let (client, server) = pair();
        let socket = identity(&client);
        (client, server, socket)
    }

    #[test]
    fn the_connection_itself_is_ended() {
        let (mut client, _server) = pair();

        assert!(identity(&client).shut_down());

        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn another_connection_under_the_same_number_is_left_alone() {
        let (client, _server) = pair();
        let (mut other, mut peer) = pair();
        let stale = SocketId { fd: other.as_raw_fd(), ..identity(&client) };

        assert!(!stale.shut_down());

        std::io::Write::write_all(&mut peer, b"x").unwrap();
        assert_eq!(other.read(&mut [0; 8]).unwrap(), 1);
    }
}
