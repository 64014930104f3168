//! HTTP/2 connections to endpoints, each with many streams, and the pool that hands them out.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::PingPong;
use h2::client::{Connection, SendRequest};
use pingora::protocols::{SocketDigest, UniqueID};
use pingora::{Error, ErrorType};
use tokio::sync::Notify;

use super::{Transport, Wire};

/// How much an endpoint may send ahead on one stream, and on one connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// The largest head of an answer that is decoded.
const HEADER_LIST: u32 = 64 * 1024;
/// How much of requests' bodies may wait on one stream to be sent.
const SEND_BUFFER: usize = 256 * 1024;
/// How long an endpoint that is doubted may take to answer a ping.
const PONG: Duration = Duration::from_secs(5);

/// One connection.
pub(super) struct Http2 {
    send: SendRequest<Bytes>,
    pub(super) sockets: Arc<SocketDigest>,
    pub(super) fd: i32,
    /// What `:scheme` says on it.
    pub(super) scheme: &'static str,
    most: usize,
    state: Mutex<State>,
    /// The last stream is gone.
    idle: Notify,
    /// Somebody doubts that the endpoint is still there.
    doubted: Notify,
}

#[derive(Default)]
struct State {
    streams: usize,
    /// How many streams there were.
    count: u64,
    /// It takes no more streams.
    retired: bool,
}

/// A stream's place on its connection, given back when dropped.
pub(super) struct Place(pub(super) Arc<Http2>);

impl Http2 {
    /// Begins HTTP/2 on a connection that speaks nothing else.
    pub(super) async fn begin(wire: Wire, transport: &Transport) -> Result<Arc<Self>, Box<Error>> {
        let (sockets, fd) = (wire.sockets().clone(), wire.id());
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER);
        let failed = |error| Error::because(ErrorType::InvalidH2, "beginning HTTP/2", error);
        let (send, mut connection) = builder.handshake(wire).await.map_err(failed)?;
        // What an endpoint says first is how many streams it takes, so that whoever has its answer to
        // a ping knows, and knows that it speaks HTTP/2 at all.
        let mut pings = connection.ping_pong().expect("it is taken once");
        {
            let mut pong = pin!(pings.ping(h2::Ping::opaque()));
            let first = poll_fn(|cx| match pong.as_mut().poll(cx) {
                Poll::Ready(pong) => Poll::Ready(pong.map(drop)),
                Poll::Pending => connection.poll_unpin(cx),
            });
            first.await.map_err(failed)?;
        }
        if connection.max_concurrent_send_streams() == 0 {
            return Error::e_explain(ErrorType::InvalidH2, "the endpoint takes no streams");
        }
        let http2 = Arc::new(Self {
            send,
            sockets,
            fd,
            scheme: transport.scheme(),
            most: transport.streams,
            state: Mutex::default(),
            idle: Notify::new(),
            doubted: Notify::new(),
        });
        tokio::spawn(drive(connection, pings, http2.clone(), transport.keepalive));
        Ok(http2)
    }

    /// A place for one more stream, if there is one.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let most = self.most.min(self.send.current_max_send_streams());
        let mut state = self.state();
        if state.retired || state.streams >= most {
            return None;
        }
        state.streams += 1;
        state.count += 1;
        Some(Place(self.clone()))
    }

    /// No stream begins on it any more; those that run may end.
    pub(super) fn retire(&self) {
        self.state().retired = true;
        // Its driver may wait for the next stream.
        self.idle.notify_one();
    }

    /// Has the endpoint asked whether it is still there: a connection that answers nothing is closed.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Comes back when the endpoint did not answer whoever doubted it.
    async fn is_silent(&self, pings: &mut PingPong) {
        loop {
            self.doubted.notified().await;
            let pong = tokio::time::timeout(PONG, pings.ping(h2::Ping::opaque()));
            if !matches!(pong.await, Ok(Ok(_))) {
                return;
            }
        }
    }

    /// The same, unless it has a stream. Says whether it takes no more.
    pub(super) fn retire_if_idle(&self) -> bool {
        let mut state = self.state();
        if state.streams > 0 && !state.retired {
            return false;
        }
        state.retired = true;
        drop(state);
        self.idle.notify_one();
        true
    }

    fn is_retired(&self) -> bool {
        self.state().retired
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes back when the connection has had no stream for this long, or none will come. Nobody
    /// gets a place on it any more then.
    async fn is_left(&self, keepalive: Duration) {
        loop {
            let count = {
                let mut state = self.state();
                if state.streams == 0 && (state.retired || keepalive.is_zero() && state.count > 0) {
                    state.retired = true;
                    return;
                }
                (state.streams == 0).then_some(state.count)
            };
            match count {
                // The first stream is on its way.
                None | Some(0) => self.idle.notified().await,
                Some(count) => {
                    tokio::select! {
                        () = tokio::time::sleep(keepalive) => {}
                        () = self.idle.notified() => continue,
                    }
                    let mut state = self.state();
                    if state.streams == 0 && state.count == count {
                        state.retired = true;
                        return;
                    }
                }
            }
        }
    }
}

impl Place {
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.0.send.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.streams -= 1;
        if state.streams == 0 {
            drop(state);
            self.0.idle.notify_one();
        }
    }
}

/// Runs a connection until it ends, or nobody needs it any more.
async fn drive(
    connection: Connection<Wire, Bytes>,
    mut pings: PingPong,
    http2: Arc<Http2>,
    keepalive: Duration,
) {
    tokio::select! {
        outcome = connection => {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a connection of HTTP/2 to an endpoint ended");
            }
        }
        () = http2.is_left(keepalive) => {}
        () = http2.is_silent(&mut pings) => {
            tracing::debug!("a connection of HTTP/2 to an endpoint is dead");
        }
    }
    http2.retire();
}

/// The HTTP/2 connections of one worker, by what Pingora calls connections that can be shared.
#[derive(Default)]
pub(super) struct Pool(Mutex<HashMap<u64, Arc<Entry>>>);

/// The connections of one endpoint.
#[derive(Default)]
pub(super) struct Entry {
    connections: Mutex<Vec<Arc<Http2>>>,
    /// Held by the one that connects, while others wait for what comes of it.
    connecting: tokio::sync::Mutex<()>,
}

impl Pool {
    pub(super) fn entry(&self, key: u64) -> Arc<Entry> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(&key) {
            return entry.clone();
        }
        // Endpoints that are gone leave nothing behind.
        entries.retain(|_, entry| Arc::strong_count(entry) > 1 || !entry.is_empty());
        entries.entry(key).or_default().clone()
    }
}

impl Entry {
    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Http2>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.connections().iter().all(|one| one.is_retired())
    }

    /// A place on a connection that there is.
    pub(super) fn place(&self) -> Option<Place> {
        let mut connections = self.connections();
        connections.retain(|one| !one.is_retired());
        connections.iter().find_map(Http2::place)
    }

    pub(super) fn add(&self, http2: Arc<Http2>) {
        self.connections().push(http2);
    }

    /// A place on a connection that there is, or on one that is made now. Says whether it was there.
    ///
    /// Connections are made one after the other, so that requests that come together share one.
    pub(super) async fn place_or<F>(&self, connect: impl FnOnce() -> F) -> Outcome
    where
        F: Future<Output = Result<Made, Box<Error>>>,
    {
        let _turn = self.connecting.lock().await;
        if let Some(place) = self.place() {
            return Ok((Made::Http2(place.0.clone()), Some(place)));
        }
        let made = connect().await?;
        let Made::Http2(http2) = &made else { return Ok((made, None)) };
        let place = http2.place();
        self.add(http2.clone());
        Ok((made, place))
    }
}

/// What a handshake led to.
pub(super) enum Made {
    Http2(Arc<Http2>),
    /// The endpoint wants to speak HTTP/1.
    Http1(Wire),
}

type Outcome = Result<(Made, Option<Place>), Box<Error>>;
