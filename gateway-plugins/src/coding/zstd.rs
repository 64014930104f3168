//! Undoes zstd.

use std::io::{self, Write};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::undo::{Plain, Undo};

/// Frames of RFC 8878, one behind another. Older formats, which the library may know too, have windows of their own, and
/// are refused.
pub(super) struct Unzstd {
    decoder: Decoder<'static>,
    plain: Plain,
    buffer: Box<[u8]>,
    /// How a frame begins, as far as it has been seen; empty between frames.
    begin: Vec<u8>,
}

const BUFFER: usize = 32 * 1024;
/// A larger one must not be needed (RFC 9659, section 3).
const WINDOW_LOG: u32 = 23;
const FRAME: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// The first byte of a frame that is skipped counts up in its low half.
const SKIPPED: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();

impl Unzstd {
    pub(super) fn new(plain: Plain) -> Self {
        let mut decoder = Decoder::new().expect("there is memory for a context, as for all else");
        let largest = DParameter::WindowLogMax(WINDOW_LOG);
        decoder.set_parameter(largest).expect("the library knows windows of up to 2 GiB");
        let buffer = vec![0; BUFFER].into();
        Self { decoder, plain, buffer, begin: Vec::with_capacity(FRAME.len()) }
    }

    /// Looks at how a frame begins.
    fn begin(&mut self, bytes: &[u8]) -> io::Result<()> {
        let missing = FRAME.len() - self.begin.len();
        self.begin.extend(bytes.iter().take(missing));
        let Some((first, rest)) = self.begin.split_first() else { return Ok(()) };
        let is_skipped = first & 0xF0 == SKIPPED[0] && SKIPPED[1..].starts_with(rest);
        let is_frame = FRAME.starts_with(&self.begin) || is_skipped;
        if is_frame { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

impl Write for Unzstd {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let mut input = InBuffer::around(piece);
        loop {
            self.begin(&piece[input.pos()..])?;
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            let hint = self.decoder.run(&mut input, &mut output)?;
            let (written, is_full) = (output.pos(), output.pos() == output.capacity());
            self.plain.write_all(&self.buffer[..written])?;
            if hint == 0 {
                self.begin.clear();
            }
            if input.pos() == piece.len() && !is_full {
                return Ok(piece.len());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Undo for Unzstd {
    fn plain(&mut self) -> &mut Plain {
        &mut self.plain
    }

    fn end(&mut self) -> io::Result<()> {
        if self.begin.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
