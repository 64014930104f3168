//! The fields of a request: which are refused, which end at the gateway, which go on.

use gateway_tests::Gate;

use super::{answer, assert_refused, echo_house, get_with, raw_origin, read_until};

#[test]
fn a_request_without_one_valid_host_is_refused() {
    let (origin, gate) = echo_house();

    for lines in [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nhost: a\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
        "Host: a,b\r\n",
        "Host: user@a\r\n",
        "Host: user:password@a\r\n",
        "Host: a:b\r\n",
        "Host: a:99999\r\n",
        "Host: a..b\r\n",
        "Host: <a>\r\n",
        "Host: \"a\"\r\n",
        "Host: [::1\r\n",
        "Host: [::g]\r\n",
        "Host: caf\u{e9}\r\n",
        "Host: http://a\r\n",
    ] {
        assert_refused(&gate, &origin, format!("GET / HTTP/1.1\r\n{lines}\r\n"), &[400]);
    }
}

#[test]
fn a_host_that_differs_from_the_target_is_refused() {
    let (origin, gate) = echo_house();

    for (target, host) in [
        ("http://a.example/", "b.example"),
        ("http://a.example/", "a.example.org"),
        ("http://a.example:81/", "a.example:82"),
        ("http://user@a.example/", "a.example"),
        ("http://user@a.example/", "user@a.example"),
        ("http://a.example@b.example/", "b.example"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_refused(&gate, &origin, request, &[400]);
    }
}

#[test]
fn http_1_0_without_a_host_goes_up_as_http_1_1_with_one() {
    let (origin, gate) = echo_house();

    let response = gate.exchange("GET /a HTTP/1.0\r\n\r\n");

    assert_eq!(response.status, 200);
    assert!(origin.last_request().starts_with("GET /a HTTP/1.1\r\n"), "{}", origin.last_request());
    assert_eq!(origin.last_fields("host").len(), 1);
    assert!(!origin.last_fields("host")[0].is_empty());
}

#[test]
fn a_host_goes_up_as_the_client_wrote_it() {
    let (origin, gate) = echo_house();

    for host in ["test.example", "Test.Example:8080", "[::1]:80", "192.0.2.1"] {
        let response = gate.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));

        assert_eq!(response.status, 200, "{host}");
        assert_eq!(origin.last_fields("host"), [host]);
    }
}

#[test]
fn fields_that_upstreams_could_read_otherwise_are_refused() {
    let (origin, gate) = echo_house();

    for lines in [
        "X-A: b\r\n c\r\n",
        "X-A: b\r\n\tc\r\n",
        "X-A : b\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X-A: b\rX-B: c\r\n",
        "X-A: b\r\r\n",
        "X-A: b\0c\r\n",
        "X-A\0: b\r\n",
        "X-A: b\u{1}c\r\n",
        "X-A: b\u{7f}c\r\n",
        "X A: b\r\n",
        "X-A\u{e9}: b\r\n",
        "X(A): b\r\n",
        ": b\r\n",
        "X-A\r\n",
    ] {
        assert_refused(&gate, &origin, get_with(lines), &[400]);
    }
}

#[test]
fn white_space_before_the_first_field_is_refused() {
    let (origin, gate) = echo_house();

    let request = "GET / HTTP/1.1\r\n X-A: b\r\nHost: test.example\r\n\r\n";

    assert_refused(&gate, &origin, request, &[400]);
}

#[test]
fn values_go_up_byte_for_byte() {
    let (origin, gate) = echo_house();

    gate.exchange(get_with(
        "X-A: a\tb \"c\" (d) {e}\r\nX-B:   padded  \r\nX-C:\r\nX-D: 1\r\nX-D: 2\r\n",
    ));

    assert_eq!(origin.last_fields("x-a"), ["a\tb \"c\" (d) {e}"]);
    assert_eq!(origin.last_fields("x-b"), ["padded"]);
    assert_eq!(origin.last_fields("x-c"), [""]);
    assert_eq!(origin.last_fields("x-d"), ["1", "2"]);
}

#[test]
fn fields_of_the_clients_connection_end_at_the_gateway() {
    let (origin, gate) = echo_house();

    let response = gate.exchange(get_with(
        "Connection: keep-alive, X-Foo, x-bar\r\n\
         X-Foo: 1\r\nX-Bar: 2\r\nX-Kept: 3\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
         Trailer: X-Sum\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    ));

    assert_eq!(response.status, 200);
    for gone in ["x-foo", "x-bar", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"] {
        assert_eq!(origin.last_fields(gone), Vec::<String>::new(), "{gone}");
    }
    assert_eq!(origin.last_fields("x-kept"), ["3"]);
    let options = origin.last_fields("connection").concat().to_ascii_lowercase();
    assert!(!options.contains("x-foo") && !options.contains("upgrade"), "{options}");
}

#[test]
fn a_field_that_protects_others_cannot_be_given_away() {
    let (origin, gate) = echo_house();

    for nominated in ["Host", "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Host", ":path"] {
        let request = get_with(&format!("Connection: close, {nominated}\r\n"));
        assert_refused(&gate, &origin, request, &[400]);
    }
}

#[test]
fn what_the_gateway_says_of_the_client_cannot_be_given_away() {
    let (origin, gate) = echo_house();

    for nominated in ["Forwarded", "Via", "traceparent"] {
        gate.exchange(get_with(&format!("Connection: close, {nominated}\r\n")));

        assert_eq!(origin.last_fields(nominated).len(), 1, "{nominated}");
    }
}

#[test]
fn the_length_of_a_body_cannot_be_given_away() {
    let (origin, gate) = echo_house();

    let mut client = gate.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    );
    let response = client.response();

    if response.status == 200 {
        assert_eq!(response.text(), "hello");
        let lengths = origin.last_fields("content-length").len();
        assert_eq!(lengths + origin.last_fields("transfer-encoding").len(), 1);
    } else {
        assert_eq!(response.status, 400);
    }
}

#[test]
fn an_upgrade_to_anything_but_websocket_is_not_passed_on() {
    let (origin, gate) = echo_house();

    for protocol in ["h2c", "websocket2", "TLS/1.0, foo/2"] {
        let response = gate.exchange(get_with(&format!(
            "Connection: Upgrade\r\nUpgrade: {protocol}\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        )));

        assert_eq!(response.status, 200, "{protocol}");
        assert_eq!(origin.last_fields("upgrade"), Vec::<String>::new(), "{protocol}");
    }
}

#[test]
fn a_tunnel_is_refused() {
    let (origin, gate) = echo_house();

    for target in ["test.example:443", "/"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: test.example:443\r\n\r\n");
        assert_refused(&gate, &origin, request, &[400, 405]);
    }
    let tunnel = "CONNECT test.example:443 HTTP/1.1\r\nHost: test.example:443\r\n\r\n";
    assert_eq!(gate.exchange(tunnel).status, 405);
}

#[test]
fn an_expectation_other_than_continue_is_refused() {
    let (origin, gate) = echo_house();

    for expectation in ["200-ok", "100-continue, x", "100-continue=1"] {
        let request = get_with(&format!("Expect: {expectation}\r\n"));
        assert_refused(&gate, &origin, request, &[417]);
    }
}

#[test]
fn an_expectation_to_continue_is_the_upstreams_to_meet() {
    let address = raw_origin(|stream| {
        read_until(stream, b"\r\n\r\n")?;
        answer(stream, b"HTTP/1.1 100 Continue\r\n\r\n")?;
        read_until(stream, b"hello")?;
        answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let gate = Gate::proxying(address, "");
    let mut client = gate.client();

    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.next_response(false).status, 100);
    client.send("hello");

    let response = client.next_response(false);
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
}

#[test]
fn an_upstream_may_refuse_instead_of_telling_the_client_to_continue() {
    let address = raw_origin(|stream| {
        read_until(stream, b"\r\n\r\n")?;
        answer(stream, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    });
    let gate = Gate::proxying(address, "");
    let mut client = gate.client();

    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");

    let response = client.next_response(false);
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
}
