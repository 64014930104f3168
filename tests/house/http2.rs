//! HTTP/2 without TLS: real programs, raw frames, and HTTP/1 on the same listener.

mod abuse;
mod ending;
pub(crate) mod frames;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gateway_tests::{Client, Gate, Origin};

use self::frames::{Answer, Frames, request};

/// An origin that answers with the request's body, and a gateway before it.
fn echo_house() -> (Origin, Gate) {
    let origin = Origin::scripted(|exchange| {
        let body = exchange.body.clone();
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        exchange.write(body)
    });
    let gate = Gate::proxying(origin.address(), "");
    (origin, gate)
}

/// What a program of a system package says, which must not fail.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program} does not run ({error}); it is in Debian's nghttp2-client or curl")
    });
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}: {told}", output.status);
    output.stdout
}

fn url(gate: &Gate, path: &str) -> String {
    format!("http://{}{path}", gate.address())
}

/// Writes a body of so many bytes into the gate's folder.
fn body_file(gate: &Gate, length: usize) -> (String, Vec<u8>) {
    let body: Vec<u8> = (0..length).map(|index| (index * 31 % 251) as u8).collect();
    let path = gate.folder().join(format!("body-{length}"));
    std::fs::write(&path, &body).expect("the disk has room");
    (path.display().to_string(), body)
}

#[test]
fn curl_gets_and_posts_over_http_2() {
    let (origin, gate) = echo_house();
    let told = ["-sS", "--http2-prior-knowledge", "-w", " %{http_version} %{response_code}"];
    let target = url(&gate, "/a?b=c");

    let get = run("curl", &[&told[..], &[&target]].concat());
    let post = run("curl", &[&told[..], &["-d", "hello", &target]].concat());

    assert_eq!(String::from_utf8_lossy(&get), " 2 200");
    assert_eq!(String::from_utf8_lossy(&post), "hello 2 200");
    assert!(origin.last_request().starts_with("POST /a?b=c HTTP/1.1\r\n"));
}

#[test]
fn nghttp_gets_and_posts_bodies_of_all_sizes() {
    let (_origin, gate) = echo_house();
    let target = url(&gate, "/");

    assert_eq!(run("nghttp", &[&target]), b"");
    for length in [1, 16_384, 16_385, 65_536, 1 << 20] {
        let (file, body) = body_file(&gate, length);
        let data = format!("--data={file}");

        let echoed = run("nghttp", &[&data, &target]);
        // Without a length the end of the body is the end of the stream.
        let unannounced = run("nghttp", &["--no-content-length", &data, &target]);

        assert!(echoed == body, "a body of {length} bytes was changed");
        assert!(unannounced == body, "an unannounced body of {length} bytes was changed");
    }
}

#[test]
fn one_connection_carries_several_requests_of_a_program() {
    let (origin, gate) = echo_house();

    let first = url(&gate, "/1");
    let second = url(&gate, "/2");
    let third = url(&gate, "/3");
    run("nghttp", &["-n", &first, &second, &third]);

    assert_eq!(origin.requests().len(), 3);
    assert_eq!(gate.metric(r#"gateway_connections_total{listener="public"}"#), 1.0);
}

#[test]
fn thousands_of_streams_all_succeed() {
    let (origin, gate) = echo_house();

    let target = url(&gate, "/");
    let told = run("h2load", &["-n", "2000", "-c", "4", "-m", "20", &target]);

    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{told}");
    assert!(told.contains("status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{told}");
    assert_eq!(origin.requests().len(), 2000);
}

#[test]
fn streams_with_bodies_all_succeed() {
    let (_origin, gate) = echo_house();
    let (file, body) = body_file(&gate, 20_000);

    let target = url(&gate, "/");
    let data = format!("--data={file}");
    let told = run("h2load", &["-n", "200", "-c", "2", "-m", "20", &data, &target]);

    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("200 succeeded, 0 failed, 0 errored, 0 timeout"), "{told}");
    let bytes = 200 * body.len();
    assert!(told.contains(&format!("({bytes}) data")), "{told}");
}

#[test]
fn one_listener_serves_both_versions() {
    let (origin, gate) = echo_house();
    let mut http1 = gate.client();
    let mut http2 = Frames::connect(gate.address());

    for _ in 0..2 {
        http1.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(http1.response().status, 200);
        assert_eq!(http2.get("/2").status, Some(200));
    }

    assert_eq!(origin.requests().len(), 4);
}

#[test]
fn a_request_shorter_than_the_preface_is_served() {
    let (_origin, gate) = echo_house();

    let response = gate.exchange("GET / HTTP/1.0\r\n\r\n");

    assert_eq!(response.status, 200);
}

#[test]
fn a_request_that_begins_like_the_preface_is_answered_as_what_it_is() {
    let (_origin, gate) = echo_house();

    for start in ["PRI / HTTP/1.1\r\nHost: a\r\n\r\n", "PR / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut client = gate.client();
        for byte in start.as_bytes() {
            client.send([*byte]);
        }

        assert_eq!(client.response().status, 200, "{start:?}");
    }
}

#[test]
fn the_preface_may_come_byte_by_byte() {
    let (_origin, gate) = echo_house();

    let mut client = Frames::connect_slowly(gate.address());

    assert_eq!(client.get("/").status, Some(200));
}

#[test]
fn half_a_preface_and_silence_is_cut_by_the_header_deadline() {
    let gate = Gate::yaml(
        "version: 1\n\
         listeners: [{name: public, address: \"127.0.0.1:0\", timeouts: {header: 300ms}}]\n\
         routes: [{name: all, match: {path: /}, reply: {status: 200}}]\n",
    );

    for start in
        ["P", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n"]
    {
        let began = Instant::now();
        let mut client = gate.client();
        client.send(start);

        let told = String::from_utf8_lossy(&client.rest()).into_owned();

        assert!(began.elapsed() < Duration::from_secs(3), "{start:?} is waited for");
        let refused = ["HTTP/1.1 400", "HTTP/1.1 408", "HTTP/1.1 505"];
        let answered = refused.iter().any(|answer| told.starts_with(answer));
        assert!(told.is_empty() || answered, "{start:?} is answered {told:?}");
    }
}

#[test]
fn an_empty_last_frame_ends_a_body_once() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    for target in ["/1", "/2", "/3"] {
        let stream = client.headers(&request("POST", target, &[]), false);
        client.data(stream, b"hello", false);
        client.data(stream, b"", true);

        let answer = client.answer(stream);
        assert_eq!((answer.status, answer.body.as_slice()), (Some(200), &b"hello"[..]));
    }

    // A last chunk written twice would be read as the beginning of the next request.
    let requests = origin.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests.iter().all(|request| request.starts_with("POST /")), "{requests:?}");
}

#[test]
fn an_empty_body_of_one_empty_frame_ends_once() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    for target in ["/1", "/2"] {
        let stream = client.headers(&request("POST", target, &[]), false);
        client.data(stream, b"", true);
        assert_eq!(client.answer(stream).status, Some(200));
    }
    assert_eq!(client.get("/3").status, Some(200));

    let requests = origin.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests[1].starts_with("POST /2 ") && requests[2].starts_with("GET /3 "));
}

#[test]
fn an_authority_goes_up_as_the_host() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    assert_eq!(client.get("/a").status, Some(200));

    assert!(origin.last_request().starts_with("GET /a HTTP/1.1\r\n"), "{}", origin.last_request());
    assert_eq!(origin.last_fields("host"), ["test.example"]);
    assert_eq!(origin.last_fields("x-forwarded-host"), ["test.example"]);
    assert_eq!(origin.last_fields("via"), ["2 gateway"]);
    assert!(!origin.last_request().contains("\r\n:"), "{}", origin.last_request());
}

#[test]
fn an_authority_that_is_no_host_is_refused() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    for authority in ["user@test.example", "a b", "test.example:x", "a/b"] {
        let mut fields = request("GET", "/", &[]);
        for field in &mut fields {
            if field.0 == ":authority" {
                field.1 = authority.to_owned();
            }
        }
        let stream = client.headers(&fields, true);
        assert_refused(&client.answer(stream), 400, authority);
    }
    let stream = client.headers(&request("GET", "/", &[("host", "other.example")]), true);
    assert_refused(&client.answer(stream), 400, "a host that differs from the authority");

    assert_eq!(origin.requests(), Vec::<String>::new());
    assert_eq!(client.get("/").status, Some(200), "the connection does not survive");
}

#[test]
fn a_path_is_brought_into_its_one_form() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    assert_eq!(client.get("/a//b/../%7Ec%2f?x=%2f//").status, Some(200));
    let request_line = origin.last_request().lines().next().unwrap_or_default().to_owned();
    assert_eq!(request_line, "GET /a/~c%2F?x=%2f// HTTP/1.1");

    for path in ["/%00", "/a\\b", "/a b", "/a%zz", "a", "/caf\u{e9}"] {
        let stream = client.headers(&request("GET", path, &[]), true);
        assert_refused(&client.answer(stream), 400, path);
    }
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(client.get("/").status, Some(200), "the connection does not survive");
}

#[test]
fn a_path_that_http_1_would_not_take_is_refused() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    for path in ["/a\"b", "/a<b", "/a>b", "/?a\"b"] {
        let stream = client.headers(&request("GET", path, &[]), true);
        assert_refused(&client.answer(stream), 400, path);
    }
    assert_eq!(origin.requests(), Vec::<String>::new());
}

#[test]
fn a_fragment_in_a_path_goes_no_further() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    let stream = client.headers(&request("GET", "/a#b", &[]), true);

    // The HTTP/2 library drops it before the gateway sees the path; HTTP/1 is refused with 400.
    assert_eq!(client.answer(stream).status, Some(200));
    assert!(origin.last_request().starts_with("GET /a HTTP/1.1\r\n"), "{}", origin.last_request());
}

#[test]
fn several_cookie_fields_go_up_as_one() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    let crumbs = [("cookie", "a=1"), ("x-a", "b"), ("cookie", "c=2"), ("cookie", "d=3")];
    let stream = client.headers(&request("GET", "/", &crumbs), true);

    assert_eq!(client.answer(stream).status, Some(200));
    assert_eq!(origin.last_fields("cookie"), ["a=1; c=2; d=3"]);
}

#[test]
fn fields_of_a_connection_are_refused() {
    let (origin, gate) = echo_house();

    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("X-Upper", "1"),
        ("x a", "1"),
        ("x-a", "b\r\nx-b: c"),
        ("x-a", "b\0c"),
    ] {
        let mut client = Frames::connect(gate.address());
        let stream = client.headers(&request("GET", "/", &[(name, value)]), true);

        assert_refused(&client.answer(stream), 400, name);
    }
    assert_eq!(origin.requests(), Vec::<String>::new());
}

#[test]
fn trailers_may_be_asked_for() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    let stream = client.headers(&request("GET", "/", &[("te", "trailers")]), true);

    assert_eq!(client.answer(stream).status, Some(200));
    assert_eq!(origin.last_fields("te"), Vec::<String>::new());
}

#[test]
fn a_length_that_the_body_does_not_have_is_refused() {
    let (origin, gate) = echo_house();

    for (length, body) in [("3", "hello"), ("7", "hello"), ("x", "hello"), ("-1", "")] {
        let mut client = Frames::connect(gate.address());
        let fields = request("POST", "/", &[("content-length", length)]);
        let stream = client.headers(&fields, false);
        client.data(stream, body.as_bytes(), true);

        let answer = client.answer(stream);
        assert_ne!(answer.status, Some(200), "a length of {length} for {body:?}");
    }
    assert_eq!(origin.requests(), Vec::<String>::new());
}

#[test]
fn heads_beyond_the_listeners_limits_are_refused() {
    let gate = Gate::yaml(
        "version: 1\n\
         server: {workers: 1}\n\
         listeners:\n\
         - {name: public, address: \"127.0.0.1:0\", limits: {header_bytes: 1KiB, headers: 10}}\n\
         routes: [{name: all, match: {path: /}, reply: {status: 200}}]\n",
    );
    let mut client = Frames::connect(gate.address());

    let long = "x".repeat(2000);
    let stream = client.headers(&request("GET", "/", &[("x-long", &long)]), true);
    assert_refused(&client.answer(stream), 431, "a long head");
    let many = [("x-a", "b"); 11];
    let stream = client.headers(&request("GET", "/", &many), true);
    assert_refused(&client.answer(stream), 431, "a head of many fields");

    assert_eq!(client.get("/").status, Some(200), "the connection does not survive");
}

#[test]
fn a_head_that_no_listener_would_take_is_refused() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    let part = "x".repeat(10_000);
    let fields: Vec<(&str, &str)> = (0..20).map(|_| ("x-long", part.as_str())).collect();
    let stream = client.headers(&request("GET", "/", &fields), true);

    assert_refused(&client.answer(stream), 431, "200 KB of fields");
    assert_eq!(origin.requests(), Vec::<String>::new());
    assert_eq!(gate.get("/").status, 200);
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let gate = Gate::yaml(
        "version: 1\n\
         server: {workers: 1}\n\
         listeners: [{name: public, address: \"127.0.0.1:0\", limits: {body_bytes: 8}}]\n\
         routes: [{name: all, match: {path: /}, reply: {status: 200}}]\n",
    );
    let mut client = Frames::connect(gate.address());

    let stream = client.headers(&request("POST", "/", &[("content-length", "9")]), false);
    client.data(stream, b"123456789", true);

    assert_refused(&client.answer(stream), 413, "a body that is too long");
    assert_eq!(client.get("/").status, Some(200), "the connection does not survive");
}

#[test]
fn a_client_that_does_not_bring_its_body_is_to_blame() {
    let origin = Origin::scripted(|exchange| exchange.write("HTTP/1.1 200 OK\r\n\r\n"));
    let gate = Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", timeouts: {{body_read: 300ms}}}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    ));
    let mut client = Frames::connect(gate.address());

    let stream = client.headers(&request("POST", "/", &[("content-length", "9")]), false);
    client.data(stream, b"12345", false);

    assert_eq!(client.answer(stream).status, Some(408));
    assert_eq!(gate.log(1)[0]["failure"], "D4");
}

#[test]
fn the_gateways_own_answers_leave_the_connection_alive() {
    let gate = Gate::yaml(
        "version: 1\n\
         server: {workers: 1}\n\
         listeners: [{name: public, address: \"127.0.0.1:0\"}]\n\
         routes: [{name: one, match: {path: /one, methods: [GET]}, reply: {body: one}}]\n",
    );
    let mut client = Frames::connect(gate.address());

    for _ in 0..2 {
        let one = client.get("/one");
        assert_eq!((one.status, one.body.as_slice()), (Some(200), &b"one"[..]));
        assert_eq!(client.get("/other").status, Some(404));
        let stream = client.headers(&request("DELETE", "/one", &[]), true);
        assert_eq!(client.answer(stream).status, Some(405));
        let stream = client.headers(&request("POST", "/other", &[]), false);
        client.data(stream, &[0; 1000], true);
        assert_eq!(client.answer(stream).status, Some(404));
    }
}

#[test]
fn an_upstream_that_is_down_costs_the_stream_and_not_the_connection() {
    let gate = Gate::proxying(Origin::nobody(), "");
    let mut client = Frames::connect(gate.address());

    for _ in 0..3 {
        assert_eq!(client.get("/").status, Some(503));
    }
    assert_eq!(gate.metric(r#"gateway_connections_total{listener="public"}"#), 1.0);
}

#[test]
fn an_upstream_that_cuts_a_body_short_costs_the_stream_and_not_the_connection() {
    let origin = Origin::scripted(|exchange| {
        if exchange.head.starts_with("GET /cut ") {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")?;
            return exchange.close();
        }
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let gate = Gate::proxying(origin.address(), "");
    let mut client = Frames::connect(gate.address());

    let cut = client.get("/cut");
    assert!(cut.reset, "a body that was cut short ends like a whole one: {cut:?}");

    assert_eq!(client.get("/").status, Some(200));
}

#[test]
fn fields_of_the_upstreams_connection_do_not_come_down() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Foo\r\nX-Foo: 1\r\nKeep-Alive: timeout=5\r\n\
         Transfer-Encoding: chunked\r\nX-Kept: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let gate = Gate::proxying(origin.address(), "");
    let file = gate.folder().join("headers");

    let target = url(&gate, "/");
    let dump = file.display().to_string();
    let body = run("curl", &["-sS", "--http2-prior-knowledge", "-D", &dump, &target]);

    assert_eq!(body, b"hello");
    let head = read(&file).to_ascii_lowercase();
    assert!(head.contains("x-kept: 2"), "{head}");
    for gone in ["connection:", "x-foo:", "keep-alive:", "transfer-encoding:"] {
        assert!(!head.contains(gone), "{head}");
    }
}

#[test]
fn a_response_to_head_has_no_body() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let gate = Gate::proxying(origin.address(), "");
    let mut client = Frames::connect(gate.address());

    for _ in 0..2 {
        let stream = client.headers(&request("HEAD", "/", &[]), true);
        let answer = client.answer(stream);
        assert_eq!((answer.status, answer.body.len(), answer.reset), (Some(200), 0, false));
    }
}

#[test]
fn frames_that_break_the_protocol_end_the_connection_alone() {
    let (_origin, gate) = echo_house();
    let mut broken = Client::connect(gate.address());

    // A DATA frame on stream 0.
    broken.send(frames::PREFACE).send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    broken.send([0, 0, 1, 0, 0, 0, 0, 0, 0, b'x']);

    let told = broken.rest();
    assert!(told.len() < 1000);
    assert_eq!(gate.get("/").status, 200);
}

/// The stream is answered with this status or with its own end.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, what: &str) {
    assert!(answer.reset || answer.status == Some(status), "{what:?}: {answer:?}");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the program wrote it")
}
