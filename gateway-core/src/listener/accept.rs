//! The accept loop: one task a worker and listener, feeding connections to the worker's proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::conn::Conn;
use super::io::GatewayIo;
use super::permit::{Connections, Permit};
use super::proxy_header::{self, Malformed, Said};
use super::wire::Wire;
use crate::snapshot::{ListenerPlan, SnapshotHandle};
use crate::telemetry::{ConnectionEnd, Refusal};

/// How long to wait when the process is out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// What all accept loops of a gateway share.
#[derive(Clone)]
pub(crate) struct Acceptor {
    pub(crate) snapshots: SnapshotHandle,
    pub(crate) connections: Arc<Connections>,
    /// The most connections of all listeners together.
    pub(crate) max_connections: usize,
    /// True from the moment no more connection may begin.
    pub(crate) closing: watch::Receiver<bool>,
    /// True from the moment connections are to end after their next answer. Never marked as seen
    /// here, so that a connection that comes to look at it late still sees the change.
    pub(crate) draining: watch::Receiver<bool>,
}

impl Acceptor {
    /// Accepts on `socket` until the gateway closes.
    pub(crate) async fn run<P>(self, name: Arc<str>, socket: TcpListener, proxy: Arc<P>)
    where
        P: ServerApp + Send + Sync + 'static,
    {
        let mut closing = self.closing.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => return,
                accepted = socket.accept() => accepted,
            };
            let snapshot = self.snapshots.load();
            let Some(listener) = snapshot.listener(&name) else { return };
            match accepted {
                Ok((tcp, peer)) => self.admit(tcp, peer, listener, &proxy),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    listener.metrics.refused(Refusal::Descriptors);
                    tracing::error!(listener = %name, %error, "cannot accept; trying again soon");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    fn admit<P>(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        listener: &Arc<ListenerPlan>,
        proxy: &Arc<P>,
    ) where
        P: ServerApp + Send + Sync + 'static,
    {
        // Who speaks for others says whose it is.
        let speaks = listener.believes(peer.ip());
        let client = (!speaks).then(|| peer.ip());
        let permit = match self.connections.admit(listener, client, self.max_connections) {
            Ok(permit) => permit,
            Err(why) => return listener.metrics.refused(why),
        };
        let Ok(local) = tcp.local_addr() else { return };
        // Only a connection that is already gone has no such option.
        let _ = tcp.set_nodelay(true);
        let (proxy, draining) = (proxy.clone(), self.draining.clone());
        if !speaks && listener.tls.is_none() {
            let conn = Arc::new(Conn::new(listener.clone(), peer, local, None));
            let io = GatewayIo::new(Wire::Plain(tcp), conn, permit);
            tokio::spawn(async move { proxy.process_new(Box::new(io), &draining).await });
            return;
        }
        let coming = Coming { tcp, peer, local, speaks, listener: listener.clone(), permit };
        let mut cut = self.draining.clone();
        tokio::spawn(async move {
            // Who is not through with the handshake when the gateway drains is served no more.
            let io = tokio::select! {
                io = coming.arrive() => io,
                _ = cut.wait_for(|draining| *draining) => None,
            };
            if let Some(io) = io {
                proxy.process_new(Box::new(io), &draining).await;
            }
        });
    }
}

/// A connection before anything is known of it.
struct Coming {
    tcp: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    /// It begins with whose it is.
    speaks: bool,
    listener: Arc<ListenerPlan>,
    permit: Permit,
}

impl Coming {
    /// Finds out whose it is, and secures it.
    async fn arrive(self) -> Option<GatewayIo> {
        let Self { mut tcp, mut peer, mut local, speaks, listener, mut permit } = self;
        if speaks {
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
                Ok(own) => permit = own,
                Err(why) => {
                    listener.metrics.refused(why);
                    return None;
                }
            }
        }
        let (wire, secured) = match &listener.tls {
            None => (Wire::Plain(tcp), None),
            Some(tls) => {
                let (stream, secured) = tls.accept(tcp).await.ok()?;
                (Wire::Tls(Box::new(stream)), Some(secured))
            }
        };
        let conn = Arc::new(Conn::new(listener, peer, local, secured));
        Some(GatewayIo::new(wire, conn, permit))
    }
}

/// Whether accepting failed for the one connection that was to be accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}
