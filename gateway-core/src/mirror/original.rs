//! The answer to a request that was copied, as it passes by.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use pingora_http::ResponseHeader;
use tokio::sync::oneshot;

use super::budget::{Budget, Held};
use super::compare::Answer;

/// The answer to a request that was copied, as it passes by.
pub(crate) struct Original {
    seen: Option<Seen>,
    budget: Arc<Budget>,
    shown: Option<oneshot::Sender<Seen>>,
}

/// What was seen of it.
pub(super) struct Seen {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// `None` once it is too long to be compared.
    pub(super) body: Option<Held>,
    pub(super) trailers: HeaderMap,
}

impl Seen {
    pub(super) fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            headers: &self.headers,
            body: self.body.as_deref(),
            trailers: &self.trailers,
        }
    }
}

impl Original {
    pub(super) fn new(budget: Arc<Budget>) -> (Box<Self>, oneshot::Receiver<Seen>) {
        let (shown, seen) = oneshot::channel();
        (Box::new(Self { seen: None, budget, shown: Some(shown) }), seen)
    }

    /// Its head has arrived; the last one counts.
    pub(crate) fn head(&mut self, head: &ResponseHeader) {
        let (status, headers) = (head.status, head.headers.clone());
        let body = Some(self.budget.body());
        self.seen = Some(Seen { status, headers, body, trailers: HeaderMap::new() });
    }

    pub(crate) fn piece(&mut self, piece: &[u8]) {
        if self.shown.as_ref().is_none_or(oneshot::Sender::is_closed) {
            // The copy has failed: there is nobody to show it to.
            self.seen = None;
        }
        let Some(seen) = &mut self.seen else { return };
        if seen.body.as_mut().is_some_and(|body| body.push(piece).is_err()) {
            seen.body = None;
        }
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(seen) = &mut self.seen {
            seen.trailers.clone_from(trailers);
        }
    }

    /// It has ended well.
    pub(crate) fn end(&mut self) {
        if let (Some(seen), Some(shown)) = (self.seen.take(), self.shown.take()) {
            // Whoever would compare it may have given up.
            let _ = shown.send(seen);
        }
    }
}
