//! Hosts a route answers for: exact, or every name under one (`*.example.com`).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::scalar::{Invalid, Scalar, scalar};

/// A host as it is matched: lower case, without port; `*.` in front stands for one or more labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern(String);

impl From<HostPattern> for String {
    fn from(host: HostPattern) -> Self {
        host.0
    }
}

impl Scalar for HostPattern {
    const FORMAT: &'static str = "gateway-host";
    const EXPECTS: &'static str = "a host such as `api.example.com` or `*.example.com`";
    const PATTERN: &'static str = r"^(\*\.)?[A-Za-z0-9_.-]+$|^\[[0-9A-Fa-f:.]+\]$";
}

impl FromStr for HostPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| {
            Err(Invalid::new(format!("expected {}, got `{text}`; {why}", Self::EXPECTS)))
        };
        if text == "*" {
            return wrong("to match every host leave `hosts` out");
        }
        if text.contains("://") || text.contains('/') {
            return wrong("leave the scheme and the path out");
        }
        if let Some(rest) = text.strip_prefix('[') {
            return match rest.split_once(']') {
                Some((ip, "")) => match ip.parse::<Ipv6Addr>() {
                    Ok(ip) => Ok(Self(format!("[{ip}]"))),
                    Err(_) => wrong("this is no IPv6 address"),
                },
                Some((_, port)) if port.starts_with(':') => wrong("leave the port out"),
                _ => wrong("this is no IPv6 address"),
            };
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return wrong("an IPv6 address stands in brackets, as in `[::1]`");
        }
        if text.contains(':') {
            return wrong("leave the port out");
        }
        if !text.is_ascii() {
            return wrong("write the name in punycode (`xn--...`)");
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        if name.contains('*') {
            return wrong("a `*` can only be the whole first label");
        }
        if name.ends_with('.') {
            return wrong("leave the last dot out");
        }
        if name.len() > 253 || !name.split('.').all(is_label) {
            return wrong("a label has 1 to 63 letters, digits, `-` and `_`");
        }
        if name.len() < text.len() && name.parse::<Ipv4Addr>().is_ok() {
            return wrong("an address has no names under it");
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl HostPattern {
    /// Whether it is an address, and no name.
    pub(crate) fn is_address(&self) -> bool {
        self.0.starts_with('[') || self.0.parse::<Ipv4Addr>().is_ok()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

scalar!(HostPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_lower_case() {
        for (text, host) in [
            ("API.Example.com", "api.example.com"),
            ("*.Example.com", "*.example.com"),
            ("localhost", "localhost"),
            ("10.0.0.1", "10.0.0.1"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), host);
        }
    }

    #[test]
    fn text_that_is_no_host_says_what_to_write() {
        for (text, why) in [
            ("*", "to match every host leave `hosts` out"),
            ("https://a.example", "leave the scheme and the path out"),
            ("a.example/x", "leave the scheme and the path out"),
            ("a.example:8080", "leave the port out"),
            ("[::1]:80", "leave the port out"),
            ("::1", "an IPv6 address stands in brackets, as in `[::1]`"),
            ("[::x]", "this is no IPv6 address"),
            ("bücher.example", "write the name in punycode (`xn--...`)"),
            ("a.*.example", "a `*` can only be the whole first label"),
            ("*a.example", "a `*` can only be the whole first label"),
            ("a.example.", "leave the last dot out"),
            ("a..example", "a label has 1 to 63 letters, digits, `-` and `_`"),
            ("", "a label has 1 to 63 letters, digits, `-` and `_`"),
            ("-a.example", "a label has 1 to 63 letters, digits, `-` and `_`"),
            ("*.10.0.0.1", "an address has no names under it"),
        ] {
            let expected = format!(
                "expected a host such as `api.example.com` or `*.example.com`, got `{text}`; {why}"
            );
            assert_eq!(text.parse::<HostPattern>().unwrap_err().to_string(), expected);
        }
    }
}
