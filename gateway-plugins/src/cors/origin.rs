//! Origins, as browsers write them and as operators list them (RFC 6454, the Fetch standard).

/// What an operator lists.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// Every origin.
    Any,
    /// One origin, `null` included.
    Exact(String),
    /// A scheme, what a host ends with, and perhaps any port.
    Pattern {
        /// With `://`.
        scheme: String,
        /// With the dot before it; `None` where the host is `host` itself.
        suffix: Option<String>,
        host: String,
        port: Port,
    },
}

/// The port of a pattern.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// This one, with its colon; empty for the scheme's own.
    This(String),
    Any,
}

impl Listed {
    /// Reads what an operator wrote.
    ///
    /// # Errors
    /// Why no browser would ever send such an origin, in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Exact(text.to_owned())),
            _ => {}
        }
        let split = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
        let Some((scheme, authority)) = split else {
            return Err(format!("`{text}` is no origin such as `https://app.example`"));
        };
        if let Some(at) = authority.find(['/', '?', '#', '@']) {
            let without = &text[..text.len() - authority.len() + at];
            return Err(match authority.as_bytes()[at] {
                b'@' => format!("`{text}` names a user, which no origin has"),
                _ => format!("an origin has no path; write `{without}`"),
            });
        }
        if !text.is_ascii() {
            return Err(format!("browsers write `{text}` in Punycode"));
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(format!("browsers write `{}`", text.to_ascii_lowercase()));
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => Port::This(String::new()),
            Some("*") => Port::Any,
            Some(port) => {
                let number = port.parse::<u16>().ok().filter(|number| number.to_string() == port);
                let number = number.ok_or_else(|| format!("`{port}` is no port"))?;
                if default_port(scheme) == Some(number) {
                    let without = &text[..text.len() - port.len() - 1];
                    return Err(format!("browsers leave the scheme's own port out: `{without}`"));
                }
                Port::This(format!(":{number}"))
            }
        };
        let (suffix, plain) = match host.strip_prefix("*.") {
            Some(rest) => (Some(format!(".{rest}")), rest),
            None => (None, host),
        };
        if !is_host(plain) {
            return Err(format!("`{host}` is no host; a `*` may stand for its first labels alone"));
        }
        if suffix.is_none() && port != Port::Any {
            return Ok(Self::Exact(text.to_owned()));
        }
        Ok(Self::Pattern { scheme: format!("{scheme}://"), suffix, host: plain.to_owned(), port })
    }

    /// Whether an origin is one of these. Origins are compared as they are written.
    pub(super) fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(listed) => listed == origin,
            Self::Pattern { scheme, suffix, host, port } => {
                let Some(authority) = origin.strip_prefix(scheme.as_str()) else { return false };
                let (named, own) = split_port(authority);
                let right_port = match port {
                    Port::This(listed) => authority[named.len()..] == **listed,
                    Port::Any => own.is_none_or(is_port),
                };
                right_port
                    && match suffix {
                        None => named == host,
                        Some(suffix) => named.strip_suffix(suffix.as_str()).is_some_and(is_host),
                    }
            }
        }
    }
}

/// The host, and the port if there is one. IPv6 addresses stand in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let from = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[from..].find(':') {
        Some(colon) => (&authority[..from + colon], Some(&authority[from + colon + 1..])),
        None => (authority, None),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Labels with dots between them, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    text.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_matches_what_browsers_write() {
        for (listed, origin, matches) in [
            ("https://app.example", "https://app.example", true),
            ("https://app.example", "http://app.example", false),
            ("https://app.example", "https://app.example:8443", false),
            ("https://app.example", "https://app.example.evil", false),
            ("https://app.example", "https://app.exampl", false),
            ("https://app.example:8443", "https://app.example:8443", true),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("chrome-extension://abcdef", "chrome-extension://abcdef", true),
            ("null", "null", true),
            ("null", "https://null", false),
            ("https://*.example", "https://a.example", true),
            ("https://*.example", "https://a.b.example", true),
            ("https://*.example", "https://example", false),
            ("https://*.example", "https://.example", false),
            ("https://*.example", "https://evilexample", false),
            ("https://*.example", "https://a.example:444", false),
            ("https://*.example", "https://a.example.evil", false),
            ("https://*.example", "https://evil/.example", false),
            ("https://*.example", "https://evil?.example", false),
            ("https://*.example", "https://u@a.example", false),
            ("https://*.example", "https://evil.test:80@.example", false),
            ("https://*.example:8443", "https://a.example:8443", true),
            ("https://*.example:*", "https://a.example:1", true),
            ("http://localhost:*", "http://localhost", true),
            ("http://localhost:*", "http://localhost:5173", true),
            ("http://localhost:*", "http://localhost:evil", false),
            ("http://localhost:*", "http://localhost:", false),
            ("http://localhost:*", "http://localhost.evil:80", false),
            ("*", "https://anything", true),
        ] {
            let parsed = Listed::parse(listed).expect(listed);
            assert_eq!(parsed.matches(origin), matches, "{listed} {origin}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for (listed, fault) in [
            ("app.example", "is no origin"),
            ("", "is no origin"),
            ("https://", "is no host"),
            ("https://app.example/", "write `https://app.example`"),
            ("https://app.example/path", "write `https://app.example`"),
            ("https://App.example", "browsers write `https://app.example`"),
            ("https://app.example:443", "leave the scheme's own port out: `https://app.example`"),
            ("http://app.example:80", "leave the scheme's own port out"),
            ("https://app.example:0443", "is no port"),
            ("https://app.example:99999", "is no port"),
            ("https://bücher.example", "Punycode"),
            ("https://user@app.example", "names a user"),
            ("https://*", "is no host"),
            ("https://app.*", "is no host"),
            ("https://a*.example", "is no host"),
        ] {
            let told = Listed::parse(listed).expect_err(listed);
            assert!(told.contains(fault), "{listed}: {told}");
        }
    }
}
