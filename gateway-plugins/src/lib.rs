//! THE CATALOGUE: the plugins of the stock gateway, one module each. This list is all there is.

mod body_limit;
mod headers;
mod ip_restriction;
mod request_id;

pub use body_limit::BodyLimit;
pub use headers::Headers;
pub use ip_restriction::IpRestriction;
pub use request_id::RequestId;

use gateway_core::plugin::Spec;

/// Every plugin in the catalogue.
pub fn all() -> Vec<Spec> {
    vec![
        Spec::of::<BodyLimit>(),
        Spec::of::<Headers>(),
        Spec::of::<IpRestriction>(),
        Spec::of::<RequestId>(),
    ]
}
