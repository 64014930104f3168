//! What a request's head may not bring into a stream of HTTP/2 (RFC 9113, section 8.2.2): for HTTP/1
//! Pingora takes it out itself, by the same rules.

use http::{HeaderName, HeaderValue, header};
use pingora::Result;
use pingora_http::RequestHeader;

use crate::upstream::is_for_trailers;

/// What concerns the client's connection alone.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Leaves behind what concerns the client's connection. What `Connection` names is gone already.
pub(super) fn leave_behind(head: &mut RequestHeader) -> Result<()> {
    for name in &HOP_BY_HOP {
        head.remove_header(name);
    }
    let trailers = is_for_trailers(&head.headers);
    if head.headers.contains_key(header::TE) {
        head.remove_header(&header::TE);
    }
    if trailers {
        head.insert_header(header::TE, HeaderValue::from_static("trailers"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(fields: &[(&'static str, &str)]) -> Result<Vec<String>> {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        leave_behind(&mut head)?;
        let mut names: Vec<_> = head.headers.keys().map(ToString::to_string).collect();
        names.sort();
        Ok(names)
    }

    #[test]
    fn what_concerns_the_connection_stays_behind() {
        let fields = [
            ("host", "a"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=1"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip, trailers"),
            ("content-length", "0"),
            ("x-kept", "1"),
        ];
        assert_eq!(left(&fields).unwrap(), ["content-length", "host", "te", "x-kept"]);
        assert_eq!(left(&[("te", "gzip")]).unwrap(), Vec::<String>::new());
    }
}
