//! Which addresses of a name are used, if it has some of IPv4 and some of IPv6: Happy Eyeballs (RFC
//! 8305) for a whole upstream. Each address is an endpoint, so that the race is not run for every
//! connection but for the name, and what cannot be reached does not become an endpoint at all.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::config::Family;

/// How long IPv6 is tried alone (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// How long a race may take.
const LONGEST: Duration = Duration::from_secs(2);
/// How long the outcome of a race counts.
const LASTS: Duration = Duration::from_secs(60);

/// Chooses among addresses by a config.
pub(super) struct Choice {
    family: Family,
    /// Whether IPv6 won, when, and of which addresses.
    last: Option<(bool, Instant, Vec<IpAddr>)>,
}

impl Choice {
    pub(super) fn new(family: Family) -> Self {
        Self { family, last: None }
    }

    /// Those of the addresses that are used. `port` is where they are tried.
    pub(super) async fn of(&mut self, mut addresses: Vec<IpAddr>, port: u16) -> Vec<IpAddr> {
        addresses.sort_unstable();
        addresses.dedup();
        let wanted = match self.family {
            Family::Both => return addresses,
            Family::Ipv4 => false,
            Family::Ipv6 => true,
            Family::Auto => match self.race(&addresses, port).await {
                Some(ipv6) => ipv6,
                None => return addresses,
            },
        };
        addresses.retain(|address| address.is_ipv6() == wanted);
        addresses
    }

    /// Whether IPv6 wins. `None` if there is nothing to choose, or nobody can be reached.
    async fn race(&mut self, addresses: &[IpAddr], port: u16) -> Option<bool> {
        let of = |ipv6: bool| addresses.iter().find(|address| address.is_ipv6() == ipv6);
        let (ipv6, ipv4) = (*of(true)?, *of(false)?);
        if let Some((won, at, among)) = &self.last
            && at.elapsed() < LASTS
            && among == addresses
        {
            return Some(*won);
        }
        let (ipv6, ipv4) = (SocketAddr::new(ipv6, port), SocketAddr::new(ipv4, port));
        let won = tokio::time::timeout(LONGEST, run(ipv6, ipv4)).await.ok().flatten()?;
        self.last = Some((won, Instant::now(), addresses.to_vec()));
        Some(won)
    }
}

/// Whether the first stands before the second, which begins later, or as soon as the first fails.
async fn run(first: SocketAddr, second: SocketAddr) -> Option<bool> {
    let mut first = std::pin::pin!(TcpStream::connect(first));
    tokio::select! {
        outcome = &mut first => match outcome {
            Ok(_) => return Some(true),
            Err(_) => return TcpStream::connect(second).await.ok().map(|_| false),
        },
        () = tokio::time::sleep(HEAD_START) => {}
    }
    let mut second = std::pin::pin!(TcpStream::connect(second));
    tokio::select! {
        outcome = &mut first => match outcome {
            Ok(_) => Some(true),
            Err(_) => second.await.ok().map(|_| false),
        },
        outcome = &mut second => match outcome {
            Ok(_) => Some(false),
            Err(_) => first.await.ok().map(|_| true),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn listener(address: &str) -> (tokio::net::TcpListener, u16) {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    fn both() -> Vec<IpAddr> {
        ["127.0.0.1", "127.0.0.2", "::1"].map(|text| text.parse().unwrap()).to_vec()
    }

    #[tokio::test]
    async fn ipv6_is_used_where_it_is_reached() {
        let (_listening, port) = listener("[::1]:0").await;
        let chosen = Choice::new(Family::Auto).of(both(), port).await;
        assert_eq!(chosen, ["::1".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn ipv4_is_used_where_ipv6_is_not_reached() {
        let (_listening, port) = listener("127.0.0.1:0").await;
        let mut choice = Choice::new(Family::Auto);
        assert_eq!(choice.of(both(), port).await, both()[..2]);
        // It is not asked again for every look.
        assert!(choice.last.is_some());
    }

    #[tokio::test]
    async fn what_nobody_answers_at_is_left_to_others_to_find_out() {
        let (listening, port) = listener("127.0.0.1:0").await;
        drop(listening);
        assert_eq!(Choice::new(Family::Auto).of(both(), port).await, both());
    }

    #[tokio::test]
    async fn who_says_so_gets_one_family_or_both() {
        assert_eq!(Choice::new(Family::Ipv4).of(both(), 1).await, both()[..2]);
        assert_eq!(Choice::new(Family::Ipv6).of(both(), 1).await, both()[2..]);
        assert_eq!(Choice::new(Family::Both).of(both(), 1).await, both());
    }
}
