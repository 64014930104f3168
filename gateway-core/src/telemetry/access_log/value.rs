//! What a field holds for one request, redacted and ready to be written in either format.

use super::field::Field;
use crate::telemetry::connection::ConnectionRecord;
use crate::telemetry::record::{AttemptRecord, RequestRecord};
use crate::telemetry::redaction::Redactor;
use http::Version;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

/// One value; a field without one is left out of the line.
pub(super) enum Value<'a> {
    Time(SystemTime),
    Text(Cow<'a, str>),
    Number(u64),
    Millis(Duration),
    Address(IpAddr),
    Endpoint(SocketAddr),
    Attempts(&'a [AttemptRecord]),
    Plugins(&'a [(&'a str, Duration)]),
}

/// What a line can be written of.
pub(super) trait Logged {
    /// What a field holds. Whatever a client or an upstream chose freely is redacted here.
    fn value(&self, field: Field, redactor: &Redactor) -> Option<Value<'_>>;

    fn duration(&self) -> Duration;

    fn is_error(&self) -> bool;
}

impl<'a> Logged for RequestRecord<'a> {
    fn duration(&self) -> Duration {
        self.duration
    }

    fn is_error(&self) -> bool {
        self.is_error()
    }

    fn value(&self, field: Field, redactor: &Redactor) -> Option<Value<'a>> {
        let record = self;
        let name = |text: &'a str| Value::Text(Cow::Borrowed(text));
        let free = |text: &'a str| Value::Text(redactor.text(text));
        let of_header = |text: Cow<'a, str>| match text {
            Cow::Borrowed(text) => free(text),
            Cow::Owned(text) => Value::Text(redactor.text(&text).into_owned().into()),
        };
        Some(match field {
            Field::Time => Value::Time(record.time),
            Field::Method => free(record.method.as_str()),
            Field::Scheme => name(record.scheme),
            Field::Host => free(without_port(record.host?)),
            Field::Path => Value::Text(redactor.path(record.path)),
            Field::Query => Value::Text(redactor.query(record.query?)),
            Field::Status => Value::Number(record.status?.into()),
            Field::StatusSource => name(record.status_source.name()),
            Field::GrpcStatus => Value::Number(record.grpc_status?.number().into()),
            Field::Failure => name(record.failure?.code()),
            Field::DurationMs => Value::Millis(record.duration),
            Field::UpstreamMs => Value::Millis(record.phases.upstream?),
            Field::ConnectMs => Value::Millis(record.phases.upstream_connect?),
            Field::FirstByteMs => Value::Millis(record.phases.upstream_first_byte?),
            Field::PluginMs => Value::Millis(record.phases.plugins),
            Field::Plugins => Value::Plugins(record.plugin_times),
            Field::EndedBy => name(record.ended_by?),
            Field::Listener => name(record.listener),
            Field::Route => name(record.route?),
            Field::Upstream => name(record.upstream?),
            Field::Endpoint => Value::Endpoint(record.endpoint()?),
            Field::Attempts => Value::Number(record.attempts.len() as u64),
            Field::AttemptList => Value::Attempts(record.attempts),
            Field::Retries => Value::Number(record.retries.into()),
            Field::Client => Value::Address(record.client),
            Field::Peer => Value::Address(record.peer.ip()),
            Field::UserAgent => of_header(record.user_agent()?),
            Field::Protocol => name(protocol_version(record.protocol)),
            Field::BytesIn => Value::Number(record.bytes_in),
            Field::BytesOut => Value::Number(record.bytes_out),
            Field::ContentType => of_header(record.response_content_type()?),
            Field::Consumer => name(record.consumer?),
            Field::RequestId => free(record.request_id?),
            Field::TraceId => Value::Text(Cow::Owned(record.trace_id()?.to_string())),
            Field::Revision => Value::Number(record.revision),
            Field::Transport | Field::Received | Field::Sent => return None,
        })
    }
}

impl<'a> Logged for ConnectionRecord<'a> {
    fn duration(&self) -> Duration {
        self.duration
    }

    fn is_error(&self) -> bool {
        self.failure.is_some()
    }

    fn value(&self, field: Field, redactor: &Redactor) -> Option<Value<'a>> {
        let name = |text: &'a str| Value::Text(Cow::Borrowed(text));
        let connect = || self.attempts.last()?.connect;
        Some(match field {
            Field::Time => Value::Time(self.time),
            Field::Transport => name("tcp"),
            Field::Host => Value::Text(redactor.text(self.server_name?)),
            Field::Failure => name(self.failure?.code()),
            Field::DurationMs => Value::Millis(self.duration),
            Field::ConnectMs => Value::Millis(connect()?),
            Field::EndedBy => name(self.ended_by?.name()),
            Field::Listener => name(self.listener),
            Field::Upstream => name(self.upstream?),
            Field::Endpoint => Value::Endpoint(self.attempts.last()?.endpoint),
            Field::Attempts => Value::Number(self.attempts.len() as u64),
            Field::AttemptList => Value::Attempts(self.attempts),
            Field::Retries => Value::Number(self.attempts.len().saturating_sub(1) as u64),
            Field::Client | Field::Peer => Value::Address(self.client.ip()),
            Field::Received => Value::Number(self.bytes_in),
            Field::Sent => Value::Number(self.bytes_out),
            Field::Revision => Value::Number(self.revision),
            _ => return None,
        })
    }
}

fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// `[::1]:80` and `a:80` without the port; `::1` stays whole.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            let bare = !name.contains(':') || name.ends_with(']');
            if bare { name } else { host }
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_cut_off_and_an_address_stays_whole() {
        for (host, expected) in [
            ("a.example", "a.example"),
            ("a.example:8443", "a.example"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("2001:db8::1", "2001:db8::1"),
            ("a:b", "a:b"),
            (":", ""),
        ] {
            assert_eq!(without_port(host), expected);
        }
    }
}
