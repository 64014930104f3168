//! `Endpoint`: one address inside an upstream, and what changes of it while it serves.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pingora::upstreams::peer::HttpPeer;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::adaptive::Adaptive;
use super::balance::{Latency, Load};
use super::discovery::Discovered;
use super::gate::Gate;
use super::health::{Kept, Overrides, Standing, Tally};
use super::place::Count;
use super::quantile::Times;
use super::room::Room;
use super::tend::Tending;
use crate::carried::Carried;
use crate::config::EndpointConfig;

/// One address inside an upstream.
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its identity in cookies.
    pub(crate) id: u64,
    /// Its share of requests as configured; 0 means that it gets none.
    pub weight: u32,
    /// Which group it is in: those of a lower number come first.
    pub priority: u32,
    /// Words about it.
    pub labels: BTreeMap<String, String>,
    pub(super) peer: HttpPeer,
    pub(super) live: Arc<EndpointState>,
    /// The whole upstream's requests in flight, where the balancing asks for them.
    pub(super) total: Option<Arc<Count>>,
    /// Whether choices depend on how many it has in flight, so that all workers need one count of
    /// them; otherwise each worker counts its own.
    pub(super) decides: bool,
    /// How many requests it may have in flight.
    pub(super) most: u32,
    /// Where others wait for one of its places, if they are bounded.
    pub(super) room: Option<Arc<Room>>,
}

impl Endpoint {
    /// How many requests it has been given and has not answered.
    pub fn in_flight(&self) -> u32 {
        let counts = self.live.counts.iter().map(Count::get);
        counts.fold(self.decisive(), u32::wrapping_add)
    }

    /// Of these, those that a choice depends on.
    fn decisive(&self) -> u32 {
        self.live.in_flight.get()
    }

    /// The average time to the first byte of its answers, in which a recent peak weighs most, at
    /// this moment of the gateway's coarse clock. `None` if it has not answered yet.
    pub(crate) fn latency(&self, now: u64) -> Option<Duration> {
        self.live.latency.now(now).map(|micros| Duration::from_secs_f32(micros / 1e6))
    }

    /// Whether it is as this says.
    pub(super) fn is_as(&self, config: &EndpointConfig) -> bool {
        let EndpointConfig { address, weight, priority, labels } = config;
        (self.address, self.weight, self.priority) == (*address, *weight, *priority)
            && self.labels == *labels
    }

    /// What an admin call has changed of it.
    pub fn overrides(&self) -> Overrides {
        self.live.standing().overrides(self.weight)
    }

    pub(super) fn is_full(&self) -> bool {
        // Nobody's count is touched where nothing is bounded.
        self.most != u32::MAX && self.decisive() >= self.most
    }

    pub(super) fn load(&self, now: u64) -> Load {
        Load { in_flight: self.decisive(), latency: self.live.latency.now(now) }
    }
}

/// What changes of an endpoint while it serves. Kept by upstream and address, whatever else of the
/// upstream a reload changes.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// Requests in flight that choices depend on. Where a reload has just made them do so, what was
    /// in flight before is not among them.
    pub(super) in_flight: Count,
    /// Requests in flight that are only counted, by worker.
    pub(super) counts: Box<[Count]>,
    pub(super) latency: Latency,
    pub(super) tally: Tally,
    standing: Mutex<Standing>,
}

impl EndpointState {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            in_flight: Count::default(),
            counts: (0..workers.max(1)).map(|_| Count::default()).collect(),
            latency: Latency::default(),
            tally: Tally::default(),
            standing: Mutex::default(),
        }
    }

    /// Goes on from what another process knew.
    fn keep(&self, kept: KeptState, now: Instant) {
        *self.standing() = Standing::of(kept.standing, now);
        self.latency.keep(kept.latency);
    }

    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint's state as an upgrade hands it on.
#[derive(Serialize, Deserialize)]
struct KeptState {
    standing: Kept,
    latency: u64,
}

impl Carried for EndpointStates {
    fn carry(&self) -> Vec<u8> {
        let (held, now) = (self.lock(), Instant::now());
        let kept: HashMap<SocketAddr, KeptState> = held
            .states
            .iter()
            .map(|(address, state)| {
                let (standing, latency) = (state.standing().kept(now), state.latency.kept());
                (*address, KeptState { standing, latency })
            })
            .collect();
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    fn take_over(&self, bytes: &[u8]) -> Result<(), String> {
        let kept: HashMap<SocketAddr, KeptState> =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let (mut held, now) = (self.lock(), Instant::now());
        for (address, kept) in kept {
            match held.states.get(&address) {
                Some(state) => state.keep(kept, now),
                None => drop(held.kept.insert(address, kept)),
            }
        }
        drop(held);
        // Whoever tends them makes another roster of it.
        self.stir.notify_one();
        Ok(())
    }
}

#[cfg(test)]
impl EndpointState {
    pub(super) fn note_for_tests(&self) {
        self.latency.note(Duration::from_millis(3), 1);
    }
}

/// The states of one upstream's endpoints, and how many requests are in flight at it, shared by all
/// that the upstream becomes through reloads.
#[derive(Default)]
pub(crate) struct EndpointStates {
    held: Mutex<Held>,
    /// Who may be in flight at the upstream.
    pub(super) gate: Arc<Gate>,
    /// Who waits for an endpoint's places.
    pub(super) room: Arc<Room>,
    /// How many may be, where that moves.
    pub(super) adaptive: Adaptive,
    /// All endpoints' requests in flight, counted where the balancing asks for them.
    pub(super) total: Arc<Count>,
    /// Asks the one that is in force for another roster, whoever has a reason to.
    pub(super) stir: Arc<Notify>,
    /// One ejection at a time; when it was last said that one was not made.
    ejecting: Mutex<Option<Instant>>,
    /// How long answers take, where requests are sent twice.
    pub(super) times: Times,
    /// What was found of its endpoints.
    pub(super) discovered: Discovered,
    /// The one that is in force, and its task.
    tending: Mutex<Option<(u64, Tending)>>,
}

#[derive(Default)]
struct Held {
    states: HashMap<SocketAddr, Arc<EndpointState>>,
    /// The upstream serves: who comes now comes to a fleet that is warm.
    settled: bool,
    /// What the process before knew of endpoints that are not known yet.
    kept: HashMap<SocketAddr, KeptState>,
}

impl EndpointStates {
    /// The state of the endpoint at this address, a new one if it has none: that of a newcomer to a
    /// fleet that serves, or not. So many workers count what is in flight there.
    pub(super) fn of(
        &self,
        address: SocketAddr,
        newcomer: bool,
        workers: usize,
    ) -> Arc<EndpointState> {
        let mut held = self.lock();
        let Held { states, settled, kept } = &mut *held;
        let settled = *settled;
        let state = states.entry(address).or_insert_with(|| {
            let state = EndpointState::new(workers);
            if let Some(kept) = kept.remove(&address) {
                // The rest is out of date by now.
                state.standing().override_as(&kept.standing);
            }
            // Not usable until now: that it is will be seen, and begins its slow start.
            state.standing().was_usable = !(settled && newcomer);
            Arc::new(state)
        });
        state.clone()
    }

    pub(super) fn ejecting(&self) -> MutexGuard<'_, Option<Instant>> {
        self.ejecting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this upstream is the one that is in force.
    pub(super) fn is_tended_by(&self, id: u64) -> bool {
        let tending = self.tending.lock().unwrap_or_else(PoisonError::into_inner);
        tending.as_ref().is_some_and(|(known, _)| *known == id)
    }

    /// From now on this upstream is the one that is in force. What was before may still serve requests
    /// that began with it, but changes nothing any more.
    pub(super) fn tend(&self, id: u64, begin: impl FnOnce() -> Tending) {
        let mut tending = self.tending.lock().unwrap_or_else(PoisonError::into_inner);
        if tending.as_ref().is_none_or(|(known, _)| *known != id) {
            *tending = Some((id, begin()));
        }
    }

    /// The upstream serves from now on.
    pub(super) fn settle(&self) {
        self.lock().settled = true;
        self.forget();
    }

    /// Forgets whom nobody uses any more.
    pub(super) fn forget(&self) {
        self.lock().states.retain(|_, state| Arc::strong_count(state) > 1);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
