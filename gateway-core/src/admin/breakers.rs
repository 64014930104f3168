//! Calls that open or close circuit breakers, whatever they find.
//!
//! `POST` and `DELETE` at `/upstreams/{upstream}/breakers/{plugin}`.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, StatusCode};

use super::server::{Reply, json, problem};
use super::{query, readouts};
use crate::lifecycle::State;
use crate::snapshot::{Breakers, Snapshot};
use crate::upstream::{Breaker, Told};

/// What a call asks for.
pub(super) struct Call<'a> {
    upstream: &'a str,
    plugin: &'a str,
    route: Option<&'a str>,
    endpoint: Option<SocketAddr>,
    told: Told,
}

/// Whether a path is one of these.
pub(super) fn is_path(path: &str) -> bool {
    parts(path).is_some()
}

fn parts(path: &str) -> Option<[&str; 2]> {
    let mut parts = path.strip_prefix("/upstreams/")?.split('/');
    let (upstream, word, plugin) = (parts.next()?, parts.next()?, parts.next()?);
    (word == "breakers" && parts.next().is_none()).then_some([upstream, plugin])
}

impl<'a> Call<'a> {
    /// Reads a call.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(method: &Method, path: &'a str, query: &'a str) -> Result<Self, String> {
        let [upstream, plugin] = parts(path).ok_or("there is nothing there")?;
        let (route, endpoint, told) = if method == Method::DELETE {
            let [route, endpoint] = query::values(query, ["route", "endpoint"])?;
            (route, endpoint, Told::Auto)
        } else {
            let [state, route, endpoint] = query::values(query, ["state", "route", "endpoint"])?;
            let told = match state {
                Some("open") => Told::Open,
                Some("closed") => Told::Closed,
                _ => return Err("say which: `?state=open` or `?state=closed`".to_owned()),
            };
            (route, endpoint, told)
        };
        let endpoint = endpoint.map(|text| {
            query::address(text).ok_or_else(|| format!("endpoint: `{text}` is no address"))
        });
        Ok(Self { upstream, plugin, route, endpoint: endpoint.transpose()?, told })
    }

    /// Does it. Answers with what is known of the upstream's breakers afterwards.
    pub(super) fn run(&self, state: &Arc<State>) -> Reply {
        let snapshot = state.snapshots.load();
        let breakers = self.breakers(&snapshot);
        if breakers.is_empty() {
            return problem(StatusCode::NOT_FOUND, &self.nothing());
        }
        breakers.iter().for_each(|breaker| breaker.tell(self.told));
        let now = state.watch.now();
        json(StatusCode::OK, &readouts::breakers_of(&snapshot, self.upstream, now))
    }

    fn breakers(&self, snapshot: &Snapshot) -> Vec<Arc<Breaker>> {
        let mut found: Vec<Arc<Breaker>> = Vec::new();
        let routes = snapshot.routes().iter();
        for route in routes.filter(|route| self.route.is_none_or(|name| *route.name == *name)) {
            let of_plugin = route.breakers().filter(|(upstream, plugin, _)| {
                upstream.name() == self.upstream && *plugin.name == *self.plugin
            });
            for (upstream, _, breakers) in of_plugin {
                match (breakers, self.endpoint) {
                    (Breakers::One(breaker), None) => found.push(breaker.clone()),
                    (Breakers::One(_), Some(_)) => {}
                    (Breakers::Each(each), wanted) => {
                        let endpoints = upstream.endpoints();
                        let endpoints = endpoints.iter().map(|one| one.address);
                        let wanted = endpoints.filter(|one| wanted.is_none_or(|it| it == *one));
                        found.extend(wanted.map(|address| each.of(address, upstream)));
                    }
                }
            }
        }
        found.sort_by_key(Arc::as_ptr);
        found.dedup_by(|a, b| Arc::ptr_eq(a, b));
        found
    }

    fn nothing(&self) -> String {
        let mut detail =
            format!("plugin `{}` has no circuit breaker before `{}`", self.plugin, self.upstream);
        if let Some(route) = self.route {
            detail += &format!(" for route `{route}`");
        }
        if let Some(endpoint) = self.endpoint {
            detail += &format!(" for endpoint `{endpoint}`");
        }
        detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, path: &str, query: &str) -> Result<Told, String> {
        Call::read(&method, path, query).map(|call| call.told)
    }

    #[test]
    fn calls_say_what_is_wrong_with_them() {
        let path = "/upstreams/users/breakers/careful";
        assert_eq!(read(Method::POST, path, "state=open"), Ok(Told::Open));
        assert_eq!(read(Method::POST, path, "state=closed&route=a"), Ok(Told::Closed));
        assert_eq!(read(Method::DELETE, path, "endpoint=%5B::1%5D:80"), Ok(Told::Auto));
        for (method, query, fault) in [
            (Method::POST, "", "say which"),
            (Method::POST, "state=ajar", "say which"),
            (Method::DELETE, "state=open", "`state=open` means nothing here"),
            (Method::POST, "state=open&endpoint=here", "`here` is no address"),
            (Method::POST, "state=open&way=a", "there is `state`, `route`, `endpoint`"),
        ] {
            let told = read(method, path, query).unwrap_err();
            assert!(told.contains(fault), "{told}");
        }
        for other in ["/upstreams/a/breakers", "/upstreams/a/breakers/b/c"] {
            assert!(!is_path(other), "{other}");
        }
    }
}
