//! `Answer`: the head of what an endpoint answers, and the body that follows.

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use pingora::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

use super::http1::Lent;
use super::http2::Place;
use super::{GOODBYE, REFUSED};

/// An answer that has begun.
pub(super) struct Answer {
    pub(super) head: ResponseHeader,
    pub(super) body: Received,
}

/// The body of an answer, and the connection that it comes on.
pub(super) enum Received {
    Http2 {
        stream: RecvStream,
        /// Held until the stream is over.
        place: Place,
    },
    Http1 {
        body: Incoming,
        trailers: Option<HeaderMap>,
        /// Its last piece was read. Of chunks that is known only then.
        read: bool,
        lent: Lent,
    },
}

impl Received {
    /// The next piece; `None` after the last.
    pub(super) async fn data(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Http2 { stream, .. } => {
                let piece = stream.data().await.transpose().map_err(failed)?;
                if let Some(piece) = &piece {
                    // What was read may come again.
                    stream.flow_control().release_capacity(piece.len()).map_err(failed)?;
                }
                Ok(piece)
            }
            Self::Http1 { body, trailers, read, .. } => loop {
                let Some(frame) = body.frame().await else {
                    // Whoever looks at bodies is told that it ends; trailers tell it too.
                    let last = !std::mem::replace(read, true) && trailers.is_none();
                    return Ok(last.then(Bytes::new));
                };
                let frame = frame.map_err(|error| failed_http1(error, false))?;
                match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(frame) => *trailers = frame.into_trailers().ok(),
                }
            },
        }
    }

    /// Whether nothing more comes.
    ///
    /// # Errors
    /// It ended before its end.
    pub(super) fn is_over(&mut self) -> Result<bool> {
        match self {
            Self::Http2 { stream, .. } if stream.is_end_stream() => {
                // A stream that was reset has ended too; what it ended with is there at once.
                let waker = futures_util::task::noop_waker();
                let mut cx = std::task::Context::from_waker(&waker);
                match stream.poll_data(&mut cx) {
                    std::task::Poll::Ready(Some(Err(error))) => Err(failed(error)),
                    _ => Ok(true),
                }
            }
            Self::Http2 { .. } => Ok(false),
            Self::Http1 { body, read, .. } => Ok(*read || body.is_end_stream()),
        }
    }

    pub(super) async fn trailers(&mut self) -> Result<Option<HeaderMap>> {
        match self {
            Self::Http2 { stream, .. } => stream.trailers().await.map_err(failed),
            Self::Http1 { trailers, .. } => Ok(trailers.take()),
        }
    }

    /// The exchange is over: a connection that can be used again is given back.
    pub(super) fn finish(self) {
        if let Self::Http1 { body, lent, read, .. } = self
            && (read || body.is_end_stream())
        {
            lent.give_back();
        }
    }
}

/// Whether the endpoint ends the connection in peace and has not looked at the stream.
pub(super) fn says_goodbye(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR)
}

/// What an error on a stream is to Pingora.
pub(super) fn failed(error: h2::Error) -> Box<Error> {
    let goodbye = says_goodbye(&error);
    let refused = error.reason() == Some(Reason::REFUSED_STREAM);
    let kind = match () {
        () if goodbye => GOODBYE,
        () if refused => REFUSED,
        () if error.is_io() || error.is_remote() => ErrorType::ReadError,
        () => ErrorType::InvalidH2,
    };
    Error::because(kind, "HTTP/2", error)
}

/// The same of HTTP/1. A connection that was `idle` until now may have been closed by the endpoint before
/// it saw the request.
pub(super) fn failed_http1(error: hyper::Error, idle: bool) -> Box<Error> {
    let ended = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    let kind = match () {
        () if idle && ended => REFUSED,
        () if error.is_parse() => ErrorType::InvalidHTTPHeader,
        () => ErrorType::ReadError,
    };
    Error::because(kind, "HTTP/1", error)
}

/// A length that is said several times, or is none, is refused (RFC 9113, section 8.1.1).
pub(super) fn one_length(headers: &HeaderMap) -> Result<()> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    let digits = !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit);
    if digits && lengths.all(|other| other == first) {
        return Ok(());
    }
    Error::e_explain(ErrorType::InvalidH2, "the answer's length is unclear")
}
