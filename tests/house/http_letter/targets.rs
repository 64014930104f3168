//! The request target, its forms, and the one form of a path that goes on.

use gateway_tests::Gate;

use super::{assert_refused, echo_house, naming_targets};

#[test]
fn an_absolute_form_goes_up_in_origin_form_with_its_own_host() {
    let (origin, gate) = echo_house();

    for (target, host, expected) in [
        ("http://test.example/a?b=c", "test.example", "/a?b=c"),
        ("http://test.example", "test.example", "/"),
        ("http://test.example?q", "test.example", "/?q"),
        ("HTTP://test.example:8080/a/../b", "test.example:8080", "/b"),
        ("https://test.example/a", "test.example", "/a"),
    ] {
        let response = gate.exchange(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));

        assert_eq!(response.status, 200, "{target}");
        let request = origin.last_request();
        assert!(request.starts_with(&format!("GET {expected} HTTP/1.1\r\n")), "{request:?}");
        assert_eq!(origin.last_fields("host"), [host], "{target}");
    }
}

#[test]
fn an_absolute_form_of_http_1_0_brings_its_own_host() {
    let (origin, gate) = echo_house();

    let response = gate.exchange("GET http://test.example/a HTTP/1.0\r\n\r\n");

    assert_eq!(response.status, 200);
    assert!(origin.last_request().starts_with("GET /a HTTP/1.1\r\n"));
    assert_eq!(origin.last_fields("host"), ["test.example"]);
}

#[test]
fn options_of_the_server_itself_keeps_its_form() {
    let (origin, gate) = echo_house();

    let response = gate.exchange("OPTIONS * HTTP/1.1\r\nHost: test.example\r\n\r\n");

    // `*` is no path, so that no route for paths has to match; if one does, it goes up as it is.
    match response.status {
        200 => assert!(origin.last_request().starts_with("OPTIONS * HTTP/1.1\r\n")),
        status => assert_eq!(status, 404),
    }
}

#[test]
fn the_asterisk_is_for_options_alone() {
    let (origin, gate) = echo_house();

    assert_refused(&gate, &origin, "GET * HTTP/1.1\r\nHost: test.example\r\n\r\n", &[400]);
}

#[test]
fn a_target_with_what_no_target_may_hold_is_refused() {
    let (origin, gate) = echo_house();

    for target in [
        "/a b",
        "/a\tb",
        "/a\u{1}b",
        "/a\u{7f}b",
        "/caf\u{e9}",
        "/a\"b",
        "/a<b",
        "/a>b",
        "/a\\b",
        "/a%5Cb",
        "/a%5cb",
        "/%00",
        "/%",
        "/%4",
        "/%G1",
        "/a%zz",
        "/a#b",
        "/?a b",
        "/?a\u{e9}",
        "a",
        "/?a#b",
        "ftp://test.example/",
        "http:///a",
        "test.example:80",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: test.example\r\n\r\n");
        assert_refused(&gate, &origin, request, &[400]);
    }
}

#[test]
fn a_target_that_is_not_utf_8_is_refused() {
    let (origin, gate) = echo_house();

    let request = b"GET /\xff\xfe HTTP/1.1\r\nHost: test.example\r\n\r\n";

    assert_refused(&gate, &origin, request, &[400]);
}

#[test]
fn a_request_line_of_another_shape_is_refused() {
    let (origin, gate) = echo_house();

    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET / HTTP/2.0",
        "GET / HTTP/1.10",
        "GET / http/1.1",
        "G(T / HTTP/1.1",
        "/ HTTP/1.1",
    ] {
        let request = format!("{line}\r\nHost: test.example\r\n\r\n");
        assert_refused(&gate, &origin, request, &[400, 505]);
    }
}

#[test]
fn the_form_of_a_path_that_was_matched_is_the_form_that_goes_up() {
    let origin = naming_targets();
    let gate = Gate::proxying(origin.address(), "");

    for (sent, expected) in [
        ("/a//b", "/a/b"),
        ("//a", "/a"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/../../a", "/a"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E/b", "/a/b"),
        ("/a/..", "/"),
        ("/a/b/", "/a/b/"),
        ("/%7Euser", "/~user"),
        ("/%41%2d%5f", "/A-_"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2f..%2fb", "/a%2F..%2Fb"),
        ("/%25%32%66", "/%252f"),
        ("/a;b=c", "/a;b=c"),
        ("/a%c3%a9", "/a%C3%A9"),
    ] {
        assert_eq!(gate.get(sent).text(), expected, "{sent}");
    }
}

#[test]
fn a_path_is_matched_in_the_form_that_goes_up() {
    let origin = naming_targets();
    let gate = Gate::yaml(&format!(
        "version: 1\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes:\n\
         - {{name: private, match: {{path: /private}}, reply: {{status: 403}}}}\n\
         - {{name: all, match: {{path: /}}, upstream: origin}}\n",
        origin.address()
    ));

    for sent in [
        "/private",
        "//private",
        "/x/../private",
        "/%70rivate",
        "/./private/x",
        "/x/%2e%2e/private",
    ] {
        assert_eq!(gate.get(sent).status, 403, "{sent}");
    }
    assert_eq!(gate.get("/x%2f..%2fprivate").text(), "/x%2F..%2Fprivate");
}

#[test]
fn a_query_goes_up_byte_for_byte() {
    let origin = naming_targets();
    let gate = Gate::proxying(origin.address(), "");

    for query in [
        "?",
        "?a=b&a=c",
        "?a=%2f%2F%7e%41",
        "?u=/x/../y//z",
        "?a?b",
        "?%zz%",
        "?\\%5C%00",
        "?a=b+c;d",
        "?'()*!,~|{}^`[]",
    ] {
        let target = format!("/a{query}");
        assert_eq!(gate.get(&target).text(), target);

        assert_eq!(gate.get(&format!("/x/../a{query}")).text(), target);
    }
}

#[test]
fn empty_lines_before_a_request_line_are_skipped() {
    let (_origin, gate) = echo_house();
    let mut client = gate.client();

    for lines in ["\r\n", "\r\n\r\n"] {
        client.send(format!("{lines}GET / HTTP/1.1\r\nHost: test.example\r\n\r\n"));
        assert_eq!(client.response().status, 200);
    }
}
