//! Templates: text with attributes in braces, `Bearer {jwt.sub}`; `{{` and `}}` are braces.
//!
//! A missing attribute renders as nothing. Control characters in what an attribute holds are left
//! out, so that a rendered text can stand in a header field; the text around it is the operator's
//! and stays as written.

use std::borrow::Cow;

use super::attribute::{Attribute, AttributeError, Facts, PublishedNames};

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Attribute(Attribute),
}

/// How values are escaped where they stand in a text of a certain type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// Control characters are left out.
    Plain,
    /// As inside a string of JSON (RFC 8259, section 7).
    Json,
    /// As in text and attributes of HTML and XML.
    Markup,
}

impl Escape {
    /// What a content type asks for; `None` for programs and style sheets, in which a value can say anything however it is
    /// escaped.
    pub fn of(content_type: &str) -> Option<Self> {
        let essence =
            content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Some(match essence.as_str() {
            "application/json" | "text/json" => Self::Json,
            json if json.ends_with("+json") => Self::Json,
            "text/html" | "text/xml" | "application/xml" => Self::Markup,
            xml if xml.ends_with("+xml") => Self::Markup,
            "text/css" => return None,
            program if program.ends_with("javascript") || program.ends_with("ecmascript") => {
                return None;
            }
            _ => Self::Plain,
        })
    }

    fn push(self, text: &mut String, value: &str) {
        match self {
            Self::Plain => push_clean(text, value),
            Self::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                text.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
            }
            Self::Markup => {
                for character in value.chars().filter(|character| !character.is_control()) {
                    match character {
                        '&' => text.push_str("&amp;"),
                        '<' => text.push_str("&lt;"),
                        '>' => text.push_str("&gt;"),
                        '"' => text.push_str("&quot;"),
                        '\'' => text.push_str("&#39;"),
                        other => text.push(other),
                    }
                }
            }
        }
    }
}

/// Why a text is no template. Places are counted in characters, from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{` without `}`.
    #[error("brace at column {column} is not closed; a brace itself is written {{{{")]
    Unclosed {
        /// Of the brace.
        column: usize,
    },
    /// `}` without `{`.
    #[error("brace at column {column} closes nothing; a brace itself is written }}}}")]
    Unopened {
        /// Of the brace.
        column: usize,
    },
    /// What stands in the braces is no attribute.
    #[error("{cause} (column {column})")]
    Attribute {
        /// Of the brace.
        column: usize,
        /// Why not.
        cause: AttributeError,
    },
    /// An attribute of the response where there is none yet.
    #[error("`{attribute}` is not known before the response (column {column})")]
    NoResponse {
        /// Of the brace.
        column: usize,
        /// Its name.
        attribute: Attribute,
    },
}

impl Template {
    /// Compiles a text; `allow_response` admits the attributes of the response.
    pub fn parse(
        source: &str,
        published: &PublishedNames,
        allow_response: bool,
    ) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = source;
        while let Some(brace) = rest.find(['{', '}']) {
            literal.push_str(&rest[..brace]);
            rest = &rest[brace..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                literal.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            let column = source[..source.len() - rest.len()].chars().count() + 1;
            let name = rest.strip_prefix('{').ok_or(TemplateError::Unopened { column })?;
            let (name, after) = name.split_once('}').ok_or(TemplateError::Unclosed { column })?;
            push_literal(&mut parts, &mut literal);
            parts.push(Part::Attribute(resolve(name, column, published, allow_response)?));
            rest = after;
        }
        literal.push_str(rest);
        push_literal(&mut parts, &mut literal);
        Ok(Self(parts.into()))
    }

    /// The text for one request; borrowed if it is the same for all.
    pub fn render(&self, facts: &Facts<'_>) -> Cow<'_, str> {
        self.render_escaped(facts, Escape::Plain)
    }

    /// As [`render`](Self::render), with values escaped as the type of the text asks.
    pub fn render_escaped(&self, facts: &Facts<'_>, escape: Escape) -> Cow<'_, str> {
        match &*self.0 {
            [] => Cow::Borrowed(""),
            [Part::Literal(literal)] => Cow::Borrowed(literal),
            parts => {
                let mut text = String::new();
                parts.iter().for_each(|part| part.render(facts, escape, &mut text));
                Cow::Owned(text)
            }
        }
    }
}

impl Part {
    fn render(&self, facts: &Facts<'_>, escape: Escape, text: &mut String) {
        match self {
            Self::Literal(literal) => text.push_str(literal),
            Self::Attribute(attribute) => {
                attribute.with_text(facts, |value| escape.push(text, value.unwrap_or_default()));
            }
        }
    }
}

fn push_clean(text: &mut String, value: &str) {
    if value.contains(char::is_control) {
        text.extend(value.chars().filter(|character| !character.is_control()));
    } else {
        text.push_str(value);
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal).into()));
    }
}

fn resolve(
    name: &str,
    column: usize,
    published: &PublishedNames,
    allow_response: bool,
) -> Result<Attribute, TemplateError> {
    let attribute = Attribute::parse(name, published)
        .map_err(|cause| TemplateError::Attribute { column, cause })?;
    if attribute.needs_response() && !allow_response {
        return Err(TemplateError::NoResponse { column, attribute });
    }
    Ok(attribute)
}

#[cfg(test)]
mod tests {
    use pingora_http::{RequestHeader, ResponseHeader};
    use proptest::prelude::*;

    use super::*;
    use crate::context::RequestCtx;

    fn template(source: &str) -> Result<Template, TemplateError> {
        Template::parse(source, &PublishedNames::new(["jwt.*"]), false)
    }

    fn render(source: &str) -> String {
        let mut request =
            RequestHeader::build("GET", b"/a?q=%0d%0aset-cookie:%20x%00%7F", None).unwrap();
        request.insert_header("x-key", "v").unwrap();
        request.insert_header("x-tab", "a\tb").unwrap();
        let ctx = RequestCtx::sample();
        let facts = Facts { request: &request, response: None, ctx: &ctx };
        template(source).unwrap().render(&facts).into_owned()
    }

    #[test]
    fn attributes_in_braces_are_replaced() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("{request.method}", "GET"),
            ("<{request.header.x-key}>", "<v>"),
            ("{request.header.x-key}{request.method}", "vGET"),
            ("[{request.header.none}]", "[]"),
            ("[{jwt.sub}]", "[]"),
            ("{{}}", "{}"),
            ("{{request.method}}", "{request.method}"),
            ("{{{request.method}}}", "{GET}"),
            ("a}}b", "a}b"),
            ("é {request.method} é", "é GET é"),
        ];
        for (source, expected) in cases {
            assert_eq!(render(source), expected, "{source}");
        }
    }

    #[test]
    fn control_characters_of_a_value_are_left_out() {
        assert_eq!(render("q: {request.query.q}"), "q: set-cookie: x");
        assert_eq!(render("{request.header.x-tab}"), "ab");
        assert_eq!(render("a\nb"), "a\nb");
    }

    #[test]
    fn values_are_escaped_as_the_type_of_the_text_asks() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.insert_header("x-v", "<a b='\"'>\\&").unwrap();
        let ctx = RequestCtx::sample();
        let facts = Facts { request: &request, response: None, ctx: &ctx };
        let template = template("{request.header.x-v}").unwrap();

        for (content_type, expected) in [
            ("text/plain", "<a b='\"'>\\&"),
            ("Application/JSON; charset=utf-8", r#"<a b='\"'>\\&"#),
            ("application/problem+json", r#"<a b='\"'>\\&"#),
            ("text/html", "&lt;a b=&#39;&quot;&#39;&gt;\\&amp;"),
            ("image/svg+xml", "&lt;a b=&#39;&quot;&#39;&gt;\\&amp;"),
        ] {
            let text = template.render_escaped(&facts, Escape::of(content_type).unwrap());
            assert_eq!(text, expected, "{content_type}");
        }
    }

    #[test]
    fn a_text_that_is_the_same_for_all_is_borrowed() {
        let request = RequestHeader::build("GET", b"/", None).unwrap();
        let ctx = RequestCtx::sample();
        let facts = Facts { request: &request, response: None, ctx: &ctx };

        for source in ["", "plain {{text}}"] {
            assert!(matches!(template(source).unwrap().render(&facts), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn a_broken_template_names_the_place() {
        let cases = [
            ("é{", "brace at column 2 is not closed; a brace itself is written {{"),
            ("ab}", "brace at column 3 closes nothing; a brace itself is written }}"),
            (
                "{request.methd}",
                "unknown attribute `request.methd`; did you mean `request.method`? (column 1)",
            ),
            ("{}", "unknown attribute `` (column 1)"),
            ("x{response.status}", "`response.status` is not known before the response (column 2)"),
        ];
        for (source, expected) in cases {
            assert_eq!(template(source).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_response_is_rendered_where_it_is_allowed() {
        let request = RequestHeader::build("GET", b"/", None).unwrap();
        let response = ResponseHeader::build(404, None).unwrap();
        let ctx = RequestCtx::sample();
        let facts = Facts { request: &request, response: Some(&response), ctx: &ctx };
        let template = Template::parse("{response.status}", &PublishedNames::default(), true);

        assert_eq!(template.unwrap().render(&facts), "404");
    }

    proptest! {
        #[test]
        fn no_text_panics(source in "[{}a.é]{0,12}|.{0,40}") {
            let _ = template(&source);
        }

        #[test]
        fn doubled_braces_render_what_was_doubled(text in "[{}a-z é]{0,20}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(render(&doubled), text);
        }
    }
}
