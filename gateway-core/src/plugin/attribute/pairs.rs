//! Looking up one `name=value` pair: in a query, in cookies.

use std::borrow::Cow;

use http::HeaderValue;
use http::header::GetAll;
use percent_encoding::percent_decode;

/// The first value of a query parameter, form-decoded; empty if it has no `=`.
pub(super) fn query<'a>(query: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decoded(name) == wanted).then(|| form_decoded(value))
    })
}

fn form_decoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned())
}

/// The first value of a cookie, over all `cookie` fields (HTTP/2 may split them).
pub(super) fn cookie<'a>(fields: GetAll<'a, HeaderValue>, wanted: &str) -> Option<Cow<'a, str>> {
    let mut pairs = fields.iter().flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
    pairs.find_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = memchr::memchr(b'=', pair)?;
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        (name == wanted.as_bytes()).then(|| String::from_utf8_lossy(value))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::COOKIE;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_parameter_of_a_name_is_decoded() {
        let cases = [
            ("a=1", "a", Some("1")),
            ("a=1&a=2", "a", Some("1")),
            ("b=1&a=2", "a", Some("2")),
            ("a", "a", Some("")),
            ("a=", "a", Some("")),
            ("", "a", None),
            ("aa=1", "a", None),
            ("a=x%20y+z%2B", "a", Some("x y z+")),
            ("%61=1", "a", Some("1")),
            ("a+b=1", "a b", Some("1")),
            ("a=b=c", "a", Some("b=c")),
            ("a=%zz%4", "a", Some("%zz%4")),
            ("a=%FF", "a", Some("\u{fffd}")),
            ("A=1", "a", None),
            ("&&a=1", "a", Some("1")),
        ];
        for (text, name, expected) in cases {
            assert_eq!(query(text, name).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_first_cookie_of_a_name_is_found_over_all_fields() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("x=1; sid = a=b ;flag"));
        headers.append(COOKIE, HeaderValue::from_static("sid=2; y=\"q\""));
        let cases = [
            ("x", Some("1")),
            ("sid", Some("a=b")),
            ("y", Some("\"q\"")),
            ("flag", None),
            ("X", None),
        ];

        for (name, expected) in cases {
            assert_eq!(cookie(headers.get_all(COOKIE), name).as_deref(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}", name in ".{0,4}") {
            let _ = query(&text, &name);
        }
    }
}
