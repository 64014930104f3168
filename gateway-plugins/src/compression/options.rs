//! What operators write of `compression`, and how it is compiled.

use gateway_core::config::Size;
use gateway_core::plugin::{BuildEnv, BuildError, OptionPath};
use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Compression;
use super::answer::Rules;
use super::encode::Effort;
use super::media::{Types, USUAL};
use super::request::Decompress;
use crate::coding::{Bounds, Coding};

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The codings of answers, the preferred one first: of those that a client likes equally well it gets that. Empty
    /// leaves answers as they are. Default: `[zstd, br, gzip]`.
    #[serde(default = "all_codings")]
    codings: Vec<AnswerCoding>,
    /// The media types that are compressed, such as `application/json`; one `*` stands for anything, but for what is
    /// compressed already. Default: `text/*`, JSON, XML, YAML and what is akin to them, JavaScript, WebAssembly, plain
    /// fonts and bitmaps.
    #[serde(default)]
    types: Option<Vec<String>>,
    /// The shortest body that is compressed, where its length is announced.
    #[serde(default = "one_kib")]
    min_size: Size,
    /// When what is compressed of a body is sent.
    #[serde(default)]
    flush: Flush,
    /// How much work is done for smaller bodies.
    #[serde(default)]
    levels: LevelsConfig,
    /// How far brotli and zstd look back, from `128KiB` to `8MiB`; to a power of two, downwards. Most of what a body in
    /// progress takes of memory.
    #[serde(default = "half_a_mib")]
    window: Size,
    /// Whether upstreams are asked for bodies as they are, so that all of the work is done here.
    #[serde(default)]
    offload: bool,
    /// Has the codings of requests undone before the upstream sees them. Default: they pass as they are.
    #[serde(default)]
    request: Option<RequestConfig>,
}

/// A coding of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum AnswerCoding {
    /// Every client knows it.
    Gzip,
    /// Brotli: the smallest bodies. Browsers accept it over TLS.
    Br,
    /// The least work. Newer browsers accept it over TLS.
    Zstd,
}

/// When what is compressed of a body is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Flush {
    /// At once where the body's length was not announced, as of events: somebody may wait for what is there. Else when it
    /// is worth it.
    #[default]
    Auto,
    /// At once.
    Always,
    /// When it is worth it: smaller bodies, but what comes slowly may be held back.
    Never,
}

/// How much work is done for smaller bodies. At higher levels than these, one body would keep a worker from its other
/// requests for too long.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LevelsConfig {
    /// From 1 to 9.
    #[schemars(range(min = 1, max = 9))]
    gzip: u32,
    /// From 0 to 6.
    #[schemars(range(max = 6))]
    br: u32,
    /// From 1 to 9.
    #[schemars(range(min = 1, max = 9))]
    zstd: i32,
}

impl Default for LevelsConfig {
    fn default() -> Self {
        Self { gzip: 3, br: 3, zstd: 3 }
    }
}

/// What is undone of requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RequestConfig {
    /// The codings that are undone. Others are answered 415. Default: all.
    #[serde(default = "all_request_codings")]
    #[schemars(length(min = 1))]
    codings: Vec<RequestCoding>,
    /// The longest body that may come of it; a longer one is answered 413.
    #[serde(default = "ten_mib")]
    max: Size,
    /// How many times as long as it came a body may become, beside the first MiB; one that swells more is answered 413.
    #[serde(default = "hundredfold")]
    #[schemars(range(min = 1, max = 10000))]
    max_ratio: u64,
}

/// A coding of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RequestCoding {
    /// As `gzip` writes it.
    Gzip,
    /// The format of zlib.
    Deflate,
    /// Brotli.
    Br,
    /// As `zstd` writes it, with windows of up to 8 MiB.
    Zstd,
}

fn all_codings() -> Vec<AnswerCoding> {
    vec![AnswerCoding::Zstd, AnswerCoding::Br, AnswerCoding::Gzip]
}

fn all_request_codings() -> Vec<RequestCoding> {
    vec![RequestCoding::Gzip, RequestCoding::Deflate, RequestCoding::Br, RequestCoding::Zstd]
}

fn one_kib() -> Size {
    Size(1 << 10)
}

fn half_a_mib() -> Size {
    Size(512 << 10)
}

fn ten_mib() -> Size {
    Size(10 << 20)
}

fn hundredfold() -> u64 {
    100
}

/// What may come of a small body, however much it swells.
const AT_ONCE: u64 = 1 << 20;
const WINDOWS: std::ops::RangeInclusive<u64> = 128 << 10..=8 << 20;

impl From<AnswerCoding> for Coding {
    fn from(coding: AnswerCoding) -> Self {
        match coding {
            AnswerCoding::Gzip => Self::Gzip,
            AnswerCoding::Br => Self::Brotli,
            AnswerCoding::Zstd => Self::Zstd,
        }
    }
}

impl From<RequestCoding> for Coding {
    fn from(coding: RequestCoding) -> Self {
        match coding {
            RequestCoding::Gzip => Self::Gzip,
            RequestCoding::Deflate => Self::Deflate,
            RequestCoding::Br => Self::Brotli,
            RequestCoding::Zstd => Self::Zstd,
        }
    }
}

impl Config {
    pub(super) fn compile(self, env: &BuildEnv<'_>) -> Result<Compression, BuildError> {
        let root = OptionPath::root;
        let mut error = BuildError::none();
        if self.codings.is_empty() && self.request.is_none() {
            error.push(root().key("codings"), "nothing is left to do without any");
        }
        let codings = distinct(&self.codings, root().key("codings"), &mut error);
        let types = match &self.types {
            Some(types) => Types::parse(types.iter().map(String::as_str)),
            None => Types::parse(USUAL),
        };
        let types = types.map_err(|faults| {
            for (index, fault) in faults {
                error.push(root().key("types").index(index), fault);
            }
        });
        if !WINDOWS.contains(&self.window.0) {
            error.push(root().key("window"), "from `128KiB` to `8MiB`");
        }
        let effort = Effort {
            gzip: self.levels.gzip,
            brotli: self.levels.br,
            zstd: self.levels.zstd,
            window_log: self.window.0.max(1).ilog2(),
        };
        let request = self.request.as_ref().map(|request| request.compile(&mut error));
        let (min_size, flush, offload) = (self.min_size.0, self.flush, self.offload);
        let metrics = env.metrics();
        match types {
            Ok(types) => error.or(|| Compression {
                codings,
                rules: Rules { types, min_size },
                effort,
                flush,
                offload,
                request,
                metrics,
            }),
            Err(()) => Err(error),
        }
    }
}

impl RequestConfig {
    fn compile(&self, error: &mut BuildError) -> Decompress {
        let path = OptionPath::root().key("request").key("codings");
        let codings = distinct(&self.codings, path, error);
        let names: Vec<&str> = codings.iter().map(|coding| coding.name()).collect();
        let accepted = HeaderValue::try_from(names.join(", "));
        let bounds = Bounds { at_once: AT_ONCE, times: self.max_ratio, most: self.max.0 };
        Decompress { codings, bounds, accepted: accepted.expect("names of codings are ASCII") }
    }
}

/// # Errors
/// Pushes a fault for each that is listed twice.
fn distinct<C: Copy + PartialEq + Into<Coding>>(
    listed: &[C],
    path: OptionPath,
    error: &mut BuildError,
) -> Box<[Coding]> {
    for (index, coding) in listed.iter().enumerate() {
        if listed[..index].contains(coding) {
            error.push(path.clone().index(index), "it is listed already");
        }
    }
    listed.iter().map(|coding| (*coding).into()).collect()
}
