//! Why a token is not accepted, and what its bearer is told of it.

use gateway_core::telemetry::{CredentialCheck, FailureCode};
use http::StatusCode;

use crate::identity::Denial;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Missing,
    Several,
    TooLong,
    Malformed,
    Critical,
    Encrypted,
    Algorithm,
    Kind,
    Issuer,
    UnknownKey,
    Signature,
    Audience,
    Expired,
    NoExpiry,
    NotYet,
    TooOld,
    ClaimType,
    ClaimMissing,
    Scope,
    Rule,
    Consumer,
    /// There are no keys to check it with.
    NoKeys,
}

impl Refusal {
    /// The answer, by RFC 6750, section 3.1.
    pub(super) fn denial(self) -> Denial {
        use Refusal::*;
        let (status, error, code) = match self {
            Missing => (StatusCode::UNAUTHORIZED, None, FailureCode::P3),
            Several => (StatusCode::BAD_REQUEST, Some("invalid_request"), FailureCode::P3),
            Scope | Rule | Consumer => {
                (StatusCode::FORBIDDEN, Some("insufficient_scope"), FailureCode::P4)
            }
            NoKeys => (StatusCode::SERVICE_UNAVAILABLE, None, FailureCode::P5),
            _ => (StatusCode::UNAUTHORIZED, Some("invalid_token"), FailureCode::P3),
        };
        let detail = match self {
            Missing => "a token is needed",
            Several => "more than one token",
            TooLong => "the token is too long",
            Malformed => "the token is malformed",
            Critical => "the token has extensions that are not understood",
            Encrypted => "the token is encrypted",
            Algorithm => "the token's algorithm is not accepted",
            Kind => "the token is of another type",
            Issuer => "the token's issuer is not accepted",
            UnknownKey => "the token's key is not known",
            Signature => "the token's signature is wrong",
            Audience => "the token is for another audience",
            Expired => "the token has expired",
            NoExpiry => "the token does not expire",
            NotYet => "the token is not valid yet",
            TooOld => "the token is too old",
            ClaimType => "a claim of the token is of the wrong type",
            ClaimMissing => "the token lacks a claim",
            Scope => "the token is not good for this",
            Rule => "the token's claims do not allow this",
            Consumer => "the token's consumer is not known",
            NoKeys => "tokens cannot be checked for now",
        };
        Denial { status, code, error, detail }
    }

    /// How it is counted.
    pub(super) fn outcome(self) -> CredentialCheck {
        use Refusal::*;
        match self {
            Missing => CredentialCheck::Missing,
            Expired | TooOld => CredentialCheck::Expired,
            Scope | Rule | Consumer => CredentialCheck::Denied,
            NoKeys => CredentialCheck::Unchecked,
            _ => CredentialCheck::Invalid,
        }
    }
}
