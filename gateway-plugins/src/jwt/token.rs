//! A signed token in its compact form (RFC 7515, section 3.1), taken apart and not yet believed.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::refusal::Refusal;

/// A token whose signature nobody has looked at.
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<Box<str>>,
    pub(super) kind: Option<Box<str>>,
    /// What is signed: the first two parts.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
    pub(super) claims: Map<String, Value>,
}

/// What is read of a header. A name that stands twice in it is a fault; what else is in it, the keys and the
/// places of keys that it may name among it, is not looked at (RFC 8725, section 3.10).
#[derive(Deserialize)]
struct Header {
    alg: Box<str>,
    kid: Option<Box<str>>,
    typ: Option<Box<str>>,
    crit: Option<Value>,
    b64: Option<Value>,
    enc: Option<Value>,
    zip: Option<Value>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signed), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed);
        };
        let decode =
            |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed);
        let signature = decode(signed)?;
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| Refusal::Malformed)?;
        // Extensions that are not understood must be refused (RFC 7515, section 4.1.11), and of those that
        // change what is signed none is.
        if header.crit.is_some() || header.b64.is_some() {
            return Err(Refusal::Critical);
        }
        if header.enc.is_some() || header.zip.is_some() {
            return Err(Refusal::Encrypted);
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Refusal::Algorithm)?;
        let claims = serde_json::from_slice(&decode(claims)?).map_err(|_| Refusal::Malformed)?;
        Ok(Self {
            algorithm,
            key_id: header.kid,
            kind: header.typ,
            message: &text.as_bytes()[..text.len() - signed.len() - 1],
            signature,
            claims,
        })
    }
}
