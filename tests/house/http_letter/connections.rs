//! When a connection goes on, when it ends, and in which order it answers.

use gateway_tests::{Gate, Origin};

use super::{assert_truthful, echo_house, get_with, naming_targets, says_close};

const LOCAL: &str = r#"
version: 1
server: {workers: 1}
listeners: [{name: public, address: "127.0.0.1:0", limits: {body_bytes: 8}}]
upstreams: [{name: origin, endpoints: ["ORIGIN"], timeouts: {connect: 300ms}}]
routes:
  - {name: hello, match: {path: /hello}, reply: {body: hello}}
  - {name: posts, match: {path: /posts, methods: [POST]}, upstream: origin}
"#;

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let origin = naming_targets();
    let gate = Gate::proxying(origin.address(), "");
    let mut client = gate.client();

    let targets: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    for target in &targets {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }

    let answers: Vec<String> = targets.iter().map(|_| client.response().text()).collect();
    assert_eq!(answers, targets);
}

#[test]
fn pipelined_requests_with_bodies_are_told_apart() {
    let (origin, gate) = echo_house();
    let mut client = gate.client();

    client.send(
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst\
         POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n0\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );

    let answers = [client.response().text(), client.response().text(), client.response().text()];
    assert_eq!(answers, ["first", "second", ""]);
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn a_pipelined_request_may_be_cut_into_packets_anywhere() {
    let origin = naming_targets();
    let gate = Gate::proxying(origin.address(), "");
    let first = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    let both = format!("{first}GET /second HTTP/1.1\r\nHost: a\r\n\r\n");

    for cut in first.len()..both.len() {
        let mut client = gate.client();
        client.send(&both[..cut]);
        assert_eq!(client.response().text(), "/first");

        client.send(&both[cut..]);

        assert_eq!(client.response().text(), "/second", "cut at {cut}");
    }
}

#[test]
fn requests_may_come_byte_by_byte() {
    let (_origin, gate) = echo_house();
    let mut client = gate.client();

    let requests = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
                    POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\nbye\r\n0\r\n\r\n";
    for byte in requests.as_bytes() {
        client.send([*byte]);
    }

    assert_eq!(client.response().text(), "hello");
    assert_eq!(client.response().text(), "bye");
}

#[test]
fn a_bad_request_behind_a_good_one_is_refused_like_any_other() {
    let origin = naming_targets();
    let gate = Gate::proxying(origin.address(), "");
    let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";

    for bad in ["GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut client = gate.client();
        client.send(format!("{good}{bad}{good}"));

        assert_eq!(client.response().text(), "/good");
        assert_eq!(client.response().status, 400, "{bad:?}");
        assert!(client.is_closed(), "{bad:?}");
    }
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks_and_a_connection_that_closes() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let origin = Origin::answering(chunked);
    let gate = Gate::proxying(origin.address(), "");

    for asked in ["", "Connection: keep-alive\r\n"] {
        let mut client = gate.client();
        client.send(format!("GET / HTTP/1.0\r\nHost: a\r\n{asked}\r\n"));
        let response = client.response();

        assert_eq!(response.header("transfer-encoding"), None);
        assert_eq!(response.text(), "hello");
        assert!(says_close(&response), "{response:?}");
        assert!(client.is_closed());
    }
}

#[test]
fn a_connection_of_http_1_0_goes_on_only_if_asked() {
    let (_origin, gate) = echo_house();

    let mut client = gate.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let response = client.response();
    assert!(says_close(&response), "{response:?}");
    assert!(client.is_closed());

    let mut client = gate.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status, 200);
        // HTTP/1.0 knows persistence only where it is said (RFC 9112, appendix C.2.2).
        let said = response.header("connection").unwrap_or_default().to_ascii_lowercase();
        assert_eq!(said, "keep-alive");
    }
}

#[test]
fn a_client_that_asks_for_a_close_gets_it_announced() {
    let (_origin, gate) = echo_house();

    for asked in ["close", "Close", "x-a, close", "close, x-a"] {
        let mut client = gate.client();
        client.send(get_with(&format!("Connection: {asked}\r\n")));
        let response = client.response();

        assert_eq!(response.status, 200);
        assert!(says_close(&response), "{asked}");
        assert!(client.is_closed(), "{asked}");
    }
}

#[test]
fn answers_of_the_gateway_itself_leave_the_connection_open() {
    let gate = Gate::yaml(&LOCAL.replace("ORIGIN", &Origin::nobody().to_string()));
    let mut client = gate.client();

    let host = "HTTP/1.1\r\nHost: a\r\n";
    let requests = [
        (format!("GET / {host}\r\n"), 404),
        (format!("GET /posts {host}\r\n"), 405),
        (format!("GET /hello {host}\r\n"), 200),
        (format!("POST /hello {host}Content-Length: 8\r\n\r\n12345678"), 200),
        (format!("POST / {host}Content-Length: 8\r\n\r\n12345678"), 404),
        (format!("POST / {host}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), 404),
        (format!("POST /hello {host}Content-Length: 9\r\n\r\n123456789"), 413),
        (format!("GET /hello {host}\r\n"), 200),
    ];
    for (request, status) in &requests {
        let response = client.send(request).response();

        assert_eq!(response.status, *status, "{request:?}");
        assert!(!says_close(&response), "{request:?}");
    }
}

#[test]
fn a_head_request_is_answered_by_the_gateway_itself_without_a_body() {
    let gate = Gate::yaml(&LOCAL.replace("ORIGIN", &Origin::nobody().to_string()));
    let mut client = gate.client();

    client.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response_to_head();
    client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    let get = client.response();

    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    assert_eq!(get.text(), "hello");
}

#[test]
fn a_body_that_turns_out_too_long_is_refused_truthfully() {
    let (_origin, gate) = {
        let origin = super::echoing();
        let gate = Gate::yaml(&LOCAL.replace("ORIGIN", &origin.address().to_string()));
        (origin, gate)
    };
    let mut client = gate.client();

    client.send("POST /posts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("9\r\n123456789\r\n0\r\n\r\n");
    let response = client.response();

    assert_eq!(response.status, 413);
    assert_truthful(&mut client, &response);
}

#[test]
fn an_upstream_that_refuses_is_answered_truthfully() {
    let gate = Gate::proxying(Origin::nobody(), "");
    let mut client = gate.client();

    client.send(get_with(""));
    let response = client.response();

    assert_eq!(response.status, 503);
    assert_truthful(&mut client, &response);
}

#[test]
fn an_upstream_that_resets_is_answered_truthfully() {
    let origin = Origin::scripted(|exchange| exchange.reset());
    let gate = Gate::proxying(origin.address(), "");

    for request in
        [get_with(""), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok".into()]
    {
        let mut client = gate.client();
        client.send(request);
        let response = client.response();

        assert_eq!(response.status, 502);
        assert_truthful(&mut client, &response);
    }
}

#[test]
fn an_upstream_that_speaks_no_http_is_answered_truthfully() {
    for garbage in
        ["garbage\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/x.1 200 OK\r\n\r\n", "\0\0\0"]
    {
        let origin = Origin::scripted(move |exchange| {
            exchange.write(garbage)?;
            exchange.close()
        });
        let gate = Gate::proxying(origin.address(), "");
        let mut client = gate.client();

        client.send(get_with(""));
        let response = client.response();

        assert_eq!(response.status, 502, "{garbage:?}");
        assert_truthful(&mut client, &response);
    }
}

#[test]
fn the_last_request_that_a_connection_may_carry_is_answered_with_a_close() {
    let config = LOCAL.replace("body_bytes: 8", "requests_per_connection: 2");
    let gate = Gate::yaml(&config.replace("ORIGIN", &Origin::nobody().to_string()));
    let mut client = gate.client();
    let request = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

    let first = client.send(request).response();
    let second = client.send(request).response();

    assert!(!says_close(&first));
    assert!(says_close(&second));
    assert!(client.is_closed());
}
