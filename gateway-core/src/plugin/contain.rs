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

/// Runs an asynchronous hook to its end, with the time it took.
pub(crate) async fn contained<T>(
    hook: impl Future<Output = Result<T, HookError>>,
) -> Result<(T, Duration), HookError> {
    let started = Instant::now();
    match AssertUnwindSafe(hook).catch_unwind().await {
        Ok(outcome) => Ok((outcome?, started.elapsed())),
        Err(payload) => Err(Box::new(Panicked(message(&*payload)))),
    }
}

/// Runs a synchronous hook, with the time it took.
pub(crate) fn contained_sync<T>(
    hook: impl FnOnce() -> Result<T, HookError>,
) -> Result<(T, Duration), HookError> {
    let started = Instant::now();
    match catch_unwind(AssertUnwindSafe(hook)) {
        Ok(outcome) => Ok((outcome?, started.elapsed())),
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
        let outcome = contained_sync::<()>(|| panic!("no such key"));

        let error = outcome.expect_err("the hook panicked");
        assert!(error.is::<Panicked>());
        assert_eq!(error.to_string(), "the plugin panicked: no such key");
    }

    #[tokio::test]
    async fn a_panic_after_a_wait_is_contained_too() {
        let outcome = contained::<()>(async {
            tokio::task::yield_now().await;
            panic!("later")
        });

        assert!(outcome.await.expect_err("the hook panicked").is::<Panicked>());
    }
}
