//! What the benchmarks share. The side-by-side comparison lives in `compare/`, its floor in `src/bin/bare_pingora.rs`.
