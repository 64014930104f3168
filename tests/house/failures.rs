//! What becomes of a request when an upstream or its client fails: one code, one status, one line,
//! one count, and a gateway that goes on.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Client, Exchange, Gate, Origin, Response};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

const GET: &str = "GET / HTTP/1.1\r\nHost: test.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// What a script waits where it is to wait for ever.
const FOR_EVER: Duration = Duration::from_secs(15);

/// A gateway with these timeouts of its upstream, and a route that needs no upstream.
fn gate(upstream: SocketAddr, timeouts: &str) -> Gate {
    gate_of(upstream, timeouts, "", "")
}

/// The same with timeouts of its listener and of its route.
fn gate_of(upstream: SocketAddr, timeouts: &str, listener: &str, route: &str) -> Gate {
    Gate::yaml(&format!(
        "version: 1\n\
         server: {{workers: 1}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", timeouts: {{{listener}}}}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{upstream}\"], timeouts: {{{timeouts}}}}}]\n\
         routes:\n\
         - {{name: all, match: {{path: /}}, upstream: origin, timeouts: {{{route}}}}}\n\
         - {{name: next, match: {{path: /next}}, reply: {{body: next}}}}\n"
    ))
}

/// The line of the one request that failed, after it was found to be recorded once everywhere and
/// the gateway to serve the next request.
#[track_caller]
fn failed_once(gate: &Gate, code: &str) -> Value {
    gate.await_metric(
        &format!(r#"gateway_request_failures_total{{code="{code}",route="all"}}"#),
        1.0,
    );
    let next = gate.get("/next");
    assert_eq!(next.status, 200, "the gateway serves the next request");
    let lines = gate.log(2);
    let of_all: Vec<_> = lines.iter().filter(|line| line["route"] == "all").collect();
    assert_eq!(of_all.len(), 1, "one line a request: {lines:?}");
    assert_eq!(gate.total("gateway_request_failures_total"), 1.0);
    assert_eq!(gate.total("gateway_requests_total"), 2.0);
    assert_eq!(of_all[0]["failure"], code, "{}", of_all[0]);
    of_all[0].clone()
}

/// As [`failed_once`], of a failure that ended the only attempt.
#[track_caller]
fn attempt_failed_once(gate: &Gate, code: &str) -> Value {
    let line = failed_once(gate, code);
    assert_eq!(line["attempts"], 1, "{line}");
    assert_eq!(line["upstream"], "origin", "{line}");
    assert_eq!(gate.total("gateway_upstream_attempts_total"), 1.0);
    let series =
        format!(r#"gateway_upstream_attempts_total{{outcome="{code}",upstream="origin"}}"#);
    assert_eq!(gate.metric(&series), 1.0, "{series}");
    line
}

/// A failure before the response's head: an answer of the gateway with this status.
#[track_caller]
fn assert_answered(gate: &Gate, response: &Response, code: &str, status: u16) {
    assert_eq!(response.status, status);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.json()["status"], status);
    let line = attempt_failed_once(gate, code);
    assert_eq!(line["http.response.status_code"], status, "{line}");
    assert_eq!(line["status_source"], "gateway", "{line}");
}

/// A failure after the response's head: its status stays.
#[track_caller]
fn assert_cut(gate: &Gate, code: &str) {
    let line = attempt_failed_once(gate, code);
    assert_eq!(line["http.response.status_code"], 200, "{line}");
    assert_eq!(line["status_source"], "upstream", "{line}");
}

/// Whether the time since `start` is that of a timeout: not before, and soon after.
#[track_caller]
fn assert_took(start: Instant, timeout: u64) {
    let took = start.elapsed().as_millis();
    let window = u128::from(timeout) - 10..=u128::from(timeout) + 200;
    assert!(window.contains(&took), "{took} ms, where {timeout} ms were given");
}

/// A promise between a script and its test.
fn signal() -> (Sender<()>, Mutex<Receiver<()>>) {
    let (sender, receiver) = channel();
    (sender, Mutex::new(receiver))
}

/// Waits in a script until the test says so.
fn wait(receiver: &Mutex<Receiver<()>>) {
    // A test that is over has nothing more to say.
    let _ = receiver.lock().expect("no script panics").recv_timeout(FOR_EVER);
}

/// A listener whose queue is full: connections to it neither stand nor fail.
fn full() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port is free");
    listener.listen(0).expect("a bound socket can listen");
    let address = listener.local_addr().ok().and_then(|address| address.as_socket());
    let address = address.expect("a bound socket has an address");
    let mut held = vec![listener];
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        let connected = socket.connect_timeout(&address.into(), Duration::from_millis(200));
        held.push(socket);
        if connected.is_err() {
            return (address, held);
        }
        assert!(held.len() < 100, "the queue never fills");
    }
}

#[test]
fn refused_connection_is_u3_and_503() {
    let gate = gate(Origin::nobody(), "");

    let response = gate.get("/");

    assert_answered(&gate, &response, "U3", 503);
}

#[test]
fn connection_that_does_not_come_to_stand_is_u4_and_504() {
    let (address, _held) = full();
    let gate = gate(address, "connect: 300ms, first_byte: 5s");
    let start = Instant::now();

    let response = gate.get("/");

    assert_took(start, 300);
    assert_answered(&gate, &response, "U4", 504);
}

#[test]
fn upstream_that_hangs_before_its_head_is_x3_and_504() {
    for timeouts in ["first_byte: 300ms, idle: 10s", "first_byte: 300ms, idle: 100ms"] {
        let origin = Origin::scripted(|exchange| {
            exchange.pause(FOR_EVER);
            Ok(())
        });
        let gate = gate(origin.address(), timeouts);
        let start = Instant::now();

        let response = gate.get("/");

        assert_took(start, 300);
        assert_answered(&gate, &response, "X3", 504);
    }
}

#[test]
fn head_in_pieces_that_never_ends_is_x3_and_504() {
    let origin = Origin::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nX-Slow: ")?;
        for _ in 0..100 {
            exchange.write("y")?;
            exchange.pause(Duration::from_millis(50));
        }
        Ok(())
    });
    let gate = gate(origin.address(), "first_byte: 300ms, idle: 10s");
    let start = Instant::now();

    let response = gate.get("/");

    assert_took(start, 300);
    assert_answered(&gate, &response, "X3", 504);
}

#[test]
fn the_wait_for_the_first_byte_begins_when_the_request_is_sent() {
    let origin = Origin::answering(OK);
    let gate = gate(origin.address(), "first_byte: 200ms, idle: 10s");
    let mut client = gate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");

    for piece in ["s", "l", "o", "w"] {
        thread::sleep(Duration::from_millis(300));
        client.send(piece);
    }

    assert_eq!(client.response().status, 200, "a slow client is not the upstream's fault");
}

#[test]
fn reset_before_the_head_is_x1_and_502_and_not_repeated() {
    let origin = Origin::scripted(Exchange::reset);
    let gate = gate(origin.address(), "");

    let response = gate.get("/");

    assert_answered(&gate, &response, "X1", 502);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn close_before_the_head_is_x1_and_502_and_not_repeated() {
    let origin = Origin::scripted(Exchange::close);
    let gate = gate(origin.address(), "");

    let response = gate.get("/");

    assert_answered(&gate, &response, "X1", 502);
    assert_eq!(origin.requests().len(), 1);
}

/// What the client has of a response whose upstream breaks off after `begin`, once it has that.
#[track_caller]
fn cut_after(
    begin: &'static str,
    end: impl Fn(&mut Exchange) -> io::Result<()> + Send + Sync + 'static,
) -> Vec<u8> {
    let (arrived, waits) = signal();
    let origin = Origin::scripted(move |exchange| {
        exchange.write(begin)?;
        wait(&waits);
        end(exchange)
    });
    let gate = gate(origin.address(), "");
    let mut client = gate.client();
    client.send(GET);
    // The head is here, so the gateway has read it.
    assert!(!client.is_silent_for(Duration::from_secs(10)));
    arrived.send(()).expect("the script waits");

    let received = client.rest();

    assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n"), "the head had gone down");
    assert_cut(&gate, "X2");
    received
}

#[test]
fn reset_after_the_head_is_x2_and_keeps_the_status() {
    cut_after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", Exchange::reset);
}

#[test]
fn body_shorter_than_its_length_is_x2_and_not_completed() {
    let received = cut_after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", Exchange::close);

    assert!(received.ends_with(b"abc"), "nothing is made up");
}

#[test]
fn chunks_without_an_end_are_x2_and_get_none_from_the_gateway() {
    let begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";

    let received = cut_after(begin, Exchange::close);

    assert!(!received.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&received));
}

#[test]
fn chunks_that_are_garbage_are_x2_and_get_no_end_from_the_gateway() {
    let begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";

    let received = cut_after(begin, |exchange| {
        exchange.write("zz\r\n\x00\r\n")?;
        exchange.pause(FOR_EVER);
        Ok(())
    });

    assert!(!received.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&received));
}

#[test]
fn reset_of_a_body_that_ends_with_its_connection_is_x2() {
    cut_after("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", Exchange::reset);
}

#[test]
fn orderly_end_of_a_body_that_ends_with_its_connection_is_no_failure() {
    let origin = Origin::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")?;
        exchange.close()
    });
    let gate = gate(origin.address(), "");

    let response = gate.get("/");

    assert_eq!((response.status, response.text().as_str()), (200, "abc"));
    assert_eq!(gate.log(1)[0].get("failure"), None);
    assert_eq!(gate.total("gateway_request_failures_total"), 0.0);
}

#[test]
fn body_that_stops_dripping_is_x4_and_keeps_the_status() {
    for timeouts in ["idle: 300ms, first_byte: 10s", "idle: 300ms, first_byte: 100ms"] {
        let origin = Origin::scripted(|exchange| {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")?;
            exchange.pause(FOR_EVER);
            Ok(())
        });
        let gate = gate(origin.address(), timeouts);
        let start = Instant::now();

        let received = gate.client().send(GET).rest();

        assert_took(start, 300);
        assert!(received.ends_with(b"\r\n\r\nab"), "{timeouts}");
        assert_cut(&gate, "X4");
    }
}

#[test]
fn body_that_drips_faster_than_the_idle_timeout_is_no_failure() {
    for timeouts in ["idle: 300ms, first_byte: 10s", "idle: 300ms, first_byte: 100ms"] {
        let origin = Origin::scripted(|exchange| {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")?;
            for _ in 0..6 {
                exchange.pause(Duration::from_millis(100));
                exchange.write("x")?;
            }
            Ok(())
        });
        let gate = gate(origin.address(), timeouts);

        let response = gate.get("/");

        assert_eq!(response.text(), "xxxxxx", "{timeouts}");
        assert_eq!(gate.log(1)[0].get("failure"), None);
    }
}

#[test]
fn what_is_not_http_is_x5_and_502() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        "\u{1}\u{2}\u{3}\r\n\r\n",
    ] {
        let origin = Origin::scripted(move |exchange| {
            exchange.write(garbage)?;
            exchange.pause(FOR_EVER);
            Ok(())
        });
        let gate = gate(origin.address(), "first_byte: 3s");

        let response = gate.get("/");

        assert_eq!(response.status, 502, "{garbage:?}");
        assert_answered(&gate, &response, "X5", 502);
    }
}

#[test]
fn upstream_that_does_not_read_the_body_is_x4_and_504() {
    let stalled = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = stalled.local_addr().expect("a bound socket has an address");
    let gate = gate(address, "idle: 300ms, first_byte: 10s");
    let mut client = TcpStream::connect(gate.address()).expect("the gateway accepts");
    let mut upload = client.try_clone().expect("a connection can be shared");
    let patience = Some(Duration::from_secs(5));
    client.set_read_timeout(patience).expect("a timeout can be set");
    client.set_write_timeout(patience).expect("a timeout can be set");

    let uploading = thread::spawn(move || {
        upload.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n")?;
        let piece = vec![b'x'; 1 << 20];
        (0..64).try_for_each(|_| upload.write_all(&piece))
    });
    let mut answer = Vec::new();
    // The answer may be followed by a reset, since not all was read.
    let _ = client.read_to_end(&mut answer);

    assert!(answer.starts_with(b"HTTP/1.1 504 "), "{:?}", String::from_utf8_lossy(&answer));
    let outcome = uploading.join().expect("the upload does not panic");
    assert!(outcome.is_err(), "the gateway does not take a body it cannot pass on");
    let line = attempt_failed_once(&gate, "X4");
    assert_eq!(line["http.response.status_code"], 504);
    drop(stalled);
}

#[test]
fn slow_upload_is_not_blamed_on_an_upstream_that_reads() {
    let origin = Origin::answering(OK);
    let gate = gate(origin.address(), "idle: 100ms, first_byte: 100ms");
    let mut client = gate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");

    for piece in ["a", "b", "c"] {
        thread::sleep(Duration::from_millis(250));
        client.send(piece);
    }

    assert_eq!(client.response().status, 200);
}

#[test]
fn response_that_begins_before_the_request_ends_has_no_first_byte_left_to_wait_for() {
    let early = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = early.local_addr().expect("a bound socket has an address");
    let gate = gate(address, "first_byte: 200ms, idle: 5s");
    let mut client = gate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n");
    let mut upstream = early.accept().expect("the gateway connects").0;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na").expect("it reads");
    assert!(!client.is_silent_for(Duration::from_secs(10)), "the head goes down at once");

    client.send("x");
    thread::sleep(Duration::from_millis(500));
    upstream.write_all(b"b").expect("the gateway still reads");

    assert_eq!(client.response().text(), "ab");
    assert_eq!(gate.log(1)[0].get("failure"), None);
}

#[test]
fn total_timeout_before_the_head_is_x7_and_504() {
    for (upstream, route) in [
        ("total: 300ms, first_byte: 10s", ""),
        ("first_byte: 10s", "total: 300ms"),
        ("total: 5s, first_byte: 10s", "total: 300ms"),
        ("total: 100ms, first_byte: 10s", "total: 300ms"),
    ] {
        let origin = Origin::scripted(|exchange| {
            exchange.pause(FOR_EVER);
            Ok(())
        });
        let gate = gate_of(origin.address(), upstream, "", route);
        let start = Instant::now();

        let response = gate.get("/");

        assert_took(start, 300);
        assert_answered(&gate, &response, "X7", 504);
    }
}

#[test]
fn total_timeout_after_the_head_is_x7_and_keeps_the_status() {
    for (upstream, route) in [("total: 300ms", ""), ("", "total: 300ms")] {
        let origin = Origin::scripted(|exchange| {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
            for _ in 0..200 {
                exchange.write("x")?;
                exchange.pause(Duration::from_millis(20));
            }
            Ok(())
        });
        let gate = gate_of(origin.address(), upstream, "", route);
        let start = Instant::now();

        let received = gate.client().send(GET).rest();

        assert_took(start, 300);
        assert!(received.ends_with(b"x"));
        assert_cut(&gate, "X7");
    }
}

#[test]
fn total_timeout_counts_the_wait_for_a_connection() {
    let (address, _held) = full();
    let gate = gate(address, "connect: 5s, total: 300ms");
    let start = Instant::now();

    let response = gate.get("/");

    assert_took(start, 300);
    assert_eq!(response.status, 504);
    let line = failed_once(&gate, "X7");
    assert_eq!(line["status_source"], "gateway");
}

#[test]
fn total_timeout_counts_the_upload() {
    let origin = Origin::answering(OK);
    let gate = gate(origin.address(), "total: 300ms");
    let mut client = gate.client();
    let start = Instant::now();

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nx");

    assert_eq!(client.response().status, 504);
    assert_took(start, 300);
    attempt_failed_once(&gate, "X7");
}

#[test]
fn client_that_leaves_before_the_response_is_d1_and_499() {
    let (seen, arrived) = signal();
    let (gone, upstream_ended) = signal();
    let origin = Origin::scripted(move |exchange| {
        seen.send(()).map_err(io::Error::other)?;
        // The gateway has no more use for this request and closes.
        let ended = exchange.await_close();
        gone.send(()).map_err(io::Error::other)?;
        ended
    });
    let gate = gate(origin.address(), "");
    let mut client = gate.client();
    client.send(GET);
    wait(&arrived);

    drop(client);

    wait(&upstream_ended);
    let line = attempt_failed_once(&gate, "D1");
    assert_eq!(line["http.response.status_code"], 499);
    assert_eq!(line["status_source"], "gateway");
}

#[test]
fn client_that_leaves_during_the_response_is_d2_and_keeps_the_status() {
    let origin = Origin::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            exchange.write("4\r\nabcd\r\n")?;
            exchange.pause(Duration::from_millis(5));
        }
    });
    let gate = gate(origin.address(), "");
    let mut client = gate.client();
    client.send(GET);
    assert!(!client.is_silent_for(Duration::from_secs(10)));

    drop(client);

    assert_cut(&gate, "D2");
}

#[test]
fn client_that_leaves_in_its_own_body_is_d1() {
    let origin = Origin::answering(OK);
    let gate = gate(origin.address(), "");
    let mut client = gate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");

    drop(client);

    let line = failed_once(&gate, "D1");
    assert_eq!(line["http.response.status_code"], 499);
}

#[test]
fn client_too_slow_with_its_body_is_d4_and_408() {
    let origin = Origin::answering(OK);
    let gate = gate_of(origin.address(), "", "body_read: 300ms", "");
    let mut client = gate.client();
    let start = Instant::now();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");

    let response = client.response();

    assert_took(start, 300);
    assert_answered(&gate, &response, "D4", 408);
    assert!(client.is_closed(), "what is left of the body cannot be told from a request");
}

#[test]
fn pieces_of_a_body_each_in_time_are_no_failure() {
    let origin = Origin::answering(OK);
    let gate = gate_of(origin.address(), "", "body_read: 300ms", "");
    let mut client = gate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");

    for _ in 0..6 {
        thread::sleep(Duration::from_millis(100));
        client.send("x");
    }

    assert_eq!(client.response().status, 200);
}

#[test]
fn client_that_does_not_read_its_response_is_d4_and_keeps_the_status() {
    let origin = Origin::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")?;
        exchange.write(vec![b'x'; 64 << 20])
    });
    let gate = gate_of(origin.address(), "idle: 5s", "write: 300ms", "");
    let mut client = gate.client();

    client.send(GET);

    assert_cut(&gate, "D4");
    drop(client);
}

#[test]
fn slow_reader_is_not_blamed_on_a_fast_upstream() {
    const LENGTH: usize = 24 << 20;
    for timeouts in ["idle: 200ms, first_byte: 10s", "idle: 200ms, first_byte: 100ms"] {
        let origin = Origin::scripted(|exchange| {
            exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"))?;
            exchange.write(vec![b'x'; LENGTH])
        });
        let gate = gate(origin.address(), timeouts);
        let mut client = gate.client();
        client.send(GET);

        thread::sleep(Duration::from_secs(1));
        let response = client.response();

        assert_eq!(response.body.len(), LENGTH, "{timeouts}");
        assert_eq!(gate.log(1)[0].get("failure"), None, "{timeouts}");
    }
}

/// An upstream that answers its first request and closes its connection at the second, before any
/// answer: what a pooled connection looks like whose upstream was faster to close it.
fn stale_at_the_second() -> Origin {
    Origin::scripted(|exchange| match exchange.number {
        2 => exchange.close(),
        _ => exchange.write(OK),
    })
}

#[test]
fn get_on_a_pooled_connection_that_had_died_is_repeated_unseen() {
    let origin = stale_at_the_second();
    let gate = gate(origin.address(), "");
    gate.get("/");

    let response = gate.get("/");

    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(origin.requests().len(), 3);
    let line = &gate.log(2)[1];
    assert_eq!((&line["attempts"], &line["retries"]), (&Value::from(2), &Value::from(1)));
    assert_eq!((line.get("failure"), &line["status_source"]), (None, &"upstream".into()));
    assert_eq!(gate.total("gateway_request_failures_total"), 0.0);
    let outcomes = |outcome| {
        gate.metric(&format!(
            r#"gateway_upstream_attempts_total{{outcome="{outcome}",upstream="origin"}}"#
        ))
    };
    assert_eq!((outcomes("ok"), outcomes("X1")), (2.0, 1.0));
}

/// What breaks an endpoint is not sent to it as often as there are connections to it.
#[test]
fn a_request_is_repeated_unseen_once_and_on_a_connection_of_its_own() {
    let origin = Origin::scripted(|exchange| match exchange.head.contains("/breaks") {
        true => exchange.close(),
        false => {
            exchange.pause(Duration::from_millis(200));
            exchange.write(OK)
        }
    });
    let gate = gate(origin.address(), "");
    // Four connections for the pool.
    let mut clients: Vec<_> = (0..4).map(|_| gate.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    assert_eq!(origin.connections(), 4);

    assert_eq!(gate.get("/breaks").status, 502);

    let broken = origin.requests().iter().filter(|head| head.contains("/breaks")).count();
    assert_eq!((broken, origin.connections()), (2, 5));
    let line = &gate.log(5)[4];
    let reused: Vec<_> = line["attempt_list"].as_array().into_iter().flatten().collect();
    assert_eq!((&line["failure"], &line["attempts"]), (&"X1".into(), &2.into()), "{reused:?}");
}

#[test]
fn put_on_a_pooled_connection_that_had_died_is_repeated_with_its_body() {
    let origin = Origin::scripted(|exchange| match exchange.number {
        2 => exchange.close(),
        _ => {
            let body = String::from_utf8_lossy(&exchange.body).into_owned();
            let length = body.len();
            exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))
        }
    });
    let gate = gate(origin.address(), "");
    gate.get("/");

    let response = gate.exchange("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");

    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn get_is_repeated_once_and_no_more() {
    let origin = Origin::scripted(|exchange| match exchange.number {
        1 => exchange.write(OK),
        _ => exchange.close(),
    });
    let gate = gate(origin.address(), "");
    gate.get("/");

    let response = gate.get("/");

    assert_eq!(response.status, 502);
    assert_eq!(origin.requests().len(), 3);
    let line = &gate.log(2)[1];
    assert_eq!((&line["failure"], &line["attempts"]), (&"X1".into(), &Value::from(2)));
}

#[test]
fn post_on_a_pooled_connection_that_had_died_is_not_repeated() {
    for body in ["", "hello"] {
        let origin = stale_at_the_second();
        let gate = gate(origin.address(), "");
        gate.get("/");

        let length = body.len();
        let response = gate.exchange(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ));

        assert_eq!(response.status, 502);
        assert_eq!(origin.requests().len(), 2, "not sent again");
        let line = &gate.log(2)[1];
        assert_eq!((&line["failure"], &line["attempts"]), (&"X1".into(), &Value::from(1)));
    }
}

#[test]
fn a_failure_of_one_request_does_not_touch_another_on_the_same_upstream() {
    let (release, held) = signal();
    let origin = Origin::scripted(move |exchange| match exchange.header("x-fail") {
        Some(_) => exchange.reset(),
        None => {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")?;
            wait(&held);
            exchange.write("cd")
        }
    });
    let gate = gate(origin.address(), "");
    let mut held = gate.client();
    held.send(GET);
    assert!(!held.is_silent_for(Duration::from_secs(10)));

    let failed = gate.exchange("GET / HTTP/1.1\r\nHost: a\r\nX-Fail: 1\r\n\r\n");
    release.send(()).expect("the script waits");

    assert_eq!(failed.status, 502);
    assert_eq!(held.response().text(), "abcd");
}

#[test]
fn answers_to_failures_keep_their_secrets() {
    let address = Origin::nobody();
    let gate = gate(address, "");

    let response = Client::connect(gate.address()).send(GET).response();

    assert_eq!(response.status, 503);
    assert!(!response.text().contains(&address.port().to_string()), "{}", response.text());
    assert!(!response.text().to_lowercase().contains("pingora"), "{}", response.text());
}
