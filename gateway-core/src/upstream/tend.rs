//! The task that keeps an upstream's roster true while nobody reloads: it has endpoints checked, and
//! makes the next roster when one of them failed, came back, or has warmed up a little more.

use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::health::Checkers;
use super::{Upstream, discovery};

/// Begins to tend an upstream; what is returned ends it when dropped.
pub(super) fn begin(upstream: &Arc<Upstream>, runtime: &Handle) -> Tending {
    let (weak, stir) = (Arc::downgrade(upstream), upstream.states.stir.clone());
    let discovery = upstream
        .config
        .discover
        .clone()
        .map(|config| runtime.spawn(discovery::follow(weak.clone(), config)).abort_handle());
    let tending = runtime.spawn(tend(weak, stir)).abort_handle();
    Tending([Some(tending), discovery])
}

/// Tasks that end with their upstream, or when another takes its place.
#[derive(Debug)]
pub(super) struct Tending([Option<AbortHandle>; 2]);

impl Drop for Tending {
    fn drop(&mut self) {
        self.0.iter().flatten().for_each(AbortHandle::abort);
    }
}

async fn tend(upstream: Weak<Upstream>, stir: Arc<Notify>) {
    let mut checkers = Checkers::new();
    loop {
        let Some(upstream) = upstream.upgrade() else { return };
        let now = Instant::now();
        let (slow, adapted) = (upstream.eject_slow(now), upstream.adapt(now));
        let timed = upstream.time(now);
        let next = [upstream.refresh(now), slow, adapted, timed].into_iter().flatten().min();
        checkers.follow(&upstream);
        drop(upstream);
        match next {
            Some(next) => {
                tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => {}
                    () = stir.notified() => {}
                }
            }
            None => stir.notified().await,
        }
    }
}
