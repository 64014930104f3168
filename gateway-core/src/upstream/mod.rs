//! Endpoints, how one is chosen, and how long an exchange with it may take.

mod adaptive;
mod balance;
mod breaker;
mod change;
mod clock;
mod connect;
mod copies;
mod discovery;
mod endpoint;
mod gate;
mod health;
mod idle;
mod keepalive;
mod peer;
mod place;
mod quantile;
mod retry;
mod room;
mod roster;
mod socket;
mod sticky;
mod tend;
mod transport;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;
use tokio::runtime::Handle;

use crate::config::{EndpointConfig, HeaderCase, UpstreamConfig};
use crate::plugin::Attribute;
use crate::telemetry::{FailureCode, UpstreamMetrics};

pub(crate) use balance::hash;
use balance::{Circumstances, Turns};
pub use balance::{Ewma, LeastRequests, Load, Random, Ring, RoundRobin};
pub(crate) use breaker::{Breaker, Each, Pass, Told, Who};
pub use breaker::{BreakerOptions, BreakerScope, BreakerState};
pub(crate) use clock::CoarseClock;
pub(crate) use copies::{Copies, Returned};
pub use discovery::Discovery;
pub use endpoint::Endpoint;
pub(crate) use endpoint::EndpointStates;
pub(crate) use gate::{Refused, Slot};
pub(crate) use health::Ending;
use health::Passive;
pub use health::{Condition, Overrides};
pub(crate) use keepalive::{KEEP_ALIVE, kept_for, safely};
use place::Count;
pub(crate) use place::Place;
pub(crate) use retry::{Retry, Why};
use roster::{Roster, Wanted};
pub(crate) use socket::SocketId;
pub(crate) use sticky::Sticky;
pub(crate) use transport::{
    Connector, Cut, Failed, GOODBYE, Hedge, REFUSED, Second, Tls, Transport, Upgrade, Upgraded,
    Wire, cut_of, is_for_trailers,
};
pub(crate) use watch::{Line, Watch, Watched};

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
    /// Without a byte either way, on a connection that is HTTP no more.
    pub tunnel: Duration,
}

/// A named group of endpoints that routes send to.
///
/// State is kept per upstream, never per route, and outlives a reload that does not change it.
pub struct Upstream {
    config: UpstreamConfig,
    timeouts: UpstreamTimeouts,
    key: Option<Attribute>,
    sticky: Option<Sticky>,
    passive: Option<Passive>,
    retry: Option<Retry>,
    metrics: Arc<UpstreamMetrics>,
    states: Arc<EndpointStates>,
    transport: Arc<Transport>,
    /// Who can be chosen now: read by requests, replaced by [`refresh`](Self::refresh).
    roster: ArcSwap<Roster>,
    turns: Box<[Turns]>,
    /// All endpoints' requests in flight, counted where the balancing asks for them.
    total: Option<Arc<Count>>,
    /// The last moment of the gateway's coarse clock that a request ended at.
    latest: AtomicU64,
    /// Tells it from what the upstream was before a reload, and after.
    id: u64,
}

/// What the choice of an endpoint depends on.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'a> {
    pub(crate) worker: usize,
    /// The request's first: it takes its turn and counts as one request.
    pub(crate) first: bool,
    /// The moment by the gateway's coarse clock.
    pub(crate) now: u64,
    /// The hash of what the upstream asked for as [`Upstream::key`].
    pub(crate) key: Option<u64>,
    /// What the cookie of [`Upstream::sticky`] says.
    pub(crate) cookie: Option<u64>,
    /// Endpoints that were tried in vain.
    pub(crate) avoid: &'a [SocketAddr],
}

impl Upstream {
    /// Builds the upstream for so many workers. `transport` is what shapes its connections, `key` the
    /// attribute that it balances by.
    pub(crate) fn new(
        config: &UpstreamConfig,
        transport: Arc<Transport>,
        workers: usize,
        key: Option<Attribute>,
        metrics: Arc<UpstreamMetrics>,
        states: Arc<EndpointStates>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let timeouts = UpstreamTimeouts {
            connect: config.timeouts.connect.into(),
            first_byte: config.timeouts.first_byte.into(),
            idle: config.timeouts.idle.into(),
            total: config.timeouts.total.map(Into::into),
            keepalive: config.timeouts.keepalive.into(),
            tunnel: config.timeouts.tunnel.into(),
        };
        let total = key.is_some().then(|| states.total.clone());
        let found = config.discover.as_ref().and_then(|by| states.discovered.by(by));
        let upstream = Self {
            config: config.clone(),
            timeouts,
            key,
            sticky: config.sticky.as_ref().map(Sticky::new),
            passive: config.health.passive.as_ref().map(Passive::new),
            retry: config.retry.as_ref().map(Retry::new),
            metrics,
            states,
            transport,
            roster: ArcSwap::from_pointee(Roster::empty()),
            turns: (0..workers.max(1)).map(|_| Turns::default()).collect(),
            total,
            latest: AtomicU64::new(0),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        };
        upstream.take(found.as_deref().unwrap_or_default(), true);
        upstream
    }

    /// An endpoint; a `newcomer` begins with a slow start if the fleet serves already.
    fn endpoint(&self, config: &EndpointConfig, newcomer: bool) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            address: config.address,
            id: sticky::identity(&self.config.name, config.address),
            weight: config.weight,
            priority: config.priority,
            labels: config.labels.clone(),
            peer: peer::template(config.address, &self.timeouts, &self.transport),
            live: self.states.of(config.address, newcomer, self.turns.len()),
            total: self.total.clone(),
            decides: self.config.balance.counts_in_flight()
                || self.config.limits.endpoint_in_flight.is_some(),
            most: self.config.limits.endpoint_in_flight.unwrap_or(u32::MAX),
            room: self.config.limits.endpoint_in_flight.map(|_| self.states.room.clone()),
        })
    }

    /// The name that routes, logs and metrics use.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its endpoints: those that are written, in their order, then those that were found.
    pub fn endpoints(&self) -> Arc<[Arc<Endpoint>]> {
        self.roster.load().endpoints.clone()
    }

    pub(crate) fn timeouts(&self) -> &UpstreamTimeouts {
        &self.timeouts
    }

    /// Whether the names of fields go up as the client spelled them.
    pub(crate) fn keeps_spelling(&self) -> bool {
        self.config.header_case == HeaderCase::Preserve
    }

    /// What it balances by, if it does so by a key.
    pub(crate) fn key(&self) -> Option<&Attribute> {
        self.key.as_ref()
    }

    /// How its clients are kept where they are, if they are.
    pub(crate) fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// How its attempts are repeated, if they are.
    pub(crate) fn retry(&self) -> Option<&Retry> {
        self.retry.as_ref()
    }

    pub(crate) fn metrics(&self) -> &Arc<UpstreamMetrics> {
        &self.metrics
    }

    /// Brings the metrics up to date that are added up from the endpoints.
    pub(crate) fn report(&self) {
        let conditions = self.conditions();
        self.metrics.set_in_flight(conditions.iter().map(|(one, _)| one.in_flight()).sum());
        self.metrics.set_waiting(self.states.gate.waiting() + self.states.room.waiting());
        self.metrics.set_limit(self.config.limits.most().map(|_| self.states.gate.limited_to()));
        for state in Condition::STATES {
            let count = conditions.iter().filter(|(_, one)| one.state == state).count();
            self.metrics.set_endpoints(state, count);
        }
    }

    /// Its endpoints in their order, each with its condition.
    pub fn conditions(&self) -> Vec<(Arc<Endpoint>, Condition)> {
        let now = Instant::now();
        let endpoints = self.endpoints();
        let told = endpoints.iter().map(|one| (one.clone(), self.condition(one, now)));
        told.collect()
    }

    fn condition(&self, endpoint: &Endpoint, now: Instant) -> Condition {
        endpoint.live.standing().condition(now, &self.config.health)
    }

    /// The snapshot that holds it is in force: begins to tend it, in place of what the upstream was
    /// before.
    pub(crate) fn start(self: &Arc<Self>, runtime: &Handle) {
        self.states.settle();
        if !self.states.is_tended_by(self.id) {
            // One that was in force before, and that requests still had, knows only what was then.
            match &self.config.discover {
                None => self.take(&[], true),
                // Where nothing is known of its own looks it keeps what they found.
                Some(by) => {
                    let found = self.states.discovered.by(by);
                    found.iter().for_each(|found| self.take(found, true));
                }
            }
        }
        self.states.gate.limit(self.limit());
        self.states.tend(self.id, || tend::begin(self, runtime));
    }

    /// How many requests may be in flight.
    fn limit(&self) -> u32 {
        let limits = &self.config.limits;
        let most = limits.most().unwrap_or(u32::MAX);
        limits.adaptive.as_ref().map_or(most, |config| self.states.adaptive.tick(config, most))
    }

    /// Moves the limit, if it moves. Returns when to do so again.
    fn adapt(&self, now: Instant) -> Option<Instant> {
        self.config.limits.adaptive.as_ref()?;
        self.states.gate.limit(self.limit());
        Some(now + adaptive::TICK)
    }

    /// Lets a request in, at once or after a wait, if not too many are in flight. `None` where
    /// nothing is limited.
    pub(crate) async fn enter(&self, left: Option<Duration>) -> Result<Option<Slot>, Refused> {
        let limits = &self.config.limits;
        if limits.most().is_none() {
            return Ok(None);
        }
        let gate = &self.states.gate;
        if let Some(slot) = gate.try_enter() {
            return Ok(Some(slot));
        }
        let longest: Duration = limits.queue_timeout.into();
        let longest = left.map_or(longest, |left| left.min(longest));
        // Boxed, so that requests which need not wait do not carry the room for it.
        let entered = Box::pin(gate.enter(limits.queue, longest)).await;
        if let Err(refused) = entered {
            self.metrics.overflowed(refused == Refused::TooLate);
        }
        entered.map(Some)
    }

    /// Has an attempt's connection say whose it is, if endpoints are told.
    pub(crate) fn introduce(&self, peer: &mut HttpPeer, client: SocketAddr, gateway: SocketAddr) {
        if let Some(version) = self.transport.proxy_protocol {
            let header = transport::introduction(version, client, gateway);
            peer::introduce(peer, &self.transport, header);
        }
    }

    /// After which time a request is sent a second time, if it is and that is known.
    pub(crate) fn hedges_after(&self) -> Option<Duration> {
        let hedge = self.config.retry.as_ref()?.hedge.as_ref()?;
        Some(self.states.times.found()?.max(hedge.at_least.into()))
    }

    /// Has an attempt be followed by a second one.
    pub(crate) fn hedge(&self, peer: &mut HttpPeer, hedge: Arc<Hedge>) {
        peer::hedge(peer, &self.transport, hedge);
    }

    /// Has an attempt's connection be one that may become something else than HTTP.
    pub(crate) fn upgrade(&self, peer: &mut HttpPeer, upgrade: Arc<Upgrade>) {
        peer::upgrade(peer, &self.transport, upgrade);
    }

    fn errand(&self) -> peer::Errand {
        peer::Errand::of(&self.transport)
    }

    /// Finds the time after which requests are sent twice. Returns when to do so again.
    fn time(&self, now: Instant) -> Option<Instant> {
        const AGAIN: Duration = Duration::from_millis(500);
        let hedge = self.config.retry.as_ref()?.hedge.as_ref()?;
        self.states.times.find(hedge.after.fraction(), self.latest.load(Ordering::Relaxed));
        Some(now + AGAIN)
    }

    /// Whether a request waits where all endpoints are full.
    pub(crate) fn queues(&self) -> bool {
        let limits = &self.config.limits;
        limits.queue > 0 && limits.endpoint_in_flight.is_some() && self.is_usable()
    }

    /// Whether any endpoint can be chosen.
    pub(crate) fn is_usable(&self) -> bool {
        self.roster.load().is_usable()
    }

    /// Whether any endpoint can be chosen; where none is known yet it waits for them to be found, for as long as connecting
    /// may take.
    pub(crate) async fn is_found(&self, left: Option<Duration>) -> bool {
        if self.is_usable() {
            return true;
        }
        let longest = self.timeouts.connect;
        let longest = left.map_or(longest, |left| left.min(longest));
        Box::pin(self.first_look(longest)).await;
        self.is_usable()
    }

    /// Why no endpoint could be chosen.
    pub(crate) fn nobody(&self) -> FailureCode {
        match () {
            () if self.is_usable() => FailureCode::U8,
            () if self.is_unresolved() => FailureCode::U1,
            () => FailureCode::U2,
        }
    }

    /// Chooses the endpoint of the next attempt. It has one request more in flight until what is
    /// returned is dropped. `None` when none can be chosen, or all that can are full.
    pub(crate) fn choose(&self, choice: Choice<'_>) -> Option<Place> {
        const TRIES: usize = 4;
        if let Some(retry) = self.retry.as_ref().filter(|_| choice.first) {
            retry.count_request(choice.now);
        }
        let in_flight = self.total.as_ref().map_or(0, |total| total.get());
        let turns = &self.turns[choice.worker % self.turns.len()];
        let turn = if choice.first { turns.take() } else { turns.peek() };
        let wanted = Wanted {
            given: Circumstances { turn, key: choice.key, in_flight },
            id: choice.cookie,
            avoid: choice.avoid,
            now: choice.now,
        };
        let roster = self.roster.load();
        // Another worker may take the last place of an endpoint in the same moment.
        (0..TRIES).find_map(|_| {
            roster.choose(&wanted).and_then(|member| Place::take(member, choice.worker))
        })
    }

    /// An endpoint that can be chosen, whatever is in flight there: another one each `turn`.
    pub(crate) fn anyone(&self, turn: usize) -> Option<SocketAddr> {
        let members = self.roster.load().usable_from(0);
        members.get(turn % members.len().max(1)).map(|member| member.address)
    }

    /// Places at the endpoints that can be chosen and are not full, whatever the balancing says: one after
    /// the other, and those to `avoid` last.
    pub(crate) fn places(
        &self,
        worker: usize,
        avoid: &[SocketAddr],
    ) -> impl Iterator<Item = Place> {
        let turn = self.turns[worker % self.turns.len()].peek();
        let mut members = self.roster.load().usable_from(turn);
        members.sort_by_key(|member| avoid.contains(&member.address));
        members.into_iter().filter_map(move |member| Place::take(&member, worker))
    }

    /// What Pingora needs to reach an endpoint, with `left` of the request's time still to go.
    ///
    /// The watch bounds the wait for an answer. What it cannot see Pingora bounds, at the price of
    /// a timer a read or write: an upstream that does not take a body (`sends_body`), and silence
    /// between two parts of a response of which only a stream knows whether its client took the
    /// last (`http2`).
    pub(crate) fn peer(
        &self,
        endpoint: &Endpoint,
        left: Option<Duration>,
        sends_body: bool,
        http2: bool,
    ) -> Box<HttpPeer> {
        let mut peer = Box::new(endpoint.peer.clone());
        if sends_body {
            peer.options.write_timeout = Some(self.timeouts.idle);
        }
        if http2 {
            // Pingora counts per read and cannot tell the head from the body, hence the longer.
            peer.options.read_timeout = Some(self.timeouts.first_byte.max(self.timeouts.idle));
        }
        let per_try = self.retry.as_ref().and_then(Retry::per_try);
        let connect = per_try.map_or(self.timeouts.connect, |time| time.min(self.timeouts.connect));
        if connect < self.timeouts.connect {
            peer.options.connection_timeout = Some(connect);
            peer.options.total_connection_timeout = Some(connect);
        }
        if let Some(left) = left.filter(|left| *left < connect) {
            // The watch has the first word on whose time is up; it has no socket to end yet.
            let left = left + watch::LATEST;
            peer.options.connection_timeout = Some(left);
            peer.options.total_connection_timeout = Some(left);
        }
        peer
    }
}

#[cfg(test)]
mod tests;
