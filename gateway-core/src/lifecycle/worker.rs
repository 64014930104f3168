//! A worker: one thread, one runtime, one proxy with its own pool of upstream connections.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use pingora::apps::{HttpServerOptions, ServerApp};
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use pingora_proxy::{HttpProxy, ProcessCustomSession, ProxyServiceBuilder};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::listener::{Acceptor, Accepts, Socket};
use crate::proxy::{GatewayProxy, Shared, TcpRelay};
use crate::upstream::Connector;

/// Idle upstream connections that one worker keeps.
const POOL: usize = 1024;
/// The most streams a client may have open on one HTTP/2 connection.
const STREAMS: u32 = 100;
/// The most an HTTP/2 client may send ahead on one stream and on one connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The largest request head that HTTP/2 decodes; listeners' own limits are checked after it.
const HEADER_LIST: u32 = 64 * 1024;
/// How long an HTTP/2 connection without a stream is kept.
const IDLE: std::time::Duration = std::time::Duration::from_secs(75);

/// The proxy of one worker, which asks [`Connector`] for what is not plain HTTP/1.
pub(crate) type Proxy = HttpProxy<GatewayProxy, Connector>;

/// What one worker serves.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shared: Shared,
    pub(super) acceptor: Acceptor,
    pub(super) idle: watch::Receiver<bool>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Where a worker is told of the sockets that it accepts on.
pub(super) struct Hand {
    pub(super) runtime: Handle,
    acceptor: Acceptor,
    proxy: Arc<Proxy>,
    relay: Arc<TcpRelay>,
}

impl Accepts for Hand {
    fn accept(&self, socket: Arc<Socket>, listener: TcpListener) {
        let by = (self.proxy.clone(), self.relay.clone());
        let acceptor = self.acceptor.clone();
        self.runtime.spawn(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => acceptor.run(socket, listener, by).await,
                Err(error) => tracing::error!(?socket, %error, "this worker cannot accept"),
            }
        });
    }
}

impl Worker {
    /// Starts the thread. What comes back with it is where it is told of sockets.
    pub(super) fn start(self) -> io::Result<(JoinHandle<()>, Box<Hand>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Self { index, shared, acceptor, mut idle, mut stopping } = self;
        let _inside = runtime.enter();
        let relay = Arc::new(TcpRelay::new(index, shared.clone()));
        let proxy = Arc::new(proxy(index, shared));
        let hand =
            Hand { runtime: runtime.handle().clone(), acceptor, proxy: proxy.clone(), relay };
        drop(_inside);
        let serve = async move {
            tokio::spawn(async move {
                if idle.wait_for(|idle| *idle).await.is_ok() {
                    ServerApp::cleanup(&*proxy).await;
                }
            });
            // An error means that the gateway is gone: the same as being told to stop.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        let name = format!("gateway-worker-{index}");
        let thread =
            std::thread::Builder::new().name(name).spawn(move || runtime.block_on(serve))?;
        Ok((thread, Box::new(hand)))
    }
}

fn proxy(index: usize, shared: Shared) -> Proxy {
    let conf =
        ServerConf { upstream_keepalive_pool_size: POOL, threads: 1, ..ServerConf::default() };
    let connector = Connector::default();
    let gateway = GatewayProxy::new(index, shared);
    // No client speaks a protocol that Pingora does not know: what would serve it is never called.
    let nothing: ProcessCustomSession<GatewayProxy, Connector> =
        Arc::new(|_, _, _| Box::pin(async { None }));
    let service =
        ProxyServiceBuilder::new(&Arc::new(conf), gateway).custom(connector, nothing).build();
    let mut proxy = take(service);
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(IDLE);
    proxy.server_options = Some(options);
    let mut http2 = default_h2_options();
    http2
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    proxy.h2_options = Some(http2);
    proxy
}

/// Takes a proxy out of the service that it was built in: Pingora builds one that has a connector of
/// its own nowhere else, and gives nothing back.
#[expect(unsafe_code, reason = "a service shows its proxy and does not part with it")]
fn take(service: Service<Proxy>) -> Proxy {
    let service = std::mem::ManuallyDrop::new(service);
    let proxy = service.app_logic().expect("a service that was just built has its proxy");
    // SAFETY: the service is never used nor dropped from here on, so that the proxy has one owner
    // again. What else the service holds, an empty list of addresses and a name, is left behind.
    unsafe { std::ptr::read(proxy) }
}
