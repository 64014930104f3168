//! Redirects that lead in a circle.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Question;
use crate::action::Action;
use crate::context::RequestCtx;
use crate::plugin::Facts;
use crate::proxy::arrive;
use crate::routing::{HostPattern, RouteSpec};
use crate::snapshot::Snapshot;

/// No browser follows more.
const HOPS: usize = 20;

/// A redirect that leads back to itself, and the way there.
pub(crate) struct Circle {
    /// The place of the route where it was found.
    pub(crate) route: usize,
    /// The routes on the way; a listener that redirects to https has no name.
    pub(crate) way: Vec<String>,
}

impl Snapshot {
    /// Redirects from which a client does not get away, as far as a request for each route tells.
    pub(crate) fn circles(self: &Arc<Self>) -> Vec<Circle> {
        let routes = self.table.specs().iter().zip(self.routes()).enumerate();
        let redirects = routes.filter(|(_, (_, plan))| matches!(plan.action, Action::Redirect(_)));
        redirects.filter_map(|(place, (spec, _))| self.circle(place, spec)).collect()
    }

    fn circle(self: &Arc<Self>, place: usize, spec: &RouteSpec) -> Option<Circle> {
        let path = spec.path.sample()?;
        let host = match spec.hosts.first() {
            None => "example.com".to_owned(),
            Some(HostPattern::Exact(host)) => host.to_string(),
            Some(HostPattern::Under(name)) => format!("x.{name}"),
            Some(HostPattern::Regex(_)) => return None,
        };
        ["http", "https"].into_iter().find_map(|scheme| {
            let way = self.follow(&format!("{scheme}://{host}{path}"), &spec.name)?;
            Some(Circle { route: place, way })
        })
    }

    /// The names of the routes on a way that does not end, if it begins at this route.
    fn follow(self: &Arc<Self>, url: &str, first: &str) -> Option<Vec<String>> {
        let mut url = url.to_owned();
        let (mut urls, mut way) = (Vec::new(), Vec::new());
        for hop in 0..HOPS {
            let (name, next) = self.hop(&url)?;
            if hop == 0 && name != first {
                return None;
            }
            way.push(name);
            urls.push(url);
            if urls.contains(&next) {
                return Some(way);
            }
            url = next;
        }
        Some(way)
    }

    /// Where a request is sent, and by which route.
    fn hop(self: &Arc<Self>, url: &str) -> Option<(String, String)> {
        let asked = Question::new("GET", url).ask(self).ok()?;
        let authority = url.split('/').nth(2).unwrap_or_default();
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_some_and(|port| port != asked.listener.address.port()) {
            // Somebody else listens there.
            return None;
        }
        // Only what a listener of its own takes: a URL of https does not come to one of http.
        if asked.secured != url.starts_with("https:") {
            return None;
        }
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let mut head = asked.head;
        let mut ctx = RequestCtx::new(self.clone(), asked.listener, peer);
        let name = asked.server_name;
        let (by, location) = match arrive(&mut head, name.as_deref(), asked.secured, &mut ctx) {
            Ok(Ok(route)) => {
                let Action::Redirect(redirect) = &route.action else { return None };
                let facts = Facts { request: &head, response: None, ctx: &ctx };
                (route.name.to_string(), redirect.location(&facts).ok()?)
            }
            Ok(Err(reply)) | Err(reply) => {
                let found = reply.headers.iter().find(|(name, _)| name == http::header::LOCATION);
                let location = found?.1.to_str().ok()?.to_owned();
                (format!("listener {}", ctx.listener_name()), location)
            }
        };
        // Without a query, which does not decide where a redirect leads.
        let location = location.split('?').next().unwrap_or_default();
        if location.starts_with('/') {
            let rest = url.find("://").map_or(0, |at| at + 3);
            let end = url[rest..].find('/').map_or(url.len(), |at| rest + at);
            return Some((by, format!("{}{location}", &url[..end])));
        }
        Some((by, location.to_owned()))
    }
}
