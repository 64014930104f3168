//! Who the client is: the other end of the socket, or what a chain of trusted proxies says of it.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

pub(super) const FORWARDED_FOR: http::HeaderName = http::HeaderName::from_static("x-forwarded-for");
pub(super) const FORWARDED_PROTO: http::HeaderName =
    http::HeaderName::from_static("x-forwarded-proto");
pub(super) const FORWARDED_HOST: http::HeaderName =
    http::HeaderName::from_static("x-forwarded-host");

/// Whether `address` is one of the proxies that may speak for others.
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// The client's address: `X-Forwarded-For` read from right to left for as long as the hop that
/// wrote an entry is trusted. The first address that is not trusted is the client; anything that
/// is no address ends the walk at the last hop that is known.
pub(super) fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    if !is_trusted(client, trusted) {
        return client;
    }
    let fields = headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>();
    for field in fields.into_iter().rev() {
        for entry in field.as_bytes().rsplit(|byte| *byte == b',') {
            let Some(hop) = parse(entry) else { return client };
            client = hop;
            if !is_trusted(hop, trusted) {
                return client;
            }
        }
    }
    client
}

/// The scheme the client used: what a trusted proxy says of it, else the connection's own.
pub(super) fn scheme(
    own: &'static str,
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> &'static str {
    if !is_trusted(peer, trusted) {
        return own;
    }
    let last = headers.get_all(FORWARDED_PROTO).iter().next_back();
    let value = last.and_then(|value| value.as_bytes().rsplit(|byte| *byte == b',').next());
    match value.map(<[u8]>::trim_ascii) {
        Some(value) if value.eq_ignore_ascii_case(b"https") => "https",
        Some(value) if value.eq_ignore_ascii_case(b"http") => "http",
        _ => own,
    }
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let address = text.parse().ok();
    let with_port = || text.parse().ok().map(|socket: std::net::SocketAddr| socket.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(with_port).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, fields: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(FORWARDED_FOR, field.parse().unwrap());
        }
        address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn chain_is_read_from_the_right_and_only_through_trusted_hops() {
        let cases: [(&str, &[&str], &str); 10] = [
            ("192.0.2.1", &[], "192.0.2.1"),
            ("192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", &["6.6.6.6", "198.51.100.7", "10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("2001:db8::1", &["[2a00::9]:443, [2001:db8::2]"], "2a00::9"),
        ];
        for (peer, fields, expected) in cases {
            assert_eq!(client(peer, fields), expected, "{peer} {fields:?}");
        }
    }

    #[test]
    fn scheme_is_believed_from_a_trusted_peer_alone() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_PROTO, "http, HTTPS".parse().unwrap());

        assert_eq!(scheme("http", "10.0.0.1".parse().unwrap(), &headers, &trusted), "https");
        assert_eq!(scheme("http", "192.0.2.1".parse().unwrap(), &headers, &trusted), "http");
    }
}
