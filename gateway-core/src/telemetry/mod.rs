//! What the gateway tells about itself: the record of a request and the sinks it goes to.

pub mod access_log;
mod connection;
pub mod failure;
mod grpc;
mod hex;
pub mod metrics;
pub mod record;
pub mod redaction;
mod sinks;
pub mod trace;
mod tracestate;

pub(crate) use access_log::utc;
pub use access_log::{AccessLog, AccessLogOptions};
pub use connection::{ConnectionRecord, EndedBy};
pub use failure::FailureCode;
pub use grpc::GrpcStatus;
pub use hex::{Ascii, lower_hex};
pub use metrics::{
    BreakerChange, Compared, ConnectionEnd, Copied, CredentialCheck, EjectionReason, Handles,
    HandshakeFailure, LimiterDecision, ListenerMetrics, Metrics, PluginError, PluginMetrics,
    Refusal, ReloadOutcome, RetryReason, RouteMetrics, StoreCall, UpgradeOutcome, UpstreamMetrics,
};
pub(crate) use metrics::{Outcome, observe, observe_attempt};
pub use record::{AttemptRecord, Phases, RequestRecord, StatusSource};
pub use redaction::Redactor;
pub use sinks::Telemetry;
pub use trace::TraceContext;
pub use tracestate::TraceState;
