//! Transport: how connections to an upstream's endpoints come about, where there is more to it than
//! TCP and HTTP/1.
//!
//! Pingora would build a TLS configuration anew for every connection with a CA of its own, resumes
//! none of those sessions, verifies nothing where a server name is empty, and cannot end one
//! HTTP/2 stream from outside. So such connections are ours: [`Connector`] is what Pingora asks for
//! them, [`Wire`] is one of them, and an HTTP/2 request is a [`Session`]. Over plain TCP, HTTP/1
//! stays Pingora's own.

mod answer;
mod connector;
mod cut;
mod dial;
mod hedge;
mod http1;
mod http2;
mod session;
mod tls;
mod upgrade;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, header};
use pingora::ErrorType;

use crate::config::{ProxyProtocol, UpstreamConfig, UpstreamProtocol};

pub(crate) use connector::Connector;
pub(crate) use cut::{Cut, cut_of};
pub(super) use dial::{Offer, introduction, own_introduction};
pub(crate) use hedge::{Failed, Hedge, Second};
pub(crate) use tls::Tls;
pub(crate) use upgrade::{Upgrade, Upgraded};
pub(crate) use wire::Wire;

/// The kind of error that says: the endpoint has not looked at this request and will not. It can be
/// sent again, whatever it asks for.
pub(crate) const REFUSED: ErrorType = ErrorType::Custom("refused stream");

/// The same, because the endpoint takes no more on the connection. Its others can be asked at once.
pub(crate) const GOODBYE: ErrorType = ErrorType::Custom("goodbye");

/// Whether a request's head asks for trailers, the one thing that `TE` may say in HTTP/2.
pub(crate) fn is_for_trailers(headers: &HeaderMap) -> bool {
    headers.get(header::TE).is_some_and(|te| {
        te.as_bytes().split(|byte| *byte == b',').any(|one| one.trim_ascii() == b"trailers")
    })
}

/// What shapes the connections to an upstream's endpoints.
#[derive(Debug)]
pub(crate) struct Transport {
    /// What Pingora's peers call it by.
    pub(super) key: u64,
    pub(super) protocol: UpstreamProtocol,
    pub(super) tls: Option<Tls>,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    /// How many streams a connection may have.
    streams: usize,
    /// How long a connection of HTTP/2 may be without a stream.
    keepalive: Duration,
}

impl Transport {
    /// `tls` is what was read of the config's files.
    pub(crate) fn new(config: &UpstreamConfig, tls: Option<Tls>) -> Self {
        // 0 is nobody's.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            key: NEXT.fetch_add(1, Ordering::Relaxed),
            protocol: config.protocol,
            tls,
            proxy_protocol: config.proxy_protocol,
            streams: config.streams_per_connection as usize,
            keepalive: config.timeouts.keepalive.into(),
        }
    }

    /// What of a config shapes connections, in words: two that say the same share them. What the
    /// files of its `tls` hold comes beside.
    pub(crate) fn digest(config: &UpstreamConfig, tls: &str) -> String {
        let UpstreamConfig { protocol, streams_per_connection, proxy_protocol, timeouts, .. } =
            config;
        let keepalive = timeouts.keepalive;
        format!("{protocol:?} {streams_per_connection} {proxy_protocol:?} {keepalive:?} {tls}")
    }

    /// Its number: a transport that changes is another one.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// The scheme of what is asked for over such connections.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether Pingora's own connections will do.
    pub(super) fn is_plain(&self) -> bool {
        self.protocol == UpstreamProtocol::Http1
            && self.tls.is_none()
            && self.proxy_protocol.is_none()
    }
}
