//! What two processes say to each other, in this order:
//!
//! | who | says | and then |
//! |---|---|---|
//! | the one that follows | `take` | builds its snapshot, if it has not yet |
//! | the one before | `given`, with a secret behind it, then the sockets | serves on |
//! | the one that follows | `ready`, once it could serve | waits |
//! | the one before | `state`, any number of times, then `over` | accepts nothing from then on |
//! | the one that follows | `serving`, once it accepts | serves |
//! | the one before | `released` | drains, and ends |
//!
//! Either may say `failed` in place of what it is to say, or just end. Until it has heard `serving` the one before goes
//! on serving whatever happens.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::AdminAddress;
use crate::snapshot::CarriedName;

/// The protocol's version. One that knows another says `failed`.
pub(super) const PROTOCOL: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "snake_case")]
pub(super) enum Message {
    Take { protocol: u32, version: String, pid: u32 },
    Given(Given),
    Ready { taken: Vec<usize> },
    State(CarriedName),
    Over,
    Serving,
    Released,
    Failed { why: String },
}

/// What is handed over, and by whom.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Given {
    pub(super) protocol: u32,
    pub(super) version: String,
    pub(super) pid: u32,
    pub(super) revision: u64,
    pub(super) digest: String,
    /// What is in force was rolled back to, and is not what the source says.
    pub(super) kept: Option<Kept>,
    /// In the order of their descriptors.
    pub(super) sockets: Vec<GivenSocket>,
}

/// An entry of a history that is in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::lifecycle) struct Kept {
    pub(in crate::lifecycle) history: PathBuf,
    pub(in crate::lifecycle) entry: u64,
    /// The digest of what the source said when it was rolled back to; none if it had faults.
    pub(in crate::lifecycle) from: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub(super) enum GivenSocket {
    /// Of a listener with this name and address in the config.
    Listener {
        name: String,
        address: SocketAddr,
    },
    Admin {
        address: AdminAddress,
    },
}

impl Message {
    /// What it is, for whoever did not expect it.
    pub(super) fn unexpected(self) -> std::io::Error {
        std::io::Error::other(match self {
            Self::Failed { why } => why,
            other => format!("the other process says something else than it is to: {other:?}"),
        })
    }
}
