//! Stops asking an upstream, or one of its endpoints, that fails or has become slow, and tries it
//! carefully again.
//!
//! ```yaml
//! kind: circuit-breaker
//! options:
//!   per: endpoint          # or `upstream`, or `route`
//!   failure_ratio: 50%     # opens when half of at least
//!   minimum: 20            # 20 attempts
//!   window: 30s            # in this time failed
//!   open_for: 5s           # refuses for so long, then lets
//!   probes: 3              # three requests try
//! ```
//!
//! The breakers themselves are the gateway's: it asks them before it chooses an endpoint, and keeps their
//! state through reloads. What they refuse is answered 503 with `U9`, or with `reply`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::config::{Percent, Span, StatusRange};
use gateway_core::plugin::{BuildEnv, BuildError, Class, Hooks, OptionPath, Plugin, Reply};
use gateway_core::telemetry::FailureCode;
use gateway_core::upstream::{BreakerOptions, BreakerScope};
use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What each breaker stands before. Default `upstream`.
    per: Per,
    /// It opens when such a share of the attempts in the window failed. Default `50%`; 0 if failures do not
    /// matter.
    failure_ratio: Percent,
    /// It opens when such a share of the answers in the window began late. Default 0: that does not
    /// matter.
    slow_ratio: Percent,
    /// What is late: an answer that begins after this time. Default `1s`.
    slow: Span,
    /// How far back is looked, at least `1s`. Default `30s`.
    window: Span,
    /// How many attempts in the window a share is told from. Default 20.
    #[schemars(range(min = 1))]
    minimum: u32,
    /// How long it is open the first time; twice as long each time that a probe fails. Default `5s`.
    open_for: Span,
    /// How long it is open at most. Default `1m`.
    open_at_most: Span,
    /// How many requests try, when it was open for long enough, and have to go well. Default 3.
    #[schemars(range(min = 1))]
    probes: u32,
    /// Statuses and ranges of them that are failures. Default 500 and 502 to 504.
    status: Vec<StatusRange>,
    /// Failure codes of attempts that are failures, `U3` to `X7`. Default: those that are the endpoint's
    /// fault, `U3` to `U7` and `X1` to `X5`.
    codes: Vec<String>,
    /// What is answered in place of what is refused. Default: 503 as problem details.
    reply: Option<Fallback>,
}

/// What each breaker stands before.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Per {
    /// An upstream: one for all routes to it that have the plugin from the same list.
    #[default]
    Upstream,
    /// An upstream as one route sees it.
    Route,
    /// Each endpoint: one whose breaker is open is passed over.
    Endpoint,
}

/// An answer in place of the upstream's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Fallback {
    /// The status, 200 to 599. Default 503.
    #[schemars(range(min = 200, max = 599))]
    status: u16,
    /// Header fields, name to value.
    headers: BTreeMap<String, String>,
    /// The body. Default: none.
    body: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            per: Per::default(),
            failure_ratio: Percent(50.0),
            slow_ratio: Percent(0.0),
            slow: Span::seconds(1),
            window: Span::seconds(30),
            minimum: 20,
            open_for: Span::seconds(5),
            open_at_most: Span::seconds(60),
            probes: 3,
            status: BreakerOptions::default().status,
            codes: BreakerOptions::default().codes.iter().map(ToString::to_string).collect(),
            reply: None,
        }
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Self { status: 503, headers: BTreeMap::new(), body: String::new() }
    }
}

/// Puts circuit breakers before upstreams.
pub struct CircuitBreaker {
    options: BreakerOptions,
    reply: Option<Reply>,
}

impl Plugin for CircuitBreaker {
    const KIND: &'static str = "circuit-breaker";
    const CLASS: Class = Class::Traffic;
    type Config = Config;

    fn build(config: Config, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        let mut error = BuildError::none();
        let [failure_ratio, slow_ratio] = [config.failure_ratio, config.slow_ratio]
            .map(|percent| Some(percent.fraction()).filter(|share| *share > 0.0));
        for (key, share) in [("failure_ratio", failure_ratio), ("slow_ratio", slow_ratio)] {
            if share.is_some_and(|share| share > 1.0) {
                error.push(OptionPath::root().key(key), "at most 100%");
            }
        }
        if failure_ratio.is_none() && slow_ratio.is_none() {
            let message = "with neither `failure_ratio` nor `slow_ratio` it never opens";
            error.push(OptionPath::root(), message);
        }
        for (key, span, least) in [
            ("window", config.window, Duration::from_secs(1)),
            ("open_for", config.open_for, Duration::from_millis(1)),
            ("slow", config.slow, Duration::from_millis(1)),
        ] {
            if Duration::from(span) < least {
                let message = format!("at least {}ms", least.as_millis());
                error.push(OptionPath::root().key(key), message);
            }
        }
        if Duration::from(config.open_at_most) < Duration::from(config.open_for) {
            error.push(OptionPath::root().key("open_at_most"), "less than `open_for`");
        }
        let codes = codes(&config.codes, &mut error);
        let reply = config.reply.as_ref().map(|reply| reply.build(&mut error));
        let options = BreakerOptions {
            per: match config.per {
                Per::Upstream => BreakerScope::Upstream,
                Per::Route => BreakerScope::Route,
                Per::Endpoint => BreakerScope::Endpoint,
            },
            status: config.status,
            codes,
            failure_ratio,
            slow_ratio,
            slow: config.slow.into(),
            window: config.window.into(),
            minimum: config.minimum,
            open_for: config.open_for.into(),
            open_at_most: config.open_at_most.into(),
            probes: config.probes,
        };
        error.or(|| Self { options, reply })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.breaker(self.options.clone(), self.reply.clone());
    }
}

/// The codes that attempts can end with.
fn codes(written: &[String], error: &mut BuildError) -> Vec<FailureCode> {
    let mut codes = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        let of_attempt = |code: &FailureCode| {
            use FailureCode::*;
            matches!(code, U3 | U4 | U5 | U6 | U7 | X1 | X2 | X3 | X4 | X5 | X7)
        };
        let known = FailureCode::ALL.into_iter().filter(of_attempt);
        match known.clone().find(|code| code.code() == *text) {
            Some(code) => codes.push(code),
            None => {
                let known: Vec<_> = known.map(|code| format!("`{code}`")).collect();
                let message =
                    format!("no attempt ends with `{text}`; there is {}", known.join(", "));
                error.push(OptionPath::root().key("codes").index(index), message);
            }
        }
    }
    codes
}

impl Fallback {
    fn build(&self, error: &mut BuildError) -> Reply {
        let headers = || OptionPath::root().key("reply").key("headers");
        // The schema allows nothing that is none.
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut reply = Reply::new(status).with_body(self.body.clone());
        for (name, value) in &self.headers {
            match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                (Ok(name), Ok(value)) => reply.set(name, value),
                _ => error.push(headers().key(name), "this is no header field"),
            }
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::plugin::testing::PluginTest;

    use super::*;

    fn faults(options: &str) -> String {
        PluginTest::<CircuitBreaker>::faults(options).join("\n")
    }

    #[test]
    fn options_have_defaults() {
        PluginTest::<CircuitBreaker>::yaml("{}");
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let told = faults(
            "{failure_ratio: 0%, window: 10ms, open_for: 2m, codes: [U3, D1], reply: {headers: {\"a b\": c}}}",
        );
        for part in [
            "with neither `failure_ratio` nor `slow_ratio` it never opens",
            "window: at least 1000ms",
            "open_at_most: less than `open_for`",
            "codes[1]: no attempt ends with `D1`; there is `U3`, `U4`",
            "no header field",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(faults("{slow_ratio: 101%}").contains("slow_ratio"));
        assert!(faults("{failure_rate: 50%}").contains("did you mean `failure_ratio`?"));
    }
}
