//! The accept loop: one task a worker and listener, feeding connections to the worker's proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::arrive::{Arrived, Coming, Relay};
use super::conn::Conn;
use super::io::GatewayIo;
use super::permit::Connections;
use super::wire::Wire;
use crate::snapshot::{ListenerPlan, SnapshotHandle};
use crate::telemetry::Refusal;

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
    /// Accepts on `socket` until the gateway closes. Connections of HTTP are the proxy's, others the relay's.
    pub(crate) async fn run<P, R>(
        self,
        name: Arc<str>,
        socket: TcpListener,
        (proxy, relay): (Arc<P>, Arc<R>),
    ) where
        P: ServerApp + Send + Sync + 'static,
        R: Relay,
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
                Ok((tcp, peer)) => self.admit(tcp, peer, listener, (&proxy, &relay)),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    listener.metrics.refused(Refusal::Descriptors);
                    tracing::error!(listener = %name, %error, "cannot accept; trying again soon");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    fn admit<P, R>(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        listener: &Arc<ListenerPlan>,
        (proxy, relay): (&Arc<P>, &Arc<R>),
    ) where
        P: ServerApp + Send + Sync + 'static,
        R: Relay,
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
        let draining = self.draining.clone();
        let arrived = Arrived { tcp, peer, local, listener: listener.clone(), permit };
        if listener.tcp.is_none() && !speaks && listener.tls.is_none() {
            let Arrived { tcp, listener, permit, .. } = arrived;
            let proxy = proxy.clone();
            let conn = Arc::new(Conn::new(listener, peer, local, None, draining.clone()));
            let io = GatewayIo::new(Wire::Plain(tcp), conn, permit);
            tokio::spawn(async move { proxy.process_new(Box::new(io), &draining).await });
            return;
        }
        let coming = Coming { arrived, speaks };
        let mut cut = self.draining.clone();
        if listener.tcp.is_some() {
            let relay = relay.clone();
            tokio::spawn(async move {
                let arrived = tokio::select! {
                    arrived = coming.introduced() => arrived,
                    _ = cut.wait_for(|draining| *draining) => None,
                };
                if let Some(arrived) = arrived {
                    relay.take(arrived).await;
                }
            });
            return;
        }
        let proxy = proxy.clone();
        tokio::spawn(async move {
            let arriving = async { coming.introduced().await?.secured(&draining).await };
            // Who is not through with the handshake when the gateway drains is served no more.
            let io = tokio::select! {
                io = arriving => io,
                _ = cut.wait_for(|draining| *draining) => None,
            };
            if let Some(io) = io {
                proxy.process_new(Box::new(io), &draining).await;
            }
        });
    }
}

/// Whether accepting failed for the one connection that was to be accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}
