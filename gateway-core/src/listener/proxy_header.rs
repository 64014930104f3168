//! The PROXY protocol on its way in: a balancer in front says whose connection it is (HAProxy's proxy-protocol.txt,
//! versions 1 and 2).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end with it.
const LONGEST_LINE: usize = 107;
/// More of what may follow the addresses is nobody's.
const LONGEST: usize = 4096;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The balancer's own, such as a check of health; or nobody knows.
    Own,
    /// This client's, who connected to that address.
    Client { client: SocketAddr, to: SocketAddr },
}

/// It does not begin with a header.
#[derive(Debug)]
pub(super) struct Malformed;

/// Reads the header, and not a byte more.
pub(super) async fn read(tcp: &mut TcpStream) -> Result<Said, Malformed> {
    let mut begin = [0; SIGNATURE.len()];
    // Its first byte tells the versions apart; both are longer than this.
    exact(tcp, &mut begin[..1]).await?;
    match begin[0] {
        b'P' => line(tcp).await,
        0x0d => {
            exact(tcp, &mut begin[1..]).await?;
            if begin != SIGNATURE {
                return Err(Malformed);
            }
            let mut head = [0; 4];
            exact(tcp, &mut head).await?;
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            if length > LONGEST {
                return Err(Malformed);
            }
            let mut rest = vec![0; length];
            exact(tcp, &mut rest).await?;
            binary(head[0], head[1], &rest)
        }
        _ => Err(Malformed),
    }
}

async fn exact(tcp: &mut TcpStream, to: &mut [u8]) -> Result<(), Malformed> {
    tcp.read_exact(to).await.map(drop).map_err(|_| Malformed)
}

/// A line, after its first byte.
async fn line(tcp: &mut TcpStream) -> Result<Said, Malformed> {
    let mut held = Vec::with_capacity(LONGEST_LINE);
    held.push(b'P');
    while !held.ends_with(b"\r\n") {
        let mut ahead = [0; LONGEST_LINE];
        let room = LONGEST_LINE - held.len();
        let seen = tcp.peek(&mut ahead[..room]).await.map_err(|_: io::Error| Malformed)?;
        let end = memchr::memchr(b'\n', &ahead[..seen]).map_or(seen, |end| end + 1);
        if end == 0 {
            return Err(Malformed);
        }
        exact(tcp, &mut ahead[..end]).await?;
        held.extend_from_slice(&ahead[..end]);
        if held.ends_with(b"\n") && !held.ends_with(b"\r\n")
            || held.len() >= LONGEST_LINE && !held.ends_with(b"\r\n")
        {
            return Err(Malformed);
        }
    }
    text(&held[..held.len() - 2])
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`
fn text(line: &[u8]) -> Result<Said, Malformed> {
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return Err(Malformed);
    }
    let family = words.next().ok_or(Malformed)?;
    if family == "UNKNOWN" {
        return Ok(Said::Own);
    }
    let mut address = || -> Result<IpAddr, Malformed> {
        let word = words.next().ok_or(Malformed)?;
        match family {
            "TCP4" => word.parse().map(IpAddr::V4).map_err(|_| Malformed),
            "TCP6" => word.parse().map(IpAddr::V6).map_err(|_| Malformed),
            _ => Err(Malformed),
        }
    };
    let (client, to) = (address()?, address()?);
    let mut port = || -> Result<u16, Malformed> {
        let word = words.next().ok_or(Malformed)?;
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        let plain = digits && (word == "0" || !word.starts_with('0'));
        if plain { word.parse().map_err(|_| Malformed) } else { Err(Malformed) }
    };
    let (from, at) = (port()?, port()?);
    match words.next() {
        None => {
            let (client, to) = (SocketAddr::new(client, from), SocketAddr::new(to, at));
            Ok(Said::Client { client, to })
        }
        Some(_) => Err(Malformed),
    }
}

fn binary(version: u8, family: u8, rest: &[u8]) -> Result<Said, Malformed> {
    match version {
        // What follows a connection of its own is not looked at.
        0x20 => return Ok(Said::Own),
        0x21 => {}
        _ => return Err(Malformed),
    }
    let port = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    match family {
        // TCP over IPv4, and over IPv6.
        0x11 => {
            let [a, b] = [0, 4]
                .map(|at| rest.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok()));
            let (Some(client), Some(to), Some(ports)) = (a, b, rest.get(8..12)) else {
                return Err(Malformed);
            };
            let client = SocketAddr::new(Ipv4Addr::from(client).into(), port(&ports[..2]));
            Ok(Said::Client {
                client,
                to: SocketAddr::new(Ipv4Addr::from(to).into(), port(&ports[2..])),
            })
        }
        0x21 => {
            let [a, b] = [0, 16]
                .map(|at| rest.get(at..at + 16).and_then(|all| <[u8; 16]>::try_from(all).ok()));
            let (Some(client), Some(to), Some(ports)) = (a, b, rest.get(32..36)) else {
                return Err(Malformed);
            };
            let client = SocketAddr::new(Ipv6Addr::from(client).into(), port(&ports[..2]));
            Ok(Said::Client {
                client,
                to: SocketAddr::new(Ipv6Addr::from(to).into(), port(&ports[2..])),
            })
        }
        // Of who is not known, or of no address that a client has here.
        0x00 => Ok(Said::Own),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(client: &str, to: &str) -> Said {
        Said::Client { client: client.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn lines_are_read_to_the_letter() {
        let read = |line: &str| text(line.as_bytes()).ok();
        assert_eq!(
            read("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443"),
            Some(client("192.0.2.1:56324", "198.51.100.1:443"))
        );
        assert_eq!(
            read("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535"),
            Some(client("[2001:db8::1]:1", "[2001:db8::2]:65535"))
        );
        assert_eq!(read("PROXY UNKNOWN"), Some(Said::Own));
        assert_eq!(read("PROXY UNKNOWN ffff::1 ffff::2 1 2"), Some(Said::Own));
        for wrong in [
            "PROXY",
            "PROXY TCP4",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 ",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536",
            "PROXY TCP4 192.0.2.1 198.51.100.1 056324 443",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +5 443",
            "PROXY TCP4 2001:db8::1 198.51.100.1 5 443",
            "PROXY  TCP4 192.0.2.1 198.51.100.1 5 443",
            "PROXY UDP4 192.0.2.1 198.51.100.1 5 443",
            "proxy TCP4 192.0.2.1 198.51.100.1 5 443",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_binary_form_is_read_whatever_follows_its_addresses() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb, 3, 0, 1, 9];
        let expected = client("192.0.2.1:56324", "198.51.100.1:443");
        assert_eq!(binary(0x21, 0x11, &v4).ok(), Some(expected));
        assert_eq!(binary(0x21, 0x11, &v4[..12]).ok(), Some(expected));
        assert_eq!(binary(0x20, 0x11, &v4).ok(), Some(Said::Own));
        assert_eq!(binary(0x21, 0, &[]).ok(), Some(Said::Own));
        assert!(binary(0x21, 0x21, &[1; 36]).is_ok());
        for (version, family, length) in [
            (0x21, 0x11, 11),
            (0x21, 0x21, 35),
            (0x11, 0x11, 16),
            (0x22, 0x11, 16),
            (0x21, 0x12, 16),
            (0x21, 0x31, 16),
        ] {
            assert!(binary(version, family, &v4.repeat(3)[..length]).is_err(), "{family:#x}");
        }
    }
}
