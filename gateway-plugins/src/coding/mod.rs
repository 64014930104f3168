//! Content codings (RFC 9110, section 8.4.1): their names, and how they are undone within bounds.

mod brotli;
mod deflate;
mod undo;
mod zstd;

use http::{HeaderMap, header};

pub(crate) use undo::{Bounds, Fault, Undoing};

/// A coding that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// The format of zlib, RFC 1950.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878, with windows of at most 8 MiB (RFC 9659).
    Zstd,
}

/// How many codings a body may have, one upon another. Nobody has use for more, and each makes a small body larger.
const MOST: usize = 2;

/// A body has a coding that is not known, or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unknown;

/// What is kept of a request whose codings a plugin undoes: those behind it see its body plain.
pub(crate) struct GoesUpPlain;

impl Coding {
    /// The coding of this name, in any case of letters.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let known: [(&str, Self); 5] = [
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("deflate", Self::Deflate),
            ("br", Self::Brotli),
            ("zstd", Self::Zstd),
        ];
        let same = |(known, _): &&(&str, Self)| name.eq_ignore_ascii_case(known.as_bytes());
        known.iter().find(same).map(|(_, coding)| *coding)
    }

    /// The name it is registered under.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The codings of a body, in the order in which they were applied; none if it is as it is.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Vec<Self>, Unknown> {
        let mut applied = Vec::new();
        for name in named(headers) {
            if applied.len() == MOST {
                return Err(Unknown);
            }
            applied.push(Self::named(name).ok_or(Unknown)?);
        }
        Ok(applied)
    }
}

/// Whether a body is coded, in whatever way.
pub(crate) fn is_coded(headers: &HeaderMap) -> bool {
    named(headers).next().is_some()
}

/// The names of a body's codings.
fn named(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let fields = headers.get_all(header::CONTENT_ENCODING).iter();
    let names = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    names
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[&'static str]) -> Result<Vec<Coding>, Unknown> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::CONTENT_ENCODING, http::HeaderValue::from_static(field));
        }
        Coding::of(&headers)
    }

    #[test]
    fn codings_are_named_in_the_order_in_which_they_were_applied() {
        assert_eq!(of(&[]), Ok(vec![]));
        assert_eq!(of(&["identity, ,"]), Ok(vec![]));
        assert_eq!(of(&["X-GZip"]), Ok(vec![Coding::Gzip]));
        assert_eq!(of(&["gzip ,identity", "br"]), Ok(vec![Coding::Gzip, Coding::Brotli]));
        assert_eq!(of(&["compress"]), Err(Unknown));
        assert_eq!(of(&["gzip, gzip, gzip"]), Err(Unknown));
    }
}
