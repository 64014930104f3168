//! `explain`: what would become of a request, and why, without sending anything.
//!
//! A question goes the way of a request by the functions that requests go: the checks of its head, the route table, the
//! conditions of its plugins, and its action. What only a plugin can find out (who the caller is, what a token says) is
//! not known here, and a condition that asks for it is told as such.

mod answer;
mod chain;
mod expect;
mod listing;
mod loops;
mod misses;
mod question;
mod table;
mod target;
mod text;

pub use answer::{Destination, Explained, Explanation, Miss, PluginTold, RequestTold, Share, Told};
pub use expect::{Expectation, ExpectationError};
pub use listing::{Row, columns};
pub(crate) use loops::Circle;
pub use question::{Question, QuestionError};
pub use table::{Case, TableError, field, given, table};

use std::net::SocketAddr;
use std::sync::Arc;

use http::Method;
use pingora_http::RequestHeader;

use crate::action::Action;
use crate::context::RequestCtx;
use crate::plugin::{Attribute, Facts, Mounted, Reply};
use crate::proxy::{arrive, preflight_method};
use crate::routing::RouteQuery;
use crate::snapshot::{ListenerPlan, Snapshot};

impl Snapshot {
    /// What would become of a request.
    ///
    /// # Errors
    /// The question is none: there is no such listener, or its method is none.
    pub fn explain(self: &Arc<Self>, question: &Question) -> Result<Explanation, QuestionError> {
        let asked = question.ask(self)?;
        let listener = asked.listener.clone();
        let mut head = asked.head;
        let mut ctx =
            RequestCtx::new(self.clone(), listener.clone(), SocketAddr::new(question.client, 0));
        let arrived = arrive(&mut head, asked.secured.as_ref(), &mut ctx);
        if let Ok(Ok(route)) = &arrived
            && let Action::Send(Some(split)) = &route.action
            && split.is_early()
        {
            let facts = Facts { request: &head, response: None, ctx: &ctx };
            if let Some(kept) = split.kept(&facts) {
                ctx.set_destination(kept);
            }
        }
        let seen = Seen { snapshot: self, listener: &listener, head: &head, ctx: &ctx };
        let mut told = match &arrived {
            Ok(Ok(route)) => target::explain(&seen, route),
            Ok(Err(reply)) | Err(reply) => Told::refused(reply),
        };
        let (mut misses, mut more) = (Vec::new(), 0);
        // A head that goes no further is held against no route, and shown to no plugin.
        if let Ok(routed) = &arrived {
            told.plugins = seen.plugins();
            let (unless, answer) = seen.foreseen();
            if let Some((by, reply)) = answer {
                told = told.answered(by, &reply);
            }
            told.unless = unless;
            let preflight = preflight_method(&head);
            let query = seen.query(preflight.as_ref());
            (misses, more) = misses::of(&seen, &query, routed.as_ref().ok());
        }
        told.limits = seen.limits();
        Ok(Explanation {
            revision: self.revision.number,
            request: seen.request(question),
            told,
            misses,
            more_misses: more,
        })
    }
}

/// A question on its way.
struct Seen<'a> {
    snapshot: &'a Arc<Snapshot>,
    listener: &'a Arc<ListenerPlan>,
    head: &'a RequestHeader,
    ctx: &'a RequestCtx,
}

impl Seen<'_> {
    fn facts(&self) -> Facts<'_> {
        Facts { request: self.head, response: None, ctx: self.ctx }
    }

    /// What a request may have at all, as the listener says.
    fn limits(&self) -> serde_json::Value {
        let config = self.snapshot.config.listeners.get(usize::from(self.listener.index));
        config.map(|config| serde_json::json!(config.limits)).unwrap_or_default()
    }

    /// What the route table was asked. `preflight` is the method that a preflight asks for.
    fn query<'q>(&'q self, preflight: Option<&'q Method>) -> RouteQuery<'q> {
        RouteQuery {
            host: self.ctx.host().unwrap_or_default(),
            path: self.head.uri.path(),
            method: &self.head.method,
            listener: self.listener.index,
            preflight_method: preflight,
            facts: self.facts(),
        }
    }

    fn request(&self, question: &Question) -> RequestTold {
        let path = self.head.uri.path();
        RequestTold {
            method: self.head.method.to_string(),
            host: self.ctx.host().unwrap_or_default().to_owned(),
            path: path.to_owned(),
            path_sent: (question.path() != path).then(|| question.path().to_owned()),
            query: self.head.uri.query().map(str::to_owned),
            scheme: self.ctx.scheme().to_owned(),
            client: self.ctx.client_ip().to_string(),
            listener: self.listener.name.to_string(),
            protocol: Attribute::RequestProtocol
                .with_text(&self.facts(), |text| text.unwrap_or_default().to_owned()),
        }
    }
}

impl Told {
    /// The answer of a plugin, which no later one and no action comes after.
    fn answered(self, by: &Mounted, reply: &Reply) -> Self {
        Self {
            route: self.route,
            group: self.group,
            captures: self.captures,
            plugins: self.plugins,
            action: Explained::Plugin,
            by: Some(by.name.to_string()),
            ..Self::refused(reply)
        }
    }

    /// An answer without a route.
    fn refused(reply: &Reply) -> Self {
        let location = reply.headers.iter().find(|(name, _)| name == http::header::LOCATION);
        let location = location.and_then(|(_, value)| value.to_str().ok()).map(str::to_owned);
        let allow = reply.headers.iter().find(|(name, _)| name == http::header::ALLOW);
        let detail = serde_json::from_slice::<serde_json::Value>(&reply.body).ok();
        let detail = detail.and_then(|body| body["detail"].as_str().map(str::to_owned));
        Self {
            action: if location.is_some() { Explained::Redirect } else { Explained::Refusal },
            status: Some(reply.status.as_u16()),
            failure: reply.failure.map(|code| code.code().to_owned()),
            why: detail,
            location,
            allow: allow.and_then(|(_, value)| value.to_str().ok()).map(str::to_owned),
            ..Self::default()
        }
    }
}
