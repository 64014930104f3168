//! The one form of a host: lower case, without port, without the dot of the root.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, PoisonError};

/// The longest host in bytes, without its port.
pub const MAX_HOST: usize = 255;

/// Why a host is refused with 400. Never quotes the client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFault {
    /// Nothing before the port, or nothing at all.
    #[error("host is empty")]
    Empty,
    /// Longer than [`MAX_HOST`].
    #[error("host is longer than 255 bytes")]
    Long,
    /// `user@host`.
    #[error("host holds user information")]
    UserInfo,
    /// What follows the colon is no number from 0 to 65535.
    #[error("host has a broken port")]
    Port,
    /// An empty label, as in `a..b`.
    #[error("host has an empty label")]
    Label,
    /// A percent escape, or a character other than letters, digits, `-`, `.`, `_`, `~`.
    #[error("host holds a character that is not allowed")]
    Character,
    /// Brackets without an IPv6 address in them.
    #[error("host is not an IPv6 address")]
    Ipv6,
}

/// A host in normal form, kept; a clone shares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostText(Arc<str>);

impl HostText {
    /// Normalises and keeps the value of a `host` field, or an authority.
    ///
    /// # Errors
    /// It is no host.
    pub fn new(raw: &str) -> Result<Self, HostFault> {
        Ok(Self(normalise_host(raw)?.into()))
    }

    /// The host, without a port.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The last host that a connection asked for: its next request mostly asks for the same.
#[derive(Debug, Default)]
pub struct LastHost(Mutex<Option<(Box<[u8]>, HostText)>>);

impl LastHost {
    /// Normalises what a request asks for, or remembers what it was last time.
    ///
    /// # Errors
    /// It is no host.
    pub fn normalise(&self, raw: &[u8]) -> Result<HostText, HostFault> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, host)) = last.as_ref().filter(|(before, _)| **before == *raw) {
            return Ok(host.clone());
        }
        let host = HostText::new(std::str::from_utf8(raw).map_err(|_| HostFault::Character)?)?;
        *last = Some((raw.into(), host.clone()));
        Ok(host)
    }
}

/// Brings a `host` field or an authority into normal form; allocates only if it has to change.
///
/// A name is kept to the characters of names in use: of `reg-name` (RFC 3986, 3.2.2) the escapes
/// and sub-delimiters are refused. An IPv6 address is written as RFC 5952 says, in brackets.
pub fn normalise_host(raw: &str) -> Result<Cow<'_, str>, HostFault> {
    let normal = if raw.starts_with('[') { ipv6(raw) } else { name(raw) };
    // An at sign is refused wherever it stands; what it means is worth saying.
    normal.map_err(|fault| if raw.contains('@') { HostFault::UserInfo } else { fault })
}

fn name(raw: &str) -> Result<Cow<'_, str>, HostFault> {
    let (name, port) = raw.split_once(':').unwrap_or((raw, ""));
    check_port(port)?;
    let name = name.strip_suffix('.').unwrap_or(name);
    if has_upper_case(name)? {
        return Ok(Cow::Owned(name.to_ascii_lowercase()));
    }
    Ok(Cow::Borrowed(name))
}

fn check_port(port: &str) -> Result<(), HostFault> {
    // `parse` alone would take `+1`.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let valid = port.is_empty() || digits && port.parse::<u16>().is_ok();
    if valid { Ok(()) } else { Err(HostFault::Port) }
}

/// Checks a name on the way.
fn has_upper_case(name: &str) -> Result<bool, HostFault> {
    if name.is_empty() {
        return Err(HostFault::Empty);
    }
    if name.len() > MAX_HOST {
        return Err(HostFault::Long);
    }
    let mut upper = false;
    let mut before = b'.';
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {}
            b'A'..=b'Z' => upper = true,
            b'.' if before != b'.' => {}
            b'.' => return Err(HostFault::Label),
            _ => return Err(HostFault::Character),
        }
        before = byte;
    }
    if before == b'.' { Err(HostFault::Label) } else { Ok(upper) }
}

fn ipv6(raw: &str) -> Result<Cow<'_, str>, HostFault> {
    let end = raw.find(']').ok_or(HostFault::Ipv6)?;
    let (literal, rest) = raw.split_at(end + 1);
    if !rest.is_empty() {
        check_port(rest.strip_prefix(':').ok_or(HostFault::Port)?)?;
    }
    let address: Ipv6Addr = literal[1..end].parse().map_err(|_| HostFault::Ipv6)?;
    if is_canonical(address, literal) {
        return Ok(Cow::Borrowed(literal));
    }
    Ok(Cow::Owned(format!("[{address}]")))
}

fn is_canonical(address: Ipv6Addr, literal: &str) -> bool {
    let mut buffer = [0_u8; 48];
    let mut rest = buffer.as_mut_slice();
    if write!(rest, "[{address}]").is_err() {
        return false;
    }
    let left = rest.len();
    &buffer[..buffer.len() - left] == literal.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_asked_for_last_is_not_taken_for_another() {
        let last = LastHost::default();
        let host = |raw: &str| last.normalise(raw.as_bytes()).map(|host| host.0.to_string());

        for _ in 0..2 {
            assert_eq!(host("A.example:80").as_deref(), Ok("a.example"));
            assert_eq!(host("b.example:80").as_deref(), Ok("b.example"));
            assert_eq!(host("b.example:80").as_deref(), Ok("b.example"));
            assert_eq!(host("b.example:8x"), Err(HostFault::Port));
        }
    }

    #[test]
    fn a_normal_host_is_borrowed() {
        let cases = [
            ("example.com", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com:", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:443", "example.com"),
            ("localhost", "localhost"),
            ("a_b.c", "a_b.c"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("[::1]:", "[::1]"),
            ("a~b", "a~b"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("a:0", "a"),
            ("a:65535", "a"),
            ("-a-", "-a-"),
        ];
        for (raw, expected) in cases {
            assert!(
                matches!(normalise_host(raw), Ok(Cow::Borrowed(host)) if host == expected),
                "{raw}"
            );
        }
    }

    #[test]
    fn a_host_that_is_not_normal_is_rewritten() {
        let cases = [
            ("EXAMPLE.com", "example.com"),
            ("Example.COM.:80", "example.com"),
            ("A", "a"),
            ("[2001:DB8::1]:80", "[2001:db8::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]"),
            ("[::FFFF:102:304]", "[::ffff:1.2.3.4]"),
        ];
        for (raw, expected) in cases {
            assert_eq!(normalise_host(raw).unwrap(), expected, "{raw}");
        }
    }

    #[test]
    fn a_broken_host_is_refused() {
        let long = "a".repeat(256);
        let cases = [
            ("", HostFault::Empty),
            (".", HostFault::Empty),
            (":80", HostFault::Empty),
            (".:80", HostFault::Empty),
            ("user@example.com", HostFault::UserInfo),
            ("a@[::1]", HostFault::UserInfo),
            ("@", HostFault::UserInfo),
            ("a:b", HostFault::Port),
            ("a:65536", HostFault::Port),
            ("a:-1", HostFault::Port),
            ("a:+1", HostFault::Port),
            ("a:80:80", HostFault::Port),
            ("::1", HostFault::Port),
            ("[::1]80", HostFault::Port),
            ("[::1]:x", HostFault::Port),
            ("a..b", HostFault::Label),
            (".a", HostFault::Label),
            ("a..", HostFault::Label),
            ("..", HostFault::Label),
            ("a b", HostFault::Character),
            ("a/b", HostFault::Character),
            ("a%41", HostFault::Character),
            ("*.example.com", HostFault::Character),
            ("é", HostFault::Character),
            ("a,b", HostFault::Character),
            ("a\0", HostFault::Character),
            ("a\r\n", HostFault::Character),
            ("a;b", HostFault::Character),
            ("[::1", HostFault::Ipv6),
            ("[]", HostFault::Ipv6),
            ("[1.2.3.4]", HostFault::Ipv6),
            ("[v1.a]", HostFault::Ipv6),
            ("[fe80::1%eth0]", HostFault::Ipv6),
            ("[::1%25eth0]", HostFault::Ipv6),
            (&long, HostFault::Long),
        ];
        for (raw, fault) in cases {
            assert_eq!(normalise_host(raw), Err(fault), "{raw}");
        }
    }

    #[test]
    fn a_host_of_the_greatest_length_is_accepted_with_dot_and_port() {
        let raw = format!("{}.:65535", "a".repeat(MAX_HOST));

        assert_eq!(normalise_host(&raw).unwrap().len(), MAX_HOST);
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing_more(raw in "[a-zA-Z0-9._:\\[\\]-]{0,24}|\\[[0-9a-fA-F:]{2,12}\\]") {
            if let Ok(once) = normalise_host(&raw) {
                prop_assert!(matches!(normalise_host(&once), Ok(Cow::Borrowed(twice)) if twice == once));
            }
        }

        #[test]
        fn no_text_panics(raw in ".{0,40}") {
            let _ = normalise_host(&raw);
        }
    }
}
