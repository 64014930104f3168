//! Which requests are tried again, where, how often and when not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gateway_tests::{Gate, Origin};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A gateway over these endpoints, in turns, with these options of `retry`.
fn house(origins: &[&Origin], retry: &str) -> Gate {
    let addresses: Vec<String> =
        origins.iter().map(|origin| format!("\"{}\"", origin.address())).collect();
    over(&addresses, retry)
}

fn over(addresses: &[String], retry: &str) -> Gate {
    Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - name: origin\n    endpoints: [{}]\n    retry: {retry}\n    \
         timeouts: {{total: 10s}}\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        addresses.join(", ")
    ))
}

/// Ends every connection once it has read a request, without an answer.
fn resetting() -> Origin {
    Origin::scripted(|exchange| exchange.reset())
}

fn retries(gate: &Gate, reason: &str) -> f64 {
    gate.metric(&format!(
        r#"gateway_upstream_retries_total{{reason="{reason}",upstream="origin"}}"#
    ))
}

fn post(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_request_that_finds_no_connection_goes_elsewhere_whatever_its_method() {
    let good = Origin::saying("ok");
    let addresses = [format!("\"{}\"", Origin::nobody()), format!("\"{}\"", good.address())];
    let gate = over(&addresses, "{}");

    for number in 0..10 {
        let response = if number % 2 == 0 { gate.get("/") } else { gate.exchange(post("hi")) };
        assert_eq!(response.status, 200);
    }

    assert_eq!(good.requests().len(), 10);
    let lines = gate.log(10);
    let attempts: Vec<u64> = lines.iter().filter_map(|line| line["attempts"].as_u64()).collect();
    assert_eq!(
        attempts.iter().sum::<u64>(),
        15,
        "the first of two attempts fails every other time"
    );
    assert!(lines.iter().all(|line| line["failure"].is_null()), "{lines:?}");
    assert_eq!(retries(&gate, "connect_failure"), 5.0);
    let refused = r#"gateway_upstream_attempts_total{outcome="U3",upstream="origin"}"#;
    assert_eq!(gate.metric(refused), 5.0);
}

#[test]
fn a_request_whose_connection_ends_is_repeated_if_its_method_is_safe() {
    let (bad, good) = (resetting(), Origin::saying("ok"));
    let gate = house(&[&bad, &good], "{}");

    assert_eq!(gate.get("/").status, 200);
    assert_eq!(retries(&gate, "reset"), 1.0);

    let statuses: Vec<u16> = (0..4).map(|_| gate.exchange(post("hi")).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 2, "{statuses:?}");
    assert_eq!(retries(&gate, "reset"), 1.0);
}

#[test]
fn an_answer_with_a_listed_status_is_not_passed_on_while_there_is_another_attempt() {
    let busy = Origin::answering("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
    let good = Origin::saying("ok");
    let gate = house(&[&busy, &good], "{on: [500-599]}");

    for _ in 0..10 {
        let response = gate.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
    assert_eq!(retries(&gate, "status"), 5.0);

    let alone = house(&[&busy], "{on: [503], attempts: 3, backoff: 1ms}");
    let response = alone.get("/");
    assert_eq!((response.status, response.text().as_str()), (503, "busy"));
    let line = alone.log(1).remove(0);
    assert_eq!((&line["attempts"], &line["status_source"]), (&3.into(), &"upstream".into()));
    assert!(line["failure"].is_null(), "{line}");
}

#[test]
fn an_answer_that_asks_for_too_long_a_pause_is_passed_on() {
    let later =
        Origin::answering("HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n");
    let spare = Origin::saying("ok");
    let gate = house(&[&later, &spare], "{on: [503]}");
    assert_eq!(gate.get("/").status, 503);
    assert_eq!(spare.requests().len(), 0);

    let soon =
        Origin::answering("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    let good = Origin::saying("ok");
    let gate = house(&[&soon, &good], "{on: [503]}");
    let began = Instant::now();
    assert_eq!(gate.get("/").status, 200);
    assert!((1000..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up_for_another() {
    let hangs = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_secs(20));
        exchange.close()
    });
    let good = Origin::saying("ok");
    let gate = house(&[&hangs, &good], "{on: [timeout], per_try: 200ms}");

    let began = Instant::now();
    assert_eq!(gate.get("/").status, 200);

    assert!((200..2000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(retries(&gate, "timeout"), 1.0);
    assert_eq!(
        gate.metric(r#"gateway_upstream_attempts_total{outcome="X3",upstream="origin"}"#),
        1.0
    );
}

/// Pingora keeps 64 KiB of a body and sends nothing of a longer one again.
#[test]
fn a_body_of_a_megabyte_is_sent_again_whole() {
    let body: String =
        (0..1_048_576_u32).map(|byte| char::from(b'a' + (byte % 23) as u8)).collect();
    let arrived = Arc::new(AtomicUsize::new(0));
    let (count, wanted) = (arrived.clone(), body.clone().into_bytes());
    let bad = resetting();
    let good = Origin::scripted(move |exchange| {
        assert_eq!(exchange.header("content-length"), Some("1048576"));
        if exchange.body == wanted {
            count.fetch_add(1, Ordering::Relaxed);
        }
        exchange.write(OK)
    });
    let gate = house(&[&bad, &good], "{methods: [PUT], body: 1MiB}");
    let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n{body}");

    for _ in 0..4 {
        let response = gate.exchange(&put);
        assert_eq!(response.status, 200, "{:?}", gate.log(1));
    }

    assert_eq!(arrived.load(Ordering::Relaxed), 4);
    assert_eq!(retries(&gate, "reset"), 2.0);
    let lines = gate.log(4);
    assert!(lines.iter().all(|line| line["http.request.body.size"] == 1_048_576), "{lines:?}");
}

#[test]
fn a_body_that_is_not_kept_is_not_sent_again() {
    let bad = resetting();
    let gate = house(&[&bad], "{methods: [PUT], body: 512KiB}");
    let body = "x".repeat(1_048_576);
    let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n{body}");

    assert_eq!(gate.exchange(put).status, 502);

    assert_eq!(bad.requests().len(), 1);
    assert_eq!(gate.log(1)[0]["failure"], "X1");
}

#[test]
fn short_bodies_are_sent_again_however_they_are_framed() {
    let bad = resetting();
    let good = Origin::scripted(|exchange| {
        let body = String::from_utf8_lossy(&exchange.body).into_owned();
        let length = body.len();
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))
    });
    let gate = house(&[&bad, &good], "{methods: [PUT]}");

    let chunked =
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(gate.exchange(chunked).text(), "abc");
    assert_eq!(gate.get("/").status, 200, "it is the other one's turn");
    let long = "y".repeat(60_000);
    let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n{long}");
    assert_eq!(gate.exchange(put).text(), long);
    assert_eq!(retries(&gate, "reset"), 2.0);
}

#[test]
fn nothing_is_repeated_once_an_answer_went_down() {
    let cut = Origin::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
        exchange.close()
    });
    let gate = house(&[&cut], "{on: [reset, bad_response, 200], attempts: 3}");

    // A status that is listed is repeated as long as it can be; the last answer is passed on.
    let mut client = gate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let bytes = client.rest();

    assert_eq!(cut.requests().len(), 3);
    assert!(bytes.ends_with(b"half"), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(gate.log(1)[0]["failure"], "X2");
}

#[test]
fn a_request_whose_attempts_are_used_up_says_so() {
    let bad = resetting();
    let gate = house(&[&bad], "{attempts: 3, backoff: 1ms}");

    assert_eq!(gate.get("/").status, 502);

    let line = gate.log(1).remove(0);
    assert_eq!((&line["failure"], &line["attempts"]), (&"X6".into(), &3.into()));
    assert_eq!(bad.requests().len(), 3);

    let once = house(&[&bad], "{attempts: 1}");
    once.get("/");
    assert_eq!(once.log(1)[0]["failure"], "X1");
}

#[test]
fn an_outage_is_not_made_worse_than_the_budget_allows() {
    let bad = resetting();
    let gate = house(
        &[&bad],
        "{attempts: 3, budget: 20%, budget_minimum: 0, backoff: 1ms, backoff_at_most: 1ms}",
    );

    let failed = (0..300).filter(|_| gate.get("/").status == 502).count();

    assert_eq!(failed, 300);
    let seen = bad.requests().len();
    assert!((355..=360).contains(&seen), "300 requests and 20 % more are 360, not {seen}");
    assert!(gate.metric(r#"gateway_upstream_retries_refused_total{upstream="origin"}"#) > 200.0);
}

#[test]
fn the_time_of_the_whole_request_bounds_all_attempts() {
    let hangs = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_secs(20));
        exchange.close()
    });
    let gate = house(&[&hangs], "{on: [timeout], per_try: 200ms, attempts: 10, backoff: 1ms}");
    let config = std::fs::read_to_string(gate.config_path()).expect("the config can be read");
    gate.write(&config.replace("total: 10s", "total: 500ms"));
    gate.running().reload().expect("the config is good");

    let began = Instant::now();
    assert_eq!(gate.get("/").status, 504);

    assert!((450..1500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(gate.log(1)[0]["failure"], "X7");
}

#[test]
fn another_endpoint_is_found_however_small_its_share() {
    let good = Origin::saying("ok");
    for balance in ["round_robin", "random", "least_requests", "ewma", "{hash: client.ip}"] {
        let gate = Gate::yaml(&format!(
            "version: 1\nserver: {{workers: 1}}\n\
             listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
             upstreams:\n  - name: origin\n    balance: {balance}\n    endpoints: [{{address: \"{}\", \
             weight: 1000}}, \"{}\"]\n    retry: {{budget: 100%}}\n\
             routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
            Origin::nobody(),
            good.address()
        ));
        for _ in 0..20 {
            assert_eq!(gate.get("/").status, 200, "{balance}");
        }
    }
}

/// The second request of all finds its pooled connection closed.
#[test]
fn a_connection_that_had_died_is_not_its_endpoints_failure() {
    let asked = AtomicUsize::new(0);
    let dying = Origin::scripted(move |exchange| match asked.fetch_add(1, Ordering::Relaxed) {
        1 => exchange.close(),
        _ => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
    });
    let other = Origin::saying("b");
    let gate = Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - name: origin\n    endpoints: [\"{}\", \"{}\"]\n    sticky: {{cookie: gw}}\n    \
         health: {{passive: {{failures: 1}}}}\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        dying.address(),
        other.address()
    ));
    let first = gate.get("/");
    assert_eq!(first.text(), "a");
    let cookie = first.header("set-cookie").and_then(|set| set.split(';').next()).unwrap_or("");

    let again = gate.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));

    assert_eq!((again.text().as_str(), again.header("set-cookie")), ("a", None));
    assert_eq!(dying.requests().len(), 3);
    assert_eq!(gate.admin("/upstreams").json()[0]["endpoints"][0]["state"], "usable");
}

#[test]
fn options_are_checked() {
    let text = |retry: &str| {
        let config = format!(
            "version: 1\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
             upstreams: [{{name: a, endpoints: [\"10.0.0.1:80\"], retry: {retry}}}]\n\
             routes: [{{name: all, match: {{path: /}}, upstream: a}}]\n"
        );
        let checked = gateway_core::Gateway::builder().config_text(config).check();
        checked.err().expect("the config is refused").to_string()
    };

    for (retry, fault) in [
        ("{attempts: 11}", "upstreams[0].retry.attempts"),
        ("{on: [resett]}", "upstreams[0].retry.on[0]"),
        ("{on: [99]}", "upstreams[0].retry.on[0]"),
        ("{methods: [\"G T\"]}", "retry.methods[0]: expected a method"),
        ("{backoff: 2s}", "retry.backoff_at_most: less than `backoff`"),
    ] {
        let text = text(retry);
        assert!(text.contains(fault), "{retry}: {text}");
    }
}
