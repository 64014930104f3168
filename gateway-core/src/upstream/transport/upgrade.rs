//! A connection that an endpoint agreed to speak something else on.

use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::rt::TokioIo;

use super::cut::Cut;

/// Where a connection is put that is HTTP no more. Made for the request that asks for it.
#[derive(Default)]
pub(crate) struct Upgrade(Mutex<Option<Upgraded>>);

/// A connection to an endpoint that is HTTP no more.
pub(crate) struct Upgraded {
    pub(crate) io: TokioIo<hyper::upgrade::Upgraded>,
    /// How it is ended from outside.
    pub(crate) cut: Arc<Cut>,
}

impl Upgrade {
    pub(super) fn put(&self, upgraded: Upgraded) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgraded);
    }

    /// The connection, if there is one. Whoever asks has it.
    pub(crate) fn take(&self) -> Option<Upgraded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
