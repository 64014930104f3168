//! Who may make calls that change something.

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// How a call reached the admin address.
#[derive(Clone)]
pub(super) enum Caller {
    /// Over TCP: whoever has the token, if one is configured.
    Tcp(Option<std::sync::Arc<Secret>>),
    /// Over the Unix socket: the gateway's own user and root.
    Unix {
        /// Whether the other end is one of the two.
        trusted: bool,
    },
}

impl Caller {
    /// Whether a call with these fields may change something.
    pub(super) fn may_change(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Unix { trusted } => *trusted,
            Self::Tcp(None) => false,
            Self::Tcp(Some(token)) => {
                let given = headers.get(header::AUTHORIZATION);
                let given = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
                given.is_some_and(|given| same(given, token.expose()))
            }
        }
    }
}

/// Compares digests, so that the time it takes says nothing about the token.
fn same(given: &str, token: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(authorization: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, http::HeaderValue::from_static(authorization));
        headers
    }

    #[test]
    fn over_tcp_the_token_opens_and_nothing_else_does() {
        let caller = Caller::Tcp(Some(std::sync::Arc::new(Secret::new("s3cret".to_owned()))));

        assert!(caller.may_change(&with("Bearer s3cret")));
        assert!(!caller.may_change(&with("Bearer s3cre")));
        assert!(!caller.may_change(&with("Basic s3cret")));
        assert!(!caller.may_change(&HeaderMap::new()));
    }

    #[test]
    fn without_a_token_nothing_can_be_changed_over_tcp() {
        assert!(!Caller::Tcp(None).may_change(&with("Bearer ")));
    }
}
