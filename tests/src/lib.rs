//! The test kit for whole gateways: a gateway on port 0, scripted upstreams, a client of raw bytes.
//!
//! Everything here is blocking and of the standard library, so that no test shares code with what
//! it tests.

mod alone;
mod certificates;
mod client;
mod dns;
pub mod docs;
mod gate;
mod installed;
mod origin;
mod process;
mod program;
mod redis;
mod schema;

pub use alone::is_alone;
pub use certificates::{Certificates, Issued};
pub use client::{Client, Response};
pub use dns::Dns;
pub use gate::{Gate, balanced_config};
pub use installed::Installed;
pub use origin::{Exchange, Origin};
pub use process::{Process, gateway_binary};
pub use program::Program;
pub use redis::Redis;
pub use schema::violations;

/// How long something may take that is not what a test is about.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Waits until this holds.
///
/// # Panics
/// It does not come to hold.
#[track_caller]
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let came = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < came, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
