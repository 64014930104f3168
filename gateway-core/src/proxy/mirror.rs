//! What passes by of a request whose route has a mirror.

use bytes::Bytes;
use http::HeaderMap;
use pingora_http::{RequestHeader, ResponseHeader};

use super::exchange::Open;
use crate::mirror::{Copy, Original};

/// What is copied of a request, or compared.
#[derive(Default)]
pub(super) enum Mirroring {
    /// Whether it is copied is not decided.
    #[default]
    Undecided,
    /// Nothing, or nothing any more.
    None,
    /// Its body passes by.
    Copying(Box<Copy>),
    /// Its answer does.
    Comparing(Box<Original>),
}

impl Open {
    /// A request's first attempt begins, with this head.
    pub(super) fn begin_to_mirror(&mut self, head: &RequestHeader, is_bodiless: bool) {
        let Some(mirror) = self.ctx.route().and_then(|route| route.mirror.as_ref()) else { return };
        match &mut self.mirroring {
            // Its body comes again.
            Mirroring::Copying(copy) => return copy.restart(),
            Mirroring::Comparing(_) | Mirroring::None => return,
            Mirroring::Undecided => {}
        }
        let copy = match self.upgrade {
            None => mirror.begin(head, rand::random()),
            // What follows is no request.
            Some(_) => None,
        };
        self.mirroring = copy.map_or(Mirroring::None, Mirroring::Copying);
        if is_bodiless {
            self.send_copy();
        }
    }

    /// A piece of its body is on its way up, or the last one was.
    pub(super) fn mirror_body(&mut self, piece: Option<&Bytes>, ends: bool) {
        let Mirroring::Copying(_) = &self.mirroring else { return };
        if let Some(piece) = piece
            && let Mirroring::Copying(copy) =
                std::mem::replace(&mut self.mirroring, Mirroring::None)
        {
            self.mirroring = copy.take(piece).map_or(Mirroring::None, Mirroring::Copying);
        }
        if ends {
            self.send_copy();
        }
    }

    fn send_copy(&mut self) {
        self.mirroring = match std::mem::replace(&mut self.mirroring, Mirroring::None) {
            Mirroring::Copying(copy) => copy.send().map_or(Mirroring::None, Mirroring::Comparing),
            other => other,
        };
    }

    /// The head of an answer that is passed on, as the endpoint sent it.
    pub(super) fn mirrored_head(&mut self, head: &ResponseHeader) {
        if let Mirroring::Comparing(original) = &mut self.mirroring {
            original.head(head);
        }
    }

    /// A piece of its body, as the endpoint sent it.
    pub(super) fn mirrored_body(&mut self, piece: Option<&Bytes>) {
        if let (Mirroring::Comparing(original), Some(piece)) = (&mut self.mirroring, piece) {
            original.piece(piece);
        }
    }

    /// Its trailers, as the endpoint sent them.
    pub(super) fn mirrored_trailers(&mut self, trailers: &HeaderMap) {
        if let Mirroring::Comparing(original) = &mut self.mirroring {
            original.trailers(trailers);
        }
    }

    /// The request is over.
    pub(super) fn end_mirroring(&mut self, is_well: bool) {
        match std::mem::replace(&mut self.mirroring, Mirroring::None) {
            Mirroring::Copying(copy) => copy.abandon(),
            Mirroring::Comparing(mut original) if is_well => original.end(),
            _ => {}
        }
    }
}
