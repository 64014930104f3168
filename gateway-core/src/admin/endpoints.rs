//! Calls that take one endpoint out, bring it back, or change its weight.
//!
//! `POST` and `DELETE` at `/upstreams/{upstream}/endpoints/{address}/drain` and `…/weight`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::Value;

use super::server::{Reply, json, problem};
use super::{query, readouts};
use crate::config::Span;
use crate::lifecycle::State;
use crate::upstream::{Endpoint, Upstream};

/// How often it is looked whether an endpoint is drained.
const LOOK: Duration = Duration::from_millis(20);
/// How long a call may wait.
const LONGEST: Duration = Duration::from_secs(600);
/// The heaviest an endpoint can be.
const HEAVIEST: u32 = 65535;

/// What a call asks for.
pub(super) struct Call<'a> {
    upstream: &'a str,
    address: &'a str,
    change: Change,
}

enum Change {
    /// Take it out and wait for its requests, or bring it back.
    Drain { out: bool, wait: Duration },
    /// Give it this weight, or the config's back.
    Weight(Option<u32>),
}

/// Whether a path is one of these.
pub(super) fn is_path(path: &str) -> bool {
    parts(path).is_some()
}

fn parts(path: &str) -> Option<[&str; 3]> {
    let mut parts = path.strip_prefix("/upstreams/")?.split('/');
    let (upstream, word) = (parts.next()?, parts.next()?);
    let (address, what) = (parts.next()?, parts.next()?);
    let known = word == "endpoints" && matches!(what, "drain" | "weight") && parts.next().is_none();
    known.then_some([upstream, address, what])
}

impl<'a> Call<'a> {
    /// Reads a call.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(method: &Method, path: &'a str, query: &str) -> Result<Self, String> {
        let [upstream, address, what] = parts(path).ok_or("there is nothing there")?;
        let undone = method == Method::DELETE;
        let change = match what {
            "drain" => {
                let [wait] = if undone { [None] } else { query::values(query, ["wait"])? };
                let wait = wait.map(|text| text.parse::<Span>()).transpose();
                let wait = wait.map_err(|error| format!("wait: {error}"))?.map(Duration::from);
                if wait.is_some_and(|wait| wait > LONGEST) {
                    return Err("wait: at most 10m".to_owned());
                }
                Change::Drain { out: !undone, wait: wait.unwrap_or_default() }
            }
            _ if undone => Change::Weight(None),
            _ => {
                let [told] = query::values(query, ["value"])?;
                let told = told.ok_or("say which: `?value=3`")?;
                let weight = told.parse().ok().filter(|weight| *weight <= HEAVIEST);
                let wrong = || format!("value: expected a whole number from 0 to {HEAVIEST}");
                Change::Weight(Some(weight.ok_or_else(wrong)?))
            }
        };
        Ok(Self { upstream, address, change })
    }

    /// Does it. Answers with what is known of the endpoint afterwards.
    pub(super) async fn run(&self, state: &Arc<State>) -> Reply {
        let snapshot = state.snapshots.load();
        let upstream = snapshot.upstreams().iter().find(|one| one.name() == self.upstream);
        let Some(upstream) = upstream else {
            let detail = format!("there is no upstream `{}`", self.upstream);
            return problem(StatusCode::NOT_FOUND, &detail);
        };
        let address = query::address(self.address);
        let changed = address.and_then(|address| self.change(upstream, address));
        let Some(endpoint) = changed else {
            let detail = format!("upstream `{}` has no endpoint `{}`", self.upstream, self.address);
            return problem(StatusCode::NOT_FOUND, &detail);
        };
        if let Change::Drain { out: true, wait } = self.change {
            let until = Instant::now() + wait;
            while endpoint.in_flight() > 0 && Instant::now() < until {
                tokio::time::sleep(LOOK).await;
            }
        }
        json(StatusCode::OK, &self.told(upstream, &endpoint, state.watch.now()))
    }

    fn change(&self, upstream: &Upstream, address: SocketAddr) -> Option<Arc<Endpoint>> {
        match self.change {
            Change::Drain { out, .. } => upstream.drain(address, out),
            Change::Weight(weight) => upstream.weigh(address, weight),
        }
    }

    fn told(&self, upstream: &Upstream, endpoint: &Arc<Endpoint>, now: u64) -> Value {
        let all = upstream.conditions();
        let own = all.iter().find(|(one, _)| one.address == endpoint.address);
        own.map_or(Value::Null, |(one, condition)| readouts::endpoint(one, condition, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, path: &str, query: &str) -> Result<(), String> {
        Call::read(&method, path, query).map(drop)
    }

    #[test]
    fn calls_say_what_is_wrong_with_them() {
        let drain = "/upstreams/users/endpoints/10.0.0.1:80/drain";
        let weight = "/upstreams/users/endpoints/10.0.0.1:80/weight";
        assert_eq!(read(Method::POST, drain, "wait=30s"), Ok(()));
        assert_eq!(read(Method::DELETE, weight, ""), Ok(()));
        for (path, query, fault) in [
            (drain, "wait=30", "wait: "),
            (drain, "wait=11m", "at most 10m"),
            (drain, "whait=1s", "`whait=1s` means nothing here"),
            (weight, "", "say which"),
            (weight, "value=-1", "from 0 to 65535"),
            (weight, "value=65536", "from 0 to 65535"),
        ] {
            let told = read(Method::POST, path, query).unwrap_err();
            assert!(told.contains(fault), "{told}");
        }
        for other in ["/upstreams/users", "/upstreams/a/endpoints/b/c", "/upstreams/a/x/b/drain"] {
            assert!(!is_path(other), "{other}");
        }
    }
}
