//! What a request's head may not bring into a stream of HTTP/2 (RFC 9113, section 8.2.2): for HTTP/1
//! Pingora takes it out itself, by the same rules.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::{Error, ErrorType, Result};
use pingora_http::RequestHeader;

use super::client::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};

/// What concerns the client's connection alone.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What `Connection` cannot take away.
const PROTECTED: [HeaderName; 4] = [header::HOST, FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST];

/// Leaves behind what concerns the client's connection.
///
/// # Errors
/// `Connection` names what it may not, or no field at all.
pub(super) fn leave_behind(head: &mut RequestHeader) -> Result<()> {
    for name in nominated(&head.headers)? {
        if name != header::CONTENT_LENGTH {
            head.remove_header(&name);
        }
    }
    for name in &HOP_BY_HOP {
        head.remove_header(name);
    }
    // The one thing that may be said of trailers.
    let trailers = head.headers.get(header::TE).is_some_and(|te| {
        te.as_bytes().split(|byte| *byte == b',').any(|one| one.trim_ascii() == b"trailers")
    });
    if head.headers.contains_key(header::TE) {
        head.remove_header(&header::TE);
    }
    if trailers {
        head.insert_header(header::TE, HeaderValue::from_static("trailers"))?;
    }
    Ok(())
}

fn nominated(headers: &HeaderMap) -> Result<Vec<HeaderName>> {
    let fields = headers.get_all(header::CONNECTION).iter();
    let options = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    let named = options.map(<[u8]>::trim_ascii).filter(|option| !option.is_empty());
    let names = named.map(|option| {
        let name = HeaderName::from_bytes(option).ok();
        name.filter(|name| !PROTECTED.contains(name)).ok_or_else(|| {
            let message = "`Connection` names a field that is not its to take away";
            Error::explain(ErrorType::InvalidHTTPHeader, message).into_down()
        })
    });
    names.collect()
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
            ("connection", "keep-alive, x-own, content-length"),
            ("x-own", "1"),
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

    #[test]
    fn what_protects_others_cannot_be_taken_away() {
        for option in ["Host", "X-Forwarded-For", ":path", "\"x\"", "a b"] {
            assert!(left(&[("connection", option)]).is_err(), "{option}");
        }
    }
}
