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
/// How many addresses of a family are tried, at once: some may be dead.
const TRIED: usize = 4;
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
        let of = |ipv6: bool| -> Vec<SocketAddr> {
            let some = addresses.iter().filter(|address| address.is_ipv6() == ipv6);
            some.take(TRIED).map(|ip| SocketAddr::new(*ip, port)).collect()
        };
        let (ipv6, ipv4) = (of(true), of(false));
        if ipv6.is_empty() || ipv4.is_empty() {
            return None;
        }
        if let Some((won, at, among)) = &self.last
            && at.elapsed() < LASTS
            && among == addresses
        {
            return Some(*won);
        }
        let won = tokio::time::timeout(LONGEST, run(&ipv6, &ipv4)).await.ok().flatten()?;
        self.last = Some((won, Instant::now(), addresses.to_vec()));
        Some(won)
    }
}

/// Whether one of the first stands before one of the second, which begin later, or as soon as all of the
/// first failed.
async fn run(first: &[SocketAddr], second: &[SocketAddr]) -> Option<bool> {
    let mut first = std::pin::pin!(any(first));
    tokio::select! {
        stands = &mut first => match stands {
            true => return Some(true),
            false => return any(second).await.then_some(false),
        },
        () = tokio::time::sleep(HEAD_START) => {}
    }
    let mut second = std::pin::pin!(any(second));
    tokio::select! {
        stands = &mut first => if stands { Some(true) } else { second.await.then_some(false) },
        stands = &mut second => if stands { Some(false) } else { first.await.then_some(true) },
    }
}

/// Whether one of them can be connected to.
async fn any(addresses: &[SocketAddr]) -> bool {
    let tries = addresses.iter().map(|address| Box::pin(TcpStream::connect(*address)));
    futures_util::future::select_ok(tries).await.is_ok()
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
    async fn one_dead_address_does_not_lose_the_race_of_its_family() {
        // Nobody listens at ::1; the other one of IPv6 is the IPv4 address that somebody listens at.
        let (_listening, port) = listener("127.0.0.1:0").await;
        let texts = ["127.0.0.1", "::1", "::ffff:127.0.0.1"];
        let addresses = texts.map(|text| text.parse().unwrap()).to_vec();
        let chosen = Choice::new(Family::Auto).of(addresses, port).await;
        assert!(chosen.len() == 2 && chosen.iter().all(IpAddr::is_ipv6), "{chosen:?}");
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
