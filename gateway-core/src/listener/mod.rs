//! Where connections come in: addresses, accept loops, limits and deadlines below HTTP.
//!
//! The accept loop is our own. Pingora's binds once at start, knows no limit on connections, waits
//! for ever for the first bytes of a connection, and keeps running without a listener whose address
//! is taken.

mod accept;
mod alarm;
mod arrive;
mod bind;
mod conn;
mod flood;
mod framing;
mod head;
mod inherited;
mod io;
mod permit;
mod proxy_header;
mod sockets;
mod taken;
mod wire;

pub use bind::{BindError, Bound, bind};

pub(crate) use accept::Acceptor;
pub(crate) use alarm::Alarm;
pub(crate) use arrive::{Arrived, Relay};
pub(crate) use conn::{ClientWaits, Conn, Introduction};
pub(crate) use inherited::Inherited;
pub(crate) use io::connection;
pub(crate) use permit::Connections;
pub(crate) use sockets::{Accepts, Parting, Prepared, Socket, Sockets, parting};
pub(crate) use taken::{Taken, Taker};
pub(crate) use wire::Wire;
