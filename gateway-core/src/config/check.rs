//! Checks of the typed document: each noun's own, then references between nouns.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::BalanceConfig;
use super::Config;
use super::check_routes;
use super::consumer;
use super::document::Document;
use super::fault::Fault;
use super::nearest::hint;
use super::path::ConfigPath;
use super::plugin;
use super::transport::Verify;
use super::units::Span;
use super::upstream::UpstreamConfig;

/// The faults found so far, each with its place in the document.
pub(super) struct Findings<'d> {
    document: &'d Document,
    faults: Vec<Fault>,
}

impl Findings<'_> {
    /// A fault of the value at `at`.
    pub fn add(&mut self, at: &ConfigPath, message: impl Into<String>) {
        self.faults.push(self.document.fault(at, message));
    }

    /// A fault of the key `at` ends in.
    pub fn add_at_key(&mut self, at: &ConfigPath, message: impl Into<String>) {
        self.faults.push(self.document.fault_at_key(at, message));
    }

    /// `gateway.yaml:12:5`
    pub fn place(&self, at: &ConfigPath) -> String {
        self.document.place(at)
    }

    /// "did you mean", which is worth its time for the first faults only.
    pub fn hint(&self, word: &str, candidates: &[&str]) -> String {
        const HINTS: usize = 200;
        if self.faults.len() > HINTS {
            return String::new();
        }
        hint(word, candidates)
    }

    /// A limit that cannot be turned off.
    pub fn refuse_zero(&mut self, at: &ConfigPath, key: &str, span: Span) {
        if span.is_zero() {
            let at = at.clone().key(key);
            self.add(&at, "this limit cannot be turned off; write a duration above 0");
        }
    }
}

/// Every fault of the typed document.
pub(super) fn check(config: &Config, document: &Document) -> Vec<Fault> {
    let mut findings = Findings { document, faults: Vec::new() };
    nouns(config, &mut findings);
    config.reload.check(&section("reload"), &mut findings);
    names(config, &mut findings);
    addresses(config, &mut findings);
    references(config, &mut findings);
    findings.faults
}

/// What is doubtful but no fault: an upstream that nothing uses, TLS that protects nobody.
pub(super) fn warnings(config: &Config, document: &Document) -> Vec<Fault> {
    let root = ConfigPath::root();
    let routed = config.routes.iter().flat_map(|route| route.upstreams(&root));
    let mut used: HashSet<&str> = routed.map(|(_, name)| name).collect();
    let passed = config.listeners.iter().filter_map(|listener| listener.tcp.as_ref());
    used.extend(passed.flat_map(|tcp| tcp.upstreams(&root).map(|(_, name)| name)));
    let mut warnings = Vec::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        let (at, name) = (section("upstreams").index(index), &upstream.name);
        if !used.contains(name.as_str()) {
            let message = format!("upstream `{name}` is used by no route and no listener");
            warnings.push(document.fault(&at.clone().key("name"), message));
        }
        if upstream.tls.as_ref().is_some_and(|tls| tls.verify == Verify::None) {
            let message = format!(
                "whoever is on the way to upstream `{name}` can read and change its requests: no \
                 certificate is verified"
            );
            warnings.push(document.fault(&at.key("tls").key("verify"), message));
        }
    }
    let joined: HashSet<&str> =
        config.routes.iter().filter_map(|route| route.group.as_deref()).collect();
    for (index, group) in config.route_groups.iter().enumerate() {
        if !joined.contains(group.name.as_str()) {
            let at = section("route_groups").index(index).key("name");
            let message = format!("route group `{}` has no route", group.name);
            warnings.push(document.fault(&at, message));
        }
    }
    warnings
}

pub(super) fn section(name: &str) -> ConfigPath {
    ConfigPath::root().key(name)
}

fn nouns(config: &Config, findings: &mut Findings<'_>) {
    config.access_log.check(&section("access_log"), findings);
    config.redaction.check(&section("redaction"), findings);
    plugin::check_list(&config.plugins, &section("plugins"), findings);
    if config.listeners.is_empty() {
        let what = "there is no listener; write at least one under `listeners`";
        findings.add(&section("listeners"), what);
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        listener.check(&section("listeners").index(index), findings);
    }
    for (index, upstream) in config.upstreams.iter().enumerate() {
        upstream.check(&section("upstreams").index(index), findings);
    }
    consumer::check_list(&config.consumers, &section("consumers"), findings);
    for (index, group) in config.route_groups.iter().enumerate() {
        group.check(&section("route_groups").index(index), findings);
    }
    for (index, route) in config.routes.iter().enumerate() {
        route.check(&section("routes").index(index), findings);
    }
}

fn names(config: &Config, findings: &mut Findings<'_>) {
    let said = |noun: &'static str| {
        move |name: &&str, place: String| format!("{noun} `{name}` is defined at {place} already")
    };
    let listeners = config.listeners.iter().map(|listener| Some(listener.name.as_str()));
    repeated(findings, "listeners", "name", listeners, said("listener"));
    let upstreams = config.upstreams.iter().map(|upstream| Some(upstream.name.as_str()));
    repeated(findings, "upstreams", "name", upstreams, said("upstream"));
    let consumers = config.consumers.iter().map(|consumer| Some(consumer.name.as_str()));
    repeated(findings, "consumers", "name", consumers, said("consumer"));
    let groups = config.route_groups.iter().map(|group| Some(group.name.as_str()));
    repeated(findings, "route_groups", "name", groups, said("route group"));
    let routes = config.routes.iter().map(|route| Some(route.name.as_str()));
    repeated(findings, "routes", "name", routes, said("route"));
}

fn addresses(config: &Config, findings: &mut Findings<'_>) {
    // Port 0 lets the system choose, so two of them are two addresses.
    let fixed = config
        .listeners
        .iter()
        .map(|listener| (listener.address.port() != 0).then_some(listener.address));
    repeated(findings, "listeners", "address", fixed, |address, place| {
        format!("the listener at {place} has address `{address}` already")
    });
}

/// Reports every item of a list whose `key` holds what an earlier item's does.
fn repeated<K: Eq + Hash>(
    findings: &mut Findings<'_>,
    list: &str,
    key: &str,
    values: impl Iterator<Item = Option<K>>,
    message: impl Fn(&K, String) -> String,
) {
    let mut first = HashMap::new();
    for (index, value) in values.enumerate() {
        let Some(value) = value else { continue };
        let Some(earlier) = first.get(&value) else {
            first.insert(value, index);
            continue;
        };
        let place = findings.place(&section(list).index(*earlier));
        findings.add(&section(list).index(index).key(key), message(&value, place));
    }
}

fn references(config: &Config, findings: &mut Findings<'_>) {
    let upstreams: Vec<&str> = config.upstreams.iter().map(|u| u.name.as_str()).collect();
    let known_upstreams: HashSet<&str> = upstreams.iter().copied().collect();
    let known_listeners = config.listeners.iter().map(|one| (one.name.as_str(), one)).collect();
    for (index, listener) in config.listeners.iter().enumerate() {
        let Some(tcp) = &listener.tcp else { continue };
        for (at, name) in tcp.upstreams(&section("listeners").index(index).key("tcp")) {
            let Some(upstream) = config.upstreams.iter().find(|one| one.name == name) else {
                let hint = findings.hint(name, &upstreams);
                findings.add(&at, format!("there is no upstream `{name}`{hint}"));
                continue;
            };
            passable(upstream, listener.tls.is_none() && !tcp.sni.is_empty(), &at, findings);
        }
    }
    check_routes::references(config, &known_upstreams, &known_listeners, findings);
}

/// Whether connections that are no HTTP can go to an upstream.
fn passable(
    upstream: &UpstreamConfig,
    through: bool,
    at: &ConfigPath,
    findings: &mut Findings<'_>,
) {
    let name = &upstream.name;
    if through && upstream.tls.is_some() {
        let message = format!(
            "what passes through is secured already, and upstream `{name}` has `tls`: it would be secured twice"
        );
        findings.add(at, message);
    }
    if upstream.limits.adaptive.is_some() {
        let message = format!(
            "upstream `{name}` has `limits.adaptive`, which goes by how long answers take; a connection without \
             requests has none"
        );
        findings.add(at, message);
    }
    if let BalanceConfig::Hash { hash, .. } = &upstream.balance
        && !["client.ip", "client.network", "peer.ip"].contains(&hash.as_str())
    {
        let message = format!(
            "upstream `{name}` balances by `{hash}`, which a connection without requests has not; \
             `client.ip` and `client.network` it has"
        );
        findings.add(at, message);
    }
}
