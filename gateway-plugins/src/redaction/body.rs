//! A body on its way: what it is by its fields, and what of it may pass.

use bytes::Bytes;
use http::{HeaderMap, header};

use super::Unreadable;
use super::form::Form;
use super::json::Json;
use super::rules::Rules;
use super::text::Text;
use crate::coding::{Bounds, Coding, Undoing};

/// A body on its way.
pub(super) struct Body {
    coding: Undoing,
    kind: Kind,
}

/// How much may come of a coded body.
const BOUNDS: Bounds = Bounds { at_once: 1 << 20, times: 100, most: u64::MAX };

enum Kind {
    Json(Box<Json>),
    Text(Text),
    Form(Form),
}

impl Body {
    /// The body that these fields announce; `None` if it is neither text nor JSON.
    ///
    /// # Errors
    /// It cannot be seen what is in it; `decodes` tells whether codings are undone.
    pub(super) fn of(headers: &HeaderMap, decodes: bool) -> Result<Option<Self>, Unreadable> {
        let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
        let kind = kinds.next().map_or(Ok(""), |value| value.to_str());
        let kind = kind.ok().filter(|_| kinds.next().is_none());
        let kind = kind.ok_or(Unreadable::Because("its type is not readable"))?;
        let (kind, parameters) = kind.split_once(';').unwrap_or((kind, ""));
        let Some(kind) = Kind::named(&kind.trim().to_ascii_lowercase()) else { return Ok(None) };
        if !is_readable(parameters) {
            return Err(Unreadable::Because("its characters are coded in a way that is not read"));
        }
        let unknown = |_| Unreadable::Because("it is coded in a way that is not undone");
        let coding = Undoing::new(&Coding::of(headers).map_err(unknown)?, BOUNDS);
        if !decodes && !coding.is_identity() {
            return Err(Unreadable::Because("it is coded"));
        }
        Ok(Some(Self { coding, kind }))
    }

    /// Whether a coding is undone, so that the body does not have it any more.
    pub(super) fn is_decoded(&self) -> bool {
        !self.coding.is_identity()
    }

    /// What of a chunk, and of what is held, may pass.
    pub(super) fn push(
        &mut self,
        rules: &Rules,
        chunk: &[u8],
        last: bool,
    ) -> Result<Bytes, Unreadable> {
        let mut out = Vec::with_capacity(chunk.len());
        let kind = &mut self.kind;
        self.coding.push(chunk, last, |part, last| match kind {
            Kind::Json(json) => json.push(rules, part, last, &mut out),
            Kind::Text(text) => text.push(rules, part, last, &mut out),
            Kind::Form(form) => form.push(rules, part, last, &mut out),
        })?;
        Ok(out.into())
    }
}

impl Kind {
    fn named(kind: &str) -> Option<Self> {
        match kind {
            "application/x-www-form-urlencoded" => Some(Self::Form(Form::default())),
            // Messages of their own, in frames.
            _ if kind.starts_with("application/grpc") => None,
            _ if is_json(kind) => Some(Self::Json(Box::default())),
            ""
            | "application/xml"
            | "application/javascript"
            | "application/graphql"
            | "application/yaml"
            | "application/toml" => Some(Self::Text(Text::default())),
            // What is akin to JSON, such as `json5`, is text at least.
            _ if kind.starts_with("text/")
                || kind.ends_with("+xml")
                || kind.ends_with("+yaml")
                || kind.contains("json") =>
            {
                Some(Self::Text(Text::default()))
            }
            _ => None,
        }
    }
}

/// Whether a type is JSON, or several documents of it: `application/x-amz-json-1.1`, `application/problem+json`.
fn is_json(kind: &str) -> bool {
    let (_, subtype) = kind.split_once('/').unwrap_or(("", kind));
    let mut words = subtype.split(['+', '-', '.', '_']);
    words.any(|word| matches!(word, "json" | "ndjson" | "jsonl" | "jsonlines"))
}

/// Whether characters of ASCII are themselves in this text.
fn is_readable(parameters: &str) -> bool {
    parameters.split(';').all(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else { return true };
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        !name.trim().eq_ignore_ascii_case("charset")
            || matches!(value.as_str(), "" | "utf-8" | "utf8" | "us-ascii" | "ascii")
            || value.starts_with("iso-8859-")
            || value.starts_with("windows-125")
    })
}
