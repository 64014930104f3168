//! Which answers are compressed, and what their heads say then.

use gateway_core::plugin::{HookError, RequestHeader, ResponseHeader};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::accept::Accepted;
use super::media::{Types, is_grpc};
use crate::coding::{Coding, is_coded};
use crate::vary::vary;

/// Which answers are compressed.
pub(super) struct Rules {
    pub(super) types: Types,
    /// The shortest body that is, in bytes, where its length is known.
    pub(super) min_size: u64,
}

/// How an answer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) coding: Coding,
    /// As it was, if it was announced.
    pub(super) length: Option<u64>,
}

/// What depends on the coding beside the body: digests of it (RFC 9530 and its forerunners). Of `Unencoded-Digest` nothing
/// does.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

impl Rules {
    /// Whether and how this answer is compressed; its head says so then, and whatever it depends on.
    pub(super) fn apply(
        &self,
        response: &mut ResponseHeader,
        request: &RequestHeader,
        accepted: Accepted,
    ) -> Result<Option<Chosen>, HookError> {
        if response.status == StatusCode::NOT_MODIFIED {
            self.confirm(response, request)?;
            return Ok(None);
        }
        let length = length(&response.headers);
        let is_short = length.is_some_and(|length| length < self.min_size)
            && !accepted.refuses_identity
            || length == Some(0);
        if is_short || !self.is_fit(response) {
            return Ok(None);
        }
        vary(response, &["Accept-Encoding"])?;
        let Some(coding) = accepted.coding else { return Ok(None) };
        response.insert_header(header::CONTENT_ENCODING, coding.name())?;
        response.remove_header(&header::CONTENT_LENGTH);
        response.remove_header(&header::ACCEPT_RANGES);
        for name in DIGESTS {
            response.remove_header(name);
        }
        weaken(response)?;
        Ok(Some(Chosen { coding, length }))
    }

    /// Whether an answer may be compressed, and is worth it, whoever asked for it.
    fn is_fit(&self, response: &ResponseHeader) -> bool {
        let headers = &response.headers;
        let status = response.status;
        let has_body = !status.is_informational()
            && !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
        // A part of a body is one of the body as it is.
        let is_whole =
            status != StatusCode::PARTIAL_CONTENT && !headers.contains_key(header::CONTENT_RANGE);
        has_body
            && is_whole
            && self.has_type(headers).unwrap_or(false)
            && !is_coded(headers)
            && may_transform(headers)
    }

    /// Whether a body of this type is compressed; `None` if the type is not told.
    fn has_type(&self, headers: &HeaderMap) -> Option<bool> {
        let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
        Some(self.types.have(kind) && !is_grpc(kind))
    }

    /// A client has the body already, perhaps compressed; then its tag is weak, and a cache would not know the strong one
    /// (RFC 9111, section 4.3.4). What an answer depends on is said here as well (RFC 9110, section 15.4.5).
    fn confirm(
        &self,
        response: &mut ResponseHeader,
        request: &RequestHeader,
    ) -> Result<(), HookError> {
        if self.has_type(&response.headers) == Some(false) {
            return Ok(());
        }
        vary(response, &["Accept-Encoding"])?;
        let Some(tag) = response.headers.get(header::ETAG) else { return Ok(()) };
        let weak = [b"W/", tag.as_bytes()].concat();
        let held = request.headers.get_all(header::IF_NONE_MATCH).iter();
        let mut held = held.flat_map(|tags| tags.as_bytes().split(|byte| *byte == b','));
        if held.any(|tag| tag.trim_ascii() == weak) {
            weaken(response)?;
        }
        Ok(())
    }
}

/// Whether what passes may become another (RFC 9111, sections 5.2.1.6 and 5.2.2.6).
pub(super) fn may_transform(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::CACHE_CONTROL).iter();
    let mut directives = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    !directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A strong tag is one of the same bytes (RFC 9110, section 8.8.1), and they are others now. What is no tag goes.
fn weaken(response: &mut ResponseHeader) -> Result<(), HookError> {
    let Some(tag) = response.headers.get(header::ETAG) else { return Ok(()) };
    let tag = tag.as_bytes();
    if tag.starts_with(b"W/") {
        return Ok(());
    }
    if !tag.starts_with(b"\"") {
        response.remove_header(&header::ETAG);
        return Ok(());
    }
    let weak = HeaderValue::from_bytes(&[b"W/", tag].concat())?;
    response.insert_header(header::ETAG, weak)?;
    Ok(())
}
