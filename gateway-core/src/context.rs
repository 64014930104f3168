//! `RequestCtx`: the one record of a request in flight, as plugins and the proxy see it.

use std::any::{Any, TypeId};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use smallvec::SmallVec;

use crate::consumer::Consumer;
use crate::plugin::{Fact, FactSet};
use crate::routing::{Captures, HostText};
use crate::snapshot::{Destination, ListenerPlan, RoutePlan, Snapshot};
use crate::telemetry::{Ascii, AttemptRecord, FailureCode, GrpcStatus, TraceContext};
use crate::tls::Secured;

/// Everything the gateway knows about one request, from its head to its record.
///
/// A request pins one [`Snapshot`] when it begins and sees no other. Plugins keep their own state
/// here with [`insert`](Self::insert) and [`get`](Self::get); facts that others may use by name are
/// [`publish`](Self::publish)ed as attributes.
pub struct RequestCtx {
    snapshot: Arc<Snapshot>,
    listener: Arc<ListenerPlan>,
    route: Option<Arc<RoutePlan>>,
    /// Which of the route's destinations was chosen, once that is known.
    destination: Option<usize>,
    /// What the route's path captured.
    captures: Option<Box<Captures>>,
    peer: SocketAddr,
    client: IpAddr,
    scheme: &'static str,
    /// What TLS says of the connection, if it is secured.
    secured: Option<Arc<Secured>>,
    host: Option<HostText>,
    request_id: Option<Box<str>>,
    trace: Option<TraceContext>,
    /// Whether the trace begins here: the client sent none that is valid.
    begins_trace: bool,
    published: Vec<(&'static str, Fact)>,
    published_sets: SmallVec<[Arc<FactSet>; 1]>,
    consumer: Option<Arc<Consumer>>,
    extensions: Vec<(TypeId, Box<dyn Any + Send + Sync>)>,
    started: Instant,
    started_at: SystemTime,
    failure: Option<FailureCode>,
    pub(crate) attempts: SmallVec<[AttemptRecord; 1]>,
    /// Time spent in each plugin of the chain, by its place there.
    pub(crate) plugin_times: SmallVec<[Duration; 4]>,
    /// How it ended, if it is a call of gRPC and that is known.
    pub(crate) grpc: Option<GrpcStatus>,
    /// The plugin of the chain that answered or failed, by its place there.
    pub(crate) ended_by: Option<usize>,
    /// What each conditional plugin of the chain decided, by its place among those.
    pub(crate) conditions: SmallVec<[Option<bool>; 4]>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl RequestCtx {
    /// A request that begins now, reached through `listener` from `peer`.
    pub fn new(snapshot: Arc<Snapshot>, listener: Arc<ListenerPlan>, peer: SocketAddr) -> Self {
        Self {
            snapshot,
            listener,
            route: None,
            destination: None,
            captures: None,
            peer,
            client: peer.ip(),
            scheme: "http",
            secured: None,
            host: None,
            request_id: None,
            trace: None,
            begins_trace: false,
            published: Vec::new(),
            published_sets: SmallVec::new(),
            consumer: None,
            extensions: Vec::new(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            failure: None,
            attempts: SmallVec::new(),
            plugin_times: SmallVec::new(),
            grpc: None,
            ended_by: None,
            conditions: SmallVec::new(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// The snapshot this request is served by, from its first byte to its record.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(crate) fn listener(&self) -> &Arc<ListenerPlan> {
        &self.listener
    }

    pub(crate) fn route(&self) -> Option<&Arc<RoutePlan>> {
        self.route.as_ref()
    }

    /// Notes the route, and what its path captured of this one.
    pub(crate) fn set_route(&mut self, route: Arc<RoutePlan>, captures: Option<Captures>) {
        self.route = Some(route);
        self.captures = captures.map(Box::new);
    }

    pub(crate) fn captures(&self) -> Option<&Captures> {
        self.captures.as_deref()
    }

    /// What the route's path captured under this name, in normal form.
    pub fn capture(&self, name: &str) -> Option<&str> {
        self.captures.as_ref()?.get(name)
    }

    /// The client's address: the peer, or what a chain of trusted proxies says of it.
    pub fn client_ip(&self) -> IpAddr {
        self.client
    }

    /// Notes who the client is and which scheme it used, once the trusted chain has been read.
    pub(crate) fn set_client(&mut self, address: IpAddr, scheme: &'static str) {
        self.client = address;
        self.scheme = scheme;
    }

    /// What TLS says of the connection.
    pub(crate) fn secured(&self) -> Option<&Secured> {
        self.secured.as_deref()
    }

    pub(crate) fn set_secured(&mut self, secured: Option<Arc<Secured>>) {
        self.secured = secured;
    }

    /// The address of the other end of the socket.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The IP address of the other end of the socket.
    pub fn peer_ip(&self) -> IpAddr {
        self.peer.ip()
    }

    /// `http` or `https`, as the client spoke it or a trusted proxy reports it.
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The name of the listener the request came through.
    pub fn listener_name(&self) -> &str {
        &self.listener.name
    }

    /// The name of the route, once one is found.
    pub fn route_name(&self) -> Option<&str> {
        self.route.as_ref().map(|route| &*route.name)
    }

    /// The name of the upstream that the request goes to. Where the route shares its requests among several it is known
    /// once one is chosen: before the request phase, unless a plugin finds out by what callers are kept.
    pub fn upstream_name(&self) -> Option<&str> {
        let route = self.route.as_ref()?;
        let chosen = self.destination().map(|chosen| &chosen.upstream);
        Some(chosen.or_else(|| route.upstream())?.name())
    }

    /// Where the request goes, once that is chosen.
    pub(crate) fn destination(&self) -> Option<&Destination> {
        self.route.as_ref()?.destinations.get(self.destination?)
    }

    /// Its place among the route's.
    pub(crate) fn destination_place(&self) -> Option<usize> {
        self.destination
    }

    pub(crate) fn set_destination(&mut self, place: usize) {
        self.destination = Some(place);
    }

    /// The requested host, normalised, without a port.
    pub fn host(&self) -> Option<&str> {
        self.host.as_ref().map(HostText::as_str)
    }

    pub(crate) fn set_host(&mut self, host: HostText) {
        self.host = Some(host);
    }

    /// The request's identifier, if a plugin gave it one.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Gives the request its identifier, which logs and records then carry.
    pub fn set_request_id(&mut self, id: &str) {
        self.request_id = Some(id.into());
    }

    /// The W3C trace identifier, 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<Ascii<32>> {
        self.trace.as_ref().map(TraceContext::trace_id_hex)
    }

    pub(crate) fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// Goes on with the client's trace.
    pub(crate) fn continue_trace(&mut self, trace: TraceContext) {
        self.trace = Some(trace);
    }

    /// Begins a trace, which the upstream has to be told of.
    pub(crate) fn begin_trace(&mut self, trace: TraceContext) {
        self.trace = Some(trace);
        self.begins_trace = true;
    }

    /// The `traceparent` to send up, if the client's own is not passed on.
    pub(crate) fn traceparent(&self) -> Option<Ascii<55>> {
        self.trace.filter(|_| self.begins_trace).map(|trace| trace.render())
    }

    /// A fact that a plugin published under its full name, such as `jwt.sub`.
    pub fn published(&self, name: &str) -> Option<&Fact> {
        let single = self.published.iter().rev().find(|(key, _)| *key == name);
        let single = single.map(|(_, fact)| fact);
        single.or_else(|| self.published_sets.iter().rev().find_map(|set| set.get(name)))
    }

    /// Publishes a fact as an attribute. The plugin declares the name in `Plugin::ATTRIBUTES`.
    pub fn publish(&mut self, name: &'static str, fact: impl Into<Fact>) {
        self.published.push((name, fact.into()));
    }

    /// Publishes facts that were found out before. The plugin declares their names, or the namespace
    /// they are in, in `Plugin::ATTRIBUTES`.
    pub fn publish_all(&mut self, facts: Arc<FactSet>) {
        self.published_sets.push(facts);
    }

    /// The caller, if a plugin recognised it.
    pub fn consumer(&self) -> Option<&Arc<Consumer>> {
        self.consumer.as_ref()
    }

    /// Notes who the caller is. Who recognises it last has the last word.
    pub fn set_consumer(&mut self, consumer: Arc<Consumer>) {
        self.consumer = Some(consumer);
    }

    /// Keeps a value for this request, found again by its type. Replaces one of the same type: a
    /// plugin that may be listed twice keeps its values apart.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        let id = TypeId::of::<T>();
        self.extensions.retain(|(held, _)| *held != id);
        self.extensions.push((id, Box::new(value)));
    }

    /// The value of this type that was kept for this request.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        self.extensions.iter().find(|(held, _)| *held == id)?.1.downcast_ref()
    }

    /// The value of this type that was kept for this request, to change it.
    pub fn get_mut<T: Any + Send + Sync>(&mut self) -> Option<&mut T> {
        let id = TypeId::of::<T>();
        self.extensions.iter_mut().find(|(held, _)| *held == id)?.1.downcast_mut()
    }

    /// When the request's head had been read.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The same moment on the wall clock.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// The failure that ended the request, if one has.
    pub fn failure(&self) -> Option<FailureCode> {
        self.failure
    }

    /// Notes what ended the request. The first one wins.
    pub fn fail(&mut self, code: FailureCode) {
        self.failure.get_or_insert(code);
    }
}

#[cfg(test)]
impl RequestCtx {
    /// A request from 127.0.0.1 through the listener `test` of an otherwise empty gateway.
    pub(crate) fn sample() -> Self {
        let config = "version: 1\nlisteners: [{name: test, address: '127.0.0.1:0'}]\n";
        let source = crate::reload::Source::Text(config.to_owned());
        let builder = crate::reload::Builder::new(source, crate::plugin::Registry::default());
        let loaded = builder.load().expect("the sample config is valid");
        let snapshot = Arc::new(builder.compile(&loaded).expect("the sample config compiles"));
        let listener = snapshot.listeners()[0].clone();
        Self::new(snapshot, listener, SocketAddr::from(([127, 0, 0, 1], 40_000)))
    }
}
