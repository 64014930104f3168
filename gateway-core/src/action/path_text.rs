//! Paths written with names in braces, `/v2/{id}`: what they stand for never changes which path it is.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Names, Wrong, at};
use crate::config::UrlPath;
use crate::plugin::{Attribute, AttributeError, Facts, Moment};
use crate::routing::normalise;

/// What a segment of a path holds as it is (RFC 3986, section 3.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// A path in which names stand for what a request holds.
#[derive(Debug)]
pub(crate) struct PathText(Box<[Part]>);

#[derive(Debug)]
enum Part {
    Literal(Box<str>),
    /// What the path captured, which is in normal form.
    Capture(Box<str>),
    Attribute(Attribute),
}

/// What came out is no path in normal form: a value held a dot segment, or nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path that comes out is not in normal form")]
pub(crate) struct Unfit;

impl PathText {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn parse(source: &str, names: &Names<'_>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut sample = String::new();
        let mut rest = source;
        while let Some(brace) = rest.find(['{', '}']) {
            let (literal, after) = rest.split_at(brace);
            let column = source[..source.len() - after.len()].chars().count() + 1;
            let name = after.strip_prefix('{').ok_or_else(|| {
                format!("brace at column {column} closes nothing; a brace in a path is `%7D`")
            })?;
            let (name, after) = name.split_once('}').ok_or_else(|| {
                format!("brace at column {column} is not closed; a brace in a path is `%7B`")
            })?;
            let part = part(name, column, names)?;
            sample += literal;
            sample += match part {
                Part::Attribute(Attribute::RequestPath) => "/x",
                _ => "x",
            };
            parts.push(Part::Literal(literal.into()));
            parts.push(part);
            rest = after;
        }
        sample += rest;
        parts.push(Part::Literal(rest.into()));
        sample.parse::<UrlPath>().map_err(|error| error.to_string())?;
        parts.retain(|part| !matches!(part, Part::Literal(literal) if literal.is_empty()));
        Ok(Self(parts.into()))
    }

    /// The text that stands at a place of the route, compiled; what is wrong with it is told with that place.
    pub(super) fn placed(
        keys: &[&str],
        source: Option<&str>,
        names: &Names<'_>,
        wrong: &mut Wrong,
    ) -> Option<Self> {
        let text = source.map(|text| Self::parse(text, names)).transpose();
        text.unwrap_or_else(|message| {
            wrong.push((at(keys), message));
            None
        })
    }

    /// The attributes that it reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &Attribute> {
        self.0.iter().filter_map(|part| match part {
            Part::Attribute(attribute) => Some(attribute),
            Part::Literal(_) | Part::Capture(_) => None,
        })
    }

    /// The path for one request.
    ///
    /// # Errors
    /// It is none in normal form.
    pub(crate) fn render(&self, facts: &Facts<'_>) -> Result<String, Unfit> {
        let mut path = String::new();
        let mut is_nothing = false;
        for part in &self.0 {
            let was_nothing = std::mem::take(&mut is_nothing);
            match part {
                // Of a rest that is empty nothing is left, not even a segment.
                Part::Literal(literal) if was_nothing && path.ends_with('/') => {
                    path += literal.strip_prefix('/').unwrap_or(literal);
                }
                Part::Literal(literal) => path += literal,
                Part::Capture(name) => {
                    let captured = facts.ctx.capture(name).unwrap_or_default();
                    is_nothing = captured.is_empty();
                    path += captured;
                }
                // It is a path in normal form, and stands for one.
                Part::Attribute(Attribute::RequestPath) => path += facts.request.uri.path(),
                Part::Attribute(attribute) => attribute.with_text(facts, |text| {
                    path.extend(utf8_percent_encode(text.unwrap_or_default(), ESCAPED));
                }),
            }
        }
        in_normal_form(path)
    }
}

/// A path, if it is in normal form.
pub(super) fn in_normal_form(path: String) -> Result<String, Unfit> {
    match normalise(path.as_bytes()) {
        Ok(normal) if normal.is_borrowed() => Ok(path),
        _ => Err(Unfit),
    }
}

fn part(name: &str, column: usize, names: &Names<'_>) -> Result<Part, String> {
    let captured = name.strip_prefix("request.capture.").unwrap_or(name);
    if names.captures.contains(&captured) {
        return Ok(Part::Capture(captured.into()));
    }
    if !captured.contains('.') {
        let known = names.captures.iter().copied();
        let unknown = AttributeError::not_captured(captured, known);
        return Err(format!("{unknown} (column {column})"));
    }
    let attribute = Attribute::parse(name, names.published);
    let attribute = attribute.map_err(|error| format!("{error} (column {column})"))?;
    if attribute.known_from() > Moment::Request {
        return Err(format!("`{name}` is not known before the response (column {column})"));
    }
    Ok(Part::Attribute(attribute))
}

/// A path with another prefix in place of its first bytes, where a segment ends.
pub(crate) fn swapped(path: &str, length: usize, prefix: &str) -> String {
    let rest = path.get(length..).unwrap_or_default();
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() && rest.is_empty() { "/".to_owned() } else { format!("{prefix}{rest}") }
}

#[cfg(test)]
mod tests {
    use pingora_http::RequestHeader;
    use proptest::prelude::*;

    use super::*;
    use crate::context::RequestCtx;
    use crate::plugin::PublishedNames;

    fn parse(source: &str) -> Result<PathText, String> {
        let published = PublishedNames::default();
        PathText::parse(source, &Names { published: &published, captures: vec!["id"], file: None })
    }

    fn render(source: &str, value: &str) -> Result<String, Unfit> {
        let mut request = RequestHeader::build("GET", b"/own/path?q=%2e%2e", None).unwrap();
        request.insert_header("x-v", value.as_bytes()).unwrap();
        let ctx = RequestCtx::sample();
        parse(source).unwrap().render(&Facts { request: &request, response: None, ctx: &ctx })
    }

    #[test]
    fn values_are_escaped_as_one_segment() {
        for (source, value, expected) in [
            ("/a/{request.header.x-v}/b", "v", Ok("/a/v/b")),
            ("/a/{request.header.x-v}", "x/y?z#w", Ok("/a/x%2Fy%3Fz%23w")),
            ("/a/{request.header.x-v}", "%2e", Ok("/a/%252e")),
            ("/a/{request.header.x-v}", "é", Ok("/a/%C3%A9")),
            ("/a/{request.header.x-v}", "", Ok("/a/")),
            ("/a/{request.header.x-v}/b", "", Err(Unfit)),
            ("/a/{request.header.x-v}/b", "..", Err(Unfit)),
            ("/a/{request.header.x-v}", ".", Err(Unfit)),
            ("/a/{request.header.x-v}", "a\\b", Err(Unfit)),
            ("/{request.header.x-v}", "/evil.example", Ok("/%2Fevil.example")),
            ("/new{request.path}", "", Ok("/new/own/path")),
            ("/a/{request.query.q}", "", Err(Unfit)),
            ("/plain", "", Ok("/plain")),
        ] {
            assert_eq!(
                render(source, value).as_deref(),
                expected.as_ref().map(|path| *path),
                "{source} {value}"
            );
        }
    }

    #[test]
    fn what_is_no_path_with_names_says_why() {
        for (source, why) in [
            ("/a/{ib}", "the route's path has no `ib`; it captures `id` (column 4)"),
            ("/a/{", "brace at column 4 is not closed; a brace in a path is `%7B`"),
            ("/a}", "brace at column 3 closes nothing; a brace in a path is `%7D`"),
            ("a", "expected a path such as `/users`, got `a`; it must begin with `/`"),
            ("/a//b", "`/a//b` is not the form in which paths are matched; write `/a/b`"),
            (
                "/{request.methd}",
                "unknown attribute `request.methd`; did you mean `request.method`? (column 2)",
            ),
            ("/{response.status}", "`response.status` is not known before the response (column 2)"),
        ] {
            assert_eq!(parse(source).unwrap_err(), why, "{source}");
        }
        assert!(parse("/{id}/{request.capture.id}").is_ok());
    }

    #[test]
    fn another_prefix_takes_the_place_of_one() {
        for (path, length, prefix, expected) in [
            ("/api/x", 4, "/v2", "/v2/x"),
            ("/api", 4, "/v2/", "/v2"),
            ("/api/", 4, "/v2", "/v2/"),
            ("/api/x", 4, "/", "/x"),
            ("/api", 4, "/", "/"),
            ("/api/", 4, "/", "/"),
            ("/x", 0, "/v2", "/v2/x"),
            ("/", 0, "/v2", "/v2/"),
        ] {
            assert_eq!(swapped(path, length, prefix), expected, "{path} {prefix}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_anything_but_a_path_below_what_is_written(value in "[ -~]{0,12}") {
            if let Ok(path) = render("/a/{request.header.x-v}/b", &value) {
                prop_assert!(path.starts_with("/a/") && path.ends_with("/b"));
                prop_assert_eq!(path.split('/').count(), 4);
            }
        }
    }
}
