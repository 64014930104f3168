//! The accept loop: one task a worker and listener, feeding connections to the worker's proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp;
use tokio::net::{TcpListener, TcpStream};

use super::arrive::{Arrived, Coming, Relay};
use super::conn::Conn;
use super::io::GatewayIo;
use super::permit::Connections;
use super::sockets::{Accepting, Socket};
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
}

impl Acceptor {
    /// Accepts on `socket` until that is over. Connections of HTTP are the proxy's, others the relay's.
    pub(crate) async fn run<P, R>(
        self,
        socket: Arc<Socket>,
        listener: TcpListener,
        (proxy, relay): (Arc<P>, Arc<R>),
    ) where
        P: ServerApp + Send + Sync + 'static,
        R: Relay,
    {
        let mut accepting = socket.accepting();
        loop {
            let now = *accepting.borrow_and_update();
            let accepted = match now {
                Accepting::Yes => tokio::select! {
                    biased;
                    _ = accepting.changed() => continue,
                    accepted = listener.accept() => accepted,
                },
                Accepting::Wait => {
                    // The sender is the socket's own.
                    let _ = accepting.changed().await;
                    continue;
                }
                Accepting::Last => break,
                Accepting::Never => return,
            };
            if let Err(error) = self.take(accepted, &socket, (&proxy, &relay)) {
                tracing::error!(?socket, %error, "cannot accept; trying again soon");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
        // Those that the kernel has let in already are served, too.
        let Ok(waiting) = listener.into_std() else { return };
        while let Ok((tcp, peer)) = waiting.accept() {
            let tcp = tcp.set_nonblocking(true).and_then(|()| TcpStream::from_std(tcp));
            let _ = self.take(tcp.map(|tcp| (tcp, peer)), &socket, (&proxy, &relay));
        }
    }

    /// # Errors
    /// Nobody can be accepted now.
    fn take<P, R>(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        socket: &Arc<Socket>,
        by: (&Arc<P>, &Arc<R>),
    ) -> io::Result<()>
    where
        P: ServerApp + Send + Sync + 'static,
        R: Relay,
    {
        let Some((_, listener)) = socket.serving(self.snapshots.load(), 0) else { return Ok(()) };
        match accepted {
            Ok((tcp, peer)) => self.admit(tcp, peer, socket, &listener, by),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                listener.metrics.refused(Refusal::Descriptors);
                return Err(error);
            }
        }
        Ok(())
    }

    fn admit<P, R>(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        socket: &Arc<Socket>,
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
        let draining = socket.draining();
        let (socket, listener) = (socket.clone(), listener.clone());
        let arrived = Arrived { tcp, peer, local, socket, listener, permit };
        let listener = &arrived.listener;
        if listener.tcp.is_none() && !speaks && listener.tls.is_none() {
            let Arrived { tcp, socket, listener, permit, .. } = arrived;
            let proxy = proxy.clone();
            let conn = Arc::new(Conn::new(socket, listener, peer, local, None));
            let io = GatewayIo::new(Wire::Plain(tcp), conn, permit);
            tokio::spawn(async move { proxy.process_new(Box::new(io), &draining).await });
            return;
        }
        let is_tcp = listener.tcp.is_some();
        let coming = Coming { arrived, speaks };
        let mut cut = draining.clone();
        if is_tcp {
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
            let arriving = async { coming.introduced().await?.secured().await };
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
