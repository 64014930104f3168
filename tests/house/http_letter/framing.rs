//! Where a request's body ends: one way to read it, or no way through (RFC 9112, section 6).

use gateway_tests::Gate;

use super::{assert_refused, echo_house, echoing};

fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: test.example\r\n{lines}\r\n{body}")
}

#[test]
fn a_length_said_several_times_goes_up_once() {
    let (origin, gate) = echo_house();

    for lines in [
        "Content-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5\r\ncontent-length: 5,5\r\n",
    ] {
        let response = gate.exchange(post(lines, "hello"));

        assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{lines:?}");
        assert_eq!(origin.last_fields("content-length"), ["5"], "{lines:?}");
    }
}

#[test]
fn lengths_that_differ_or_are_none_are_refused() {
    let (origin, gate) = echo_house();

    for lines in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: five\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: 0000000000000000000000000000000000000000000000005\r\n",
        "Content-Length:                                                 5\r\n",
    ] {
        assert_refused(&gate, &origin, post(lines, "hello"), &[400]);
    }
}

#[test]
fn zeros_before_a_length_do_not_go_up() {
    let (origin, gate) = echo_house();

    let response = gate.exchange(post("Content-Length: 0005\r\n", "hello"));

    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(origin.last_fields("content-length"), ["5"]);
}

#[test]
fn a_length_beside_chunks_is_refused_and_what_follows_is_not_served() {
    let (origin, gate) = echo_house();
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "TRANSFER-ENCODING: chunked\r\ncontent-length: 0\r\n",
    ] {
        assert_refused(&gate, &origin, post(lines, smuggled), &[400]);
    }
}

#[test]
fn a_coding_other_than_chunked_alone_is_refused() {
    let (origin, gate) = echo_house();

    for lines in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding:\r\n",
    ] {
        assert_refused(&gate, &origin, post(lines, "0\r\n\r\n"), &[400, 501]);
    }
}

#[test]
fn chunked_is_known_in_any_case() {
    let (origin, gate) = echo_house();

    let response = gate.exchange(post("Transfer-Encoding: Chunked\r\n", "2\r\nok\r\n0\r\n\r\n"));

    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(origin.last_fields("transfer-encoding").len(), 1);
}

#[test]
fn chunks_in_http_1_0_are_refused() {
    let (origin, gate) = echo_house();

    let request = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

    assert_refused(&gate, &origin, request, &[400, 501]);
}

#[test]
fn a_body_in_broken_chunks_is_refused_and_never_whole_upstream() {
    let (origin, gate) = echo_house();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

    for body in [
        "x\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\nhello\n0\n\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    ] {
        let request = post("Transfer-Encoding: chunked\r\n", &format!("{body}{smuggled}"));
        assert_refused(&gate, &origin, request, &[400]);
    }
}

#[test]
fn a_chunk_without_a_size_is_refused() {
    let (origin, gate) = echo_house();

    for body in ["\r\n\r\n", "\r\nhello\r\n0\r\n\r\n", ";a\r\n\r\n", "1\r\na\r\n\r\n\r\n"] {
        let request = post("Transfer-Encoding: chunked\r\n", body);
        assert_refused(&gate, &origin, request, &[400]);
    }
}

#[test]
fn a_line_feed_within_an_extension_of_a_chunk_is_refused() {
    let (origin, gate) = echo_house();

    // Some read the end of the line there, others do not.
    let request = post("Transfer-Encoding: chunked\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n");

    assert_refused(&gate, &origin, request, &[400]);
}

#[test]
fn a_body_that_ends_too_early_is_never_whole_upstream() {
    let (origin, gate) = echo_house();

    for (lines, body) in [
        ("Transfer-Encoding: chunked\r\n", "5\r\nhel"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n"),
        ("Content-Length: 5\r\n", "hel"),
    ] {
        let mut client = gate.client();
        client.send(post(lines, body)).finish();

        let rest = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 4"), "{body:?} is answered {rest:?}");
        assert_eq!(origin.requests(), Vec::<String>::new(), "{body:?}");
    }
}

#[test]
fn an_extension_of_a_chunk_ends_at_the_gateway() {
    let (_origin, gate) = echo_house();

    // The origin knows no extensions, so that it would not answer.
    let body = "5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n";
    let response = gate.exchange(post("Transfer-Encoding: chunked\r\n", body));

    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
}

#[test]
fn trailers_of_a_request_end_at_the_gateway() {
    let (origin, gate) = echo_house();
    let mut client = gate.client();

    client.send(post(
        "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n",
    ));
    assert_eq!(client.response().text(), "hello");
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);

    let requests = origin.requests();
    assert!(!requests.concat().to_ascii_lowercase().contains("x-sum"), "{requests:?}");
    assert!(requests[1].starts_with("GET /next "), "{requests:?}");
}

#[test]
fn a_body_of_unknown_length_goes_up_in_chunks() {
    let (origin, gate) = echo_house();
    let mut client = gate.client();

    client.send(post("Transfer-Encoding: chunked\r\n", ""));
    for part in ["1\r\na\r\n", "2\r\nbc\r\n", "A\r\n0123456789\r\n", "0\r\n\r\n"] {
        client.send(part);
    }

    assert_eq!(client.response().text(), "abc0123456789");
    assert_eq!(origin.last_fields("transfer-encoding"), ["chunked"]);
    assert_eq!(origin.last_fields("content-length"), Vec::<String>::new());
}

#[test]
fn an_empty_body_in_chunks_ends_once() {
    let (origin, gate) = echo_house();
    let mut client = gate.client();

    for target in ["/1", "/2"] {
        client.send(format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ));
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (200, ""));
    }

    // A last chunk written twice would be read as the beginning of the second request.
    let requests = origin.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests[1].starts_with("POST /2 "), "{requests:?}");
}

#[test]
fn a_request_without_framing_has_no_body() {
    let origin = echoing();
    let gate = Gate::proxying(origin.address(), "");
    let mut client = gate.client();

    client.send("POST /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");

    assert_eq!(client.response().text(), "");
    assert_eq!(client.response().status, 200);
    assert!(origin.last_request().starts_with("GET /2 "));
}
