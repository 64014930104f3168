//! Copies of requests for another upstream: what they are, what is compared, and that nobody feels them.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use gateway_tests::{Gate, Origin, eventually};

fn gate(origin: &Origin, copies: std::net::SocketAddr, mirror: &str) -> Gate {
    Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: LOG}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - {{name: users, endpoints: [\"{}\"]}}\n  - {{name: next, endpoints: [\"{copies}\"]}}\n\
         routes:\n  - name: r\n    match: {{path: /api}}\n    rewrite: {{prefix: /v2}}\n    upstream: users\n\
         \x20   mirror: {{upstream: next, {mirror}}}\n",
        origin.address(),
    ))
}

fn copies(outcome: &str) -> String {
    format!("gateway_mirror_copies_total{{outcome=\"{outcome}\",route=\"r\"}}")
}

fn comparisons(outcome: &str) -> String {
    format!("gateway_mirror_comparisons_total{{outcome=\"{outcome}\",route=\"r\"}}")
}

fn json(body: &str) -> Origin {
    Origin::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn a_copy_is_what_the_upstream_gets() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = bodies.clone();
    let next = Origin::scripted(move |exchange| {
        let body = String::from_utf8_lossy(&exchange.body).into_owned();
        seen.lock().unwrap_or_else(PoisonError::into_inner).push((exchange.head.clone(), body));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let origin = Origin::saying("one");
    let gate = gate(&origin, next.address(), "share: 100%");
    let mut client = gate.client();
    let requests = [
        "GET /api/x?q=1 HTTP/1.1\r\nHost: a\r\nX-Key: v\r\n\r\n",
        "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /api/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    ];

    for (number, request) in (1..).zip(requests) {
        client.send(request);
        assert_eq!(client.response().text(), "one");
        gate.await_metric(&copies("answered"), f64::from(number));
    }

    let told = bodies.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let starts = ["GET /v2/x?q=1 HTTP/1.1", "POST /v2 HTTP/1.1", "POST /v2/c HTTP/1.1"];
    for ((head, body), (start, expected)) in
        told.iter().zip(starts.iter().zip(["", "hello", "abcde"]))
    {
        assert!(head.starts_with(start), "{head}");
        assert_eq!(body, expected);
    }
    let get = told[0].0.to_ascii_lowercase();
    for field in ["host: a\r\n", "x-key: v\r\n", "x-forwarded-for: 127.0.0.1\r\n", "via: "] {
        assert!(get.contains(field), "{field}: {get}");
    }
    assert_eq!(next.connections(), 1, "its connection is kept");
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn a_share_of_requests_is_copied() {
    let (origin, next) = (Origin::saying("one"), Origin::saying("two"));
    let gate = gate(&origin, next.address(), "share: 20%");
    let mut client = gate.client();

    for _ in 0..400 {
        client.send("GET /api HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response();
    }

    // 80 are expected; the deviation is 8.
    let counted = || gate.metric(&copies("answered"));
    let before = std::cell::Cell::new(-1.0);
    eventually("no more is counted", || before.replace(counted()) == counted());
    assert!((40.0..120.0).contains(&counted()), "{}", counted());
    assert_eq!(next.requests().len(), counted() as usize);
}

#[test]
fn answers_are_compared_and_differences_counted() {
    let origin = json(r#"{"id": 1, "at": 1, "items": [{"n": 1, "t": 1}]}"#);
    for (body, compare, outcome) in [
        (r#"{"at":2,"id":1,"items":[{"t":9,"n":1}]}"#, "{ignore: [$.at, '$.items[*].t']}", "same"),
        (r#"{"at":2,"id":1,"items":[{"t":9,"n":1}]}"#, "{ignore: [$.at]}", "body"),
        (r#"{"at":2,"id":1,"items":[{"t":9,"n":1}]}"#, "{body: false}", "same"),
    ] {
        let next = json(body);
        let gate = gate(&origin, next.address(), &format!("compare: {compare}"));
        gate.get("/api");
        gate.await_metric(&comparisons(outcome), 1.0);
    }
    for (answer, outcome) in [
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "status"),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n", "header"),
    ] {
        let next = Origin::answering(answer);
        let gate = gate(&origin, next.address(), "compare: {}");
        gate.get("/api");
        gate.await_metric(&comparisons(outcome), 1.0);
    }
}

#[test]
fn a_mirror_that_is_dead_slow_or_failing_is_not_felt() {
    let origin = Origin::saying("one");
    let slow = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_secs(5));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let reset = Origin::scripted(|exchange| exchange.reset());
    let broken = Origin::answering("nonsense\r\n\r\n");
    for (address, outcome) in [
        (Origin::nobody(), "failed"),
        (reset.address(), "failed"),
        (broken.address(), "failed"),
        (slow.address(), "timeout"),
    ] {
        let gate = gate(&origin, address, "timeout: 300ms, compare: {}");
        let mut client = gate.client();
        let began = Instant::now();
        for _ in 0..20 {
            client.send("POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
            let response = client.response();
            assert_eq!((response.status, response.text()), (200, "one".to_owned()));
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        gate.await_metric(&copies(outcome), 20.0);
    }
}

#[test]
fn a_target_that_fails_is_left_alone_and_tried_again() {
    let origin = Origin::saying("one");
    let count = Arc::new(Mutex::new(0));
    let counted = count.clone();
    let next = Origin::scripted(move |exchange| {
        let mut count = counted.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        match *count {
            ..=5 => exchange.reset(),
            _ => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        }
    });
    let gate = gate(&origin, next.address(), "share: 100%");
    for failed in 1..=5 {
        assert_eq!(gate.get("/api").text(), "one");
        gate.await_metric(&copies("failed"), f64::from(failed));
    }
    let began = Instant::now();
    let mut spared = 0.0;

    while gate.metric(&copies("answered")) == 0.0 {
        assert_eq!(gate.get("/api").text(), "one");
        if began.elapsed() < Duration::from_millis(300) {
            spared += 1.0;
            gate.await_metric(&copies("failed"), 5.0 + spared);
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    assert!(began.elapsed() >= Duration::from_millis(400) && spared > 0.0);
    assert!(next.connections() > 5);
}

#[test]
fn copies_are_bounded_in_number_and_in_size() {
    let origin = Origin::saying("one");
    let slow = Origin::scripted(|exchange| exchange.await_close());
    let gate = gate(&origin, slow.address(), "in_flight: 3, body_bytes: 8, timeout: 20s");
    let mut client = gate.client();
    let mut post = |length: usize| {
        let body = "x".repeat(length);
        client.send(format!(
            "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        assert_eq!(client.response().text(), "one");
    };

    post(9);
    post(100_000);
    gate.await_metric(&copies("too_large"), 2.0);
    (0..10).for_each(|_| post(8));

    gate.await_metric(&copies("full"), 7.0);
}

#[test]
fn uploads_that_last_do_not_keep_others_from_being_copied() {
    let (origin, next) = (Origin::saying("one"), Origin::saying("two"));
    let gate = gate(&origin, next.address(), "in_flight: 2, body_bytes: 8");
    let head = "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n";
    let mut slow: Vec<_> = (0..3).map(|_| gate.client()).collect();
    for client in &mut slow {
        client.send(format!("{head}abcd"));
    }
    eventually("they are on their way", || origin.connections() == 3);

    assert_eq!(gate.get("/api").text(), "one");
    gate.await_metric(&copies("answered"), 1.0);

    drop(slow);
    gate.await_metric(&copies("incomplete"), 3.0);
}

#[test]
fn an_answer_that_goes_on_holds_nothing_once_it_is_not_compared() {
    let body = "x".repeat(500);
    let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{body}");
    let answer = whole.clone();
    let origin = Origin::scripted(move |exchange| match exchange.head.contains("/v2/stream") {
        true => {
            let part = "y".repeat(1000);
            exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{part}"))?;
            exchange.await_close()
        }
        false => exchange.write(&answer),
    });
    let next = Origin::answering(whole);
    let gate = gate(
        &origin,
        next.address(),
        "in_flight: 1, body_bytes: 1KiB, timeout: 300ms, compare: {}",
    );
    let mut stream = gate.client();
    stream.send("GET /api/stream HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.await_metric(&comparisons("skipped"), 1.0);

    // Two answers of 500 bytes fit, where nothing else is held.
    gate.get("/api");
    gate.await_metric(&comparisons("same"), 1.0);
    drop(stream);
}

#[test]
fn an_answer_to_a_copy_that_breaks_off_is_a_failure_and_one_that_is_too_long_is_not_compared() {
    let origin = Origin::saying("one");
    let broken = Origin::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")?;
        exchange.close()
    });
    let long = Origin::saying("much longer than eight bytes");
    for (next, outcome) in [(&broken, "failed"), (&long, "answered")] {
        let gate = gate(&origin, next.address(), "body_bytes: 8, compare: {headers: []}");
        assert_eq!(gate.get("/api").text(), "one");
        gate.await_metric(&copies(outcome), 1.0);
        if outcome == "answered" {
            gate.await_metric(&comparisons("skipped"), 1.0);
        }
    }
}

#[test]
fn a_connection_of_http_2_that_is_silent_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (told, accepted) = mpsc::channel();
    std::thread::spawn(move || {
        // They are kept, and never read.
        listener.incoming().for_each(|connection| drop(told.send(connection)));
    });
    let origin = Origin::saying("one");
    let gate = Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: \"off\"}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - {{name: users, endpoints: [\"{}\"]}}\n  \
         - {{name: next, endpoints: [\"{address}\"], protocol: http2}}\n\
         routes:\n  - {{name: r, upstream: users, mirror: {{upstream: next, timeout: 200ms}}}}\n",
        origin.address(),
    ));

    let mut kept = Vec::new();
    for count in 1..=2 {
        assert_eq!(gate.get("/").text(), "one");
        gate.await_metric(&copies("timeout"), f64::from(count));
        kept.extend(accepted.try_iter());
    }

    assert_eq!(kept.len(), 2);
}

#[test]
fn a_first_attempt_that_does_not_connect_loses_no_copy() {
    let (origin, next) = (Origin::saying("one"), Origin::saying("two"));
    let gate = Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: \"off\"}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - {{name: users, endpoints: [\"{}\", \"{}\"], retry: {{attempts: 2, budget: 100%}}}}\n  \
         - {{name: next, endpoints: [\"{}\"]}}\n\
         routes:\n  - {{name: r, upstream: users, mirror: {{upstream: next}}}}\n",
        origin.address(),
        Origin::nobody(),
        next.address()
    ));
    let mut client = gate.client();

    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!(response.text(), "one");
        if response.header("connection") == Some("close") {
            client = gate.client();
        }
    }

    gate.await_metric(&copies("answered"), 20.0);
}

#[test]
fn a_copy_is_not_sent_twice() {
    // Reads a second request on each connection, and closes without an answer.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let next = Origin::scripted(move |exchange| {
        let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(String::from_utf8_lossy(&exchange.body).into_owned());
        match seen.len() {
            2 => exchange.close(),
            _ => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        }
    });
    let origin = Origin::saying("one");
    let gate = gate(&origin, next.address(), "share: 100%");

    for (order, outcome, count) in
        [("a", "answered", 1.0), ("b", "failed", 1.0), ("c", "answered", 2.0)]
    {
        gate.exchange(format!("POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n{order}"));
        gate.await_metric(&copies(outcome), count);
    }

    assert_eq!(*seen.lock().unwrap_or_else(PoisonError::into_inner), ["a", "b", "c"]);
}

#[test]
fn copies_take_no_place_of_requests_for_the_same_upstream() {
    let origin = Origin::saying("one");
    let slow = Origin::scripted(|exchange| match exchange.head.contains("/api") {
        true => exchange.await_close(),
        false => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown"),
    });
    let gate = Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: \"off\"}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - {{name: users, endpoints: [\"{}\"]}}\n  \
         - {{name: next, endpoints: [\"{}\"], limits: {{endpoint_in_flight: 2, in_flight: 2}}}}\n\
         routes:\n  - {{name: r, match: {{path: /api}}, upstream: users, mirror: {{upstream: next}}}}\n  \
         - {{name: own, upstream: next}}\n",
        origin.address(),
        slow.address()
    ));

    (0..5).for_each(|_| assert_eq!(gate.get("/api").text(), "one"));
    eventually("the copies are there", || slow.requests().len() == 5);

    assert_eq!(gate.get("/own").text(), "own");
}

#[test]
fn an_original_that_fails_is_not_compared() {
    let next = Origin::saying("two");
    let origin = Origin::scripted(|exchange| exchange.reset());
    let gate = gate(&origin, next.address(), "compare: {}");

    assert_eq!(gate.get("/api").status, 502);

    gate.await_metric(&copies("answered"), 1.0);
    gate.await_metric(&comparisons("skipped"), 1.0);
}

#[test]
fn a_mirror_that_cannot_be_is_told_with_its_place() {
    let check = |mirror: &str| {
        let config = format!(
            "version: 1\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
             upstreams: [{{name: a, endpoints: [\"127.0.0.1:1\"]}}]\n\
             routes: [{{name: r, upstream: a, mirror: {mirror}}}]\n"
        );
        let found = gateway_core::Gateway::builder().config_text(config).check();
        let faults = found.err().expect("it is refused");
        faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect::<Vec<_>>()
    };

    assert_eq!(
        check(
            "{upstream: b, body_bytes: 5MiB, timeout: 0s, compare: {headers: ['a b'], ignore: [x]}}"
        ),
        [
            "routes[0].mirror.upstream: there is no upstream `b`, did you mean `a`?",
            "routes[0].mirror.body_bytes: at most 4MiB are copied",
            "routes[0].mirror.timeout: this limit cannot be turned off; write a duration above 0",
            "routes[0].mirror.compare.headers[0]: `a b` is no header name",
        ]
    );
    assert_eq!(
        check("{upstream: a, compare: {ignore: [x]}}"),
        [
            "routes[0].mirror.compare.ignore[0]: expected a path such as `$.updated_at` or `$.items[*].id`, got `x`"
        ]
    );
}
