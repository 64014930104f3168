//! Which certificate is shown to whom.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm};

use super::certificate::Certificate;

/// Certificates by the names that they are for. Several for a name are for keys of several kinds.
#[derive(Debug)]
pub(super) struct Shown {
    exact: HashMap<Box<str>, Keys>,
    /// By what stands behind `*.`.
    wild: HashMap<Box<str>, Keys>,
    /// For who asks for none of these.
    first: Keys,
}

type Keys = Vec<Arc<CertifiedKey>>;

impl Shown {
    /// The first is the one for who asks for no name, with those for the same first name.
    pub(super) fn new(certificates: &[Certificate]) -> Self {
        let mut ranked: Vec<&Certificate> = certificates.iter().collect();
        ranked.sort_by_key(|one| one.rank());
        let (mut exact, mut wild) = (HashMap::new(), HashMap::new());
        for certificate in &ranked {
            for name in &certificate.names {
                let (to, name): (&mut HashMap<Box<str>, Keys>, &str) = match name.strip_prefix("*.")
                {
                    Some(rest) => (&mut wild, rest),
                    None => (&mut exact, name),
                };
                to.entry(name.into()).or_default().push(certificate.key.clone());
            }
        }
        let same = |one: &&&Certificate| one.names.first() == certificates[0].names.first();
        let first = ranked.iter().filter(same).map(|one| one.key.clone()).collect();
        Self { exact, wild, first }
    }

    /// The certificates for a name in lower case.
    pub(super) fn of(&self, name: Option<&str>) -> &Keys {
        let Some(name) = name else { return &self.first };
        let exact = self.exact.get(name);
        let wild = || self.wild.get(name.split_once('.')?.1);
        exact.or_else(wild).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let keys = self.of(name.as_deref());
        let schemes = hello.signature_schemes();
        let fits = |key: &&Arc<CertifiedKey>| {
            key.key.choose_scheme(schemes).is_some() && has_suite(&hello, key.key.algorithm())
        };
        // Where none fits the handshake says why.
        keys.iter().find(fits).or(keys.last()).cloned()
    }
}

/// Whether a client has a suite for keys of this kind: in TLS 1.2 the suite says which it is.
fn has_suite(hello: &ClientHello<'_>, kind: SignatureAlgorithm) -> bool {
    let rsa = kind == SignatureAlgorithm::RSA;
    hello.cipher_suites().iter().any(|suite| match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => true,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => rsa,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => !rsa,
        _ => false,
    })
}
