//! Every line is one line, and the JSON ones say what the record says.

use super::*;
use crate::telemetry::access_log::DEFAULT_FIELDS;
use crate::telemetry::connection::{ConnectionRecord, EndedBy};
use crate::telemetry::failure::FailureCode;
use crate::telemetry::record::{RequestRecord, field};
use http::header::{CONTENT_TYPE, USER_AGENT};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;

fn line(format: Format, fields: &[Field], record: &impl Logged, sample: f64) -> String {
    let redactor = Arc::new(Redactor::default());
    let mut line = Vec::new();
    LineFormat { format, fields: fields.to_vec(), redactor }.write(&mut line, record, sample);
    String::from_utf8(line).unwrap()
}

fn parsed(fields: &[Field], record: &impl Logged) -> Json {
    serde_json::from_str(&line(Format::Json, fields, record, 1.0)).unwrap()
}

#[test]
fn the_default_line_follows_the_semantic_conventions() {
    let line = parsed(DEFAULT_FIELDS, &RequestRecord::sample());

    let expected = json!({
        "time": "2025-11-20T19:49:28.123Z",
        "http.response.status_code": 200,
        "http.request.method": "GET",
        "url.scheme": "https",
        "server.address": "api.example.com",
        "url.path": "/users/550e8400-e29b-41d4-a716-446655440000/orders",
        "duration_ms": 12.345,
        "status_source": "upstream",
        "listener": "public",
        "route": "users",
        "upstream": "users",
        "endpoint": "10.0.0.1:8080",
        "attempts": 1,
        "retries": 0,
        "upstream_ms": 12.0,
        "plugin_ms": 0.042,
        "client.address": "203.0.113.7",
        "network.peer.address": "10.1.2.3",
        "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "network.protocol.version": "1.1",
        "http.request.body.size": 0,
        "http.response.body.size": 4096,
        "request_id": "01J9ZQ3V7K8M2N4P6R8T0W2Y4A",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "revision": 7
    });
    assert_eq!(line, expected);
}

#[test]
fn a_connection_has_the_fields_that_apply_to_it() {
    let request = RequestRecord::sample();
    let record = ConnectionRecord {
        time: request.time,
        duration: request.duration,
        listener: "databases",
        upstream: Some("orders"),
        attempts: request.attempts,
        server_name: Some("ada@example.com"),
        failure: Some(FailureCode::X7),
        ended_by: Some(EndedBy::Total),
        bytes_in: 12,
        bytes_out: 4096,
        client: request.peer,
        revision: 7,
    };
    let expected = json!({
        "time": "2025-11-20T19:49:28.123Z",
        "server.address": "***",
        "duration_ms": 12.345,
        "failure": "X7",
        "ended_by": "total",
        "listener": "databases",
        "upstream": "orders",
        "endpoint": "10.0.0.1:8080",
        "attempts": 1,
        "retries": 0,
        "client.address": "10.1.2.3",
        "network.peer.address": "10.1.2.3",
        "revision": 7,
        "network.transport": "tcp",
        "bytes_in": 12,
        "bytes_out": 4096
    });
    assert_eq!(parsed(DEFAULT_FIELDS, &record), expected);
    let text = line(Format::Text, &[Field::Transport, Field::Received], &record, 1.0);
    assert_eq!(text, "transport=tcp bytes_in=12\n");
    assert_eq!(parsed(&[Field::ConnectMs], &record), json!({"connect_ms": 0.9}));
}

#[test]
fn chosen_fields_come_in_their_order_and_the_share_of_a_sample_last() {
    let record = RequestRecord {
        plugin_times: &[("jwt", Duration::from_micros(30))],
        ended_by: Some("jwt"),
        failure: Some(FailureCode::U4),
        ..RequestRecord::sample()
    };

    let fields = [Field::Query, Field::Failure, Field::EndedBy, Field::Plugins, Field::AttemptList];
    assert_eq!(
        line(Format::Json, &fields, &record, 0.25),
        concat!(
            r#"{"url.query":"page=2&sort=name","failure":"U4","ended_by":"jwt","plugins":{"jwt":0.030},"#,
            r#""attempt_list":[{"endpoint":"10.0.0.1:8080","status":200,"started_ms":0.080,"#,
            r#""duration_ms":12.000,"connect_ms":0.900,"reused":false}],"sample":0.25}"#,
            "\n"
        )
    );
}

#[test]
fn a_text_line_reads_from_left_to_right() {
    let fields = [
        Field::Time,
        Field::Status,
        Field::Method,
        Field::Path,
        Field::DurationMs,
        Field::Route,
        Field::UserAgent,
        Field::Failure,
    ];
    let agent = field(USER_AGENT, "curl \"8\"\t");
    let record = RequestRecord { request_headers: &agent, ..RequestRecord::sample() };

    assert_eq!(
        line(Format::Text, &fields, &record, 0.1),
        "2025-11-20T19:49:28.123Z 200 GET /users/550e8400-e29b-41d4-a716-446655440000/orders \
         12.345ms route=users user_agent=\"curl \\\"8\\\"\\t\" sample=0.1\n"
    );
}

#[test]
fn any_text_comes_back_from_the_json_as_it_was() {
    let mut seed = 7u64;
    let alphabet: Vec<char> = (0..0x100)
        .filter_map(char::from_u32)
        .chain("…\u{2028}🦀\u{fffd}\u{10ffff}".chars())
        .collect();
    for _ in 0..2000 {
        let text: String = (0..20)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                alphabet[(seed >> 33) as usize % alphabet.len()]
            })
            .filter(|c| *c != '@' && *c != '%')
            .collect();
        let record = RequestRecord {
            route: Some(&text),
            request_id: Some(&text),
            ..RequestRecord::sample()
        };

        let json = line(Format::Json, DEFAULT_FIELDS, &record, 1.0);
        let back: Json = serde_json::from_str(&json).unwrap();
        assert_eq!(back["route"], text.as_str());
        assert_eq!(back["request_id"], text.as_str());
        for shown in [json, line(Format::Text, DEFAULT_FIELDS, &record, 1.0)] {
            assert!(shown.trim_end_matches('\n').chars().all(|c| !c.is_control()), "{shown:?}");
            assert_eq!(shown.matches('\n').count(), 1);
        }
    }
}

#[test]
fn secrets_in_any_part_of_a_request_do_not_reach_a_line() {
    const SECRET: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
    let path = format!("/a/{SECRET}");
    let query = format!("q={SECRET}&password=hunter2");
    let method = http::Method::from_bytes(SECRET.as_bytes()).unwrap();
    let (request, response) = (field(USER_AGENT, SECRET), field(CONTENT_TYPE, SECRET));
    let record = RequestRecord {
        method: &method,
        path: &path,
        query: Some(&query),
        host: Some(SECRET),
        request_headers: &request,
        request_id: Some(SECRET),
        response_headers: Some(&response),
        ..RequestRecord::sample()
    };

    for format in [Format::Json, Format::Text] {
        let shown = line(format, &Field::ALL, &record, 1.0);
        assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.matches("***").count(), 8, "{shown}");
    }
}

#[test]
fn a_long_value_is_cut_between_characters() {
    let long = "é".repeat(30_000);
    let agent = field(USER_AGENT, &long);
    let record = RequestRecord { request_headers: &agent, ..RequestRecord::sample() };

    let shown = parsed(&[Field::UserAgent], &record)["user_agent.original"].to_string();

    assert!(shown.len() < LONGEST_VALUE + 10 && shown.ends_with("é…\""), "{}", shown.len());
}

#[test]
#[ignore = "a measurement, meaningful in release mode only"]
fn cost_of_a_line() {
    let redactor = Arc::new(Redactor::default());
    let record = RequestRecord::sample();
    for format in [Format::Json, Format::Text] {
        let format =
            LineFormat { format, fields: DEFAULT_FIELDS.to_vec(), redactor: redactor.clone() };
        let mut line = Vec::new();
        let start = std::time::Instant::now();
        for _ in 0..1_000_000 {
            line.clear();
            format.write(&mut line, std::hint::black_box(&record), 1.0);
        }
        println!("{} bytes: {} ns", line.len(), start.elapsed().as_nanos() / 1_000_000);
    }
}
