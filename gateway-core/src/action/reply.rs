//! Answers that are written in the config.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Names, Wrong, at};
use crate::config::ReplyConfig;
use crate::plugin::{Escape, Facts, Reply, Template};

/// An answer written in the config.
pub struct ReplyPlan {
    pub(crate) status: StatusCode,
    headers: Box<[(HeaderName, Value)]>,
    body: Body,
    pub(crate) echo: bool,
}

enum Value {
    Same(HeaderValue),
    Template(Template),
}

/// A body, the same for all requests or not.
enum Body {
    Same(Bytes),
    Template(Template, Escape),
}

/// Whether a text leads to one host, whatever stands in its braces: it begins with a host and what ends that, or with a
/// path of which the first segment is written, or the request's own.
fn leads_to_one_place(text: &str) -> bool {
    // `refresh` has a time in front.
    let text = match text.split_once("url=") {
        Some((time, url))
            if time.bytes().all(|byte| byte.is_ascii_digit() || b"; ".contains(&byte)) =>
        {
            url
        }
        _ => text,
    };
    let Some((written, name)) = text.split_once('{') else { return true };
    // It begins with a slash, and has none behind that.
    let is_path = name.starts_with("request.path}");
    let Some((scheme, after)) = written.split_once("://") else {
        let mut path = written.chars();
        return match (path.next(), path.next()) {
            (None, _) => is_path,
            (Some('/'), Some(second)) => !['/', '\\'].contains(&second),
            _ => false,
        };
    };
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let host = &after[..end];
    let is_host = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
    ["http", "https"].contains(&scheme) && is_host && (end < after.len() || is_path)
}

impl ReplyPlan {
    pub(super) fn compile(config: &ReplyConfig, names: &Names<'_>, wrong: &mut Wrong) -> Self {
        let content_type = config
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(header::CONTENT_TYPE.as_str()));
        let escape = Escape::of(content_type.map_or("", |(_, value)| value));
        if let Some((name, value)) = content_type.filter(|_| config.template) {
            let message = match escape {
                _ if value.contains('{') => {
                    Some("what the body is cannot come from a request: values are escaped by it")
                }
                None => Some(
                    "in programs and style sheets no value is safe; send it as JSON, and read it there",
                ),
                Some(_) => None,
            };
            wrong.extend(
                message.map(|message| (at(&["reply", "headers", name]), message.to_owned())),
            );
        }
        let escape = escape.unwrap_or(Escape::Plain);
        let headers = config.headers.iter().filter_map(|(name, text)| {
            let parsed: HeaderName = name.parse().ok()?;
            if !config.template {
                return Some((parsed, Value::Same(text.parse().ok()?)));
            }
            let leads = [header::LOCATION, header::REFRESH, header::CONTENT_LOCATION];
            let template = match leads.contains(&parsed) && !leads_to_one_place(text) {
                true => Err("a request cannot say to whom its client is sent; begin with a host and a path, or write a `redirect`".into()),
                false => names.template(text),
            };
            match template {
                Ok(template) => Some((parsed, Value::Template(template))),
                Err(message) => {
                    wrong.push((at(&["reply", "headers", name]), message));
                    None
                }
            }
        });
        let mut headers: Vec<_> = headers.collect();
        if config.template && content_type.is_none() {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.push((header::CONTENT_TYPE, Value::Same(text)));
        }
        let says = |name: &HeaderName| headers.iter().any(|(known, _)| known == name);
        if config.template && !says(&header::X_CONTENT_TYPE_OPTIONS) {
            // What a client sent is in it, so that nobody is to guess what it is.
            let as_told = HeaderValue::from_static("nosniff");
            headers.push((header::X_CONTENT_TYPE_OPTIONS, Value::Same(as_told)));
        }
        let (key, text) = match &names.file {
            None => ("body", config.body.clone().map_or_else(Bytes::new, Bytes::from)),
            Some(file) => ("file", file.clone()),
        };
        let body = if config.template {
            let parsed = match std::str::from_utf8(&text) {
                Ok(text) => names.template(text),
                Err(_) => Err("a template is text in UTF-8".into()),
            };
            match parsed {
                Ok(template) => Body::Template(template, escape),
                Err(message) => {
                    wrong.push((at(&["reply", key]), message));
                    Body::Same(Bytes::new())
                }
            }
        } else {
            Body::Same(text)
        };
        let status = StatusCode::from_u16(config.status).unwrap_or_default();
        Self { status, headers: headers.into(), body, echo: config.echo }
    }

    /// The answer to one request; what it would show of the request's body is not in it.
    pub(crate) fn reply(&self, facts: &Facts<'_>) -> Reply {
        let body = match &self.body {
            Body::Same(bytes) => bytes.clone(),
            Body::Template(template, escape) => match template.render_escaped(facts, *escape) {
                Cow::Borrowed(text) => Bytes::copy_from_slice(text.as_bytes()),
                Cow::Owned(text) => text.into(),
            },
        };
        let mut reply = Reply::new(self.status).with_body(body);
        let headers = self.headers.iter().filter_map(|(name, value)| {
            Some(match value {
                Value::Same(value) => (name.clone(), value.clone()),
                Value::Template(template) => {
                    (name.clone(), HeaderValue::try_from(&*template.render(facts)).ok()?)
                }
            })
        });
        reply.headers = headers.collect();
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_leads_to_a_host_that_is_written() {
        for (text, expected) in [
            ("/plain", true),
            ("https://a.example/x/{request.query.q}", true),
            ("https://a.example?next={request.path}", true),
            ("https://a.example{request.path}", true),
            ("{request.path}", true),
            ("/done/{request.query.q}", true),
            ("0; url=/done/{request.query.q}", true),
            ("5;url=https://a.example/{request.query.q}", true),
            ("{request.query.to}", false),
            ("/{request.query.to}", false),
            ("//{request.query.to}", false),
            ("/\\{request.query.to}", false),
            ("https://{request.query.to}/", false),
            ("https:///{request.query.to}", false),
            ("https://a.example{request.query.to}", false),
            ("https://a@{request.query.to}/", false),
            ("javascript://a/{request.query.to}", false),
            ("0; url=//x/://y/{request.query.to}", false),
        ] {
            assert_eq!(leads_to_one_place(text), expected, "{text}");
        }
    }
}
