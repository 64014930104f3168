//! Where lines go: a file, stdout or stderr, written whole lines at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// How often, and how long apart, an output that would block is tried again.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Where an operator wants the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, created if missing, appended to.
    File(PathBuf),
}

/// An open output. Remembers a line it could not finish and finishes it before the next.
pub(super) struct Destination<W = File> {
    out: W,
    standard: Standard,
    unfinished: Vec<u8>,
}

/// A standard stream is locked while written to, so that no other print gets between.
#[derive(Clone, Copy)]
enum Standard {
    Out,
    Error,
    No,
}

impl Destination {
    pub(super) fn open(output: &Output) -> io::Result<Destination> {
        let (out, standard) = match output {
            Output::Stdout => {
                (File::from(io::stdout().as_fd().try_clone_to_owned()?), Standard::Out)
            }
            Output::Stderr => {
                (File::from(io::stderr().as_fd().try_clone_to_owned()?), Standard::Error)
            }
            Output::File(path) => {
                (OpenOptions::new().create(true).append(true).open(path)?, Standard::No)
            }
        };
        Ok(Destination { out, standard, unfinished: Vec::new() })
    }
}

impl<W: Write> Destination<W> {
    /// Writes whole lines.
    ///
    /// # Errors
    /// The cause, and how many of these lines are lost.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), (io::Error, u64)> {
        let _stdout = matches!(self.standard, Standard::Out).then(|| io::stdout().lock());
        let _stderr = matches!(self.standard, Standard::Error).then(|| io::stderr().lock());
        let unfinished = std::mem::take(&mut self.unfinished);
        if let Err((error, written)) = write_all(&mut self.out, &unfinished) {
            self.unfinished = unfinished[written..].to_vec();
            return Err((error, count(lines)));
        }
        let Err((error, written)) = write_all(&mut self.out, lines) else {
            return Ok(());
        };
        let begun = written > 0 && lines[written - 1] != b'\n';
        let rest = &lines[written..];
        let end =
            if begun { memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1) } else { 0 };
        self.unfinished = rest[..end].to_vec();
        Err((error, count(&rest[end..])))
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// As [`Write::write_all`], but tells how much was written before the error.
fn write_all(out: &mut impl Write, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
    let (mut written, mut busy) = (0, 0);
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return Err((ErrorKind::WriteZero.into(), written)),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && busy < BUSY_TRIES => {
                busy += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, a few at a time, then fails until more room is given.
    struct Disk {
        room: usize,
        content: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room).min(3);
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.content.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_torn_by_a_full_disk_is_finished_before_the_next() {
        for room in 0..=18 {
            let out = Disk { room, content: Vec::new() };
            let mut destination =
                Destination { out, standard: Standard::No, unfinished: Vec::new() };

            let mut lost = 0;
            for lines in [&b"first\nsecond\n"[..], b"third\n"] {
                lost += destination.write(lines).map_or_else(|(_, lost)| lost, |()| 0);
            }
            destination.out.room = 100;
            destination.write(b"last\n").unwrap();

            let content = String::from_utf8(destination.out.content).unwrap();
            let whole = ["first", "second", "third", "last"];
            assert!(content.lines().all(|line| whole.contains(&line)), "{content:?}");
            assert_eq!(content.lines().count() as u64 + lost, 4, "{room}: {content:?}");
        }
    }
}
