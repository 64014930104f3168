//! `Alarm`: the one timer of a connection, set anew only when it has to be.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// The longest time an alarm is set for. Pingora keeps a timer until its time has come, wanted or
/// not; one that rings too early costs less.
const LONGEST: Duration = Duration::from_secs(60);

/// A timer that follows a deadline which is moved at every request. Rings up to 10 ms late.
///
/// Of Pingora's kind: where no timer of tokio's is pending, its driver does not look at the clock
/// every time it looks for events.
pub(crate) struct Alarm {
    at: Instant,
    ring: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { at: Instant::now(), ring: None }
    }

    /// Ready once `deadline` has passed.
    pub(crate) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // An early ring costs less than setting the alarm later at every request.
            let ring = match &mut self.ring {
                Some(ring) if self.at <= deadline => ring,
                _ => {
                    let now = Instant::now();
                    if now >= deadline {
                        return Poll::Ready(());
                    }
                    self.at = deadline.min(now + LONGEST);
                    self.ring.insert(Box::pin(pingora::time::sleep(self.at - now)))
                }
            };
            ready!(ring.as_mut().poll(cx));
            self.ring = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_deadline_that_moves_either_way_is_met_and_not_before() {
        let mut alarm = Alarm::new();
        let began = Instant::now();
        let after = |millis| began + Duration::from_millis(millis);
        let far = after(600_000);

        let waiting = poll_fn(|cx| Poll::Ready(alarm.poll(far, cx).is_pending())).await;
        assert!(waiting);
        poll_fn(|cx| alarm.poll(after(50), cx)).await;
        assert!((50..500).contains(&began.elapsed().as_millis()));
        poll_fn(|cx| alarm.poll(after(90), cx)).await;
        assert!(began.elapsed() >= Duration::from_millis(90));
    }
}
