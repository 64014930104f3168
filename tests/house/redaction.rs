//! Secrets taken out of what passes a whole gateway.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway_core::Gateway;
use gateway_tests::{Gate, Origin, Response};

const SECRET: &str = "ghp_0123456789abcdefABCDEF";

fn config(origin: &Origin, options: &str, more: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 2}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         plugins: [{{kind: redaction, options: {options}}}]\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]{more}}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    )
}

fn gate(config: &str) -> Gate {
    Gate::with(Gateway::builder().plugins(gateway_plugins::all()), config)
}

/// An origin that keeps the bodies it gets and answers with this.
fn keeping(answer: Vec<u8>) -> (Origin, Arc<Mutex<Vec<String>>>) {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = bodies.clone();
    let origin = Origin::scripted(move |exchange| {
        let body = String::from_utf8_lossy(&exchange.body).into_owned();
        kept.lock().expect("it lives").push(body);
        let is_head = exchange.head.starts_with("HEAD");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("it has a head");
        exchange.write(if is_head { &answer[..end + 4] } else { &answer })
    });
    (origin, bodies)
}

fn answer(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn post(gate: &Gate, target: &str, fields: &str, body: &str) -> Response {
    gate.exchange(format!(
        "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    ))
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn what_goes_up_has_no_secrets_and_neither_has_the_log() {
    let (origin, bodies) = keeping(answer("", b"ok"));
    let options = "{surfaces: [request_headers, query, request_body], keys: [{names: [ssn], action: remove}]}";
    let gate = gate(&config(&origin, options, ""));

    let body = format!("{{\"a\": \"{SECRET}\", \"ssn\": 7, \"password\": {{\"x\": 1}}, \"b\": 2}}");
    let fields = format!(
        "{JSON}X-Note: it is {SECRET}\r\nX-Session-Token: abc\r\nAuthorization: Bearer {SECRET}\r\n"
    );
    let answered = post(&gate, &format!("/p?key={SECRET}&ssn=7&c=1"), &fields, &body);

    assert_eq!(answered.status, 200);
    assert_eq!(bodies.lock().expect("it lives")[0], r#"{"a": "***", "password": "***", "b": 2}"#);
    let head = origin.last_request();
    assert!(head.starts_with("POST /p?key=***&c=1 HTTP/1.1"), "{head}");
    assert_eq!(origin.last_fields("x-note"), ["it is ***"]);
    assert_eq!(origin.last_fields("x-session-token"), ["***"]);
    assert_eq!(origin.last_fields("authorization"), [format!("Bearer {SECRET}")]);
    assert!(origin.last_fields("content-length").is_empty());
    assert_eq!(origin.last_fields("transfer-encoding"), ["chunked"]);
    let log = std::fs::read_to_string({
        gate.log(1);
        gate.log_path()
    });
    assert!(!log.expect("it is there").contains(SECRET));

    // In pieces, of which each has a part of the secret.
    let mut client = gate.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n"));
    for piece in body.as_bytes().chunks(5) {
        client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.send("0\r\n\r\n").response().status, 200);
    assert_eq!(bodies.lock().expect("it lives")[1], r#"{"a": "***", "password": "***", "b": 2}"#);
    // Others pass as they are, with their length.
    assert_eq!(post(&gate, "/", "Content-Type: image/png\r\n", SECRET).status, 200);
    assert_eq!(bodies.lock().expect("it lives")[2], SECRET);
}

#[test]
fn what_the_config_names_is_secret_in_the_log_and_in_what_passes() {
    let (origin, bodies) = keeping(answer("", b"ok"));
    let besides = "redaction: {keys: [x-tenant-pin], patterns: ['EMP-[0-9]{6}']}\n";
    let text = |rules: &str, options: &str| {
        let fields = "format: json, fields: [url.path, url.query, user_agent.original]";
        let text = config(&origin, options, "").replace("format: json", fields);
        text.replace("plugins:", &format!("{rules}plugins:"))
    };
    let own = "{surfaces: [query, request_body], patterns: [{regex: 'no [a-z]+'}]}";
    let gate = gate(&text(besides, own));
    let ask = |target: &str| {
        let body = r#"{"tenantPin": "1234", "x_tenant_pin": 9, "b": "of EMP-123456, no one"}"#;
        let fields = format!("{JSON}User-Agent: EMP-123456\r\n");
        assert_eq!(post(&gate, target, &fields, body).status, 200);
    };

    ask("/EMP-123456?X-Tenant-Pin=1234&a=EMP-12345");
    let line = gate.log(1)[0].clone();
    assert_eq!(line["url.path"], "/***");
    assert_eq!(line["url.query"], "X-Tenant-Pin=***&a=EMP-12345");
    assert_eq!(line["user_agent.original"], "***");
    let seen = bodies.lock().expect("it lives")[0].clone();
    assert_eq!(seen, r#"{"tenantPin": "1234", "x_tenant_pin": "***", "b": "of ***, ***"}"#);
    assert!(origin.last_request().starts_with("POST /EMP-123456?X-Tenant-Pin=***&a=EMP-12345 "));

    // The plugin may do without; the log does not.
    gate.write(&text(besides, &own.replace("surfaces", "defaults: none, surfaces")));
    gate.running().reload().expect("the config is good");
    ask("/EMP-123456?x_tenant_pin=1234");
    assert_eq!(gate.log(2)[1]["url.query"], "x_tenant_pin=***");
    assert!(bodies.lock().expect("it lives")[1].contains("of EMP-123456, ***"));
    // And nothing is secret that the config no longer names.
    gate.write(&text("", own));
    gate.running().reload().expect("the config is good");
    ask("/EMP-123456?x_tenant_pin=1234");
    assert_eq!(gate.log(3)[2]["url.query"], "x_tenant_pin=1234");

    for (rules, place) in [
        ("redaction: {patterns: ['(']}\n", "redaction.patterns[0]: not a regular expression"),
        ("redaction: {patterns: ['x*']}\n", "redaction.patterns[0]: it finds nothing"),
        ("redaction: {keys: ['-']}\n", "redaction.keys[0]: no name"),
    ] {
        gate.write(&text(rules, own));
        let faults = gate.running().reload().expect_err("it is refused").to_string();
        assert!(faults.contains(place), "{faults}");
    }
}

#[test]
fn what_comes_down_has_no_secrets_whatever_it_is_coded_as() {
    let plain = format!("{{\"a\": \"{SECRET}\", \"n\": [1, 2]}}");
    let mut gzip = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is installed");
    gzip.stdin.take().expect("it is piped").write_all(plain.as_bytes()).expect("it reads");
    let gzipped = gzip.wait_with_output().expect("it ends").stdout;
    for (fields, body) in [
        ("Content-Type: application/json; charset=utf-8\r\nETag: \"1\"\r\n", plain.as_bytes()),
        ("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", &gzipped),
    ] {
        let (origin, _) = keeping(answer(fields, body));
        let gate = gate(&config(&origin, "{surfaces: [response_body, response_headers]}", ""));
        let answered = gate.exchange("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
        assert_eq!(
            (answered.status, answered.text().as_str()),
            (200, r#"{"a": "***", "n": [1, 2]}"#)
        );
        for name in ["content-length", "content-encoding", "etag"] {
            assert_eq!(answered.header(name), None, "{name}");
        }
        let mut client = gate.client();
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response_to_head().status, 200);
    }
}

#[test]
fn what_cannot_be_read_does_not_pass() {
    let (origin, bodies) = keeping(answer(JSON, br#"{"a": "b", "c"; "password=hunter2"}"#));
    let gate = gate(&config(&origin, "{surfaces: [request_body, response_body]}", ""));

    let refused = post(&gate, "/", JSON, "{\"password\": hunter2}");
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("it is no JSON"), "{}", refused.text());
    let coded = post(&gate, "/", &format!("{JSON}Content-Encoding: compress\r\n"), "x");
    assert_eq!(coded.status, 415);
    let mut client = gate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let rest = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(!rest.contains("hunter2"), "{rest}");
    assert!(!bodies.lock().expect("it lives").iter().any(|body| body.contains("hunter2")));
    let log = gate.log(3);
    assert_eq!([&log[0]["failure"], &log[1]["failure"], &log[2]["failure"]], ["P8", "P8", "P11"]);
}

#[test]
fn a_body_that_is_sent_again_has_no_secrets_either() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = bodies.clone();
    let origin = Origin::scripted(move |exchange| {
        let body = String::from_utf8_lossy(&exchange.body).into_owned();
        kept.lock().expect("it lives").push(body);
        if exchange.number == 1 {
            exchange.reset()
        } else {
            exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        }
    });
    let more = ", retry: {attempts: 2, on: [reset], methods: [POST], backoff: 1ms}";
    let gate = gate(&config(&origin, "{surfaces: [request_body]}", more));

    let answered = post(&gate, "/", JSON, &format!("{{\"a\": \"{SECRET}\"}}"));

    assert_eq!(answered.status, 200);
    assert_eq!(*bodies.lock().expect("it lives"), [r#"{"a": "***"}"#; 2]);
}
