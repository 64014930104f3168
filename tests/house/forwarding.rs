//! Who is said to have asked: forwarded fields, client addresses, traces and request ids.

use std::net::SocketAddr;

use gateway_tests::{Gate, Origin};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A gateway whose upstream learns the client's address as `x-client` and the scheme as
/// `x-scheme`; `listener` is added to its listener.
fn house(listener: &str) -> (Origin, Gate) {
    let origin = Origin::saying("ok");
    let gate = Gate::yaml(&config(origin.address(), "127.0.0.1:0", listener));
    (origin, gate)
}

fn config(origin: SocketAddr, address: &str, listener: &str) -> String {
    format!(
        r#"
version: 1
server: {{workers: 1}}
listeners: [{{name: public, address: "{address}"{listener}}}]
upstreams: [{{name: origin, endpoints: ["{origin}"]}}]
routes: [{{name: all, match: {{path: /}}, upstream: origin}}]
plugins:
  - kind: headers
    options: {{request: {{set: {{x-client: "{{client.ip}}", x-scheme: "{{request.scheme}}"}}}}}}
"#
    )
}

fn trusting() -> (Origin, Gate) {
    house(", trusted_proxies: [127.0.0.0/8, \"2001:db8::/32\"]")
}

#[track_caller]
fn send(gate: &Gate, lines: &str) {
    let request = format!("GET / HTTP/1.1\r\nHost: test.example\r\n{lines}\r\n");
    assert_eq!(gate.exchange(request).status, 200, "{lines:?}");
}

#[test]
fn what_a_stranger_claims_about_others_is_not_passed_on() {
    let (origin, gate) = house("");

    send(
        &gate,
        "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: other.example\r\nForwarded: for=192.0.2.1;proto=https\r\n\
         X-Real-IP: 192.0.2.1\r\nX-Forwarded-Prefix: /admin\r\nX-Forwarded-Port: 443\r\n",
    );

    for claim in ["x-real-ip", "x-forwarded-prefix", "x-forwarded-port"] {
        assert_eq!(origin.last_fields(claim), Vec::<String>::new(), "{claim}");
    }

    assert_eq!(origin.last_fields("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(origin.last_fields("x-forwarded-proto"), ["http"]);
    assert_eq!(origin.last_fields("x-forwarded-host"), ["test.example"]);
    assert_eq!(origin.last_fields("x-client"), ["127.0.0.1"]);
    assert_eq!(origin.last_fields("x-scheme"), ["http"]);
    let forwarded = origin.last_fields("forwarded");
    assert_eq!(forwarded.len(), 1);
    assert!(
        !forwarded[0].contains("192.0.2.1") && !forwarded[0].contains("https"),
        "{forwarded:?}"
    );
}

#[test]
fn a_request_that_claims_nothing_is_given_every_field() {
    let (origin, gate) = house("");

    send(&gate, "");

    assert_eq!(origin.last_fields("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(origin.last_fields("x-forwarded-proto"), ["http"]);
    assert_eq!(origin.last_fields("x-forwarded-host"), ["test.example"]);
    // RFC 7239: pairs in any order.
    let forwarded = origin.last_fields("forwarded").concat();
    let mut pairs: Vec<&str> = forwarded.split(';').collect();
    pairs.sort_unstable();
    assert_eq!(pairs, ["for=127.0.0.1", "host=\"test.example\"", "proto=http"]);
}

#[test]
fn a_trusted_proxy_is_continued() {
    let (origin, gate) = trusting();

    send(
        &gate,
        "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-For: 127.0.0.5\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: first.example\r\n\
         Forwarded: for=198.51.100.7;proto=https\r\n",
    );

    assert_eq!(origin.last_fields("x-forwarded-for"), ["198.51.100.7, 127.0.0.5, 127.0.0.1"]);
    assert_eq!(origin.last_fields("x-forwarded-proto"), ["https"]);
    assert_eq!(origin.last_fields("x-forwarded-host"), ["first.example"]);
    assert_eq!(origin.last_fields("x-scheme"), ["https"]);
    let forwarded = origin.last_fields("forwarded");
    assert_eq!(forwarded.len(), 1);
    let own = forwarded[0].strip_prefix("for=198.51.100.7;proto=https, ").unwrap_or_default();
    assert!(own.split(';').any(|pair| pair == "for=127.0.0.1"), "{forwarded:?}");
}

#[test]
fn a_trusted_proxy_that_says_nothing_is_spoken_for() {
    let (origin, gate) = trusting();

    send(&gate, "");

    assert_eq!(origin.last_fields("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(origin.last_fields("x-forwarded-proto"), ["http"]);
    assert_eq!(origin.last_fields("x-forwarded-host"), ["test.example"]);
    assert_eq!(origin.last_fields("x-client"), ["127.0.0.1"]);
}

#[test]
fn the_client_is_the_first_address_from_the_right_that_is_not_trusted() {
    let (origin, gate) = trusting();

    for (lines, client) in [
        ("X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7"),
        ("X-Forwarded-For: 6.6.6.6, 198.51.100.7\r\n", "198.51.100.7"),
        ("X-Forwarded-For: 6.6.6.6, 198.51.100.7, 127.0.0.9\r\n", "198.51.100.7"),
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7"),
        ("X-Forwarded-For: 127.0.0.8, 127.0.0.9\r\n", "127.0.0.8"),
        ("X-Forwarded-For: 198.51.100.7, unknown, 127.0.0.9\r\n", "127.0.0.9"),
        ("X-Forwarded-For: 198.51.100.7, \r\n", "127.0.0.1"),
        ("X-Forwarded-For: 2a00::9, 2001:db8::5\r\n", "2a00::9"),
        ("X-Forwarded-For: [2a00::9]:443, [2001:db8::5]\r\n", "2a00::9"),
        ("X-Forwarded-For: ::ffff:198.51.100.7, ::ffff:127.0.0.9\r\n", "198.51.100.7"),
        ("", "127.0.0.1"),
    ] {
        send(&gate, lines);

        assert_eq!(origin.last_fields("x-client"), [client], "{lines:?}");
    }
}

#[test]
fn a_client_over_ipv6_is_written_as_ipv6() {
    let origin = Origin::saying("ok");
    let gate = Gate::yaml(&config(origin.address(), "[::1]:0", ""));

    send(&gate, "X-Forwarded-For: 192.0.2.1\r\n");

    assert_eq!(origin.last_fields("x-forwarded-for"), ["::1"]);
    assert_eq!(origin.last_fields("x-client"), ["::1"]);
    // RFC 7239, section 6: in brackets and quotes.
    let forwarded = origin.last_fields("forwarded").concat();
    assert!(forwarded.split(';').any(|pair| pair == "for=\"[::1]\""), "{forwarded}");
}

#[test]
fn the_gateway_names_itself_in_via() {
    let (origin, gate) = house("");

    send(&gate, "");
    assert_eq!(origin.last_fields("via"), ["1.1 gateway"]);

    send(&gate, "Via: 1.0 fred, 1.1 p.example\r\n");
    assert_eq!(origin.last_fields("via").join(", "), "1.0 fred, 1.1 p.example, 1.1 gateway");

    gate.exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(origin.last_fields("via"), ["1.0 gateway"]);
}

#[test]
fn a_valid_trace_goes_on_with_its_state() {
    let (origin, gate) = house("");

    send(&gate, &format!("traceparent: {TRACE}\r\ntracestate: a=1,b@c=2\r\n"));

    assert_eq!(origin.last_fields("tracestate"), ["a=1,b@c=2"]);
    let parents = origin.last_fields("traceparent");
    assert_eq!(parents.len(), 1);
    // A gateway that records no span of its own passes the parent on as it is.
    assert_eq!(parents[0], TRACE);
}

#[test]
fn a_trace_that_is_not_valid_is_replaced_and_its_state_dropped() {
    let (origin, gate) = house("");

    for lines in [
        "traceparent: nonsense\r\n",
        "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01\r\n",
        "traceparent: ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
        "traceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01\r\n",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x\r\n",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7\r\n",
        "traceparent: \r\n",
    ] {
        send(&gate, &format!("{lines}tracestate: a=1\r\ntracestate: b=2\r\n"));

        assert_begun(&origin);
        assert_eq!(origin.last_fields("tracestate"), Vec::<String>::new(), "{lines:?}");
    }
}

#[test]
fn of_two_traces_none_goes_on() {
    let (origin, gate) = house("");

    send(&gate, &format!("traceparent: {TRACE}\r\ntraceparent: {TRACE}\r\n"));

    assert_begun(&origin);
}

#[test]
fn a_request_without_a_trace_begins_one() {
    let (origin, gate) = house("");

    send(&gate, "tracestate: a=1\r\n");
    let first = assert_begun(&origin);
    send(&gate, "");
    let second = assert_begun(&origin);

    assert_ne!(first, second);
    assert_eq!(origin.last_fields("tracestate"), Vec::<String>::new());
}

/// The upstream got one valid trace that the client did not send; returns its id.
#[track_caller]
fn assert_begun(origin: &Origin) -> String {
    let parents = origin.last_fields("traceparent");
    assert_eq!(parents.len(), 1, "{parents:?}");
    let parts: Vec<&str> = parents[0].split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    assert_eq!((parts[0], lengths.as_slice()), ("00", [2, 32, 16, 2].as_slice()), "{parents:?}");
    let hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    assert!(parts.iter().all(hex), "{parents:?}");
    assert!(parts[1].contains(|digit| digit != '0'), "{parents:?}");
    assert_ne!(parts[1], &TRACE[3..35]);
    parts[1].to_owned()
}

#[test]
fn a_request_id_is_made_sent_up_and_sent_back() {
    let origin = Origin::saying("ok");
    let gate = Gate::proxying(origin.address(), "plugins: [{kind: request-id}]");

    let response = gate.get("/");

    let sent = origin.last_fields("x-request-id");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].len(), 36, "{sent:?}");
    assert_eq!(response.headers_of("x-request-id"), [sent[0].as_str()]);
    gate.get("/");
    assert_ne!(origin.last_fields("x-request-id"), sent);
}

#[test]
fn a_request_id_of_the_client_is_kept_if_it_is_fit() {
    let origin = Origin::saying("ok");
    let gate = Gate::proxying(origin.address(), "plugins: [{kind: request-id}]");
    let longest = "x".repeat(128);
    let too_long = "x".repeat(129);

    for (given, kept) in
        [("abc-123", true), (&longest, true), (&too_long, false), ("a b", false), ("", false)]
    {
        let request =
            format!("GET / HTTP/1.1\r\nHost: test.example\r\nX-Request-Id: {given}\r\n\r\n");
        let response = gate.exchange(request);

        let sent = origin.last_fields("x-request-id");
        assert_eq!(sent.len(), 1, "{given}");
        assert_eq!(sent[0] == given, kept, "{given} became {}", sent[0]);
        assert_eq!(response.headers_of("x-request-id"), [sent[0].as_str()]);
    }
}

#[test]
fn a_request_id_is_on_the_gateways_own_answers_too() {
    let gate = Gate::yaml(
        "version: 1\n\
         listeners: [{name: public, address: \"127.0.0.1:0\"}]\n\
         plugins: [{kind: request-id}]\n\
         routes: [{name: one, match: {path: /one}, reply: {status: 200}}]\n",
    );

    for target in ["/one", "/other"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n");
        assert_eq!(gate.exchange(request).header("x-request-id"), Some("mine"), "{target}");
    }
}

#[test]
fn several_cookie_fields_become_one() {
    let (origin, gate) = house("");

    send(&gate, "Cookie: a=1\r\nX-A: b\r\nCookie: c=2; d=3\r\n");

    assert_eq!(origin.last_fields("cookie"), ["a=1; c=2; d=3"]);
}

#[test]
fn names_of_fields_come_down_in_lower_case_unless_their_spelling_is_kept() {
    let origin = Origin::answering(
        "HTTP/1.1 200 Quite Well\r\nX-Mixed-CASE: 1\r\nX-Mixed-CASE: 2\r\ncontent-LENGTH: 2\r\n\r\nok",
    );
    for (extra, name) in [("", "x-mixed-case"), (", header_case: preserve", "X-Mixed-CASE")] {
        let gate = Gate::yaml(&format!(
            "version: 1\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
             upstreams: [{{name: origin, endpoints: [\"{}\"]{extra}}}]\n\
             routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
            origin.address()
        ));
        let mut client = gate.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8_lossy(&client.rest()).into_owned();

        assert!(answer.starts_with("HTTP/1.1 200 Quite Well\r\n"), "{answer}");
        for value in 1..=2 {
            assert!(answer.contains(&format!("\r\n{name}: {value}\r\n")), "{answer}");
        }
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    }
}

#[test]
fn names_of_fields_go_up_in_lower_case_unless_their_spelling_is_kept() {
    let origin = Origin::saying("ok");
    let config = |extra: &str| {
        format!(
            "version: 1\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
             upstreams: [{{name: origin, endpoints: [\"{}\"]{extra}}}]\n\
             routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
            origin.address()
        )
    };
    let sent = ["X-Mixed-CASE: Value", "x-lower: 1", "Accept: */*"];
    let added = ["X-Forwarded-For: 127.0.0.1", "Via: 1.1 gateway", "X-Forwarded-Proto: http"];
    let lower = |line: &&str| {
        let (name, value) = line.split_once(':').expect("it is a field");
        format!("\r\n{}:{value}\r\n", name.to_ascii_lowercase())
    };

    let gate = Gate::yaml(&config(""));
    send(&gate, &format!("{}\r\n", sent.join("\r\n")));
    let request = origin.last_request();
    for line in sent.iter().chain(&added) {
        assert!(request.contains(&lower(line)), "{line}: {request}");
    }

    let gate = Gate::yaml(&config(", header_case: preserve"));
    send(&gate, &format!("{}\r\n", sent.join("\r\n")));
    let request = origin.last_request();
    for line in sent.iter().chain(&added) {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
    }
}
