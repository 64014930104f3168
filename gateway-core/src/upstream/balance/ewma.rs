//! Peak EWMA: the less loaded of two by how long its answers take, not only by how many it owes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Random;
use super::least_requests::two;

/// How long it takes for an answer's time to count for little more than a third: long enough to see
/// through a slow request, short enough to forget a slow minute.
const MEMORY_MS: f32 = 10_000.0;
/// What an endpoint counts as that has never answered and owes an answer: not to be flooded before
/// it has shown what it can do.
const UNKNOWN_US: f32 = 1_000_000.0;

/// An average of the time to the first byte, in which a recent peak weighs most: it rises with a
/// slow answer at once and falls slowly. One number, moved without a lock: of two answers in the same
/// moment one may go uncounted.
#[derive(Debug, Default)]
pub(crate) struct Latency(
    /// Microseconds as an `f32`, above the moment they were noted in milliseconds of the gateway's
    /// coarse clock. 0 if nothing was.
    AtomicU64,
);

impl Latency {
    /// Notes how long an answer took.
    pub(crate) fn note(&self, took: Duration, now: u64) {
        let took = took.as_secs_f32() * 1e6;
        let next = match self.read() {
            Some((average, at)) if took < average => {
                let keep = kept(now, at);
                average * keep + took * (1.0 - keep)
            }
            _ => took,
        };
        let packed = u64::from(next.max(1.0).to_bits()) << 32 | u64::from(now as u32);
        self.0.store(packed, Ordering::Relaxed);
    }

    /// The average in microseconds as it counts now: it fades while there is no answer, so that a
    /// slow endpoint is tried again. `None` if there was no answer yet.
    pub(crate) fn now(&self, now: u64) -> Option<f32> {
        let (average, at) = self.read()?;
        Some(average * kept(now, at))
    }

    /// As an upgrade hands it on.
    pub(crate) fn kept(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on from there.
    pub(crate) fn keep(&self, kept: u64) {
        self.0.store(kept, Ordering::Relaxed);
    }

    fn read(&self) -> Option<(f32, u32)> {
        let packed = self.0.load(Ordering::Relaxed);
        (packed != 0).then(|| (f32::from_bits((packed >> 32) as u32), packed as u32))
    }
}

/// What is left of an average after the time since it was noted. The clock's low half comes round in
/// 49 days.
fn kept(now: u64, at: u32) -> f32 {
    let passed = (now as u32).wrapping_sub(at);
    // Threads may see the clock's steps in another order than the average's.
    let passed = if passed > u32::MAX / 2 { 0 } else { passed };
    (-(passed as f32) / MEMORY_MS).exp()
}

/// Peak EWMA over power of two choices, as in Finagle and Linkerd: two endpoints by chance, and of
/// them the one where the time of an answer times the requests in flight is less for its weight.
pub struct Ewma {
    pick: Random,
    weights: Box<[u32]>,
}

/// What an endpoint owes, and how long it takes to give.
#[derive(Clone, Copy)]
pub struct Load {
    /// Requests in flight.
    pub in_flight: u32,
    /// The average time of an answer in microseconds, if it is known.
    pub latency: Option<f32>,
}

impl Ewma {
    /// A choice among endpoints of these weights. Weight 0 is never chosen.
    pub fn new(weights: &[u32]) -> Self {
        Self { pick: Random::new(weights), weights: weights.into() }
    }

    /// The less loaded of the endpoints that two random numbers stand for.
    pub fn next(&self, random: [u32; 2], load: impl Fn(usize) -> Load) -> Option<usize> {
        let (first, second) = two(&self.pick, random)?;
        let cost = |place: usize| {
            let Load { in_flight, latency } = load(place);
            let latency = match latency {
                Some(latency) => latency,
                None if in_flight == 0 => 0.0,
                None => UNKNOWN_US,
            };
            latency * (in_flight as f32 + 1.0) / self.weights[place] as f32
        };
        Some(if cost(second) < cost(first) { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u32 = 0;
    const LAST: u32 = u32::MAX;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_average_rises_at_once_falls_slowly_and_fades() {
        let latency = Latency::default();
        assert_eq!(latency.now(7), None);

        latency.note(millis(10), 1_000);
        latency.note(millis(200), 1_000);
        assert_eq!(latency.now(1_000), Some(200_000.0));

        latency.note(millis(10), 1_100);
        let after_one = latency.now(1_100).unwrap();
        assert!((195_000.0..200_000.0).contains(&after_one), "{after_one}");

        let after_ten_seconds = latency.now(11_100).unwrap();
        assert!((after_ten_seconds / after_one - 0.3679).abs() < 0.001, "{after_ten_seconds}");
    }

    #[test]
    fn a_clock_that_seems_to_go_back_changes_nothing() {
        let latency = Latency::default();
        latency.note(millis(10), 1_000);

        assert_eq!(latency.now(990), Some(10_000.0));
        // The low half of the clock has come round.
        latency.note(millis(10), u64::from(u32::MAX));
        assert!(latency.now(u64::from(u32::MAX) + 10_000).unwrap() < 4_000.0);
    }

    fn load(in_flight: u32, latency_us: f32) -> Load {
        Load { in_flight, latency: Some(latency_us) }
    }

    #[test]
    fn the_one_that_answers_sooner_is_chosen_until_it_owes_more() {
        let balancer = Ewma::new(&[1, 1]);

        let slow = [load(0, 10_000.0), load(0, 100_000.0)];
        assert_eq!(balancer.next([LAST, FIRST], |place| slow[place]), Some(0));
        let busy = [load(20, 10_000.0), load(0, 100_000.0)];
        assert_eq!(balancer.next([FIRST, LAST], |place| busy[place]), Some(1));
    }

    #[test]
    fn one_that_has_never_answered_is_tried_once_and_then_waited_for() {
        let balancer = Ewma::new(&[1, 1]);
        let new = |in_flight| [load(3, 10_000.0), Load { in_flight, latency: None }];

        assert_eq!(balancer.next([FIRST, LAST], |place| new(0)[place]), Some(1));
        assert_eq!(balancer.next([FIRST, LAST], |place| new(1)[place]), Some(0));
    }

    #[test]
    fn more_weight_carries_more() {
        let balancer = Ewma::new(&[4, 1]);
        let loads = [load(5, 10_000.0), load(1, 10_000.0)];

        assert_eq!(balancer.next([FIRST, LAST], |place| loads[place]), Some(0));
    }
}
