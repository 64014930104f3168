//! How many requests may be in flight at an upstream, and a bounded queue before it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Counts the requests in flight and lets no more in than may be. Where there is room, entering costs
/// one atomic step; where there is none, requests wait in their order.
///
/// Kept by the upstream's name: what is in flight outlives a reload, whatever else it changes.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: AtomicU32,
    inside: AtomicU32,
    waiting: AtomicU32,
    queue: Mutex<VecDeque<oneshot::Sender<Slot>>>,
    /// How many gave up that may still stand in the queue.
    gone: AtomicU32,
}

/// One that waits. Dropped, it has given up.
struct Waiting<'a>(&'a Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.gone.fetch_add(1, Ordering::SeqCst);
    }
}

/// One request in flight, until dropped: then the next one in the queue takes its place.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Gate>);

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// So many wait already that no more may.
    Full,
    /// It waited for as long as it may.
    TooLate,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            limit: AtomicU32::new(u32::MAX),
            inside: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            queue: Mutex::default(),
            gone: AtomicU32::new(0),
        }
    }
}

impl Gate {
    /// How many wait.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many may be in flight.
    pub(super) fn limited_to(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many are.
    pub(super) fn inside(&self) -> u32 {
        self.inside.load(Ordering::Relaxed)
    }

    /// From now on so many may be in flight; what is more goes out in its time.
    pub(super) fn limit(self: &Arc<Self>, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
        self.admit();
    }

    /// Lets a request in at once if there is room and nobody waits.
    pub(super) fn try_enter(self: &Arc<Self>) -> Option<Slot> {
        (self.waiting.load(Ordering::SeqCst) == 0).then(|| self.take()).flatten()
    }

    /// Lets a request in as soon as it is its turn, if it may wait for that.
    pub(super) async fn enter(
        self: &Arc<Self>,
        queue: u32,
        longest: Duration,
    ) -> Result<Slot, Refused> {
        if let Some(slot) = self.try_enter() {
            return Ok(slot);
        }
        let (turn, mine) = oneshot::channel();
        {
            let mut waiters = self.waiters();
            if waiters.len() >= queue as usize && self.gone.swap(0, Ordering::SeqCst) > 0 {
                // Those whose clients are gone, or whose time is up, do not count.
                waiters.retain(|waiter| !waiter.is_closed());
            }
            if waiters.len() >= queue as usize {
                self.count(&waiters);
                return Err(Refused::Full);
            }
            waiters.push_back(turn);
            self.count(&waiters);
        }
        let waiting = Waiting(self);
        // Whoever left before this one was counted did not see it.
        self.admit();
        match tokio::time::timeout(longest, mine).await {
            Ok(Ok(slot)) => {
                std::mem::forget(waiting);
                Ok(slot)
            }
            _ => Err(Refused::TooLate),
        }
    }

    fn take(self: &Arc<Self>) -> Option<Slot> {
        let limit = self.limit.load(Ordering::SeqCst);
        let more = |inside| (inside < limit).then_some(inside + 1);
        let taken = self.inside.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.is_ok().then(|| Slot(self.clone()))
    }

    /// Lets in those who wait, as many as there is room for.
    fn admit(self: &Arc<Self>) {
        // What is given to nobody is given back outside of the lock.
        let mut unwanted = Vec::new();
        let mut waiters = self.waiters();
        while let Some(next) = waiters.front() {
            if next.is_closed() {
                waiters.pop_front();
                continue;
            }
            let Some(slot) = self.take() else { break };
            let Some(next) = waiters.pop_front() else { break };
            unwanted.extend(next.send(slot).err());
        }
        self.count(&waiters);
        drop(waiters);
    }

    fn count(&self, waiters: &VecDeque<oneshot::Sender<Slot>>) {
        let waiting = u32::try_from(waiters.len()).unwrap_or(u32::MAX);
        self.waiting.store(waiting, Ordering::SeqCst);
    }

    fn waiters(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<Slot>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.admit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(10);

    fn gate(limit: u32) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        gate.limit(limit);
        gate
    }

    #[tokio::test]
    async fn no_more_get_in_than_may_and_no_more_wait_than_may() {
        let gate = gate(2);
        let inside = [gate.try_enter().unwrap(), gate.try_enter().unwrap()];

        assert!(gate.try_enter().is_none());
        assert_eq!(gate.enter(0, LATE).await.err(), Some(Refused::Full));
        assert_eq!(gate.enter(1, SOON).await.err(), Some(Refused::TooLate));

        drop(inside);
        assert!(gate.enter(0, LATE).await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_gets_in_in_order_and_before_who_comes_later() {
        let gate = gate(1);
        let inside = gate.try_enter().unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |number: u32| {
            let (gate, order) = (gate.clone(), order.clone());
            tokio::spawn(async move {
                let slot = gate.enter(10, LATE).await.unwrap();
                order.lock().unwrap().push(number);
                drop(slot);
            })
        };
        let mut waiters = Vec::new();
        for number in 0..5 {
            waiters.push(wait(number));
            while gate.waiting() <= number {
                tokio::task::yield_now().await;
            }
        }
        assert!(gate.try_enter().is_none());

        drop(inside);
        for waiter in waiters {
            waiter.await.unwrap();
        }

        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!((gate.waiting(), gate.inside.load(Ordering::SeqCst)), (0, 0));
    }

    #[tokio::test]
    async fn who_gives_up_keeps_no_place() {
        let gate = gate(1);
        let inside = gate.try_enter().unwrap();
        assert_eq!(gate.enter(1, SOON).await.err(), Some(Refused::TooLate));

        let (second, _) = tokio::join!(gate.enter(1, LATE), async { drop(inside) });

        drop(second.unwrap());
        assert!(gate.try_enter().is_some(), "the place of who gave up is free");
    }

    #[tokio::test]
    async fn a_limit_that_grows_lets_in_who_waits_and_one_that_shrinks_waits_for_who_leaves() {
        let gate = gate(1);
        let first = gate.try_enter().unwrap();
        let (second, ()) = tokio::join!(gate.enter(1, LATE), async { gate.limit(2) });
        let second = second.unwrap();

        gate.limit(1);
        drop(first);
        assert!(gate.try_enter().is_none());
        drop(second);
        assert!(gate.try_enter().is_some());
    }

    /// Threads that come and go without end: nobody is forgotten in the queue.
    #[test]
    fn nobody_is_left_waiting_under_load() {
        let gate = gate(3);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
        runtime.unwrap().block_on(async {
            let tasks: Vec<_> = (0..32)
                .map(|_| {
                    let gate = gate.clone();
                    tokio::spawn(async move {
                        for _ in 0..500 {
                            let slot = gate.enter(100, LATE).await.expect("its turn comes");
                            assert!(gate.inside.load(Ordering::SeqCst) <= 3);
                            tokio::task::yield_now().await;
                            drop(slot);
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!((gate.waiting(), gate.inside.load(Ordering::SeqCst)), (0, 0));
    }
}
