//! The signature algorithms of JSON Web Algorithms (RFC 7518, section 3.1; RFC 8037, section 3.1).

use schemars::JsonSchema;
use serde::Deserialize;

/// A signature algorithm. `none` is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub(super) enum Algorithm {
    /// HMAC with SHA-256: whoever can verify can sign.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

use Algorithm::*;

impl Algorithm {
    pub(super) const RSA: &'static [Self] = &[RS256, RS384, RS512, PS256, PS384, PS512];
    pub(super) const HMAC: &'static [Self] = &[HS256, HS384, HS512];
    /// All that need a secret of nobody who verifies.
    pub(super) const PUBLIC: &'static [Self] =
        &[RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];

    /// The algorithm of this name, which is exact (RFC 7515, section 4.1.1).
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::PUBLIC.iter().chain(Self::HMAC).copied().find(|one| one.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            HS256 => "HS256",
            HS384 => "HS384",
            HS512 => "HS512",
            RS256 => "RS256",
            RS384 => "RS384",
            RS512 => "RS512",
            PS256 => "PS256",
            PS384 => "PS384",
            PS512 => "PS512",
            ES256 => "ES256",
            ES384 => "ES384",
            EdDSA => "EdDSA",
        }
    }
}
