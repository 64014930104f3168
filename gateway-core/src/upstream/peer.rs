//! What Pingora calls a peer: an endpoint's address together with everything that shapes its
//! connections.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use pingora::protocols::ALPN;
use pingora::protocols::tls::CustomALPN;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, Peer};
use pingora_http::ResponseHeader;

use super::UpstreamTimeouts;
use super::transport::{Hedge, Transport, Upgrade};

/// What a peer has for the gateway's own connector.
#[derive(Clone)]
pub(super) struct Errand {
    pub(super) transport: Arc<Transport>,
    /// The header of the PROXY protocol that the connection begins with.
    pub(super) introduction: Option<Arc<[u8]>>,
    /// The second attempt that may follow.
    pub(super) hedge: Option<Arc<Hedge>>,
    /// What the request asks for besides an answer.
    pub(super) upgrade: Option<Arc<Upgrade>>,
}

impl Errand {
    pub(super) fn of(transport: &Arc<Transport>) -> Self {
        Self { transport: transport.clone(), introduction: None, hedge: None, upgrade: None }
    }

    /// What connections to a peer's address can be shared by, sent twice or not.
    pub(super) fn key(&self, peer: &HttpPeer) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.transport.key, &self.introduction).hash(&mut hasher);
        peer.address().as_inet().hash(&mut hasher);
        hasher.finish()
    }
}

/// The peer that every attempt on this endpoint clones.
///
/// Pingora's own pool key leaves out much of what shapes a connection, so the transport's number
/// becomes the group key: two upstreams share connections only if their transport is the same one.
pub(super) fn template(
    address: SocketAddr,
    timeouts: &UpstreamTimeouts,
    transport: &Arc<Transport>,
) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.group_key = transport.key;
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    // The watch ends connections that idle for too long.
    options.idle_timeout = None;
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    if !transport.is_plain() {
        send(&mut peer, Errand::of(transport));
    }
    peer
}

/// Has the gateway's own connector make the connection, and gives it this.
///
/// A version that Pingora does not know is what it asks its custom connector for. What it hands over
/// is the peer alone; the one thing of a peer that can hold anything is a hook for proxies in
/// between, of which there are none.
fn send(peer: &mut HttpPeer, errand: Errand) {
    peer.options.alpn = ALPN::Custom(CustomALPN::new(b"gateway".to_vec()));
    peer.options.proxy_digest_user_data_hook =
        Some(Arc::new(move |_, _| Some(Box::new(errand.clone()))));
}

/// What the peer has for the gateway's own connector.
pub(super) fn errand(peer: &HttpPeer) -> Option<Errand> {
    let hook = peer.options.proxy_digest_user_data_hook.as_ref()?;
    let nothing = http::Request::new(()).into_parts().0;
    let held = hook(&nothing, &ResponseHeader::build(200, Some(0)).ok()?)?;
    held.downcast().ok().map(|errand| *errand)
}

/// Has the connection begin with this header of the PROXY protocol, and shares it with nobody who
/// has another.
pub(super) fn introduce(peer: &mut HttpPeer, transport: &Arc<Transport>, header: Vec<u8>) {
    let mut hasher = DefaultHasher::new();
    (transport.key, &header).hash(&mut hasher);
    peer.group_key = hasher.finish();
    let errand = errand(peer).unwrap_or_else(|| Errand::of(transport));
    send(peer, Errand { introduction: Some(header.into()), ..errand });
}

/// Has the request be sent a second time if its answer takes too long.
pub(super) fn hedge(peer: &mut HttpPeer, transport: &Arc<Transport>, hedge: Arc<Hedge>) {
    let errand = errand(peer).unwrap_or_else(|| Errand::of(transport));
    send(peer, Errand { hedge: Some(hedge), ..errand });
    // None of Pingora's own idle connections, on which nothing can be sent twice.
    peer.group_key = !peer.group_key;
}

/// Has the connection be one that may become something else than HTTP.
pub(super) fn upgrade(peer: &mut HttpPeer, transport: &Arc<Transport>, upgrade: Arc<Upgrade>) {
    let errand = errand(peer).unwrap_or_else(|| Errand::of(transport));
    send(peer, Errand { upgrade: Some(upgrade), ..errand });
    peer.group_key = !peer.group_key;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::UpstreamConfig;

    fn transport(options: &str) -> Arc<Transport> {
        let config = format!(r#"{{"name": "a", "endpoints": ["127.0.0.1:80"]{options}}}"#);
        let config: UpstreamConfig = serde_json::from_str(&config).unwrap();
        Arc::new(Transport::new(&config, None))
    }

    fn peer(transport: &Arc<Transport>) -> HttpPeer {
        let second = Duration::from_secs(1);
        let timeouts = UpstreamTimeouts {
            connect: second,
            first_byte: second,
            idle: second,
            total: None,
            keepalive: second,
            tunnel: second,
        };
        template(([127, 0, 0, 1], 80).into(), &timeouts, transport)
    }

    #[test]
    fn connections_are_shared_only_by_upstreams_of_the_same_transport() {
        let (one, other) = (transport(""), transport(""));

        assert_eq!(peer(&one).reuse_hash(), peer(&one).reuse_hash());
        assert_ne!(peer(&one).reuse_hash(), peer(&other).reuse_hash());
    }

    #[test]
    fn what_is_plain_is_left_to_pingora() {
        assert!(errand(&peer(&transport(""))).is_none());
        let http2 = transport(r#", "protocol": "http2""#);
        assert_eq!(errand(&peer(&http2)).unwrap().transport.key, http2.key);
    }

    #[test]
    fn connections_that_were_introduced_are_shared_only_by_those_of_the_same_client() {
        let transport = transport(r#", "proxy_protocol": "v1""#);
        let introduced = |header: &[u8]| {
            let mut peer = peer(&transport);
            introduce(&mut peer, &transport, header.to_vec());
            assert_eq!(errand(&peer).unwrap().introduction.as_deref(), Some(header));
            peer.reuse_hash()
        };

        assert_eq!(introduced(b"a"), introduced(b"a"));
        assert_ne!(introduced(b"a"), introduced(b"b"));
    }
}
