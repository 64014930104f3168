//! What happens below HTTP: deadlines, limits, refusals, and the counts that tell of them.

use std::io;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Client, Gate, Origin, gateway_binary};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A gateway that answers everything itself, with these keys of its listener and of its server.
fn gate(listener: &str, server: &str) -> Gate {
    Gate::yaml(&format!(
        "version: 1\n\
         server: {{workers: 1, {server}}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", {listener}}}]\n\
         routes:\n\
         - {{name: hello, match: {{path: /}}, reply: {{body: hello}}}}\n\
         - {{name: echo, match: {{path: /echo}}, reply: {{echo: true}}}}\n"
    ))
}

/// A gateway in front of this upstream, with these keys of its listener.
fn proxying(origin: &Origin, listener: &str) -> Gate {
    Gate::yaml(&format!(
        "version: 1\n\
         server: {{workers: 1}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", {listener}}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    ))
}

fn hello(client: &mut Client) {
    assert_eq!(client.send(GET).response().text(), "hello");
}

#[track_caller]
fn await_ended(gate: &Gate, reason: &str, count: f64) {
    let series =
        format!(r#"gateway_connections_ended_total{{listener="public",reason="{reason}"}}"#);
    gate.await_metric(&series, count);
    assert_eq!(gate.total("gateway_connections_ended_total"), count, "one reason an end");
}

#[track_caller]
fn await_refused(gate: &Gate, reason: &str, count: f64) {
    let series =
        format!(r#"gateway_connections_refused_total{{listener="public",reason="{reason}"}}"#);
    gate.await_metric(&series, count);
    assert_eq!(gate.total("gateway_connections_refused_total"), count, "one reason a refusal");
}

#[track_caller]
fn await_open(gate: &Gate, count: f64) {
    gate.await_metric(r#"gateway_connections_open{listener="public"}"#, count);
}

/// Whether the time since `start` is that of a timeout: not before, and soon after.
#[track_caller]
fn assert_took(start: Instant, timeout: u64) {
    let took = start.elapsed().as_millis();
    let window = u128::from(timeout) - 10..=u128::from(timeout) + 200;
    assert!(window.contains(&took), "{took} ms, where {timeout} ms were given");
}

/// A request's head of exactly this many bytes.
fn head_of(bytes: usize) -> String {
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    format!("{start}{}\r\n\r\n", "y".repeat(bytes - start.len() - 4))
}

/// A request's head of exactly this many fields.
fn head_with(fields: usize) -> String {
    let more: String = (1..fields).map(|number| format!("X-{number}: y\r\n")).collect();
    format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n")
}

#[test]
fn head_of_a_byte_at_a_time_is_answered_408_at_its_deadline() {
    let gate = gate("timeouts: {header: 500ms}", "");
    let mut client = gate.client();
    let start = Instant::now();

    for byte in GET.bytes().cycle() {
        client.send([byte]);
        if !client.is_silent_for(Duration::from_millis(100)) {
            break;
        }
    }

    assert_took(start, 500);
    assert_eq!(client.response().status, 408);
    assert!(client.is_closed());
    await_ended(&gate, "header_timeout", 1.0);
    await_open(&gate, 0.0);
}

#[test]
fn silent_client_is_let_go_without_a_word_at_the_header_deadline() {
    let gate = gate("timeouts: {header: 300ms}", "");
    let mut client = gate.client();
    let start = Instant::now();

    let received = client.rest();

    assert_took(start, 300);
    assert!(received.is_empty(), "nothing was asked");
    await_ended(&gate, "header_timeout", 1.0);
    await_open(&gate, 0.0);
}

#[test]
fn second_head_of_a_connection_has_a_deadline_from_its_own_first_byte() {
    let gate = gate("timeouts: {header: 300ms, idle: 5s}", "");
    let mut client = gate.client();
    hello(&mut client);
    assert!(client.is_silent_for(Duration::from_millis(500)), "a pause is not a slow head");
    let start = Instant::now();

    client.send("GET /second HTT");

    assert_eq!(client.response().status, 408);
    assert_took(start, 300);
    assert!(client.is_closed());
    await_ended(&gate, "header_timeout", 1.0);
}

#[test]
fn head_begun_behind_another_request_has_the_same_deadline() {
    let gate = gate("timeouts: {header: 300ms, idle: 5s}", "");
    let mut client = gate.client();
    let start = Instant::now();

    client.send(format!("{GET}GET /second HTT"));

    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().status, 408);
    assert_took(start, 300);
    await_ended(&gate, "header_timeout", 1.0);
}

#[test]
fn pause_between_requests_is_cut_by_the_idle_timeout_alone() {
    let gate = gate("timeouts: {header: 100ms, idle: 500ms}", "");
    let mut client = gate.client();
    for _ in 0..3 {
        hello(&mut client);
        assert!(client.is_silent_for(Duration::from_millis(300)));
    }
    hello(&mut client);
    let start = Instant::now();

    let received = client.rest();

    assert_took(start, 500);
    assert!(received.is_empty(), "nothing was asked");
    await_ended(&gate, "idle_timeout", 1.0);
    await_open(&gate, 0.0);
}

#[test]
fn slow_response_and_slow_upload_are_not_cut_by_deadlines_of_heads() {
    let origin = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_millis(500));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")?;
        exchange.pause(Duration::from_millis(500));
        exchange.write("ok")
    });
    let gate = proxying(&origin, "timeouts: {header: 200ms, idle: 200ms}");
    let mut client = gate.client();

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
    thread::sleep(Duration::from_millis(400));
    client.send("x");

    assert_eq!(client.response().text(), "ok");
    assert_eq!(gate.total("gateway_connections_ended_total"), 0.0);
}

#[test]
fn head_of_exactly_the_limit_passes_and_one_byte_more_is_431() {
    let gate = gate("limits: {header_bytes: 1KiB}", "");

    assert_eq!(gate.exchange(head_of(1024)).status, 200);

    let mut client = gate.client();
    assert_eq!(client.send(head_of(1025)).response().status, 431);
    assert!(client.is_closed());
    await_ended(&gate, "header_too_large", 1.0);
}

#[test]
fn as_many_fields_as_the_limit_pass_and_one_more_is_431() {
    let gate = gate("limits: {headers: 5}", "");

    assert_eq!(gate.exchange(head_with(5)).status, 200);

    let mut client = gate.client();
    assert_eq!(client.send(head_with(6)).response().status, 431);
    assert!(client.is_closed());
    await_ended(&gate, "too_many_headers", 1.0);
}

#[test]
fn head_that_never_ends_is_431_while_it_still_comes() {
    let gate = gate("limits: {header_bytes: 1KiB}, timeouts: {header: 10s}", "");
    for begin in ["GET /", "GET / HTTP/1.1\r\nX: ", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut client = gate.client();
        let start = Instant::now();

        client.send(begin).send("y".repeat(64 << 10));

        assert_eq!(client.response().status, 431, "{begin:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "not by its deadline");
    }
    await_ended(&gate, "header_too_large", 3.0);
}

#[test]
fn limits_hold_for_the_second_head_of_a_connection() {
    let gate = gate("limits: {header_bytes: 1KiB, headers: 5}", "");
    for (head, reason) in [(head_of(1025), "header_too_large"), (head_with(6), "too_many_headers")]
    {
        let mut client = gate.client();
        hello(&mut client);

        assert_eq!(client.send(head).response().status, 431);
        assert!(client.is_closed());
        let ended = r#"gateway_connections_ended_total{listener="public",reason="#;
        gate.await_metric(&format!("{ended}\"{reason}\"}}"), 1.0);
    }
}

#[test]
fn limits_hold_for_a_head_behind_another_request() {
    let gate = gate("limits: {header_bytes: 1KiB, headers: 5}", "");
    for head in [head_of(1025), head_with(6)] {
        let mut client = gate.client();

        client.send(format!("{GET}{head}"));

        assert_eq!(client.response().status, 200);
        assert_eq!(client.response().status, 431);
        assert!(client.is_closed());
    }
}

#[test]
fn heads_of_exactly_the_limit_behind_each_other_all_pass() {
    let gate = gate("limits: {header_bytes: 1KiB, headers: 5}", "");
    let mut client = gate.client();

    client.send([head_of(1024), head_with(5), head_of(1024)].concat());

    for _ in 0..3 {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn connections_beyond_the_listeners_limit_are_refused_until_one_ends() {
    let gate = gate("limits: {connections: 2}", "");
    let (mut first, mut second) = (gate.client(), gate.client());
    hello(&mut first);
    hello(&mut second);

    assert!(gate.client().is_closed(), "refused without a word");
    await_refused(&gate, "listener", 1.0);
    await_open(&gate, 2.0);
    drop(first);
    await_open(&gate, 1.0);

    hello(&mut gate.client());
    hello(&mut second);
}

#[test]
fn connections_beyond_a_clients_limit_are_refused_to_that_client_alone() {
    let gate = gate("limits: {connections_per_client: 2}", "");
    let (mut first, mut second) = (gate.client(), gate.client());
    hello(&mut first);
    hello(&mut second);

    assert!(gate.client().is_closed(), "refused without a word");
    await_refused(&gate, "per_client", 1.0);
    hello(&mut Client::connect_from([127, 0, 0, 2], gate.address()));
    drop(first);
    await_open(&gate, 1.0);

    hello(&mut gate.client());
}

#[test]
fn connections_beyond_the_gateways_limit_are_refused_on_every_listener() {
    let gate = Gate::yaml(
        "version: 1\n\
         server: {workers: 1, connections: 2}\n\
         admin: {address: \"127.0.0.1:0\"}\n\
         access_log: {output: LOG}\n\
         listeners: [{name: public, address: \"127.0.0.1:0\"}, {name: inside, address: \"127.0.0.1:0\"}]\n\
         routes: [{name: hello, match: {path: /}, reply: {body: hello}}]\n",
    );
    let (mut first, mut second) =
        (Client::connect(gate.listener("inside")), Client::connect(gate.listener("inside")));
    hello(&mut first);
    hello(&mut second);

    assert!(gate.client().is_closed(), "refused without a word");
    await_refused(&gate, "total", 1.0);
    drop(first);
    gate.await_metric(r#"gateway_connections_open{listener="inside"}"#, 1.0);

    hello(&mut gate.client());
}

#[test]
fn every_end_of_a_connection_gives_its_place_back() {
    let (gone, waiting) = channel();
    let waiting = Mutex::new(waiting);
    let origin = Origin::scripted(move |_| {
        let waiting = waiting.lock().expect("no script panics");
        waiting.recv().map_err(io::Error::other)
    });
    let gate = proxying(
        &origin,
        "limits: {connections: 8, header_bytes: 1KiB}, timeouts: {header: 200ms, idle: 200ms}",
    );

    let silent = gate.client();
    let mut slow = gate.client();
    slow.send("GET");
    let mut large = gate.client();
    large.send(head_of(2048));
    let mut garbage = gate.client();
    garbage.send("\x01\x02\r\n\r\n");
    let mut unroutable = gate.client();
    unroutable.send("GET / HTTP/1.1\r\n\r\n");
    let mut leaving = gate.client();
    leaving.send(GET);
    gate.await_metric(r#"gateway_requests_in_flight{listener="public"}"#, 1.0);
    drop(leaving);
    let mut half = gate.client();
    half.send("GET / HT").finish();

    await_open(&gate, 0.0);
    assert_eq!(gate.running().connections(), 0);
    gate.await_metric(r#"gateway_requests_in_flight{listener="public"}"#, 0.0);
    drop((silent, slow, large, garbage, unroutable, half, gone));
}

#[test]
fn last_request_of_a_connection_is_told_and_the_connection_closed() {
    let gate = gate("limits: {requests_per_connection: 3}", "");
    let mut client = gate.client();
    for _ in 0..2 {
        assert_ne!(client.send(GET).response().header("connection"), Some("close"));
    }

    let last = client.send(GET).response();

    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(client.is_closed());
    hello(&mut gate.client());
}

/// The system calls by which the stock binary accepts a connection and answers two requests on it.
fn traced() -> String {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (config, trace) = (folder.path().join("gateway.yaml"), folder.path().join("trace"));
    let port = Origin::nobody();
    let yaml = format!(
        "version: 1\n\
         server: {{workers: 1}}\n\
         access_log: {{output: off}}\n\
         listeners: [{{name: public, address: \"{port}\"}}]\n\
         routes: [{{name: hello, match: {{path: /}}, reply: {{body: hello}}}}]\n"
    );
    std::fs::write(&config, yaml).expect("the config can be written");
    let calls = "trace=setsockopt,write,writev,sendto,sendmsg,accept4";
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-s", "256", "-e", calls, "-o"])
        .arg(&trace)
        .arg(gateway_binary())
        .args(["run", "-c"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace is installed");
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(port).is_err() {
        assert!(Instant::now() < deadline, "the gateway does not start under strace");
        thread::sleep(Duration::from_millis(20));
    }

    let mut client = Client::connect(port);
    for _ in 0..2 {
        hello(&mut client);
    }

    // What strace runs ends with it, since it is asked to.
    let pid = strace.id().to_string();
    let children = Command::new("pkill").args(["-TERM", "-P", &pid]).status();
    assert!(children.is_ok_and(|status| status.success()), "the gateway was not told to end");
    drop(client);
    strace.wait().expect("strace ends with the gateway");
    std::fs::read_to_string(trace).expect("strace has written")
}

/// Needs the Debian package `strace`; counts at the other end of a socket are not reliable.
#[test]
fn head_and_small_body_leave_in_one_write_on_a_socket_without_delay() {
    let trace = traced();

    let answers: Vec<_> = trace.lines().filter(|line| line.contains("HTTP/1.1 200 OK")).collect();
    assert_eq!(answers.len(), 2, "one write an answer:\n{trace}");
    assert!(answers.iter().all(|write| write.contains("hello")), "head and body:\n{trace}");
    let nodelay = |line: &&str| line.contains("TCP_NODELAY, [1]");
    assert!(trace.lines().any(|line| nodelay(&line)), "TCP_NODELAY is not set:\n{trace}");
}

#[test]
fn announced_body_of_exactly_the_limit_passes_and_one_byte_more_is_413() {
    let origin = Origin::saying("ok");
    let gate = proxying(&origin, "limits: {body_bytes: 10}");
    let post = |length: usize| {
        let body = "x".repeat(length);
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    };

    assert_eq!(gate.exchange(post(10)).status, 200);
    assert_eq!(gate.exchange(post(11)).status, 413);

    assert_eq!(origin.requests().len(), 1, "refused before the upstream sees anything");
    let line = &gate.log(2)[1];
    assert_eq!((&line["failure"], &line["status_source"]), (&"P8".into(), &"gateway".into()));
}

/// A body of this many bytes, in chunks of five.
fn chunked(target: &str, length: usize) -> String {
    let chunks = "5\r\nxxxxx\r\n".repeat(length / 5);
    let rest = length % 5;
    let last = if rest > 0 { format!("{rest}\r\n{}\r\n", "x".repeat(rest)) } else { String::new() };
    format!(
        "POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{last}0\r\n\r\n"
    )
}

#[test]
fn chunked_body_is_counted_as_it_comes_and_413_beyond_the_limit() {
    let origin = Origin::saying("ok");
    let gate = proxying(&origin, "limits: {body_bytes: 10}");

    assert_eq!(gate.exchange(chunked("/", 10)).status, 200);
    assert_eq!(gate.exchange(chunked("/", 11)).status, 413);

    let line = &gate.log(2)[1];
    assert_eq!((&line["failure"], &line["status_source"]), (&"P8".into(), &"gateway".into()));
}

#[test]
fn body_limit_holds_where_the_gateway_itself_reads_the_body() {
    let gate = gate("limits: {body_bytes: 10}", "");

    assert_eq!(gate.exchange(chunked("/echo", 10)).json()["body"], "xxxxxxxxxx");
    assert_eq!(gate.exchange(chunked("/echo", 11)).status, 413);
}

#[test]
fn body_that_stops_is_408_where_the_gateway_itself_reads_it() {
    let gate = gate("timeouts: {body_read: 300ms}", "");
    let start = Instant::now();

    let response = gate.exchange("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");

    assert_took(start, 300);
    assert_eq!(response.status, 408);
    assert_eq!(gate.log(1)[0]["failure"], "D4");
}

#[test]
fn client_in_the_middle_of_a_big_body_can_read_its_refusal() {
    let origin = Origin::saying("ok");
    let gate = Gate::yaml(&format!(
        "version: 1\n\
         server: {{workers: 1}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", limits: {{body_bytes: 16MiB}}}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes:\n\
         - {{name: denied, match: {{path: /denied}}, upstream: origin,\n\
             plugins: [{{kind: ip-restriction, options: {{deny: [127.0.0.0/8]}}}}]}}\n\
         - {{name: limited, match: {{path: /limited}}, upstream: origin,\n\
             plugins: [{{kind: body-limit, options: {{max: 1KiB}}}}]}}\n",
        origin.address()
    ));
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    for (path, framing, piece, status) in [
        ("/denied", "Content-Length: 8388608", "x".repeat(1 << 20), 403),
        ("/denied", "Transfer-Encoding: chunked", chunk.clone(), 403),
        ("/nowhere", "Content-Length: 8388608", "x".repeat(1 << 20), 404),
        ("/nowhere", "Content-Length: 83886080", "x".repeat(1 << 20), 413),
        ("/limited", "Content-Length: 8388608", "x".repeat(1 << 20), 413),
        ("/limited", "Transfer-Encoding: chunked", chunk.clone(), 413),
    ] {
        let mut client = gate.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));

        // As far as it is taken; a client that writes it all before it reads gets its answer too.
        let _ = (0..8).try_for_each(|_| client.try_send(&piece));

        assert_eq!(client.response().status, status, "{path} {framing}");
    }
}

#[test]
fn two_hundred_connections_are_kept_alive_at_a_time() {
    let gate = gate("", "");
    let mut clients: Vec<_> = (0..200).map(|_| gate.client()).collect();

    for _ in 0..3 {
        for client in &mut clients {
            client.send(GET);
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), "hello");
        }
    }

    await_open(&gate, 200.0);
    assert_eq!(gate.metric(r#"gateway_connections_total{listener="public"}"#), 200.0);
    assert_eq!(gate.total("gateway_requests_total"), 600.0);
    drop(clients);
    await_open(&gate, 0.0);
    assert_eq!(gate.total("gateway_connections_ended_total"), 0.0, "closing while idle is usual");
}

#[test]
fn flood_of_connections_from_one_client_does_not_hurt_others() {
    let gate = gate("limits: {connections_per_client: 50}", "");
    let mut before = Client::connect_from([127, 0, 0, 2], gate.address());
    hello(&mut before);

    let flood: Vec<_> = (0..500).map(|_| gate.client()).collect();

    await_refused(&gate, "per_client", 450.0);
    await_open(&gate, 51.0);
    let start = Instant::now();
    hello(&mut before);
    hello(&mut Client::connect_from([127, 0, 0, 3], gate.address()));
    assert!(start.elapsed() < Duration::from_secs(1), "others wait for the flood");
    drop(flood);
    await_open(&gate, 1.0);
    hello(&mut gate.client());
}

#[test]
fn client_that_closes_within_a_head_is_counted_and_one_between_requests_is_not() {
    let gate = gate("", "");
    let mut between = gate.client();
    hello(&mut between);
    let mut within = gate.client();
    within.send("GET / HT");
    await_open(&gate, 2.0);

    drop((between, within));

    await_ended(&gate, "client_closed", 1.0);
    await_open(&gate, 0.0);
}
