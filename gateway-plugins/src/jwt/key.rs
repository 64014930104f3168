//! Keys that signatures are verified with, and the forms they come in: JWK (RFC 7517), PEM, a secret.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::der;

/// A key, and the algorithms that it is for. Which one a token was signed with is never the token's to say
/// alone (RFC 8725, section 3.1).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// The `kid`, if it has one.
    pub(super) id: Option<Box<str>>,
    algorithms: Box<[Algorithm]>,
    material: Material,
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    Secret(Box<[u8]>),
    Rsa {
        n: Box<[u8]>,
        e: Box<[u8]>,
    },
    /// The uncompressed point on P-256 or P-384.
    Point(Box<[u8]>),
    Ed25519(Box<[u8]>),
}

impl Material {
    /// The algorithms that a key of this kind can be for.
    fn can(&self) -> &'static [Algorithm] {
        match self {
            Self::Secret(_) => Algorithm::HMAC,
            Self::Rsa { .. } => Algorithm::RSA,
            Self::Point(point) if point.len() == 65 => &[Algorithm::ES256],
            Self::Point(_) => &[Algorithm::ES384],
            Self::Ed25519(_) => &[Algorithm::EdDSA],
        }
    }
}

impl Key {
    /// A key for those of its kind's algorithms that are `allowed`, or for the one that it says it is for.
    fn new(
        material: Material,
        id: Option<&str>,
        own: Option<Algorithm>,
        allowed: &[Algorithm],
    ) -> Result<Self, String> {
        if let Material::Rsa { n, e } = &material {
            let bits = n.iter().skip_while(|byte| **byte == 0).count() * 8;
            if !(2048..=8192).contains(&bits) || e.is_empty() {
                return Err(format!("an RSA key of {bits} bits; from 2048 to 8192 are accepted"));
            }
        }
        let fits = |one: &&Algorithm| own.is_none_or(|own| own == **one) && allowed.contains(one);
        let algorithms: Box<[Algorithm]> = material.can().iter().filter(fits).copied().collect();
        if algorithms.is_empty() {
            let can: Vec<_> = material.can().iter().map(|one| one.name()).collect();
            return Err(match own {
                Some(own) if !material.can().contains(&own) => {
                    format!("no key for {}; it can be for {}", own.name(), can.join(", "))
                }
                _ => "a key for none of the `algorithms`".to_owned(),
            });
        }
        if let Material::Secret(secret) = &material {
            // RFC 7518, section 3.2: no shorter than the hash.
            let least = |one: &Algorithm| match one {
                Algorithm::HS256 => 32,
                Algorithm::HS384 => 48,
                _ => 64,
            };
            let least = algorithms.iter().map(least).max().unwrap_or(64);
            if secret.len() < least {
                return Err(format!("{} bytes; {least} are needed at least", secret.len()));
            }
        }
        Ok(Self { id: id.map(Into::into), algorithms, material })
    }

    /// A secret that the issuer has too.
    pub(super) fn secret(
        secret: &[u8],
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Self, String> {
        Self::new(Material::Secret(secret.into()), id, Some(algorithm), Algorithm::HMAC)
    }

    /// The public key, or that of the certificate, in a PEM text.
    pub(super) fn pem(
        text: &[u8],
        id: Option<&str>,
        own: Option<Algorithm>,
        allowed: &[Algorithm],
    ) -> Result<Self, String> {
        let material = if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(text) {
            public(&key)
        } else if let Ok(certificate) = CertificateDer::from_pem_slice(text) {
            der::public_key_of(&certificate).and_then(public)
        } else {
            return Err("no `PUBLIC KEY` or `CERTIFICATE` in PEM".to_owned());
        };
        let material = material.ok_or("no key of RSA, P-256, P-384 or Ed25519")?;
        Self::new(material, id, own, allowed)
    }

    /// A JSON Web Key. `None` for one that is for something else, or of a kind that is not known, which is to
    /// be ignored (RFC 7517, section 5).
    pub(super) fn jwk(
        jwk: &Map<String, Value>,
        allowed: &[Algorithm],
    ) -> Option<Result<Self, String>> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let verifies = |ops: &Value| {
            ops.as_array().is_some_and(|ops| ops.iter().any(|op| op.as_str() == Some("verify")))
        };
        if text("use").is_some_and(|purpose| purpose != "sig")
            || !jwk.get("key_ops").is_none_or(verifies)
        {
            return None;
        }
        let own = match text("alg") {
            Some(name) => Some(Algorithm::named(name)?),
            None => None,
        };
        let bytes = |name: &str| -> Result<Box<[u8]>, String> {
            let text = text(name).ok_or_else(|| format!("`{name}` is missing"))?;
            let decoded = BASE64_URL_SAFE_NO_PAD.decode(text);
            decoded.map(Into::into).map_err(|_| format!("`{name}` is not in base64url"))
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => bytes("n").and_then(|n| Ok(Material::Rsa { n, e: bytes("e")? })),
            ("EC", Some("P-256")) => point(bytes("x"), bytes("y"), 32),
            ("EC", Some("P-384")) => point(bytes("x"), bytes("y"), 48),
            ("OKP", Some("Ed25519")) => bytes("x").and_then(|x| match x.len() {
                32 => Ok(Material::Ed25519(x)),
                length => Err(format!("`x` has {length} bytes, not 32")),
            }),
            // Whoever can read it can sign.
            ("oct", _) if allowed.iter().any(|one| Algorithm::HMAC.contains(one)) => {
                bytes("k").map(Material::Secret)
            }
            _ => return None,
        };
        Some(material.and_then(|material| Self::new(material, text("kid"), own, allowed)))
    }

    /// Whether it may be used with this algorithm.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether this is its signature of the message.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signed: &[u8]) -> bool {
        use Algorithm::*;
        if !self.is_for(algorithm) {
            return false;
        }
        match &self.material {
            Material::Secret(secret) => {
                let hash = match algorithm {
                    HS256 => hmac::HMAC_SHA256,
                    HS384 => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA512,
                };
                hmac::verify(&hmac::Key::new(hash, secret), message, signed).is_ok()
            }
            Material::Rsa { n, e } => {
                let scheme = match algorithm {
                    RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    PS256 => &signature::RSA_PSS_2048_8192_SHA256,
                    PS384 => &signature::RSA_PSS_2048_8192_SHA384,
                    _ => &signature::RSA_PSS_2048_8192_SHA512,
                };
                let key = signature::RsaPublicKeyComponents { n: stripped(n), e: stripped(e) };
                key.verify(scheme, message, signed).is_ok()
            }
            Material::Point(point) => {
                let scheme = match algorithm {
                    ES256 => &signature::ECDSA_P256_SHA256_FIXED,
                    _ => &signature::ECDSA_P384_SHA384_FIXED,
                };
                signature::UnparsedPublicKey::new(scheme, point).verify(message, signed).is_ok()
            }
            Material::Ed25519(key) => {
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
                key.verify(message, signed).is_ok()
            }
        }
    }
}

/// Keys may be read by whoever reads a log.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithms", &self.algorithms).finish()
    }
}

/// A number without zeroes before it, as the library wants it.
fn stripped(number: &[u8]) -> &[u8] {
    let zeroes = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeroes..]
}

fn point(
    x: Result<Box<[u8]>, String>,
    y: Result<Box<[u8]>, String>,
    length: usize,
) -> Result<Material, String> {
    let (x, y) = (x?, y?);
    if x.len() != length || y.len() != length {
        return Err(format!("`x` and `y` have {} and {} bytes, not {length}", x.len(), y.len()));
    }
    Ok(Material::Point([&[4], &*x, &*y].concat().into()))
}

fn public(key: impl AsRef<[u8]>) -> Option<Material> {
    let (algorithm, curve, bits) = der::public_key(key.as_ref())?;
    match (algorithm, curve) {
        (der::RSA, _) => {
            let (n, e) = der::two_integers(bits)?;
            Some(Material::Rsa { n: n.into(), e: e.into() })
        }
        (der::EC, der::P256) if bits.len() == 65 => Some(Material::Point(bits.into())),
        (der::EC, der::P384) if bits.len() == 97 => Some(Material::Point(bits.into())),
        (der::ED25519, _) if bits.len() == 32 => Some(Material::Ed25519(bits.into())),
        _ => None,
    }
}
