//! Looking up one `name=value` pair: in a query, in cookies.

use std::borrow::Cow;

use http::HeaderValue;
use http::header::GetAll;
use memchr::{memchr, memchr2};
use percent_encoding::percent_decode;

/// The first value of a query parameter, form-decoded; empty if it has no `=`.
pub(super) fn query<'a>(query: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let mut rest = query;
    loop {
        let end = memchr(b'&', rest.as_bytes()).unwrap_or(rest.len());
        let pair = &rest[..end];
        let equals = memchr(b'=', pair.as_bytes()).unwrap_or(end);
        let name = &pair[..equals];
        let is_it = match is_coded(name) {
            false => name == wanted,
            true => form_decoded(name) == wanted,
        };
        if is_it {
            return Some(form_decoded(pair.get(equals + 1..).unwrap_or_default()));
        }
        rest = rest.get(end + 1..)?;
    }
}

fn is_coded(text: &str) -> bool {
    memchr2(b'%', b'+', text.as_bytes()).is_some()
}

fn form_decoded(text: &str) -> Cow<'_, str> {
    if !is_coded(text) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned())
}

/// The first value of a cookie, over all `cookie` fields (HTTP/2 may split them).
pub(super) fn cookie<'a>(fields: GetAll<'a, HeaderValue>, wanted: &str) -> Option<Cow<'a, str>> {
    fields.iter().find_map(|field| cookie_of(field.as_bytes(), wanted.as_bytes()))
}

fn cookie_of<'a>(field: &'a [u8], wanted: &[u8]) -> Option<Cow<'a, str>> {
    let mut rest = field;
    loop {
        let end = memchr(b';', rest).unwrap_or(rest.len());
        let pair = rest[..end].trim_ascii_start();
        // Of most no more has to be read than how they begin.
        if let Some(after) = pair.strip_prefix(wanted)
            && let Some(value) = after.trim_ascii_start().strip_prefix(b"=")
        {
            return Some(String::from_utf8_lossy(value.trim_ascii()));
        }
        rest = rest.get(end + 1..)?;
    }
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

    /// The same in plain words.
    fn slow_query(text: &str, wanted: &str) -> Option<String> {
        let decoded = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned()
        };
        text.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name) == wanted).then(|| decoded(value))
        })
    }

    fn slow_cookie(text: &str, wanted: &str) -> Option<String> {
        text.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            (name.trim_ascii() == wanted).then(|| value.trim_ascii().to_owned())
        })
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}", name in ".{0,4}") {
            let _ = query(&text, &name);
        }

        #[test]
        fn pairs_are_found_as_by_a_slow_look(text in "[ab=&;%+6 1]{0,24}", name in "[ab]{1,2}") {
            let found = query(&text, &name).map(Cow::into_owned);
            prop_assert_eq!(found, slow_query(&text, &name));

            let mut headers = HeaderMap::new();
            headers.append(COOKIE, HeaderValue::try_from(&text).unwrap());
            let found = cookie(headers.get_all(COOKIE), &name).map(Cow::into_owned);
            prop_assert_eq!(found, slow_cookie(&text, &name));
        }
    }
}
