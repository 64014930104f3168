//! Calls of gRPC-Web: a real browser with the client that gRPC's own project gives out, and frames by hand where it can
//! do only right. The service is grpcio.

mod browser;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use gateway_tests::{Gate, Origin, Program, Response};

use crate::grpc::{House, house};

const BYTES: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";

/// A gateway that translates, with more plugins, and more of the route.
fn web(plugins: &str, route: &str) -> House {
    house(&format!(", plugins: [{{kind: grpc-web}}{plugins}]"), "", route)
}

/// One message as it is framed.
fn message(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("it is short");
    [&[0], &length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// A call over HTTP/1.1.
fn request(method: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /test.Test/{method} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// One message as a body has it.
fn framed(text: &str, kind: &str) -> Vec<u8> {
    let message = message(text);
    if kind == TEXT { BASE64.encode(message).into_bytes() } else { message }
}

fn call(house: &House, method: &str, kind: &str, text: &str) -> Response {
    house.gate.exchange(request(method, kind, &framed(text, kind)))
}

/// The same over HTTP/2, by curl, which says the fields too.
fn call_http2(house: &House, method: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut curl = curl(house, method, kind).spawn().expect("curl is installed");
    curl.stdin.take().expect("it is piped").write_all(body).expect("it reads");
    curl.wait_with_output().expect("it ends").stdout
}

/// What curl prints behind the fields.
fn body_of(told: &[u8]) -> &[u8] {
    let end = told.windows(4).position(|window| window == b"\r\n\r\n").expect("it has a head");
    &told[end + 4..]
}

fn curl(house: &House, method: &str, kind: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["-sNi", "--http2-prior-knowledge", "--data-binary", "@-"])
        .args(["-H", &format!("content-type: {kind}")])
        .arg(format!("http://{}/test.Test/{method}", house.gate.address()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    curl
}

/// The messages of an answer, and what stands in its last frame.
fn read(body: &[u8], kind: &str) -> (Vec<String>, String) {
    let decoded = if kind == TEXT { groups(body) } else { body.to_vec() };
    let (mut rest, mut messages) = (&decoded[..], Vec::new());
    while let [flags, a, b, c, d, after @ ..] = rest {
        let (frame, after) = after.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        let text = String::from_utf8(frame.to_vec()).expect("it is text");
        if *flags == 0x80 {
            assert!(after.is_empty(), "nothing comes behind the trailers");
            return (messages, text);
        }
        messages.push(text);
        rest = after;
    }
    (messages, String::new())
}

/// Base64 with padding within, read group by group.
fn groups(text: &[u8]) -> Vec<u8> {
    let read = |group| BASE64.decode(group).expect("each group can be read by itself");
    text.chunks(4).flat_map(read).collect()
}

fn status(trailers: &str) -> Option<&str> {
    trailers.split("\r\n").find_map(|line| line.strip_prefix("grpc-status:"))
}

#[test]
fn calls_are_translated_over_http_1_and_http_2() {
    let house = web("", "");
    for kind in [BYTES, TEXT] {
        let one = call(&house, "Echo", kind, "hello");
        assert_eq!((one.status, one.header("content-type")), (200, kind.strip_suffix("+proto")));
        assert_eq!(one.header("content-length"), None, "its length is another");
        let (messages, trailers) = read(&one.body, kind);
        assert_eq!((messages, status(&trailers)), (vec!["hello".to_owned()], Some("0")));
        assert!(trailers.contains("x-left:"), "metadata that comes behind: {trailers}");

        let many = call(&house, "Spread", kind, "a|bc||def");
        let (messages, trailers) = read(&many.body, kind);
        assert_eq!(messages, ["a", "bc", "", "def"]);
        assert_eq!(status(&trailers), Some("0"));

        let told = call_http2(&house, "Echo", kind, &framed("over HTTP/2", kind));
        let (messages, trailers) = read(body_of(&told), kind);
        assert_eq!(
            (&messages[..], status(&trailers)),
            (&["over HTTP/2".to_owned()][..], Some("0"))
        );
    }
    // A request in base64 may be several pieces with padding of their own.
    let (first, rest) = (&message("in pieces")[..7], &message("in pieces")[7..]);
    let body = [BASE64.encode(first), BASE64.encode(rest)].concat();
    let told = house.gate.exchange(request("Echo", TEXT, body.as_bytes()));
    assert_eq!(read(&told.body, TEXT).0, ["in pieces"]);
    let line = house.gate.log(7)[6].clone();
    assert_eq!(line["rpc.grpc.status_code"], 0);
}

/// Reads until a message has come.
fn comes(source: &mut dyn Read, text: &str, kind: &str) {
    let framed = framed(text, kind);
    let mut seen = Vec::new();
    while !seen.windows(framed.len()).any(|window| window == framed) {
        let mut piece = [0; 1024];
        let length = source.read(&mut piece).expect("it comes before the next is called for");
        assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..length]);
    }
}

#[test]
fn messages_come_as_they_are_sent() {
    let house = web("", "");
    for kind in [BYTES, TEXT] {
        let body = framed("x", kind);

        let mut client = TcpStream::connect(house.gate.address()).expect("it listens");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("it can be set");
        client.write_all(&request("Turns", kind, &body)).expect("it reads");
        comes(&mut client, "one", kind);
        assert_eq!(house.status("Next"), "OK");
        comes(&mut client, "two", kind);

        let mut curl = curl(&house, "Turns", kind).spawn().expect("curl is installed");
        curl.stdin.take().expect("it is piped").write_all(&body).expect("it reads");
        let mut told = curl.stdout.take().expect("it is piped");
        comes(&mut told, "one", kind);
        assert_eq!(house.status("Next"), "OK");
        comes(&mut told, "two", kind);
        assert!(curl.wait().expect("it ends").success());
    }
}

#[test]
fn a_status_without_a_message_stands_in_the_head() {
    let house = web("", "");
    for kind in [BYTES, TEXT] {
        let told = call(&house, "Fail5", kind, "x");
        assert_eq!((told.status, told.header("content-type")), (200, kind.strip_suffix("+proto")));
        assert_eq!(told.header("grpc-status"), Some("5"));
        assert_eq!(told.header("grpc-message"), Some("as you like: 100%25 s%C3%BBr"));
        assert!(told.body.is_empty());
        let (messages, trailers) = read(&call(&house, "Late13", kind, "x").body, kind);
        assert_eq!((messages, status(&trailers)), (vec!["x".to_owned()], Some("13")));
        assert!(trailers.contains("grpc-message:too late\r\n"), "{trailers}");
    }
}

#[test]
fn what_the_gateway_answers_itself_can_be_read() {
    let limit = ", {kind: rate-limit, options: {limits: [{requests: 2, per: 1h}]}}";
    let house = web(limit, "");
    let told = house.gate.exchange(request("Echo", TEXT, b"no base64"));
    assert_eq!((told.status, told.header("grpc-status")), (200, Some("13")));
    assert_eq!(told.header("grpc-message"), Some("the body is not base64"));
    assert_eq!(call(&house, "Echo", BYTES, "x").header("grpc-status"), None, "it is in the body");
    for (kind, plain) in [(BYTES, "application/grpc-web"), (TEXT, "application/grpc-web-text")] {
        let told = call(&house, "Echo", kind, "x");
        assert_eq!((told.status, told.header("content-type")), (200, Some(plain)));
        assert_eq!(told.header("grpc-status"), Some("8"));
        assert_eq!(told.header("content-length"), Some("0"));
        let told = String::from_utf8(call_http2(&house, "Echo", kind, b"")).expect("text");
        assert!(told.contains("grpc-status: 8\r\n") && told.ends_with("\r\n\r\n"), "{told}");
    }
    assert_eq!(house.tell("seen"), "1", "what cannot be read, or is too much, is not called");
    let log = house.gate.log(6);
    let failed = |code: &str| log.iter().filter(|line| line["failure"] == code).count();
    assert_eq!((failed("P8"), failed("P6")), (1, 4));
}

#[test]
fn an_answer_that_is_ended_midway_ends_with_a_frame() {
    let house = web("", ", timeouts: {total: 1s}");
    for kind in [BYTES, TEXT] {
        let (messages, trailers) = read(&call(&house, "Turns", kind, "x").body, kind);
        assert_eq!((messages, status(&trailers)), (vec!["one".to_owned()], Some("4")));
        assert!(trailers.contains("grpc-message:Gateway Timeout\r\n"), "{trailers}");
    }
    let told = body_of(&call_http2(&house, "Turns", BYTES, &message("x"))).to_vec();
    let (messages, trailers) = read(&told, BYTES);
    assert_eq!((messages, status(&trailers)), (vec!["one".to_owned()], Some("4")));
    let told = call(&house, "Sleep", BYTES, "5");
    assert_eq!(told.header("grpc-status"), Some("4"), "nothing had begun");

    // The service goes away.
    let mut client = TcpStream::connect(house.gate.address()).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("it can be set");
    client.write_all(&request("Turns", BYTES, &message("x"))).expect("it reads");
    comes(&mut client, "one", BYTES);
    *house.peer.lock().expect("it lives") = Program::start("grpc_peer.py", &[]);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("it is closed in order");
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("grpc-status:14\r\ngrpc-message:Bad Gateway\r\n"), "{rest}");
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
    assert_eq!(house.gate.log(5)[4]["failure"], "X2");
}

#[test]
fn messages_have_the_limits_of_grpc_on_either_side_of_the_translation() {
    let limit = "{kind: grpc-message-limit, options: {request: 1KiB, response: 9}}";
    for plugins in [format!("{{kind: grpc-web}}, {limit}"), format!("{limit}, {{kind: grpc-web}}")]
    {
        let house = house(&format!(", plugins: [{plugins}]"), "", "");
        for kind in [BYTES, TEXT] {
            let told = call(&house, "Echo", kind, &"x".repeat(1025));
            assert_eq!(told.header("grpc-status"), Some("8"), "{plugins}");
            let said = told.header("grpc-message");
            assert_eq!(said, Some("received message larger than max (1025 vs. 1024)"));
            let told = call(&house, "Spread", kind, "one|two|three and more|four");
            let (messages, trailers) = read(&told.body, kind);
            assert_eq!(
                (&messages[..], status(&trailers)),
                (&["one".to_owned(), "two".into()][..], Some("8"))
            );
            assert!(trailers.contains("sent message larger than max (14 vs. 9)"), "{trailers}");
        }
        assert_eq!(house.tell("seen"), "2");
    }
}

#[test]
fn all_else_passes_untouched() {
    let house = web("", "");
    assert_eq!(house.tell(&format!("all {}", house.gate.address())), "ok");

    let origin = Origin::saying("here");
    let config = format!(
        "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", plugins: [{{kind: grpc-web}}]}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    );
    let gate = Gate::yaml(&config);
    let told = gate.exchange(request("Echo", "application/json", b"{}"));
    assert_eq!(told.status, 200);
    assert!(told.header("content-length").is_some(), "its length is known");
    // What is to be translated cannot be, where the endpoint has no trailers.
    let told = gate.exchange(request("Echo", BYTES, &message("x")));
    assert_eq!((told.status, told.header("grpc-status")), (200, Some("12")));
    let said = "the endpoint is asked over HTTP/1.1, and gRPC needs HTTP/2";
    assert_eq!(told.header("grpc-message"), Some(said));
}
