//! Health: which endpoints can be chosen, by what checks say of them and by what becomes of requests.

mod active;
mod passive;
mod probe;
mod standing;

pub(super) use active::Checkers;
pub(crate) use passive::Ending;
pub(super) use passive::{Passive, Tally, blames_endpoint};
pub(super) use probe::Probe;
pub use standing::{Condition, Overrides};
pub(super) use standing::{Kept, Standing};
