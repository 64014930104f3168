//! The answer to a request that was copied, as it passes by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, StatusCode};
use pingora_http::ResponseHeader;
use tokio::sync::oneshot;

use super::budget::{Budget, Held};
use super::compare::Answer;

/// The answer to a request that was copied, as it passes by.
pub(crate) struct Original {
    slot: Arc<Slot>,
    budget: Arc<Budget>,
    ended: Option<oneshot::Sender<()>>,
}

/// Who waits for the original to end.
pub(super) struct Waiting {
    slot: Arc<Slot>,
    ended: oneshot::Receiver<()>,
}

/// What was seen of it so far; nothing once nobody waits any more.
struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    seen: Option<Seen>,
    given_up: bool,
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

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Original {
    pub(super) fn new(budget: Arc<Budget>) -> (Box<Self>, Waiting) {
        let (sender, ended) = oneshot::channel();
        let slot = Arc::new(Slot(Mutex::default()));
        let waiting = Waiting { slot: slot.clone(), ended };
        (Box::new(Self { slot, budget, ended: Some(sender) }), waiting)
    }

    /// Its head has arrived; the last one counts.
    pub(crate) fn head(&mut self, head: &ResponseHeader) {
        let mut state = self.slot.state();
        if state.given_up {
            return;
        }
        let (status, headers) = (head.status, head.headers.clone());
        let body = Some(self.budget.body());
        state.seen = Some(Seen { status, headers, body, trailers: HeaderMap::new() });
    }

    pub(crate) fn piece(&mut self, piece: &[u8]) {
        let mut state = self.slot.state();
        let Some(seen) = &mut state.seen else { return };
        if seen.body.as_mut().is_some_and(|body| body.push(piece).is_err()) {
            seen.body = None;
        }
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(seen) = &mut self.slot.state().seen {
            seen.trailers.clone_from(trailers);
        }
    }

    /// It has ended well.
    pub(crate) fn end(&mut self) {
        if let Some(ended) = self.ended.take() {
            // Whoever would compare it may have given up.
            let _ = ended.send(());
        }
    }
}

impl Waiting {
    /// All of it, once it has ended well; nothing if it fails.
    pub(super) async fn end(&mut self) -> Option<Seen> {
        (&mut self.ended).await.ok()?;
        self.slot.state().seen.take()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // An answer may go on for hours: what is held of it is needed no more.
        let mut state = self.slot.state();
        state.given_up = true;
        state.seen = None;
    }
}
