//! Idle upstream connections, and how long each may stay in Pingora's pool.
//!
//! Pingora can time them itself, for the price of a timer a request. Here a connection is noted when
//! its request is done and struck out when the next one takes it; the watch shuts down what has
//! been idle for too long, and the pool, which reads from what it holds, drops it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::RawFd;

use super::SocketId;

/// The idle connections of one worker by descriptor. There is at most one for a number, so that
/// their count is bounded by that of descriptors.
#[derive(Default)]
pub(super) struct Idle(HashMap<RawFd, Parked, BuildHasherDefault<Number>>);

struct Parked {
    socket: SocketId,
    until: u64,
    /// It was shut down; whoever takes it now cannot use it.
    shut: bool,
}

impl Idle {
    /// A request is done; its connection may be taken by another until `until`.
    pub(super) fn park(&mut self, socket: SocketId, until: u64) {
        self.0.insert(socket.fd, Parked { socket, until, shut: false });
    }

    /// A request has taken this connection. Says whether it can be used: the watch may have shut it
    /// down in the moment between the pool's look at it and this.
    pub(super) fn take(&mut self, socket: &SocketId) -> bool {
        let parked = self.0.remove(&socket.fd);
        !parked.is_some_and(|parked| parked.shut && parked.socket == *socket)
    }

    /// Shuts down what has been idle for too long.
    pub(super) fn expire(&mut self, now: u64) {
        self.0.retain(|_, parked| {
            if !parked.shut && parked.until <= now {
                // If the number is another connection's by now, there is nothing to remember.
                parked.shut = parked.socket.shut_down();
                return parked.shut;
            }
            // What was shut down is struck out here if nobody came to take it.
            !parked.shut
        });
    }
}

/// A number is its own hash, spread over the bits that the map looks at.
#[derive(Default)]
struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_i32(&mut self, number: i32) {
        self.0 = u64::from(number.cast_unsigned());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::socket::tests::connection;
    use super::*;

    #[test]
    fn what_idles_too_long_is_shut_down_and_what_was_taken_is_not() {
        let mut idle = Idle::default();
        let (_taken, mut its_server, socket) = connection();
        let (_left, mut other_server, other) = connection();
        idle.park(socket, 100);
        idle.park(other, 100);

        assert!(idle.take(&socket));
        idle.expire(100);

        its_server.set_nonblocking(true).unwrap();
        assert_eq!(
            its_server.read(&mut [0; 1]).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
        assert_eq!(other_server.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn whoever_takes_a_connection_at_the_last_moment_is_told_that_it_is_gone() {
        let mut idle = Idle::default();
        let (_client, _server, socket) = connection();
        idle.park(socket, 100);
        idle.expire(100);

        assert!(!idle.take(&socket));

        assert!(idle.take(&socket), "the number may serve another connection");
    }

    #[test]
    fn nothing_is_kept_of_connections_that_nobody_takes_again() {
        let mut idle = Idle::default();
        for _ in 0..10 {
            let (_client, _server, socket) = connection();
            idle.park(socket, 100);
        }

        idle.expire(99);
        assert!(!idle.0.is_empty());
        idle.expire(100);
        idle.expire(101);

        assert!(idle.0.is_empty());
    }
}
