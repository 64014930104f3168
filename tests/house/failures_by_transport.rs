//! What a failure is called and answered with, the same over TCP, over TLS and in streams of HTTP/2.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gateway_tests::{Certificates, Client, Gate, Origin, Program, Response, balanced_config};

/// The ways to an endpoint: what `endpoint.py` is told, and what the gateway is.
const WAYS: [(&[&str], &str); 4] = [
    (&[], ""),
    (&[], "tls"),
    (&["--http2"], "protocol: http2"),
    (&["--alpn", "h2"], "protocol: http2, tls"),
];

/// A gateway in front of an endpoint.
struct House {
    gate: Gate,
    /// What the test is told it is about when it fails.
    way: &'static str,
    _endpoint: Option<Program>,
    _certificates: Option<Rc<Certificates>>,
}

/// A gateway over each way to an endpoint that does as paths say.
fn houses(options: &str) -> Vec<House> {
    let certificates = Rc::new(Certificates::new());
    let server = certificates.issue("endpoint", "IP:127.0.0.1");
    let ca = certificates.authority().display().to_string();
    let houses = WAYS.iter().map(|(arguments, way)| {
        let tls: &[&str] = match way.contains("tls") {
            true => &["--tls", &server.cert, &server.key],
            false => &[],
        };
        let endpoint = Program::start("endpoint.py", &[tls, arguments].concat());
        let gate = gate(endpoint.address(), way, &ca, options);
        House { gate, way, _endpoint: Some(endpoint), _certificates: Some(certificates.clone()) }
    });
    houses.collect()
}

fn gate(endpoint: SocketAddr, way: &str, ca: &str, options: &str) -> Gate {
    let mut lines: Vec<String> =
        way.split(", ").filter(|word| *word != "tls").map(str::to_owned).collect();
    if way.contains("tls") {
        lines.push(format!("tls: {{ca: {ca}}}"));
    }
    let options = format!("{}\n{options}", lines.join("\n"));
    let config = balanced_config(&[format!("\"{endpoint}\"")], &options);
    Gate::yaml(&config.replace("listeners:", "access_log: {output: LOG, format: json}\nlisteners:"))
}

impl House {
    /// Asks for a path; the answer is to have this status and the record this code.
    #[track_caller]
    fn fails(&self, path: &str, code: &str, status: u16) {
        let answer = self.gate.get(path);
        self.failed(&answer, code, status);
    }

    #[track_caller]
    fn failed(&self, answer: &Response, code: &str, status: u16) {
        assert_eq!(answer.status, status, "{}", self.way);
        self.is_recorded(code, status);
    }

    #[track_caller]
    fn is_recorded(&self, code: &str, status: u16) {
        let line = self.gate.log(1).remove(0);
        assert_eq!(
            (&line["failure"], &line["http.response.status_code"]),
            (&code.into(), &status.into()),
            "{}",
            self.way
        );
        let attempts =
            format!(r#"gateway_upstream_attempts_total{{outcome="{code}",upstream="origin"}}"#);
        if code != "X6" {
            self.gate.await_metric(&attempts, 1.0);
        }
    }

    /// Asks for a path; the answer begins and is cut.
    #[track_caller]
    fn cut(&self, path: &str, code: &str) {
        let mut client = self.gate.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.try_response(false);
        assert!(answer.is_err(), "{}: {answer:?}", self.way);
        self.is_recorded(code, 200);
    }
}

/// Those who wait for the connection that another of them makes wait no longer than for their own.
#[test]
fn an_endpoint_of_http2_that_hangs_keeps_nobody_waiting_for_longer_than_connecting_may_take() {
    let hangs = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let gate = Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: a, endpoints: [\"{}\"], protocol: http2, timeouts: {{connect: 500ms}}}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: a}}]\n",
        hangs.local_addr().expect("it listens")
    ));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(gate.get("/").status, 504));
        }
    });
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_refused_connection_is_u3() {
    for (_, way) in WAYS {
        let gate = gate(Origin::nobody(), way, "/etc/ssl/certs/ca-certificates.crt", "");
        House { gate, way, _endpoint: None, _certificates: None }.fails("/ok", "U3", 503);
    }
}

#[test]
fn an_endpoint_that_says_nothing_while_a_connection_is_made_is_u4() {
    // It accepts, by its backlog, and no more.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it is bound");
    for (_, way) in WAYS.into_iter().filter(|(_, way)| !way.is_empty()) {
        let ca = "/etc/ssl/certs/ca-certificates.crt";
        let gate = gate(address, way, ca, "timeouts: {connect: 200ms}");
        let began = Instant::now();
        House { gate, way, _endpoint: None, _certificates: None }.fails("/ok", "U4", 504);
        assert!(began.elapsed() < Duration::from_secs(2), "{way}");
    }
}

#[test]
fn a_reset_before_the_head_is_x1() {
    for house in houses("") {
        house.fails("/reset", "X1", 502);
    }
}

#[test]
fn a_close_before_the_head_is_x1() {
    for house in houses("") {
        house.fails("/close", "X1", 502);
    }
}

#[test]
fn a_body_cut_short_is_x2() {
    for house in houses("") {
        house.cut("/truncate", "X2");
    }
}

#[test]
fn a_stream_that_ends_before_its_length_is_x2() {
    for house in houses("").into_iter().filter(|house| house.way.contains("http2")) {
        house.cut("/short", "X2");
    }
}

#[test]
fn a_head_that_does_not_come_is_x3() {
    for house in houses("timeouts: {first_byte: 200ms}") {
        let began = Instant::now();
        house.fails("/hang", "X3", 504);
        assert!((200..1500).contains(&began.elapsed().as_millis()), "{}", house.way);
    }
}

#[test]
fn a_body_that_stalls_is_x4() {
    for house in houses("timeouts: {idle: 200ms}") {
        house.cut("/stall", "X4");
    }
}

/// A body over HTTP/2 that does not move is not always the client's fault.
#[test]
fn an_endpoint_that_takes_no_body_of_http2_is_x4() {
    for house in houses("timeouts: {idle: 900ms}") {
        let config = fs::read_to_string(house.gate.config_path()).expect("it was written");
        let patience = "{name: public, timeouts: {body_read: 300ms}, ";
        house.gate.write(&config.replace("{name: public, ", patience));
        house.gate.running().reload().expect("the config is good");
        let body = house.gate.folder().join("body");
        fs::write(&body, vec![b'x'; 32 * 1024 * 1024]).expect("the disk has room");
        let url = format!("http://{}/unread", house.gate.address());
        let began = Instant::now();

        let told = Command::new("nghttp").arg("-v").arg("-d").arg(&body).arg(url).output();

        let told = String::from_utf8_lossy(&told.expect("nghttp is installed").stdout).into_owned();
        assert!(told.contains(":status: 504"), "{}: {told}", house.way);
        assert!(began.elapsed() >= Duration::from_millis(850), "{}", house.way);
        assert_eq!(house.gate.log(1)[0]["failure"], "X4", "{}", house.way);
    }
}

#[test]
fn a_body_that_drips_is_no_failure() {
    for house in houses("timeouts: {idle: 300ms, first_byte: 300ms}") {
        assert_eq!(house.gate.get("/drip").text(), "x".repeat(10), "{}", house.way);
    }
}

#[test]
fn an_endpoint_that_does_not_take_the_body_is_x4() {
    for house in houses("timeouts: {idle: 300ms}") {
        let mut client = house.gate.client();
        let length = 64 * 1024 * 1024;
        client
            .send(format!("POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        let piece = vec![b'x'; 64 * 1024];
        // The gateway stops reading when the endpoint does.
        while client.try_send(&piece).is_ok() {}
        let answer = client.response();
        house.failed(&answer, "X4", 504);
    }
}

#[test]
fn what_does_not_speak_the_protocol_is_x5() {
    for house in houses("") {
        house.fails("/garbage", "X5", 502);
    }
}

#[test]
fn attempts_that_are_used_up_are_x6() {
    for house in houses("retry: {attempts: 2, backoff: 1ms}") {
        house.fails("/reset", "X6", 502);
        let resets = r#"gateway_upstream_attempts_total{outcome="X1",upstream="origin"}"#;
        house.gate.await_metric(resets, 2.0);
    }
}

#[test]
fn a_total_time_that_is_up_is_x7() {
    for house in houses("timeouts: {total: 300ms}") {
        house.fails("/hang", "X7", 504);
    }
    for house in houses("timeouts: {total: 300ms}") {
        house.cut("/stall", "X7");
    }
}

#[test]
fn a_client_that_leaves_is_d1_and_its_attempt_ends_with_it() {
    for house in houses("") {
        let mut client = Client::connect(house.gate.address());
        client.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
        let in_flight = r#"gateway_upstream_requests_in_flight{upstream="origin"}"#;
        house.gate.await_metric(in_flight, 1.0);
        drop(client);
        house.gate.await_metric(in_flight, 0.0);
        assert_eq!(house.gate.log(1)[0]["failure"], "D1", "{}", house.way);
    }
}
