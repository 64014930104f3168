//! The plugins that a request meets.

use std::collections::HashSet;
use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderName, StatusCode};
use pingora_http::RequestHeader;
use serde_json::Value;

use super::{PluginTold, Seen};
use crate::plugin::{Attribute, Chain, Class, Flow, Moment, Mounted, Reply};
use crate::snapshot::written;

impl Seen<'_> {
    /// The chain of the route, or that of the listener where there is none.
    fn chain(&self) -> &Arc<Chain> {
        let route = self.ctx.route().and_then(|route| route.chain(self.listener));
        route.unwrap_or(&self.listener.chain)
    }

    /// Its plugins, each with what is known of it by then.
    pub(super) fn plugins(&self) -> Vec<PluginTold> {
        let mut changed = Changed::default();
        let told = self.chain().plugins().map(|plugin| {
            let told = self.plugin(plugin, &changed);
            changed.by(plugin);
            told
        });
        told.collect()
    }

    /// The plugins of which only they themselves know whether they answer the request, up to the first that certainly
    /// does, and its answer.
    pub(super) fn foreseen(&self) -> (Vec<String>, Option<(&Mounted, Reply)>) {
        let (mut unless, mut changed) = (Vec::new(), Changed::default());
        for plugin in self.chain().plugins() {
            let (acts, _) = self.acts(plugin, &changed);
            let seen = plugin.hooks.request.as_ref().filter(|_| acts != Some(false));
            let Some(hook) = seen else { continue };
            let decided = hook.foresee(self.head, self.ctx);
            // What it decides by may be another by then.
            let decided = decided.filter(|flow| {
                let status = outcome(flow);
                !changed.all
                    && changed.heads(self.head).iter().all(|head| {
                        hook.foresee(head, self.ctx).is_some_and(|flow| outcome(&flow) == status)
                    })
            });
            match decided {
                Some(Flow::Continue) => {}
                Some(Flow::Respond(reply)) if acts == Some(true) => {
                    return (unless, Some((plugin, reply)));
                }
                _ => unless.push(plugin.name.to_string()),
            }
            changed.by(plugin);
        }
        (unless, None)
    }

    /// Those of the attributes that are not known before the plugins have run.
    pub(super) fn unknown(&self, attributes: &[&Attribute]) -> Vec<String> {
        let mut changed = Changed::default();
        self.chain().plugins().for_each(|plugin| changed.by(plugin));
        self.found_out(attributes.iter().copied(), &changed)
    }

    /// Those of the attributes that a plugin finds out, or may have changed.
    fn found_out<'a>(
        &self,
        attributes: impl Iterator<Item = &'a Attribute>,
        changed: &Changed,
    ) -> Vec<String> {
        let unknown = attributes.filter(|attribute| match attribute {
            Attribute::UpstreamName => self.ctx.upstream_name().is_none(),
            attribute => is_found_out(attribute) || changed.has(attribute),
        });
        let mut names: Vec<String> = unknown.map(ToString::to_string).collect();
        names.sort();
        names.dedup();
        names
    }

    fn plugin(&self, plugin: &Mounted, changed: &Changed) -> PluginTold {
        let (acts, waits_for) = self.acts(plugin, changed);
        let of = plugin.scope.split_once('/').map(|(_, name)| name.to_owned());
        PluginTold {
            name: plugin.name.to_string(),
            kind: plugin.kind.to_owned(),
            class: plugin.class,
            from: plugin.level,
            options: self.options(plugin),
            of,
            when: plugin.when().map(Into::into),
            acts,
            waits_for,
        }
    }

    /// What the config says of a plugin.
    fn options(&self, plugin: &Mounted) -> Value {
        let config = &self.snapshot.config;
        match written(config, plugin) {
            Some((path, Some(written))) => config.redacted_part(written, &path)["options"].take(),
            _ => Value::Null,
        }
    }

    fn acts(&self, plugin: &Mounted, changed: &Changed) -> (Option<bool>, Vec<String>) {
        let Some(condition) = &plugin.when else { return (Some(true), Vec::new()) };
        let waits_for = self.found_out(condition.attributes().into_iter(), changed);
        match waits_for.is_empty() {
            true => (condition.holds(&self.facts()).ok(), waits_for),
            false => (None, waits_for),
        }
    }
}

/// What later plugins may find another in the head than the client sent.
#[derive(Default)]
struct Changed {
    all: bool,
    fields: HashSet<HeaderName>,
}

/// The status that a plugin answers with, if it does.
fn outcome(flow: &Flow) -> Option<StatusCode> {
    match flow {
        Flow::Continue => None,
        Flow::Respond(reply) => Some(reply.status),
    }
}

impl Changed {
    /// The head as it may be by then: without the fields, and with something else in them.
    fn heads(&self, head: &RequestHeader) -> Vec<RequestHeader> {
        if self.fields.is_empty() {
            return Vec::new();
        }
        let mut without = head.clone();
        self.fields.iter().for_each(|name| drop(without.remove_header(name)));
        let mut other = without.clone();
        for name in &self.fields {
            // It is valid, and nobody's.
            let _ = other.insert_header(name.clone(), "x");
        }
        vec![without, other]
    }

    fn by(&mut self, plugin: &Mounted) {
        match &plugin.hooks.changes {
            _ if plugin.hooks.request.is_none() => {}
            Some(fields) => self.fields.extend(fields.iter().cloned()),
            None => self.all |= plugin.class == Class::Transform,
        }
    }

    fn has(&self, attribute: &Attribute) -> bool {
        let field = match attribute {
            Attribute::RequestHeader(name) => Some(name),
            Attribute::RequestCookie(_) => Some(&COOKIE),
            _ => None,
        };
        self.all && attribute.is_free() || field.is_some_and(|name| self.fields.contains(name))
    }
}

/// Whether a plugin finds it out, or the response brings it.
fn is_found_out(attribute: &Attribute) -> bool {
    let follows_from_route = matches!(
        attribute,
        Attribute::RouteName | Attribute::UpstreamName | Attribute::RequestCapture(_)
    );
    attribute.known_from() > Moment::Head && !follows_from_route
}
