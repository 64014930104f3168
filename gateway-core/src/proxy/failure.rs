//! The one file that decides what a failure is called and which status it has.

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};

use crate::telemetry::FailureCode;
use crate::upstream::{GOODBYE, REFUSED};

/// How far an exchange had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// No connection to an endpoint yet.
    Connecting,
    /// Connected; no response head yet.
    AwaitingHead,
    /// A response head has gone down.
    Responding,
}

/// The status that a failure has before a response head went down. `None` where no answer can
/// reach the client; such a request is logged as 499 if it failed before its response.
pub fn status(code: FailureCode) -> Option<StatusCode> {
    use FailureCode::*;
    Some(match code {
        D1 | D2 | D5 => return None,
        D3 | P8 => StatusCode::BAD_REQUEST,
        D4 => StatusCode::REQUEST_TIMEOUT,
        P1 => StatusCode::NOT_FOUND,
        P2 => StatusCode::METHOD_NOT_ALLOWED,
        P3 => StatusCode::UNAUTHORIZED,
        P4 => StatusCode::FORBIDDEN,
        P6 => StatusCode::TOO_MANY_REQUESTS,
        P5 | P7 | P9 | U1 | U2 | U3 | U5 | U8 | U9 | G2 | G3 => StatusCode::SERVICE_UNAVAILABLE,
        U4 | X3 | X4 | X7 => StatusCode::GATEWAY_TIMEOUT,
        U6 | U7 | X1 | X2 | X5 | X6 => StatusCode::BAD_GATEWAY,
        P10 | P11 | G1 => StatusCode::INTERNAL_SERVER_ERROR,
    })
}

/// The status in the log for a client that left before its response (nginx's convention).
pub(super) const CLIENT_GONE: u16 = 499;

/// What to call an error that Pingora reports.
pub(super) fn code(error: &Error, progress: Progress) -> FailureCode {
    match (error.esource(), progress) {
        (ErrorSource::Downstream, _) if is_late(error) => FailureCode::D4,
        (ErrorSource::Downstream, _) => downstream(error.etype(), progress),
        (_, Progress::Connecting) => connecting(error),
        (ErrorSource::Upstream, _) => exchange(error.etype(), progress),
        (ErrorSource::Internal | ErrorSource::Unset, _) => FailureCode::G1,
    }
}

/// Whether the connection itself ended it because the client took nothing in time.
fn is_late(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut)
}

fn downstream(kind: &ErrorType, progress: Progress) -> FailureCode {
    match kind {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => FailureCode::D4,
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 | ErrorType::ConnectError => {
            FailureCode::D3
        }
        ErrorType::Custom(_) | ErrorType::CustomCode(..) => FailureCode::D3,
        _ if progress == Progress::Responding => FailureCode::D2,
        _ => FailureCode::D1,
    }
}

fn connecting(error: &Error) -> FailureCode {
    match error.etype() {
        ErrorType::ConnectTimedout => FailureCode::U4,
        ErrorType::ConnectRefused => FailureCode::U3,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::TLSWantX509Lookup
        | ErrorType::HandshakeError => FailureCode::U6,
        ErrorType::InvalidCert => FailureCode::U7,
        // What answers there does not speak the protocol.
        ErrorType::InvalidH2 => FailureCode::X5,
        ErrorType::SocketError | ErrorType::BindError | ErrorType::InternalError => FailureCode::G2,
        _ => FailureCode::U5,
    }
}

fn exchange(kind: &ErrorType, progress: Progress) -> FailureCode {
    let responding = progress == Progress::Responding;
    match kind {
        refused if (*refused == REFUSED || *refused == GOODBYE) && !responding => FailureCode::X1,
        ErrorType::ReadTimedout if responding => FailureCode::X4,
        ErrorType::ReadTimedout => FailureCode::X3,
        ErrorType::WriteTimedout => FailureCode::X4,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => {
            if responding { FailureCode::X2 } else { FailureCode::X1 }
        }
        _ if responding => FailureCode::X2,
        _ => FailureCode::X5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_status_of_its_group() {
        let table = [
            ("D1", None),
            ("D3", Some(400)),
            ("D4", Some(408)),
            ("P1", Some(404)),
            ("P2", Some(405)),
            ("P6", Some(429)),
            ("P11", Some(500)),
            ("U3", Some(503)),
            ("U4", Some(504)),
            ("U6", Some(502)),
            ("X1", Some(502)),
            ("X3", Some(504)),
            ("X7", Some(504)),
            ("G1", Some(500)),
            ("G2", Some(503)),
        ];
        for (name, expected) in table {
            let code = FailureCode::ALL.iter().find(|code| code.code() == name).unwrap();
            assert_eq!(status(*code).map(|status| status.as_u16()), expected, "{name}");
        }
    }

    #[test]
    fn the_same_error_is_called_after_the_moment_it_came_in() {
        let mut error = Error::new(ErrorType::ConnectionClosed);
        error.as_up();

        assert_eq!(code(&error, Progress::AwaitingHead), FailureCode::X1);
        assert_eq!(code(&error, Progress::Responding), FailureCode::X2);
    }
}
