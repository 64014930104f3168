//! `Snapshot`: what runs. Built whole from a config, never changed, replaced in one swap.

mod canary;
mod compile;
mod socket_key;
mod store;
mod tasks;
mod written;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;

use crate::action::{Action, RewritePlan};
use crate::config::{Config, Fault};
use crate::mirror::Mirror;
use crate::plugin::{Chain, Mounted, Reply};
use crate::routing::RouteTable;
use crate::telemetry::{ListenerMetrics, RouteMetrics};
use crate::tls::TlsPlan;
use crate::upstream::{Breaker, Each, Upstream};

pub(crate) use canary::{Canary, Sample, Verdict};
pub use compile::{Compiler, compile};
pub(crate) use socket_key::SocketKey;
pub(crate) use store::Name as CarriedName;
pub use store::Store;
pub(crate) use written::written;

/// The number and digest of a config.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Revision {
    /// Counts the configs that were in force, from 1, those of processes before this one included.
    pub number: u64,
    /// SHA-256 of the merged document, hexadecimal; secrets enter it by reference.
    pub digest: String,
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "revision {} ({})", self.number, self.digest)
    }
}

/// What one listener's requests and connections are subject to.
pub struct ListenerPlan {
    /// The name that logs and metrics use.
    pub name: Arc<str>,
    /// Where it accepts.
    pub address: SocketAddr,
    /// Its place among the snapshot's listeners.
    pub index: u16,
    pub(crate) limits: ListenerLimits,
    pub(crate) timeouts: ListenerTimeouts,
    pub(crate) trusted: Box<[IpNet]>,
    /// Who says in the PROXY protocol whose its connections are.
    pub(crate) speakers: Box<[IpNet]>,
    pub(crate) tls: Option<Arc<TlsPlan>>,
    /// Where its connections go, if they are no HTTP.
    pub(crate) tcp: Option<TcpPlan>,
    /// The port of https that all requests are sent to.
    pub(crate) redirect: Option<u16>,
    /// The plugins met by requests that no route takes.
    pub(crate) chain: Arc<Chain>,
    pub(crate) metrics: Arc<ListenerMetrics>,
}

impl ListenerPlan {
    /// Whether this address says whose its connections are.
    pub(crate) fn believes(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.speakers.iter().any(|net| net.contains(&peer))
    }
}

/// Where connections go that are no HTTP.
pub(crate) struct TcpPlan {
    /// Where those go that no name is for.
    upstream: Option<Arc<Upstream>>,
    names: HashMap<Box<str>, Arc<Upstream>>,
    /// By what stands behind `*.`.
    under: HashMap<Box<str>, Arc<Upstream>>,
    allow: Box<[IpNet]>,
    deny: Box<[IpNet]>,
    pub(crate) patience: Patience,
    pub(crate) total: Option<Duration>,
}

/// How long nothing may move on a connection that is no HTTP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) idle: Duration,
    /// Once one of its ends has said all, or is gone.
    pub(crate) half_closed: Duration,
}

impl TcpPlan {
    /// Whether where a connection goes depends on a name.
    pub(crate) fn asks_for_names(&self) -> bool {
        !self.names.is_empty() || !self.under.is_empty()
    }

    /// Where a connection goes whose client asked for this name, in lower case.
    pub(crate) fn upstream(&self, name: Option<&str>) -> Option<&Arc<Upstream>> {
        let named = name.and_then(|name| {
            let dots = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
            let mut wider = dots.filter_map(|under| self.under.get(under));
            self.names.get(name).or_else(|| wider.next())
        });
        named.or(self.upstream.as_ref())
    }

    /// Whether somebody from this address may connect.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let is_in = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&client));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}

/// What a listener's clients may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerLimits {
    pub(crate) connections: usize,
    /// 0 for no limit.
    pub(crate) connections_per_client: usize,
    pub(crate) header_bytes: usize,
    pub(crate) headers: usize,
    pub(crate) body_bytes: Option<u64>,
    pub(crate) requests_per_connection: Option<u32>,
}

/// How long a listener's clients may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerTimeouts {
    pub(crate) handshake: Duration,
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
    pub(crate) body_read: Duration,
    pub(crate) write: Duration,
}

/// One route, ready to serve.
pub struct RoutePlan {
    /// The name that logs and metrics use.
    pub name: Arc<str>,
    pub(crate) action: Action,
    /// Where it sends requests, one place for each of its upstreams.
    pub(crate) destinations: Box<[Destination]>,
    pub(crate) rewrite: Option<Arc<RewritePlan>>,
    pub(crate) mirror: Option<Arc<Mirror>>,
    pub(crate) total: Option<Duration>,
    /// Its plugins, by the listener the request came through.
    pub(crate) chains: Box<[Arc<Chain>]>,
    pub(crate) metrics: Arc<RouteMetrics>,
}

/// An upstream of a route, and the breakers before it.
pub(crate) struct Destination {
    pub(crate) upstream: Arc<Upstream>,
    /// By the listener the request came through.
    fuses: Option<Box<[Box<[Fuse]>]>>,
}

/// The breakers that a plugin puts before an upstream, and the plugin's place in the chain.
pub(crate) struct Fuse {
    pub(crate) place: usize,
    pub(crate) breakers: Breakers,
    /// What is answered in place of what they refuse.
    pub(crate) reply: Option<Reply>,
}

/// One breaker, or one for each endpoint.
pub(crate) enum Breakers {
    One(Arc<Breaker>),
    Each(Arc<Each>),
}

impl RoutePlan {
    /// The upstream it sends to, if it is one.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        match &*self.destinations {
            [one] => Some(&one.upstream),
            _ => None,
        }
    }

    /// The upstreams it sends to.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.destinations.iter().map(|one| &one.upstream)
    }

    /// All breakers before its upstreams, with the plugins that put them there.
    pub(crate) fn breakers(
        &self,
    ) -> impl Iterator<Item = (&Arc<Upstream>, &Arc<Mounted>, &Breakers)> {
        self.destinations.iter().flat_map(|destination| {
            let fuses = destination.fuses.iter().flatten().zip(&self.chains);
            fuses.flat_map(|(fuses, chain)| {
                let told = fuses.iter().map(|fuse| (chain.plugin(fuse.place), &fuse.breakers));
                told.map(|(plugin, breakers)| (&destination.upstream, plugin, breakers))
            })
        })
    }

    /// Its plugins for requests that come through `listener`.
    pub fn chain(&self, listener: &ListenerPlan) -> Option<&Arc<Chain>> {
        self.chains.get(usize::from(listener.index))
    }
}

impl Destination {
    pub(crate) fn has_fuses(&self) -> bool {
        self.fuses.is_some()
    }

    /// The breakers before it for requests that come through `listener`.
    pub(crate) fn fuses(&self, listener: &ListenerPlan) -> &[Fuse] {
        let fuses = self.fuses.as_ref().and_then(|fuses| fuses.get(usize::from(listener.index)));
        fuses.map_or(&[], |fuses| fuses)
    }
}

/// Everything that serves requests, built from one config.
pub struct Snapshot {
    /// Which config this is.
    pub revision: Revision,
    /// The config itself, merged and typed.
    pub config: Arc<Config>,
    /// When it was compiled.
    pub compiled_at: SystemTime,
    pub(crate) table: RouteTable,
    pub(crate) routes: Box<[Arc<RoutePlan>]>,
    pub(crate) listeners: Box<[Arc<ListenerPlan>]>,
    pub(crate) upstreams: Box<[Arc<Upstream>]>,
    /// For requests that no route takes.
    pub(crate) unrouted: Arc<RouteMetrics>,
    /// Tasks that plugins run while this snapshot is in use; taken when it is installed.
    pub(crate) tasks: tasks::Tasks,
    /// What is doubtful but no fault, found while it was built.
    pub warnings: Box<[Fault]>,
    /// Names whose values in queries are credentials, besides those that always are.
    pub(crate) concealed: Box<[String]>,
}

impl Snapshot {
    /// The routes in the order of the config.
    pub fn routes(&self) -> &[Arc<RoutePlan>] {
        &self.routes
    }

    /// What finds the route of a request.
    pub fn route_table(&self) -> &RouteTable {
        &self.table
    }

    /// The listeners in the order of the config.
    pub fn listeners(&self) -> &[Arc<ListenerPlan>] {
        &self.listeners
    }

    /// The upstreams in the order of the config.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// The names of all plugins in use.
    pub(crate) fn plugin_names(&self) -> HashSet<&str> {
        let listeners = self.listeners.iter().map(|listener| &listener.chain);
        let chains = listeners.chain(self.routes.iter().flat_map(|route| route.chains.iter()));
        chains.flat_map(|chain| chain.plugins()).map(|plugin| &*plugin.name).collect()
    }

    /// Whose listener a socket is.
    pub(crate) fn listener_on(&self, socket: &SocketKey) -> Option<&Arc<ListenerPlan>> {
        self.listeners.iter().find(|listener| socket.is_of(listener))
    }

    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Option<&Arc<ListenerPlan>> {
        self.listeners.iter().find(|listener| &*listener.name == name)
    }
}

/// A cheap clone of the place where the snapshot in force is found.
#[derive(Clone)]
pub struct SnapshotHandle(Arc<Handle>);

struct Handle {
    in_force: ArcSwap<Snapshot>,
    /// Whether another is tried beside it: what requests look at.
    tries: AtomicBool,
    canary: ArcSwapOption<Canary>,
}

impl SnapshotHandle {
    /// A handle with its first snapshot.
    pub fn new(first: Snapshot) -> Self {
        Self(Arc::new(Handle {
            in_force: ArcSwap::from_pointee(first),
            tries: AtomicBool::new(false),
            canary: ArcSwapOption::empty(),
        }))
    }

    /// The snapshot in force.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.in_force.load_full()
    }

    /// Whether the next request is to be counted, and by which snapshot it is to be served then. Costs a load where none is
    /// on trial.
    #[inline]
    pub(crate) fn sample(&self) -> Option<Sample> {
        if !self.0.tries.load(Ordering::Relaxed) {
            return None;
        }
        self.0.canary.load().as_ref().map(|canary| canary.sample(rand::random()))
    }

    /// Tries another snapshot beside the one in force, or none any more.
    pub(crate) fn try_out(&self, canary: Option<Arc<Canary>>) {
        let tries = canary.is_some();
        self.0.canary.store(canary);
        self.0.tries.store(tries, Ordering::Relaxed);
    }

    /// Puts `next` in force. Cannot fail; requests in flight keep the snapshot they began with.
    pub fn replace(&self, next: Snapshot) -> Arc<Snapshot> {
        self.0.in_force.swap(Arc::new(next))
    }
}
