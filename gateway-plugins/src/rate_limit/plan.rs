//! The limits that hold for a request, and what is left of them.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::lease::Leases;
use super::limit::Standing;
use super::options::OnFull;
use super::table::{Full, Table};

/// Limits that hold together.
pub(super) struct Plan {
    pub(super) rules: Box<[Rule]>,
    /// `RateLimit-Policy`, the same for all answers.
    pub(super) policy: HeaderValue,
    /// What is held of the keys in the store, where requests are leased.
    pub(super) leases: Option<Arc<Leases>>,
}

/// A limit and its buckets.
pub(super) struct Rule {
    /// What it is called in a store, among all limits of all plugins.
    pub(super) name: Box<str>,
    /// What it is called in answers.
    pub(super) shown: String,
    /// What stands before what is left, in `RateLimit`.
    pub(super) item: Box<str>,
    pub(super) table: Arc<Table>,
}

/// The most limits that hold together.
const MOST: usize = 8;

/// What is left of each limit after a request, in place: it is made for every request.
#[derive(Clone, Copy, Default)]
pub(super) struct Standings {
    of: [Standing; MOST],
    count: usize,
}

impl Standings {
    pub(super) fn push(&mut self, standing: Standing) {
        if let Some(place) = self.of.get_mut(self.count) {
            *place = standing;
            self.count += 1;
        }
    }

    /// So much more is left.
    pub(super) fn add(&mut self, more: u64) {
        self.of[..self.count].iter_mut().for_each(|standing| standing.remaining += more);
    }

    pub(super) fn all(&self) -> &[Standing] {
        &self.of[..self.count]
    }
}

/// A request that is too much.
pub(super) struct Refused {
    /// How soon it may come again, if it ever may.
    pub(super) retry: Option<Duration>,
}

/// What came of a request: what is left, and whether it passes. What is left is of the limits up to the one that
/// refused it.
pub(super) type Taken = (Standings, Result<(), Refused>);

impl Plan {
    /// Takes the request from each limit's bucket, or from none.
    pub(super) fn take(&self, key: u64, cost: u64, now: u64, on_full: OnFull) -> Taken {
        let mut left = Standings::default();
        for (place, rule) in self.rules.iter().enumerate() {
            match rule.table.take(key, cost, now) {
                Ok(Ok(standing)) => left.push(standing),
                Err(Full) if on_full == OnFull::Allow => left.push(Standing {
                    remaining: rule.table.limit().quota().saturating_sub(cost),
                    reset: Duration::ZERO,
                }),
                refused => {
                    let before = self.rules.iter().take(place).zip(&mut left.of);
                    for (rule, standing) in before {
                        rule.table.give_back(key, cost, now);
                        standing.remaining += cost;
                    }
                    let (over, retry) = match refused {
                        Ok(Err(over)) => (Some(over.standing), over.retry),
                        _ => (None, None),
                    };
                    over.into_iter().for_each(|standing| left.push(standing));
                    return (left, Err(Refused { retry }));
                }
            }
        }
        (left, Ok(()))
    }

    /// Takes what a request has cost already, whatever is left, and tells what is.
    pub(super) fn charge(&self, key: u64, cost: u64, now: u64) -> Standings {
        let mut left = Standings::default();
        for rule in &self.rules {
            left.push(rule.table.charge(key, cost, now).unwrap_or_default());
        }
        left
    }

    /// Gives back what a request has not cost.
    pub(super) fn give_back(&self, key: u64, cost: u64, now: u64) {
        self.rules.iter().for_each(|rule| rule.table.give_back(key, cost, now));
    }
}
