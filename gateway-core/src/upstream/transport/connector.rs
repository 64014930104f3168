//! `Connector`: what Pingora asks for connections that are not its own.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::http::custom::{self, Connection};
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType, Result};

use super::dial::Offer;
use super::http1::{Http1, Idle};
use super::http2::{Http2, Made, Place, Pool};
use super::session::{Hedging, Lending, Line, Session};
use super::{Transport, Wire};
use crate::config::UpstreamProtocol;
use crate::upstream::peer::{self, Errand};

/// How many connections of HTTP/2 there are for one client each before those are ended that have no
/// stream: as many as Pingora keeps idle of HTTP/1.
const INTRODUCED: usize = 128;

/// How many endpoints that chose HTTP/1 are remembered.
const REMEMBERED: usize = 10_000;

/// One worker's connections to endpoints over TLS, HTTP/2 or with the PROXY protocol, and those of
/// requests that may be sent twice.
#[derive(Default)]
pub(crate) struct Connector(Arc<Pools>);

/// The connections themselves.
#[derive(Default)]
pub(super) struct Pools {
    http2: Pool,
    pub(super) idle: Arc<Idle>,
    /// Connections of HTTP/2 that say whose they are, each of which is one client's.
    introduced: Mutex<VecDeque<Weak<Http2>>>,
    /// Those that chose HTTP/1: their connections need not be made one after the other.
    http1: Mutex<HashSet<u64>>,
}

/// A connection for a request, or a stream of one.
pub(super) struct Found {
    pub(super) line: Line,
    /// It was there already.
    pub(super) reused: bool,
}

/// The same, or HTTP/1 for Pingora to speak.
enum Connected {
    Stream(Place, bool),
    Wire(Wire),
}

impl Pools {
    /// A stream of a connection that is there or is made, or a new connection that speaks HTTP/1.
    async fn connect(&self, peer: &HttpPeer, errand: &Errand) -> Result<Connected> {
        let key = errand.key(peer);
        let alone = errand.transport.protocol == UpstreamProtocol::Http1 || self.chose_http1(key);
        if alone {
            return match make(errand, peer).await? {
                Made::Http1(wire) => Ok(Connected::Wire(wire)),
                Made::Http2(http2) => {
                    self.forget(key);
                    self.http2.entry(key).add(http2.clone());
                    let place = taken(http2.place())?;
                    self.bound(errand, &http2);
                    Ok(Connected::Stream(place, false))
                }
            };
        }
        let entry = self.http2.entry(key);
        let mut reused = true;
        let placing = entry.place_or(|| {
            reused = false;
            make(errand, peer)
        });
        // Those who wait for another's connection wait no longer than for their own.
        let made = match peer.total_connection_timeout() {
            None => placing.await?,
            Some(longest) => tokio::time::timeout(longest, placing).await.map_err(late)??,
        };
        match made {
            (Made::Http2(http2), place) => {
                if !reused {
                    self.bound(errand, &http2);
                }
                Ok(Connected::Stream(taken(place)?, reused))
            }
            (Made::Http1(wire), _) => {
                self.remember(key);
                Ok(Connected::Wire(wire))
            }
        }
    }

    /// A stream or a connection that is there already.
    fn idle_line(self: &Arc<Self>, errand: &Errand, key: u64) -> Option<Line> {
        if let Some(place) = self.http2.entry(key).place() {
            return Some(Line::Http2(place));
        }
        Some(Line::Http1(self.idle.take(key)?, self.lending(errand, key)))
    }

    /// The same, or one that is made, whatever the protocol.
    pub(super) async fn line(self: &Arc<Self>, peer: &HttpPeer, errand: &Errand) -> Result<Found> {
        let key = errand.key(peer);
        if let Some(line) = self.idle_line(errand, key) {
            return Ok(Found { line, reused: true });
        }
        Ok(match self.connect(peer, errand).await? {
            Connected::Stream(place, reused) => Found { line: Line::Http2(place), reused },
            Connected::Wire(wire) => {
                let line = Line::Http1(Http1::begin(wire).await?, self.lending(errand, key));
                Found { line, reused: false }
            }
        })
    }

    fn lending(self: &Arc<Self>, errand: &Errand, key: u64) -> Lending {
        Lending { key, keepalive: errand.transport.keepalive, pools: self.clone() }
    }

    /// Has one connection more for one client only, and ends others of the kind that are idle if there
    /// are too many: the oldest first.
    fn bound(&self, errand: &Errand, http2: &Arc<Http2>) {
        if errand.introduction.is_none() {
            return;
        }
        let mut held = self.introduced.lock().unwrap_or_else(PoisonError::into_inner);
        held.push_back(Arc::downgrade(http2));
        let mut kept = VecDeque::new();
        while held.len() + kept.len() > INTRODUCED {
            let Some(oldest) = held.pop_front() else { break };
            match oldest.upgrade() {
                Some(oldest) if !oldest.retire_if_idle() => kept.push_back(Arc::downgrade(&oldest)),
                _ => {}
            }
        }
        kept.append(&mut held);
        *held = kept;
    }

    fn chose_http1(&self, key: u64) -> bool {
        self.http1.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    fn remember(&self, key: u64) {
        let mut http1 = self.http1.lock().unwrap_or_else(PoisonError::into_inner);
        if http1.len() >= REMEMBERED {
            http1.clear();
        }
        http1.insert(key);
    }

    fn forget(&self, key: u64) {
        self.http1.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

/// A place on a connection that was just made.
fn taken(place: Option<Place>) -> Result<Place> {
    // It may have said goodbye before there was a stream.
    place.ok_or_else(|| Error::explain(ErrorType::ConnectError, "the endpoint takes no streams"))
}

/// Makes a connection for one version of HTTP, within the time that the peer may take.
async fn wire(errand: &Errand, peer: &HttpPeer, offer: Offer) -> Result<Wire> {
    let making = async {
        let address = peer.address().as_inet().copied();
        let no_address = || Error::explain(ErrorType::InternalError, "a peer without an address");
        let endpoint = address.ok_or_else(no_address)?;
        errand.transport.dial(endpoint, errand.introduction.as_deref(), offer).await
    };
    let Some(longest) = peer.total_connection_timeout() else { return making.await };
    tokio::time::timeout(longest, making).await.map_err(late)?
}

/// The same for what the endpoint chooses, and as far as it takes for a stream.
async fn make(errand: &Errand, peer: &HttpPeer) -> Result<Made> {
    let transport: &Transport = &errand.transport;
    let making = async {
        let wire = wire(errand, peer, Offer::Configured).await?;
        let http2 = match transport.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 if transport.tls.is_none() => true,
            UpstreamProtocol::Http2 if !wire.chose_http2() => {
                return Error::e_explain(ErrorType::HandshakeError, "the endpoint has no HTTP/2");
            }
            _ => wire.chose_http2(),
        };
        if !http2 {
            return Ok(Made::Http1(wire));
        }
        Ok(Made::Http2(Http2::begin(wire, transport).await?))
    };
    let Some(longest) = peer.total_connection_timeout() else { return making.await };
    tokio::time::timeout(longest, making).await.map_err(late)?
}

fn late(_: tokio::time::error::Elapsed) -> Box<Error> {
    Error::explain(ErrorType::ConnectTimedout, "connecting took too long")
}

impl Connector {
    /// A session on what is there already.
    fn reused(&self, peer: &HttpPeer) -> Option<Session> {
        let errand = peer::errand(peer)?;
        if errand.upgrade.is_some() {
            return None;
        }
        let key = errand.key(peer);
        let line = match errand.hedge {
            Some(_) => self.0.idle_line(&errand, key)?,
            // HTTP/1 that is not sent twice is Pingora's.
            None => Line::Http2(self.0.http2.entry(key).place()?),
        };
        Some(Session::new(line, self.hedging(errand)))
    }

    async fn session(&self, peer: &HttpPeer) -> Result<(Connection<Session>, bool)> {
        let errand = peer::errand(peer).ok_or_else(no_errand)?;
        if let Some(upgrade) = errand.upgrade.clone() {
            // HTTP/1 alone can become something else, and nobody has the connection afterwards.
            let wire = wire(&errand, peer, Offer::Http1).await?;
            let lending = Lending { keepalive: Duration::ZERO, ..self.0.lending(&errand, 0) };
            let line = Line::Http1(Http1::begin(wire).await?, lending);
            return Ok((Connection::Session(Session::upgrading(line, upgrade)), false));
        }
        if errand.hedge.is_some() {
            let Found { line, reused } = self.0.line(peer, &errand).await?;
            let session = Session::new(line, self.hedging(errand));
            return Ok((Connection::Session(session), reused));
        }
        Ok(match self.0.connect(peer, &errand).await? {
            Connected::Stream(place, reused) => {
                (Connection::Session(Session::new(Line::Http2(place), None)), reused)
            }
            Connected::Wire(wire) => (Connection::Stream(Box::new(wire)), false),
        })
    }

    fn hedging(&self, errand: Errand) -> Option<Hedging> {
        errand.hedge.map(|hedge| Hedging { hedge, pools: self.0.clone() })
    }
}

pub(super) fn no_errand() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "a peer without an errand")
}

/// Pingora's connectors take any kind of peer; this one gets those that [`peer`] makes.
fn ours<P: 'static>(peer: &P) -> Option<&HttpPeer> {
    (peer as &dyn Any).downcast_ref()
}

#[async_trait]
impl custom::Connector for Connector {
    type Session = Session;

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<Session>, bool)> {
        let foreign =
            || Error::explain(ErrorType::InternalError, "a peer that is not the gateway's");
        self.session(ours(peer).ok_or_else(foreign)?).await
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Option<Session> {
        self.reused(ours(peer)?)
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: Session,
        _: &P,
        _: Option<Duration>,
    ) {
        drop(session);
    }
}
