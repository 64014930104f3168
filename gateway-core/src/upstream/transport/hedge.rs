//! Hedging: a request that has no answer after the usual time is sent a second time, to another
//! endpoint, and the first answer counts.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pingora::{Error, ErrorType, Result};

use super::answer::Answer;
use crate::telemetry::RetryReason;
use crate::upstream::{Choice, Place, Upstream, Watch};

/// An attempt on its way.
pub(super) type Try = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// What a second attempt would be.
pub(crate) struct Hedge {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) worker: usize,
    pub(crate) key: Option<u64>,
    pub(crate) cookie: Option<u64>,
    /// The endpoint of the first attempt.
    pub(crate) first: SocketAddr,
    /// The client's end of its connection, and the gateway's, which endpoints may be told.
    pub(crate) ends: [SocketAddr; 2],
    pub(crate) began: Instant,
    /// After which time.
    pub(crate) after: Duration,
    /// What became of it.
    second: Mutex<Option<Second>>,
    /// What the first attempt ended with, if the second was still on its way.
    first_failed: Mutex<Option<Failed>>,
}

/// What an attempt ended with, and when.
pub(crate) type Failed = (Box<Error>, Instant);

/// A second attempt that was made.
pub(crate) struct Second {
    pub(crate) place: Place,
    pub(crate) began: Instant,
    pub(crate) reused: bool,
    pub(crate) connected: Option<Instant>,
    pub(crate) won: bool,
    /// It did not lose, but fail.
    pub(crate) failed: Option<Failed>,
}

impl Hedge {
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        watch: Arc<Watch>,
        choice: &Choice<'_>,
        first: SocketAddr,
        ends: [SocketAddr; 2],
        after: Duration,
    ) -> Self {
        Self {
            upstream,
            watch,
            worker: choice.worker,
            key: choice.key,
            cookie: choice.cookie,
            first,
            ends,
            began: Instant::now(),
            after,
            second: Mutex::default(),
            first_failed: Mutex::default(),
        }
    }

    fn second(&self) -> MutexGuard<'_, Option<Second>> {
        self.second.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The second attempt, if there was one. Whoever asks has it.
    pub(crate) fn take_second(&self) -> Option<Second> {
        self.second().take()
    }

    /// What the first attempt ended with while the second was on its way. Whoever asks has it.
    pub(crate) fn take_first_failure(&self) -> Option<Failed> {
        self.first_failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Another endpoint for a second attempt, if there is one and the budget has room.
    pub(super) fn choose(&self) -> Option<Place> {
        let avoid = [self.first];
        let choice = Choice {
            worker: self.worker,
            first: false,
            now: self.watch.now(),
            key: self.key,
            cookie: self.cookie,
            avoid: &avoid,
        };
        let place = self.upstream.choose(choice)?;
        // Where there is no other the first is chosen again, which would help nobody.
        let other = place.address != self.first;
        let retry = self.upstream.retry()?;
        if !other {
            return None;
        }
        if !retry.spend(self.watch.now()) {
            self.upstream.metrics().retry_refused();
            return None;
        }
        self.upstream.metrics().retried(RetryReason::Hedge);
        Some(place)
    }

    /// A second attempt begins here.
    pub(super) fn begins(&self, place: Place) {
        let began = Instant::now();
        let second =
            Second { place, began, reused: false, connected: None, won: false, failed: None };
        *self.second() = Some(second);
    }

    /// It has a connection.
    pub(super) fn is_connected(&self, reused: bool) {
        if let Some(second) = self.second().as_mut() {
            second.reused = reused;
            second.connected = (!reused).then(Instant::now);
        }
    }

    fn wins(&self) {
        if let Some(second) = self.second().as_mut() {
            second.won = true;
        }
    }

    fn first_fails(&self, failed: Failed) {
        let mut held = self.first_failed.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(failed);
    }

    /// The second attempt has ended; the first goes on.
    fn fails(&self, error: Box<Error>) {
        if let Some(second) = self.second().as_mut() {
            second.place.leave();
            second.failed = Some((error, Instant::now()));
        }
    }

    /// The first answer of the two; `begin` makes the second attempt. If both fail, what the first
    /// failed of.
    pub(super) async fn race(
        &self,
        first: &mut Try,
        begin: impl FnOnce(Place) -> Try,
    ) -> Result<Answer> {
        let wait = self.after.saturating_sub(self.began.elapsed());
        tokio::select! {
            biased;
            answer = first.as_mut() => return answer,
            () = tokio::time::sleep(wait) => {}
        }
        let Some(place) = self.choose() else { return first.as_mut().await };
        let mut second = begin(place);
        tokio::select! {
            biased;
            answer = first.as_mut() => match answer {
                Ok(answer) => Ok(answer),
                Err(failed) => {
                    // Noted before the second is waited for: the wait may be ended.
                    self.first_fails((failed, Instant::now()));
                    match second.await {
                        Ok(answer) => {
                            self.wins();
                            Ok(answer)
                        }
                        Err(error) => {
                            let first = self.take_first_failure();
                            let both = first.map_or_else(no_failure, |(failed, _)| failed);
                            self.fails(error);
                            Err(both)
                        }
                    }
                }
            },
            answer = second.as_mut() => match answer {
                Ok(answer) => {
                    self.wins();
                    Ok(answer)
                }
                Err(error) => {
                    self.fails(error);
                    first.as_mut().await
                }
            },
        }
    }
}

/// Nobody but the race takes a failure out while it runs.
fn no_failure() -> Box<Error> {
    Error::new(ErrorType::InternalError)
}
