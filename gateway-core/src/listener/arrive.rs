//! From a connection that was accepted to one that can be served: whose it is, and whether it is secured.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::conn::Conn;
use super::io::GatewayIo;
use super::permit::Permit;
use super::proxy_header::{self, Malformed, Said};
use super::sockets::Socket;
use super::wire::Wire;
use crate::snapshot::ListenerPlan;
use crate::telemetry::ConnectionEnd;

/// Who takes the connections that are no HTTP.
pub(crate) trait Relay: Send + Sync + 'static {
    /// Has one of them from here on. The future lasts as long as the connection.
    fn take(self: Arc<Self>, arrived: Arrived) -> impl Future<Output = ()> + Send;
}

/// A connection before anything is known of it.
pub(super) struct Coming {
    pub(super) arrived: Arrived,
    /// It begins with whose it is.
    pub(super) speaks: bool,
}

/// A connection of which it is known whose it is.
pub(crate) struct Arrived {
    pub(crate) tcp: TcpStream,
    /// The client.
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// What it came on.
    pub(crate) socket: Arc<Socket>,
    pub(crate) listener: Arc<ListenerPlan>,
    /// To be held for as long as the connection.
    pub(crate) permit: Permit,
}

impl Coming {
    /// Finds out whose it is.
    pub(super) async fn introduced(self) -> Option<Arrived> {
        let Self { arrived, speaks } = self;
        if !speaks {
            return Some(arrived);
        }
        let Arrived { mut tcp, mut peer, mut local, socket, listener, permit } = arrived;
        let read = proxy_header::read(&mut tcp);
        let said = tokio::time::timeout(listener.timeouts.handshake, read).await;
        match said {
            Ok(Ok(Said::Client { client, to })) => (peer, local) = (client, to),
            Ok(Ok(Said::Own)) => {}
            Ok(Err(Malformed)) | Err(_) => {
                listener.metrics.ended(ConnectionEnd::ProxyProtocol);
                return None;
            }
        }
        match permit.of(peer.ip(), listener.limits.connections_per_client) {
            Ok(permit) => Some(Arrived { tcp, peer, local, socket, listener, permit }),
            Err(why) => {
                listener.metrics.refused(why);
                None
            }
        }
    }
}

impl Arrived {
    /// Secures it, if it is to be, for requests.
    pub(super) async fn secured(self) -> Option<GatewayIo> {
        let Self { tcp, peer, local, socket, listener, permit } = self;
        let (wire, secured) = match &listener.tls {
            None => (Wire::Plain(tcp), None),
            Some(tls) => {
                let (stream, secured) = tls.accept(tcp).await.ok()?;
                (Wire::Tls(Box::new(stream)), Some(secured))
            }
        };
        let conn = Arc::new(Conn::new(socket, listener, peer, local, secured));
        Some(GatewayIo::new(wire, conn, permit))
    }
}
