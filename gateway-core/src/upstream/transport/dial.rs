//! A new connection to an endpoint: TCP, then the PROXY protocol, then TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pingora::{Error, ErrorType};
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Transport, Wire};
use crate::config::ProxyProtocol;

/// Which version of HTTP a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Offer {
    /// What the upstream's `protocol` says.
    Configured,
    Http1,
    Http2,
    /// Something else than HTTP.
    Other,
}

impl Transport {
    /// Connects to an endpoint. `introduction` is the PROXY protocol's header, where one is sent.
    ///
    /// # Errors
    /// Of the kinds that a failure's code is told by.
    pub(in crate::upstream) async fn dial(
        &self,
        endpoint: SocketAddr,
        introduction: Option<&[u8]>,
        offer: Offer,
    ) -> Result<Wire, Box<Error>> {
        let tcp = TcpStream::connect(endpoint).await;
        let mut tcp = tcp.map_err(|error| unreachable(endpoint, error))?;
        let ready = tcp.set_nodelay(true);
        ready.map_err(|error| unreachable(endpoint, error))?;
        if let Some(introduction) = introduction {
            let sent = tcp.write_all(introduction).await;
            sent.map_err(|error| unreachable(endpoint, error))?;
        }
        let Some(tls) = &self.tls else { return Ok(Wire::plain(tcp)) };
        let config: Arc<ClientConfig> = match offer {
            Offer::Configured => tls.config(),
            Offer::Http1 => tls.offering(Some(b"http/1.1")),
            Offer::Http2 => tls.offering(Some(b"h2")),
            Offer::Other => tls.offering(None),
        };
        let handshake = TlsConnector::from(config).connect(tls.name(endpoint.ip()), tcp);
        let stream = handshake.await.map_err(|error| unsafe_to_use(endpoint, error))?;
        Ok(Wire::tls(stream))
    }
}

fn unreachable(endpoint: SocketAddr, error: io::Error) -> Box<Error> {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            ErrorType::ConnectNoRoute
        }
        io::ErrorKind::AddrNotAvailable => ErrorType::BindError,
        _ if is_exhausted(&error) => ErrorType::SocketError,
        _ => ErrorType::ConnectError,
    };
    Error::because(kind, format!("connecting to {endpoint}"), error)
}

/// Whether there are no descriptors, or no memory, for another socket.
fn is_exhausted(error: &io::Error) -> bool {
    use nix::errno::Errno::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    let exhausted = [EMFILE, ENFILE, ENOBUFS, ENOMEM].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|number| exhausted.contains(&number))
}

fn unsafe_to_use(endpoint: SocketAddr, error: io::Error) -> Box<Error> {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let kind = match cause {
        Some(rustls::Error::InvalidCertificate(_)) => ErrorType::InvalidCert,
        _ => ErrorType::TLSHandshakeFailure,
    };
    Error::because(kind, format!("TLS with {endpoint}"), error)
}

/// The header of the PROXY protocol for a connection from `client` to `gateway` (HAProxy's
/// `proxy-protocol.txt`, sections 2.1 and 2.2).
pub(crate) fn introduction(
    version: ProxyProtocol,
    client: SocketAddr,
    gateway: SocketAddr,
) -> Vec<u8> {
    let (client_ip, gateway_ip) = (client.ip().to_canonical(), gateway.ip().to_canonical());
    let pair = match (client_ip, gateway_ip) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (client_ip, gateway_ip),
        // One family for both: an IPv4 address has a form in IPv6.
        _ => (IpAddr::V6(mapped(client_ip)), IpAddr::V6(mapped(gateway_ip))),
    };
    match version {
        ProxyProtocol::V1 => {
            let family = if pair.0.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (client.port(), gateway.port());
            format!("PROXY {family} {} {} {from} {to}\r\n", pair.0, pair.1).into_bytes()
        }
        ProxyProtocol::V2 => {
            const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
            const PROXY: u8 = 0x21;
            let mut header = [SIGNATURE, &[PROXY]].concat();
            let mut body = Vec::with_capacity(36);
            for address in [pair.0, pair.1] {
                match address {
                    IpAddr::V4(address) => body.extend(address.octets()),
                    IpAddr::V6(address) => body.extend(address.octets()),
                }
            }
            body.extend(client.port().to_be_bytes());
            body.extend(gateway.port().to_be_bytes());
            header.push(if pair.0.is_ipv4() { 0x11 } else { 0x21 });
            header.extend(u16::try_from(body.len()).unwrap_or(0).to_be_bytes());
            header.extend(body);
            header
        }
    }
}

/// The header of a connection on nobody's behalf, such as one for a check.
pub(in crate::upstream) fn own_introduction(version: ProxyProtocol) -> &'static [u8] {
    match version {
        ProxyProtocol::V1 => b"PROXY UNKNOWN\r\n",
        ProxyProtocol::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

fn mapped(address: IpAddr) -> std::net::Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_introduced_by_the_letter() {
        let client = "192.0.2.7:56324".parse().unwrap();
        let gateway = "198.51.100.1:443".parse().unwrap();
        let first = introduction(ProxyProtocol::V1, client, gateway);
        assert_eq!(first, b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n");

        let second = introduction(ProxyProtocol::V2, client, gateway);
        assert_eq!(&second[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
        assert_eq!(&second[16..], [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb]);
    }

    #[test]
    fn both_addresses_are_of_one_family() {
        let client = "[2001:db8::1]:1000".parse().unwrap();
        let gateway = "198.51.100.1:443".parse().unwrap();

        let first = introduction(ProxyProtocol::V1, client, gateway);
        assert_eq!(first, b"PROXY TCP6 2001:db8::1 ::ffff:198.51.100.1 1000 443\r\n");
        let second = introduction(ProxyProtocol::V2, client, gateway);
        assert_eq!((second[13], second.len()), (0x21, 16 + 36));
    }
}
