//! What a route asks of a request besides host, path and method.

use std::cmp::Reverse;

use ipnet::IpNet;

use super::table::RouteQuery;
use super::value::{ValueRule, ValueTest};
use crate::plugin::{Attribute, Condition};

/// What a route asks of a request besides host, path and method. Empty lists ask nothing.
#[derive(Debug, Default)]
pub struct Rules {
    /// The listeners it is reached through.
    pub listeners: Box<[u16]>,
    /// Header fields, query parameters and cookies.
    pub values: Box<[ValueRule]>,
    /// The networks that clients are in.
    pub clients: Box<[IpNet]>,
    /// What must be true besides.
    pub condition: Option<Condition>,
}

/// The first of its rules that a request does not meet.
#[derive(Clone, Debug, PartialEq)]
pub enum Unmet<'t> {
    /// It came through another listener.
    Listener,
    /// This value is something else.
    Value(&'t ValueRule),
    /// The client is in none of these networks.
    Client(&'t [IpNet]),
    /// This condition does not hold.
    Condition(&'t str),
}

/// How specific rules are: what is less goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Strictness {
    headers: Reverse<usize>,
    query: Reverse<usize>,
    cookies: Reverse<usize>,
    any_client: bool,
    unconditional: bool,
    any_listener: bool,
}

impl Strictness {
    /// The row by which it goes before another.
    pub(super) fn over(&self, other: &Self) -> &'static str {
        match () {
            () if self.headers != other.headers => "it asks for more headers",
            () if self.query != other.query => "it asks for more of the query",
            () if self.cookies != other.cookies => "it asks for more cookies",
            () if self.any_client != other.any_client => "it lists clients",
            () if self.unconditional != other.unconditional => "it has a condition",
            () if self.any_listener != other.any_listener => "it lists listeners",
            () => "it is listed first",
        }
    }
}

impl Rules {
    /// Whether it asks nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
            && self.values.is_empty()
            && self.clients.is_empty()
            && self.condition.is_none()
    }

    /// Whether requests that come through a listener can meet them.
    pub(crate) fn admit(&self, listener: u16) -> bool {
        self.listeners.is_empty() || self.listeners.contains(&listener)
    }

    /// Whether a request meets them all.
    pub(super) fn hold(&self, query: &RouteQuery<'_>) -> bool {
        self.unmet(query).is_none()
    }

    /// The first one that a request does not meet.
    pub(crate) fn unmet(&self, query: &RouteQuery<'_>) -> Option<Unmet<'_>> {
        if !self.listeners.is_empty() && !self.listeners.contains(&query.listener) {
            return Some(Unmet::Listener);
        }
        let fails =
            |rule: &&ValueRule| !rule.of.with_text(&query.facts, |value| rule.test.passes(value));
        if let Some(rule) = self.values.iter().find(fails) {
            return Some(Unmet::Value(rule));
        }
        if !self.clients.is_empty() {
            let client = query.facts.ctx.client_ip().to_canonical();
            if !self.clients.iter().any(|net| net.contains(&client)) {
                return Some(Unmet::Client(&self.clients));
            }
        }
        let condition = self.condition.as_ref()?;
        // It reads no response, so that it can always be evaluated.
        let holds = condition.holds(&query.facts).unwrap_or(false);
        (!holds).then(|| Unmet::Condition(condition.source()))
    }

    pub(super) fn strictness(&self) -> Strictness {
        let count = |of: fn(&Attribute) -> bool| {
            Reverse(self.values.iter().filter(|rule| of(&rule.of)).count())
        };
        Strictness {
            headers: count(|one| matches!(one, Attribute::RequestHeader(_))),
            query: count(|one| matches!(one, Attribute::RequestQuery(_))),
            cookies: count(|one| matches!(one, Attribute::RequestCookie(_))),
            any_client: self.clients.is_empty(),
            unconditional: self.condition.is_none(),
            any_listener: self.listeners.is_empty(),
        }
    }

    /// The text that it asks of an attribute.
    pub(super) fn exact(&self, of: &Attribute) -> Option<&str> {
        self.values.iter().find_map(|rule| match &rule.test {
            ValueTest::Exact(text) if rule.of == *of => Some(&**text),
            _ => None,
        })
    }

    /// Whether no request meets both, as far as can be told.
    pub(super) fn exclude(&self, other: &Self) -> bool {
        let listeners = !self.listeners.is_empty()
            && !other.listeners.is_empty()
            && !self.listeners.iter().any(|one| other.listeners.contains(one));
        let apart = |one: &IpNet, two: &IpNet| !one.contains(two) && !two.contains(one);
        let clients = !self.clients.is_empty()
            && !other.clients.is_empty()
            && self.clients.iter().all(|one| other.clients.iter().all(|two| apart(one, two)));
        let excludes =
            |(one, two): (&ValueRule, &ValueRule)| one.of == two.of && one.test.excludes(&two.test);
        let pairs =
            self.values.iter().flat_map(|one| other.values.iter().map(move |two| (one, two)));
        listeners || clients || pairs.into_iter().any(excludes)
    }

    /// Whether a request that meets another's meets these too, as far as can be told.
    pub(super) fn cover(&self, other: &Self) -> bool {
        let listeners = self.listeners.is_empty()
            || !other.listeners.is_empty()
                && other.listeners.iter().all(|one| self.listeners.contains(one));
        let contained = |net: &IpNet| self.clients.iter().any(|wide| wide.contains(net));
        let clients = self.clients.is_empty()
            || !other.clients.is_empty() && other.clients.iter().all(contained);
        let asked = |rule: &ValueRule| {
            other.values.iter().any(|one| one.of == rule.of && rule.test.covers(&one.test))
        };
        let condition = match (&self.condition, &other.condition) {
            (None, _) => true,
            (Some(one), Some(two)) => one.source() == two.source(),
            (Some(_), None) => false,
        };
        listeners && clients && condition && self.values.iter().all(asked)
    }
}
