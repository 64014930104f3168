//! The admin address: health, metrics, read-outs, and the calls that change something.

mod access;
mod breakers;
mod client;
mod endpoints;
mod query;
mod readouts;
mod server;

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config::{AdminAddress, AdminConfig, Secret, environment};
use crate::lifecycle::{StartError, State};
use crate::listener::BindError;

pub use client::{Answer, Client, ClientError};
pub use readouts::{routes, version};

/// The admin address, bound, before it is served.
pub(crate) struct Admin {
    configured: AdminAddress,
    address: String,
    socket: Socket,
    token: Option<Secret>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds the admin address, unless another process did and left its socket to this one, and reads its token.
///
/// # Errors
/// The address is taken, or the token cannot be read.
pub(crate) fn bind(config: &AdminConfig, bound: Option<OwnedFd>) -> Result<Admin, StartError> {
    let unreadable =
        |error: String| StartError::System { what: "admin.token", source: io::Error::other(error) };
    let token = config
        .token
        .as_ref()
        .map(|token| token.resolve(&environment).map_err(unreadable))
        .transpose()?;
    let unusable = |source| StartError::System { what: "the admin socket", source };
    let (address, socket) = match (&config.address, bound) {
        (AdminAddress::Tcp(_), Some(bound)) => {
            let socket = TcpListener::from(bound);
            (socket.local_addr().map_err(unusable)?.to_string(), Socket::Tcp(socket))
        }
        (AdminAddress::Unix(path), Some(bound)) => {
            (format!("unix:{}", path.display()), Socket::Unix(UnixListener::from(bound)))
        }
        (AdminAddress::Tcp(address), None) => {
            let bound = crate::listener::bind(&"admin".into(), *address)?;
            (bound.address.to_string(), Socket::Tcp(bound.socket))
        }
        (AdminAddress::Unix(path), None) => {
            let socket = bind_unix(path).map_err(|error| StartError::System {
                what: "the admin socket cannot be bound",
                source: std::io::Error::new(error.kind(), format!("{}: {error}", path.display())),
            })?;
            (format!("unix:{}", path.display()), Socket::Unix(socket))
        }
    };
    Ok(Admin { configured: config.address.clone(), address, socket, token })
}

/// Binds a socket file that only its owner may use, in place of one that nobody listens on.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Admin {
    /// The address as bound.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The address as the config has it, and the socket once more, for another process.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub(crate) fn copy(&self) -> io::Result<(AdminAddress, OwnedFd)> {
        let socket = match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        };
        Ok((self.configured.clone(), socket.try_clone_to_owned()?))
    }

    /// Serves it on `runtime` until the gateway ends.
    pub(crate) fn serve(self, state: &Arc<State>, runtime: &Handle) -> io::Result<()> {
        let _inside = runtime.enter();
        match self.socket {
            Socket::Tcp(socket) => {
                let socket = tokio::net::TcpListener::from_std(socket)?;
                runtime.spawn(server::serve_tcp(socket, state.clone(), self.token));
            }
            Socket::Unix(socket) => {
                let socket = tokio::net::UnixListener::from_std(socket)?;
                runtime.spawn(server::serve_unix(socket, state.clone()));
            }
        }
        Ok(())
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        error.source
    }
}
