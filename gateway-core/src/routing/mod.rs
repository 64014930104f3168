//! Request head → route: pure functions over what a client sent and what was configured.
//!
//! Traffic, the read-outs and the tests all run this code. [`target`], [`path`] and [`host`] bring
//! what a client sent into the one form that is matched, authorised and forwarded; [`table`] finds
//! the route.

pub mod host;
pub mod path;
pub mod table;
pub mod target;

mod methods;
mod paths;
mod pattern;
mod rules;
mod slot;
mod value;

pub use host::{HostFault, HostText, LastHost, normalise_host};
pub use methods::AllowedMethods;
pub use path::{NormalPath, PathFault, normalise};
pub use pattern::{Captures, HostPattern, PathPattern, Template};
pub use rules::{Rules, Unmet};
pub use table::{Match, RouteIndex, RouteQuery, RouteSpec, RouteTable, Shadow, Tie, Unmatched};
pub use target::{Target, TargetFault, split_target};
pub use value::{ValueRule, ValueTest};
