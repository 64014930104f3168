//! `Seen`: which of the fields that a proxy has to look at a request has, found in one look at all.

use http::{HeaderMap, HeaderName, header};

use crate::telemetry::trace::{TRACEPARENT, TRACESTATE};

/// Fields of a request. Most requests have few of these; a look at all names costs less than asking
/// a map for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) expect: bool,
    pub(super) connection: bool,
    pub(super) transfer_encoding: bool,
    pub(super) content_length: bool,
    /// More than one field of cookies.
    pub(super) several_cookies: bool,
    pub(super) traceparent: bool,
    pub(super) tracestate: bool,
    /// A field by which a proxy tells of the client, and which is not written anew here.
    pub(super) claims: bool,
}

impl Seen {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        let mut cookies = 0;
        for name in headers.iter().map(|(name, _)| name) {
            if name == header::HOST {
                // In every request.
            } else if name == header::COOKIE {
                cookies += 1;
                seen.several_cookies = cookies > 1;
            } else if name == header::CONTENT_LENGTH {
                seen.content_length = true;
            } else if name == header::TRANSFER_ENCODING {
                seen.transfer_encoding = true;
            } else if name == header::CONNECTION {
                seen.connection = true;
            } else if name == header::EXPECT {
                seen.expect = true;
            } else if name == TRACEPARENT {
                seen.traceparent = true;
            } else if name == TRACESTATE {
                seen.tracestate = true;
            } else {
                seen.claims |= is_claim(name);
            }
        }
        seen
    }
}

/// Whether a field tells of the client what only a proxy may tell.
pub(super) fn is_claim(name: &HeaderName) -> bool {
    // What reads fields as variables (CGI, RFC 3875, section 4.1.18) takes `_` for `-`.
    let is = |wanted: &str, name: &str| {
        let same = |(own, byte): (u8, u8)| own == byte || (own == b'-' && byte == b'_');
        wanted.len() == name.len() && wanted.bytes().zip(name.bytes()).all(same)
    };
    let (name, forwarded) = (name.as_str(), "x-forwarded-");
    name.starts_with('x')
        && (name.get(..forwarded.len()).is_some_and(|start| is(forwarded, start))
            || is("x-real-ip", name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(names: &[&str]) -> Seen {
        let mut headers = HeaderMap::new();
        for name in names {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, "1".parse().unwrap());
        }
        Seen::of(&headers)
    }

    #[test]
    fn each_field_is_seen_by_its_name() {
        let none = Seen::default;

        assert_eq!(seen(&["Host", "Accept", "X-Expect", "Cookie"]), none());
        assert_eq!(seen(&["EXPECT"]), Seen { expect: true, ..none() });
        assert_eq!(seen(&["Transfer-Encoding"]), Seen { transfer_encoding: true, ..none() });
        assert_eq!(seen(&["content-length"]), Seen { content_length: true, ..none() });
        assert_eq!(seen(&["cookie", "A", "Cookie"]), Seen { several_cookies: true, ..none() });
        assert_eq!(seen(&["TraceParent"]), Seen { traceparent: true, ..none() });
        assert_eq!(seen(&["tracestate"]), Seen { tracestate: true, ..none() });
        assert_eq!(seen(&["Connection"]), Seen { connection: true, ..none() });
        assert_eq!(seen(&["X_Forwarded_For"]), Seen { claims: true, ..none() });
        assert_eq!(seen(&["X-Real_IP"]), Seen { claims: true, ..none() });
        assert_eq!(seen(&["X-Real-IPs"]), none());
        assert_eq!(seen(&["X-Real-IP"]), Seen { claims: true, ..none() });
        assert_eq!(seen(&["X-Forwarded-Prefix"]), Seen { claims: true, ..none() });
    }
}
