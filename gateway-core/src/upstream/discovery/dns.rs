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
use crate::config::{DiscoverConfig, EndpointConfig, Family};

/// How soon a name is asked for again at the soonest and at the latest, whatever its records say.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(300);
/// How long one name server may take to answer, and how often it is asked.
const ANSWER: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// How soon a name is asked for again of which not everything was answered.
const PARTLY: Duration = Duration::from_secs(10);
/// The heaviest an endpoint can be.
const HEAVIEST: u32 = 65535;

/// A name to look up.
pub(super) struct Dns {
    /// For the addresses of IPv4, and everything else.
    ipv4: TokioResolver,
    ipv6: TokioResolver,
    /// For the name itself: which of those that the machine's list of domains makes of it is the one. `None` where it
    /// is used as it is.
    either: Option<TokioResolver>,
    question: Question,
    hosts: BTreeMap<String, Host>,
    config: DiscoverConfig,
    /// What was found last.
    last: Option<Vec<EndpointConfig>>,
}

/// What is known of a host that addresses are looked up of.
struct Host {
    choice: Choice,
    /// The name that is asked for, once it is known.
    name: Option<String>,
    ipv4: Vec<IpAddr>,
    ipv6: Vec<IpAddr>,
    /// The last look asked for it.
    wanted: bool,
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
        let either = match config.family {
            Family::Ipv4 => LookupIpStrategy::Ipv4Only,
            Family::Ipv6 => LookupIpStrategy::Ipv6Only,
            _ => LookupIpStrategy::Ipv4AndIpv6,
        };
        // A server that is written is asked for names as they are.
        let searches = config.server.is_none();
        Ok(Self {
            either: searches.then(|| resolver(config, either)).transpose()?,
            ipv4: resolver(config, LookupIpStrategy::Ipv4Only)?,
            ipv6: resolver(config, LookupIpStrategy::Ipv6Only)?,
            question,
            hosts: BTreeMap::new(),
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

    /// The addresses of a name that are used, and until when they are certain. Of a family that nobody
    /// answers for they are what they were.
    async fn addresses(&mut self, host: &str, port: u16) -> Result<(Vec<IpAddr>, Instant), String> {
        let family = self.config.family;
        let known = self.hosts.entry(host.to_owned()).or_insert_with(|| Host::new(family));
        known.wanted = true;
        let is_settled = known.name.is_some();
        if !is_settled {
            known.name = Some(settled(self.either.as_ref(), host).await?);
        }
        let mut looked = self.look_up(host, port).await;
        if is_settled && matches!(looked, Err((_, true))) && self.either.is_some() {
            // There is none by that name any more; the list of domains may lead to another.
            let name = settled(self.either.as_ref(), host).await?;
            self.hosts.entry(host.to_owned()).or_insert_with(|| Host::new(family)).name =
                Some(name);
            looked = self.look_up(host, port).await;
        }
        looked.map_err(|(fault, _)| fault)
    }

    /// The addresses of a name that is settled. If there are none: why, and whether that was answered.
    async fn look_up(
        &mut self,
        host: &str,
        port: u16,
    ) -> Result<(Vec<IpAddr>, Instant), (String, bool)> {
        let family = self.config.family;
        let known = self.hosts.entry(host.to_owned()).or_insert_with(|| Host::new(family));
        let name = known.name.as_deref().unwrap_or(host);
        let ask = async |resolver: &TokioResolver, unwanted: Family| {
            if family == unwanted { None } else { Some(resolver.lookup_ip(name).await) }
        };
        let asked = tokio::join!(ask(&self.ipv4, Family::Ipv6), ask(&self.ipv6, Family::Ipv4));
        let mut until = None;
        let mut faults = Vec::new();
        let answers = [(asked.0, &mut known.ipv4, false), (asked.1, &mut known.ipv6, true)];
        for (answer, held, ipv6) in answers {
            let certain = match answer {
                None => continue,
                Some(Ok(found)) => {
                    *held = found.iter().filter(|one| one.is_ipv6() == ipv6).collect();
                    found.valid_until()
                }
                Some(Err(error)) => {
                    // That there is none is an answer too.
                    let answered = error.is_no_records_found();
                    if answered {
                        held.clear();
                    }
                    faults.push((answered, format!("{host}: {error}")));
                    Instant::now() + if answered { LATEST } else { PARTLY }
                }
            };
            until = Some(until.map_or(certain, |until: Instant| until.min(certain)));
        }
        let found = [known.ipv4.as_slice(), &known.ipv6].concat();
        // Where nobody answers at all it is the whole look that failed.
        let asked = 1 + usize::from(![Family::Ipv4, Family::Ipv6].contains(&family));
        let all_failed = faults.len() == asked && faults.iter().all(|(answered, _)| !answered);
        if found.is_empty() || all_failed && matches!(self.question, Question::Addresses { .. }) {
            let all_answered = faults.iter().all(|(answered, _)| *answered);
            // What went wrong says more than that there is none of the other family.
            faults.sort_by_key(|(answered, _)| *answered);
            let fault = faults.into_iter().next().map(|(_, fault)| fault);
            let fault = fault.unwrap_or_else(|| format!("{host} has no address"));
            return Err((fault, all_answered));
        }
        let used = known.choice.of(found, port).await;
        if used.is_empty() {
            let fault = format!("{host} has no address of the family that is wanted");
            return Err((fault, false));
        }
        Ok((used, until.unwrap_or_else(Instant::now)))
    }

    async fn services(&mut self, name: &str) -> Result<(Vec<EndpointConfig>, Instant), String> {
        let answer = self.ipv4.srv_lookup(name).await;
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
        self.hosts.values_mut().for_each(|host| host.wanted = false);
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
        self.hosts.retain(|_, host| host.wanted);
        // One target that is not found does not take the others away.
        match fault.filter(|_| endpoints.is_empty()) {
            Some(fault) => Err(fault),
            None if endpoints.is_empty() => Err(format!("{name} has no targets")),
            None => Ok((endpoints, until)),
        }
    }
}

impl Host {
    fn new(family: Family) -> Self {
        let (ipv4, ipv6) = (Vec::new(), Vec::new());
        Self { choice: Choice::new(family), name: None, ipv4, ipv6, wanted: true }
    }
}

/// The one name that addresses of both families are asked for. If each family went through the list of domains by
/// itself, the addresses of two machines could come together.
async fn settled(either: Option<&TokioResolver>, host: &str) -> Result<String, String> {
    let Some(resolver) = either.filter(|_| !host.ends_with('.')) else {
        return Ok(host.to_owned());
    };
    let found = resolver.lookup_ip(host).await.map_err(|error| format!("{host}: {error}"))?;
    let mut name = found.query().name().clone();
    name.set_fqdn(true);
    Ok(name.to_utf8())
}

/// A resolver by the config, or by the machine's.
fn resolver(config: &DiscoverConfig, addresses: LookupIpStrategy) -> Result<TokioResolver, String> {
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
    options.ip_strategy = addresses;
    // Whoever asks for a new answer is to get one.
    options.cache_size = 0;
    builder.build().map_err(words)
}

fn endpoint(ip: IpAddr, port: u16, weight: u32, priority: u32) -> EndpointConfig {
    let address = SocketAddr::new(ip, port);
    EndpointConfig { address, weight, priority, labels: BTreeMap::new() }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
