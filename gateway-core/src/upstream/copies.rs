//! Requests of which nobody waits for the answer, with their bodies whole: on connections of their own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pingora_http::RequestHeader;

use super::Upstream;
use super::transport::{Offer, is_for_trailers, own_introduction};
use crate::config::UpstreamProtocol;

/// How many idle connections of HTTP/1 are kept for one endpoint.
const IDLE: usize = 32;

/// Sends requests to an upstream beside those of clients.
pub(crate) struct Copies {
    upstream: Arc<Upstream>,
    idle: Mutex<HashMap<SocketAddr, Vec<Waiting>>>,
    streams: Mutex<HashMap<SocketAddr, http2::SendRequest<Full<Bytes>>>>,
    turn: AtomicUsize,
}

struct Waiting {
    sender: http1::SendRequest<Full<Bytes>>,
    since: Instant,
}

impl Waiting {
    fn lasts(&self, longest: Duration) -> bool {
        !self.sender.is_closed() && self.since.elapsed() < longest
    }
}

/// What came back.
pub(crate) struct Returned {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body, if it was not longer than was asked for.
    pub(crate) body: Option<Bytes>,
    pub(crate) trailers: HeaderMap,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Returned {
    async fn read(answer: Response<Incoming>, longest: usize) -> Result<Self, String> {
        let (parts, body) = answer.into_parts();
        let (body, trailers) = match Limited::new(body, longest).collect().await {
            Ok(whole) => {
                let trailers = whole.trailers().cloned();
                (Some(whole.to_bytes()), trailers)
            }
            Err(error) if error.is::<LengthLimitError>() => (None, None),
            Err(error) => return Err(words(error)),
        };
        let trailers = trailers.unwrap_or_default();
        Ok(Self { status: parts.status, headers: parts.headers, body, trailers })
    }
}

/// A connection of HTTP/2 on which an answer is awaited: new copies are not to wait for it again if none comes.
struct Doubt<'a> {
    copies: &'a Copies,
    address: SocketAddr,
    answered: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.copies.streams().remove(&self.address);
        }
    }
}

impl Copies {
    pub(crate) fn new(upstream: Arc<Upstream>) -> Self {
        Self {
            upstream,
            idle: Mutex::default(),
            streams: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The upstream that gets them.
    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Sends one request and reads its answer, as far as `longest` bytes of the body.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub(crate) async fn send(
        &self,
        head: &RequestHeader,
        body: Bytes,
        longest: usize,
    ) -> Result<Returned, String> {
        // Without a place at the endpoint, which a request of a client might need.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = self.upstream.anyone(turn).ok_or("no endpoint can be chosen")?;
        let mut kept = self.kept(address);
        loop {
            let mut request = self.request(head, body.clone())?;
            let (sender, reused) = match kept.take() {
                Some(sender) => (sender, true),
                None => (self.connect(address).await?, false),
            };
            let unsent = match sender {
                Sender::Http2(mut sender) => {
                    let mut doubt = Doubt { copies: self, address, answered: false };
                    match sender.try_send_request(by_http2(request)).await {
                        Ok(answer) => {
                            let returned = Returned::read(answer, longest).await;
                            doubt.answered = returned.is_ok();
                            return returned;
                        }
                        Err(error) => error,
                    }
                }
                Sender::Http1(mut sender) => {
                    request.headers_mut().remove(header::TE);
                    match sender.try_send_request(request).await {
                        Ok(answer) => {
                            let returned = Returned::read(answer, longest).await?;
                            if returned.body.is_some() {
                                self.keep(address, sender);
                            }
                            return Ok(returned);
                        }
                        Err(error) => error,
                    }
                }
            };
            // What was idle may have ended before anything was written.
            if !reused || unsent.message().is_none() {
                return Err(words(unsent.into_error()));
            }
        }
    }

    fn request(&self, head: &RequestHeader, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = head.method.clone();
        let mut target = http::uri::Parts::default();
        target.path_and_query = head.uri.path_and_query().cloned();
        *request.uri_mut() = Uri::from_parts(target).map_err(words)?;
        *request.headers_mut() = head.headers.clone();
        let headers = request.headers_mut();
        // What belongs to the message that it is a copy of, and to its connection.
        for name in [
            header::TRANSFER_ENCODING,
            header::CONTENT_LENGTH,
            header::CONNECTION,
            header::EXPECT,
            header::UPGRADE,
        ] {
            headers.remove(name);
        }
        if !body.is_empty() || !head.method.is_safe() {
            headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        let scheme = self.upstream.transport.scheme();
        request.extensions_mut().insert(scheme);
        Ok(request)
    }

    /// A connection of before.
    fn kept(&self, address: SocketAddr) -> Option<Sender> {
        let stream = self.stream(address).map(Sender::Http2);
        stream.or_else(|| self.take(address).map(Sender::Http1))
    }

    async fn connect(&self, address: SocketAddr) -> Result<Sender, String> {
        let transport = &self.upstream.transport;
        let header = transport.proxy_protocol.map(own_introduction);
        let wire = transport.dial(address, header, Offer::Configured).await;
        let wire = wire.map_err(|error| error.to_string())?;
        let is_http2 = match transport.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Auto => wire.chose_http2(),
        };
        let io = TokioIo::new(wire);
        if is_http2 {
            let handshake = http2::handshake(TokioExecutor::new(), io);
            let (sender, connection) = handshake.await.map_err(words)?;
            tokio::spawn(connection);
            self.streams().insert(address, sender.clone());
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await.map_err(words)?;
        tokio::spawn(connection);
        Ok(Sender::Http1(sender))
    }

    fn stream(&self, address: SocketAddr) -> Option<http2::SendRequest<Full<Bytes>>> {
        let mut streams = self.streams();
        streams.retain(|_, sender| !sender.is_closed());
        streams.get(&address).cloned()
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<SocketAddr, http2::SendRequest<Full<Bytes>>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that waits, and has not waited for too long.
    fn take(&self, address: SocketAddr) -> Option<http1::SendRequest<Full<Bytes>>> {
        let longest = self.upstream.timeouts().keepalive;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.get_mut(&address)?;
        waiting.retain(|one| one.lasts(longest));
        Some(waiting.pop()?.sender)
    }

    fn keep(&self, address: SocketAddr, sender: http1::SendRequest<Full<Bytes>>) {
        if sender.is_closed() || self.upstream.timeouts().keepalive == Duration::ZERO {
            return;
        }
        let longest = self.upstream.timeouts().keepalive;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !idle.contains_key(&address) {
            // A new endpoint, maybe in place of another.
            idle.retain(|_, waiting| {
                waiting.retain(|one| one.lasts(longest));
                !waiting.is_empty()
            });
        }
        let waiting = idle.entry(address).or_default();
        if waiting.len() < IDLE {
            waiting.push(Waiting { sender, since: Instant::now() });
        }
    }
}

/// As HTTP/2 has it (RFC 9113, section 8.3.1): `Host` becomes the authority.
fn by_http2(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let host = request.headers_mut().remove(header::HOST);
    if is_for_trailers(request.headers()) {
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    } else {
        request.headers_mut().remove(header::TE);
    }
    let scheme = request.extensions_mut().remove::<&'static str>().unwrap_or("http");
    *request.version_mut() = Version::HTTP_2;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = scheme.parse().ok();
    parts.authority = host.and_then(|host| host.to_str().ok()?.parse().ok());
    if parts.authority.is_none() {
        parts.scheme = None;
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
