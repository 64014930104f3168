//! `Place`: one request in flight at an endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Endpoint;

/// An endpoint as a roster holds it.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    /// One for each worker.
    seats: Arc<[Arc<Seat>]>,
}

impl Member {
    pub(super) fn new(endpoint: Arc<Endpoint>, workers: usize) -> Self {
        let seat = |worker| Arc::new(Seat { endpoint: endpoint.clone(), worker });
        let seats = (0..workers.max(1)).map(seat).collect();
        Self { endpoint, seats }
    }
}

impl std::ops::Deref for Member {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// A worker's own handle of an endpoint, whose references are counted apart from those of other
/// workers: a count that all of them write travels from core to core with every request.
#[repr(align(128))]
struct Seat {
    endpoint: Arc<Endpoint>,
    worker: usize,
}

/// A number of requests in flight, apart from everything else in memory: whoever writes what lies
/// beside it would slow down all who read it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Count(AtomicU32);

impl Count {
    pub(super) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn add_below(&self, most: u32) -> bool {
        let added = self.0.fetch_add(1, Ordering::Relaxed) < most;
        if !added {
            self.subtract();
        }
        added
    }

    fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One more request in flight at an endpoint, until it leaves or is dropped.
pub(crate) struct Place {
    seat: Arc<Seat>,
    left: bool,
}

impl Place {
    /// A place for a request of this worker. `None` if the endpoint has as many as it may.
    pub(super) fn take(member: &Member, worker: usize) -> Option<Self> {
        let seat = &member.seats[worker % member.seats.len()];
        let endpoint = &seat.endpoint;
        if !endpoint.decides {
            seat.count().add();
        } else if !endpoint.live.in_flight.add_below(endpoint.most) {
            return None;
        }
        if let Some(total) = &endpoint.total {
            total.add();
        }
        Some(Self { seat: seat.clone(), left: false })
    }

    /// The attempt is over; what is chosen next must not take it for load.
    pub(crate) fn leave(&mut self) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        let endpoint = self.endpoint();
        let count = if endpoint.decides { &endpoint.live.in_flight } else { self.seat.count() };
        count.subtract();
        if let Some(total) = &endpoint.total {
            total.subtract();
        }
        if let Some(room) = &endpoint.room {
            room.is_left();
        }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.seat.endpoint
    }
}

impl Seat {
    fn count(&self) -> &Count {
        let counts = &self.endpoint.live.counts;
        &counts[self.worker % counts.len()]
    }
}

impl std::ops::Deref for Place {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        self.endpoint()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}
