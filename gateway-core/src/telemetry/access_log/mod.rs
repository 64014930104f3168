//! The access log: one line a request, or a connection that is no HTTP, formatted by the worker, written by a thread of its own.
//!
//! A worker formats into a buffer it keeps and appends the line to a shared one under a lock held
//! for the length of a copy. The writer swaps that buffer for an empty one and writes it whole. If
//! it cannot keep up, lines are dropped and counted; no worker ever waits for a disk.

mod destination;
mod field;
mod line;
mod queue;
mod value;
mod write;

pub use destination::Output;
pub use field::{DEFAULT_FIELDS, Field, UnknownField};
pub(crate) use write::utc;

use super::connection::ConnectionRecord;
use super::record::RequestRecord;
use super::redaction::Redactor;
use destination::Destination;
use line::LineFormat;
use prometheus::IntCounter;
use queue::Queue;
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use value::Logged;

/// A worker's line buffer is given back to the allocator once it is larger than this.
const KEPT_LINE_BYTES: usize = 16 * 1024;

/// What is written where.
#[derive(Debug, Clone)]
pub struct AccessLogOptions {
    /// Where lines go.
    pub output: Output,
    /// How a line looks.
    pub format: Format,
    /// Share of the good requests that is kept, 0 to 1. Errors are always kept.
    pub sample_ok: f64,
    /// Requests that took longer are always kept.
    pub slower_than: Option<Duration>,
    /// Which fields, in which order; none for [`DEFAULT_FIELDS`].
    pub fields: Option<Vec<Field>>,
    /// How many lines may wait for the writer.
    pub queue_lines: usize,
}

impl Default for AccessLogOptions {
    fn default() -> AccessLogOptions {
        AccessLogOptions {
            output: Output::Stdout,
            format: Format::Json,
            sample_ok: 1.0,
            slower_than: None,
            fields: None,
            queue_lines: 8192,
        }
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Words for a terminal.
    Text,
}

/// Counts lines that were not written. The default counts for itself; metrics count for all logs.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Lines that found the queue full or the log shut down.
    pub dropped: IntCounter,
    /// Lines that the output refused.
    pub failed: IntCounter,
}

/// A running access log. Dropping it lets the writer finish what is queued, without waiting.
pub struct AccessLog {
    format: LineFormat,
    sample_ok: f64,
    slower_than: Option<Duration>,
    draws: AtomicU64,
    queue: Arc<Queue>,
    output: Output,
    losses: Losses,
}

impl AccessLog {
    /// Opens the output and starts the writer.
    ///
    /// # Errors
    /// The output cannot be opened, the thread cannot be started, or an option is out of range.
    pub fn start(
        options: AccessLogOptions,
        redactor: Arc<Redactor>,
        losses: Losses,
    ) -> io::Result<AccessLog> {
        let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if !(0.0..=1.0).contains(&options.sample_ok) {
            return invalid("the share of good requests to keep is not between 0 and 1");
        }
        if options.queue_lines == 0 {
            return invalid("the queue of the access log has no room for a line");
        }
        let fields = options.fields.unwrap_or_else(|| DEFAULT_FIELDS.to_vec());
        if fields.is_empty() {
            return invalid("the access log has no fields");
        }
        let destination = Destination::open(&options.output)?;
        Ok(AccessLog {
            format: LineFormat { format: options.format, fields, redactor },
            sample_ok: options.sample_ok,
            slower_than: options.slower_than,
            draws: AtomicU64::new(0),
            queue: Queue::start(options.queue_lines, destination, losses.clone())?,
            output: options.output,
            losses,
        })
    }

    /// Keeps or skips the request and queues its line. Never waits for the output.
    pub fn write(&self, record: &RequestRecord<'_>) {
        self.put(record);
    }

    /// The same for a connection that was no HTTP.
    pub fn write_connection(&self, record: &ConnectionRecord<'_>) {
        self.put(record);
    }

    fn put(&self, record: &impl Logged) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let share = self.share(record);
        if share < 1.0 && self.draw() >= share {
            return;
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            self.format.write(line, record, share);
            if !self.queue.push(line) {
                self.losses.dropped.inc();
            }
            if line.capacity() > KEPT_LINE_BYTES {
                *line = Vec::new();
            }
        });
    }

    /// Opens the file anew, after it was moved away; lines queued go to either file, none is lost.
    /// Does nothing for stdout and stderr.
    ///
    /// # Errors
    /// The file cannot be opened; the old one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        if let Output::File(_) = self.output {
            self.queue.replace(Destination::open(&self.output)?);
        }
        Ok(())
    }

    /// Waits until all lines queued so far are written; false if the deadline passed before.
    pub fn flush(&self, deadline: Duration) -> bool {
        self.queue.flush(deadline)
    }

    /// Takes no more lines and waits as [`AccessLog::flush`] does.
    pub fn shutdown(&self, deadline: Duration) -> bool {
        self.queue.close();
        self.queue.flush(deadline)
    }

    /// Lines that found the queue full or the log shut down.
    pub fn dropped(&self) -> u64 {
        self.losses.dropped.get()
    }

    /// The share of requests like this one that is kept.
    fn share(&self, record: &impl Logged) -> f64 {
        let slow = self.slower_than.is_some_and(|limit| record.duration() > limit);
        if record.is_error() || slow { 1.0 } else { self.sample_ok }
    }

    /// The next number of a fixed sequence in 0..1 (SplitMix64): even, and free of shared state.
    fn draw(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.draws.fetch_add(STEP, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Default for Losses {
    fn default() -> Losses {
        let counter = |name| {
            IntCounter::new(name, name).expect("a constant name of letters is a valid metric name")
        };
        Losses { dropped: counter("dropped"), failed: counter("failed") }
    }
}

#[cfg(test)]
mod tests;
