//! Regular expressions, bounded in size: of whole values, and found anywhere in them.

use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::literal::{Extractor, Literal};
use regex_syntax::hir::{Hir, HirKind};

use super::scalar::{Invalid, Scalar, scalar};

/// The most bytes that a regular expression may take when compiled.
pub const MAX_COMPILED: usize = 1 << 20;
const NESTING: u32 = 50;

/// A regular expression that is looked for anywhere in a value; `^` and `$` bind it to its ends.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

/// A regular expression that stands for a value from its first to its last character.
#[derive(Debug, Clone)]
pub struct WholePattern {
    source: Box<str>,
    regex: Regex,
}

impl Pattern {
    /// What was compiled.
    pub fn regex(&self) -> &Regex {
        &self.0
    }
}

impl WholePattern {
    /// What was written, without what binds it to the ends.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What was compiled; it is bound to both ends.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }
}

impl WholePattern {
    /// Whether a text that it matches can begin so, as far as can be told.
    pub(super) fn may_begin_with(&self, byte: u8) -> bool {
        let Ok(hir) = regex_syntax::parse(&self.source) else { return true };
        let begins = |literal: &Literal| match literal.as_bytes().first() {
            Some(first) => *first == byte,
            None => !literal.is_exact(),
        };
        Extractor::new().extract(&hir).literals().is_none_or(|all| all.iter().any(begins))
    }

    /// A text with such characters in it that all have which it matches.
    pub(super) fn needs(&self, is_wanted: fn(char) -> bool) -> Option<String> {
        fn find(hir: &Hir, is_wanted: fn(char) -> bool) -> Option<String> {
            match hir.kind() {
                HirKind::Literal(text) => {
                    let text = String::from_utf8_lossy(&text.0).into_owned();
                    text.contains(is_wanted).then_some(text)
                }
                HirKind::Repetition(inner) if inner.min == 0 => None,
                HirKind::Repetition(inner) => find(&inner.sub, is_wanted),
                HirKind::Capture(inner) => find(&inner.sub, is_wanted),
                HirKind::Concat(all) => all.iter().find_map(|one| find(one, is_wanted)),
                HirKind::Alternation(all) => {
                    let each: Option<Vec<String>> =
                        all.iter().map(|one| find(one, is_wanted)).collect();
                    each?.into_iter().next()
                }
                HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => None,
            }
        }
        find(&regex_syntax::parse(&self.source).ok()?, is_wanted)
    }
}

/// Compiles a regular expression.
///
/// # Errors
/// It is none, or takes more than [`MAX_COMPILED`] bytes.
pub(crate) fn compile(source: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(source).size_limit(MAX_COMPILED).nest_limit(NESTING).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("takes more than {} KiB when compiled", MAX_COMPILED >> 10)
        }
        // The regex crate draws the pattern over several lines; the last one says what is wrong.
        error => {
            let text = error.to_string();
            let said = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            said.to_owned()
        }
    })
}

fn invalid(text: &str, why: &str) -> Invalid {
    Invalid::new(format!("`{text}` is no regular expression that can be used: {why}"))
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl PartialEq for WholePattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Scalar for Pattern {
    const FORMAT: &'static str = "gateway-regex";
    const EXPECTS: &'static str = "a regular expression";
    const PATTERN: &'static str = "";
}

impl Scalar for WholePattern {
    const FORMAT: &'static str = "gateway-whole-regex";
    const EXPECTS: &'static str = "a regular expression of the whole";
    const PATTERN: &'static str = "";
}

impl FromStr for Pattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        compile(text).map(Self).map_err(|why| invalid(text, &why))
    }
}

impl FromStr for WholePattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // By itself first: what is wrong is told of what was written.
        compile(text).map_err(|why| invalid(text, &why))?;
        let regex = compile(&format!("^(?:{text})$")).map_err(|why| invalid(text, &why))?;
        Ok(Self { source: text.into(), regex })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Display for WholePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

scalar!(Pattern);
scalar!(WholePattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_pattern_is_bound_to_both_ends() {
        let whole: WholePattern = "/a|/b/[0-9]+".parse().unwrap();

        for (text, expected) in [("/a", true), ("/b/7", true), ("/ab/7", false), ("/b/7x", false)] {
            assert_eq!(whole.regex().is_match(text), expected, "{text}");
        }
        assert_eq!(whole.to_string(), "/a|/b/[0-9]+");
    }

    #[test]
    fn what_an_expression_can_never_match_is_seen() {
        for (source, expected) in [
            ("/a", true),
            ("^/a", true),
            ("(/a|b)", true),
            (".*", true),
            ("[^a]+", true),
            ("", false),
            ("a.*", false),
            ("[0-9]+", false),
            ("users/.*|x", false),
        ] {
            let pattern: WholePattern = source.parse().unwrap();
            assert_eq!(pattern.may_begin_with(b'/'), expected, "{source}");
        }
        for (source, expected) in [
            ("api-[A-Z]+", None),
            ("(?i)API", None),
            ("a(b|API.)c*", None),
            ("api(-V2)?", None),
            ("(WWW|API).a", Some("WWW")),
            ("a(API)+", Some("API")),
            ("a", None),
        ] {
            let pattern: WholePattern = source.parse().unwrap();
            let capitals = pattern.needs(|one| one.is_ascii_uppercase());
            assert_eq!(capitals.as_deref(), expected, "{source}");
        }
    }

    #[test]
    fn what_cannot_be_compiled_says_why() {
        for (text, why) in [
            ("a(", "unclosed group"),
            ("[b-a]", "invalid character class range, the start must be <= the end"),
            (r"\w{999}{999}", "takes more than 1024 KiB when compiled"),
            (r"(?=a)", "look-around, including look-ahead and look-behind, is not supported"),
        ] {
            let expected = format!("`{text}` is no regular expression that can be used: {why}");
            assert_eq!(text.parse::<Pattern>().unwrap_err().to_string(), expected);
            assert_eq!(text.parse::<WholePattern>().unwrap_err().to_string(), expected);
        }
    }
}
