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

impl ReplyPlan {
    pub(super) fn compile(config: &ReplyConfig, names: &Names<'_>, wrong: &mut Wrong) -> Self {
        let content_type = config
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(header::CONTENT_TYPE.as_str()));
        let escape = Escape::of(content_type.map_or("", |(_, value)| value));
        if let Some((name, value)) = content_type.filter(|_| config.template)
            && value.contains('{')
        {
            let message = "what the body is cannot come from a request: values are escaped by it";
            wrong.push((at(&["reply", "headers", name]), message.to_owned()));
        }
        let headers = config.headers.iter().filter_map(|(name, text)| {
            let parsed: HeaderName = name.parse().ok()?;
            if !config.template {
                return Some((parsed, Value::Same(text.parse().ok()?)));
            }
            match Template::parse(text, names.published, false) {
                Ok(template) => Some((parsed, Value::Template(template))),
                Err(error) => {
                    wrong.push((at(&["reply", "headers", name]), error.to_string()));
                    None
                }
            }
        });
        let mut headers: Vec<_> = headers.collect();
        if config.template && content_type.is_none() {
            // What a client sent is in it, so that nobody is to guess what it is.
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            let as_told = HeaderValue::from_static("nosniff");
            headers.push((header::CONTENT_TYPE, Value::Same(text)));
            headers.push((header::X_CONTENT_TYPE_OPTIONS, Value::Same(as_told)));
        }
        let (key, text) = match &names.file {
            None => ("body", config.body.clone().map_or_else(Bytes::new, Bytes::from)),
            Some(file) => ("file", file.clone()),
        };
        let body = if config.template {
            let parsed = match std::str::from_utf8(&text) {
                Ok(text) => {
                    Template::parse(text, names.published, false).map_err(|error| error.to_string())
                }
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
