//! Upstreams and what shapes their connections.

use std::sync::Arc;

use super::Compile;
use crate::config::{BalanceConfig, ConfigPath, UpstreamConfig};
use crate::plugin::Attribute;
use crate::upstream::{EndpointStates, Tls, Transport, Upstream};

impl Compile<'_> {
    pub(super) fn upstream(&mut self, config: &UpstreamConfig, path: &ConfigPath) -> Arc<Upstream> {
        let key = match &config.balance {
            BalanceConfig::Hash { hash, .. } => {
                self.key(hash, &path.clone().key("balance").key("hash"))
            }
            _ => None,
        };
        let transport = self.transport(config, path);
        let metrics = self.with.metrics.upstream(&config.name);
        // A name that was gone in between has new metrics; what moved the old ones is not taken up.
        let digest = format!(
            "{}/{:p}/{}/{config:?}",
            self.with.workers,
            Arc::as_ptr(&metrics),
            transport.key()
        );
        let store = &self.with.store;
        let (mut endpoints, mut key_of) =
            (format!("endpoints/{}", config.name), format!("upstream/{}", config.name));
        // One that is tried and is another than the one in force has endpoints of its own: two cannot tend the same.
        if self.with.is_tried && !store.has::<Upstream>(&key_of, &digest) {
            (endpoints, key_of) = (format!("tried/{endpoints}"), format!("tried/{key_of}"));
        }
        let states = store.get_carried(&endpoints, "", "", EndpointStates::default);
        store.get(&key_of, &digest, || {
            Upstream::new(config, transport, self.with.workers, key, metrics, states)
        })
    }

    /// What shapes an upstream's connections: the same one for as long as that stays the same.
    pub(super) fn transport(
        &mut self,
        config: &UpstreamConfig,
        path: &ConfigPath,
    ) -> Arc<Transport> {
        let read = config.tls.as_ref().map(|tls| Tls::read(tls, config.protocol)).transpose();
        let read = read.unwrap_or_else(|fault| {
            let keys = fault.key.iter().fold(path.clone().key("tls"), |path, key| path.key(*key));
            self.fault(&keys, fault.message);
            None
        });
        let (tls, digest) = read.unzip();
        let host = config.discover.as_ref().and_then(|discover| discover.host_and_port());
        let (tls, digest) = match (tls, digest, host) {
            (Some(tls), Some(digest), Some((host, _))) => {
                (Some(tls.known_as(host)), Some(format!("{digest} {host}")))
            }
            (tls, digest, _) => (tls, digest),
        };
        let digest = Transport::digest(config, digest.as_deref().unwrap_or_default());
        let new = || Transport::new(config, tls);
        self.with.store.get("transport", &digest, new)
    }

    /// The attribute that an upstream balances by.
    pub(super) fn key(&mut self, name: &str, path: &ConfigPath) -> Option<Attribute> {
        match Attribute::parse(name, &self.published) {
            Ok(attribute) if attribute.needs_response() => {
                self.fault(path, format!("`{name}` is not known before an endpoint is chosen"));
                None
            }
            Ok(attribute) => Some(attribute),
            Err(error) => {
                self.fault(path, error.to_string());
                None
            }
        }
    }
}
