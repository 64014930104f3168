//! What plugins share that look into calls of gRPC: where messages begin, and base64 as gRPC-Web has it.

mod frames;
mod text;

pub(crate) use frames::{Frames, TooLong};
pub(crate) use text::{Text, Unreadable, encoded};
