//! The forms that gRPC comes in, told by the type of a message.

use http::{HeaderMap, header};

/// How a message of gRPC is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcForm {
    /// gRPC over HTTP/2: `application/grpc`.
    Plain,
    /// gRPC-Web, in bytes: `application/grpc-web`.
    Web,
    /// gRPC-Web in base64: `application/grpc-web-text`.
    WebText,
}

impl GrpcForm {
    /// The form of a message with these fields, if it is of gRPC.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?;
        Self::split(kind.as_bytes()).map(|(form, _)| form)
    }

    /// The form of the answer that a client with these fields reads, if it speaks gRPC: its own, or the one of gRPC-Web
    /// that `Accept` names.
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        let form = Self::of(headers)?;
        if !form.is_web() {
            return Some(form);
        }
        let lists = headers.get_all(header::ACCEPT).iter();
        let kinds = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
        let named = kinds.filter_map(|kind| Self::split(kind.trim_ascii()));
        named.map(|(form, _)| form).find(|form| form.is_web()).or(Some(form))
    }

    /// What a media type says: the form, and how messages are written in it, which is nothing or such as `+proto`.
    pub fn split(kind: &[u8]) -> Option<(Self, &[u8])> {
        let (name, rest) = kind.split_at_checked(Self::Plain.kind().len())?;
        if !name.eq_ignore_ascii_case(Self::Plain.kind().as_bytes()) {
            return None;
        }
        let name = rest.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
        let (form, written) =
            name.split_at(name.iter().position(|byte| *byte == b'+').unwrap_or(name.len()));
        let form = match form.to_ascii_lowercase().as_slice() {
            b"" => Self::Plain,
            b"-web" => Self::Web,
            b"-web-text" => Self::WebText,
            _ => return None,
        };
        Some((form, written))
    }

    /// Its media type.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Plain => "application/grpc",
            Self::Web => "application/grpc-web",
            Self::WebText => "application/grpc-web-text",
        }
    }

    /// Whether it is one of gRPC-Web's.
    pub const fn is_web(self) -> bool {
        matches!(self, Self::Web | Self::WebText)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn forms_are_told_by_their_types() {
        for (kind, expected) in [
            ("application/grpc", Some((GrpcForm::Plain, ""))),
            ("application/grpc+proto", Some((GrpcForm::Plain, "+proto"))),
            ("application/grpc;x=y", Some((GrpcForm::Plain, ""))),
            ("application/grpc-web", Some((GrpcForm::Web, ""))),
            ("Application/gRPC-Web+json ; charset=utf-8", Some((GrpcForm::Web, "+json"))),
            ("application/grpc-web-text", Some((GrpcForm::WebText, ""))),
            ("application/grpc-web-text+proto", Some((GrpcForm::WebText, "+proto"))),
            ("application/grpc-websocket", None),
            ("application/grpcs", None),
            ("application/json", None),
            ("", None),
        ] {
            let told = GrpcForm::split(kind.as_bytes());
            let expected = expected.map(|(form, written)| (form, written.as_bytes()));
            assert_eq!(told, expected, "{kind}");
        }
    }

    #[test]
    fn answers_have_the_form_that_is_asked_for() {
        for (kind, accept, expected) in [
            ("application/grpc-web+proto", "*/*", GrpcForm::Web),
            ("application/grpc-web", "a/b, application/grpc-web-text", GrpcForm::WebText),
            ("application/grpc-web-text", "application/grpc-web", GrpcForm::Web),
            ("application/grpc-web-text", "*/*, application/grpc", GrpcForm::WebText),
            ("application/grpc-web-text+proto", "", GrpcForm::WebText),
            ("application/grpc", "application/grpc-web-text", GrpcForm::Plain),
        ] {
            let fields = [(header::CONTENT_TYPE, kind), (header::ACCEPT, accept)];
            let fields = fields.map(|(name, value)| (name, HeaderValue::from_static(value)));
            assert_eq!(GrpcForm::accepted(&HeaderMap::from_iter(fields)), Some(expected), "{kind}");
        }
    }
}
