//! Redirects that lead in a circle.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::FORWARDED;
use http::{Method, StatusCode};

use super::Question;
use crate::action::Action;
use crate::context::RequestCtx;
use crate::plugin::{Attribute, Facts};
use crate::proxy::arrive;
use crate::routing::{HostPattern, RouteSpec, ValueRule, ValueTest};
use crate::snapshot::Snapshot;

/// A way that is longer does not end, or is one that no client goes.
const HOPS: usize = 100;

/// What stands before the name of a listener that leads on.
const LISTENER: &str = "listener ";

/// A redirect that leads back to itself, and the way there.
pub(crate) struct Circle {
    /// The place of the route where it was found.
    pub(crate) route: usize,
    /// The URLs on the way, each with who leads on from there. The first comes again at its end.
    pub(crate) way: Vec<(String, String)>,
}

/// Where a request is led on to.
struct Hop {
    /// The route; a listener that redirects to https has no name.
    by: String,
    status: StatusCode,
    to: String,
}

impl Snapshot {
    /// Redirects from which a client does not get away, as far as a request for each route tells: one for each circle.
    pub(crate) fn circles(self: &Arc<Self>) -> Vec<Circle> {
        let routes = self.table.specs().iter().zip(self.routes()).enumerate();
        let redirects = routes.filter(|(_, (_, plan))| matches!(plan.action, Action::Redirect(_)));
        let mut told: HashSet<String> = HashSet::new();
        let mut circles = Vec::new();
        for (place, (spec, _)) in redirects {
            let Some(way) = self.circle(spec) else { continue };
            // Of a circle that several routes lead in, and to, one is told.
            if way.iter().any(|(_, by)| told.contains(by)) {
                continue;
            }
            let routes = way.iter().map(|(_, by)| by).filter(|by| !by.starts_with(LISTENER));
            told.extend(routes.cloned());
            circles.push(Circle { route: place, way });
        }
        circles
    }

    fn circle(self: &Arc<Self>, spec: &RouteSpec) -> Option<Vec<(String, String)>> {
        let path = spec.path.sample()?;
        let any = spec.hosts.is_empty().then(|| "example.com".to_owned());
        let own = spec.hosts.iter().filter_map(|host| match host {
            HostPattern::Exact(host) => Some(host.to_string()),
            HostPattern::Under(name) => Some(format!("x.{name}")),
            HostPattern::Regex(_) => None,
        });
        let hosts = own.chain(any);
        let urls = hosts
            .flat_map(|host| ["http", "https"].map(|scheme| format!("{scheme}://{host}{path}")));
        urls.into_iter().find_map(|url| self.follow(spec, url))
    }

    /// The way of a request for this route, if it does not end.
    fn follow(self: &Arc<Self>, spec: &RouteSpec, url: String) -> Option<Vec<(String, String)>> {
        let mut question = fitting(spec, &url)?;
        let mut way: Vec<(String, String)> = Vec::new();
        let mut methods = Vec::new();
        while way.len() < HOPS {
            let hop = self.hop(&question)?;
            if way.is_empty() && *hop.by != *spec.name {
                return None;
            }
            way.push((std::mem::replace(&mut question.url, hop.to), hop.by));
            methods.push(question.method.clone());
            // What a form has sent is fetched then (RFC 9110, section 15.4).
            let keeps = matches!(hop.status.as_u16(), 307 | 308);
            if !keeps && question.method == Method::POST.as_str() {
                question.method = Method::GET.to_string();
            }
            let mut before = way.iter().zip(&methods);
            let again = before
                .position(|((url, _), method)| (url, method) == (&question.url, &question.method));
            if let Some(start) = again {
                return Some(way.split_off(start));
            }
        }
        Some(way)
    }

    /// Where a request is sent, if that is here.
    fn hop(self: &Arc<Self>, question: &Question) -> Option<Hop> {
        let url = &question.url;
        let asked = question.ask(self).ok()?;
        let authority = url.split('/').nth(2).unwrap_or_default();
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_some_and(|port| port != asked.listener.address.port()) {
            // Somebody else listens there.
            return None;
        }
        let peer = SocketAddr::new(question.client, 0);
        let mut head = asked.head;
        let mut ctx = RequestCtx::new(self.clone(), asked.listener, peer);
        let (by, status, location) = match arrive(&mut head, asked.secured.as_ref(), &mut ctx) {
            Ok(Ok(route)) => {
                let Action::Redirect(redirect) = &route.action else { return None };
                let facts = Facts { request: &head, response: None, ctx: &ctx };
                (route.name.to_string(), redirect.status, redirect.location(&facts).ok()?)
            }
            Ok(Err(reply)) | Err(reply) => {
                let found = reply.headers.iter().find(|(name, _)| name == http::header::LOCATION);
                let location = found?.1.to_str().ok()?.to_owned();
                (format!("{LISTENER}{}", ctx.listener_name()), reply.status, location)
            }
        };
        if location.starts_with('/') {
            let rest = url.find("://").map_or(0, |at| at + 3);
            let end = url[rest..].find(['/', '?']).map_or(url.len(), |at| rest + at);
            return Some(Hop { by, status, to: format!("{}{location}", &url[..end]) });
        }
        let host = location.split('/').nth(2).unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let stays = ctx.host().is_some_and(|own| own == host);
        // Another host is somebody else's, unless a route names it.
        (stays || self.table.names(host)).then_some(Hop { by, status, to: location })
    }
}

/// A request for a URL that is all that a route asks for besides, as far as one can be made up.
fn fitting(spec: &RouteSpec, url: &str) -> Option<Question> {
    let method = spec.methods.first().unwrap_or(&Method::GET);
    let mut question = Question::new(method.as_str(), url);
    let (mut query, mut cookies) = (Vec::new(), Vec::new());
    for ValueRule { of, test } in &spec.rules.values {
        // What a proxy in front says is another after the next connection, and what must not be there may be set.
        let of_proxy = matches!(of, Attribute::RequestHeader(name)
            if name.as_str().starts_with("x-forwarded-") || *name == FORWARDED);
        if of_proxy || *test == ValueTest::Absent {
            return None;
        }
        let value = match test {
            ValueTest::Exact(text) | ValueTest::Prefix(text) => text.to_string(),
            ValueTest::Present => "x".to_owned(),
            ValueTest::Range(min, max) => 0.clamp(*min, *max).to_string(),
            ValueTest::Absent | ValueTest::Regex(_) => return None,
        };
        match of {
            Attribute::RequestQuery(name) => query.push(format!("{name}={value}")),
            Attribute::RequestCookie(name) => cookies.push(format!("{name}={value}")),
            Attribute::RequestHeader(name) => question.headers.push((name.to_string(), value)),
            _ => return None,
        }
    }
    if !query.is_empty() {
        question.url = format!("{url}?{}", query.join("&"));
    }
    if !cookies.is_empty() {
        question.headers.push(("cookie".to_owned(), cookies.join("; ")));
    }
    if let Some(network) = spec.rules.clients.first() {
        question.client = network.addr();
    }
    Some(question)
}
