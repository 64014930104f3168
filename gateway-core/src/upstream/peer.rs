//! What Pingora calls a peer: an endpoint's address together with everything that shapes its
//! connections.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use super::UpstreamTimeouts;

/// The peer that every attempt on this endpoint clones.
///
/// `transport` is a digest of all that shapes the upstream's connections. Pingora's own pool key
/// leaves much of that out, so it becomes the group key: two upstreams share connections only if
/// their transport is the same.
pub(super) fn template(
    address: SocketAddr,
    timeouts: &UpstreamTimeouts,
    transport: &str,
) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.group_key = group_key(transport);
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    // The watch ends connections that idle for too long.
    options.idle_timeout = None;
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    peer
}

fn group_key(transport: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    transport.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pingora::upstreams::peer::Peer;

    use super::*;

    fn peer(transport: &str) -> HttpPeer {
        let second = Duration::from_secs(1);
        let timeouts = UpstreamTimeouts {
            connect: second,
            first_byte: second,
            idle: second,
            total: None,
            keepalive: second,
        };
        template(([127, 0, 0, 1], 80).into(), &timeouts, transport)
    }

    #[test]
    fn connections_are_shared_only_by_upstreams_of_the_same_transport() {
        assert_eq!(peer("plain").reuse_hash(), peer("plain").reuse_hash());
        assert_ne!(peer("plain").reuse_hash(), peer("another").reuse_hash());
    }
}
