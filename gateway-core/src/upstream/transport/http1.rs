//! HTTP/1 connections of the gateway's own, for requests that may be sent twice. Spoken by hyper; all
//! other requests over HTTP/1 are Pingora's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, Version, header};
use http_body_util::Empty;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use pingora::protocols::{SocketDigest, UniqueID};
use pingora::{Error, Result};
use pingora_http::RequestHeader;

use super::Wire;
use super::answer::{Answer, Received, failed_http1};
use super::cut::Cut;
use super::upgrade::{Upgrade, Upgraded};
use crate::upstream::{kept_for, safely};

/// How many fields the head of an answer may have: as many as over Pingora's connections.
const FIELDS: usize = 256;

/// How many connections wait at most, a worker: as many as Pingora's own.
const WAITING: usize = 128;

/// How often connections that waited for too long are let go.
const SWEEP: Duration = Duration::from_secs(1);

/// The idle connections of one worker, by what Pingora calls connections that can be shared.
#[derive(Default)]
pub(super) struct Idle {
    held: Mutex<HashMap<u64, Vec<Waiting>>>,
    sweeping: Mutex<bool>,
}

struct Waiting {
    http1: Http1,
    until: Instant,
}

/// A connection that has no request.
pub(super) struct Http1 {
    sender: SendRequest<Empty<Bytes>>,
    pub(super) sockets: Arc<SocketDigest>,
    pub(super) fd: i32,
    /// It has had a request before.
    reused: bool,
}

/// Where a connection is given back once its answer is read.
pub(super) struct Lent {
    http1: Http1,
    key: u64,
    keepalive: Duration,
    idle: Arc<Idle>,
}

impl Http1 {
    pub(super) async fn begin(wire: Wire) -> Result<Self> {
        let (sockets, fd) = (wire.sockets().clone(), wire.id());
        let begun = Builder::new().max_headers(FIELDS).handshake(TokioIo::new(wire)).await;
        let (sender, connection) = begun.map_err(|error| failed_http1(error, false))?;
        // It ends when the sender is dropped, or the endpoint closes.
        tokio::spawn(connection.with_upgrades());
        Ok(Self { sender, sockets, fd, reused: false })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn ask(
        mut self,
        head: &RequestHeader,
        key: u64,
        keepalive: Duration,
        idle: Arc<Idle>,
        upgrade: Option<(Arc<Upgrade>, Arc<Cut>)>,
    ) -> Result<Answer> {
        let reused = self.reused;
        let answer = self.sender.send_request(request(head)).await;
        let mut answer = answer.map_err(|error| failed_http1(error, reused))?;
        if let Some((upgrade, cut)) = upgrade
            && answer.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            let io = hyper::upgrade::on(&mut answer).await;
            let io = TokioIo::new(io.map_err(|error| failed_http1(error, false))?);
            upgrade.put(Upgraded { io, cut });
            // Pingora would compare it with what its own session asked for.
            *answer.status_mut() = StatusCode::OK;
        }
        let (parts, body) = answer.into_parts();
        let keepalive = match kept_for(&parts.headers) {
            Some(told) => keepalive.min(safely(told)),
            None => keepalive,
        };
        let lent = Lent { http1: self, key, keepalive, idle };
        let body = Received::Http1 { body, trailers: None, read: false, lent };
        Ok(Answer { head: parts.into(), body })
    }
}

fn request(head: &RequestHeader) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = head.method.clone();
    // The origin form (RFC 9112, section 3.2.1): what came over HTTP/2 has an authority as well.
    let mut target = http::uri::Parts::default();
    target.path_and_query = head.uri.path_and_query().cloned();
    *request.uri_mut() = Uri::from_parts(target).unwrap_or_else(|_| head.uri.clone());
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = head.headers.clone();
    // It would have to be named in `Connection`, and there is no body to have trailers.
    request.headers_mut().remove(header::TE);
    request
}

impl Lent {
    pub(super) fn give_back(self) {
        if self.http1.sender.is_closed() || self.keepalive.is_zero() {
            return;
        }
        let http1 = Http1 { reused: true, ..self.http1 };
        let waiting = Waiting { http1, until: Instant::now() + self.keepalive };
        self.idle.put(self.key, waiting);
        self.idle.sweep();
    }
}

impl Idle {
    fn held(&self) -> MutexGuard<'_, HashMap<u64, Vec<Waiting>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has one more wait, and ends the one that would end first if there are too many.
    fn put(&self, key: u64, waiting: Waiting) {
        let mut held = self.held();
        held.entry(key).or_default().push(waiting);
        if held.values().map(Vec::len).sum::<usize>() <= WAITING {
            return;
        }
        let first = |all: &Vec<Waiting>| all.iter().map(|one| one.until).min();
        let soonest = held.iter().min_by_key(|(_, all)| first(all)).map(|(key, _)| *key);
        let Some(all) = soonest.and_then(|key| held.get_mut(&key)) else { return };
        let place = all.iter().enumerate().min_by_key(|(_, one)| one.until).map(|(place, _)| place);
        place.into_iter().for_each(|place| drop(all.remove(place)));
        held.retain(|_, all| !all.is_empty());
    }

    /// The connection that was used last, if one can be used.
    pub(super) fn take(&self, key: u64) -> Option<Http1> {
        let mut held = self.held();
        let waiting = held.get_mut(&key)?;
        let now = Instant::now();
        while let Some(last) = waiting.pop() {
            if last.until > now && last.http1.sender.is_ready() {
                return Some(last.http1);
            }
        }
        None
    }

    /// Lets go of connections whose time is up, for as long as there are any.
    fn sweep(self: &Arc<Self>) {
        let mut sweeping = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *sweeping, true) {
            return;
        }
        let idle = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let now = Instant::now();
                let mut held = idle.held();
                held.retain(|_, waiting| {
                    waiting.retain(|one| one.until > now && !one.http1.sender.is_closed());
                    !waiting.is_empty()
                });
                if held.is_empty() {
                    *idle.sweeping.lock().unwrap_or_else(PoisonError::into_inner) = false;
                    return;
                }
            }
        });
    }
}

/// What cannot be asked for.
pub(super) fn no_request() -> Box<Error> {
    Error::explain(pingora::ErrorType::InternalError, "nothing was asked")
}
