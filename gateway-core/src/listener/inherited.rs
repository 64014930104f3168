//! Sockets that are open already when the gateway starts: those of the process before, or of whoever started this one.

use std::net::{SocketAddr, TcpListener};

use super::bind::Bound;
use crate::snapshot::{ListenerPlan, SocketKey};

/// A socket that listens, and what is known of it.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// Where it stood among the others.
    pub(crate) place: usize,
    pub(crate) name: String,
    /// Whose it was; `None` if nobody has said.
    pub(crate) key: Option<SocketKey>,
    pub(crate) address: SocketAddr,
    pub(crate) socket: TcpListener,
}

/// Takes the socket of a listener out: the one that was its own before. Of those that were nobody's, the one that is
/// bound to its address, or has its name.
pub(super) fn take(from: &mut Vec<Inherited>, listener: &ListenerPlan) -> Option<Bound> {
    let own = |one: &Inherited| one.key.as_ref().is_some_and(|key| key.is_of(listener));
    let there = |one: &Inherited| one.key.is_none() && one.address == listener.address;
    let called = |one: &Inherited| one.key.is_none() && one.name == *listener.name;
    let place = from
        .iter()
        .position(own)
        .or_else(|| from.iter().position(there))
        .or_else(|| from.iter().position(called))?;
    let Inherited { address, socket, .. } = from.remove(place);
    Some(Bound { listener: listener.name.clone(), address, socket })
}
