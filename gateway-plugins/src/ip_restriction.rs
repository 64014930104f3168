//! Lets requests pass by the client's address.
//!
//! ```yaml
//! kind: ip-restriction
//! options:
//!   allow: [10.0.0.0/8, 192.0.2.7]   # if given, everyone else is refused
//!   deny: [10.6.6.0/24]              # outranks `allow`
//!   address: client                  # or `peer`: the other end of the socket
//! ```
//!
//! The client's address is what the listener's `trusted_proxies` say of it, read from right to
//! left; a client cannot choose its own.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::RequestCtx;
use gateway_core::plugin::{
    BuildEnv, BuildError, Class, Flow, HookError, Hooks, OptionPath, Plugin, Reply, RequestHeader,
    RequestHook,
};
use gateway_core::telemetry::FailureCode;
use http::StatusCode;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses and networks that may pass. Empty: all that are not denied.
    #[serde(default)]
    allow: Vec<String>,
    /// Addresses and networks that may not pass, also where `allow` names them.
    #[serde(default)]
    deny: Vec<String>,
    /// Whose address counts.
    #[serde(default)]
    address: Address,
}

/// Whose address counts.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Address {
    /// The client, as the trusted proxies in front of the gateway report it.
    #[default]
    Client,
    /// The other end of the socket.
    Peer,
}

/// Lets requests pass by the client's address.
pub struct IpRestriction {
    allow: Networks,
    deny: Networks,
    address: Address,
}

impl Plugin for IpRestriction {
    const KIND: &'static str = "ip-restriction";
    const CLASS: Class = Class::Security;
    type Config = Config;

    fn build(config: Config, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        let mut error = BuildError::none();
        if config.allow.is_empty() && config.deny.is_empty() {
            error.push(OptionPath::root(), "neither `allow` nor `deny` names an address");
        }
        let allow = Networks::parse(&config.allow, "allow", &mut error);
        let deny = Networks::parse(&config.deny, "deny", &mut error);
        error.or(|| Self { allow, deny, address: config.address })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request(self);
    }
}

impl IpRestriction {
    fn decide(&self, ctx: &RequestCtx) -> Flow {
        let address = match self.address {
            Address::Client => ctx.client_ip(),
            Address::Peer => ctx.peer_ip(),
        };
        let allowed = self.allow.is_empty() || self.allow.contains(address);
        if allowed && !self.deny.contains(address) {
            return Flow::Continue;
        }
        Flow::Respond(Reply::refusal(StatusCode::FORBIDDEN, FailureCode::P4))
    }
}

#[async_trait]
impl RequestHook for IpRestriction {
    async fn on_request(
        &self,
        _: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        Ok(self.decide(ctx))
    }

    fn foresee(&self, _: &RequestHeader, ctx: &RequestCtx) -> Option<Flow> {
        Some(self.decide(ctx))
    }
}

/// Networks as sorted, disjoint ranges of addresses; IPv4 in its IPv6 form.
struct Networks(Box<[(u128, u128)]>);

impl Networks {
    fn parse(texts: &[String], option: &str, error: &mut BuildError) -> Self {
        let mut ranges = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let network =
                text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            match network {
                Ok(network) => {
                    ranges.push((number(network.network()), number(network.broadcast())))
                }
                Err(_) => error.push(
                    OptionPath::root().key(option).index(index),
                    format!("`{text}` is neither an address nor a network such as `10.0.0.0/8`"),
                ),
            }
        }
        ranges.sort_unstable();
        let mut disjoint: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match disjoint.last_mut() {
                Some(held) if first <= held.1 => held.1 = held.1.max(last),
                _ => disjoint.push((first, last)),
            }
        }
        Self(disjoint.into())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, address: IpAddr) -> bool {
        let address = number(address);
        let after = self.0.partition_point(|(first, _)| *first <= address);
        after.checked_sub(1).is_some_and(|place| address <= self.0[place].1)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::plugin::testing::PluginTest;

    use super::*;

    async fn status(test: &PluginTest<IpRestriction>, client: &str) -> u16 {
        test.get("/").client(client).send().await.status()
    }

    #[tokio::test]
    async fn only_allowed_addresses_pass_and_denied_ones_never_do() {
        let test = PluginTest::<IpRestriction>::yaml(
            "{allow: [10.0.0.0/8, '2001:db8::/32'], deny: [10.6.0.0/16]}",
        );

        for (client, expected) in [
            ("10.1.2.3", 200),
            ("10.6.0.1", 403),
            ("192.0.2.1", 403),
            ("2001:db8::7", 200),
            ("2001:db9::7", 403),
            ("::ffff:10.1.2.3", 200),
        ] {
            assert_eq!(status(&test, client).await, expected, "{client}");
        }
    }

    #[tokio::test]
    async fn without_allow_all_but_the_denied_pass() {
        let test = PluginTest::<IpRestriction>::yaml("{deny: [192.0.2.1]}");

        assert_eq!(status(&test, "192.0.2.1").await, 403);
        assert_eq!(status(&test, "192.0.2.2").await, 200);
    }

    #[tokio::test]
    async fn a_refusal_says_why_and_shows_the_upstream_nothing() {
        let test = PluginTest::<IpRestriction>::yaml("{deny: [0.0.0.0/0]}");

        let outcome = test.get("/").client("192.0.2.1").send().await;

        assert_eq!(outcome.failure(), Some(FailureCode::P4));
        assert!(!outcome.reached_upstream());
    }

    #[test]
    fn every_fault_is_reported_with_its_place() {
        let faults = PluginTest::<IpRestriction>::faults(
            "{allow: [10.0.0.0/8, nonsense], deny: [300.0.0.1]}",
        );

        assert_eq!(
            faults,
            [
                "plugins[0].options.allow[1]: `nonsense` is neither an address nor a network such as `10.0.0.0/8`",
                "plugins[0].options.deny[0]: `300.0.0.1` is neither an address nor a network such as `10.0.0.0/8`",
            ]
        );
    }

    #[test]
    fn a_restriction_that_restricts_nothing_is_refused() {
        let faults = PluginTest::<IpRestriction>::faults("{}");

        assert_eq!(faults, ["plugins[0].options: neither `allow` nor `deny` names an address"]);
    }

    #[test]
    fn overlapping_networks_become_one() {
        let mut error = BuildError::none();
        let texts = ["10.0.0.0/9", "10.0.0.0/8", "10.255.255.255", "11.0.0.0/8"].map(str::to_owned);

        let networks = Networks::parse(&texts, "allow", &mut error);

        assert_eq!(networks.0.len(), 2);
        assert!(networks.contains("10.200.0.1".parse().unwrap()));
        assert!(!networks.contains("12.0.0.0".parse().unwrap()));
    }
}
