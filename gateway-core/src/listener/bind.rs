//! Addresses that are bound before anything is served, so that a bind that fails ends the start.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel may hold ready for us; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// An address that cannot be accepted on.
#[derive(Debug, thiserror::Error)]
#[error("listener `{listener}` cannot bind {address}: {source}")]
pub struct BindError {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The address it asks for.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

impl BindError {
    /// Says so where it is the gateway itself that holds the address: a socket for all addresses holds each.
    pub(crate) fn held_by<'a>(mut self, mut open: impl Iterator<Item = &'a Bound>) -> Self {
        let is_all = |address: &SocketAddr| address.ip().is_unspecified();
        let overlaps = |other: &&Bound| {
            other.address.port() == self.address.port()
                && (is_all(&other.address) || is_all(&self.address))
        };
        if self.source.kind() == io::ErrorKind::AddrInUse
            && let Some(holder) = open.find(overlaps)
        {
            self.source = io::Error::new(
                io::ErrorKind::AddrInUse,
                format!(
                    "the running gateway holds {} for it or another listener; only a restart can change one to the other",
                    holder.address
                ),
            );
        }
        self
    }
}

/// A bound address, ready to accept.
#[derive(Debug)]
pub struct Bound {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The address as bound: its port is the real one where the config says 0.
    pub address: SocketAddr,
    pub(crate) socket: TcpListener,
}

/// Binds one listener's address.
///
/// # Errors
/// Another process holds the address, it does not exist here, or the port needs a privilege.
pub fn bind(listener: &Arc<str>, address: SocketAddr) -> Result<Bound, BindError> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from(socket);
        Ok((socket.local_addr()?, socket))
    };
    match bound() {
        Ok((address, socket)) => Ok(Bound { listener: listener.clone(), address, socket }),
        Err(source) => Err(BindError { listener: listener.clone(), address, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_named_with_its_listener() {
        let name: Arc<str> = "public".into();
        let first = bind(&name, ([127, 0, 0, 1], 0).into()).unwrap();

        let error = bind(&name, first.address).unwrap_err();

        let expected =
            format!("listener `public` cannot bind {}: Address already in use", first.address);
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
