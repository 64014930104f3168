//! The test kit for whole gateways: a gateway on port 0, scripted upstreams, a client of raw bytes.
//!
//! Everything here is blocking and of the standard library, so that no test shares code with what
//! it tests.

mod client;
pub mod docs;
mod gate;
mod origin;
mod process;
mod schema;

pub use client::{Client, Response};
pub use gate::Gate;
pub use origin::{Exchange, Origin};
pub use process::{Process, gateway_binary};
pub use schema::violations;
