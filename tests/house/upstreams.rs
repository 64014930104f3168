//! Connections to upstreams: kept, taken again, and ended.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Gate, Origin};

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

#[test]
fn an_idle_connection_is_ended_when_its_time_is_up() {
    let (closed, when) = mpsc::channel();
    let origin = Origin::scripted(move |exchange| {
        exchange.write(OK)?;
        let idle = Instant::now();
        let end = exchange.await_close();
        closed.send(idle.elapsed()).expect("the test waits");
        end
    });
    let gate = house(&origin, "300ms");

    assert_eq!(gate.get("/").status, 200);

    let idled = when.recv_timeout(Duration::from_secs(5)).expect("the connection is closed");
    assert!((300..1500).contains(&idled.as_millis()), "{idled:?}");
}

#[test]
fn no_connection_is_kept_if_none_is_to_be() {
    let origin = Origin::saying("ok");
    let gate = house(&origin, "0");

    for _ in 0..5 {
        assert_eq!(gate.get("/").status, 200);
    }

    assert_eq!(origin.connections(), 5);
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
