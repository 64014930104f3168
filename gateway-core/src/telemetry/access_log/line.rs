//! One line of the access log: JSON for machines, text for terminals.

use super::Format;
use super::field::Field;
use super::value::{Logged, Value};
use super::write::{push_escaped, push_ip, push_millis, push_number, push_time};
use crate::telemetry::record::AttemptRecord;
use crate::telemetry::redaction::Redactor;
use std::io::Write;
use std::net::SocketAddr;

/// Longer values are cut, so that a client cannot fill the disk with one header.
const LONGEST_VALUE: usize = 4096;

/// Which fields, in which format, redacted by which rules.
pub(super) struct LineFormat {
    pub(super) format: Format,
    pub(super) fields: Vec<Field>,
    pub(super) redactor: std::sync::Arc<Redactor>,
}

impl LineFormat {
    /// Appends one line with its line end; `sample` is the share of such lines that is kept.
    pub(super) fn write(&self, line: &mut Vec<u8>, record: &impl Logged, sample: f64) {
        match self.format {
            Format::Json => self.json(line, record, sample),
            Format::Text => self.text(line, record, sample),
        }
        line.push(b'\n');
    }

    fn json(&self, line: &mut Vec<u8>, record: &impl Logged, sample: f64) {
        line.push(b'{');
        for field in &self.fields {
            if let Some(value) = record.value(*field, &self.redactor) {
                push_key(line, field.name());
                push_json(line, &value);
            }
        }
        if sample < 1.0 {
            push_key(line, "sample");
            let _ = write!(line, "{sample}");
        }
        line.push(b'}');
    }

    fn text(&self, line: &mut Vec<u8>, record: &impl Logged, sample: f64) {
        let start = line.len();
        for field in &self.fields {
            let Some(value) = record.value(*field, &self.redactor) else {
                continue;
            };
            if line.len() > start {
                line.push(b' ');
            }
            if !speaks_for_itself(*field) {
                line.extend_from_slice(short_name(*field).as_bytes());
                line.push(b'=');
            }
            push_plain(line, &value);
        }
        if sample < 1.0 {
            let _ = write!(line, " sample={sample}");
        }
    }
}

/// Fields that a reader knows by their look.
fn speaks_for_itself(field: Field) -> bool {
    use Field::*;
    matches!(field, Time | Status | Method | Scheme | Host | Path | DurationMs)
}

/// The name in a text line, where the semantic conventions are too long.
fn short_name(field: Field) -> &'static str {
    match field {
        Field::Query => "query",
        Field::Client => "client",
        Field::Peer => "peer",
        Field::UserAgent => "user_agent",
        Field::Protocol => "protocol",
        Field::BytesIn => "bytes_in",
        Field::BytesOut => "bytes_out",
        Field::Transport => "transport",
        Field::ContentType => "content_type",
        other => other.name(),
    }
}

fn push_key(line: &mut Vec<u8>, name: &str) {
    if !line.ends_with(b"{") {
        line.push(b',');
    }
    line.push(b'"');
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
}

fn push_json(line: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Text(text) => push_text(line, text),
        Value::Number(number) => push_number(line, *number),
        Value::Millis(duration) => push_millis(line, *duration),
        Value::Attempts(attempts) => push_list(line, attempts, push_attempt),
        Value::Plugins(times) => {
            line.push(b'{');
            for (place, (name, time)) in times.iter().enumerate() {
                if place > 0 {
                    line.push(b',');
                }
                push_text(line, name);
                line.push(b':');
                push_millis(line, *time);
            }
            line.push(b'}');
        }
        Value::Time(_) | Value::Address(_) | Value::Endpoint(_) => {
            line.push(b'"');
            push_plain(line, value);
            line.push(b'"');
        }
    }
}

fn push_plain(line: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Time(time) => push_time(line, *time),
        Value::Text(text) => push_word(line, text),
        Value::Number(number) => push_number(line, *number),
        Value::Millis(duration) => {
            push_millis(line, *duration);
            line.extend_from_slice(b"ms");
        }
        Value::Address(address) => push_ip(line, *address),
        Value::Endpoint(endpoint) => push_endpoint(line, *endpoint),
        Value::Attempts(_) | Value::Plugins(_) => push_json(line, value),
    }
}

fn push_text(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    if text.len() <= LONGEST_VALUE {
        push_escaped(line, text);
    } else {
        push_escaped(line, &text[..text.floor_char_boundary(LONGEST_VALUE)]);
        line.extend_from_slice("…".as_bytes());
    }
    line.push(b'"');
}

/// Bare if it can be told from what stands around it, else quoted.
fn push_word(line: &mut Vec<u8>, text: &str) {
    let bare = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if !text.is_empty() && text.len() <= LONGEST_VALUE && text.bytes().all(bare) {
        line.extend_from_slice(text.as_bytes());
    } else {
        push_text(line, text);
    }
}

fn push_endpoint(line: &mut Vec<u8>, endpoint: SocketAddr) {
    match endpoint {
        SocketAddr::V4(v4) => {
            push_ip(line, (*v4.ip()).into());
            line.push(b':');
            push_number(line, v4.port().into());
        }
        SocketAddr::V6(v6) => {
            let _ = write!(line, "{v6}");
        }
    }
}

fn push_list<T>(line: &mut Vec<u8>, items: &[T], push: fn(&mut Vec<u8>, &T)) {
    line.push(b'[');
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            line.push(b',');
        }
        push(line, item);
    }
    line.push(b']');
}

fn push_attempt(line: &mut Vec<u8>, attempt: &AttemptRecord) {
    line.push(b'{');
    push_key(line, "endpoint");
    push_json(line, &Value::Endpoint(attempt.endpoint));
    if let Some(failure) = attempt.failure {
        push_key(line, "failure");
        push_text(line, failure.code());
    }
    if let Some(status) = attempt.status {
        push_key(line, "status");
        push_number(line, status.into());
    }
    if attempt.lost {
        push_key(line, "lost");
        line.extend_from_slice(b"true");
    }
    push_key(line, "started_ms");
    push_millis(line, attempt.started);
    push_key(line, "duration_ms");
    push_millis(line, attempt.duration);
    if let Some(connect) = attempt.connect {
        push_key(line, "connect_ms");
        push_millis(line, connect);
    }
    push_key(line, "reused");
    line.extend_from_slice(if attempt.reused { b"true" } else { b"false" });
    line.push(b'}');
}

#[cfg(test)]
mod tests;
