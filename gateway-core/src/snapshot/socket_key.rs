//! `SocketKey`: which socket is whose.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ListenerPlan;

/// What tells one socket from another: the address that the config gives it, and the listener's name too where the
/// system chooses the port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SocketKey {
    pub(crate) address: SocketAddr,
    name: Option<Arc<str>>,
}

impl SocketKey {
    pub(crate) fn of(listener: &ListenerPlan) -> Self {
        Self::of_another(listener.address, &listener.name)
    }

    /// The key of the socket of a listener that another process had.
    pub(crate) fn of_another(address: SocketAddr, name: &str) -> Self {
        Self { address, name: (address.port() == 0).then(|| name.into()) }
    }

    pub(crate) fn is_of(&self, listener: &ListenerPlan) -> bool {
        self.address == listener.address
            && self.name.as_ref().is_none_or(|name| *name == listener.name)
    }
}
