//! Config → Snapshot. All that can fail about a change happens here, before anything is replaced.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::task::AbortHandle;

use super::{
    Action, ListenerLimits, ListenerPlan, ListenerTimeouts, ReplyPlan, Revision, RoutePlan,
    Snapshot, Store,
};
use crate::config::{
    Config, ConfigPath, Document, Fault, Faults, ListenerConfig, Loaded, OnError, PathMatch,
    PluginConfig, ReplyConfig, RouteConfig,
};
use crate::plugin::{BuildEnv, Chain, Class, Condition, Level, Mounted, PublishedNames, Registry};
use crate::routing::{PathSpec, RouteSpec, RouteTable};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::Field;
use crate::upstream::{EndpointState, Upstream};

type Background = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The background tasks of one snapshot's plugins: started when it is installed, ended with it.
#[derive(Default)]
pub(crate) struct Tasks {
    waiting: Mutex<Vec<Background>>,
    running: Mutex<Vec<AbortHandle>>,
}

impl Tasks {
    /// Starts what waits. A config that is only checked never gets here.
    pub(crate) fn start(&self, runtime: &tokio::runtime::Handle) {
        let waiting: Vec<_> =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.extend(waiting.into_iter().map(|task| runtime.spawn(task).abort_handle()));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in self.running.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

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
    published: PublishedNames,
    faults: Vec<Fault>,
    tasks: Vec<Background>,
}

impl<'a> Compile<'a> {
    fn new(loaded: &'a Loaded, with: &'a Compiler<'a>) -> Self {
        Self {
            config: &loaded.config,
            document: &loaded.document,
            digest: &loaded.digest,
            published: with.registry.published(),
            with,
            faults: loaded.faults.clone(),
            tasks: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Snapshot, Faults> {
        let config = self.config;
        let root = ConfigPath::root();
        self.log_fields();
        let upstreams: Box<[Arc<Upstream>]> =
            config.upstreams.iter().map(|upstream| self.upstream(upstream)).collect();
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
        let names: HashMap<&str, u16> =
            config.listeners.iter().map(|listener| listener.name.as_str()).zip(0..).collect();
        let plans: Box<[Arc<ListenerPlan>]> = listeners
            .iter()
            .zip(0..)
            .map(|((plugins, listener), index)| Arc::new(self.listener(listener, index, plugins)))
            .collect();
        let routes: Box<[Arc<RoutePlan>]> = config
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| {
                let path = root.clone().key("routes").index(index);
                Arc::new(self.route(route, &path, &upstreams, &listeners, &plans))
            })
            .collect();
        let table = RouteTable::new(
            config
                .routes
                .iter()
                .zip(&routes)
                .map(|(route, plan)| spec(route, plan.name.clone(), &names)),
        );
        Faults::refuse_any(self.faults)?;
        Ok(Snapshot {
            revision: Revision { number: self.with.number, digest: self.digest.to_owned() },
            config: Arc::new(config.clone()),
            compiled_at: SystemTime::now(),
            table,
            routes,
            listeners: plans,
            upstreams,
            unrouted: self.with.metrics.route(""),
            tasks: Tasks { waiting: Mutex::new(self.tasks), running: Mutex::default() },
        })
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

    fn upstream(&self, config: &crate::config::UpstreamConfig) -> Arc<Upstream> {
        let metrics = self.with.metrics.upstream(&config.name);
        // A name that was gone in between has new metrics; what moved the old ones is not taken up.
        let digest = format!("{}/{:p}/{config:?}", self.with.workers, Arc::as_ptr(&metrics));
        let store = &self.with.store;
        let live = config.endpoints.iter().map(|endpoint| {
            let key = format!("endpoint/{}/{}", config.name, endpoint.address);
            store.get(&key, "", EndpointState::default)
        });
        let live: Vec<_> = live.collect();
        store.get(&format!("upstream/{}", config.name), &digest, || {
            Upstream::new(config, &digest, self.with.workers, metrics, live)
        })
    }

    /// Builds the plugins of one list.
    fn mount(
        &mut self,
        plugins: &[PluginConfig],
        level: Level,
        list: &ConfigPath,
        scope: &str,
    ) -> Vec<Arc<Mounted>> {
        let mut mounted = Vec::with_capacity(plugins.len());
        for (index, plugin) in plugins.iter().enumerate() {
            let path = list.clone().index(index);
            if let Some(built) = self.build(plugin, level, &path, scope) {
                mounted.push(Arc::new(built));
            }
        }
        mounted
    }

    fn build(
        &mut self,
        plugin: &PluginConfig,
        level: Level,
        path: &ConfigPath,
        scope: &str,
    ) -> Option<Mounted> {
        let Some(spec) = self.with.registry.get(&plugin.kind) else {
            let message = format!("no plugin of kind `{}` is known", plugin.kind);
            self.fault(&path.clone().key("kind"), message);
            return None;
        };
        let name = plugin.name.as_deref().unwrap_or(spec.kind);
        let when = plugin.when.as_deref().map(|source| {
            Condition::parse(source, &self.published, false).map_err(|error| error.to_string())
        });
        let when = match when.transpose() {
            Ok(when) => when,
            Err(message) => {
                self.fault(&path.clone().key("when"), message);
                None
            }
        };
        if spec.class == Class::Security && plugin.on_error == Some(OnError::Skip) {
            let message = format!("`{}` protects; it cannot be skipped when it fails", spec.kind);
            self.fault(&path.clone().key("on_error"), message);
        }
        let default = if spec.class == Class::Observe { OnError::Skip } else { OnError::Refuse };
        let env = BuildEnv::new(name, scope, self.with.store, &self.published);
        let built = spec.build(plugin.options.clone(), &env);
        let tasks = env.into_tasks();
        match built {
            Ok(hooks) => {
                self.tasks.extend(tasks);
                Some(Mounted {
                    name: name.into(),
                    kind: spec.kind,
                    class: spec.class,
                    level,
                    on_error: plugin.on_error.unwrap_or(default),
                    when,
                    hooks,
                    metrics: self.with.metrics.plugin(name),
                })
            }
            Err(error) => {
                for (inner, message) in error.faults {
                    self.fault(&path.clone().key("options").join(&inner), message);
                }
                None
            }
        }
    }

    /// Lays one list of plugins over an outer one: `disable` removes, the same name replaces in
    /// place, the rest follows in the order of listing.
    fn layer(
        &mut self,
        outer: &[Arc<Mounted>],
        own: &[Arc<Mounted>],
        disable: &[String],
        path: &ConfigPath,
    ) -> Vec<Arc<Mounted>> {
        let kept = |plugin: &&Arc<Mounted>| !disable.iter().any(|name| **name == *plugin.name);
        let mut plugins: Vec<Arc<Mounted>> = outer.iter().filter(kept).cloned().collect();
        for plugin in own {
            match plugins.iter_mut().find(|held| held.name == plugin.name) {
                Some(held) if held.kind != plugin.kind => {
                    let message = format!(
                        "the plugin `{}` is of kind `{}` here and of kind `{}` further out; give one of them another name",
                        plugin.name, plugin.kind, held.kind
                    );
                    self.fault(path, message);
                }
                Some(held) => *held = plugin.clone(),
                None => plugins.push(plugin.clone()),
            }
        }
        plugins
    }

    fn listener(
        &self,
        config: &ListenerConfig,
        index: u16,
        plugins: &[Arc<Mounted>],
    ) -> ListenerPlan {
        let (limits, timeouts) = (&config.limits, &config.timeouts);
        ListenerPlan {
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

    fn route(
        &mut self,
        config: &RouteConfig,
        path: &ConfigPath,
        upstreams: &[Arc<Upstream>],
        listeners: &[(Vec<Arc<Mounted>>, &ListenerConfig)],
        plans: &[Arc<ListenerPlan>],
    ) -> RoutePlan {
        let plugins = path.clone().key("plugins");
        let scope = format!("route/{}", config.name);
        let own = self.mount(&config.plugins, Level::Route, &plugins, &scope);
        let plain = own.is_empty() && config.disable.is_empty();
        let chains = listeners.iter().zip(plans).map(|((outer, _), plan)| {
            if plain {
                plan.chain.clone()
            } else {
                Arc::new(Chain::new(self.layer(outer, &own, &config.disable, &plugins)))
            }
        });
        let chains = chains.collect();
        RoutePlan {
            name: config.name.as_str().into(),
            action: action(config, upstreams),
            total: config.timeouts.as_ref().and_then(|own| own.total).map(Into::into),
            chains,
            metrics: self.with.metrics.route(&config.name),
        }
    }

    fn fault(&mut self, path: &ConfigPath, message: impl Into<String>) {
        let fault = self.document.fault(path, message);
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

fn action(config: &RouteConfig, upstreams: &[Arc<Upstream>]) -> Action {
    let named = config.upstream.as_deref();
    let found = named.and_then(|name| upstreams.iter().find(|held| held.name() == name));
    match (found, &config.reply) {
        (Some(upstream), _) => Action::Upstream(upstream.clone()),
        (None, reply) => Action::Reply(reply.as_ref().map(reply_plan).unwrap_or_default()),
    }
}

fn reply_plan(config: &ReplyConfig) -> ReplyPlan {
    ReplyPlan {
        status: http::StatusCode::from_u16(config.status).unwrap_or_default(),
        headers: config
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
            .collect(),
        body: config.body.clone().unwrap_or_default().into(),
        echo: config.echo,
    }
}

impl Default for ReplyPlan {
    fn default() -> Self {
        Self {
            status: http::StatusCode::OK,
            headers: Box::default(),
            body: bytes::Bytes::new(),
            echo: false,
        }
    }
}

fn spec(route: &RouteConfig, name: Arc<str>, listeners: &HashMap<&str, u16>) -> RouteSpec {
    let matching = &route.r#match;
    RouteSpec {
        name,
        hosts: matching.hosts.clone(),
        path: match &matching.path {
            None => PathSpec::Any,
            Some(PathMatch::Exact(path)) => PathSpec::Exact(path.clone()),
            Some(PathMatch::Prefix(path)) => PathSpec::Prefix(path.clone()),
        },
        methods: matching.methods.clone(),
        listeners: matching
            .listeners
            .iter()
            .filter_map(|name| listeners.get(name.as_str()).copied())
            .collect(),
    }
}
