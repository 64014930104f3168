//! Paths of requests, written in the one form in which requests are matched.

use std::fmt;
use std::str::FromStr;

use super::scalar::{Invalid, Scalar, scalar};

/// A path in normal form (RFC 3986, section 6.2.2): begins with `/`, unreserved characters
/// decoded, other escapes in upper case, dot segments resolved, repeated slashes merged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UrlPath(String);

impl From<UrlPath> for String {
    fn from(path: UrlPath) -> Self {
        path.0
    }
}

impl Scalar for UrlPath {
    const FORMAT: &'static str = "gateway-url-path";
    const EXPECTS: &'static str = "a path such as `/users`";
    const PATTERN: &'static str = r"^/[^?#\\]*$";
}

impl FromStr for UrlPath {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let normal = normal_form(text).map_err(|why| {
            Invalid::new(format!("expected {}, got `{text}`; {why}", Self::EXPECTS))
        })?;
        if normal != text && text.contains('{') {
            return Err(Invalid::new(format!(
                "`{text}` is not the form in which paths are matched; a path with names in it is \
                 `{{template: \"{text}\"}}`, and with the braces themselves `{normal}`"
            )));
        }
        if normal != text {
            return Err(Invalid::new(format!(
                "`{text}` is not the form in which paths are matched; write `{normal}`"
            )));
        }
        Ok(Self(normal))
    }
}

/// The normal form of a path, or why no request can have it.
fn normal_form(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') {
        return Err("it must begin with `/`");
    }
    if text.contains(['?', '#']) {
        return Err("the query is no part of the path");
    }
    let encoded = normal_encoding(text)?;
    let mut segments: Vec<&str> = Vec::new();
    let mut directory = true;
    for segment in encoded.split('/') {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let tail = if directory && !segments.is_empty() { "/" } else { "" };
    Ok(format!("/{}{tail}", segments.join("/")))
}

/// Decodes what needs no escape, and escapes what does.
fn normal_encoding(text: &str) -> Result<String, &'static str> {
    const REFUSED: &str = "requests with `%00`, `%5C` or a backslash are refused";
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = byte == b'%';
        let byte = if escaped {
            let digits = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
            let digits = digits.filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
            digits
                .and_then(|two| u8::from_str_radix(two, 16).ok())
                .ok_or("a `%` is followed by two hexadecimal digits")?
        } else {
            byte
        };
        at += if escaped { 3 } else { 1 };
        if byte == 0 || byte == b'\\' {
            return Err(REFUSED);
        }
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let literal = b"/!$&'()*+,;=:@".contains(&byte) && !escaped;
        if unreserved || literal {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(out)
}

impl fmt::Display for UrlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

scalar!(UrlPath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_paths_are_accepted() {
        for path in
            ["/", "/users", "/users/", "/a-b_c.d~e", "/a%2Fb", "/a%20b", "/v1:batch", "/%C3%A9"]
        {
            assert!(path.parse::<UrlPath>().is_ok(), "{path}");
        }
    }

    #[test]
    fn path_that_no_request_has_after_normalisation_says_what_to_write() {
        for (path, normal) in [
            ("//users", "/users"),
            ("/a//b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/%2e%2e/a", "/a"),
            ("/%75sers", "/users"),
            ("/a%2fb", "/a%2Fb"),
            ("/a b", "/a%20b"),
            ("/é", "/%C3%A9"),
        ] {
            let message = path.parse::<UrlPath>().unwrap_err().to_string();

            assert_eq!(
                message,
                format!("`{path}` is not the form in which paths are matched; write `{normal}`")
            );
        }
    }

    #[test]
    fn path_that_no_request_can_have_is_refused() {
        for (path, why) in [
            ("users", "it must begin with `/`"),
            ("", "it must begin with `/`"),
            ("/a?b=1", "the query is no part of the path"),
            ("/a%00", "requests with `%00`, `%5C` or a backslash are refused"),
            ("/a%5Cb", "requests with `%00`, `%5C` or a backslash are refused"),
            ("/a\\b", "requests with `%00`, `%5C` or a backslash are refused"),
            ("/a%2", "a `%` is followed by two hexadecimal digits"),
            ("/a%+1", "a `%` is followed by two hexadecimal digits"),
        ] {
            let message = path.parse::<UrlPath>().unwrap_err().to_string();

            assert_eq!(message, format!("expected a path such as `/users`, got `{path}`; {why}"));
        }
    }
}
