//! A certificate with its key, read from files and looked at before anybody sees it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureAlgorithm};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Fault;
use crate::config::CertificateConfig;
use crate::telemetry::lower_hex;

/// A certificate that can be shown.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// Host names in lower case, with `*.` in front of some, and addresses.
    pub(crate) names: Box<[Box<str>]>,
    pub(crate) subject: Box<str>,
    pub(crate) issuer: Box<str>,
    pub(crate) fingerprint: Box<str>,
    /// In seconds since 1970.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl Certificate {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// A file cannot be read; the key is another certificate's; the chain is none; it is for no name.
    pub(super) fn read(config: &CertificateConfig) -> Result<Self, Fault> {
        let chain = certificates(&config.cert, "cert")?;
        let bytes = read(&config.key, "key")?;
        let key = PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|error| fault("key", format!("{}: {error}", config.key.display())))?;
        let provider = rustls::crypto::ring::default_provider();
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| fault("key", format!("{}: {error}", config.key.display())))?;
        let (names, shown) = look_at(&chain, &config.cert)?;
        let mut certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => {
                let message = format!("{} is the key of another certificate", config.key.display());
                return Err(fault("key", message));
            }
        }
        if let Some(file) = &config.ocsp {
            let response = read(file, "ocsp")?;
            // An OCSPResponse of the status `successful` (RFC 6960, section 4.2.1).
            if !is_good_ocsp(&response) {
                let message = format!("{} is no good response of OCSP in DER", file.display());
                return Err(fault("ocsp", message));
            }
            certified.ocsp = Some(response);
        }
        Ok(Self { key: Arc::new(certified), names, ..shown })
    }

    /// What those who can take several kinds are shown first: what costs least.
    pub(super) fn rank(&self) -> u8 {
        match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => 0,
            SignatureAlgorithm::ED25519 => 1,
            _ => 2,
        }
    }
}

/// Whether the outermost parts say that there is an answer: `SEQUENCE { ENUMERATED 0, …`.
fn is_good_ocsp(der: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = der else { return false };
    let more = if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) };
    rest.get(more..).is_some_and(|rest| rest.starts_with(&[0x0a, 1, 0]))
}

type Looked = (Box<[Box<str>]>, Certificate);

/// What a chain says of itself.
fn look_at(chain: &[CertificateDer<'static>], file: &Path) -> Result<Looked, Fault> {
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, parsed)| parsed))
        .collect::<Result<_, _>>()
        .map_err(|error| fault("cert", format!("{}: {error}", file.display())))?;
    for (place, pair) in parsed.windows(2).enumerate() {
        let [signed, signer] = pair else { continue };
        let follows = signed.issuer() == signer.subject()
            && signed.verify_signature(Some(signer.public_key())).is_ok();
        if !follows {
            let message = format!(
                "{}: certificate {} of the chain did not sign the one before it",
                file.display(),
                place + 2
            );
            return Err(fault("cert", message));
        }
    }
    let [leaf, ..] = parsed.as_slice() else {
        return Err(fault("cert", format!("{} holds no certificate", file.display())));
    };
    let names = names(leaf);
    if names.is_empty() {
        return Err(fault("cert", format!("{} is for no name", file.display())));
    }
    // The key is put in later.
    let nothing = Arc::new(CertifiedKey::new(chain.to_vec(), Arc::new(NoKey)));
    let certificate = Certificate {
        key: nothing,
        names: Box::default(),
        subject: leaf.subject().to_string().into(),
        issuer: leaf.issuer().to_string().into(),
        fingerprint: lower_hex(&Sha256::digest(&chain[0])).into(),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
    };
    Ok((names.into(), certificate))
}

/// The host names and addresses that a certificate is for.
fn names(leaf: &X509Certificate<'_>) -> Vec<Box<str>> {
    let mut found: Vec<Box<str>> = Vec::new();
    if let Ok(Some(all)) = leaf.subject_alternative_name() {
        for name in &all.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    found.push(name.trim_end_matches('.').to_ascii_lowercase().into());
                }
                GeneralName::IPAddress(bytes) => found.extend(address(bytes)),
                _ => {}
            }
        }
    }
    found
}

/// An address as a certificate holds it.
pub(super) fn address(bytes: &[u8]) -> Option<Box<str>> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).to_string());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).to_string());
    v4.or_else(|_| v6()).ok().map(Into::into)
}

/// Stands where a key is to stand.
#[derive(Debug)]
struct NoKey;

impl rustls::sign::SigningKey for NoKey {
    fn choose_scheme(
        &self,
        _: &[rustls::SignatureScheme],
    ) -> Option<Box<dyn rustls::sign::Signer>> {
        None
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

/// All certificates of a file.
pub(super) fn certificates(
    file: &Path,
    key: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = read(file, key)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| fault(key, format!("{}: {error}", file.display())))?;
    if found.is_empty() {
        return Err(fault(key, format!("{} holds no certificate in PEM", file.display())));
    }
    Ok(found)
}

/// All revocation lists of a file.
pub(super) fn revocations(
    file: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    let bytes = read(file, "crl")?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| fault("crl", format!("{}: {error}", file.display())))?;
    if found.is_empty() {
        return Err(fault("crl", format!("{} holds no revocation list in PEM", file.display())));
    }
    Ok(found)
}

pub(super) fn read(file: &Path, key: &'static str) -> Result<Vec<u8>, Fault> {
    let told = |error| fault(key, format!("cannot read {}: {error}", file.display()));
    std::fs::read(file).map_err(told)
}

pub(super) fn fault(key: &'static str, message: String) -> Fault {
    Fault { at: vec![key.into()], message }
}
