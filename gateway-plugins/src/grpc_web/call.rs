//! One call on its way through the gateway: the request's body to gRPC, the answer's body to gRPC-Web.

use bytes::{BufMut, Bytes, BytesMut};
use gateway_core::GrpcForm;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::grpc::{Frames, Text, Unreadable, encoded};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// `UNKNOWN`.
const UNKNOWN: HeaderValue = HeaderValue::from_static("2");
const UNTOLD: HeaderValue = HeaderValue::from_static("the answer ended without a status");
/// The flags of the frame that trailers come in.
const TRAILERS: u8 = 0x80;

/// A call, as its client speaks.
pub(super) struct Call {
    /// What decodes the request's body, if it is in base64.
    text: Option<Text>,
    /// How the client reads answers.
    pub(super) reads: GrpcForm,
    /// The answer, if it is one of gRPC.
    pub(super) answer: Option<Answer>,
}

/// The body of an answer.
pub(super) struct Answer {
    form: GrpcForm,
    frames: Frames,
    trailers: Option<HeaderMap>,
    /// The head says how the call ended: nothing comes behind it.
    is_told: bool,
}

impl Call {
    pub(super) fn new(form: GrpcForm, reads: GrpcForm) -> Self {
        let text = (form == GrpcForm::WebText).then(Text::default);
        Self { text, reads, answer: None }
    }

    /// Whether the endpoint gets as many bytes as the client sends.
    pub(super) fn keeps_length(&self) -> bool {
        self.text.is_none()
    }

    /// A chunk of the request as the endpoint reads it.
    pub(super) fn ask(&mut self, chunk: &mut Option<Bytes>, last: bool) -> Result<(), Unreadable> {
        if let Some(text) = &mut self.text {
            let piece = chunk.take().unwrap_or_default();
            *chunk = Some(text.push(&piece, last)?.into());
        }
        Ok(())
    }
}

impl Answer {
    /// An answer to a client that reads this form.
    pub(super) fn new(form: GrpcForm, head: &HeaderMap) -> Self {
        let is_told = head.contains_key(STATUS);
        Self { form, frames: Frames::default(), trailers: None, is_told }
    }

    /// What comes behind the body.
    pub(super) fn end_with(&mut self, trailers: &HeaderMap) {
        self.trailers = Some(trailers.clone());
    }

    /// A chunk of the answer as the client reads it, with the trailers behind the last.
    pub(super) fn write(&mut self, chunk: &mut Option<Bytes>, last: bool) {
        let piece = chunk.take().unwrap_or_default();
        // The length of a message is four bytes long, so that none is too long.
        let _ = self.frames.follow(&piece, u64::MAX);
        let end = if last { self.end() } else { None };
        let whole = match end {
            None => piece,
            Some(end) if piece.is_empty() => end,
            Some(end) => [piece, end].concat().into(),
        };
        *chunk = Some(match self.form {
            GrpcForm::WebText => encoded(&whole).into(),
            GrpcForm::Web | GrpcForm::Plain => whole,
        });
    }

    /// The last frame. There is none behind a part of a message: it would be taken for more of that.
    fn end(&mut self) -> Option<Bytes> {
        if !self.frames.is_between() {
            return None;
        }
        match self.trailers.take() {
            Some(trailers) => Some(framed(&trailers)),
            None if self.is_told => None,
            None => Some(framed(&HeaderMap::from_iter([(STATUS, UNKNOWN), (MESSAGE, UNTOLD)]))),
        }
    }
}

/// Trailers as the frame that a body ends with: each is a line, as in a head of HTTP/1.
fn framed(trailers: &HeaderMap) -> Bytes {
    let line = |name: &HeaderName, value: &HeaderValue| name.as_str().len() + value.len() + 3;
    let length = trailers.iter().map(|(name, value)| line(name, value)).sum::<usize>();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(TRAILERS);
    // What HTTP/2 lets through as fields is far below 4 GiB.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    for (name, value) in trailers {
        frame.put_slice(name.as_str().as_bytes());
        frame.put_u8(b':');
        frame.put_slice(value.as_bytes());
        frame.put_slice(b"\r\n");
    }
    frame.freeze()
}
