//! Copies of requests for another upstream. They neither delay nor fail what they are copies of: a copy is sent by a
//! thread of its own, once the request's body has passed by.

mod aside;
mod budget;
mod compare;
mod original;
mod rest;

use std::sync::Arc;
use std::time::Duration;

use pingora_http::RequestHeader;
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;

use crate::config::{ConfigPath, MirrorConfig};
use crate::snapshot::Store;
use crate::telemetry::{Compared, Copied, RouteMetrics};
use crate::upstream::{Copies, Returned, Upstream};

use aside::Aside;
use budget::{Budget, Held};
pub(crate) use compare::Comparison;
pub(crate) use original::Original;
use original::{Seen, Waiting};
use rest::Rest;

/// What bounds a route's copies; a reload keeps it.
struct Room {
    in_flight: Arc<Semaphore>,
    /// Of copies in the making.
    bodies: Arc<Budget>,
    /// Of answers that are compared.
    answers: Arc<Budget>,
    rest: Rest,
}

/// A route's mirror, ready to copy.
pub(crate) struct Mirror {
    route: Arc<str>,
    share: f64,
    room: Arc<Room>,
    aside: Arc<Aside>,
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
        store: &Store,
        wrong: &mut Vec<(ConfigPath, String)>,
    ) -> Self {
        let longest = usize::try_from(config.body_bytes.0).unwrap_or(usize::MAX);
        let in_flight = config.in_flight;
        let key = format!("mirror/{route}");
        let room = store.get(&key, &format!("{in_flight} of {longest}"), || Room {
            in_flight: Arc::new(Semaphore::new(in_flight)),
            bodies: Budget::new(in_flight, longest),
            answers: Budget::new(in_flight, longest),
            rest: Rest::new(),
        });
        Self {
            route,
            share: config.share.fraction(),
            room,
            aside: store.get("mirror", "", Aside::default),
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
        if self.room.rest.is_on() {
            self.metrics.copied(Copied::Failed);
            return None;
        }
        Some(Box::new(Copy {
            mirror: self.clone(),
            head: head.clone(),
            body: self.room.bodies.body(),
        }))
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
        let Ok(permit) = mirror.room.in_flight.clone().try_acquire_owned() else {
            mirror.metrics.copied(Copied::Full);
            return None;
        };
        let (original, seen) = match mirror.comparison {
            Some(_) => Some(Original::new(mirror.room.answers.clone())).unzip(),
            None => (None, None),
        };
        let (aside, metrics) = (mirror.aside.clone(), mirror.metrics.clone());
        let sending = async move {
            let longest = mirror.room.answers.longest();
            let exchange = mirror.copies.send(&head, body.take(), longest);
            let returned = tokio::time::timeout(mirror.timeout, exchange).await;
            drop((permit, body));
            mirror.returned(returned, seen).await;
        };
        if !aside.run(sending) {
            metrics.copied(Copied::Failed);
        }
        original
    }
}

impl Mirror {
    /// What became of a copy.
    async fn returned(
        self: Arc<Self>,
        returned: Result<Result<Returned, String>, Elapsed>,
        original: Option<Waiting>,
    ) {
        match returned {
            Err(_) => {
                self.metrics.copied(Copied::Timeout);
                self.room.rest.failed();
            }
            Ok(Err(error)) => {
                tracing::debug!(route = &*self.route, error, "a copy was not answered");
                self.metrics.copied(Copied::Failed);
                self.room.rest.failed();
            }
            Ok(Ok(returned)) => {
                self.room.rest.answered();
                self.metrics.copied(Copied::Answered);
                let Some(original) = original else { return };
                let mut held = self.room.answers.body();
                let whole = returned.body.filter(|body| held.push(body).is_ok());
                let copy = Seen {
                    status: returned.status,
                    headers: returned.headers,
                    body: whole.map(|_| held),
                    trailers: returned.trailers,
                };
                self.compare(copy, original).await;
            }
        }
    }

    async fn compare(self: &Arc<Self>, copy: Seen, mut original: Waiting) {
        let original = match tokio::time::timeout(self.timeout, original.end()).await {
            Ok(Some(original)) => original,
            // It failed, or has not ended.
            _ => return self.metrics.compared(Compared::Skipped),
        };
        // Long documents take a while, for which no other copy is to wait.
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
