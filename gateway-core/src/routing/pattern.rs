//! What a route says of hosts and paths: one of them, many of them, and what they capture.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::{PathTemplate, WholePattern};

/// Which hosts a route is for.
#[derive(Clone, Debug, PartialEq)]
pub enum HostPattern {
    /// This one.
    Exact(Box<str>),
    /// Every name under this one: `*.` and it.
    Under(Box<str>),
    /// What the regular expression stands for.
    Regex(WholePattern),
}

/// Which paths a route is for, in normal form.
#[derive(Clone, Debug, PartialEq)]
pub enum PathPattern {
    /// All.
    Any,
    /// This one, byte for byte.
    Exact(Box<str>),
    /// This one and what is below it.
    Prefix(Box<str>),
    /// What a template stands for.
    Template(Template),
    /// What the regular expression stands for.
    Regex(WholePattern),
}

/// A path in which segments may be captured.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    text: Box<str>,
    segments: Box<[Segment]>,
    /// The name for all that is below, if it ends so.
    rest: Option<Arc<str>>,
}

/// One part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Segment {
    Literal(Box<str>),
    Capture(Arc<str>),
}

/// What a path captured, each with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captures {
    path: Box<str>,
    spans: SmallVec<[(Arc<str>, Range<usize>); 2]>,
}

impl Captures {
    /// What stands in the path for this name, in normal form.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, span) = self.spans.iter().find(|(held, _)| **held == *name)?;
        self.path.get(span.clone())
    }

    /// All of them, in the order of the path's pattern.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.spans.iter().filter_map(|(name, span)| Some((&**name, self.path.get(span.clone())?)))
    }
}

impl HostPattern {
    /// Whether a host in normal form is one of them.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *host,
            Self::Under(name) => is_under(host, name),
            Self::Regex(pattern) => pattern.regex().is_match(host),
        }
    }

    /// Whether it stands for every host that another stands for, as far as can be told.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(host)) => self.matches(host),
            (Self::Under(wide), Self::Under(narrow)) => wide == narrow || is_under(narrow, wide),
            _ => self == other,
        }
    }
}

fn is_under(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl PathPattern {
    /// Whether a path in normal form is one of them.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            // `*` is no path.
            _ if !path.starts_with('/') => false,
            Self::Any => true,
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => after_prefix(path, prefix).is_some(),
            Self::Template(template) => template.walk(path, |_, _| {}),
            Self::Regex(pattern) => pattern.regex().is_match(path),
        }
    }

    /// What it captures of a path that it matches; `None` if it captures nothing.
    pub fn captures(&self, path: &str) -> Option<Captures> {
        let mut spans = SmallVec::new();
        match self {
            Self::Template(template) => {
                template.walk(path, |name, span| spans.push((name.clone(), span)));
            }
            Self::Regex(pattern) if pattern.regex().captures_len() > 1 => {
                let found = pattern.regex().captures(path)?;
                for name in pattern.regex().capture_names().flatten() {
                    if let Some(group) = found.name(name) {
                        spans.push((name.into(), group.range()));
                    }
                }
            }
            _ => {}
        }
        (!spans.is_empty()).then(|| Captures { path: path.into(), spans })
    }

    /// How much of a path that it matches is what it is a prefix of; `None` if it is none.
    pub fn prefix_length(&self, path: &str) -> Option<usize> {
        match self {
            Self::Any => Some(0),
            Self::Prefix(prefix) => Some(prefix.trim_end_matches('/').len()),
            Self::Template(template) => template.prefix_length(path),
            Self::Exact(_) | Self::Regex(_) => None,
        }
    }

    /// Whether it stands for every path that another stands for, as far as can be told.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(path)) => self.matches(path),
            (Self::Any, _) => true,
            (Self::Regex(pattern), _) if matches!(pattern.source(), ".*" | "/.*") => true,
            (Self::Regex(_), _) => self == other,
            (_, Self::Regex(_)) => self.is_root(),
            _ => covers(&self.shape(), &other.shape()),
        }
    }

    /// Whether a path could be both, as far as can be told.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(path), pattern) | (pattern, Self::Exact(path)) => pattern.matches(path),
            (Self::Regex(_), _) | (_, Self::Regex(_)) => true,
            _ => {
                let (one, two) = (self.shape(), other.shape());
                let alike = |(one, two): (&Option<&str>, &Option<&str>)| match (one, two) {
                    (Some(one), Some(two)) => one == two,
                    (None, Some(literal)) | (Some(literal), None) => !literal.is_empty(),
                    (None, None) => true,
                };
                let enough = |open: bool, length: usize, least: usize| {
                    if open { length <= least } else { length == least }
                };
                let lengths = match (one.1, two.1) {
                    (true, true) => true,
                    (open, false) => enough(open, one.0.len(), two.0.len()),
                    (false, true) => enough(true, two.0.len(), one.0.len()),
                };
                lengths && one.0.iter().zip(&two.0).all(alike)
            }
        }
    }

    fn is_root(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => prefix.trim_end_matches('/').is_empty(),
            Self::Template(template) => template.segments.is_empty() && template.rest.is_some(),
            _ => false,
        }
    }

    /// Its segments, `None` for what is captured, and whether it stands for what is below too.
    fn shape(&self) -> (Vec<Option<&str>>, bool) {
        match self {
            Self::Any | Self::Regex(_) => (Vec::new(), true),
            Self::Exact(path) => (segments(path).map(Some).collect(), false),
            Self::Prefix(prefix) => {
                let prefix = prefix.trim_end_matches('/');
                let all = if prefix.is_empty() {
                    Vec::new()
                } else {
                    segments(prefix).map(Some).collect()
                };
                (all, true)
            }
            Self::Template(template) => {
                let all = template.segments.iter().map(|segment| match segment {
                    Segment::Literal(literal) => Some(&**literal),
                    Segment::Capture(_) => None,
                });
                (all.collect(), template.rest.is_some())
            }
        }
    }

    /// A path that it matches, unless it is a regular expression.
    pub(crate) fn sample(&self) -> Option<String> {
        if matches!(self, Self::Regex(_)) {
            return None;
        }
        let (segments, _) = self.shape();
        let segments: Vec<&str> = segments.into_iter().map(|one| one.unwrap_or("x")).collect();
        Some(format!("/{}", segments.join("/")))
    }
}

/// Whether the first shape stands for every path that the second stands for.
fn covers(wide: &(Vec<Option<&str>>, bool), narrow: &(Vec<Option<&str>>, bool)) -> bool {
    let enough = if wide.1 {
        narrow.0.len() >= wide.0.len()
    } else {
        narrow.0.len() == wide.0.len() && !narrow.1
    };
    // What is captured is not empty, as a literal may be.
    let one = |(wide, narrow): (&Option<&str>, &Option<&str>)| match (wide, narrow) {
        (None, narrow) => *narrow != Some(""),
        (wide, narrow) => wide == narrow,
    };
    enough && wide.0.iter().zip(&narrow.0).all(one)
}

/// The segments of a path: what stands between its slashes.
fn segments(path: &str) -> std::str::Split<'_, char> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// What follows a prefix, if a segment ends there.
fn after_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

impl From<&PathTemplate> for Template {
    fn from(template: &PathTemplate) -> Self {
        let text = template.to_string();
        let mut rest = None;
        let mut parts = Vec::new();
        for segment in segments(&text) {
            let captured = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
            match captured.map(|name| (name, name.strip_prefix('*'))) {
                Some((_, Some(open))) => rest = Some(open.into()),
                Some((name, None)) => parts.push(Segment::Capture(name.into())),
                None => parts.push(Segment::Literal(segment.into())),
            }
        }
        Self { text: text.into(), segments: parts.into(), rest }
    }
}

impl Template {
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it stands for what is below it too.
    pub(super) fn is_open(&self) -> bool {
        self.rest.is_some()
    }

    /// Whether a path is one of it; tells what is captured on the way.
    fn walk(&self, path: &str, mut capture: impl FnMut(&Arc<str>, Range<usize>)) -> bool {
        // Where the segment begins; past the end of the path once there is none left.
        let mut at = 1;
        for segment in &self.segments {
            let Some(rest) = path.get(at..) else { return false };
            let end = at + memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len());
            match segment {
                Segment::Literal(literal) if path.get(at..end) == Some(literal) => {}
                Segment::Capture(name) if end > at => capture(name, at..end),
                _ => return false,
            }
            at = end + 1;
        }
        match &self.rest {
            None => at > path.len(),
            Some(name) => {
                capture(name, at.min(path.len())..path.len());
                true
            }
        }
    }

    fn prefix_length(&self, path: &str) -> Option<usize> {
        self.rest.as_ref()?;
        let mut slashes = memchr::memchr_iter(b'/', path.as_bytes()).skip(self.segments.len());
        Some(slashes.next().unwrap_or(path.len()))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Under(name) => write!(f, "*.{name}"),
            Self::Regex(pattern) => write!(f, "~{pattern}"),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("/*"),
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{}/*", prefix.trim_end_matches('/')),
            Self::Template(template) => f.write_str(&template.text),
            Self::Regex(pattern) => write!(f, "~{pattern}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> PathPattern {
        PathPattern::Template((&text.parse::<PathTemplate>().unwrap()).into())
    }

    fn regex(text: &str) -> PathPattern {
        PathPattern::Regex(text.parse().unwrap())
    }

    fn captured(pattern: &PathPattern, path: &str) -> Option<String> {
        pattern.matches(path).then(|| match pattern.captures(path) {
            None => String::new(),
            Some(found) => found
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" "),
        })
    }

    #[test]
    fn a_template_captures_whole_segments() {
        for (text, path, expected) in [
            ("/u/{id}", "/u/7", Some("id=7")),
            ("/u/{id}", "/u/7/", None),
            ("/u/{id}", "/u/", None),
            ("/u/{id}", "/u", None),
            ("/u/{id}", "/v/7", None),
            ("/u/{id}", "/u/a%2Fb", Some("id=a%2Fb")),
            ("/u/{id}/", "/u/7/", Some("id=7")),
            ("/u/{id}/", "/u/7", None),
            ("/{a}/x/{b}", "/1/x/2", Some("a=1 b=2")),
            ("/{a}", "/", None),
            ("/f/{*rest}", "/f", Some("rest=")),
            ("/f/{*rest}", "/f/", Some("rest=")),
            ("/f/{*rest}", "/f/a/b", Some("rest=a/b")),
            ("/f/{*rest}", "/fa", None),
            ("/{t}/{*rest}", "/t", Some("t=t rest=")),
            ("/{t}/{*rest}", "/", None),
            ("/{*rest}", "/", Some("rest=")),
            ("/{*rest}", "/a/", Some("rest=a/")),
            ("/a", "/a", Some("")),
        ] {
            assert_eq!(captured(&template(text), path).as_deref(), expected, "{text} {path}");
        }
    }

    #[test]
    fn a_regex_captures_its_named_groups() {
        let pattern = regex("/u/(?<id>[0-9]+)(/(?<tail>.*))?");

        assert_eq!(captured(&pattern, "/u/7/x").as_deref(), Some("id=7 tail=x"));
        assert_eq!(captured(&pattern, "/u/7").as_deref(), Some("id=7"));
        assert_eq!(captured(&pattern, "/x/u/7"), None);
        assert_eq!(captured(&regex("/([a-z]+)"), "/a").as_deref(), Some(""));
    }

    #[test]
    fn a_prefix_knows_how_much_of_a_path_it_is() {
        for (pattern, path, expected) in [
            (PathPattern::Any, "/a", Some(0)),
            (PathPattern::Prefix("/".into()), "/a", Some(0)),
            (PathPattern::Prefix("/a/".into()), "/a/b", Some(2)),
            (template("/a/{*rest}"), "/a/b/c", Some(2)),
            (template("/{t}/{*rest}"), "/abc/b", Some(4)),
            (template("/{t}/{*rest}"), "/abc", Some(4)),
            (template("/{*rest}"), "/abc", Some(0)),
            (template("/{t}"), "/abc", None),
            (regex("/a.*"), "/abc", None),
            (PathPattern::Exact("/a".into()), "/a", None),
        ] {
            assert_eq!(pattern.prefix_length(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn paths_that_cannot_be_both_are_told() {
        let prefix = |path: &str| PathPattern::Prefix(path.into());
        for (one, two, expected) in [
            (prefix("/a"), prefix("/a/b"), true),
            (prefix("/a"), prefix("/b"), false),
            (prefix("/a"), template("/{x}"), true),
            (prefix("/a/b"), template("/{x}"), false),
            (template("/{x}/b"), template("/a/{y}"), true),
            (template("/{x}/b"), template("/a/{y}/c"), false),
            (template("/{x}"), template("/"), false),
            (PathPattern::Exact("/a/c".into()), template("/a/{y}"), true),
            (PathPattern::Any, regex("/x"), true),
        ] {
            assert_eq!(one.may_meet(&two), expected, "{one} {two}");
            assert_eq!(two.may_meet(&one), expected, "{two} {one}");
        }
    }

    #[test]
    fn what_covers_another_stands_for_all_its_paths() {
        let prefix = |path: &str| PathPattern::Prefix(path.into());
        let exact = |path: &str| PathPattern::Exact(path.into());
        for (wide, narrow, expected) in [
            (prefix("/"), prefix("/a"), true),
            (prefix("/a"), prefix("/a/b"), true),
            (prefix("/a"), prefix("/ab"), false),
            (prefix("/a/b"), prefix("/a"), false),
            (prefix("/a"), exact("/a"), true),
            (exact("/a"), prefix("/a"), false),
            (prefix("/a"), template("/a/{id}"), true),
            (template("/{x}"), exact("/a"), true),
            (template("/{x}"), exact("/"), false),
            (template("/{x}/"), template("/{y}/"), true),
            (template("/{x}"), template("/{y}/"), false),
            (template("/{x}/{*rest}"), prefix("/a"), true),
            (template("/{x}/{*rest}"), prefix("/"), false),
            (PathPattern::Any, regex("/a+"), true),
            (prefix("/a"), regex("/a/.*"), false),
            (regex("/.*"), prefix("/"), true),
            (regex("/a+"), exact("/aa"), true),
            (regex("/a+"), regex("/a+"), true),
        ] {
            assert_eq!(wide.covers(&narrow), expected, "{wide} {narrow}");
        }
    }
}
