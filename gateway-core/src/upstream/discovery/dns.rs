//! Endpoints in DNS: the addresses of a name, or its SRV records (RFC 2782).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use super::Found;
use super::family::Choice;
use crate::config::{DiscoverConfig, EndpointConfig};

/// How soon a name is asked for again at the soonest and at the latest, whatever its records say.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(300);
/// How long one name server may take to answer, and how often it is asked.
const ANSWER: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// The heaviest an endpoint can be.
const HEAVIEST: u32 = 65535;

/// A name to look up.
pub(super) struct Dns {
    resolver: TokioResolver,
    question: Question,
    choices: BTreeMap<String, Choice>,
    config: DiscoverConfig,
    /// What was found last.
    last: Option<Vec<EndpointConfig>>,
}

enum Question {
    Addresses { host: String, port: u16 },
    Services { name: String },
}

impl Dns {
    pub(super) fn new(config: &DiscoverConfig) -> Result<Self, String> {
        let question = match (config.host_and_port(), &config.srv) {
            (Some((host, port)), _) => Question::Addresses { host: host.to_owned(), port },
            (None, Some(name)) => Question::Services { name: name.clone() },
            // The config's checks let nothing else through.
            (None, None) => return Err("there is no name to look up".to_owned()),
        };
        let mut builder = match config.server {
            None => TokioResolver::builder_tokio().map_err(words)?,
            Some(server) => {
                let at = |mut connection: ConnectionConfig| {
                    connection.port = server.0.port();
                    connection
                };
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at);
                let server = NameServerConfig::new(server.0.ip(), true, connections.to_vec());
                let servers = ResolverConfig::from_parts(None, vec![], vec![server]);
                TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.timeout = ANSWER;
        options.attempts = ATTEMPTS;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Whoever asks for a new answer is to get one.
        options.cache_size = 0;
        Ok(Self {
            resolver: builder.build().map_err(words)?,
            question,
            choices: BTreeMap::new(),
            config: config.clone(),
            last: None,
        })
    }

    pub(super) async fn look(&mut self) -> Result<Found, String> {
        let (mut endpoints, until) = match &self.question {
            Question::Addresses { host, port } => {
                let (host, port) = (host.clone(), *port);
                let (addresses, until) = self.addresses(&host, port).await?;
                let plain = |ip| endpoint(ip, port, 1, 0);
                (addresses.into_iter().map(plain).collect(), until)
            }
            Question::Services { name } => self.services(&name.clone()).await?,
        };
        endpoints.sort_by_key(|endpoint: &EndpointConfig| endpoint.address);
        endpoints.dedup_by_key(|endpoint| endpoint.address);
        let left = until.saturating_duration_since(Instant::now());
        let lasts = left.clamp(SOONEST, LATEST);
        if self.last.as_ref() == Some(&endpoints) {
            return Ok(Found { endpoints: None, lasts });
        }
        self.last = Some(endpoints.clone());
        Ok(Found { endpoints: Some(endpoints), lasts })
    }

    /// The addresses of a name that are used, and until when they are certain.
    async fn addresses(&mut self, host: &str, port: u16) -> Result<(Vec<IpAddr>, Instant), String> {
        let answer = self.resolver.lookup_ip(host).await;
        let answer = answer.map_err(|error| format!("{host}: {error}"))?;
        let (found, until) = (answer.iter().collect(), answer.valid_until());
        let family = self.config.family;
        let choice = self.choices.entry(host.to_owned()).or_insert_with(|| Choice::new(family));
        let used = choice.of(found, port).await;
        if used.is_empty() {
            return Err(format!("{host} has no address of the family that is wanted"));
        }
        Ok((used, until))
    }

    async fn services(&mut self, name: &str) -> Result<(Vec<EndpointConfig>, Instant), String> {
        let answer = self.resolver.srv_lookup(name).await;
        let answer = answer.map_err(|error| format!("{name}: {error}"))?;
        let mut until = answer.valid_until();
        let services = answer.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(service) => Some(service.clone()),
            _ => None,
        });
        // A target of the root says that there is no such service.
        let services: Vec<_> = services.filter(|service| !service.target.is_root()).collect();
        // Groups count from 0, whatever their numbers are.
        let ranks: BTreeSet<u16> = services.iter().map(|service| service.priority).collect();
        let rank = |priority| ranks.range(..priority).count();
        let mut endpoints = Vec::new();
        let mut fault = None;
        for service in services {
            let target = service.target.to_utf8();
            match self.addresses(&target, service.port).await {
                Ok((addresses, certain)) => {
                    until = until.min(certain);
                    let priority =
                        u32::try_from(rank(service.priority)).unwrap_or(u32::MAX).min(255);
                    // Weight 0 is a small one (RFC 2782); here it would be none.
                    let weight = u32::from(service.weight).clamp(1, HEAVIEST);
                    let all = addresses.into_iter();
                    endpoints.extend(all.map(|ip| endpoint(ip, service.port, weight, priority)));
                }
                Err(why) => fault = Some(why),
            }
        }
        // One target that is not found does not take the others away.
        match fault.filter(|_| endpoints.is_empty()) {
            Some(fault) => Err(fault),
            None if endpoints.is_empty() => Err(format!("{name} has no targets")),
            None => Ok((endpoints, until)),
        }
    }
}

fn endpoint(ip: IpAddr, port: u16, weight: u32, priority: u32) -> EndpointConfig {
    let address = SocketAddr::new(ip, port);
    EndpointConfig { address, weight, priority, labels: BTreeMap::new() }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
