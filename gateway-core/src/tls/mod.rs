//! TLS for those who connect: which certificate is shown for which name, who has to show one, and what is known of a
//! connection from then on.
//!
//! rustls speaks it. The name that a client asks for is read before the handshake goes on, so that who has to show a
//! certificate can depend on it.

mod accept;
mod certificate;
mod client;
mod plan;
mod shown;
mod ticket;

pub(crate) use accept::Secured;
pub(crate) use client::Identity;
pub(crate) use plan::{Spoken, TlsPlan};
pub(crate) use ticket::secret;

/// What is wrong with a config's files: where under `tls`, and what.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: Vec<Place>,
    pub(crate) message: String,
}

/// A part of a path under `tls`.
#[derive(Debug)]
pub(crate) enum Place {
    Key(&'static str),
    Index(usize),
}

impl Fault {
    /// The same, of a part of a list.
    fn within(mut self, list: &'static str, index: usize) -> Self {
        self.at.splice(0..0, [Place::Key(list), Place::Index(index)]);
        self
    }
}

impl From<&'static str> for Place {
    fn from(key: &'static str) -> Self {
        Self::Key(key)
    }
}
