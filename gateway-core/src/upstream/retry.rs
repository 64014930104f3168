//! Retries: which attempts are repeated, and a budget that keeps repetitions from making an outage
//! worse.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, Method, header};

use crate::config::{RetryCondition, RetryConfig, RetryOn};
use crate::telemetry::{FailureCode, RetryReason};

/// What may be a reason to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Failure(FailureCode),
    Status(u16),
    /// The endpoint has not looked at it.
    Refused,
}

/// How an upstream's attempts are repeated.
pub(crate) struct Retry {
    config: RetryConfig,
    budget: Budget,
}

impl Retry {
    pub(super) fn new(config: &RetryConfig) -> Self {
        let budget = Budget::new(config.budget.fraction(), config.budget_minimum);
        Self { config: config.clone(), budget }
    }

    /// How many attempts a request may have.
    pub(crate) fn attempts(&self) -> u32 {
        self.config.attempts
    }

    /// How long an attempt may take to connect, and then to begin its answer.
    pub(crate) fn per_try(&self) -> Option<Duration> {
        self.config.per_try.map(Into::into)
    }

    /// The longest body that is kept, if a request of this method may be repeated once it was sent.
    pub(crate) fn keeps(&self, method: &Method) -> Option<u64> {
        (self.config.attempts > 1 && self.config.methods.contains(method))
            .then_some(self.config.body.0)
    }

    /// A request begins, at this moment of the gateway's coarse clock.
    pub(super) fn count_request(&self, now: u64) {
        self.budget.count(now);
    }

    /// Whether this is something to repeat for a request of this method; the reason, if it is.
    pub(crate) fn reason(&self, why: Why, method: &Method) -> Option<RetryReason> {
        use RetryCondition::*;
        let (condition, reason) = match why {
            Why::Failure(FailureCode::U3 | FailureCode::U4 | FailureCode::U5 | FailureCode::U6) => {
                (ConnectFailure, RetryReason::ConnectFailure)
            }
            Why::Refused => (RefusedStream, RetryReason::RefusedStream),
            Why::Failure(FailureCode::X1) => (Reset, RetryReason::Reset),
            Why::Failure(FailureCode::X3) => (Timeout, RetryReason::Timeout),
            Why::Failure(FailureCode::X5) => (BadResponse, RetryReason::BadResponse),
            Why::Failure(_) => return None,
            Why::Status(status) => {
                let listed = self.config.on.iter().any(|on| match on {
                    RetryOn::Status(range) => range.0.contains(&status),
                    RetryOn::Condition(_) => false,
                });
                return (listed && self.config.methods.contains(method))
                    .then_some(RetryReason::Status);
            }
        };
        let listed = self.config.on.contains(&RetryOn::Condition(condition));
        let untouched = matches!(condition, ConnectFailure | RefusedStream);
        (listed && (untouched || self.config.methods.contains(method))).then_some(reason)
    }

    /// Takes one repetition out of the budget, if there is one.
    pub(crate) fn spend(&self, now: u64) -> bool {
        self.budget.spend(now)
    }

    /// How long to wait before the attempt that follows this many; `None` if the answer asks for
    /// longer than is waited.
    pub(crate) fn pause(&self, attempts: u32, answer: Option<&HeaderMap>) -> Option<Duration> {
        let longest = self.config.backoff_at_most.0;
        if let Some(asked) = answer.and_then(|fields| fields.get(header::RETRY_AFTER)) {
            // A date is further away than is ever waited.
            let seconds = asked.to_str().ok()?.trim().parse().ok()?;
            return Some(Duration::from_secs(seconds)).filter(|asked| *asked <= longest);
        }
        let doubled = self.config.backoff.0.saturating_mul(1 << attempts.saturating_sub(1).min(20));
        Some(doubled.mul_f64(0.5 + rand::random::<f64>()).min(longest))
    }
}

/// How many seconds a budget looks back.
const SECONDS: u64 = 10;

/// The share of requests that may be repetitions, over the last ten seconds.
///
/// Counted without a lock, second by second; where a second begins a request may go uncounted.
struct Budget {
    share: f64,
    minimum: u32,
    seconds: [Second; SECONDS as usize],
}

#[derive(Default)]
struct Second {
    number: AtomicU64,
    requests: AtomicU32,
    retries: AtomicU32,
}

impl Budget {
    fn new(share: f64, minimum: u32) -> Self {
        Self { share, minimum, seconds: Default::default() }
    }

    fn second(&self, now: u64) -> &Second {
        // 0 is no second, so that an account that was never used is not taken for one.
        let number = now / 1000 + 1;
        let second = &self.seconds[usize::try_from(number % SECONDS).unwrap_or(0)];
        if second.number.load(Ordering::Relaxed) != number {
            second.requests.store(0, Ordering::Relaxed);
            second.retries.store(0, Ordering::Relaxed);
            second.number.store(number, Ordering::Relaxed);
        }
        second
    }

    fn count(&self, now: u64) {
        self.second(now).requests.fetch_add(1, Ordering::Relaxed);
    }

    fn spend(&self, now: u64) -> bool {
        let current = self.second(now);
        let number = current.number.load(Ordering::Relaxed);
        let recent = self
            .seconds
            .iter()
            .filter(|second| second.number.load(Ordering::Relaxed) + SECONDS > number);
        let (requests, retries) = recent.fold((0.0, 0.0), |(requests, retries), second| {
            (
                requests + f64::from(second.requests.load(Ordering::Relaxed)),
                retries + f64::from(second.retries.load(Ordering::Relaxed)),
            )
        });
        let allowed = current.retries.load(Ordering::Relaxed) < self.minimum
            || retries + 1.0 <= requests * self.share;
        if allowed {
            current.retries.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(change: impl FnOnce(&mut RetryConfig)) -> Retry {
        let mut config = RetryConfig::default();
        change(&mut config);
        Retry::new(&config)
    }

    #[test]
    fn what_was_sent_is_repeated_for_listed_methods_alone() {
        let retry = retry(|config| {
            config.on.push(RetryOn::Status(crate::config::StatusRange(502..=504)));
        });
        let reason = |why, method| retry.reason(why, &method);

        let refused = Why::Failure(FailureCode::U3);
        assert_eq!(reason(refused, Method::POST), Some(RetryReason::ConnectFailure));
        let reset = Why::Failure(FailureCode::X1);
        assert_eq!(reason(reset, Method::GET), Some(RetryReason::Reset));
        assert_eq!(reason(reset, Method::POST), None);
        assert_eq!(reason(Why::Status(503), Method::HEAD), Some(RetryReason::Status));
        assert_eq!(reason(Why::Status(503), Method::PUT), None);
        assert_eq!(reason(Why::Status(500), Method::GET), None);
        for code in [FailureCode::X3, FailureCode::X5, FailureCode::X2, FailureCode::D1] {
            assert_eq!(reason(Why::Failure(code), Method::GET), None, "{code} is not listed");
        }
    }

    #[test]
    fn a_budget_is_a_share_of_the_last_ten_seconds() {
        let budget = Budget::new(0.2, 0);
        (0..50).for_each(|_| budget.count(1_000));
        (0..50).for_each(|_| budget.count(5_000));

        let spent = (0..100).filter(|_| budget.spend(9_999)).count();
        assert_eq!(spent, 20);
        // The first fifty are too long ago.
        assert!(!budget.spend(12_000));
        (0..100).for_each(|_| budget.count(20_500));
        assert_eq!((0..100).filter(|_| budget.spend(20_500)).count(), 20);
    }

    #[test]
    fn so_many_a_second_are_always_allowed() {
        let budget = Budget::new(0.0, 3);

        for second in 0..5 {
            assert_eq!((0..10).filter(|_| budget.spend(second * 1000)).count(), 3);
        }
    }

    #[test]
    fn pauses_grow_scatter_and_end() {
        let retry = retry(|_| {});
        for (attempts, middle) in [(1, 25), (2, 50), (3, 100)] {
            for _ in 0..50 {
                let pause = retry.pause(attempts, None).unwrap().as_micros();
                assert!((middle * 500..=middle * 1500).contains(&pause), "{pause} µs");
            }
        }
        assert_eq!(retry.pause(60, None), Some(Duration::from_secs(1)));
    }

    #[test]
    fn an_answer_may_say_when_to_come_again() {
        let retry = retry(|config| config.backoff_at_most = "2s".parse().unwrap());
        let pause = |text: &str| {
            let mut fields = HeaderMap::new();
            fields.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry.pause(1, Some(&fields))
        };

        assert_eq!([pause("0"), pause("2")], [0, 2].map(|s| Some(Duration::from_secs(s))));
        assert_eq!([pause("3"), pause("Fri, 31 Dec 1999 23:59:59 GMT")], [None, None]);
    }
}
