//! How an upstream's endpoints are spoken to: the protocol, TLS, the PROXY protocol.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::file_path::FilePath;
use super::path::ConfigPath;

/// The version of HTTP that an upstream's endpoints are spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1, one request at a time on a connection. The default.
    #[default]
    Http1,
    /// HTTP/2, many requests at a time: over TLS if there is `tls`, else at once (RFC 9113, section
    /// 3.3).
    Http2,
    /// What the endpoint chooses in the TLS handshake (ALPN), HTTP/2 if it can.
    Auto,
}

/// Which version of the PROXY protocol a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// The binary form.
    V2,
}

/// TLS to an upstream's endpoints, 1.2 or 1.3.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// A PEM file of the certificates that are trusted to sign endpoints'. Default: those that the
    /// system trusts.
    pub ca: Option<FilePath>,
    /// The name that is asked for (SNI) and that a certificate has to be for. Default: the name that
    /// was resolved, else the endpoint's IP address.
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,
    /// The certificate that the gateway shows.
    pub client: Option<ClientCertificate>,
    /// What of an endpoint's certificate is verified.
    pub verify: Verify,
}

/// A certificate to show, and its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// A PEM file of the certificate, followed by those that signed it.
    pub cert: FilePath,
    /// A PEM file of its private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: FilePath,
}

/// What of an endpoint's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Who signed it, its time, and its name. The default.
    #[default]
    Full,
    /// Nothing: whoever is on the way can read and change everything. Said at every start.
    None,
}

impl UpstreamTls {
    /// Whether certificates are verified by a name that is written.
    pub(super) fn is_named(&self) -> bool {
        self.server_name.is_some() || self.verify == Verify::None
    }

    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        if let Some(name) = &self.server_name
            && !is_host(name)
        {
            let message = format!("`{name}` is neither a host name nor an IP address");
            findings.add(&at.clone().key("server_name"), message);
        }
        if self.verify == Verify::None && self.ca.is_some() {
            let message = "nothing is verified, so that `ca` means nothing; leave one of them out";
            findings.add_at_key(&at.clone().key("ca"), message);
        }
    }
}

/// Whether this is an IP address or a host name (RFC 1123, section 2.1; underscores are accepted as
/// DNS has them).
pub(super) fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}
