//! What becomes of a request that its plugins let pass: which upstream, asked for what, or which reply.
//!
//! Everything here is a pure function of the request's head and of what was compiled, so that traffic and
//! `explain` come to the same answer.

mod path_text;
mod redirect;
mod reply;
mod rewrite;
mod split;

use std::sync::Arc;

use bytes::Bytes;

use crate::config::{ConfigPath, RouteConfig};
use crate::plugin::{AttributeError, PublishedNames, Template, TemplateError};
use crate::routing::PathPattern;

pub(crate) use path_text::{PathText, Unfit, swapped};
pub(crate) use redirect::RedirectPlan;
pub(crate) use reply::ReplyPlan;
pub(crate) use rewrite::{RewritePlan, Rewritten};
pub(crate) use split::SplitPlan;

/// What a route does with a request that its plugins let pass.
pub enum Action {
    /// Send it on to the route's upstream, or to one of them.
    Send(Option<SplitPlan>),
    /// Send the client elsewhere.
    Redirect(RedirectPlan),
    /// Answer it here.
    Reply(ReplyPlan),
}

/// What compiling an action found wrong, with the place in the route.
pub(crate) type Wrong = Vec<(ConfigPath, String)>;

/// What names in an action's texts may stand for.
pub(crate) struct Names<'a> {
    pub(crate) published: &'a PublishedNames,
    /// What the route's path captures.
    pub(crate) captures: Vec<&'a str>,
    /// What stands in the file that its reply names.
    pub(crate) file: Option<Bytes>,
}

impl Names<'_> {
    /// Compiles a text with names in braces.
    fn template(&self, source: &str) -> Result<Template, String> {
        let hint = |error: TemplateError| match &error {
            TemplateError::Attribute { cause: AttributeError::Unknown { name, .. }, .. } => {
                if self.captures.contains(&name.as_str()) {
                    format!("{error}; what the path captures is `{{request.capture.{name}}}`")
                } else if name.contains(['"', ' ', ':', '\n']) {
                    format!("{error}; a brace itself is written {{{{")
                } else {
                    error.to_string()
                }
            }
            _ => error.to_string(),
        };
        Template::parse(source, self.published, false).map_err(hint)
    }
}

impl Action {
    /// Compiles the action of a route whose paths are these.
    pub(crate) fn compile(
        route: &RouteConfig,
        path: &PathPattern,
        names: &Names<'_>,
        wrong: &mut Wrong,
    ) -> Self {
        if let Some(redirect) = &route.redirect {
            return Self::Redirect(RedirectPlan::compile(redirect, path, names, wrong));
        }
        if let Some(reply) = &route.reply {
            return Self::Reply(ReplyPlan::compile(reply, names, wrong));
        }
        let split = route.split.as_ref();
        Self::Send(split.map(|split| SplitPlan::compile(split, names, wrong)))
    }
}

/// What a route rewrites.
pub(crate) fn rewrite(
    route: &RouteConfig,
    path: &PathPattern,
    names: &Names<'_>,
    wrong: &mut Wrong,
) -> Option<Arc<RewritePlan>> {
    let rewrite = route.rewrite.as_ref()?;
    Some(Arc::new(RewritePlan::compile(rewrite, path, names, wrong)))
}

/// The path of a key of a route.
fn at(keys: &[&str]) -> ConfigPath {
    keys.iter().fold(ConfigPath::root(), |path, key| path.key(*key))
}
