//! The watch: one thread that ends exchanges whose time is up.
//!
//! Every request to an upstream has a slot. Its hooks say what is being waited for and for how
//! long; reading the clock for that costs one load. Every [`ROUND`] the watch looks through the
//! slots, and where a deadline has passed it notes why and shuts the upstream's connection down,
//! which ends the request through Pingora's ordinary error path.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::idle::Idle;
use super::transport::Cut;
use super::{CoarseClock, SocketId};
use crate::listener::ClientWaits;
use crate::telemetry::FailureCode;

/// How often the watch looks; deadlines are met within twice this.
const ROUND: Duration = Duration::from_millis(10);

/// How long after a deadline the watch has certainly met it, unless the machine stands still.
pub(super) const LATEST: Duration = Duration::from_millis(3 * 10);

/// Every how many rounds idle connections are looked at.
const IDLE_ROUNDS: u64 = 10;

/// How soon to look again at an exchange that waits for its client.
const STALLED: u64 = 100;

/// What an attempt runs on, and how it is ended from outside.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// A connection of its own.
    Connection(SocketId),
    /// One stream of a connection.
    Stream(Arc<Cut>),
}

impl Line {
    fn end(&self) {
        match self {
            Self::Connection(socket) => drop(socket.shut_down()),
            Self::Stream(cut) => cut.now(),
        }
    }

    /// Whether the endpoint takes nothing more for now.
    fn is_full(&self) -> bool {
        match self {
            Self::Connection(socket) => socket.is_full(),
            Self::Stream(cut) => cut.is_full(),
        }
    }
}

/// What one request waits for.
struct Slot {
    started: u64,
    total: u64,
    deadline: u64,
    reason: FailureCode,
    line: Option<Line>,
    /// Whether the request is still on its way up.
    sending: bool,
    /// Until when it is the endpoint that may take its time, where the client is waited for.
    taken: u64,
    waits: Arc<ClientWaits>,
    fired: Option<FailureCode>,
    used: bool,
    /// It is a connection without requests, or has become one.
    bare: bool,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
    idle: Idle,
}

/// The slots of all requests, apart by worker so that workers never wait for each other.
pub(crate) struct Watch {
    clock: CoarseClock,
    workers: Box<[Mutex<Slots>]>,
}

impl Watch {
    /// Starts the thread. It ends when the last handle is gone.
    pub(crate) fn start(workers: usize) -> std::io::Result<Arc<Self>> {
        let workers = (0..workers.max(1)).map(|_| Mutex::default()).collect();
        let watch = Arc::new(Self { clock: CoarseClock::new(), workers });
        let weak = Arc::downgrade(&watch);
        thread::Builder::new().name("gateway-watch".into()).spawn(move || run(&weak))?;
        Ok(watch)
    }

    /// Takes a slot for a request of this worker that begins now. `waits` says whether its client
    /// takes what it is sent.
    pub(crate) fn begin(self: &Arc<Self>, worker: usize, waits: Arc<ClientWaits>) -> Watched {
        let worker = worker % self.workers.len();
        let slot = Slot {
            started: self.clock.now(),
            total: u64::MAX,
            deadline: u64::MAX,
            reason: FailureCode::X7,
            line: None,
            sending: false,
            taken: u64::MAX,
            waits,
            fired: None,
            used: true,
            bare: false,
        };
        let mut slots = self.slots(worker);
        let place = match slots.free.pop() {
            Some(place) => {
                slots.slots[place] = slot;
                place
            }
            None => {
                slots.slots.push(slot);
                slots.slots.len() - 1
            }
        };
        drop(slots);
        Watched {
            watch: self.clone(),
            worker,
            place,
            total: AtomicU64::new(u64::MAX),
            attached: AtomicBool::new(false),
        }
    }

    /// The moment by the coarse clock, in milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// How many requests are in flight, and the age of the oldest. Connections that carry none do not count.
    pub(crate) fn in_flight(&self) -> (usize, Duration) {
        let now = self.clock.now();
        let mut count = 0;
        let mut oldest = 0;
        for worker in 0..self.workers.len() {
            for slot in self.slots(worker).slots.iter().filter(|slot| slot.used && !slot.bare) {
                count += 1;
                oldest = oldest.max(now.saturating_sub(slot.started));
            }
        }
        (count, Duration::from_millis(oldest))
    }

    /// Whether nothing is in flight, requests or connections that carry none.
    pub(crate) fn is_empty(&self) -> bool {
        (0..self.workers.len()).all(|worker| !self.slots(worker).slots.iter().any(|slot| slot.used))
    }

    /// Ends every exchange with an upstream now, because the gateway stops.
    pub(crate) fn cut(&self) {
        for worker in 0..self.workers.len() {
            let mut slots = self.slots(worker);
            let running = slots.slots.iter_mut().filter(|slot| slot.used && slot.fired.is_none());
            running.for_each(|slot| slot.end(FailureCode::G3));
        }
    }

    fn slots(&self, worker: usize) -> std::sync::MutexGuard<'_, Slots> {
        self.workers[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn round(&self, look_at_idle: bool) {
        let now = self.clock.advance();
        for worker in 0..self.workers.len() {
            let mut slots = self.slots(worker);
            for slot in &mut slots.slots {
                if slot.used && slot.fired.is_none() && slot.deadline.min(slot.total) <= now {
                    slot.fire(now);
                }
            }
            if look_at_idle {
                slots.idle.expire(now);
            }
        }
    }
}

impl Slot {
    fn fire(&mut self, now: u64) {
        let blames_upstream = self.total > now && self.reason == FailureCode::X4;
        let blames_client = self.total > now && self.reason == FailureCode::D4;
        if blames_client && self.line.as_ref().is_some_and(Line::is_full) {
            // The client may have brought more, which nobody reads before the last is taken.
            if now < self.taken {
                self.deadline = self.taken;
                return;
            }
            self.reason = FailureCode::X4;
        }
        let on_client = match self.sending {
            true => &self.waits.to_read,
            false => &self.waits.to_write,
        };
        if blames_upstream && on_client.load(Ordering::Relaxed) {
            // The listener's timeouts bound how long a client may do this.
            self.deadline = now + STALLED;
            return;
        }
        self.end(if self.total <= now { FailureCode::X7 } else { self.reason });
    }

    fn end(&mut self, reason: FailureCode) {
        self.fired = Some(reason);
        if let Some(line) = &self.line {
            line.end();
        }
    }
}

fn run(watch: &Weak<Watch>) {
    for round in 0_u64.. {
        let Some(watch) = watch.upgrade() else { return };
        watch.round(round % IDLE_ROUNDS == 0);
        drop(watch);
        thread::sleep(ROUND);
    }
}

/// One request's slot, given back when dropped.
pub(crate) struct Watched {
    watch: Arc<Watch>,
    worker: usize,
    place: usize,
    /// What the slot says too, to be known without a lock.
    total: AtomicU64,
    attached: AtomicBool,
}

impl Watched {
    /// Ends the whole request `after` from now.
    pub(crate) fn limit_total(&self, after: Duration) {
        let total = self.watch.clock.deadline(after, ROUND);
        self.total.store(total, Ordering::Relaxed);
        self.with(|slot| slot.total = total);
    }

    /// Nothing is waited for any more, and the request may take as long as it likes: it is none any more. It is cut
    /// when all are.
    pub(crate) fn unbound(&self) {
        self.total.store(u64::MAX, Ordering::Relaxed);
        self.with(|slot| (slot.deadline, slot.total, slot.bare) = (u64::MAX, u64::MAX, true));
    }

    /// It is no request, but a connection that knows none.
    pub(crate) fn is_connection(&self) {
        self.with(|slot| slot.bare = true);
    }

    /// From now on this connection carries the request, and an answer is waited for. Says whether
    /// it can: a connection from the pool may have been shut down at the last moment, and the
    /// request's time may have been up before it had a connection.
    #[must_use]
    pub(crate) fn attach(&self, line: Option<Line>, reason: FailureCode, after: Duration) -> bool {
        let deadline = self.watch.clock.deadline(after, ROUND);
        self.attached.store(true, Ordering::Relaxed);
        let mut slots = self.watch.slots(self.worker);
        let slot = &mut slots.slots[self.place];
        slot.line = line;
        slot.deadline = deadline;
        slot.reason = reason;
        slot.sending = false;
        let fired = slot.fired.is_some();
        if fired && let Some(line) = &slot.line {
            line.end();
        }
        match slot.line {
            Some(Line::Connection(socket)) => slots.idle.take(&socket) && !fired,
            _ => !fired,
        }
    }

    /// The exchange is complete: its connection is no longer this request's. In the pool it may
    /// wait for another for as long as `keepalive`; it is ended if that is zero.
    pub(crate) fn release(&self, keepalive: Duration) {
        if !self.attached.load(Ordering::Relaxed) {
            return;
        }
        self.attached.store(false, Ordering::Relaxed);
        let until = self.watch.clock.deadline(keepalive, ROUND);
        let mut slots = self.watch.slots(self.worker);
        let slot = &mut slots.slots[self.place];
        slot.deadline = u64::MAX;
        match slot.line.take() {
            // The pool looks at what it is given, and keeps nothing that has ended.
            Some(Line::Connection(socket)) if keepalive.is_zero() => drop(socket.shut_down()),
            Some(Line::Connection(socket)) => slots.idle.park(socket, until),
            Some(Line::Stream(_)) | None => {}
        }
    }

    /// Waits for something that may take `after` from now; `reason` is what it means if it does
    /// not come. Replaces what was waited for before.
    pub(crate) fn expect(&self, reason: FailureCode, after: Duration) {
        let deadline = self.watch.clock.deadline(after, ROUND);
        self.with(|slot| {
            slot.deadline = deadline;
            slot.reason = reason;
            slot.sending = false;
        });
    }

    /// Waits `after` from now for the client to bring the next piece of the request, unless it is the
    /// upstream that does not take the last one, for as long as `idle`.
    pub(crate) fn expect_brought(&self, after: Duration, idle: Duration) {
        let deadline = self.watch.clock.deadline(after, ROUND);
        let taken = self.watch.clock.deadline(idle, ROUND);
        self.with(|slot| {
            slot.deadline = deadline;
            slot.reason = FailureCode::D4;
            slot.sending = false;
            slot.taken = taken;
        });
    }

    /// Waits for the upstream to take the next piece of the request, unless it is the client that
    /// does not bring one.
    pub(crate) fn expect_taken(&self, after: Duration) {
        let deadline = self.watch.clock.deadline(after, ROUND);
        self.with(|slot| {
            slot.deadline = deadline;
            slot.reason = FailureCode::X4;
            slot.sending = true;
        });
    }

    /// Nothing is waited for any more, but for the request's total time.
    pub(crate) fn relax(&self) {
        self.with(|slot| slot.deadline = u64::MAX);
    }

    /// The attempt has failed, and another one begins: whatever ended it is over.
    pub(crate) fn rearm(&self) {
        self.detach();
        self.with(|slot| slot.fired = None);
    }

    /// Nothing is wanted of the attempt any more: if it is one stream of several, it ends, and it alone.
    pub(crate) fn give_up(&self) {
        self.with(|slot| {
            if let Some(Line::Stream(cut)) = &slot.line {
                cut.give_up();
            }
        });
    }

    /// The exchange has failed: its connection is no longer this request's.
    pub(crate) fn detach(&self) {
        if !self.attached.load(Ordering::Relaxed) {
            return;
        }
        self.attached.store(false, Ordering::Relaxed);
        self.with(|slot| {
            slot.line = None;
            slot.deadline = u64::MAX;
        });
    }

    /// Why the watch ended the exchange, if it did.
    pub(crate) fn fired(&self) -> Option<FailureCode> {
        self.watch.slots(self.worker).slots[self.place].fired
    }

    /// The moment by the coarse clock, in milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.watch.now()
    }

    /// How much of the request's total time is left; `None` if it has no limit.
    pub(crate) fn left(&self) -> Option<Duration> {
        let total = self.total.load(Ordering::Relaxed);
        let left = total.saturating_sub(self.watch.clock.now());
        (total != u64::MAX).then(|| Duration::from_millis(left))
    }

    fn with(&self, change: impl FnOnce(&mut Slot)) {
        change(&mut self.watch.slots(self.worker).slots[self.place]);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut slots = self.watch.slots(self.worker);
        slots.slots[self.place].used = false;
        slots.free.push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::socket::tests::connection;
    use super::*;

    #[test]
    fn an_exchange_whose_time_is_up_is_ended_with_its_reason() {
        let watch = Watch::start(1).unwrap();
        let (mut client, _server, socket) = connection();
        let watched = watch.begin(0, Arc::default());

        assert!(watched.attach(
            Some(Line::Connection(socket)),
            FailureCode::X3,
            Duration::from_millis(30)
        ));

        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "the read ends without a byte");
        assert_eq!(watched.fired(), Some(FailureCode::X3));
    }

    #[test]
    fn the_total_time_outranks_what_is_waited_for() {
        let watch = Watch::start(1).unwrap();
        let (mut client, _server, socket) = connection();
        let watched = watch.begin(0, Arc::default());

        assert!(watched.attach(
            Some(Line::Connection(socket)),
            FailureCode::X4,
            Duration::from_secs(60)
        ));
        watched.limit_total(Duration::from_millis(30));

        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(watched.fired(), Some(FailureCode::X7));
    }

    #[test]
    fn a_connection_that_comes_when_the_time_is_up_is_ended_at_once() {
        let watch = Watch::start(1).unwrap();
        let (mut client, _server, socket) = connection();
        let watched = watch.begin(0, Arc::default());
        watched.limit_total(Duration::ZERO);
        while watched.fired().is_none() {
            thread::yield_now();
        }

        assert!(!watched.attach(
            Some(Line::Connection(socket)),
            FailureCode::X3,
            Duration::from_secs(60)
        ));

        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_connection_that_no_request_takes_again_is_ended() {
        let watch = Watch::start(1).unwrap();
        let (mut client, _server, socket) = connection();
        let watched = watch.begin(0, Arc::default());
        assert!(watched.attach(
            Some(Line::Connection(socket)),
            FailureCode::X3,
            Duration::from_secs(60)
        ));

        watched.release(Duration::from_millis(30));

        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(watched.fired(), None);
    }

    #[test]
    fn a_slot_is_used_again_and_counted_once() {
        let watch = Watch::start(2).unwrap();

        let first = watch.begin(0, Arc::default());
        let second = watch.begin(1, Arc::default());
        assert_eq!(watch.in_flight().0, 2);
        drop(first);
        let third = watch.begin(0, Arc::default());

        assert_eq!(watch.in_flight().0, 2);
        assert_eq!(third.place, 0);
        drop((second, third));
        assert_eq!(watch.in_flight().0, 0);
    }
}
