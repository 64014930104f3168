//! The runtime of Gateway: from a YAML text to a served request.
//!
//! [`Gateway::builder`] is where those begin who embed it; [`plugin`] is where those begin who
//! extend it. `ARCHITECTURE.md` in the repository is the map of the rooms.

mod action;
pub mod admin;
mod carried;
pub mod config;
mod consumer;
mod context;
pub mod explain;
pub mod fetch;
mod gateway;
mod grpc;
pub mod lifecycle;
pub mod listener;
mod mirror;
mod notify;
pub mod plugin;
mod proxy;
pub mod reload;
pub mod routing;
pub mod snapshot;
pub mod telemetry;
mod tls;
pub mod upstream;

pub use carried::{Carried, monotonic};
pub use consumer::{Consumer, Consumers};
pub use context::RequestCtx;
pub use gateway::{
    Checked, EXIT_ADDRESS, EXIT_CONFIG, EXIT_FAILED, EXIT_WARNINGS, Gateway, GatewayBuilder,
};
pub use grpc::GrpcForm;
pub use lifecycle::{Asked, DrainOutcome, Running, StartError, UpgradeError, Upgraded};
pub use proxy::failure_status;
pub use reload::ReloadError;
