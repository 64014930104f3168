//! Templates of paths: `/users/{id}`, `/files/{*rest}`.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use super::scalar::{Invalid, Scalar, scalar};
use super::url_path::UrlPath;

/// The most segments that a template may have.
const MAX_SEGMENTS: usize = 64;

/// A path in normal form in which `{name}` stands for a segment, and `{*name}` at the end for
/// whatever is below.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathTemplate(String);

impl PathTemplate {
    /// The names of what it captures, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter_map(|segment| match capture(segment) {
            Some(Ok(name)) => Some(name.trim_start_matches('*')),
            _ => None,
        })
    }

    /// Whether it ends in `{*name}`, and so stands for all that is below.
    pub(crate) fn is_open(&self) -> bool {
        self.0.rsplit('/').next().is_some_and(|last| last.starts_with("{*"))
    }
}

/// What stands between braces, if a segment holds any.
fn capture(segment: &str) -> Option<Result<&str, ()>> {
    if !segment.contains(['{', '}']) {
        return None;
    }
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    Some(name.filter(|name| !name.contains(['{', '}'])).ok_or(()))
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Scalar for PathTemplate {
    const FORMAT: &'static str = "gateway-path-template";
    const EXPECTS: &'static str = "a path such as `/users/{id}` or `/files/{*rest}`";
    const PATTERN: &'static str = r"^/[^?#\\]*$";
}

impl FromStr for PathTemplate {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: String| {
            Err(Invalid::new(format!("expected {}, got `{text}`; {why}", Self::EXPECTS)))
        };
        let segments: Vec<&str> = text.split('/').collect();
        let mut names = HashSet::new();
        let mut plain = Vec::new();
        for (place, segment) in segments.iter().enumerate() {
            let Some(captured) = capture(segment) else {
                plain.push(*segment);
                continue;
            };
            let Ok(name) = captured else {
                return wrong(format!("a capture is a whole segment, and `{segment}` is not"));
            };
            let bare = name.strip_prefix('*').unwrap_or(name);
            if bare.len() < name.len() && place + 1 < segments.len() {
                return wrong(format!("`{{{name}}}` stands for all that is below, so it is last"));
            }
            if !is_name(bare) {
                return wrong(format!("a name has letters, digits and `_`, and `{bare}` is none"));
            }
            if !names.insert(bare) {
                return wrong(format!("`{bare}` is captured twice"));
            }
            plain.push("x");
        }
        if segments.len() > MAX_SEGMENTS {
            return wrong(format!("it has more than {MAX_SEGMENTS} segments"));
        }
        // The rest of it is a path, and so has to be in normal form.
        plain.join("/").parse::<UrlPath>()?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

scalar!(PathTemplate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_knows_its_names() {
        let template: PathTemplate = "/a/{id}/b/{*rest}".parse().unwrap();

        assert_eq!(template.names().collect::<Vec<_>>(), ["id", "rest"]);
        assert!(template.is_open());
        assert!(!"/a/{id}".parse::<PathTemplate>().unwrap().is_open());
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, why) in [
            ("/a/x{id}", "a capture is a whole segment, and `x{id}` is not"),
            ("/a/{id", "a capture is a whole segment, and `{id` is not"),
            ("/{*rest}/a", "`{*rest}` stands for all that is below, so it is last"),
            ("/{i-d}", "a name has letters, digits and `_`, and `i-d` is none"),
            ("/{}", "a name has letters, digits and `_`, and `` is none"),
            ("/{*}", "a name has letters, digits and `_`, and `` is none"),
            ("/{1}", "a name has letters, digits and `_`, and `1` is none"),
            ("/{a}/{a}", "`a` is captured twice"),
        ] {
            let expected = format!(
                "expected a path such as `/users/{{id}}` or `/files/{{*rest}}`, got `{text}`; {why}"
            );
            assert_eq!(text.parse::<PathTemplate>().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_rest_of_a_template_is_in_normal_form() {
        for text in ["a/{id}", "//{id}", "/../{id}", "/%7Ea/{id}", "/a b/{id}"] {
            assert!(text.parse::<PathTemplate>().is_err(), "{text}");
        }
    }
}
