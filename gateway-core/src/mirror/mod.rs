//! Copies of requests for another upstream. They neither delay nor fail what they are copies of: a copy is sent by a task of
//! its own, once the request's body has passed by.

mod compare;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::config::{ConfigPath, MirrorConfig};
use crate::telemetry::{Compared, Copied, RouteMetrics};
use crate::upstream::{Copies, Returned, Upstream};

pub(crate) use compare::{Answers, Comparison};

/// A route's mirror, ready to copy.
pub(crate) struct Mirror {
    route: Arc<str>,
    share: f64,
    in_flight: Arc<Semaphore>,
    longest: usize,
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
        Self {
            route,
            share: config.share.fraction(),
            in_flight: Arc::new(Semaphore::new(config.in_flight)),
            longest: usize::try_from(config.body_bytes.0).unwrap_or(usize::MAX),
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
        let Ok(permit) = self.in_flight.clone().try_acquire_owned() else {
            self.metrics.copied(Copied::Full);
            return None;
        };
        Some(Box::new(Copy {
            mirror: self.clone(),
            head: head.clone(),
            body: BytesMut::new(),
            permit,
        }))
    }
}

/// A copy in the making: the request's body passes by.
pub(crate) struct Copy {
    mirror: Arc<Mirror>,
    head: RequestHeader,
    body: BytesMut,
    permit: OwnedSemaphorePermit,
}

impl Copy {
    /// The body begins anew.
    pub(crate) fn restart(&mut self) {
        self.body.clear();
    }

    /// Takes a piece of the body along. `None` where that is too long to be copied.
    pub(crate) fn take(mut self: Box<Self>, piece: &[u8]) -> Option<Box<Self>> {
        if self.body.len() + piece.len() > self.mirror.longest {
            self.mirror.metrics.copied(Copied::TooLarge);
            return None;
        }
        self.body.extend_from_slice(piece);
        Some(self)
    }

    /// The request is complete: sends the copy. What is returned is to be shown the answer to the request itself, where
    /// that is compared.
    pub(crate) fn send(self: Box<Self>) -> Option<Box<Original>> {
        let Self { mirror, head, body, permit } = *self;
        let (shown, original) = oneshot::channel();
        let observed = mirror.comparison.is_some().then(|| {
            Box::new(Original { seen: None, longest: mirror.longest, shown: Some(shown) })
        });
        tokio::spawn(async move {
            let _permit = permit;
            let exchange = mirror.copies.send(&head, body.freeze(), mirror.longest);
            match tokio::time::timeout(mirror.timeout, exchange).await {
                Err(_) => mirror.metrics.copied(Copied::Timeout),
                Ok(Err(error)) => {
                    tracing::debug!(route = &*mirror.route, error, "a copy was not answered");
                    mirror.metrics.copied(Copied::Failed);
                }
                Ok(Ok(returned)) => {
                    mirror.metrics.copied(Copied::Answered);
                    mirror.compare(returned, original).await;
                }
            }
        });
        observed
    }
}

impl Mirror {
    async fn compare(self: &Arc<Self>, copy: Returned, original: oneshot::Receiver<Seen>) {
        if self.comparison.is_none() {
            return;
        }
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

    fn judge(&self, original: &Seen, copy: &Returned) {
        let Some(comparison) = &self.comparison else { return };
        let answers = Answers {
            statuses: [original.status, copy.status],
            headers: [&original.headers, &copy.headers],
            bodies: [original.body.as_deref(), copy.body.as_deref()],
        };
        let (outcome, difference) = comparison.of(&answers);
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

/// The answer to a request that was copied, as it passes by.
pub(crate) struct Original {
    seen: Option<Growing>,
    longest: usize,
    shown: Option<oneshot::Sender<Seen>>,
}

struct Growing {
    status: StatusCode,
    headers: HeaderMap,
    /// `None` once it is too long to be compared.
    body: Option<BytesMut>,
}

/// The whole of it.
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Original {
    /// Its head has arrived; the last one counts.
    pub(crate) fn head(&mut self, head: &ResponseHeader) {
        let (status, headers) = (head.status, head.headers.clone());
        self.seen = Some(Growing { status, headers, body: Some(BytesMut::new()) });
    }

    pub(crate) fn piece(&mut self, piece: &[u8]) {
        if self.shown.as_ref().is_none_or(oneshot::Sender::is_closed) {
            // The copy has failed: there is nobody to show it to.
            self.seen = None;
        }
        let Some(seen) = &mut self.seen else { return };
        seen.body = seen.body.take().filter(|body| body.len() + piece.len() <= self.longest);
        if let Some(body) = &mut seen.body {
            body.extend_from_slice(piece);
        }
    }

    /// It has ended well.
    pub(crate) fn end(&mut self) {
        if let (Some(seen), Some(shown)) = (self.seen.take(), self.shown.take()) {
            let body = seen.body.map(BytesMut::freeze);
            // Whoever would compare it may have given up.
            let _ = shown.send(Seen { status: seen.status, headers: seen.headers, body });
        }
    }
}
