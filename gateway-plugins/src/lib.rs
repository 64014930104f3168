//! THE CATALOGUE: the plugins of the stock gateway, one module each. This list is all there is.

mod body_limit;
mod circuit_breaker;
mod coding;
mod compression;
mod cors;
mod grpc;
mod grpc_message_limit;
mod grpc_web;
mod headers;
mod identity;
mod ip_restriction;
mod jwt;
mod key_auth;
mod rate_limit;
mod redaction;
mod request_id;
mod vary;

pub use body_limit::BodyLimit;
pub use circuit_breaker::CircuitBreaker;
pub use compression::Compression;
pub use cors::Cors;
pub use grpc_message_limit::GrpcMessageLimit;
pub use grpc_web::GrpcWeb;
pub use headers::Headers;
pub use ip_restriction::IpRestriction;
pub use jwt::Jwt;
pub use key_auth::KeyAuth;
pub use rate_limit::RateLimit;
pub use redaction::Redaction;
pub use request_id::RequestId;

use gateway_core::plugin::Spec;

/// Every plugin in the catalogue.
pub fn all() -> Vec<Spec> {
    vec![
        Spec::of::<BodyLimit>(),
        Spec::of::<CircuitBreaker>(),
        Spec::of::<Compression>(),
        Spec::of::<Cors>(),
        Spec::of::<GrpcMessageLimit>(),
        Spec::of::<GrpcWeb>(),
        Spec::of::<Headers>(),
        Spec::of::<IpRestriction>(),
        Spec::of::<Jwt>(),
        Spec::of::<KeyAuth>(),
        Spec::of::<RateLimit>(),
        Spec::of::<Redaction>(),
        Spec::of::<RequestId>(),
    ]
}
