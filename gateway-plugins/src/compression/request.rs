//! Undoes the codings of requests before the upstream sees them.

use bytes::Bytes;
use gateway_core::plugin::{Reply, RequestHeader};
use gateway_core::telemetry::FailureCode;
use http::{HeaderValue, StatusCode, header};

use crate::coding::{Bounds, Coding, Fault, Undoing};

/// What is undone of requests.
pub(super) struct Decompress {
    pub(super) codings: Box<[Coding]>,
    pub(super) bounds: Bounds,
    /// The codings, as they are told to who sent others.
    pub(super) accepted: HeaderValue,
}

/// What does not hold any more once a coding is undone (RFC 9530 and its forerunners).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

impl Decompress {
    /// The codings of a request that are to be undone.
    ///
    /// # Errors
    /// There is one that is not undone; the answer tells which are (RFC 7694, section 3).
    pub(super) fn look(&self, head: &RequestHeader) -> Result<Vec<Coding>, Reply> {
        if let Ok(applied) = Coding::of(&head.headers)
            && applied.iter().all(|coding| self.codings.contains(coding))
        {
            return Ok(applied);
        }
        let detail = "the request's body is coded in a way that is not undone here";
        let mut reply = Reply::problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
        reply.set(header::ACCEPT_ENCODING, self.accepted.clone());
        Err(reply.because(FailureCode::P8))
    }

    /// Begins to undo what this attempt's body is coded in, which its head says nothing of any more. A plugin listed before
    /// may have done that.
    pub(super) fn begin(&self, head: &mut RequestHeader) -> Option<Undoing> {
        let applied = Coding::of(&head.headers).ok().filter(|applied| !applied.is_empty())?;
        head.remove_header(&header::CONTENT_ENCODING);
        for name in DIGESTS {
            head.remove_header(name);
        }
        Some(Undoing::new(&applied, self.bounds))
    }
}

/// What is in a chunk.
///
/// # Errors
/// It cannot be told, or would be too much; what to answer.
pub(super) fn undo(undoing: &mut Undoing, chunk: &[u8], last: bool) -> Result<Bytes, Reply> {
    let mut plain = Vec::with_capacity(chunk.len());
    let undone = undoing.push(chunk, last, |part, _| {
        plain.extend_from_slice(part);
        Ok(())
    });
    match undone {
        Ok(()) => Ok(plain.into()),
        Err(fault) => Err(refusal(fault)),
    }
}

fn refusal(fault: Fault) -> Reply {
    let status = match fault {
        Fault::Malformed => StatusCode::BAD_REQUEST,
        Fault::Swells | Fault::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
    };
    let detail = format!("the request's body cannot be decompressed: {fault}");
    Reply::problem(status, &detail).because(FailureCode::P8).closing()
}
