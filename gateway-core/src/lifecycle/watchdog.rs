//! Tells that all threads that serve are alive, as long as they are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::runtime::Handle;

use super::State;
use crate::notify::Notify;

/// How often it is looked whether all have answered.
const STEP: Duration = Duration::from_millis(10);

/// Begins to tell it, if it is waited for. `threads` are those that are asked, each with its name.
pub(super) fn watch(state: &Arc<State>, threads: Vec<(String, Handle)>) -> io::Result<()> {
    let Some(timeout) = state.notify.watchdog() else {
        return Ok(());
    };
    let (notify, state) = (state.notify, Arc::downgrade(state));
    let name = "gateway-watchdog".to_owned();
    let watch = move || run(notify, &state, &threads, timeout / 2);
    thread::Builder::new().name(name).spawn(watch).map(drop)
}

fn run(notify: Notify, state: &Weak<State>, threads: &[(String, Handle)], interval: Duration) {
    while state.upgrade().is_some_and(|state| !state.is_handed_over()) {
        let began = Instant::now();
        match silent(threads, interval) {
            None => notify.lives(),
            Some(thread) => {
                tracing::error!(
                    thread,
                    "stands still; whoever watches the gateway is not told that it lives"
                );
            }
        }
        thread::sleep(interval.saturating_sub(began.elapsed()));
    }
}

/// One of the threads that has not answered within this time, if there is one.
fn silent(threads: &[(String, Handle)], within: Duration) -> Option<&str> {
    let answered: Vec<_> = threads.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
    for ((_, thread), answered) in threads.iter().zip(&answered) {
        let answered = answered.clone();
        thread.spawn(async move { answered.fetch_add(1, Ordering::Release) });
    }
    let until = Instant::now() + within;
    loop {
        let silent = answered.iter().position(|count| count.load(Ordering::Acquire) == 0)?;
        if Instant::now() >= until {
            return Some(&threads[silent].0);
        }
        thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stands_still_is_found() {
        let alive = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let stuck = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let threads = vec![
            ("alive".to_owned(), alive.handle().clone()),
            ("stuck".to_owned(), stuck.handle().clone()),
        ];

        assert_eq!(silent(&threads[..1], Duration::from_secs(10)), None);
        assert_eq!(silent(&threads, Duration::from_millis(50)), Some("stuck"));
    }
}
