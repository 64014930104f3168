//! Containment: a hook that panics fails like one that returns an error, and its time is measured.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::HookError;

/// A hook panicked.
#[derive(Debug, thiserror::Error)]
#[error("the plugin panicked: {0}")]
pub(crate) struct Panicked(String);

/// A clock that is read once between two hooks, what one ends at being what the next begins at, and not at
/// all where there is none.
#[derive(Default)]
pub(crate) struct Clock(Option<Instant>);

impl Clock {
    fn begin(&mut self) {
        self.0.get_or_insert_with(Instant::now);
    }

    /// The time since it was read last.
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        self.0.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }
}

/// Runs an asynchronous hook to its end, with the time it took.
pub(crate) async fn contained<T>(
    clock: &mut Clock,
    hook: impl Future<Output = Result<T, HookError>>,
) -> Result<(T, Duration), HookError> {
    clock.begin();
    let outcome = AssertUnwindSafe(hook).catch_unwind().await;
    // Of one that fails as well: the next does not begin before.
    let time = clock.lap();
    match outcome {
        Ok(outcome) => Ok((outcome?, time)),
        Err(payload) => Err(Box::new(Panicked(message(&*payload)))),
    }
}

/// Runs a synchronous hook, with the time it took.
pub(crate) fn contained_sync<T>(
    clock: &mut Clock,
    hook: impl FnOnce() -> Result<T, HookError>,
) -> Result<(T, Duration), HookError> {
    clock.begin();
    let outcome = catch_unwind(AssertUnwindSafe(hook));
    let time = clock.lap();
    match outcome {
        Ok(outcome) => Ok((outcome?, time)),
        Err(payload) => Err(Box::new(Panicked(message(&*payload)))),
    }
}

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    text.or(owned).unwrap_or("without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        let outcome = contained_sync::<()>(&mut Clock::default(), || panic!("no such key"));

        let error = outcome.expect_err("the hook panicked");
        assert!(error.is::<Panicked>());
        assert_eq!(error.to_string(), "the plugin panicked: no such key");
    }

    #[tokio::test]
    async fn a_panic_after_a_wait_is_contained_too() {
        let mut clock = Clock::default();
        let outcome = contained::<()>(&mut clock, async {
            tokio::task::yield_now().await;
            panic!("later")
        });

        assert!(outcome.await.expect_err("the hook panicked").is::<Panicked>());
    }
}
