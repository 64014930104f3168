//! Content codings (RFC 9110, section 8.4.1) that are undone so that what is in them can be seen.

use std::io::{self, Write};

use flate2::write::{GzDecoder, ZlibDecoder};

use super::Unreadable;

/// What is undone of a body on its way.
pub(super) enum Coding {
    Identity,
    Gzip(Box<GzDecoder<Plain>>),
    Deflate(Box<ZlibDecoder<Plain>>),
    Brotli(Box<brotli::DecompressorWriter<Plain>>),
}

/// How much is undone at a time: a small part of a body may become a large one.
const STEP: usize = 1024;
/// How much may come of it: so much at once, and besides so many times as much as it is. More than that is made to fill
/// the memory of whoever undoes it.
const AT_ONCE: usize = 1 << 20;
const TIMES: usize = 100;

/// What has been undone and not been looked at, and how much more may come.
#[derive(Debug, Default)]
pub(super) struct Plain {
    text: Vec<u8>,
    room: usize,
}

impl Write for Plain {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let Some(room) = self.room.checked_sub(text.len()) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.room = room;
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A coding that is undone by writing to it.
trait Undo: Write {
    fn plain(&mut self) -> &mut Plain;
    /// Nothing more comes.
    fn end(&mut self) -> io::Result<()>;
}

impl Undo for GzDecoder<Plain> {
    fn plain(&mut self) -> &mut Plain {
        self.get_mut()
    }

    fn end(&mut self) -> io::Result<()> {
        self.try_finish()
    }
}

impl Undo for ZlibDecoder<Plain> {
    fn plain(&mut self) -> &mut Plain {
        self.get_mut()
    }

    fn end(&mut self) -> io::Result<()> {
        self.try_finish()
    }
}

impl Undo for brotli::DecompressorWriter<Plain> {
    fn plain(&mut self) -> &mut Plain {
        self.get_mut()
    }

    fn end(&mut self) -> io::Result<()> {
        self.close()
    }
}

impl Coding {
    /// The coding of this name, in any case of letters; `None` if it cannot be undone.
    pub(super) fn named(name: &str) -> Option<Self> {
        let plain = Plain::default;
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip(Box::new(GzDecoder::new(plain())))),
            "deflate" => Some(Self::Deflate(Box::new(ZlibDecoder::new(plain())))),
            "br" => Some(Self::Brotli(Box::new(brotli::DecompressorWriter::new(plain(), 4096)))),
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
    /// It is not what it says, or far more than it looks.
    pub(super) fn undo(
        &mut self,
        chunk: &[u8],
        last: bool,
        part: impl FnMut(&[u8], bool) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        match self {
            Self::Identity => {
                let mut part = part;
                part(chunk, last)
            }
            Self::Gzip(coder) => undo(&mut **coder, chunk, last, part),
            Self::Deflate(coder) => undo(&mut **coder, chunk, last, part),
            Self::Brotli(coder) => undo(&mut **coder, chunk, last, part),
        }
    }
}

fn undo(
    coder: &mut impl Undo,
    chunk: &[u8],
    last: bool,
    mut part: impl FnMut(&[u8], bool) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    fn wrong(error: &io::Error) -> Unreadable {
        match error.kind() {
            io::ErrorKind::FileTooLarge => Unreadable("it is far more than it looks"),
            _ => Unreadable("it is not coded as it says"),
        }
    }
    for piece in chunk.chunks(STEP) {
        let plain = coder.plain();
        plain.room = plain.room.min(AT_ONCE) + TIMES * piece.len();
        plain.room = plain.room.max(AT_ONCE);
        coder.write_all(piece).map_err(|error| wrong(&error))?;
        let text = std::mem::take(&mut coder.plain().text);
        part(&text, false)?;
    }
    if last {
        coder.plain().room = AT_ONCE;
        coder.end().map_err(|error| wrong(&error))?;
        let text = std::mem::take(&mut coder.plain().text);
        part(&text, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(name: &str, text: &[u8]) -> Vec<u8> {
        match name {
            "gzip" => {
                let mut coder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                coder.write_all(text).unwrap();
                coder.finish().unwrap()
            }
            _ => {
                let mut coded = Vec::new();
                brotli::CompressorWriter::new(&mut coded, 4096, 9, 22).write_all(text).unwrap();
                coded
            }
        }
    }

    #[test]
    fn what_is_made_to_fill_the_memory_is_refused_before_it_does() {
        for name in ["gzip", "br"] {
            let bomb = coded(name, &vec![b' '; 200 << 20]);
            let (mut coding, mut most) = (Coding::named(name).unwrap(), 0);
            let outcome = coding.undo(&bomb, true, |part, _| {
                most = most.max(part.len());
                Ok(())
            });
            let told = outcome.err().map(|fault| fault.to_string());
            assert!(told.is_some_and(|told| told.contains("far more")), "{name}");
            assert!(most <= AT_ONCE + TIMES * STEP, "{name}: {most}");
        }
    }

    #[test]
    fn what_is_coded_well_is_undone() {
        // Some times as much as it looks.
        let text: Vec<u8> = (0..300_000_u32)
            .flat_map(|line| format!("line {}\n", line.wrapping_mul(2_654_435_761)).into_bytes())
            .collect();
        for name in ["gzip", "br"] {
            let (mut coding, mut plain) = (Coding::named(name).unwrap(), Vec::new());
            let coded = coded(name, &text);
            for (place, chunk) in coded.chunks(700).enumerate() {
                let last = (place + 1) * 700 >= coded.len();
                let part = |part: &[u8], _: bool| {
                    plain.extend_from_slice(part);
                    Ok(())
                };
                coding.undo(chunk, last, part).unwrap();
            }
            assert!(plain == text, "{name}");
        }
    }
}
