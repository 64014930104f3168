//! WebSocket through a whole gateway, spoken by the library `websockets` at both ends.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use gateway_core::{DrainOutcome, Gateway};
use gateway_tests::{Certificates, Client, Gate, Program, eventually};

struct House {
    gate: Gate,
    other: Mutex<Program>,
}

fn config(endpoint: &Program, listener: &str, upstream: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 2, drain_timeout: 10s}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         plugins: [{{kind: headers, options: {{response: {{set: {{x-way: \"{{route.name}}\"}}}}}}}}]\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"{listener}}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]{upstream}}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        endpoint.address()
    )
}

fn house(listener: &str, upstream: &str) -> House {
    let other = Program::start("websocket.py", &[]);
    let config = config(&other, listener, upstream);
    let gate = Gate::with(Gateway::builder().plugins(gateway_plugins::all()), &config);
    House { gate, other: Mutex::new(other) }
}

impl House {
    fn tell(&self, line: &str) -> String {
        self.other.lock().expect("it lives").tell(line).trim().to_owned()
    }

    fn uri(&self, path: &str) -> String {
        format!("ws://{}{path}", self.gate.address())
    }

    fn hold(&self) -> String {
        let number = self.tell(&format!("hold {}", self.uri("/")));
        assert!(number.parse::<u32>().is_ok(), "{number}");
        number
    }

    fn open(&self) -> f64 {
        self.gate.metric("gateway_connections_open{listener=\"public\"}")
    }
}

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn conversations_pass_both_ways_at_once_and_end_as_they_were_ended() {
    let house = house("", "");
    for _ in 0..3 {
        assert_eq!(house.tell(&format!("talk {}", house.uri("/a?b=c"))), "ok 1000 chat");
    }
    eventually("the endpoint has heard of it", || house.tell("seen") == "[1000, 1000, 1000] 0");
    let line = house.gate.log(3)[0].clone();
    assert_eq!(line["http.response.status_code"], 101);
    assert_eq!(
        (&line["status_source"], &line["failure"]),
        (&"upstream".into(), &serde_json::Value::Null)
    );
    for bytes in ["http.request.body.size", "http.response.body.size"] {
        assert!(line[bytes].as_u64().is_some_and(|bytes| bytes > 18_000_000), "{line}");
    }
    assert!(line["duration_ms"].as_f64() > line["upstream_ms"].as_f64(), "{line}");
    // The endpoint ends it.
    let number = house.tell(&format!("hold {}", house.uri("/close")));
    assert_eq!(house.tell(&format!("ended {number}")), "4001");
    eventually("nobody is connected", || house.open() == 0.0);
    let in_flight = "gateway_upstream_requests_in_flight{upstream=\"origin\"}";
    eventually("nothing is in flight", || house.gate.metric(in_flight) == 0.0);
}

#[test]
fn it_passes_over_tls_and_what_is_refused_is_an_answer_like_others() {
    let ours = Certificates::new();
    let own = ours.issue("own", "DNS:a.test");
    let tls = format!(", tls: {{certificates: [{{cert: {}, key: {}}}]}}", own.cert, own.key);
    let secure = house(&tls, "");
    let uri = secure.uri("/").replace("ws:", "wss:");
    let talked = secure.tell(&format!("talk {uri} {}", ours.authority().display()));
    assert_eq!(talked, "ok 1000 chat");

    let house = house("", ", retry: {attempts: 2}");
    let told = house.tell(&format!("talk {}", house.uri("/denied")));
    assert!(told.starts_with("InvalidStatusCode") && told.contains("403"), "{told}");
    let refused = house.gate.exchange(ASK.replace("GET /", "GET /denied"));
    assert_eq!((refused.status, refused.text().as_str()), (403, "not you"));
    assert_eq!((refused.header("x-why"), refused.header("x-way")), (Some("no"), Some("all")));
    // Plugins see the answer of what is agreed to as well.
    let mut client = house.gate.client();
    let agreed = client.send(ASK).response_to_head();
    assert_eq!((agreed.status, agreed.header("x-way")), (101, Some("all")));
    assert_eq!(agreed.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(
        (agreed.header("upgrade"), agreed.header("connection")),
        (Some("websocket"), Some("Upgrade"))
    );
}

#[test]
fn what_is_no_websocket_or_comes_too_soon_is_not_passed_as_one() {
    let house = house("", "");
    // Not asked for as it has to be: a request like others, which this endpoint wants otherwise.
    for wrong in [
        ASK.replace("Upgrade: websocket", "Upgrade: h2c"),
        ASK.replace("Connection: Upgrade\r\n", ""),
        ASK.replace("GET /", "POST /"),
        ASK.replace("Sec-WebSocket-Key", "X-Key"),
    ] {
        let status = house.gate.exchange(&wrong).status;
        assert!([400, 405, 411, 426, 502].contains(&status), "{status}: {wrong}");
    }
    // Frames before the answer: nobody can say whose they are.
    let mut soon = house.gate.client();
    soon.send([ASK.as_bytes(), &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']].concat());
    assert!(soon.rest().is_empty());
    eventually("it is counted", || house.gate.log_path().exists());
    let log = || std::fs::read_to_string(house.gate.log_path()).unwrap_or_default();
    eventually("the log says why", || log().contains("\"failure\":\"D3\""));
    eventually("nobody is connected", || house.open() == 0.0);
}

#[test]
fn what_is_silent_for_too_long_ends_with_a_goodbye() {
    let house = house("", ", timeouts: {tunnel: 1s, idle: 300ms, total: 500ms}");
    let number = house.hold();
    // Limits of requests are not its own, and whoever speaks stays.
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(house.tell(&format!("say {number} hello")), "hello");
    }
    let began = Instant::now();
    assert_eq!(house.tell(&format!("ended {number}")), "1001");
    assert!((500..4000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    eventually("the endpoint has heard of it", || house.tell("seen") == "[1001] 0");
}

#[test]
fn a_drain_leaves_conversations_their_time_and_says_goodbye_then() {
    let mut house = house("", "");
    let numbers: Vec<String> = (0..3).map(|_| house.hold()).collect();
    for number in &numbers {
        assert_eq!(house.tell(&format!("say {number} hello")), "hello");
    }
    // One in the middle of a frame: its goodbye waits for the end of it.
    let mut slow = house.gate.client();
    assert_eq!(slow.send(ASK).response_to_head().status, 101);
    slow.send([0x81, 0x85, 0, 0, 0, 0, b'h', b'e']);
    std::thread::sleep(Duration::from_millis(200));
    let log = house.gate.log_path();
    let running = house.gate.take();
    let began = Instant::now();
    let hurry = tokio::sync::watch::channel(false).1;
    let ended = std::thread::spawn(move || running.drain(Duration::from_secs(5), hurry));
    while began.elapsed() < Duration::from_millis(2_200) {
        assert_eq!(house.tell(&format!("say {} still", numbers[0])), "still");
    }
    for number in &numbers {
        assert_eq!(house.tell(&format!("ended {number}")), "1001");
    }
    assert!((2_400..4_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    slow.send(*b"llo");
    // It says goodbye, too.
    slow.send([0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]);
    // What was said back, and the goodbye.
    let mut said = vec![0x88, 2, 3, 0xe9];
    let rest = slow.rest();
    assert!(rest.ends_with(&said) || rest.starts_with(&said), "{rest:?}");
    said.clear();
    assert_eq!(ended.join().expect("it ends"), DrainOutcome::Complete);
    let lines = std::fs::read_to_string(log).expect("there is a log");
    assert_eq!(lines.matches("\"http.response.status_code\":101").count(), 4, "{lines}");
    assert!(!lines.contains("failure"), "{lines}");
}

#[test]
fn ends_that_go_away_are_told_apart() {
    let house = house("", "");
    let mut client = house.gate.client();
    assert_eq!(client.send(ASK).response_to_head().status, 101);
    drop(client);
    eventually("the endpoint hears of it", || house.tell("seen").ends_with(" 0"));
    eventually("nobody is connected", || house.open() == 0.0);
    // The connection is none of HTTP's any more: what looks like a request is bytes.
    let mut client: Client = house.gate.client();
    assert_eq!(client.send(ASK).response_to_head().status, 101);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!client.rest().starts_with(b"HTTP/1.1"));
    assert_eq!(house.gate.log(2).len(), 2);
}

/// What the endpoint would take for a part of the conversation does not go up.
#[test]
fn a_request_with_a_body_is_no_websocket() {
    let house = house("", "");
    let wrong = ASK.replace("Upgrade: websocket", "Content-Length: 5\r\nUpgrade: websocket");
    let status = house.gate.exchange(wrong + "hello").status;
    assert!([400, 426, 502].contains(&status), "{status}");
    assert_eq!(house.tell("seen"), "[] 0");
}
