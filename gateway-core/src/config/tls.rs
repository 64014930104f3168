//! `listeners[].tls`: certificates, who has to show one, and what is spoken.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::file_path::FilePath;
use super::host::HostPattern;
use super::path::ConfigPath;
use super::scalar;
use super::secret::SecretConfig;

/// TLS for those who connect. Files are looked at each second: what is renewed is in use with the next connection.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// The certificates. Which one is shown depends on the name that is asked for (SNI); the first is for those that
    /// ask for none, or for one that no certificate is for. Several for a name are for keys of several kinds.
    #[schemars(length(min = 1, max = 10000))]
    pub certificates: Vec<CertificateConfig>,
    /// The oldest version. Default `tls1.2`.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// The cipher suites, by their names of IANA, such as `TLS13_AES_256_GCM_SHA384`, in order of preference. Default:
    /// all that are safe.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub cipher_suites: Option<Vec<String>>,
    /// Whether HTTP/2 is spoken with those who can (ALPN). Default true.
    #[serde(default = "yes")]
    pub http2: bool,
    /// Who has to show a certificate, by the name that is asked for. The first that is for the name counts.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub client_auth: Vec<ClientAuthConfig>,
    /// Whether the client's certificate goes up in `X-Forwarded-Client-Cert`. Default false.
    #[serde(default)]
    pub forward_client_cert: bool,
    /// What session tickets are made with, at least 32 bytes: gateways that share it resume each other's sessions.
    /// Default: something of its own, made at the start.
    #[serde(default)]
    pub ticket_secret: Option<SecretConfig>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// A PEM file of the certificate, followed by those that signed it. The names that it is for are read from it.
    pub cert: FilePath,
    /// A PEM file of its private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: FilePath,
    /// A file of a DER response of OCSP, shown with it (RFC 6066, section 8). Default: none.
    #[serde(default)]
    pub ocsp: Option<FilePath>,
}

/// The oldest version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2. The default.
    #[default]
    #[serde(rename = "tls1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "tls1.3")]
    Tls13,
}

/// Who has to show a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuthConfig {
    /// The names that this is for, such as `admin.example.com` or `*.example.com`. Default: all that come to it.
    #[serde(default, deserialize_with = "scalar::list::<HostPattern, _, _>")]
    #[schemars(with = "Vec<HostPattern>")]
    pub names: Vec<String>,
    /// A PEM file of the certificates that are trusted to sign clients'.
    pub ca: FilePath,
    /// Whether a client without one is let in. Default `required`.
    #[serde(default)]
    pub mode: ClientAuthMode,
    /// Whom a certificate has to be of: one of its alternative names (`DNS`, `URI`, e-mail), or its common name if it
    /// has none of these; `*.` in front of a DNS name stands for one label or more. Default: anybody.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1000))]
    pub allow: Option<Vec<String>>,
    /// A PEM file of revocation lists (CRL), of all authorities. Default: none.
    #[serde(default)]
    pub crl: Option<FilePath>,
}

/// Whether a client without a certificate is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMode {
    /// It is not. The default.
    #[default]
    Required,
    /// It is; one that is shown has to be good.
    Optional,
}

fn yes() -> bool {
    true
}

impl ListenerTls {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        if self.certificates.is_empty() {
            findings.add(&at.clone().key("certificates"), "one at least");
        }
        let mut all = false;
        let mut known = HashSet::new();
        for (index, client) in self.client_auth.iter().enumerate() {
            let at = at.clone().key("client_auth").index(index);
            if all {
                findings.add(&at, "nothing comes to it: the one before is for all names");
            }
            all |= client.names.is_empty();
            for (place, name) in client.names.iter().enumerate() {
                if !known.insert(name) {
                    let at = at.clone().key("names").index(place);
                    findings.add(&at, format!("`{name}` is in the list already"));
                }
            }
        }
        if self.forward_client_cert && self.client_auth.is_empty() {
            let at = at.clone().key("forward_client_cert");
            findings.add(&at, "nobody is asked for a certificate; write `client_auth`");
        }
    }
}
