//! The bounded queue between workers and the writer: one buffer of whole lines, swapped when full.

use super::Losses;
use super::destination::Destination;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the writer gathers lines before it writes: a burst becomes one write, and workers wake
/// the writer at most so often.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes that may wait, per line of the queue's size.
const BYTES_PER_LINE: usize = 2048;
/// A queue of few lines still takes a long one.
const LEAST_BYTES: usize = 256 * 1024;
/// A buffer is given back to the allocator once it is larger than this.
const KEPT_BYTES: usize = 1024 * 1024;
/// Between two reports of an output that fails.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Shared by workers and the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Tells the writer.
    work: Condvar,
    /// Tells whoever waits for a flush.
    done: Condvar,
    max_lines: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    lines: usize,
    /// Lines taken since the start, and how many of them are written or lost.
    taken: u64,
    finished: u64,
    replacement: Option<Destination>,
    writer_sleeps: bool,
    hurry: bool,
    closed: bool,
}

impl Queue {
    /// Starts the writer; it ends once the queue is closed and empty.
    pub(super) fn start(
        max_lines: usize,
        destination: Destination,
        losses: Losses,
    ) -> io::Result<Arc<Queue>> {
        let queue = Arc::new(Queue {
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            done: Condvar::new(),
            max_lines,
            max_bytes: max_lines.saturating_mul(BYTES_PER_LINE).max(LEAST_BYTES),
        });
        let writer = Writer { queue: queue.clone(), destination, losses, reported: None };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
        Ok(queue)
    }

    /// Appends a whole line; false if there is no room or the queue is closed.
    pub(super) fn push(&self, line: &[u8]) -> bool {
        let mut state = self.lock();
        let full =
            state.lines >= self.max_lines || state.buffer.len() + line.len() > self.max_bytes;
        if full || state.closed {
            return false;
        }
        state.buffer.extend_from_slice(line);
        state.lines += 1;
        state.taken += 1;
        let half_full = state.lines > self.max_lines / 2 || state.buffer.len() > self.max_bytes / 2;
        let wake = state.writer_sleeps || half_full && !state.hurry;
        state.writer_sleeps = false;
        state.hurry |= half_full;
        drop(state);
        if wake {
            self.work.notify_one();
        }
        true
    }

    /// Lines taken from now on, and those still queued, go to another destination.
    pub(super) fn replace(&self, destination: Destination) {
        self.hurry(|state| state.replacement = Some(destination));
    }

    /// Takes no more lines.
    pub(super) fn close(&self) {
        self.hurry(|state| state.closed = true);
    }

    /// Waits until what was taken so far is written or lost; false if that takes too long.
    pub(super) fn flush(&self, deadline: Duration) -> bool {
        let mut target = 0;
        self.hurry(|state| target = state.taken);
        let (_state, result) = self
            .done
            .wait_timeout_while(self.lock(), deadline, |state| state.finished < target)
            .unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }

    fn hurry(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.hurry = true;
        drop(state);
        self.work.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    queue: Arc<Queue>,
    destination: Destination,
    losses: Losses,
    reported: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::new();
        while self.next(&mut batch) {
            if let Err((error, lost)) = self.destination.write(&batch) {
                self.losses.failed.inc_by(lost);
                self.report(&error, lost);
            }
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
        }
    }

    /// Marks the last batch finished and waits for the next; false once closed and empty.
    fn next(&mut self, batch: &mut Vec<u8>) -> bool {
        let queue = self.queue.clone();
        let mut state = queue.lock();
        state.finished = state.taken - state.lines as u64;
        queue.done.notify_all();
        while state.lines == 0 && state.replacement.is_none() && !state.closed {
            state.writer_sleeps = true;
            state.hurry = false;
            state = queue.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer_sleeps = false;
        state = queue
            .work
            .wait_timeout_while(state, GATHER, |state| !state.hurry)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        state.hurry = false;
        if let Some(replacement) = state.replacement.take() {
            self.destination = replacement;
        }
        std::mem::swap(&mut state.buffer, batch);
        let lines = std::mem::take(&mut state.lines);
        lines > 0 || !state.closed
    }

    fn report(&mut self, error: &io::Error, lost: u64) {
        if self.reported.is_some_and(|last| last.elapsed() < REPORT_EVERY) {
            return;
        }
        self.reported = Some(Instant::now());
        tracing::warn!(%error, lost, "the access log cannot be written");
    }
}
