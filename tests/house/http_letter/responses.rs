//! What comes back: framing, fields and statuses of an upstream's response on their way down.

use gateway_tests::{Gate, Origin, Response};

use super::{answer, get_with, raw_origin, read_until};

/// The response to a GET request through a gateway before an origin that answers this and closes.
#[track_caller]
fn relayed(response: &'static str) -> Response {
    let origin = Origin::scripted(move |exchange| {
        exchange.write(response)?;
        exchange.close()
    });
    Gate::proxying(origin.address(), "").get("/")
}

#[test]
fn fields_of_the_upstreams_connection_end_at_the_gateway() {
    let response = relayed(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Foo\r\nX-Foo: 1\r\nX-Kept: 2\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nTrailer: X-Sum\r\nUpgrade: h2c\r\n\
         TE: trailers\r\nContent-Length: 2\r\n\r\nok",
    );

    for gone in ["x-foo", "keep-alive", "proxy-connection", "trailer", "upgrade", "te"] {
        assert_eq!(response.header(gone), None, "{gone}");
    }
    assert_eq!(response.header("x-kept"), Some("2"));
    assert_eq!(response.text(), "ok");
    let options = response.headers_of("connection").concat().to_ascii_lowercase();
    assert!(!options.contains("x-foo") && !options.contains("close"), "{options}");
}

#[test]
fn framing_cannot_be_given_away_by_an_upstream() {
    let response =
        relayed("HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok");

    assert_eq!(response.text(), "ok");
    assert_eq!(response.headers_of("content-length"), ["2"]);
}

#[test]
fn what_an_upstream_says_of_itself_is_left_alone() {
    let response = relayed(
        "HTTP/1.1 200 OK\r\nServer: origin/1.0\r\nX-D: 1\r\nX-D: 2\r\nSet-Cookie: a=b\r\n\
         Set-Cookie: c=d\r\nContent-Length: 0\r\n\r\n",
    );

    assert_eq!(response.headers_of("server"), ["origin/1.0"]);
    assert_eq!(response.headers_of("x-d"), ["1", "2"]);
    assert_eq!(response.headers_of("set-cookie"), ["a=b", "c=d"]);
}

#[test]
fn an_upstream_without_a_server_field_is_given_none() {
    assert_eq!(relayed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").header("server"), None);
}

#[test]
fn a_response_has_one_date_and_it_is_the_gateways() {
    let old = "Tue, 15 Nov 1994 08:12:31 GMT";
    let dated = relayed(
        "HTTP/1.1 200 OK\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 0\r\n\r\n",
    );
    let undated = relayed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");

    // RFC 9110, section 6.6.1, lets an intermediary with a clock write Date.
    assert_eq!(undated.headers_of("date").len(), 1);
    assert_eq!(dated.headers_of("date").len(), 1);
    assert_ne!(dated.header("date"), Some(old));
}

#[test]
fn statuses_without_a_body_have_none_and_the_connection_goes_on() {
    for (head, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204),
        ("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", 304),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304),
    ] {
        let origin = Origin::answering(head);
        let gate = Gate::proxying(origin.address(), "");
        let mut client = gate.client();

        for _ in 0..2 {
            let response = client.send(get_with("")).response();

            assert_eq!(response.status, status, "{head:?}");
            assert_eq!(response.header("transfer-encoding"), None, "{head:?}");
            if status == 204 {
                assert_eq!(response.header("content-length"), None, "{head:?}");
            }
        }
    }
}

#[test]
fn a_response_to_head_keeps_its_length_and_has_no_body() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let gate = Gate::proxying(origin.address(), "");
    let mut client = gate.client();

    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response_to_head();

        assert_eq!((response.status, response.header("content-length")), (200, Some("5")));
    }
}

#[test]
fn a_response_to_head_without_a_length_has_no_body_either() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    {
        let origin = Origin::answering(head);
        let gate = Gate::proxying(origin.address(), "");
        let mut client = gate.client();

        for _ in 0..2 {
            client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response_to_head().status, 200, "{head:?}");
        }
    }
}

#[test]
fn an_upstream_of_http_1_0_is_answered_for_in_http_1_1() {
    let response = relayed("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");

    assert_eq!((response.version.as_str(), response.text().as_str()), ("HTTP/1.1", "ok"));
}

#[test]
fn a_body_that_ends_with_the_connection_goes_down_in_chunks() {
    let origin = Origin::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\n\r\nhello")?;
        exchange.close()
    });
    let gate = Gate::proxying(origin.address(), "");
    let mut client = gate.client();

    for _ in 0..2 {
        let response = client.send(get_with("")).response();

        assert_eq!(response.headers_of("transfer-encoding"), ["chunked"]);
        assert_eq!(response.text(), "hello");
    }
}

#[test]
fn a_body_that_ends_with_the_connection_does_so_for_http_1_0() {
    let origin = Origin::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\n\r\nhello")?;
        exchange.close()
    });
    let gate = Gate::proxying(origin.address(), "");
    let mut client = gate.client();

    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();

    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!(response.text(), "hello");
    assert!(super::says_close(&response), "{response:?}");
    assert!(client.is_closed());
}

#[test]
fn chunks_outrank_a_length() {
    let response = relayed(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    );

    assert_eq!(response.header("content-length"), None);
    assert_eq!(response.text(), "hello");
}

#[test]
fn a_length_said_twice_comes_down_once() {
    let response = relayed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok");

    assert_eq!(response.headers_of("content-length"), ["2"]);
    assert_eq!(response.text(), "ok");
}

#[test]
fn lengths_that_differ_or_are_none_are_a_fault_of_the_upstream() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
    ] {
        assert_eq!(relayed(head).status, 502, "{head:?}");
    }
}

#[test]
fn a_head_that_is_no_http_is_a_fault_of_the_upstream() {
    for head in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/3.7 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX A\0: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\0\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        assert_eq!(relayed(head).status, 502, "{head:?}");
    }
}

#[test]
fn a_field_that_goes_on_over_lines_comes_down_in_one_line_or_not_at_all() {
    let response = relayed("HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok");

    // RFC 9112, section 5.2: 502, or each fold replaced by spaces.
    match response.status {
        200 => {
            let value = response.header("x-a").unwrap_or_default();
            assert_eq!(value.split_ascii_whitespace().collect::<Vec<_>>(), ["b", "c"]);
            assert!(!value.contains(['\r', '\n']));
            assert_eq!(response.text(), "ok");
        }
        status => assert_eq!(status, 502),
    }
}

#[test]
fn a_reason_may_be_missing() {
    for head in [
        "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    ] {
        let response = relayed(head);
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{head:?}");
    }
}

#[test]
fn an_interim_response_is_passed_on_before_the_final_one() {
    let origin = Origin::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gate = Gate::proxying(origin.address(), "");
    let mut client = gate.client();

    client.send(get_with(""));
    let hints = client.next_response(false);
    let response = client.next_response(false);

    assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>; rel=preload")));
    assert_eq!(hints.header("content-length"), None);
    assert_eq!(hints.header("transfer-encoding"), None);
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
}

#[test]
fn an_interim_response_is_kept_from_http_1_0() {
    let origin = Origin::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gate = Gate::proxying(origin.address(), "");
    let mut client = gate.client();

    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");

    // RFC 9110, section 15.2.
    assert_eq!(client.next_response(false).status, 200);
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_a_fault_of_the_upstream() {
    let response = relayed(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nbytes",
    );

    assert_eq!(response.status, 502);
}

#[test]
fn bytes_behind_a_response_are_nobodys_response() {
    let origin = Origin::scripted(|exchange| match exchange.number {
        1 => exchange.write(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
             HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ),
        _ => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"),
    });
    let gate = Gate::proxying(origin.address(), "");

    assert_eq!(gate.get("/").text(), "ok");
    assert_eq!(gate.get("/").text(), "next");
}

#[test]
fn trailers_of_a_response_end_at_the_gateway() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n",
    );
    let gate = Gate::proxying(origin.address(), "");

    let mut client = gate.client();
    client.send(get_with("Connection: close\r\n"));
    let bytes = String::from_utf8_lossy(&client.rest()).into_owned();

    assert!(bytes.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{bytes:?}");
    assert_eq!(gate.get("/").text(), "hello");
}

#[test]
fn a_response_may_come_before_the_requests_body_has_ended() {
    let address = raw_origin(|stream| {
        read_until(stream, b"first")?;
        answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
    });
    let gate = Gate::proxying(address, "");
    let mut client = gate.client();

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nfirst");
    let response = client.response();

    assert_eq!((response.status, response.text().as_str()), (200, "early"));
}

#[test]
fn an_early_response_that_says_close_closes() {
    let address = raw_origin(|stream| {
        read_until(stream, b"first")?;
        answer(stream, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    let gate = Gate::proxying(address, "");
    let mut client = gate.client();

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nfirst");
    let response = client.response();

    assert_eq!(response.status, 413);
    // What is left of the body cannot be told from a next request.
    assert!(super::says_close(&response), "{response:?}");
    client.finish();
    assert!(client.is_closed());
}
