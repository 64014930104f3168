//! The one form of a request path: what is matched is what is authorised and forwarded.
//!
//! | in the path | becomes | why |
//! |---|---|---|
//! | `%41`, `%7e`, `%2E` (unreserved) | the character | RFC 3986, 6.2.2.2 |
//! | `%2f`, `%3a`, `%25`, `%0a`, `%c3` | kept encoded, hex upper-cased | RFC 3986, 6.2.2.1; decoding would change the meaning |
//! | `//` | `/` | most upstreams read them alike; merged before dot segments, as nginx does |
//! | `/a/./b`, `/a/../b`, `/%2e%2e/` | resolved; never above the root | RFC 3986, 5.2.4, after decoding |
//! | `\|`, `[`, `]`, `{`, `}`, `^`, `` ` `` | encoded: `%7C` | not allowed in a path, and browsers send them; else a rule for `%7C` could be evaded |
//! | `;params` and other printable ASCII | untouched | |
//! | `%00`, `%5C`, `\` | fault | upstreams disagree on their meaning |
//! | space, control, non-ASCII, `#`, `?` | fault | not allowed in a path |
//! | `%`, `%4`, `%G1` | fault | RFC 3986, 2.1 |

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// Why a path is refused with 400. Never quotes the client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Empty, or relative.
    #[error("path does not begin with a slash")]
    NotAbsolute,
    /// A control character, a space, `#`, `?` or a byte outside ASCII.
    #[error("path holds a character that is not allowed")]
    Character,
    /// A backslash, bare or as `%5C`.
    #[error("path holds a backslash")]
    Backslash,
    /// `%00`.
    #[error("path holds an encoded NUL")]
    Nul,
    /// `%` without two hex digits after it.
    #[error("path holds a broken percent escape")]
    Escape,
}

/// A path in normal form: begins with `/`, printable ASCII, no dot segment, no empty segment but
/// the last. Borrows the raw path when that was normal already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NormalPath<'a>(Cow<'a, str>);

impl<'a> NormalPath<'a> {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path, still borrowed if it was normal already.
    pub fn into_cow(self) -> Cow<'a, str> {
        self.0
    }

    /// Whether the raw path was normal already.
    pub fn is_borrowed(&self) -> bool {
        matches!(self.0, Cow::Borrowed(_))
    }
}

impl Deref for NormalPath<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NormalPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Brings a path without its query into normal form; allocates only if it has to change.
pub fn normalise(raw: &[u8]) -> Result<NormalPath<'_>, PathFault> {
    if raw.first() != Some(&b'/') {
        return Err(PathFault::NotAbsolute);
    }
    let text = std::str::from_utf8(raw).map_err(|_| PathFault::Character)?;
    match first_change(raw)? {
        None => Ok(NormalPath(Cow::Borrowed(text))),
        Some(at) => rewrite(text, at).map(|path| NormalPath(Cow::Owned(path))),
    }
}

/// What a byte asks of the scan.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    Plain,
    Slash,
    Percent,
    /// Encoded.
    Bare,
    Refused,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Refused; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        classes[byte] = Class::Plain;
        byte += 1;
    }
    classes[b'/' as usize] = Class::Slash;
    classes[b'%' as usize] = Class::Percent;
    let bare = b"|[]{}^`";
    let mut place = 0;
    while place < bare.len() {
        classes[bare[place] as usize] = Class::Bare;
        place += 1;
    }
    classes[b'#' as usize] = Class::Refused;
    classes[b'?' as usize] = Class::Refused;
    classes[b'\\' as usize] = Class::Refused;
    // No request line of HTTP/1 may hold them (RFC 3986, appendix C), so no path of HTTP/2 does.
    classes[b'"' as usize] = Class::Refused;
    classes[b'<' as usize] = Class::Refused;
    classes[b'>' as usize] = Class::Refused;
    classes
};

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

fn refusal(byte: u8) -> PathFault {
    if byte == b'\\' { PathFault::Backslash } else { PathFault::Character }
}

/// The start of the first segment that is not normal.
fn first_change(raw: &[u8]) -> Result<Option<usize>, PathFault> {
    let mut segment = 1;
    let mut at = 0;
    while let Some(skipped) = raw[at..].iter().position(|&byte| class(byte) != Class::Plain) {
        at += skipped;
        match class(raw[at]) {
            Class::Slash => {
                at += 1;
                segment = at;
                if leads_to_change(&raw[at..]) {
                    return Ok(Some(segment));
                }
            }
            Class::Percent if escape_is_normal(&raw[at..])? => at += 3,
            Class::Percent | Class::Bare => return Ok(Some(segment)),
            Class::Plain | Class::Refused => return Err(refusal(raw[at])),
        }
    }
    Ok(None)
}

/// Whether the segment that begins here is empty but not the last, or a dot segment.
fn leads_to_change(rest: &[u8]) -> bool {
    matches!(rest, [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..])
}

fn escape_is_normal(rest: &[u8]) -> Result<bool, PathFault> {
    let byte = decode(rest)?;
    let upper = !rest[1].is_ascii_lowercase() && !rest[2].is_ascii_lowercase();
    Ok(upper && !is_unreserved(byte))
}

/// The byte that an escape stands for.
fn decode(rest: &[u8]) -> Result<u8, PathFault> {
    let digit = |at: usize| {
        let byte = rest.get(at).copied().ok_or(PathFault::Escape)?;
        char::from(byte).to_digit(16).ok_or(PathFault::Escape)
    };
    // Two hex digits fit a byte.
    match (digit(1)? * 16 + digit(2)?) as u8 {
        0 => Err(PathFault::Nul),
        b'\\' => Err(PathFault::Backslash),
        byte => Ok(byte),
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Writes the path anew from the segment that begins at `start`; what is before it is normal.
fn rewrite(text: &str, start: usize) -> Result<String, PathFault> {
    let raw = text.as_bytes();
    let mut path = String::with_capacity(raw.len());
    path.push_str(&text[..start]);
    let mut segment = start;
    let mut at = start;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        match class(byte) {
            Class::Plain => path.push(char::from(byte)),
            Class::Bare => push_escape(&mut path, byte),
            Class::Refused => return Err(refusal(byte)),
            Class::Slash => segment = end_segment(&mut path, segment, true),
            Class::Percent => {
                push_escape(&mut path, decode(&raw[at - 1..])?);
                at += 2;
            }
        }
    }
    end_segment(&mut path, segment, false);
    Ok(path)
}

fn push_escape(path: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if is_unreserved(byte) {
        path.push(char::from(byte));
        return;
    }
    path.push('%');
    path.push(char::from(HEX[usize::from(byte >> 4)]));
    path.push(char::from(HEX[usize::from(byte & 15)]));
}

/// Closes the segment that begins at `start` and answers where the next one begins.
fn end_segment(path: &mut String, start: usize, more: bool) -> usize {
    match &path[start..] {
        "" => {}
        "." => path.truncate(start),
        ".." => {
            // The slash before this segment stays if it is the root.
            let parent = path[..start - 1].rfind('/').map_or(1, |slash| slash + 1);
            path.truncate(parent);
        }
        _ if more => path.push('/'),
        _ => {}
    }
    path.len()
}

#[cfg(test)]
mod tests;
