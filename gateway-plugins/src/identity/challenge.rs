//! Answers to requests without good credentials (RFC 9110, section 11.6.1; RFC 6750, section 3).

use gateway_core::plugin::Reply;
use gateway_core::telemetry::FailureCode;
use http::{HeaderValue, StatusCode, header};

/// What is asked for in `WWW-Authenticate`, without the fault of a request.
pub(crate) struct Challenge {
    scheme: &'static str,
    realm: Box<str>,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) status: StatusCode,
    pub(crate) code: FailureCode,
    /// The code of RFC 6750, section 3.1; none for who has brought nothing.
    pub(crate) error: Option<&'static str>,
    pub(crate) detail: &'static str,
}

/// A challenge for bearer tokens.
///
/// # Errors
/// The realm has characters that a field cannot carry.
pub(crate) fn bearer(realm: &str) -> Result<Challenge, &'static str> {
    Challenge::new("Bearer", realm)
}

impl Challenge {
    pub(crate) fn new(scheme: &'static str, realm: &str) -> Result<Self, &'static str> {
        let fit = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
        if !realm.bytes().all(fit) {
            return Err("letters, digits, spaces and punctuation of ASCII, without `\"` and `\\`");
        }
        Ok(Self { scheme, realm: realm.into() })
    }

    /// The answer to a request that is not let in. `scope` is what a token would have to be good for.
    pub(crate) fn answer(&self, denial: &Denial, scope: Option<&str>) -> Reply {
        let mut reply = Reply::problem(denial.status, denial.detail).because(denial.code);
        let asks = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST];
        if asks.contains(&denial.status) {
            let mut text = format!("{} realm=\"{}\"", self.scheme, self.realm);
            if let Some(error) = denial.error {
                text += &format!(", error=\"{error}\", error_description=\"{}\"", denial.detail);
            }
            if let Some(scope) = scope {
                text += &format!(", scope=\"{scope}\"");
            }
            if let Ok(value) = HeaderValue::try_from(text) {
                reply.set(header::WWW_AUTHENTICATE, value);
            }
        }
        reply
    }
}
