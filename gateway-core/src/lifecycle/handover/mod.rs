//! Taking over from a process that serves, and being taken over from, without a connection that is lost.

mod channel;
mod door;
mod give;
mod message;
mod successor;
mod take;

use std::time::SystemTime;

pub(super) use door::Door;
pub(super) use give::upgrade;
pub(super) use message::Kept;
pub(crate) use successor::{Successor, is_to_take_over};
pub(super) use take::Predecessor;

/// A process that serves in place of this one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Upgraded {
    /// Its process.
    pub pid: u32,
    /// The version of its program.
    pub version: String,
}

/// Why no other process serves in place of this one, which goes on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Nothing was tried.
    #[error("{0}")]
    NotNow(String),
    /// It was tried and did not come to that.
    #[error("{0}")]
    Failed(String),
}

/// How the last upgrade failed, for those who ask.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct LastUpgrade {
    /// When, in seconds since 1970.
    pub(crate) at: u64,
    pub(crate) why: String,
}

impl LastUpgrade {
    fn failed(why: &str) -> Self {
        let at = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        Self { at, why: why.to_owned() }
    }
}
