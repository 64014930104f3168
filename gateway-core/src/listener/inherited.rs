//! Sockets that are open already when the gateway starts: those of the process before, or of whoever started this one.

use std::io;
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

/// A copy of the socket of a listener, of those that whoever started the process passed to it.
pub(super) fn copy(of: &[Inherited], listener: &ListenerPlan) -> io::Result<Option<Bound>> {
    let Some(place) = find(of, listener) else { return Ok(None) };
    let Inherited { address, socket, .. } = &of[place];
    let (listener, address) = (listener.name.clone(), *address);
    Ok(Some(Bound { listener, address, socket: socket.try_clone()? }))
}

/// Takes the socket of a listener out: the one that was its own before. Of those that were nobody's, the one that is
/// bound to its address, or has its name.
pub(super) fn take(from: &mut Vec<Inherited>, listener: &ListenerPlan) -> Option<Bound> {
    let Inherited { address, socket, .. } = from.remove(find(from, listener)?);
    Some(Bound { listener: listener.name.clone(), address, socket })
}

fn find(among: &[Inherited], listener: &ListenerPlan) -> Option<usize> {
    let own = |one: &Inherited| one.key.as_ref().is_some_and(|key| key.is_of(listener));
    let there = |one: &Inherited| one.key.is_none() && one.address == listener.address;
    let called = |one: &Inherited| one.key.is_none() && one.name == *listener.name;
    let place = |which: &dyn Fn(&Inherited) -> bool| among.iter().position(which);
    place(&own).or_else(|| place(&there)).or_else(|| place(&called))
}
