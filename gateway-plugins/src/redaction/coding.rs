//! Content codings (RFC 9110, section 8.4.1) that are undone so that what is in them can be seen.

use std::io::Write;

use flate2::write::{GzDecoder, ZlibDecoder};

use super::Unreadable;

/// What is undone of a body on its way.
pub(super) enum Coding {
    Identity,
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Deflate(Box<ZlibDecoder<Vec<u8>>>),
    Brotli(Box<brotli::DecompressorWriter<Vec<u8>>>),
}

/// How much is undone at a time: a small part of a body may become a large one.
const STEP: usize = 1024;

impl Coding {
    /// The coding of this name, in any case of letters; `None` if it cannot be undone.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip(Box::new(GzDecoder::new(Vec::new())))),
            "deflate" => Some(Self::Deflate(Box::new(ZlibDecoder::new(Vec::new())))),
            "br" => Some(Self::Brotli(Box::new(brotli::DecompressorWriter::new(Vec::new(), 4096)))),
            _ => None,
        }
    }

    /// Whether anything has to be undone.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    /// Undoes a chunk, and hands over what is in it in parts.
    ///
    /// # Errors
    /// It is not what it says.
    pub(super) fn undo(
        &mut self,
        chunk: &[u8],
        last: bool,
        mut part: impl FnMut(&[u8], bool) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        const WRONG: Unreadable = Unreadable("it is not coded as it says");
        fn step<W: Write>(
            coder: &mut W,
            inside: impl Fn(&mut W) -> &mut Vec<u8>,
            chunk: &[u8],
            part: &mut impl FnMut(&[u8], bool) -> Result<(), Unreadable>,
        ) -> Result<(), Unreadable> {
            for piece in chunk.chunks(STEP) {
                coder.write_all(piece).map_err(|_| WRONG)?;
                let plain = std::mem::take(inside(coder));
                part(&plain, false)?;
            }
            Ok(())
        }
        match self {
            Self::Identity => return part(chunk, last),
            Self::Gzip(coder) => {
                step(&mut **coder, GzDecoder::get_mut, chunk, &mut part)?;
                if last {
                    coder.try_finish().map_err(|_| WRONG)?;
                    return part(&std::mem::take(coder.get_mut()), true);
                }
            }
            Self::Deflate(coder) => {
                step(&mut **coder, ZlibDecoder::get_mut, chunk, &mut part)?;
                if last {
                    coder.try_finish().map_err(|_| WRONG)?;
                    return part(&std::mem::take(coder.get_mut()), true);
                }
            }
            Self::Brotli(coder) => {
                step(&mut **coder, brotli::DecompressorWriter::get_mut, chunk, &mut part)?;
                if last {
                    coder.close().map_err(|_| WRONG)?;
                    return part(&std::mem::take(coder.get_mut()), true);
                }
            }
        }
        Ok(())
    }
}
