//! A breaker for each endpoint of an upstream, made when the endpoint is first asked for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Breaker, BreakerOptions, Who};
use crate::upstream::Upstream;

/// The breakers of an upstream's endpoints. They outlive a reload, like the one of an upstream.
pub(crate) struct Each {
    options: BreakerOptions,
    who: Who,
    held: ArcSwap<HashMap<SocketAddr, Arc<Breaker>>>,
}

impl Each {
    pub(crate) fn new(options: BreakerOptions, who: Who) -> Self {
        Self { options, who, held: ArcSwap::default() }
    }

    /// The breaker of this endpoint.
    pub(crate) fn of(&self, address: SocketAddr, upstream: &Upstream) -> Arc<Breaker> {
        if let Some(breaker) = self.held.load().get(&address) {
            return breaker.clone();
        }
        self.add(address, upstream)
    }

    #[cold]
    fn add(&self, address: SocketAddr, upstream: &Upstream) -> Arc<Breaker> {
        let made = self.made(address);
        let endpoints = upstream.endpoints();
        let mut breaker = made.clone();
        self.held.rcu(|held| {
            // Those of endpoints that are gone go too.
            let known = |address: &SocketAddr| endpoints.iter().any(|one| one.address == *address);
            let kept = held.iter().filter(|(address, _)| known(address));
            let mut held: HashMap<_, _> =
                kept.map(|(address, breaker)| (*address, breaker.clone())).collect();
            breaker = held.entry(address).or_insert_with(|| made.clone()).clone();
            held
        });
        breaker
    }

    /// A new one for an endpoint.
    pub(super) fn made(&self, address: SocketAddr) -> Arc<Breaker> {
        let of = Some(address.to_string().into());
        Arc::new(Breaker::new(self.options.clone(), Who { of, ..self.who.clone() }))
    }

    /// Has these in place of all that there are.
    pub(super) fn hold(&self, breakers: HashMap<SocketAddr, Arc<Breaker>>) {
        self.held.store(Arc::new(breakers));
    }

    /// Those that there are, by their endpoints.
    pub(crate) fn held(&self) -> Vec<(SocketAddr, Arc<Breaker>)> {
        let held = self.held.load();
        let mut held: Vec<_> = held.iter().map(|(address, one)| (*address, one.clone())).collect();
        held.sort_by_key(|(address, _)| *address);
        held
    }
}
