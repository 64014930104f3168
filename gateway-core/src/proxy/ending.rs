//! How an answer that has begun ends: as the endpoint ends it, or before, because somebody has to end it. Clients of gRPC
//! are told why, where an answer's end has room for that.

use bytes::Bytes;
use http::HeaderMap;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::exchange::Open;
use super::{answer, grpc, refuse};
use crate::grpc::GrpcForm;
use crate::plugin::Reply;

impl Open {
    /// Runs one chunk of the answer past the plugins. Where one of them ends the answer, what it left of the chunk goes
    /// down, and the attempt is given up, which has Pingora come to [`end`].
    pub(super) fn pass_down(
        &mut self,
        chunk: &mut Option<Bytes>,
        last: bool,
        head: &RequestHeader,
    ) -> Result<()> {
        if self.refused.is_some() {
            // What was on its way meanwhile.
            *chunk = Some(Bytes::new());
            return if last { Err(ended()) } else { Ok(()) };
        }
        if !self.chain.reads_response_body() {
            return Ok(());
        }
        let passed = self.chain.response_body(chunk, last, head, &mut self.ctx);
        let Some(reply) = passed.map_err(|reply| refuse(self, reply))? else { return Ok(()) };
        let gives_up = !last && self.target.as_ref().is_some_and(|target| target.is_stream);
        if !gives_up {
            return Err(refuse(self, reply));
        }
        self.refused = Some(reply);
        self.give_up();
        Ok(())
    }

    /// Runs the trailers past the plugins, for which the body ends here. What they held of it goes in place of the
    /// trailers. Pingora would pass them on in spite of an error, so that whoever refuses is heard in them.
    pub(super) fn pass_trailers(
        &mut self,
        trailers: &mut HeaderMap,
        head: &RequestHeader,
    ) -> Option<Bytes> {
        if let Some(reply) = self.refused.take() {
            *trailers = self.last_words(&reply);
        } else if let Some(said) = grpc::status(trailers).filter(|_| self.grpc.is_some()) {
            self.ctx.grpc = Some(said);
            if let Some(target) = self.target.as_mut() {
                target.answer = Some(said.as_http());
            }
        }
        self.answered = true;
        if !self.chain.reads_response_body() {
            return None;
        }
        match self.past_plugins(trailers, head) {
            Ok(rest) => rest,
            Err(reply) => {
                *trailers = self.last_words(&reply);
                None
            }
        }
    }

    /// What plugins make of the end of an answer.
    fn past_plugins(
        &mut self,
        trailers: &HeaderMap,
        head: &RequestHeader,
    ) -> std::result::Result<Option<Bytes>, Box<Reply>> {
        let mut rest = None;
        self.chain.response_trailers(trailers, head, &mut self.ctx)?;
        match self.chain.response_body(&mut rest, true, head, &mut self.ctx)? {
            Some(reply) => Err(reply),
            None => Ok(rest.filter(|rest| !rest.is_empty())),
        }
    }

    /// The trailers that say why an answer ends; none for who would not read them.
    fn last_words(&mut self, reply: &Reply) -> HeaderMap {
        if let Some(code) = reply.failure {
            self.ctx.fail(code);
        }
        if self.grpc.is_none() {
            return HeaderMap::new();
        }
        let status = grpc::of_reply(reply);
        self.ctx.grpc = Some(status);
        grpc::trailers(reply, status)
    }
}

#[cold]
fn ended() -> Box<Error> {
    Error::explain(ErrorType::Custom("ended"), "the answer was ended by the gateway")
}

/// Ends an answer that has begun and cannot go on, in a call of gRPC: with a status, as if the endpoint had ended it so.
/// Any other is cut, as is one of gRPC-Web that no plugin writes, or that stands amid a message.
pub(super) async fn end(session: &mut Session, open: &mut Open, reply: &Reply) -> Result<()> {
    let written = session.response_written();
    let Some(form) = written.and_then(|head| GrpcForm::of(&head.headers)) else { return Ok(()) };
    if open.grpc.is_none() || open.answered {
        return Ok(());
    }
    let trailers = open.last_words(reply);
    let rest = match open.past_plugins(&trailers, session.req_header()) {
        Ok(rest) => rest,
        Err(_) => return Ok(()),
    };
    match (rest, session.as_downstream_mut()) {
        (Some(rest), _) => session.write_response_body(Some(rest), true).await?,
        (None, ServerSession::H2(stream)) if form == GrpcForm::Plain => {
            stream.write_trailers(trailers)?;
        }
        _ => return Ok(()),
    }
    open.answered = true;
    answer::stay(session, open).await;
    Ok(())
}
