//! `discover` of an upstream: where its endpoints are found, and the files of endpoints.

use std::collections::HashSet;
use std::path::Path;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};

use super::address::EndpointAddress;
use super::check::Findings;
use super::document::Document;
use super::fault::{Fault, Faults};
use super::file_path::FilePath;
use super::load::Env;
use super::path::ConfigPath;
use super::shape::{Found, Walk, compile};
use super::text;
use super::transport::is_host;
use super::units::Span;
use super::upstream::EndpointConfig;

/// Where an upstream's endpoints are found, beside those that are written: one of `dns`, `srv`,
/// `file`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoverConfig {
    /// A host name and a port, such as `users.internal:8080`: each address of the name, in its A and
    /// AAAA records, is an endpoint.
    #[schemars(length(min = 1))]
    pub dns: Option<String>,
    /// The name of SRV records, such as `_http._tcp.users.internal` (RFC 2782): each is an endpoint
    /// with its own port, weight and priority.
    #[schemars(length(min = 1))]
    pub srv: Option<String>,
    /// A file in YAML or JSON with a list of `endpoints`, written as here. It is read again when it
    /// changes.
    pub file: Option<FilePath>,
    /// How often to look again. Default: of a name, when its records expire, but at most once a second
    /// and at least every 5 minutes; of a file, every second.
    pub refresh: Option<Span>,
    /// The name server to ask. Default: those of the system.
    pub server: Option<EndpointAddress>,
    /// Which addresses of a name are used.
    pub family: Family,
}

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Those of one family: of IPv6 if one of them can be reached about as soon as one of IPv4 (Happy
    /// Eyeballs, RFC 8305). The default.
    #[default]
    Auto,
    /// Those of IPv4.
    Ipv4,
    /// Those of IPv6.
    Ipv6,
    /// All of them.
    Both,
}

impl DiscoverConfig {
    pub(super) fn check(&self, tls_needs_name: bool, at: &ConfigPath, findings: &mut Findings<'_>) {
        let ways = [self.dns.is_some(), self.srv.is_some(), self.file.is_some()];
        if ways.into_iter().filter(|way| *way).count() != 1 {
            findings.add(at, "write one of `dns`, `srv` and `file`");
        }
        if let Some(dns) = &self.dns
            && host_and_port(dns).is_none()
        {
            let message =
                format!("expected a name and a port such as `users.internal:8080`, got `{dns}`");
            findings.add(&at.clone().key("dns"), message);
        }
        if let Some(srv) = &self.srv {
            if !is_host(srv) {
                let message =
                    format!("expected a name such as `_http._tcp.users.internal`, got `{srv}`");
                findings.add(&at.clone().key("srv"), message);
            }
            if tls_needs_name {
                let message = "no certificate is for the name of SRV records; say in `tls` for which \
                               `server_name` certificates are to be";
                findings.add(&at.clone().key("srv"), message);
            }
        }
        if self.file.is_some() {
            let asked =
                [("server", self.server.is_some()), ("family", self.family != Family::Auto)];
            for (key, _) in asked.into_iter().filter(|(_, set)| *set) {
                let message = format!("`{key}` is for names; a file holds addresses");
                findings.add_at_key(&at.clone().key(key), message);
            }
        }
        if let Some(refresh) = self.refresh {
            findings.refuse_zero(at, "refresh", refresh);
        }
    }

    /// The name and port of `dns`.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        self.dns.as_deref().and_then(host_and_port)
    }
}

fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (is_host(host) && host.parse::<std::net::IpAddr>().is_err()).then_some((host, port))
}

/// A file of endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EndpointsFile {
    /// As in an upstream; there may be none.
    endpoints: Vec<EndpointConfig>,
}

/// The endpoints in the text of a file called `name`.
///
/// # Errors
/// Every fault, each with its place.
pub(crate) fn endpoints_of(name: &str, text: &str) -> Result<Vec<EndpointConfig>, Faults> {
    text::guard(name, text)?;
    let mut document = Document::default();
    let file = document.add(name.to_owned(), text.to_owned());
    let mut root = text::parse(&document, file)?;
    let schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<EndpointsFile>();
    let (shapes, [shape]) = compile([&schema], &[]);
    let nothing: Box<Env> = Box::new(|_| None);
    let mut walk = Walk::new(&shapes, &*nothing, Path::new(""));
    walk.root(&mut root, shape);
    let Found { faults, .. } = walk.found;
    let placed = faults
        .into_iter()
        .map(|found| document.fault_in(file, &found.path, found.at_key, found.message));
    Faults::refuse_any(placed.collect())?;
    let read = EndpointsFile::deserialize(&root);
    let untyped = |error: serde_yaml::Error| Fault::of_file(name, error.to_string());
    let endpoints = read.map_err(untyped)?.endpoints;
    let mut seen = HashSet::with_capacity(endpoints.len());
    for (index, endpoint) in endpoints.iter().enumerate() {
        if !seen.insert(endpoint.address) {
            let at = ConfigPath::root().key("endpoints").index(index);
            let message = format!("endpoint `{}` stands there twice", endpoint.address);
            return Err(document.fault_in(file, &at, false, message).into());
        }
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_endpoints_as_they_are_written_elsewhere() {
        let text = "endpoints:\n  - 10.0.0.1:80\n  - {address: \"10.0.0.2:80\", weight: 3}\n";
        let endpoints = endpoints_of("e.yaml", text).unwrap();
        assert_eq!((endpoints.len(), endpoints[1].weight), (2, 3));
        assert!(endpoints_of("e.json", r#"{"endpoints": []}"#).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        let fault = |text: &str| endpoints_of("e.yaml", text).unwrap_err().to_string();
        assert!(fault("endpoints: [10.0.0.1]").starts_with("e.yaml:1:13  endpoints[0]: "));
        assert!(fault("endpoint: []").contains("unknown key `endpoint`"));
        assert!(fault("[]").starts_with("e.yaml:1:1"), "{}", fault("[]"));
        let twice = fault("endpoints:\n  - 10.0.0.1:80\n  - 10.0.0.1:80\n");
        assert!(
            twice.starts_with("e.yaml:3:5  endpoints[1]: endpoint `10.0.0.1:80` stands"),
            "{twice}"
        );
    }

    #[test]
    fn names_come_with_a_port() {
        assert_eq!(host_and_port("users.internal:80"), Some(("users.internal", 80)));
        for wrong in ["users.internal", "users:0", "10.0.0.1:80", "a b:80", ":80", "users:65536"] {
            assert_eq!(host_and_port(wrong), None, "{wrong}");
        }
    }
}
