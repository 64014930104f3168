//! The request target, taken apart: origin form, absolute form and `*` (RFC 9112, 3.2).

use http::Method;

/// Why a request target is refused with 400. Never quotes the client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetFault {
    /// Neither a path, nor an http or https URL, nor `*` with OPTIONS.
    #[error("request target has no form that is served here")]
    Form,
    /// A control character, a space, `#` or a byte outside ASCII.
    #[error("query holds a character that is not allowed")]
    Query,
}

/// What a request asks for, as it was sent: nothing in it is normalised yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `OPTIONS *`: the gateway itself.
    Server,
    /// A path, and what may stand around it.
    Resource {
        /// The authority of an absolute form; it wins over the `host` field (RFC 9112, 3.2.2).
        authority: Option<&'a str>,
        /// The path; `/` for an absolute form without one.
        path: &'a str,
        /// What follows the first `?`, byte for byte.
        query: Option<&'a str>,
    },
}

/// Splits a request target; the path goes on to [`super::normalise`].
pub fn split_target<'a>(method: &Method, target: &'a str) -> Result<Target<'a>, TargetFault> {
    if target == "*" && method == Method::OPTIONS {
        return Ok(Target::Server);
    }
    if target.starts_with('/') {
        return resource(None, target);
    }
    let rest = after_scheme(target).ok_or(TargetFault::Form)?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || path.starts_with('\\') {
        return Err(TargetFault::Form);
    }
    resource(Some(authority), path)
}

fn after_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    known.then_some(rest)
}

fn resource<'a>(authority: Option<&'a str>, text: &'a str) -> Result<Target<'a>, TargetFault> {
    let (path, query) = match memchr::memchr(b'?', text.as_bytes()) {
        Some(mark) => (&text[..mark], Some(&text[mark + 1..])),
        None => (text, None),
    };
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>');
    if !query.is_none_or(|query| query.bytes().all(allowed)) {
        return Err(TargetFault::Query);
    }
    Ok(Target::Resource { authority, path: if path.is_empty() { "/" } else { path }, query })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(target: &str) -> Result<Target<'_>, TargetFault> {
        split_target(&Method::GET, target)
    }

    #[test]
    fn path_and_query_part_at_the_first_question_mark() {
        let cases = [
            ("/", "/", None),
            ("/a", "/a", None),
            ("/a?", "/a", Some("")),
            ("/?x=1", "/", Some("x=1")),
            ("/a?b?c", "/a", Some("b?c")),
            ("/a?%00\\%zz", "/a", Some("%00\\%zz")),
            ("/a b", "/a b", None),
            ("/a#b", "/a#b", None),
            ("/a?u=/x/../y", "/a", Some("u=/x/../y")),
        ];
        for (target, path, query) in cases {
            assert_eq!(
                split(target),
                Ok(Target::Resource { authority: None, path, query }),
                "{target}"
            );
        }
    }

    #[test]
    fn an_absolute_form_carries_its_authority() {
        let cases = [
            ("http://a.example", "a.example", "/", None),
            ("HTTPS://a:8443/x?y", "a:8443", "/x", Some("y")),
            ("http://a?y", "a", "/", Some("y")),
            ("http://u@a/", "u@a", "/", None),
        ];
        for (target, authority, path, query) in cases {
            let expected = Target::Resource { authority: Some(authority), path, query };
            assert_eq!(split(target), Ok(expected), "{target}");
        }
    }

    #[test]
    fn a_target_of_no_served_form_is_refused() {
        for target in
            ["", "*", "a", "a:443", "ftp://a/", "http:///x", "http://", "http://a\\b", "://a", "?q"]
        {
            assert_eq!(split(target), Err(TargetFault::Form), "{target}");
        }
    }

    #[test]
    fn a_query_with_a_forbidden_character_is_refused() {
        for target in
            ["/?a b", "/?a#b", "/?\t", "/?\u{7f}", "/?é", "/?\r\n", "/?\0", "http://a?b c"]
        {
            assert_eq!(split(target), Err(TargetFault::Query), "{target}");
        }
    }

    #[test]
    fn the_asterisk_is_for_options_alone() {
        assert_eq!(split_target(&Method::OPTIONS, "*"), Ok(Target::Server));
        assert_eq!(split_target(&Method::GET, "*"), Err(TargetFault::Form));
        assert_eq!(split_target(&Method::OPTIONS, "*a"), Err(TargetFault::Form));
    }

    proptest! {
        #[test]
        fn no_text_panics(target in ".{0,40}") {
            let _ = split(&target);
            let _ = split(&format!("http://{target}"));
        }
    }
}
