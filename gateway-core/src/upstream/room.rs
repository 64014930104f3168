//! Where a request waits whose endpoints are all full: a bounded queue before the choice of an endpoint.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Choice, Place, Refused, Upstream};

/// Tells those who wait that an endpoint has room again.
#[derive(Debug, Default)]
pub(super) struct Room {
    left: Notify,
    waiting: AtomicU32,
}

impl Room {
    /// A request has left an endpoint: whoever has waited longest looks again.
    pub(super) fn is_left(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.left.notify_one();
        }
    }

    /// Endpoints have come, or come back: whoever waits looks again.
    pub(super) fn is_changed(&self) {
        self.left.notify_waiters();
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// One that waits, until dropped.
struct Waiting<'a>(&'a Room);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Upstream {
    /// Whether others wait already.
    fn is_queued(&self) -> bool {
        self.config.limits.endpoint_in_flight.is_some() && self.states.room.waiting() > 0
    }

    /// Chooses the endpoint of a first attempt, after a wait where all are full and it may wait.
    pub(crate) async fn choose_or_wait(
        &self,
        choice: Choice<'_>,
        left: Option<Duration>,
    ) -> Option<Place> {
        let queued = self.is_queued();
        let at_once = if queued { None } else { self.choose(choice) };
        match at_once {
            None if self.queues() => {
                let choice = Choice { first: queued, ..choice };
                // Boxed, so that requests which need not wait do not carry the room for it.
                Box::pin(self.choose_soon(choice, left)).await.ok()
            }
            chosen => chosen,
        }
    }

    /// Waits until an endpoint has room, if the request may wait for that.
    pub(super) async fn choose_soon(
        &self,
        choice: Choice<'_>,
        left: Option<Duration>,
    ) -> Result<Place, Refused> {
        let limits = &self.config.limits;
        let room: &Arc<Room> = &self.states.room;
        let waiting = room.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(room);
        let outcome = if waiting >= limits.queue {
            Err(Refused::Full)
        } else {
            let longest = self.queue_timeout(left);
            let chosen =
                tokio::time::timeout(longest, self.choose_when_left(room, choice, waiting > 0))
                    .await;
            chosen.map_err(|_| Refused::TooLate)
        };
        if let Err(refused) = outcome {
            self.metrics.overflowed(refused == Refused::TooLate);
            return Err(refused);
        }
        outcome
    }

    /// Waits until a request has left an endpoint that is full, for who cannot go to the others: until `deadline`, if it
    /// may wait at all. Comes back at once if fewer are full than when it looked.
    pub(crate) async fn some_leaves(&self, full: usize, deadline: Instant) -> Result<(), Refused> {
        let room: &Arc<Room> = &self.states.room;
        let waiting = room.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(room);
        let outcome = if waiting >= self.config.limits.queue {
            Err(Refused::Full)
        } else {
            let mut left = pin!(room.left.notified());
            left.as_mut().enable();
            // Whoever leaves from here on sees that somebody waits.
            fence(Ordering::SeqCst);
            if self.full() < full {
                return Ok(());
            }
            let told = tokio::time::timeout_at(deadline.into(), left).await;
            told.map_err(|_| Refused::TooLate)
        };
        if let Err(refused) = outcome {
            self.metrics.overflowed(refused == Refused::TooLate);
        }
        outcome
    }

    /// How many endpoints could be chosen if they were not full.
    pub(crate) fn full(&self) -> usize {
        self.roster.load().full()
    }

    /// How long a request may wait for room.
    pub(crate) fn queue_timeout(&self, left: Option<Duration>) -> Duration {
        let longest: Duration = self.config.limits.queue_timeout.into();
        left.map_or(longest, |left| left.min(longest))
    }

    /// Who comes `behind` others takes no place before them.
    async fn choose_when_left(
        &self,
        room: &Room,
        mut choice: Choice<'_>,
        mut behind: bool,
    ) -> Place {
        // Whoever leaves from here on sees that somebody waits, or has left before the choice looks.
        fence(Ordering::SeqCst);
        loop {
            // Told of what happens from here on; who is told and does not take it tells the next.
            let mut left = pin!(room.left.notified());
            left.as_mut().enable();
            if !std::mem::take(&mut behind) {
                if let Some(place) = self.choose(choice) {
                    // Of several who leave in one moment only one is heard of; who takes a place and
                    // sees another tells the next.
                    if self.roster.load().has_room() {
                        room.is_left();
                    }
                    return place;
                }
                choice.first = false;
            }
            left.await;
        }
    }
}
