//! Undoes deflate.

use std::io::{self, Write};

use flate2::{Decompress, FlushDecompress, Status};

use super::undo::{Plain, Undo};

/// The format of zlib, to its checksum. The crate's own writer takes what ends before that, or goes on behind it.
pub(super) struct Undeflate {
    state: Decompress,
    plain: Plain,
    buffer: Box<[u8]>,
    has_ended: bool,
}

const BUFFER: usize = 32 * 1024;

impl Undeflate {
    pub(super) fn new(plain: Plain) -> Self {
        let buffer = vec![0; BUFFER].into();
        Self { state: Decompress::new(true), plain, buffer, has_ended: false }
    }
}

impl Write for Undeflate {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.has_ended {
            // More than was announced.
            return Ok(0);
        }
        let mut read = 0;
        loop {
            let (came, went) = (self.state.total_in(), self.state.total_out());
            let rest = &piece[read..];
            let status = self.state.decompress(rest, &mut self.buffer, FlushDecompress::None)?;
            let written = (self.state.total_out() - went) as usize;
            let taken = (self.state.total_in() - came) as usize;
            read += taken;
            self.plain.write_all(&self.buffer[..written])?;
            if status == Status::StreamEnd {
                self.has_ended = true;
                return Ok(read);
            }
            if written == self.buffer.len() {
                // There may be more of it.
                continue;
            }
            if read == piece.len() {
                return Ok(read);
            }
            if taken == 0 && written == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Undo for Undeflate {
    fn plain(&mut self) -> &mut Plain {
        &mut self.plain
    }

    fn end(&mut self) -> io::Result<()> {
        if self.has_ended { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
