//! Undoes brotli.

use std::io::{self, Write};

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};

use super::undo::{Plain, Undo};

/// Brotli by the letter of RFC 7932. The crate's own writer takes windows of up to 1 GiB as well, which a client has only
/// to ask for.
pub(super) struct Unbrotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    plain: Plain,
    buffer: Box<[u8]>,
    has_ended: bool,
}

const BUFFER: usize = 4096;

impl Unbrotli {
    pub(super) fn new(plain: Plain) -> Self {
        let alloc = StandardAlloc::default;
        let state = BrotliState::new_strict(alloc(), alloc(), alloc());
        Self { state, plain, buffer: vec![0; BUFFER].into(), has_ended: false }
    }
}

impl Write for Unbrotli {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let (mut left, mut read) = (piece.len(), 0);
        if self.has_ended {
            // More than was announced.
            return Ok(0);
        }
        loop {
            let (mut room, mut written, mut total) = (self.buffer.len(), 0, 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut read,
                piece,
                &mut room,
                &mut written,
                &mut self.buffer,
                &mut total,
                &mut self.state,
            );
            self.plain.write_all(&self.buffer[..written])?;
            match result {
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::NeedsMoreInput => return Ok(piece.len()),
                BrotliResult::ResultSuccess => {
                    self.has_ended = true;
                    return Ok(read);
                }
                BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Undo for Unbrotli {
    fn plain(&mut self) -> &mut Plain {
        &mut self.plain
    }

    fn end(&mut self) -> io::Result<()> {
        if self.has_ended { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
