//! What is asked: a request, as a client would send it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::HeaderName;
use pingora_http::RequestHeader;
use serde::{Deserialize, Serialize};

use crate::snapshot::{ListenerPlan, Snapshot};

/// A request that nobody sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its method.
    pub method: String,
    /// `https://host:port/path?query`, or the path alone: of no host then, as HTTP/1.0 may ask, unless a field says one.
    pub url: String,
    /// Its fields, name and value. A Host among them counts instead of that of the URL.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The address at the other end of the client's connection. Default 127.0.0.1.
    #[serde(default = "loopback")]
    pub client: IpAddr,
    /// The listener that it comes through. Default: the first of the URL's scheme, and port if it says one.
    #[serde(default)]
    pub listener: Option<String>,
}

/// Why a question is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// No method of HTTP.
    #[error("`{0}` is no method")]
    Method(String),
    /// Neither a URL nor a path.
    #[error("`{0}` is no URL of http or https, and no path")]
    Url(String),
    /// A field that cannot be sent.
    #[error("`{0}` is no header field")]
    Field(String),
    /// The config has no such listener.
    #[error("there is no listener `{0}`")]
    Listener(String),
    /// Only connections that are no HTTP are accepted.
    #[error("no listener takes HTTP requests")]
    NoListener,
}

fn loopback() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

/// A question as a head on a connection.
pub(super) struct Asked {
    pub(super) head: RequestHeader,
    pub(super) listener: Arc<ListenerPlan>,
    pub(super) secured: bool,
    /// What the client's TLS would ask for.
    pub(super) server_name: Option<String>,
}

/// A URL, taken apart without a change to any part of it.
struct Url<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    target: &'a str,
}

impl Question {
    /// A request without fields from 127.0.0.1.
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            client: loopback(),
            listener: None,
        }
    }

    /// The path as it is asked for.
    pub(super) fn path(&self) -> &str {
        let target = self.parts().map_or(&*self.url, |parts| parts.target);
        target.split('?').next().unwrap_or_default()
    }

    fn parts(&self) -> Option<Url<'_>> {
        // No client sends what follows it.
        let url = self.url.split('#').next().unwrap_or_default();
        if url.starts_with('/') || url == "*" {
            return Some(Url { scheme: None, authority: None, target: url });
        }
        let (scheme, rest) = url.split_once("://")?;
        let known = ["http", "https"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = if target.is_empty() { "/" } else { target };
        (!authority.is_empty()).then_some(Url {
            scheme: Some(known?),
            authority: Some(authority),
            target,
        })
    }

    pub(super) fn ask(&self, snapshot: &Snapshot) -> Result<Asked, QuestionError> {
        let parts = self.parts().ok_or_else(|| QuestionError::Url(self.url.clone()))?;
        // A query without a path is one of the root.
        let target = if parts.target.starts_with('?') {
            format!("/{}", parts.target)
        } else {
            parts.target.to_owned()
        };
        let head = RequestHeader::build(self.method.as_str(), target.as_bytes(), None);
        let mut head =
            head.map_err(|_| match http::Method::from_bytes(self.method.as_bytes()) {
                Ok(_) => QuestionError::Url(self.url.clone()),
                Err(_) => QuestionError::Method(self.method.clone()),
            })?;
        for (name, value) in &self.headers {
            let parsed = HeaderName::try_from(name.as_str()).ok();
            let added = parsed.and_then(|name| head.append_header(name, value.as_str()).ok());
            added.ok_or_else(|| QuestionError::Field(format!("{name}: {value}")))?;
        }
        match parts.authority {
            _ if head.headers.contains_key(http::header::HOST) => {}
            Some(authority) => {
                let host = head.insert_header("Host", authority);
                host.map_err(|_| QuestionError::Url(self.url.clone()))?;
            }
            // Only HTTP/1.0 may ask for none.
            None => head.set_version(http::Version::HTTP_10),
        }
        let listener = self.listener(&parts, snapshot)?;
        let secured = match parts.scheme {
            Some(scheme) => scheme == "https" && listener.tls.is_some(),
            None => listener.tls.is_some(),
        };
        let name = parts.authority.and_then(|authority| {
            let host = crate::routing::normalise_host(authority).ok()?;
            // No address is asked for by name (RFC 6066, section 3).
            let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
            (!is_address).then(|| host.into_owned())
        });
        Ok(Asked { head, listener, secured, server_name: name })
    }

    fn listener(
        &self,
        parts: &Url<'_>,
        snapshot: &Snapshot,
    ) -> Result<Arc<ListenerPlan>, QuestionError> {
        let mut http = snapshot.listeners().iter().filter(|listener| listener.tcp.is_none());
        if let Some(name) = &self.listener {
            let found = http.find(|listener| *listener.name == **name);
            return found.cloned().ok_or_else(|| QuestionError::Listener(name.clone()));
        }
        let http: Vec<_> = http.collect();
        let port = parts.authority.and_then(|authority| {
            let (_, port) = authority.rsplit_once(':')?;
            port.parse::<u16>().ok()
        });
        let of_scheme = |listener: &&Arc<ListenerPlan>| {
            parts.scheme.is_none_or(|scheme| (scheme == "https") == listener.tls.is_some())
        };
        let of_port = |listener: &&Arc<ListenerPlan>| port == Some(listener.address.port());
        let scheme: Vec<_> = http.iter().copied().filter(of_scheme).collect();
        let found = scheme.iter().copied().find(of_port);
        let found = found.or_else(|| scheme.first().copied()).or_else(|| http.first().copied());
        found.cloned().ok_or(QuestionError::NoListener)
    }
}
