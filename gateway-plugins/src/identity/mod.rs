//! What plugins that recognise callers share: where credentials stand in a request, and how those are
//! told that lack good ones.

mod challenge;
mod place;

pub(crate) use challenge::{Challenge, Denial, bearer};
pub(crate) use place::{Found, PlaceConfig, Places, remove_field};
