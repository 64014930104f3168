//! TLS to endpoints: what a config's files say, read once and kept for every connection, so that
//! sessions are resumed.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::{ClientCertificate, UpstreamProtocol, UpstreamTls, Verify};

/// TLS as an upstream's connections speak it.
#[derive(Clone)]
pub(crate) struct Tls {
    /// With what the upstream's protocol offers.
    config: Arc<ClientConfig>,
    /// What every endpoint is asked for as, if that is the same.
    server_name: Option<ServerName<'static>>,
}

/// What is wrong with a config's files: under which key of `tls`, and what.
pub(crate) struct Fault {
    pub(crate) key: &'static [&'static str],
    pub(crate) message: String,
}

impl Tls {
    /// Reads the files. Beside it comes a digest of all that it was made of.
    ///
    /// # Errors
    /// A file that cannot be read, or does not hold what it should.
    pub(crate) fn read(
        config: &UpstreamTls,
        protocol: UpstreamProtocol,
    ) -> Result<(Self, String), Fault> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut digest = format!("{config:?}");
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(&[], &error))?;
        let builder = match (config.verify, &config.ca) {
            (Verify::None, _) => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            }
            (Verify::Full, None) => builder.with_webpki_verifier(trusted_by_the_system()?),
            (Verify::Full, Some(file)) => {
                let roots = roots(certificates(file, &["ca"], &mut digest)?)?;
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
                builder
                    .with_webpki_verifier(verifier.build().map_err(|error| fault(&["ca"], &error))?)
            }
        };
        let mut made = match &config.client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let (chain, key) = identity(client, &mut digest)?;
                let made = builder.with_client_auth_cert(chain, key);
                made.map_err(|error| fault(&["client"], &error))?
            }
        };
        made.alpn_protocols = match protocol {
            UpstreamProtocol::Http1 => vec![b"http/1.1".to_vec()],
            UpstreamProtocol::Http2 => vec![b"h2".to_vec()],
            UpstreamProtocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let server_name = config.server_name.as_deref().map(name).transpose()?;
        Ok((Self { config: Arc::new(made), server_name }, digest))
    }

    /// The same with the name that endpoints were found by, if nothing was said of one.
    pub(crate) fn known_as(mut self, host: &str) -> Self {
        if self.server_name.is_none() {
            self.server_name = name(host).ok();
        }
        self
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The same, but only ever for one version of HTTP, or for none.
    pub(super) fn offering(&self, protocol: Option<&[u8]>) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        Arc::new(config)
    }

    /// What an endpoint is asked for as, and has to have a certificate for.
    pub(crate) fn name(&self, endpoint: IpAddr) -> ServerName<'static> {
        self.server_name.clone().unwrap_or_else(|| ServerName::IpAddress(endpoint.into()))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn fault(key: &'static [&'static str], error: &dyn std::fmt::Display) -> Fault {
    Fault { key, message: error.to_string() }
}

fn name(text: &str) -> Result<ServerName<'static>, Fault> {
    let name = ServerName::try_from(text.trim_end_matches('.').to_owned());
    name.map_err(|_| fault(&["server_name"], &format!("`{text}` cannot be a server's name")))
}

fn read(file: &Path, key: &'static [&'static str], digest: &mut String) -> Result<Vec<u8>, Fault> {
    let bytes = std::fs::read(file)
        .map_err(|error| fault(key, &format!("cannot read {}: {error}", file.display())))?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let _ = write!(digest, " {:x}", hasher.finish());
    Ok(bytes)
}

fn certificates(
    file: &Path,
    key: &'static [&'static str],
    digest: &mut String,
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = read(file, key, digest)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| fault(key, &format!("{}: {error}", file.display())))?;
    if found.is_empty() {
        return Err(fault(key, &format!("{} holds no certificate in PEM", file.display())));
    }
    Ok(found)
}

fn roots(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| fault(&["ca"], &error))?;
    }
    Ok(roots)
}

/// A chain of certificates and the key of its first.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(client: &ClientCertificate, digest: &mut String) -> Result<Identity, Fault> {
    let chain = certificates(&client.cert, &["client", "cert"], digest)?;
    let bytes = read(&client.key, &["client", "key"], digest)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes);
    let message = |_| format!("{} holds no private key in PEM that is not encrypted", client.key);
    Ok((chain, key.map_err(message).map_err(|message| fault(&["client", "key"], &message))?))
}

/// Verifies by the certificates that the system trusts, read once.
fn trusted_by_the_system() -> Result<Arc<WebPkiServerVerifier>, Fault> {
    static TRUSTED: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = TRUSTED.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        match rustls_native_certs::load_native_certs() {
            Ok(found) => {
                // One that cannot be read is nobody's; the others still are.
                let (_, ignored) = roots.add_parsable_certificates(found);
                if ignored > 0 {
                    tracing::warn!(ignored, "some of the system's certificates cannot be read");
                }
            }
            Err(error) => tracing::warn!(%error, "the system's certificates cannot be read"),
        }
        Arc::new(roots)
    });
    if roots.is_empty() {
        let message =
            "the system has no trusted certificates; install `ca-certificates`, or name a `ca`";
        return Err(fault(&[], &message));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider).build();
    verifier.map_err(|error| fault(&[], &error))
}

/// Believes everybody: what `verify: none` asks for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
