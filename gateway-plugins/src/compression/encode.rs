//! Compresses a body as it passes.

use std::io::{self, Write};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::write::GzEncoder;
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder;

use crate::coding::Coding;

/// How much work is done, and how much memory it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) gzip: u32,
    pub(super) brotli: u32,
    pub(super) zstd: i32,
    /// How far brotli and zstd look back, as a power of two.
    pub(super) window_log: u32,
}

/// One body on its way to being compressed.
pub(super) struct Encoding {
    coding: Coding,
    effort: Effort,
    /// Whether each chunk can be read as soon as it is there.
    flushes: bool,
    coder: Coder,
    plain: u64,
    coded: u64,
}

enum Coder {
    /// Nothing has come; perhaps nothing will, as in answer to HEAD.
    Waits,
    Works(Box<dyn Encode>),
    Ended,
}

/// A smaller window would save next to nothing, and below this one brotli has other ways, which take longer to begin.
const SMALLEST_WINDOW_LOG: u32 = 17;
/// What brotli hands over at a time.
const BUFFER: usize = 4096;

impl Encoding {
    /// For a body of this length, if that is known; a wrong one costs only a better result.
    pub(super) fn new(coding: Coding, effort: Effort, length: Option<u64>, flushes: bool) -> Self {
        let needed = length.map_or(u32::MAX, |length| length.max(2).next_power_of_two().ilog2());
        let window_log = needed.max(SMALLEST_WINDOW_LOG).min(effort.window_log);
        let effort = Effort { window_log, ..effort };
        Self { coding, effort, flushes, coder: Coder::Waits, plain: 0, coded: 0 }
    }

    /// How many bytes came, and how many went on.
    pub(super) fn lengths(&self) -> (u64, u64) {
        (self.plain, self.coded)
    }

    /// What goes on of a chunk; nothing may. Once it has failed, nothing does any more.
    pub(super) fn push(&mut self, chunk: &[u8], last: bool) -> io::Result<Bytes> {
        let mut coder = match std::mem::replace(&mut self.coder, Coder::Ended) {
            Coder::Waits => coder(self.coding, self.effort)?,
            Coder::Works(coder) => coder,
            Coder::Ended => return Ok(Bytes::new()),
        };
        coder.write_all(chunk)?;
        let coded = if last {
            coder.end()?
        } else {
            if self.flushes && !chunk.is_empty() {
                coder.flush()?;
            }
            let coded = std::mem::take(coder.coded());
            self.coder = Coder::Works(coder);
            coded
        };
        self.plain += chunk.len() as u64;
        self.coded += coded.len() as u64;
        Ok(coded.into())
    }
}

/// A coding that is applied by writing to it.
trait Encode: Write + Send + Sync {
    /// What has been compressed and not been handed over.
    fn coded(&mut self) -> &mut Vec<u8>;
    /// Nothing more comes; the rest.
    fn end(self: Box<Self>) -> io::Result<Vec<u8>>;
}

fn coder(coding: Coding, effort: Effort) -> io::Result<Box<dyn Encode>> {
    Ok(match coding {
        Coding::Brotli => {
            let (level, window) = (effort.brotli, effort.window_log);
            Box::new(CompressorWriter::new(Vec::new(), BUFFER, level, window))
        }
        Coding::Zstd => {
            let mut encoder = Encoder::new(Vec::new(), effort.zstd)?;
            encoder.set_parameter(CParameter::WindowLog(effort.window_log))?;
            Box::new(encoder)
        }
        Coding::Gzip => Box::new(GzEncoder::new(Vec::new(), flate2::Compression::new(effort.gzip))),
        // Never chosen: clients disagree about what it is.
        Coding::Deflate => return Err(io::ErrorKind::Unsupported.into()),
    })
}

impl Encode for GzEncoder<Vec<u8>> {
    fn coded(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn end(self: Box<Self>) -> io::Result<Vec<u8>> {
        self.finish()
    }
}

impl Encode for CompressorWriter<Vec<u8>> {
    fn coded(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn end(self: Box<Self>) -> io::Result<Vec<u8>> {
        Ok(self.into_inner())
    }
}

impl Encode for Encoder<'static, Vec<u8>> {
    fn coded(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn end(self: Box<Self>) -> io::Result<Vec<u8>> {
        self.finish()
    }
}
