//! Endpoints, how one is chosen, and how long an exchange with it may take.

mod balance;
mod clock;
mod idle;
mod peer;
mod socket;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pingora::upstreams::peer::HttpPeer;

use crate::config::{HeaderCase, UpstreamConfig};
use crate::telemetry::UpstreamMetrics;

use balance::Balancer;
pub use balance::{LeastRequests, Random, RoundRobin};
pub(crate) use clock::CoarseClock;
pub(crate) use socket::SocketId;
pub(crate) use watch::{Watch, Watched};

/// One address inside an upstream.
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of requests; 0 means that it gets none.
    pub weight: u32,
    peer: HttpPeer,
    live: Arc<EndpointState>,
}

/// What changes of an endpoint while it serves. Kept by upstream and address, whatever else of the
/// upstream a reload changes.
#[derive(Debug, Default)]
pub(crate) struct EndpointState {
    in_flight: AtomicU32,
}

impl Endpoint {
    /// How many requests it has been given and has not answered.
    pub fn in_flight(&self) -> u32 {
        self.live.in_flight.load(Ordering::Relaxed)
    }
}

/// How long the parts of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamTimeouts {
    /// To establish a connection.
    pub connect: Duration,
    /// From the request's last byte sent to the response's first byte.
    pub first_byte: Duration,
    /// Between two reads or two writes of a body.
    pub idle: Duration,
    /// For the whole request, from its head to the response's last byte.
    pub total: Option<Duration>,
    /// That a connection may wait for its next request; none is kept if zero.
    pub keepalive: Duration,
}

/// A named group of endpoints that routes send to.
///
/// State is kept per upstream, never per route, and outlives a reload that does not change it.
pub struct Upstream {
    name: Arc<str>,
    endpoints: Box<[Endpoint]>,
    balancer: Balancer,
    timeouts: UpstreamTimeouts,
    header_case: HeaderCase,
    metrics: Arc<UpstreamMetrics>,
}

impl Upstream {
    /// Builds the upstream for so many workers; `live` is the state of its endpoints, in their order.
    pub(crate) fn new(
        config: &UpstreamConfig,
        digest: &str,
        workers: usize,
        metrics: Arc<UpstreamMetrics>,
        live: Vec<Arc<EndpointState>>,
    ) -> Self {
        let timeouts = UpstreamTimeouts {
            connect: config.timeouts.connect.into(),
            first_byte: config.timeouts.first_byte.into(),
            idle: config.timeouts.idle.into(),
            total: config.timeouts.total.map(Into::into),
            keepalive: config.timeouts.keepalive.into(),
        };
        let endpoints: Box<[Endpoint]> = config
            .endpoints
            .iter()
            .zip(live)
            .map(|(endpoint, live)| Endpoint {
                address: endpoint.address,
                weight: endpoint.weight,
                peer: peer::template(endpoint.address, &timeouts, digest),
                live,
            })
            .collect();
        let weights: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.weight).collect();
        Self {
            name: config.name.as_str().into(),
            balancer: Balancer::new(config.balance, &weights, workers),
            endpoints,
            timeouts,
            header_case: config.header_case,
            metrics,
        }
    }

    /// The name that routes, logs and metrics use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its endpoints in the order of the config.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub(crate) fn timeouts(&self) -> &UpstreamTimeouts {
        &self.timeouts
    }

    /// Whether the names of fields go up as the client spelled them.
    pub(crate) fn keeps_spelling(&self) -> bool {
        self.header_case == HeaderCase::Preserve
    }

    pub(crate) fn metrics(&self) -> &Arc<UpstreamMetrics> {
        &self.metrics
    }

    /// Brings the metrics up to date that are added up from the endpoints.
    pub(crate) fn report(&self) {
        self.metrics.set_in_flight(self.endpoints.iter().map(Endpoint::in_flight).sum());
    }

    /// Chooses the endpoint of the next attempt: its place in [`endpoints`](Self::endpoints). It has
    /// one request more in flight until [`leave`](Self::leave). `None` when none can be chosen.
    pub(crate) fn choose(&self, worker: usize) -> Option<usize> {
        let endpoint = self.balancer.next(worker, &self.endpoints)?;
        self.endpoints[endpoint].live.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(endpoint)
    }

    /// The attempt on this endpoint has ended.
    pub(crate) fn leave(&self, endpoint: usize) {
        self.endpoints[endpoint].live.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// What Pingora needs to reach an endpoint, with `left` of the request's time still to go.
    ///
    /// The watch bounds the wait for an answer. What it cannot see Pingora bounds, at the price of
    /// a timer a read or write: an upstream that does not take a body (`sends_body`), and silence
    /// between two parts of a response of which only a stream knows whether its client took the
    /// last (`http2`).
    pub(crate) fn peer(
        &self,
        endpoint: usize,
        left: Option<Duration>,
        sends_body: bool,
        http2: bool,
    ) -> Option<Box<HttpPeer>> {
        let template = &self.endpoints.get(endpoint)?.peer;
        let mut peer = Box::new(template.clone());
        if sends_body {
            peer.options.write_timeout = Some(self.timeouts.idle);
        }
        if http2 {
            // Pingora counts per read and cannot tell the head from the body, hence the longer.
            peer.options.read_timeout = Some(self.timeouts.first_byte.max(self.timeouts.idle));
        }
        if let Some(left) = left.filter(|left| *left < self.timeouts.connect) {
            // The watch has the first word on whose time is up; it has no socket to end yet.
            let left = left + watch::LATEST;
            peer.options.connection_timeout = Some(left);
            peer.options.total_connection_timeout = Some(left);
        }
        Some(peer)
    }
}
