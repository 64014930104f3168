//! `Session`: one request and its answer on a connection of the gateway's own, in the form Pingora
//! drives.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use h2::{Reason, SendStream};
use http::{HeaderMap, Version, header};
use pingora::protocols::http::custom::{BodyWrite, CustomMessageWrite, client};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::{Digest, SocketDigest, UniqueIDType};
use pingora::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::timeout;

use super::GOODBYE;
use super::answer::{Answer, Received, failed, one_length, says_goodbye};
use super::connector::{Found, Pools};
use super::cut::{self, Cut};
use super::hedge::{Hedge, Try};
use super::http1::{Http1, no_request};
use super::http2::{Http2, Place};
use super::upgrade::Upgrade;
use crate::upstream::peer;

/// What comes up from an endpoint beside its answers: nothing, over HTTP.
type Messages = Box<dyn futures_util::Stream<Item = Result<Bytes>> + Unpin + Send + Sync>;

/// A request on its way, and what has come of it. Boxed, because Pingora moves what it holds of a session,
/// of whatever kind, with every request.
pub(crate) struct Session(Box<State>);

/// What a session holds.
pub(crate) struct State {
    /// What it is to be sent on, until it is.
    line: Option<Line>,
    /// The connection, if it has other streams.
    shared: Option<Arc<Http2>>,
    sockets: Arc<SocketDigest>,
    fd: i32,
    digest: Digest,
    cut: Arc<Cut>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    body: Option<Body>,
    /// Locked by nobody: a wait cannot be looked at from two threads, and Pingora asks that it can.
    answer: Mutex<Option<Try>>,
    head: Option<ResponseHeader>,
    received: Option<Received>,
    hedging: Option<Hedging>,
    /// What the request asks for besides an answer.
    upgrade: Option<Arc<Upgrade>>,
    /// The head, for a second attempt.
    sent: Option<RequestHeader>,
}

/// What a request is sent on.
pub(super) enum Line {
    Http2(Place),
    Http1(Http1, Lending),
}

/// Where a connection of HTTP/1 goes when its answer is read.
pub(super) struct Lending {
    pub(super) key: u64,
    pub(super) keepalive: Duration,
    pub(super) pools: Arc<Pools>,
}

/// A second attempt that may be made.
pub(super) struct Hedging {
    pub(super) hedge: Arc<Hedge>,
    pub(super) pools: Arc<Pools>,
}

impl Session {
    /// One that may become something else than HTTP.
    pub(super) fn upgrading(line: Line, upgrade: Arc<Upgrade>) -> Self {
        let mut session = Self::new(line, None);
        session.upgrade = Some(upgrade);
        session
    }

    pub(super) fn new(line: Line, hedging: Option<Hedging>) -> Self {
        let (shared, sockets, fd) = match &line {
            Line::Http2(place) => (Some(place.0.clone()), place.0.sockets.clone(), place.0.fd),
            Line::Http1(http1, _) => (None, http1.sockets.clone(), http1.fd),
        };
        let cut = Arc::new(Cut::default());
        let digest = Digest {
            proxy_digest: Some(cut::share(&cut)),
            socket_digest: Some(sockets.clone()),
            ..Digest::default()
        };
        Self(Box::new(State {
            line: Some(line),
            shared,
            sockets,
            fd,
            digest,
            cut,
            read_timeout: None,
            write_timeout: None,
            body: None,
            answer: Mutex::new(None),
            head: None,
            received: None,
            hedging,
            upgrade: None,
            sent: None,
        }))
    }
}

impl std::ops::Deref for Session {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl std::ops::DerefMut for Session {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl State {
    /// The first of: what is waited for, its end from outside, its time.
    async fn wait<T>(&self, what: impl Future<Output = T>, longest: Option<Duration>) -> Result<T> {
        tokio::select! {
            biased;
            outcome = what => Ok(outcome),
            () = ends(&self.cut, longest) => {
                if !self.cut.is_alone() {
                    // Whatever hangs there is nothing for the next request.
                    self.shared.iter().for_each(|shared| shared.retire());
                }
                Error::e_explain(ErrorType::ReadTimedout, "the stream was ended")
            }
        }
    }

    async fn send(&mut self, head: &RequestHeader, end: bool) -> Result<()> {
        self.sent = self.hedging.as_ref().map(|_| head.clone());
        match self.line.take().ok_or_else(no_request)? {
            Line::Http1(http1, lending) => {
                let upgrade = self.upgrade.clone().map(|upgrade| (upgrade, self.cut.clone()));
                let asked = ask_http1(http1, lending, head.clone(), upgrade);
                self.answer = Mutex::new(Some(asked));
            }
            Line::Http2(place) => {
                let sending = send(place, head, end);
                let (answer, stream) = self.wait(sending, self.write_timeout).await??;
                self.answer = Mutex::new(Some(answer));
                let (timeout, cut) = (self.write_timeout, self.cut.clone());
                self.body = Some(Body { stream: Some(stream), ended: end, timeout, cut });
            }
        }
        Ok(())
    }

    /// The head of the first answer, of one attempt or two.
    async fn answered(&mut self) -> Result<Answer> {
        let first = self.answer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut first = first.ok_or_else(no_request)?;
        let (Some(Hedging { hedge, pools }), Some(head)) = (self.hedging.take(), self.sent.take())
        else {
            return self.wait(first.as_mut(), self.read_timeout).await?;
        };
        let begin = |place| second(hedge.clone(), pools, place, head);
        let answer = self.wait(hedge.race(&mut first, begin), self.read_timeout).await??;
        let winner = match &answer.body {
            Received::Http2 { place, .. } => Some(place.0.clone()),
            Received::Http1 { .. } => None,
        };
        let same = |first: &Arc<Http2>| winner.as_ref().is_some_and(|own| Arc::ptr_eq(own, first));
        if let Some(silent) = self.shared.as_ref().filter(|first| !same(first)) {
            silent.doubt();
        }
        self.shared = winner;
        Ok(answer)
    }
}

/// Comes back when something has taken too long.
async fn ends(cut: &Cut, longest: Option<Duration>) {
    match longest {
        Some(longest) => drop(timeout(longest, cut.comes()).await),
        None => cut.comes().await,
    }
}

fn ask_http1(
    http1: Http1,
    lending: Lending,
    head: RequestHeader,
    upgrade: Option<(Arc<Upgrade>, Arc<Cut>)>,
) -> Try {
    Box::pin(async move {
        let Lending { key, keepalive, pools } = lending;
        http1.ask(&head, key, keepalive, pools.idle.clone(), upgrade).await
    })
}

/// Opens a stream. What comes back first is the wait for its answer.
async fn send(place: Place, head: &RequestHeader, end: bool) -> Result<(Try, SendStream<Bytes>)> {
    let mut sender = place.sender();
    let ready = poll_fn(|cx| sender.poll_ready(cx)).await;
    ready.map_err(|error| {
        // Nothing was sent yet, and nothing more will be.
        place.0.retire();
        Error::because(GOODBYE, "no stream can be opened", error)
    })?;
    let sent = sender.send_request(request(head, place.0.scheme)?, end);
    let (answer, stream) = sent.map_err(failed)?;
    let answer = async move {
        let answer = answer.await.map_err(|error| {
            if says_goodbye(&error) {
                // What comes next is not to find it before its driver has.
                place.0.retire();
            }
            failed(error)
        });
        let (parts, body) = answer?.into_parts();
        one_length(&parts.headers)?;
        Ok(Answer { head: parts.into(), body: Received::Http2 { stream: body, place } })
    };
    Ok((Box::pin(answer), stream))
}

/// A second attempt, from the connection on.
fn second(
    hedge: Arc<Hedge>,
    pools: Arc<Pools>,
    place: crate::upstream::Place,
    head: RequestHeader,
) -> Try {
    let mut peer = hedge.upstream.peer(&place, None, false, false);
    let [client, gateway] = hedge.ends;
    hedge.upstream.introduce(&mut peer, client, gateway);
    hedge.begins(place);
    Box::pin(async move {
        let errand = peer::errand(&peer).unwrap_or_else(|| hedge.upstream.errand());
        let Found { line, reused } = pools.line(&peer, &errand).await?;
        hedge.is_connected(reused);
        match line {
            Line::Http1(http1, lending) => ask_http1(http1, lending, head, None).await,
            Line::Http2(place) => send(place, &head, true).await?.0.await,
        }
    })
}

/// The head as HTTP/2 has it (RFC 9113, section 8.3.1): `Host` becomes the authority.
fn request(head: &RequestHeader, scheme: &str) -> Result<http::Request<()>> {
    let invalid =
        |error: http::Error| Error::because(ErrorType::InvalidHTTPHeader, "target", error);
    let authority = head.headers.get(header::HOST).map(|host| host.as_bytes());
    let target = match head.raw_path() {
        b"" => b"/",
        path => path,
    };
    let mut uri = http::Uri::builder().scheme(scheme).path_and_query(target);
    if let Some(authority) = authority.filter(|authority| !authority.is_empty()) {
        uri = uri.authority(authority);
    }
    let uri = uri.build().map_err(invalid)?;
    let mut request = http::Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = head.headers.clone();
    request.headers_mut().remove(header::HOST);
    Ok(request)
}

/// The way up for a request's body.
struct Body {
    /// None where there is no body.
    stream: Option<SendStream<Bytes>>,
    ended: bool,
    timeout: Option<Duration>,
    cut: Arc<Cut>,
}

impl Body {
    /// Sends as much as the endpoint takes, piece by piece.
    async fn send(&mut self, data: &mut Bytes) -> Result<()> {
        let Self { stream: Some(stream), ended, timeout: longest, cut } = self else {
            return Ok(());
        };
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            let mut late = pin!(ends(cut, *longest));
            cut.set_full(true);
            let room = tokio::select! {
                biased;
                room = poll_fn(|cx| stream.poll_capacity(cx)) => room,
                () = &mut late => {
                    return Error::e_explain(ErrorType::WriteTimedout, "the stream took nothing");
                }
            };
            cut.set_full(false);
            // An endpoint that wants no more of a stream says why where its answer is awaited: it may
            // have answered (RFC 9113, section 8.1), refused the stream or lost the connection.
            let sent = match room {
                // The window became smaller meanwhile.
                Some(Ok(0)) => continue,
                Some(Ok(room)) => {
                    stream.send_data(data.split_to(room.min(data.len())), false).is_ok()
                }
                _ => false,
            };
            if !sent {
                data.clear();
                *ended = true;
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.stream.iter_mut().for_each(|stream| stream.send_reset(Reason::CANCEL));
    }
}

#[async_trait]
impl BodyWrite for Body {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.send(data).await
    }

    async fn finish(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        if let Some(stream) = &mut self.stream {
            // The same if it fails.
            let _ = stream.send_data(Bytes::new(), true);
        }
        Ok(())
    }

    async fn cleanup(&mut self) -> Result<()> {
        // The answer came before the end of the request, which nobody waits for any more.
        if !std::mem::replace(&mut self.ended, true) {
            self.reset();
        }
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}

#[async_trait]
impl client::Session for Session {
    async fn write_request_header(&mut self, head: Box<RequestHeader>, end: bool) -> Result<()> {
        self.send(&head, end).await
    }

    async fn write_request_body(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        let Some(body) = &mut self.body else { return Ok(()) };
        body.write_all_buf(&mut data).await?;
        if end { body.finish().await } else { Ok(()) }
    }

    async fn finish_request_body(&mut self) -> Result<()> {
        match &mut self.body {
            Some(body) => body.finish().await,
            None => Ok(()),
        }
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    async fn read_response_header(&mut self) -> Result<()> {
        let answer = self.answered().await?;
        self.head = Some(answer.head);
        self.received = Some(answer.body);
        Ok(())
    }

    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        let Some(mut received) = self.received.take() else { return Ok(None) };
        let piece = self.wait(received.data(), self.read_timeout).await;
        self.received = Some(received);
        piece?
    }

    fn response_finished(&self) -> bool {
        self.head.is_some() && self.received.is_none()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        self.body.iter_mut().for_each(Body::reset);
    }

    fn response_header(&self) -> Option<&ResponseHeader> {
        self.head.as_ref()
    }

    fn was_upgraded(&self) -> bool {
        false
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.sockets.peer_addr()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.sockets.local_addr()
    }

    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        let Some(mut received) = self.received.take() else { return Ok(None) };
        let trailers = self.wait(received.trailers(), self.read_timeout).await?;
        self.received = Some(received);
        trailers
    }

    fn fd(&self) -> UniqueIDType {
        self.fd
    }

    async fn check_response_end_or_error(&mut self, _: bool) -> Result<bool> {
        self.received.as_mut().map_or(Ok(false), Received::is_over)
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        let (timeout, cut) = (self.write_timeout, self.cut.clone());
        let none = || Body { stream: None, ended: true, timeout, cut };
        Some(Box::new(self.body.take().unwrap_or_else(none)))
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        Some(Box::new(stream::empty()))
    }

    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(()))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(received) = self.received.take() {
            received.finish();
        }
    }
}
