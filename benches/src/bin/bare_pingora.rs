//! The floor of the comparison: Pingora's own proxy with nothing of the gateway in it.

use std::net::SocketAddr;

use async_trait::async_trait;
use clap::{ArgAction, Parser};
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::modules::http::HttpModules;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

// The gateway's allocator: a difference here would be counted as a difference of the proxies.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The gateway's listener buffers: head and small body leave in one system call.
const READ_BUFFER: usize = 4 * 1024;
const WRITE_BUFFER: usize = 16 * 1024;

/// Proxies every request to one upstream, in clear HTTP/1.1 on both sides.
#[derive(Parser)]
struct Args {
    /// Address to accept connections on
    #[arg(long)]
    listen: SocketAddr,
    /// Address to forward every request to
    #[arg(long)]
    upstream: SocketAddr,
    /// One work-stealing runtime, or as many single-threaded ones as workers
    #[arg(long, default_value_t = false, action = ArgAction::Set)]
    work_stealing: bool,
    /// Worker threads
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Idle upstream connections kept for reuse
    #[arg(long, default_value_t = 128)]
    pool: usize,
}

struct Bare {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    // Empty on purpose: the stock list registers a compression module that costs even when off.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

fn main() {
    let args = Args::parse();
    let mut server = Server::new_with_opt_and_conf(None, server_conf(&args));
    server.bootstrap();

    let peer = HttpPeer::new(args.upstream, false, String::new());
    let mut service = http_proxy_service(&server.configuration, Bare { peer });
    service.add_listener(
        ListenerConfig::tcp(args.listen.to_string())
            .l4_buffer(L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER)),
    );
    server.add_service(service);
    server.run_forever();
}

fn server_conf(args: &Args) -> ServerConf {
    ServerConf {
        threads: args.workers,
        work_stealing: args.work_stealing,
        upstream_keepalive_pool_size: args.pool,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}
