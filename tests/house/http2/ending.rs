//! How connections of HTTP/2 end, and what is never begun on them.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use gateway_core::DrainOutcome;
use gateway_tests::{Gate, Origin};

use super::echo_house;
use super::frames::{self, Frames, request};

#[test]
fn a_tunnel_is_refused() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());

    let fields = [(":method", "CONNECT"), (":authority", "test.example:443")];
    let fields: Vec<_> = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let stream = client.headers(&fields, false);

    let answer = client.answer(stream);
    assert!(answer.reset || matches!(answer.status, Some(400 | 405)), "{answer:?}");
    assert_eq!(origin.requests(), Vec::<String>::new());
}

/// WebSocket over HTTP/2 (RFC 8441), which was not offered.
#[test]
fn an_extended_tunnel_is_refused_and_the_connection_goes_on() {
    let (origin, gate) = echo_house();
    let mut client = Frames::connect(gate.address());
    let mut fields = request("CONNECT", "/chat", &[]);
    fields.insert(1, (":protocol".to_owned(), "websocket".to_owned()));
    let stream = client.headers(&fields, false);

    let answer = client.answer(stream);
    assert!(answer.reset || matches!(answer.status, Some(400 | 405 | 501)), "{answer:?}");
    assert_eq!(origin.requests(), Vec::<String>::new());
    assert_eq!(client.get("/after").status, Some(200));
}

#[test]
fn a_connection_without_streams_is_closed_after_the_idle_time() {
    let gate = Gate::yaml(
        "version: 1\n\
         listeners: [{name: public, address: \"127.0.0.1:0\", timeouts: {idle: 300ms}}]\n\
         routes: [{name: all, match: {path: /}, reply: {status: 200}}]\n",
    );
    let began = Instant::now();
    let mut client = gate.client();

    client.send(frames::PREFACE).send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    client.rest();

    assert!(began.elapsed() < Duration::from_secs(5), "an idle connection is kept");
}

#[test]
fn a_connection_that_is_used_is_not_closed_for_idling() {
    let gate = Gate::yaml(
        "version: 1\n\
         listeners: [{name: public, address: \"127.0.0.1:0\", timeouts: {idle: 400ms}}]\n\
         routes: [{name: all, match: {path: /}, reply: {status: 200}}]\n",
    );
    let mut client = Frames::connect(gate.address());
    let began = Instant::now();

    // Each is answered at once, so that no look at the connection finds a stream open.
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(client.get("/").status, Some(200), "after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A drain says goodbye to every connection: one without streams ends, one with a stream ends behind it.
#[test]
fn a_drain_says_goodbye_and_waits_for_what_was_begun() {
    let (arrive, arrived) = mpsc::channel();
    let origin = Origin::scripted(move |exchange| {
        if exchange.head.contains("/slow") {
            let _ = arrive.send(());
            exchange.pause(Duration::from_millis(700));
        }
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
    });
    let mut gate = Gate::proxying(origin.address(), "");
    let mut idle = Frames::connect(gate.address());
    assert_eq!(idle.get("/").status, Some(200));
    let mut busy = Frames::connect(gate.address());
    let stream = busy.headers(&request("GET", "/slow", &[]), true);
    arrived.recv_timeout(Duration::from_secs(5)).expect("the request arrives");

    let (_never, hurry) = tokio::sync::watch::channel(false);
    let running = gate.take();
    let began = Instant::now();
    let draining = thread::spawn(move || running.drain(Duration::from_secs(10), hurry));
    assert_eq!(idle.goodbye(), Some(0), "it goes in peace");
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    let answer = busy.answer(stream);
    assert_eq!((answer.status, &answer.body[..], answer.reset), (Some(200), &b"done"[..], false));
    // Neither says that it has heard, as a client has to that is there; they are not waited for.
    assert_eq!(draining.join().expect("it ends"), DrainOutcome::Complete);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A request that crosses the goodbye is served, however long it takes, and its answer goes down whole to who is slow.
#[test]
fn a_request_that_crosses_the_goodbye_has_its_whole_answer() {
    const LONG: usize = 300_000;
    let origin = Origin::scripted(|exchange| {
        if exchange.head.contains("/slow") {
            exchange.pause(Duration::from_secs(3));
        }
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"))?;
        exchange.write(vec![b'x'; LONG])
    });
    let mut gate = Gate::proxying(origin.address(), "");
    let mut late = Frames::connect(gate.address());
    assert_eq!(late.get("/").status, Some(200));
    // One whose answer is ready, and which takes it only later: the rest waits for its windows.
    let mut slow = Frames::connect(gate.address());
    let held = slow.headers(&request("GET", "/", &[]), true);
    thread::sleep(Duration::from_millis(300));

    let (_never, hurry) = tokio::sync::watch::channel(false);
    let running = gate.take();
    let draining = thread::spawn(move || running.drain(Duration::from_secs(10), hurry));
    assert_eq!(late.goodbye(), Some(0));
    let stream = late.headers(&request("GET", "/slow", &[]), true);
    thread::sleep(Duration::from_millis(1_500));
    for (client, stream) in [(&mut slow, held), (&mut late, stream)] {
        let answer = client.answer(stream);
        assert_eq!((answer.status, answer.body.len(), answer.reset), (Some(200), LONG, false));
    }
    assert_eq!(draining.join().expect("it ends"), DrainOutcome::Complete);
}
