//! Stickiness: a cookie that tells which endpoint a client was sent to, so that it goes there again.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, header};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::StickyConfig;

/// Digits of an identity in a cookie.
const DIGITS: usize = 16;

/// How clients of an upstream are kept where they are.
///
/// The cookie holds a fingerprint of the upstream's name and the endpoint's address, nothing else.
/// Every gateway with the same config, and this one after a restart, makes the same of it; an
/// endpoint that is gone is simply not found.
pub(crate) struct Sticky {
    /// The cookie's name with its equals sign.
    name: String,
    attributes: String,
}

impl Sticky {
    pub(super) fn new(config: &StickyConfig) -> Self {
        let mut attributes = format!("; Path={}; HttpOnly; SameSite=Lax", config.path);
        if let Some(ttl) = config.ttl {
            attributes.push_str(&format!("; Max-Age={}", ttl.0.as_secs().max(1)));
        }
        Self { name: format!("{}=", config.cookie), attributes }
    }

    /// The endpoint that a request's cookie names.
    pub(crate) fn read(&self, headers: &HeaderMap) -> Option<u64> {
        let fields = headers.get_all(header::COOKIE).iter();
        let mut pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
        let value = pairs.find_map(|pair| pair.trim_ascii().strip_prefix(self.name.as_bytes()))?;
        let digits = std::str::from_utf8(value).ok().filter(|value| value.len() == DIGITS)?;
        u64::from_str_radix(digits, 16).ok()
    }

    /// The value of the `Set-Cookie` that sends a client to this endpoint from now on.
    pub(crate) fn set(&self, id: u64, secure: bool) -> Option<HeaderValue> {
        let secure = if secure { "; Secure" } else { "" };
        let (name, attributes) = (&self.name, &self.attributes);
        HeaderValue::try_from(format!("{name}{id:016x}{attributes}{secure}")).ok()
    }
}

/// The identity of an endpoint in cookies.
pub(super) fn identity(upstream: &str, address: SocketAddr) -> u64 {
    xxh3_64(format!("{upstream}\0{address}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sticky() -> Sticky {
        let ttl = Some("1h".parse().unwrap());
        Sticky::new(&StickyConfig { cookie: "gw".to_owned(), ttl, path: "/".to_owned() })
    }

    fn read(fields: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::COOKIE, field.parse().unwrap());
        }
        sticky().read(&headers)
    }

    #[test]
    fn what_is_set_is_read_again() {
        let value = sticky().set(0xab, true).unwrap();
        let text = value.to_str().unwrap();
        assert_eq!(
            text,
            "gw=00000000000000ab; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure"
        );
        let pair = text.split(';').next().unwrap();

        assert_eq!(read(&[&format!("a=b; {pair}; c=d")]), Some(0xab));
        assert_eq!(read(&["a=b", pair]), Some(0xab), "HTTP/2 may split cookies");
    }

    #[test]
    fn what_is_no_identity_is_nobody() {
        for cookie in
            ["gw=", "gw=xyz", "gw=00000000000000zz", "gw=000000000000000ab", "xgw=00000000000000ab"]
        {
            assert_eq!(read(&[cookie]), None, "{cookie}");
        }
        assert_eq!(read(&[]), None);
    }

    /// Other gateways, and this one after an upgrade, have to agree.
    #[test]
    fn identities_stay_what_they_are() {
        let address = "10.0.0.1:80".parse().unwrap();
        assert_eq!(identity("users", address), xxh3_64(b"users\x0010.0.0.1:80"));
        assert_ne!(identity("users", address), identity("orders", address));
    }
}
