//! Copies of requests for another upstream. They neither delay nor fail what they are copies of: a copy is sent by a task of
//! its own, once the request's body has passed by.

mod budget;
mod compare;
mod original;

use std::sync::Arc;
use std::time::Duration;

use pingora_http::RequestHeader;
use tokio::sync::{Semaphore, oneshot};

use crate::config::{ConfigPath, MirrorConfig};
use crate::telemetry::{Compared, Copied, RouteMetrics};
use crate::upstream::{Copies, Upstream};

use budget::{Budget, Held};
pub(crate) use compare::Comparison;
pub(crate) use original::Original;
use original::Seen;

/// A route's mirror, ready to copy.
pub(crate) struct Mirror {
    route: Arc<str>,
    share: f64,
    in_flight: Arc<Semaphore>,
    budget: Arc<Budget>,
    timeout: Duration,
    comparison: Option<Comparison>,
    copies: Copies,
    metrics: Arc<RouteMetrics>,
}

impl Mirror {
    pub(crate) fn new(
        config: &MirrorConfig,
        route: Arc<str>,
        upstream: Arc<Upstream>,
        metrics: Arc<RouteMetrics>,
        wrong: &mut Vec<(ConfigPath, String)>,
    ) -> Self {
        let longest = usize::try_from(config.body_bytes.0).unwrap_or(usize::MAX);
        Self {
            route,
            share: config.share.fraction(),
            in_flight: Arc::new(Semaphore::new(config.in_flight)),
            budget: Budget::new(config.in_flight, longest),
            timeout: config.timeout.into(),
            comparison: config.compare.as_ref().map(|compare| Comparison::new(compare, wrong)),
            copies: Copies::new(upstream),
            metrics,
        }
    }

    /// The upstream that gets the copies, and the share of requests that are copied.
    pub(crate) fn told(&self) -> (&Arc<Upstream>, f64) {
        (self.copies.upstream(), self.share)
    }

    /// Begins to copy a request, or leaves it. `random` is a number of its own for each request, from 0 to 1.
    pub(crate) fn begin(self: &Arc<Self>, head: &RequestHeader, random: f64) -> Option<Box<Copy>> {
        if random >= self.share {
            return None;
        }
        Some(Box::new(Copy { mirror: self.clone(), head: head.clone(), body: self.budget.body() }))
    }
}

/// A copy in the making: the request's body passes by.
pub(crate) struct Copy {
    mirror: Arc<Mirror>,
    head: RequestHeader,
    body: Held,
}

impl Copy {
    /// The body begins anew.
    pub(crate) fn restart(&mut self) {
        self.body.clear();
    }

    /// Takes a piece of the body along. `None` where that is too long to be copied.
    pub(crate) fn take(mut self: Box<Self>, piece: &[u8]) -> Option<Box<Self>> {
        if let Err(outcome) = self.body.push(piece) {
            self.mirror.metrics.copied(outcome);
            return None;
        }
        Some(self)
    }

    /// The request ended before its body had: there is nothing to send.
    pub(crate) fn abandon(self: Box<Self>) {
        self.mirror.metrics.copied(Copied::Incomplete);
    }

    /// The request is complete: sends the copy. What is returned is to be shown the answer to the request itself, where
    /// that is compared.
    pub(crate) fn send(self: Box<Self>) -> Option<Box<Original>> {
        let Self { mirror, head, mut body } = *self;
        // Here and not at the head: many slow uploads would keep copies from being made.
        let Ok(permit) = mirror.in_flight.clone().try_acquire_owned() else {
            mirror.metrics.copied(Copied::Full);
            return None;
        };
        let (original, seen) = match mirror.comparison {
            Some(_) => Some(Original::new(mirror.budget.clone())).unzip(),
            None => (None, None),
        };
        tokio::spawn(async move {
            let returned = {
                let _permit = permit;
                let longest = mirror.budget.longest();
                let exchange = mirror.copies.send(&head, body.take(), longest);
                tokio::time::timeout(mirror.timeout, exchange).await
            };
            drop(body);
            match returned {
                Err(_) => mirror.metrics.copied(Copied::Timeout),
                Ok(Err(error)) => {
                    tracing::debug!(route = &*mirror.route, error, "a copy was not answered");
                    mirror.metrics.copied(Copied::Failed);
                }
                Ok(Ok(returned)) => {
                    mirror.metrics.copied(Copied::Answered);
                    let Some(seen) = seen else { return };
                    let mut held = mirror.budget.body();
                    let whole = returned.body.filter(|body| held.push(body).is_ok());
                    let copy = Seen {
                        status: returned.status,
                        headers: returned.headers,
                        body: whole.map(|_| held),
                        trailers: returned.trailers,
                    };
                    mirror.compare(copy, seen).await;
                }
            }
        });
        original
    }
}

impl Mirror {
    async fn compare(self: &Arc<Self>, copy: Seen, original: oneshot::Receiver<Seen>) {
        let original = match tokio::time::timeout(self.timeout, original).await {
            Ok(Ok(original)) => original,
            // It failed, or has not ended.
            _ => return self.metrics.compared(Compared::Skipped),
        };
        // Long documents take a while, for which no request is to wait.
        let mirror = self.clone();
        let compared = tokio::task::spawn_blocking(move || mirror.judge(&original, &copy)).await;
        if let Err(error) = compared {
            tracing::warn!(%error, "a comparison failed");
        }
    }

    fn judge(&self, original: &Seen, copy: &Seen) {
        let Some(comparison) = &self.comparison else { return };
        let (outcome, difference) = comparison.of(original.answer(), copy.answer());
        self.metrics.compared(outcome);
        if let Some(difference) = difference.filter(|_| comparison.logs(rand::random())) {
            let upstream = self.copies.upstream().name();
            tracing::warn!(
                route = &*self.route,
                upstream,
                difference,
                "a copy was answered otherwise"
            );
        }
    }
}
