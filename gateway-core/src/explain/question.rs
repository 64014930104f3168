//! What is asked: a request, as a client would send it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderName, Version};
use pingora_http::RequestHeader;
use serde::{Deserialize, Serialize};

use crate::snapshot::{ListenerPlan, Snapshot};
use crate::tls::{Identity, Secured, TlsPlan};

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
    /// What the gateway would see of the connection besides, by the names of attributes: `request.protocol` (`HTTP/2`;
    /// else it is HTTP/1.1), and of one that is secured `tls.version` (else `TLSv1.3`), `tls.cipher`,
    /// `tls.server_name` (else the URL's host), `tls.client.subject`, `tls.client.san` and `tls.client.fingerprint`
    /// (else no certificate is shown).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: BTreeMap<String, String>,
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
    /// The listener takes connections that are no HTTP.
    #[error("the listener `{0}` takes no HTTP requests")]
    NotHttp(String),
    /// Only connections that are no HTTP are accepted.
    #[error("no listener takes HTTP requests")]
    NoListener,
    /// The listener that is asked speaks the other scheme.
    #[error(
        "the listener `{listener}` speaks {speaks}; what a proxy in front of it says is a field, as `x-forwarded-proto: https`"
    )]
    Scheme {
        /// Its name.
        listener: String,
        /// `http` or `https`.
        speaks: &'static str,
    },
    /// No listener speaks the URL's scheme.
    #[error(
        "no listener speaks {0}; what a proxy in front says is a field, as `x-forwarded-proto: https`"
    )]
    NoScheme(&'static str),
    /// What is given of the connection cannot be.
    #[error("`{name}={value}` cannot be given; {why}")]
    Given {
        /// The attribute.
        name: String,
        /// Its value.
        value: String,
        /// What could be.
        why: &'static str,
    },
}

fn loopback() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

/// A question as a head on a connection.
pub(super) struct Asked {
    pub(super) head: RequestHeader,
    pub(super) listener: Arc<ListenerPlan>,
    /// The connection, if it is secured.
    pub(super) secured: Option<Arc<Secured>>,
}

/// A URL, taken apart without a change to any part of it.
struct Url<'a> {
    scheme: Option<&'static str>,
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
            given: BTreeMap::new(),
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
        let name = parts.authority.and_then(|authority| {
            let host = crate::routing::normalise_host(authority).ok()?;
            // No address is asked for by name (RFC 6066, section 3).
            let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
            (!is_address).then(|| host.into_owned())
        });
        let secured = listener.tls.as_ref().map(|plan| self.secured(plan, name)).transpose()?;
        if let Some(version) = self.protocol()? {
            head.set_version(version);
        }
        let known = |name: &String| {
            name == "request.protocol" || secured.is_some() && name.starts_with("tls.")
        };
        if let Some((name, _)) = self.given.iter().find(|(name, _)| !known(name)) {
            let why =
                "there is `request.protocol`, and of what is secured `tls.version` and the like";
            return Err(self.cannot(name, why));
        }
        Ok(Asked { head, listener, secured: secured.map(Arc::new) })
    }

    fn cannot(&self, name: &str, why: &'static str) -> QuestionError {
        let value = self.given.get(name).cloned().unwrap_or_default();
        QuestionError::Given { name: name.to_owned(), value, why }
    }

    fn protocol(&self) -> Result<Option<Version>, QuestionError> {
        let Some(text) = self.given.get("request.protocol") else { return Ok(None) };
        match text.as_str() {
            "HTTP/1.0" => Ok(Some(Version::HTTP_10)),
            "HTTP/1.1" => Ok(Some(Version::HTTP_11)),
            "HTTP/2" => Ok(Some(Version::HTTP_2)),
            _ => Err(self.cannot("request.protocol", "there is HTTP/1.0, HTTP/1.1 and HTTP/2")),
        }
    }

    /// The connection that the question is about.
    fn secured(&self, plan: &Arc<TlsPlan>, host: Option<String>) -> Result<Secured, QuestionError> {
        let given = |name: &str| self.given.get(name).map(String::as_str);
        let known = ["version", "cipher", "server_name"];
        let of_client = ["subject", "san", "fingerprint"];
        for name in self.given.keys().filter_map(|name| name.strip_prefix("tls.")) {
            let client = name.strip_prefix("client.");
            if !known.contains(&name) && !client.is_some_and(|name| of_client.contains(&name)) {
                let why = "there is tls.version, .cipher, .server_name, .client.subject, .client.san and .client.fingerprint";
                return Err(self.cannot(&format!("tls.{name}"), why));
            }
        }
        let names = given("tls.client.san").unwrap_or_default();
        let shows = self.given.keys().any(|name| name.starts_with("tls.client."));
        let client = shows.then(|| Identity {
            subject: given("tls.client.subject").unwrap_or_default().into(),
            names: names.split(',').filter(|name| !name.is_empty()).map(Into::into).collect(),
            all_names: names.into(),
            fingerprint: given("tls.client.fingerprint").unwrap_or_default().into(),
        });
        let name = given("tls.server_name").map(str::to_ascii_lowercase).or(host);
        let version = match given("tls.version") {
            None | Some("TLSv1.3") => "TLSv1.3",
            Some("TLSv1.2") => "TLSv1.2",
            Some(_) => return Err(self.cannot("tls.version", "there is TLSv1.2 and TLSv1.3")),
        };
        let cipher = given("tls.cipher").unwrap_or_default().into();
        let mut supposed = Secured::supposed(plan, name.as_deref(), client);
        (supposed.version, supposed.cipher) = (version, cipher);
        Ok(supposed)
    }

    fn listener(
        &self,
        parts: &Url<'_>,
        snapshot: &Snapshot,
    ) -> Result<Arc<ListenerPlan>, QuestionError> {
        let speaks =
            |listener: &ListenerPlan| if listener.tls.is_some() { "https" } else { "http" };
        let fits = |listener: &Arc<ListenerPlan>| match parts.scheme {
            Some(scheme) if scheme != speaks(listener) => Err(QuestionError::Scheme {
                listener: listener.name.to_string(),
                speaks: speaks(listener),
            }),
            _ => Ok(listener.clone()),
        };
        if let Some(name) = &self.listener {
            let found = snapshot.listeners().iter().find(|listener| *listener.name == **name);
            let found = found.ok_or_else(|| QuestionError::Listener(name.clone()))?;
            return match found.tcp {
                Some(_) => Err(QuestionError::NotHttp(name.clone())),
                None => fits(found),
            };
        }
        let all = snapshot.listeners().iter();
        let http: Vec<_> = all.filter(|listener| listener.tcp.is_none()).collect();
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
        let found = found.or_else(|| http.iter().copied().find(of_port));
        match (found.or_else(|| scheme.first().copied()), parts.scheme) {
            (Some(found), _) => fits(found),
            (None, Some(scheme)) if !http.is_empty() => Err(QuestionError::NoScheme(scheme)),
            (None, _) => Err(QuestionError::NoListener),
        }
    }
}
