//! How many connections there may be: in all, on one listener, from one client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::snapshot::ListenerPlan;
use crate::telemetry::Refusal;
use crate::telemetry::metrics::Held;

/// Counts the open connections of all listeners.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    total: AtomicUsize,
    listeners: Mutex<HashMap<Arc<str>, Arc<ListenerCount>>>,
}

#[derive(Debug, Default)]
struct ListenerCount {
    open: AtomicUsize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

impl Connections {
    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Lets one more connection in, unless a limit is reached. Whose it is may be found out later.
    pub(super) fn admit(
        self: &Arc<Self>,
        listener: &Arc<ListenerPlan>,
        client: Option<IpAddr>,
        max_total: usize,
    ) -> Result<Permit, Refusal> {
        let count = self.listener(&listener.name);
        let limits = &listener.limits;
        if !take(&self.total, max_total) {
            return Err(Refusal::Total);
        }
        if !take(&count.open, limits.connections) {
            give_back(&self.total);
            return Err(Refusal::Listener);
        }
        let open = listener.metrics.connection();
        let permit = Permit { connections: self.clone(), count, client: None, open };
        match client {
            Some(client) => permit.of(client, limits.connections_per_client),
            None => Ok(permit),
        }
    }

    fn listener(&self, name: &Arc<str>) -> Arc<ListenerCount> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = listeners.get(name) {
            return count.clone();
        }
        // Those that came and went are forgotten with the next that comes.
        listeners.retain(|_, count| Arc::strong_count(count) > 1);
        listeners.entry(name.clone()).or_default().clone()
    }
}

impl ListenerCount {
    fn admit_client(&self, client: IpAddr, max: usize) -> bool {
        if max == 0 {
            return true;
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.entry(client).or_default();
        let admitted = *open < max;
        *open += usize::from(admitted);
        admitted
    }

    fn release_client(&self, client: IpAddr) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = clients.get_mut(&client) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                clients.remove(&client);
            }
        }
    }
}

fn take(count: &AtomicUsize, max: usize) -> bool {
    let next = |open: usize| (open < max).then_some(open + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}

fn give_back(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::Relaxed);
}

/// One client is one IPv4 address or one IPv6 network of 64 bits, the smallest that is handed out.
fn client_key(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// An open connection's place in the counts, given back when dropped.
pub(crate) struct Permit {
    connections: Arc<Connections>,
    count: Arc<ListenerCount>,
    /// Once it is known whose it is.
    client: Option<IpAddr>,
    /// Counted among the listener's open connections for as long as it is held.
    #[expect(dead_code, reason = "held for its drop")]
    open: Held,
}

impl Permit {
    /// The same of a client, unless that has too many.
    pub(super) fn of(mut self, client: IpAddr, most: usize) -> Result<Self, Refusal> {
        let client = client_key(client);
        if !self.count.admit_client(client, most) {
            return Err(Refusal::PerClient);
        }
        self.client = Some(client);
        Ok(self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.client.iter().for_each(|client| self.count.release_client(*client));
        give_back(&self.count.open);
        give_back(&self.connections.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_its_network() {
        let network = client_key("2001:db8:1:2::1".parse().unwrap());

        assert_eq!(network, client_key("2001:db8:1:2:ffff::9".parse().unwrap()));
        assert_ne!(network, client_key("2001:db8:1:3::1".parse().unwrap()));
    }

    #[test]
    fn an_ipv4_client_in_ipv6_clothes_is_the_same_client() {
        assert_eq!(
            client_key("::ffff:192.0.2.1".parse().unwrap()),
            client_key("192.0.2.1".parse().unwrap())
        );
    }

    #[test]
    fn counts_of_a_client_are_forgotten_with_its_last_connection() {
        let count = ListenerCount::default();
        let client = "192.0.2.1".parse().unwrap();

        assert!(count.admit_client(client, 1));
        assert!(!count.admit_client(client, 1));
        count.release_client(client);

        assert!(count.clients.lock().unwrap().is_empty());
    }
}
