//! Connections to upstreams: kept, taken again, and ended.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Gate, Origin};

/// Pingora calls no hook for the body of this one.
const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn house(origin: &Origin, keepalive: &str) -> Gate {
    Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - name: origin\n    endpoints: [\"{}\"]\n    timeouts: {{keepalive: {keepalive}}}\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    ))
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let origin = Origin::saying("ok");
    let gate = house(&origin, "50s");

    for _ in 0..20 {
        assert_eq!(gate.get("/").status, 200);
    }

    assert_eq!(origin.connections(), 1);
}

/// What a connection idles behind this answer before the gateway ends it, of the 300 ms it may.
fn idled_behind(answer: &'static str) -> Duration {
    let (closed, when) = mpsc::channel();
    let origin = Origin::scripted(move |exchange| {
        exchange.write(answer)?;
        let idle = Instant::now();
        let end = exchange.await_close();
        closed.send(idle.elapsed()).expect("the test waits");
        end
    });
    let gate = house(&origin, "300ms");

    assert_eq!(gate.get("/").status, 200);

    when.recv_timeout(Duration::from_secs(5)).expect("the connection is closed")
}

#[test]
fn an_idle_connection_is_ended_when_its_time_is_up() {
    for answer in [OK, EMPTY] {
        let idled = idled_behind(answer);
        assert!((300..1500).contains(&idled.as_millis()), "{idled:?} behind {answer:?}");
    }
}

#[test]
fn no_connection_is_kept_if_none_is_to_be() {
    for answer in [OK, EMPTY] {
        let origin = Origin::answering(answer);
        let gate = house(&origin, "0");

        for _ in 0..5 {
            assert_eq!(gate.get("/").status, 200);
        }

        assert_eq!(origin.connections(), 5, "{answer:?}");
    }
}

#[test]
fn no_request_is_lost_on_a_connection_whose_time_is_just_up() {
    let origin = Origin::saying("ok");
    let gate = house(&origin, "20ms");
    let mut client = gate.client();
    let began = Instant::now();

    // The pauses go through all moments of the watch's rounds.
    for pause in (0..120).map(Duration::from_millis) {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.response().status, 200, "after {pause:?}");
        thread::sleep(pause);
    }

    let ended = origin.connections();
    assert!(ended > 10, "only {ended} connections in {:?}", began.elapsed());
}

#[test]
fn a_body_that_is_sent_again_is_counted_once() {
    let (asked, dies) = (AtomicUsize::new(0), Duration::from_millis(100));
    let origin = Origin::scripted(move |exchange| {
        if asked.fetch_add(1, Ordering::Relaxed) == 1 {
            exchange.pause(dies);
            return exchange.close();
        }
        exchange.write(OK)
    });
    let gate = Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: LOG, format: json}}\n\
         listeners:\n  - name: public\n    address: \"127.0.0.1:0\"\n    \
         limits: {{body_bytes: 100KiB}}\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n\
         plugins: [{{kind: body-limit, options: {{max: 100KiB}}}}]\n",
        origin.address()
    ));
    assert_eq!(gate.get("/").status, 200);

    let body = "x".repeat(60_000);
    let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(gate.exchange(put).status, 200);

    let line = gate.log(2).pop().expect("the second request has a line");
    assert_eq!(line["attempts"], 2, "{line}");
    assert_eq!(line["http.request.body.size"], 60_000, "{line}");
    // Both attempts, the one that failed included.
    assert!(line["upstream_ms"].as_f64().is_some_and(|ms| ms >= 100.0), "{line}");
}

#[test]
fn what_is_in_flight_is_told_by_endpoint_and_outlives_a_reload() {
    let (arrived, arrival) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let held = Origin::scripted(move |exchange| {
        arrived.send(()).expect("the test waits");
        let released = released.lock().unwrap_or_else(PoisonError::into_inner);
        released.recv_timeout(Duration::from_secs(10)).expect("the test releases");
        exchange.write(OK)
    });
    let config = |note: &str| {
        format!(
            "version: 1\nadmin: {{address: \"127.0.0.1:0\"}}\n\
             listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
             upstreams:\n  - name: origin\n    balance: least_requests\n    endpoints:\n    \
             - {{address: \"{}\", labels: {{note: {note}}}}}\n\
             routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
            held.address()
        )
    };
    let gate = Gate::yaml(&config("before"));
    let gauge = r#"gateway_upstream_requests_in_flight{upstream="origin"}"#;
    let told = |gate: &Gate| gate.admin("/upstreams").json()[0]["endpoints"][0].clone();
    let mut client = gate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    arrival.recv_timeout(Duration::from_secs(10)).expect("the request reaches the origin");
    assert_eq!(told(&gate)["in_flight"], 1);
    gate.await_metric(gauge, 1.0);

    gate.write(&config("after"));
    gate.running().reload().expect("the config is good");

    assert_eq!(
        (&told(&gate)["in_flight"], &told(&gate)["labels"]["note"]),
        (&1.into(), &"after".into())
    );
    release.send(()).expect("the origin waits");
    assert_eq!(client.response().status, 200);
    gate.await_metric(gauge, 0.0);
    assert_eq!(told(&gate)["in_flight"], 0);
}
