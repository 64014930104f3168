//! Config → Snapshot. All that can fail about a change happens here, before anything is replaced.

mod plugins;
mod routes;
mod tcp;
mod upstreams;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::tasks::{Background, Tasks};
use super::{ListenerLimits, ListenerPlan, ListenerTimeouts, Revision, RoutePlan, Snapshot, Store};
use crate::config::{
    Config, ConfigPath, Document, Fault, Faults, ListenerConfig, Loaded, environment,
};
use crate::consumer::Consumers;
use crate::plugin::{Chain, Level, Mounted, PublishedNames, Registry};
use crate::routing::{RouteSpec, RouteTable, Rules};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::Field;
use crate::tls::{Spoken, TlsPlan};
use crate::upstream::Upstream;

/// What compiling needs besides the config.
pub struct Compiler<'a> {
    /// The kinds of plugin that may be named.
    pub registry: &'a Registry,
    /// The state that outlives a reload.
    pub store: &'a Store,
    /// Where the new snapshot's names get their series.
    pub metrics: &'a Arc<Metrics>,
    /// How many workers will serve it.
    pub workers: usize,
    /// The number of the revision to be made.
    pub number: u64,
    /// It is tried beside the one in force: what becomes of its endpoints is nothing to that one.
    pub is_tried: bool,
}

/// Builds everything that a config describes, or says everything that is wrong with it.
///
/// Opens no socket and starts no task; `gateway check`, start and reload all come through here.
///
/// # Errors
/// Every fault found by any plugin's `build` or by any reference between the nouns.
pub fn compile(loaded: &Loaded, compiler: &Compiler<'_>) -> Result<Snapshot, Faults> {
    Compile::new(loaded, compiler).run()
}

struct Compile<'a> {
    config: &'a Config,
    document: &'a Document,
    digest: &'a str,
    with: &'a Compiler<'a>,
    published: Arc<PublishedNames>,
    consumers: Arc<Consumers>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    /// What routes ask besides host, path and method, by how that is written.
    rules: HashMap<String, Arc<Rules>>,
    /// Plugins that are listed for several routes.
    outer: Vec<Arc<Mounted>>,
    tasks: Vec<Background>,
    /// Names under which plugins have credentials in queries.
    concealed: Vec<String>,
}

impl<'a> Compile<'a> {
    fn new(loaded: &'a Loaded, with: &'a Compiler<'a>) -> Self {
        Self {
            config: &loaded.config,
            document: &loaded.document,
            digest: &loaded.digest,
            published: Arc::new(with.registry.published()),
            with,
            consumers: Arc::default(),
            faults: loaded.faults.clone(),
            warnings: Vec::new(),
            rules: HashMap::new(),
            outer: Vec::new(),
            tasks: Vec::new(),
            concealed: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Snapshot, Faults> {
        let config = self.config;
        let root = ConfigPath::root();
        self.log_fields();
        self.consumers();
        let upstreams: Box<[Arc<Upstream>]> = config
            .upstreams
            .iter()
            .enumerate()
            .map(|(index, upstream)| {
                self.upstream(upstream, &root.clone().key("upstreams").index(index))
            })
            .collect();
        let outer = self.mount(&config.plugins, Level::Gateway, &root.clone().key("plugins"), "");
        let listeners: Vec<(Vec<Arc<Mounted>>, &ListenerConfig)> = config
            .listeners
            .iter()
            .enumerate()
            .map(|(index, listener)| {
                let path = root.clone().key("listeners").index(index).key("plugins");
                let scope = format!("listener/{}", listener.name);
                let own = self.mount(&listener.plugins, Level::Listener, &path, &scope);
                (self.layer(&outer, &own, &[], &path), listener)
            })
            .collect();
        let plans: Box<[Arc<ListenerPlan>]> = listeners
            .iter()
            .zip(0..)
            .map(|((plugins, listener), index)| {
                Arc::new(self.listener(listener, index, plugins, &upstreams))
            })
            .collect();
        let around = routes::Around::new(config, &upstreams, listeners, &plans);
        let groups = self.groups(&around);
        let (routes, specs): (Vec<Arc<RoutePlan>>, Vec<RouteSpec>) = config
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| {
                let path = root.clone().key("routes").index(index);
                let (plan, spec) = self.route(route, &path, &around, &groups);
                (Arc::new(plan), spec)
            })
            .unzip();
        let table = RouteTable::new(specs);
        self.refuse_ties(&table);
        self.warn_of_shadows(&table);
        Faults::refuse_any(std::mem::take(&mut self.faults))?;
        let mut snapshot = Snapshot {
            revision: Revision { number: self.with.number, digest: self.digest.to_owned() },
            config: Arc::new(config.clone()),
            compiled_at: SystemTime::now(),
            table,
            routes: routes.into(),
            listeners: plans,
            upstreams,
            unrouted: self.with.metrics.route(""),
            tasks: Tasks::waiting(std::mem::take(&mut self.tasks)),
            warnings: Box::default(),
            concealed: std::mem::take(&mut self.concealed).into(),
        };
        self.warn_of_chains(&snapshot);
        snapshot.warnings = self.warnings.into();
        Ok(snapshot)
    }

    /// The config's room does not know which fields there are.
    fn log_fields(&mut self) {
        let fields = self.config.access_log.fields.iter().flatten();
        for (index, name) in fields.enumerate() {
            if let Err(unknown) = Field::parse(name) {
                let path = ConfigPath::root().key("access_log").key("fields").index(index);
                self.fault(&path, unknown.to_string());
            }
        }
    }

    /// Fetches the consumers' keys, which must be those of one consumer each.
    fn consumers(&mut self) {
        let config = self.config;
        let at = |index: usize, place: usize| {
            ConfigPath::root().key("consumers").index(index).key("keys").index(place)
        };
        let key = |index: usize, place: usize| {
            let resolved = config.consumers[index].keys[place].resolve(&environment);
            resolved.map_err(|error| self.fault(&at(index, place), error)).ok()
        };
        let (consumers, taken) = Consumers::new(&config.consumers, key);
        self.consumers = Arc::new(consumers);
        for (index, place) in taken {
            self.fault(&at(index, place), "another consumer has the same key");
        }
    }

    /// A listener's TLS, and whoever looks at its files from then on.
    fn tls(&mut self, config: &ListenerConfig, path: &ConfigPath) -> Option<Arc<TlsPlan>> {
        let tls = config.tls.as_ref()?;
        let path = path.clone().key("tls");
        let own = self.with.store.ticket_secret();
        let secret = match &tls.ticket_secret {
            None => own.to_vec(),
            Some(written) => match written.resolve(&environment) {
                Ok(secret) if secret.expose().len() >= 32 => secret.expose().as_bytes().to_vec(),
                Ok(_) => {
                    self.fault(&path.clone().key("ticket_secret"), "at least 32 bytes");
                    return None;
                }
                Err(message) => {
                    self.fault(&path.clone().key("ticket_secret"), message);
                    return None;
                }
            },
        };
        let metrics = self.with.metrics.listener(&config.name);
        let handshake = config.timeouts.handshake.into();
        let spoken = match &config.tcp {
            None => Spoken::Http,
            Some(tcp) => Spoken::Other(tcp.alpn.clone()),
        };
        let name = config.name.as_str().into();
        match TlsPlan::read(name, tls, handshake, &secret, metrics, spoken) {
            Ok(plan) => {
                let plan = Arc::new(plan);
                self.tasks.push(Box::pin(plan.clone().follow()));
                Some(plan)
            }
            Err(crate::tls::Fault { at, message }) => {
                let at = at.into_iter().fold(path, |path, part| match part {
                    crate::tls::Place::Key(key) => path.key(key),
                    crate::tls::Place::Index(index) => path.index(index),
                });
                self.fault(&at, message);
                None
            }
        }
    }

    fn listener(
        &mut self,
        config: &ListenerConfig,
        index: u16,
        plugins: &[Arc<Mounted>],
        upstreams: &[Arc<Upstream>],
    ) -> ListenerPlan {
        let path = ConfigPath::root().key("listeners").index(usize::from(index));
        let tls = self.tls(config, &path);
        let (limits, timeouts) = (&config.limits, &config.timeouts);
        let speakers = config.proxy_protocol.as_ref().map(|proxy| proxy.trusted.clone());
        ListenerPlan {
            tls,
            speakers: speakers.unwrap_or_default().into(),
            tcp: config.tcp.as_ref().map(|tcp| tcp::plan(tcp, upstreams)),
            redirect: config.redirect_https.port(),
            name: config.name.as_str().into(),
            address: config.address,
            index,
            limits: ListenerLimits {
                connections: limits.connections,
                connections_per_client: limits.connections_per_client,
                header_bytes: usize::try_from(limits.header_bytes.0).unwrap_or(usize::MAX),
                headers: limits.headers,
                body_bytes: limits.body_bytes.map(|size| size.0),
                requests_per_connection: limits.requests_per_connection,
            },
            timeouts: ListenerTimeouts {
                handshake: timeouts.handshake.into(),
                header: timeouts.header.into(),
                idle: timeouts.idle.into(),
                body_read: timeouts.body_read.into(),
                write: timeouts.write.into(),
            },
            trusted: config.trusted_proxies.iter().copied().collect(),
            chain: Arc::new(Chain::new(plugins.iter().cloned())),
            metrics: self.with.metrics.listener(&config.name),
        }
    }

    fn fault(&mut self, path: &ConfigPath, message: impl Into<String>) {
        let fault = self.document.fault(path, message);
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}
