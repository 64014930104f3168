//! `retry` of an upstream: which attempts are repeated, how often and how soon.

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::method::{self, MethodName};
use super::path::ConfigPath;
use super::scalar;
use super::status_range::StatusRange;
use super::units::{Percent, Size, Span};

/// Which attempts are repeated. Nothing is once a byte of an answer went down, and no request whose
/// body cannot be sent again.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// How many attempts a request may have, the first one included, 1 to 10. Default 2.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// What is repeated: conditions, statuses such as `503`, ranges of them such as `502-504`.
    /// Default `connect_failure`, `refused_stream` and `reset`.
    #[schemars(length(min = 1))]
    pub on: Vec<RetryOn>,
    /// The methods of which an attempt may be repeated that the endpoint may have seen. Default: the
    /// safe ones, GET, HEAD, OPTIONS and TRACE.
    #[serde(
        deserialize_with = "scalar::list::<MethodName, _, _>",
        serialize_with = "method::names"
    )]
    #[schemars(with = "Vec<MethodName>")]
    pub methods: Vec<Method>,
    /// How long each attempt may take to connect, and then to begin its answer. Default: as the
    /// timeouts say.
    pub per_try: Option<Span>,
    /// The share of the requests of the last ten seconds that may be repetitions. Default `20%`.
    pub budget: Percent,
    /// So many repetitions a second are allowed whatever the budget. Default 10.
    pub budget_minimum: u32,
    /// The pause before the second attempt, half more or less by chance; twice as long before the
    /// next. Default `25ms`.
    pub backoff: Span,
    /// The longest pause, that of a `Retry-After` included: an answer that asks for a longer one is
    /// passed on. Default `1s`.
    pub backoff_at_most: Span,
    /// Sends a request a second time, to another endpoint, while the first has not answered; the first
    /// answer counts. GET and HEAD without a body alone. Default: never.
    pub hedge: Option<HedgeConfig>,
    /// The longest body that is kept to be sent again, at most `256MiB`. 64 KiB always are; a longer
    /// one is read whole before the first attempt, and has to have a `Content-Length`. Default `64KiB`.
    pub body: Size,
}

impl Default for RetryConfig {
    fn default() -> Self {
        let on =
            [RetryCondition::ConnectFailure, RetryCondition::RefusedStream, RetryCondition::Reset];
        Self {
            attempts: 2,
            on: on.map(RetryOn::Condition).to_vec(),
            methods: [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].to_vec(),
            per_try: None,
            budget: Percent(20.0),
            budget_minimum: 10,
            backoff: Span(std::time::Duration::from_millis(25)),
            backoff_at_most: Span::seconds(1),
            hedge: None,
            body: Size(64 * 1024),
        }
    }
}

/// When a request is sent a second time. It counts as a repetition in the `budget`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HedgeConfig {
    /// After the time within which such a share of the answers of the last half minute began, 50% to
    /// 99.9%. Default `95%`.
    pub after: Percent,
    /// Not before this time, whatever answers take. Default `1ms`.
    pub at_least: Span,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self { after: Percent(95.0), at_least: Span(std::time::Duration::from_millis(1)) }
    }
}

/// Something that may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RetryOn {
    /// A failure.
    Condition(RetryCondition),
    /// An answer with such a status.
    Status(StatusRange),
}

/// A failure that may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryCondition {
    /// There was no connection: nothing was sent, so that the method does not matter. `U3` to `U6`.
    ConnectFailure,
    /// The endpoint refused the stream, or said goodbye to the connection before it (HTTP/2): it has
    /// not looked at the request, so that the method does not matter. `X1`.
    RefusedStream,
    /// The connection ended before an answer began. `X1`.
    Reset,
    /// No answer began in time. `X3`.
    Timeout,
    /// The answer was not HTTP. `X5`.
    BadResponse,
}

impl RetryConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        if let Some(per_try) = self.per_try {
            findings.refuse_zero(at, "per_try", per_try);
        }
        if self.body.0 > 256 * 1024 * 1024 {
            findings.add(&at.clone().key("body"), "more than 256MiB");
        }
        if let Some(hedge) = &self.hedge
            && !(50.0..=99.9).contains(&hedge.after.0)
        {
            findings.add(&at.clone().key("hedge").key("after"), "from 50% to 99.9%");
        }
        if self.backoff_at_most.0 < self.backoff.0 {
            findings.add(&at.clone().key("backoff_at_most"), "less than `backoff`");
        }
    }
}
