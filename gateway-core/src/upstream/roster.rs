//! `Roster`: who can be chosen at the moment, in which order of preference, with what weight.
//!
//! It is made anew whenever an endpoint comes, goes, fails, recovers or warms up, away from the
//! request path, which only reads the one in force.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::balance::{Balancer, Circumstances, Load, Loads, Ring};
use super::endpoint::Endpoint;
use super::place::Member;
use crate::config::BalanceConfig;

/// An endpoint and what the roster has to know of it.
pub(super) struct Candidate {
    pub(super) member: Member,
    /// Its weight for now, in the unit of all candidates.
    pub(super) weight: u32,
    /// Its weight when it is warm, in the same unit; 0 if it is not to be chosen at all.
    pub(super) full: u32,
    pub(super) usable: bool,
    /// It has the labels that are preferred.
    pub(super) preferred: bool,
}

/// Who can be chosen.
pub(super) struct Roster {
    /// All endpoints, in the order of the config.
    pub(super) endpoints: Arc<[Arc<Endpoint>]>,
    /// The same, as choices find them.
    members: Box<[Member]>,
    groups: Box<[Group]>,
    /// Usable endpoints by their identity.
    by_id: HashMap<u64, Member>,
}

/// Endpoints of one priority, and of the same preference, that can be chosen.
struct Group {
    members: Box<[Member]>,
    balancer: Balancer,
    /// Of all numbers a draw may be, those below this one are this group's or an earlier one's.
    upto: u64,
}

/// What an attempt wants.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) given: Circumstances,
    /// The endpoint that the client was sent to before.
    pub(super) id: Option<u64>,
    /// Endpoints that were tried in vain.
    pub(super) avoid: &'a [SocketAddr],
    /// The moment by the gateway's coarse clock.
    pub(super) now: u64,
}

impl Roster {
    /// Nobody.
    pub(super) fn empty() -> Self {
        Self {
            endpoints: Arc::new([]),
            members: Box::default(),
            groups: Box::default(),
            by_id: HashMap::new(),
        }
    }

    /// What this roster holds these endpoints as, for the next one; as something new those that
    /// it does not hold.
    pub(super) fn members(&self, endpoints: &[Arc<Endpoint>], workers: usize) -> Vec<Member> {
        let held: HashMap<*const Endpoint, &Member> =
            self.members.iter().map(|one| (Arc::as_ptr(&one.endpoint), one)).collect();
        let member = |endpoint: &Arc<Endpoint>| {
            let known = held.get(&Arc::as_ptr(endpoint)).copied().cloned();
            known.unwrap_or_else(|| Member::new(endpoint.clone(), workers))
        };
        endpoints.iter().map(member).collect()
    }

    /// Makes the roster of these candidates. Of a group less than `spill_below` of whose weight is
    /// usable, the groups behind it get a part of the requests.
    pub(super) fn new(
        mut candidates: Vec<Candidate>,
        way: &BalanceConfig,
        spill_below: f64,
    ) -> Self {
        let endpoints = candidates.iter().map(|one| one.member.endpoint.clone()).collect();
        let members = candidates.iter().map(|one| one.member.clone()).collect();
        let usable = candidates.iter().filter(|one| one.usable && one.weight > 0);
        let by_id = usable.map(|one| (one.member.id, one.member.clone())).collect();
        let unit = Ring::unit(candidates.iter().map(|one| u64::from(one.full)));
        let rank = |one: &Candidate| (one.member.priority, !one.preferred);
        candidates.sort_by_key(rank);
        let ranks: Vec<&[Candidate]> =
            candidates.chunk_by(|one, other| rank(one) == rank(other)).collect();
        let capacities: Vec<f64> = ranks.iter().map(|rank| capacity(rank, spill_below)).collect();
        let groups = ranks
            .into_iter()
            .zip(shares(&capacities))
            .map(|(rank, upto)| Group::new(rank, way, unit, upto))
            .filter(|group| !group.members.is_empty());
        Self { endpoints, members, groups: groups.collect(), by_id }
    }

    /// Whether any endpoint can be chosen, be it full or not.
    pub(super) fn is_usable(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether any endpoint can be chosen and is not full.
    pub(super) fn has_room(&self) -> bool {
        let mut members = self.groups.iter().flat_map(|group| &group.members);
        members.any(|member| !member.is_full())
    }

    /// How many endpoints can be chosen but for being full.
    pub(super) fn full(&self) -> usize {
        let members = self.groups.iter().flat_map(|group| &group.members);
        members.filter(|member| member.is_full()).count()
    }

    /// The endpoint of an attempt. `None` if none is usable, or all are full.
    pub(super) fn choose(&self, wanted: &Wanted<'_>) -> Option<&Member> {
        let chosen = self.choose_any(wanted)?;
        let tried = |one: &Endpoint| wanted.avoid.contains(&one.address);
        if !chosen.is_full() && !tried(chosen) {
            return Some(chosen);
        }
        // The way may not have come across one that has room and was not tried. Not always the same
        // one is to get what is left over.
        let all = || self.groups.iter().flat_map(|group| group.members_from(wanted.given.turn));
        let has_room = |one: &&Member| !one.is_full();
        let elsewhere = all().filter(has_room).find(|one| !tried(one));
        elsewhere.or_else(|| all().find(has_room))
    }

    /// Whoever is usable, group by group, in each the one of this turn first.
    pub(super) fn usable_from(&self, turn: usize) -> Vec<Member> {
        self.groups.iter().flat_map(|group| group.members_from(turn)).cloned().collect()
    }

    fn choose_any(&self, wanted: &Wanted<'_>) -> Option<&Member> {
        if let Some(known) = wanted.id.and_then(|id| self.by_id.get(&id))
            && !known.is_full()
            && !wanted.avoid.contains(&known.address)
        {
            return Some(known);
        }
        let [only] = &*self.groups else { return self.choose_group(wanted) };
        only.choose(wanted)
    }

    fn choose_group(&self, wanted: &Wanted<'_>) -> Option<&Member> {
        // A key's requests stay together in this choice too.
        let draw = wanted.given.key.map_or_else(rand::random, |key| (key >> 32) as u32);
        let drawn = self.groups.iter().find(|group| u64::from(draw) < group.upto)?;
        drawn.choose(wanted)
    }
}

impl Group {
    fn new(rank: &[Candidate], way: &BalanceConfig, unit: u64, upto: u64) -> Self {
        let usable = || rank.iter().filter(|one| one.usable && one.weight > 0);
        let names: Vec<(String, u32)> =
            usable().map(|one| (one.member.address.to_string(), one.weight)).collect();
        let names = names.iter().map(|(name, weight)| (name.as_str(), *weight));
        let balancer = Balancer::new(way, names, unit);
        Self { members: usable().map(|one| one.member.clone()).collect(), balancer, upto }
    }

    /// All members, the one of this turn first.
    fn members_from(&self, turn: usize) -> impl Iterator<Item = &Member> {
        let first = turn.checked_rem(self.members.len()).unwrap_or(0);
        let (before, behind) = self.members.split_at(first);
        behind.iter().chain(before)
    }

    fn choose(&self, wanted: &Wanted<'_>) -> Option<&Member> {
        let members = Members { members: &self.members, avoid: wanted.avoid, now: wanted.now };
        self.balancer.next(wanted.given, &members).map(|place| &self.members[place])
    }
}

struct Members<'a> {
    members: &'a [Member],
    avoid: &'a [SocketAddr],
    now: u64,
}

impl Loads for Members<'_> {
    fn load(&self, place: usize) -> Load {
        self.members[place].load(self.now)
    }

    fn is_avoided(&self, place: usize) -> bool {
        let member = &self.members[place];
        member.is_full() || self.avoid.contains(&member.address)
    }
}

/// How much of all requests a group can take: all of them while enough of its weight is usable.
fn capacity(rank: &[Candidate], spill_below: f64) -> f64 {
    let sum = |one: &Candidate| f64::from(one.full);
    let all: f64 = rank.iter().map(sum).sum();
    let usable: f64 = rank.iter().filter(|one| one.usable && one.weight > 0).map(sum).sum();
    if usable == 0.0 { 0.0 } else { (usable / all / spill_below).min(1.0) }
}

/// The share of each group as the end of its part of all 32-bit numbers: the first takes what it
/// can, the next what it can of the rest. Where all together cannot take everything, they do so
/// nevertheless, each in proportion.
fn shares(capacities: &[f64]) -> Vec<u64> {
    const ALL: f64 = 4_294_967_296.0;
    let total: f64 = capacities.iter().sum();
    let scale = if total > 0.0 && total < 1.0 { 1.0 / total } else { 1.0 };
    let mut taken = 0.0_f64;
    let ends = capacities.iter().map(|capacity| {
        taken = (taken + capacity * scale).min(1.0);
        // Rounding must not leave numbers that are nobody's.
        if taken > 1.0 - 1e-9 { ALL as u64 } else { (taken * ALL) as u64 }
    });
    ends.collect()
}

#[cfg(test)]
mod tests;
