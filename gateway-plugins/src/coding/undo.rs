//! Undoes codings step by step, so that neither what comes of a small body nor what is held of it has no bound.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use super::Coding;
use super::brotli::Unbrotli;
use super::deflate::Undeflate;
use super::zstd::Unzstd;

/// How much may come of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// So many bytes at once, whatever it is.
    pub(crate) at_once: u64,
    /// And so many times as much as it is.
    pub(crate) times: u64,
    /// And no more than so many bytes in all.
    pub(crate) most: u64,
}

/// Why a body is not undone any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It is not what it says.
    #[error("it is not coded as it says")]
    Malformed,
    /// It is made to fill the memory of whoever undoes it.
    #[error("it is far more than it looks")]
    Swells,
    /// It is longer than a body may be.
    #[error("it is longer than it may be")]
    TooLong,
}

/// The codings of one body, on their way to being undone.
pub(crate) struct Undoing {
    /// In the order in which they are undone: the one that was applied last comes first.
    stages: Vec<Stage>,
    bounds: Bounds,
}

/// How much is undone at a time: a small part of a body may become a large one.
const STEP: usize = 1024;

impl Undoing {
    /// Undoes these codings, given in the order in which they were applied.
    pub(crate) fn new(applied: &[Coding], bounds: Bounds) -> Self {
        let mut stages: Vec<Stage> =
            applied.iter().rev().map(|coding| Stage::of(*coding)).collect();
        if let Some(last) = stages.last_mut() {
            last.coder.plain().left = bounds.most;
        }
        Self { stages, bounds }
    }

    /// Whether nothing has to be undone.
    pub(crate) fn is_identity(&self) -> bool {
        self.stages.is_empty()
    }

    /// Undoes a chunk, and hands over what is in it in parts, of which none is longer than the bounds allow of 1 KiB.
    /// The last part comes with the last chunk, perhaps empty.
    pub(crate) fn push<E: From<Fault>>(
        &mut self,
        chunk: &[u8],
        last: bool,
        mut part: impl FnMut(&[u8], bool) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.is_identity() {
            return part(chunk, last);
        }
        for piece in chunk.chunks(STEP) {
            self.make_room(piece.len() as u64);
            undo(&mut self.stages, piece, false, &mut part)?;
        }
        if last {
            self.make_room(0);
            undo(&mut self.stages, &[], true, &mut part)?;
        }
        Ok(())
    }

    /// How much may come of a piece of the body, whichever coding it comes of: else each would multiply the other's.
    fn make_room(&mut self, piece: u64) {
        let Bounds { at_once, times, .. } = self.bounds;
        for stage in &mut self.stages {
            let plain = stage.coder.plain();
            plain.room = plain.room.min(at_once) + times * piece;
            plain.room = plain.room.max(at_once);
        }
    }
}

/// Who takes what has been undone, and hears whether it is the last.
type Taker<'a, E> = dyn FnMut(&[u8], bool) -> Result<(), E> + 'a;

fn undo<E: From<Fault>>(
    stages: &mut [Stage],
    chunk: &[u8],
    last: bool,
    part: &mut Taker<'_, E>,
) -> Result<(), E> {
    let Some((stage, rest)) = stages.split_first_mut() else { return part(chunk, last) };
    for piece in chunk.chunks(STEP) {
        let text = stage.write(piece)?;
        undo(rest, &text, false, part)?;
    }
    if last {
        let text = stage.end()?;
        undo(rest, &text, true, part)?;
    }
    Ok(())
}

/// One coding on its way to being undone.
struct Stage {
    coder: Box<dyn Undo>,
    has_begun: bool,
}

impl Stage {
    fn of(coding: Coding) -> Self {
        let plain = Plain { text: Vec::new(), room: 0, left: u64::MAX };
        let coder: Box<dyn Undo> = match coding {
            Coding::Gzip => Box::new(MultiGzDecoder::new(plain)),
            Coding::Deflate => Box::new(Undeflate::new(plain)),
            Coding::Brotli => Box::new(Unbrotli::new(plain)),
            Coding::Zstd => Box::new(Unzstd::new(plain)),
        };
        Self { coder, has_begun: false }
    }

    fn write(&mut self, piece: &[u8]) -> Result<Vec<u8>, Fault> {
        self.has_begun |= !piece.is_empty();
        // Else what is there of a slow stream would wait for what follows.
        let outcome = self.coder.write_all(piece).and_then(|()| self.coder.flush());
        self.take(outcome)
    }

    /// Nothing more comes. A body that is empty is so whatever its coding.
    fn end(&mut self) -> Result<Vec<u8>, Fault> {
        let outcome = if self.has_begun { self.coder.end() } else { Ok(()) };
        self.take(outcome)
    }

    fn take(&mut self, outcome: io::Result<()>) -> Result<Vec<u8>, Fault> {
        match outcome {
            Ok(()) => Ok(std::mem::take(&mut self.coder.plain().text)),
            Err(error) => {
                let fault = error.get_ref().and_then(|error| error.downcast_ref::<Fault>());
                Err(fault.copied().unwrap_or(Fault::Malformed))
            }
        }
    }
}

/// What has been undone and not been looked at.
#[derive(Debug)]
pub(super) struct Plain {
    text: Vec<u8>,
    /// How much more may come at once.
    room: u64,
    /// How much more may come at all.
    left: u64,
}

impl Write for Plain {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let length = text.len() as u64;
        let refused = |fault: Fault| move || io::Error::other(fault);
        let left = self.left.checked_sub(length).ok_or_else(refused(Fault::TooLong))?;
        let room = self.room.checked_sub(length).ok_or_else(refused(Fault::Swells))?;
        (self.left, self.room) = (left, room);
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A coding that is undone by writing to it.
pub(super) trait Undo: Write + Send + Sync {
    fn plain(&mut self) -> &mut Plain;
    /// Nothing more comes.
    fn end(&mut self) -> io::Result<()>;
}

impl Undo for MultiGzDecoder<Plain> {
    fn plain(&mut self) -> &mut Plain {
        self.get_mut()
    }

    fn end(&mut self) -> io::Result<()> {
        self.try_finish()
    }
}

#[cfg(test)]
mod tests;
