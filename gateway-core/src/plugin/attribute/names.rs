//! The names of attributes, ours and those that plugins publish, and the nearest to a wrong one.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderName;

use super::{Attribute, AttributeError};

/// What registered plugins declare: full names (`geo.country`) and namespaces (`jwt.*`).
#[derive(Clone, Debug, Default)]
pub struct PublishedNames {
    declared: Arc<Declared>,
    /// What the route's path captures, where there is one route.
    captures: Option<Arc<[Box<str>]>>,
}

#[derive(Clone, Debug, Default)]
struct Declared {
    names: BTreeSet<String>,
    /// Without the `.*`.
    namespaces: BTreeSet<String>,
}

impl PublishedNames {
    /// Collects names, and namespaces that end in `.*`.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        names.into_iter().collect()
    }

    /// Adds a name, or a namespace if it ends in `.*`.
    pub fn declare(&mut self, name: &str) {
        let declared = Arc::make_mut(&mut self.declared);
        match name.strip_suffix(".*") {
            Some(namespace) => declared.namespaces.insert(namespace.to_owned()),
            None => declared.names.insert(name.to_owned()),
        };
    }

    /// Whether a plugin may publish this name.
    pub fn covers(&self, name: &str) -> bool {
        let Declared { names, namespaces } = &*self.declared;
        let spaced = |(dot, _)| dot + 1 < name.len() && namespaces.contains(&name[..dot]);
        names.contains(name) || name.match_indices('.').any(spaced)
    }

    /// The same for a route whose path captures these: no other is known there.
    pub(crate) fn of_route(&self, captures: &[&str]) -> Self {
        let captures = captures.iter().map(|name| (*name).into()).collect();
        Self { declared: self.declared.clone(), captures: Some(captures) }
    }

    /// Whether a path can capture what this attribute stands for.
    pub(super) fn check(&self, attribute: Attribute) -> Result<Attribute, AttributeError> {
        match (&attribute, &self.captures) {
            (Attribute::RequestCapture(name), Some(known))
                if !known.iter().any(|one| **one == **name) =>
            {
                let known = known.iter().map(|one| &**one);
                Err(AttributeError::not_captured(name, known))
            }
            _ => Ok(attribute),
        }
    }
}

impl<S: AsRef<str>> FromIterator<S> for PublishedNames {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut published = Self::default();
        names.into_iter().for_each(|name| published.declare(name.as_ref()));
        published
    }
}

static FIXED: [(&str, Attribute); 23] = [
    ("tls.version", Attribute::TlsVersion),
    ("tls.cipher", Attribute::TlsCipher),
    ("tls.server_name", Attribute::TlsServerName),
    ("tls.client.subject", Attribute::TlsClientSubject),
    ("tls.client.san", Attribute::TlsClientSan),
    ("tls.client.fingerprint", Attribute::TlsClientFingerprint),
    ("client.ip", Attribute::ClientIp),
    ("client.network", Attribute::ClientNetwork),
    ("peer.ip", Attribute::PeerIp),
    ("request.method", Attribute::RequestMethod),
    ("request.path", Attribute::RequestPath),
    ("request.host", Attribute::RequestHost),
    ("request.scheme", Attribute::RequestScheme),
    ("request.protocol", Attribute::RequestProtocol),
    ("request.query_string", Attribute::RequestQueryString),
    ("request.id", Attribute::RequestId),
    ("trace.id", Attribute::TraceId),
    ("listener.name", Attribute::ListenerName),
    ("route.name", Attribute::RouteName),
    ("upstream.name", Attribute::UpstreamName),
    ("consumer.name", Attribute::ConsumerName),
    ("consumer.groups", Attribute::ConsumerGroups),
    ("response.status", Attribute::ResponseStatus),
];

/// Makes an attribute of what follows its prefix.
pub(super) type Make = fn(&str) -> Option<Attribute>;

const KEYED: [(&str, Make); 6] = [
    ("request.header", |key| key.parse::<HeaderName>().ok().map(Attribute::RequestHeader)),
    ("request.query", |key| text(key).map(Attribute::RequestQuery)),
    ("request.cookie", |key| text(key).map(Attribute::RequestCookie)),
    ("request.capture", |key| text(key).map(Attribute::RequestCapture)),
    ("consumer.label", |key| text(key).map(Attribute::ConsumerLabel)),
    ("response.header", |key| key.parse::<HeaderName>().ok().map(Attribute::ResponseHeader)),
];

fn text(key: &str) -> Option<String> {
    let valid = !key.is_empty() && !key.contains(char::is_control);
    valid.then(|| key.to_owned())
}

pub(super) fn fixed(name: &str) -> Option<Attribute> {
    FIXED.iter().find(|(known, _)| *known == name).map(|(_, attribute)| attribute.clone())
}

/// The name of an attribute without a key; empty for one with a key.
pub(super) fn of_fixed(attribute: &Attribute) -> &'static str {
    FIXED.iter().find(|(_, known)| known == attribute).map_or("", |(name, _)| name)
}

pub(super) fn keyed(name: &str) -> Option<(Make, &str)> {
    KEYED.iter().find_map(|(prefix, make)| {
        let key = name.strip_prefix(prefix)?.strip_prefix('.')?;
        Some((*make, key))
    })
}

/// Whether it is what stands before a name alone.
pub(super) fn is_prefix(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    KEYED.iter().any(|(prefix, _)| *prefix == name)
}

pub(super) fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The known name closest to a wrong one, unless they have little in common.
pub(super) fn nearest(name: &str, published: &PublishedNames) -> Option<String> {
    const LONGEST: usize = 128;
    const FARTHEST: usize = 3;
    if name.len() > LONGEST {
        return None;
    }
    let fixed = FIXED.iter().map(|(known, _)| (*known).to_owned());
    let keyed = KEYED.iter().filter_map(|(prefix, _)| with_key_of(name, prefix));
    let spaced = published.declared.namespaces.iter().filter_map(|space| with_key_of(name, space));
    fixed
        .chain(keyed)
        .chain(published.declared.names.iter().cloned())
        .chain(spaced)
        .map(|known| (distance(name, &known), known))
        .filter(|(distance, known)| *distance <= FARTHEST && *distance * 3 <= known.len())
        .min()
        .map(|(_, known)| known)
}

/// The prefix, with the key that the wrong name has in that place.
fn with_key_of(name: &str, prefix: &str) -> Option<String> {
    let depth = prefix.split('.').count();
    let key = name.splitn(depth + 1, '.').nth(depth).filter(|key| !key.is_empty())?;
    Some(format!("{prefix}.{key}"))
}

/// The Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
