//! Which media types are worth compressing.

/// Types that are, each a name or one with a `*` in it.
pub(super) struct Types(Box<[Pattern]>);

struct Pattern {
    head: Box<[u8]>,
    /// What stands behind the `*`; `None` if there is none.
    tail: Option<Box<[u8]>>,
}

/// The types that are compressed unless the config says otherwise.
pub(super) const USUAL: [&str; 22] = [
    "text/*",
    "*+json",
    "*+xml",
    "*+yaml",
    "*+text",
    "application/json",
    "application/x-ndjson",
    "application/jsonl",
    "application/json-seq",
    "application/xml",
    "application/yaml",
    "application/toml",
    "application/javascript",
    "application/graphql",
    "application/wasm",
    "application/x-www-form-urlencoded",
    "application/x-protobuf",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "image/bmp",
    "image/x-icon",
];

/// What is compressed already, so that no `*` means it: beginnings of names.
const COMPRESSED: [&str; 22] = [
    "audio/",
    "video/",
    "font/woff",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/heic",
    "image/heif",
    "image/jxl",
    "application/zip",
    "application/gzip",
    "application/x-gzip",
    "application/zstd",
    "application/x-7z",
    "application/x-xz",
    "application/x-bzip",
    "application/vnd.rar",
    "application/x-rar",
    "application/java-archive",
    "application/vnd.openxmlformats",
];

impl Types {
    /// # Errors
    /// The place of what is no type, and why.
    pub(super) fn parse<'a>(
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Vec<(usize, &'static str)>> {
        let (mut patterns, mut faults) = (Vec::new(), Vec::new());
        for (index, text) in texts.into_iter().enumerate() {
            match Pattern::parse(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(fault) => faults.push((index, fault)),
            }
        }
        if faults.is_empty() { Ok(Self(patterns.into())) } else { Err(faults) }
    }

    /// Whether a body with this `Content-Type` is worth it.
    pub(super) fn have(&self, content_type: &[u8]) -> bool {
        let kind = essence(content_type);
        self.0.iter().any(|pattern| pattern.matches(kind))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/*".contains(&byte);
        if !text.bytes().all(is_plain) || text.is_empty() {
            return Err("no media type; parameters are not looked at");
        }
        if !text.contains(['/', '*']) {
            return Err("a media type is `type/subtype`");
        }
        let bytes = |text: &str| text.to_ascii_lowercase().into_bytes().into_boxed_slice();
        match text.split_once('*') {
            None => Ok(Self { head: bytes(text), tail: None }),
            Some((_, tail)) if tail.contains('*') => Err("one `*` is the most"),
            Some((head, tail)) => Ok(Self { head: bytes(head), tail: Some(bytes(tail)) }),
        }
    }

    fn matches(&self, kind: &[u8]) -> bool {
        let Some(tail) = &self.tail else { return kind.eq_ignore_ascii_case(&self.head) };
        begins(kind, &self.head)
            && ends(&kind[self.head.len()..], tail)
            && !COMPRESSED.iter().any(|known| begins(kind, known.as_bytes()))
            && !ends(kind, b"+zip")
            && !ends(kind, b"+gzip")
            && !ends(kind, b"+zstd")
    }
}

/// Whether a `Content-Type` is one of gRPC, or gRPC-Web: messages in frames that say themselves how they are coded.
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    begins(content_type, b"application/grpc")
}

/// A type without its parameters.
fn essence(content_type: &[u8]) -> &[u8] {
    content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

fn begins(text: &[u8], head: &[u8]) -> bool {
    text.get(..head.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(head))
}

fn ends(text: &[u8], tail: &[u8]) -> bool {
    let at = text.len().checked_sub(tail.len());
    at.is_some_and(|at| text[at..].eq_ignore_ascii_case(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have(types: &[&str], kind: &str) -> bool {
        Types::parse(types.iter().copied()).ok().unwrap().have(kind.as_bytes())
    }

    #[test]
    fn texts_are_worth_it_and_what_is_compressed_already_is_not() {
        for kind in [
            "text/html; charset=utf-8",
            "TEXT/CSS",
            "application/json",
            "application/problem+json;x=y",
            "image/svg+xml",
            "text/event-stream",
            "application/wasm",
        ] {
            assert!(have(&USUAL, kind), "{kind}");
        }
        for kind in
            ["", "image/png", "application/octet-stream", "video/mp4", "text", "application/zip"]
        {
            assert!(!have(&USUAL, kind), "{kind}");
        }
    }

    #[test]
    fn a_star_stands_for_what_is_worth_it() {
        for kind in ["application/octet-stream", "image/x-raw", "a/b"] {
            assert!(have(&["*"], kind), "{kind}");
        }
        for kind in ["image/png", "video/mp4", "font/woff2", "application/epub+zip"] {
            assert!(!have(&["*"], kind), "{kind}");
            assert!(have(&[kind], kind), "{kind}, if it is named");
        }
        assert!(have(&["application/*+json"], "application/a+json"));
        assert!(!have(&["application/*+json"], "image/a+json"));
        assert!(!have(&["application/*+json"], "application/+jso"));
        assert!(!have(&["ab*ba"], "aba"), "it has to have room for both");
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in ["", "json", "text/html; charset=utf-8", "*/*", "te xt/a"] {
            assert!(Types::parse([text]).is_err(), "{text}");
        }
    }

    #[test]
    fn grpc_is_told_by_its_type() {
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc-web-text"] {
            assert!(is_grpc(kind.as_bytes()), "{kind}");
        }
        assert!(!is_grpc(b"application/json"));
    }
}
