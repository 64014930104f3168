//! Where a redirect leads. Its host is the config's or the one that was asked for, so that no request can lead others
//! away from it.

use http::{HeaderValue, StatusCode, header};

use super::path_text::in_normal_form;
use super::{Names, PathText, Unfit, Wrong, swapped};
use crate::config::{RedirectConfig, Scheme};
use crate::plugin::{Attribute, Facts, Reply};
use crate::routing::PathPattern;

/// A redirect, ready to be told.
pub struct RedirectPlan {
    pub(crate) status: StatusCode,
    scheme: Option<&'static str>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Way,
    keeps_query: bool,
}

enum Way {
    Same,
    Text(PathText),
    Prefix(PathPattern, Box<str>),
}

/// Why a client cannot be told where to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nowhere {
    /// The path that comes out is none.
    #[error(transparent)]
    Path(#[from] Unfit),
    /// It did not say which host it asks for.
    #[error("the request has no host that the redirect could lead to")]
    Host,
}

impl RedirectPlan {
    pub(super) fn compile(
        config: &RedirectConfig,
        path: &PathPattern,
        names: &Names<'_>,
        wrong: &mut Wrong,
    ) -> Self {
        let text = PathText::placed(&["redirect", "path"], config.path.as_deref(), names, wrong);
        let way = match (text, &config.prefix) {
            (Some(text), _) => Way::Text(text),
            (None, Some(prefix)) => Way::Prefix(path.clone(), prefix.to_string().into()),
            (None, None) => Way::Same,
        };
        Self {
            status: StatusCode::from_u16(config.status).unwrap_or(StatusCode::FOUND),
            scheme: config.scheme.map(|scheme| match scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            }),
            host: config.host.as_ref().map(|host| host.to_string().into()),
            port: config.port,
            path: way,
            keeps_query: config.query,
        }
    }

    /// The attributes that it reads.
    pub(crate) fn reads(&self) -> Vec<&Attribute> {
        match &self.path {
            Way::Text(text) => text.reads().collect(),
            Way::Same | Way::Prefix(..) => Vec::new(),
        }
    }

    /// What `location` says: a path where nothing else changes, else a whole URL (RFC 9110, section 10.2.2).
    ///
    /// # Errors
    /// There is no place to tell.
    pub(crate) fn location(&self, facts: &Facts<'_>) -> Result<String, Nowhere> {
        let own = facts.request.uri.path();
        let path = match &self.path {
            Way::Same => own.to_owned(),
            Way::Text(text) => text.render(facts)?,
            Way::Prefix(pattern, prefix) => {
                let length = pattern.prefix_length(own).unwrap_or(0);
                in_normal_form(swapped(own, length, prefix))?
            }
        };
        let mut place = self.authority(facts)?;
        place += &path;
        if let Some(query) = facts.request.uri.query().filter(|_| self.keeps_query) {
            place.push('?');
            place += query;
        }
        Ok(place)
    }

    /// Nothing where the client stays at the same place.
    fn authority(&self, facts: &Facts<'_>) -> Result<String, Nowhere> {
        if self.scheme.is_none() && self.host.is_none() && self.port.is_none() {
            return Ok(String::new());
        }
        let scheme = self.scheme.unwrap_or(facts.ctx.scheme());
        let asked = || facts.ctx.host().filter(|host| !host.is_empty());
        let host = self.host.as_deref().or_else(asked).ok_or(Nowhere::Host)?;
        let own = if scheme == "https" { 443 } else { 80 };
        Ok(match self.port.filter(|port| *port != own) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        })
    }

    /// The reply to one request.
    ///
    /// # Errors
    /// There is no place to tell.
    pub(crate) fn reply(&self, facts: &Facts<'_>) -> Result<Reply, Nowhere> {
        let place = self.location(facts)?;
        let mut reply = Reply::new(self.status);
        reply.set(header::LOCATION, HeaderValue::try_from(place).map_err(|_| Unfit)?);
        Ok(reply)
    }
}
