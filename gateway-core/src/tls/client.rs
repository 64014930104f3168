//! The certificates of clients: who signed them, whom they are of, and what is told of them.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Fault;
use super::certificate::{address, certificates, fault, revocations};
use crate::config::{ClientAuthConfig, ClientAuthMode};
use crate::telemetry::lower_hex;

/// Whom a client's certificate is of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The distinguished name.
    pub(crate) subject: Box<str>,
    /// Alternative names, each with its kind in front: `DNS:a.example`, `URI:spiffe://a/b`.
    pub(crate) names: Box<[Box<str>]>,
    /// The names together, with commas between.
    pub(crate) all_names: Box<str>,
    /// The SHA-256 of the certificate, in lower-case hexadecimal digits.
    pub(crate) fingerprint: Box<str>,
}

impl Identity {
    /// Whom a certificate is of; nothing is said of one that cannot be read.
    pub(super) fn of(der: &CertificateDer<'_>) -> Self {
        let fingerprint = lower_hex(&Sha256::digest(der)).into();
        let Ok((_, parsed)) = X509Certificate::from_der(der) else {
            return Self { fingerprint, ..Self::default() };
        };
        let names: Box<[Box<str>]> = alternative_names(&parsed)
            .map(|(kind, name)| format!("{kind}:{name}").into())
            .collect();
        let all_names = names.join(",").into();
        Self { subject: parsed.subject().to_string().into(), names, all_names, fingerprint }
    }

    /// As others know it: `Hash=…;Subject="…";URI=…;DNS=…`.
    pub(crate) fn forwarded(&self) -> String {
        let quoted = |text: &str| {
            let fit = text.chars().filter(|c| (' '..='~').contains(c));
            fit.collect::<String>().replace('\\', "\\\\").replace('"', "\\\"")
        };
        let mut told = format!("Hash={};Subject=\"{}\"", self.fingerprint, quoted(&self.subject));
        for name in &self.names {
            let Some((kind @ ("URI" | "DNS"), name)) = name.split_once(':') else { continue };
            let plain = |byte: u8| byte.is_ascii_graphic() && !b",;=\"\\".contains(&byte);
            if name.bytes().all(plain) {
                told += &format!(";{kind}={name}");
            } else {
                told += &format!(";{kind}=\"{}\"", quoted(name));
            }
        }
        told
    }
}

fn alternative_names(
    parsed: &X509Certificate<'_>,
) -> impl Iterator<Item = (&'static str, Box<str>)> {
    let all = parsed.subject_alternative_name().ok().flatten();
    let all = all.into_iter().flat_map(|all| all.value.general_names.iter());
    let told: Vec<_> = all
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(("DNS", (*name).into())),
            GeneralName::URI(name) => Some(("URI", (*name).into())),
            GeneralName::RFC822Name(name) => Some(("email", (*name).into())),
            GeneralName::IPAddress(bytes) => Some(("IP", address(bytes)?)),
            _ => None,
        })
        .collect();
    told.into_iter()
}

/// What verifies the certificates of clients.
pub(super) fn verifier(config: &ClientAuthConfig) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&config.ca, "ca")? {
        let told = |error: Error| fault("ca", format!("{}: {error}", config.ca.display()));
        roots.add(certificate).map_err(told)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(file) = &config.crl {
        // Of authorities that have no list here nothing is known to be revoked.
        builder = builder.with_crls(revocations(file)?).allow_unknown_revocation_status();
    }
    if config.mode == ClientAuthMode::Optional {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build().map_err(|error| fault("ca", error.to_string()))?;
    let Some(allow) = &config.allow else { return Ok(inner) };
    let allow = allow.iter().map(|name| name.to_ascii_lowercase().into()).collect();
    Ok(Arc::new(Allowed { inner, allow }))
}

/// Lets in those alone whose certificate is of one of these.
#[derive(Debug)]
struct Allowed {
    inner: Arc<dyn ClientCertVerifier>,
    allow: Box<[Box<str>]>,
}

impl Allowed {
    fn has(&self, der: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(der) else { return false };
        let names: Vec<_> = alternative_names(&parsed).collect();
        if names.is_empty() {
            let mut common = parsed.subject().iter_common_name();
            return common.any(|name| name.as_str().is_ok_and(|name| self.is_one("", name)));
        }
        names.iter().any(|(kind, name)| self.is_one(kind, name))
    }

    fn is_one(&self, kind: &str, name: &str) -> bool {
        let lower = name.to_ascii_lowercase();
        self.allow.iter().any(|allowed| match allowed.strip_prefix("*.") {
            // A wildcard in the certificate itself is no name.
            Some(under) if kind == "DNS" => {
                let before = lower.strip_suffix(under).and_then(|rest| rest.strip_suffix('.'));
                before.is_some_and(|before| !before.is_empty() && !before.contains('*'))
            }
            _ => **allowed == *lower,
        })
    }
}

impl ClientCertVerifier for Allowed {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end, between, now)?;
        if self.has(end) {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }
}
