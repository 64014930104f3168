//! Connections that are no HTTP: Redis' and OpenSSL's own programs on both sides, and whoever writes to a socket.

mod ending;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gateway_core::{DrainOutcome, Gateway};
use gateway_tests::{Certificates, Client, Gate, Issued, Origin, Redis, eventually};

/// A gateway with one listener that passes connections on to `origin`.
fn config(endpoints: &[SocketAddr], listener: &str, upstream: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
    format!(
        "version: 1\nserver: {{workers: 2}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners:\n- name: public\n  address: 127.0.0.1:0\n  {listener}\n\
         upstreams: [{{name: origin, endpoints: [{}], {upstream}}}]\n",
        endpoints.join(", ")
    )
}

/// The same, with nothing said but where they go.
fn gate(endpoint: SocketAddr) -> Gate {
    Gate::yaml(&config(&[endpoint], "tcp: {upstream: origin}", ""))
}

fn connect(gate: &Gate) -> TcpStream {
    let socket = TcpStream::connect(gate.address()).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("it is above zero");
    socket
}

/// What is said until the other end closes.
fn rest(mut socket: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // What is there before a reset counts.
    let _ = socket.read_to_end(&mut all);
    all
}

/// An endpoint that serves each connection like this, in a thread of its own.
fn endpoint(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(socket));
        }
    });
    address
}

/// One that says everything back.
fn echo() -> SocketAddr {
    endpoint(|socket| {
        let mut out = socket.try_clone().expect("it can be copied");
        let _ = std::io::copy(&mut &socket, &mut out);
        let _ = socket.shutdown(Shutdown::Write);
    })
}

/// One that says its name to whoever connects, and closes.
fn named(name: &'static str) -> SocketAddr {
    endpoint(move |mut socket| {
        let _ = socket.write_all(name.as_bytes());
    })
}

fn ended(gate: &Gate, outcome: &str) -> f64 {
    let labels = format!("{{listener=\"public\",outcome=\"{outcome}\"}}");
    gate.metric(&format!("gateway_tcp_connections_total{labels}"))
}

fn redis_cli(gate: &Gate, arguments: &[&str]) -> Output {
    let port = gate.address().port().to_string();
    let said = Command::new("redis-cli").args(["-p", &port]).args(arguments).output();
    said.expect("redis-cli is installed")
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text + &String::from_utf8_lossy(&output.stderr)).trim().to_owned()
}

#[test]
fn redis_is_talked_to_through_a_listener() {
    let redis = Redis::start(&[], false);
    let gate = gate(redis.address());

    assert_eq!(said(&redis_cli(&gate, &["SET", "a", "1"])), "OK");
    assert_eq!(said(&redis_cli(&gate, &["GET", "a"])), "1");
    // All that its own benchmark does, over many connections at once.
    let port = gate.address().port().to_string();
    let told = Command::new("redis-benchmark")
        .args(["-p", &port, "-q", "-n", "5000", "-c", "50", "-d", "1000", "-P", "8"])
        .args(["-t", "set,get,lpush,lrange_100,mset"])
        .output()
        .expect("redis-tools is installed");
    assert!(told.status.success(), "{}", said(&told));
    assert!(said(&told).contains("requests per second"), "{}", said(&told));

    gate.await_metric("gateway_connections_open{listener=\"public\"}", 0.0);
    let log = gate.log(gate.total("gateway_tcp_connections_total") as usize);
    let first = &log[0];
    assert_eq!(first["network.transport"], "tcp");
    assert_eq!(first["listener"], "public");
    assert_eq!((&first["upstream"], &first["ended_by"]), (&"origin".into(), &"client".into()));
    assert_eq!(first["endpoint"], redis.address().to_string());
    assert_eq!(first["client.address"], "127.0.0.1");
    assert!(first["bytes_in"].as_u64() >= Some(20) && first["bytes_out"].as_u64() >= Some(5));
    assert!(first.get("http.request.method").is_none() && first.get("failure").is_none());
    let count = |field: &str| log.iter().filter_map(|line| line[field].as_u64()).sum::<u64>();
    let metric = |name: &str| gate.metric(&format!("{name}{{listener=\"public\"}}"));
    assert_eq!(metric("gateway_tcp_received_bytes_total") as u64, count("bytes_in"));
    assert_eq!(metric("gateway_tcp_sent_bytes_total") as u64, count("bytes_out"));
    assert_eq!(ended(&gate, "ok") as usize, log.len());
    let attempts = "gateway_upstream_attempts_total{outcome=\"ok\",upstream=\"origin\"}";
    assert_eq!(gate.metric(attempts) as usize, log.len());
    gate.await_metric("gateway_upstream_requests_in_flight{upstream=\"origin\"}", 0.0);
}

#[test]
fn the_example_of_tcp_does_what_it_says() {
    let redis = Redis::start(&[], false);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/examples/tcp.yaml");
    let example = fs::read_to_string(example).expect("it is there");
    let here = example
        .replace("127.0.0.1:6380", "127.0.0.1:0")
        .replace("127.0.0.1:8443", "127.0.0.1:0")
        .replace("127.0.0.1:6379", &redis.address().to_string());
    let gate = Gate::yaml(&here);
    let port = gate.listener("cache").port().to_string();
    let pong = Command::new("redis-cli").args(["-p", &port, "PING"]).output();
    assert_eq!(said(&pong.expect("redis-cli is installed")), "PONG");
}

/// The arguments that have Redis speak TLS as this.
fn as_of(issued: &Issued, authority: &Certificates) -> Vec<String> {
    let ca = authority.authority().display().to_string();
    let words = ["--tls-cert-file", &issued.cert, "--tls-key-file", &issued.key];
    let more = ["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"];
    words.into_iter().chain(more).map(str::to_owned).collect()
}

#[test]
fn tls_ends_at_the_listener_and_begins_again_behind_it() {
    let ours = Certificates::new();
    let (own, inner) = (ours.issue("own", "DNS:a.test"), ours.issue("inner", "DNS:inner.test"));
    let arguments = as_of(&inner, &ours);
    let redis = Redis::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), true);
    let ca = ours.authority().display().to_string();
    let listener = format!(
        "tls: {{certificates: [{{cert: {}, key: {}}}]}}\n  tcp: {{upstream: origin, alpn: [redis, other]}}",
        own.cert, own.key
    );
    let upstream = format!("tls: {{ca: {ca}, server_name: inner.test}}");
    let gate = Gate::yaml(&config(&[redis.address()], &listener, &upstream));

    let tls = ["--tls", "--cacert", &ca, "--sni", "a.test"];
    for words in [&["SET", "a", "1"][..], &["GET", "a"]] {
        let output = redis_cli(&gate, &[&tls, words].concat());
        assert!(["OK", "1"].contains(&said(&output).as_str()), "{}", said(&output));
    }
    let log = gate.log(2);
    assert_eq!(
        (&log[0]["server.address"], &log[0]["ended_by"]),
        (&"a.test".into(), &"client".into())
    );

    // A value that no buffer holds.
    let value = noise(16 << 20);
    let file = gate.folder().join("value");
    fs::write(&file, &value).expect("it can be written");
    let port = gate.address().port().to_string();
    let mut redis_cli = Command::new("redis-cli");
    let set = redis_cli.args(["-p", &port]).args(tls).args(["-x", "SET", "big"]);
    let set = set.stdin(fs::File::open(&file).expect("it is there")).output();
    assert_eq!(said(&set.expect("redis-cli is installed")), "OK");
    let got = self::redis_cli(&gate, &[&tls[..], &["--raw", "GET", "big"]].concat()).stdout;
    assert!(got.strip_suffix(b"\n") == Some(&value), "{} bytes came back", got.len());
    gate.log(4);

    // What is agreed on is what the listener says.
    let agreed =
        |offered: &str| s_client(&gate, &["-servername", "a.test", "-alpn", offered], "PING\r\n");
    let told = agreed("h2,other");
    assert!(told.contains("ALPN protocol: other") && told.contains("+PONG"), "{told}");
    let told = agreed("h2");
    assert!(told.contains("no application protocol"), "{told}");
    // A request is no handshake here, and gets no answer of HTTP.
    let mut plain = connect(&gate);
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is read");
    assert!(!rest(plain).starts_with(b"HTTP"));
    eventually("it is counted", || ended(&gate, "D5") == 2.0);
    // Who only looks whether somebody listens is not worth a line.
    drop(connect(&gate));
    let closed = "gateway_tls_handshake_failures_total{listener=\"public\",reason=\"closed\"}";
    gate.await_metric(closed, 1.0);
    assert_eq!(gate.log(7).iter().filter(|line| line["failure"] == "D5").count(), 2);
}

/// What OpenSSL says of a handshake, and of what is answered.
fn s_client(gate: &Gate, more: &[&str], request: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &gate.address().to_string(), "-ign_eof"])
        .args(more)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    let mut input = child.stdin.take().expect("it is piped");
    // QUIT has Redis close, so that it ends. It may be gone before it reads.
    let _ = input.write_all(format!("{request}QUIT\r\n").as_bytes());
    said(&child.wait_with_output().expect("it ends"))
}

#[test]
fn what_is_secured_passes_through_by_the_name_that_is_asked_for() {
    let ours = Certificates::new();
    let started = |name: &str| {
        let issued = ours.issue(name, &format!("DNS:{name}.test,DNS:*.{name}.test"));
        let arguments = as_of(&issued, &ours);
        let redis = Redis::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), true);
        let ca = ours.authority().display().to_string();
        redis.tell(&[
            "--tls",
            "--cacert",
            &ca,
            "--sni",
            &format!("{name}.test"),
            "SET",
            "me",
            name,
        ]);
        redis
    };
    let (one, two) = (started("one"), started("two"));
    let plain = Redis::start(&[], false);
    plain.tell(&["SET", "me", "plain"]);
    let whole = |default: &str| {
        config(
            &[one.address()],
            &format!(
                "timeouts: {{handshake: 500ms}}\n  tcp: {{{default}sni: {{One.test: origin, \"*.two.test\": two, two.test: two}}}}"
            ),
            "",
        ) + &format!(
            "- {{name: two, endpoints: [\"{}\"]}}\n- {{name: plain, endpoints: [\"{}\"]}}\n",
            two.address(),
            plain.address()
        )
    };
    let whole = |default: &str| {
        whole(default).replace("upstreams: [{", "upstreams:\n- {").replace(", }]\n", "}\n")
    };
    let gate = Gate::yaml(&whole("upstream: plain, "));
    let ca = ours.authority().display().to_string();
    let ask = |name: &str| {
        let words = ["--tls", "--cacert", &ca, "--sni", name, "GET", "me"];
        said(&redis_cli(&gate, &words))
    };

    for (name, own) in [
        ("one.test", "one"),
        ("ONE.TEST", "one"),
        ("two.test", "two"),
        ("x.two.test", "two"),
        ("y.x.two.test", "two"),
    ] {
        assert_eq!(ask(name), own, "{name}");
    }
    // The certificate is the endpoint's, and for no other name there is one.
    let told = s_client(&gate, &["-servername", "one.test", "-CAfile", &ca], "");
    assert!(told.contains("subject=CN = one") && told.contains("Verify return code: 0"), "{told}");
    assert_eq!(said(&redis_cli(&gate, &["GET", "me"])), "plain");
    let names: Vec<_> = gate.log(7).iter().map(|line| line["server.address"].clone()).collect();
    assert_eq!(names[1], "one.test");
    // Another name is for who takes everything, which here waits for the end of a line.
    let curl = |name: &str| {
        let port = gate.address().port();
        let told = Command::new("curl")
            .args(["-s", "--max-time", "1", "--resolve", &format!("{name}:{port}:127.0.0.1")])
            .arg(format!("https://{name}:{port}/"))
            .status();
        told.expect("curl is installed").code()
    };
    assert_eq!(curl("three.test"), Some(28), "nobody answers");
    let line = &gate.log(8)[7];
    assert_eq!(
        (&line["server.address"], &line["upstream"]),
        (&"three.test".into(), &"plain".into())
    );

    // Where there is nobody for the others they are told nothing.
    gate.write(&whole(""));
    gate.running().reload().expect("it is sound");
    let failure = |code: &str| eventually(code, || ended(&gate, code) == 1.0);
    drop(connect(&gate));
    let closed = "gateway_tls_handshake_failures_total{listener=\"public\",reason=\"closed\"}";
    gate.await_metric(closed, 1.0);
    assert_eq!(curl("three.test"), Some(35), "it is closed");
    failure("P1");
    let mut other = connect(&gate);
    other.write_all(b"PING\r\n").expect("it is read");
    assert_eq!(rest(other), b"");
    failure("D3");
    let mut late = connect(&gate);
    late.write_all(&[22, 3, 1, 0]).expect("it is read");
    assert_eq!(rest(late), b"");
    failure("D4");
    let mut half = connect(&gate);
    half.write_all(&[22, 3, 1, 0]).expect("it is read");
    drop(half);
    failure("D1");
}

#[test]
fn who_may_not_connect_is_closed_and_who_is_too_many_too() {
    let listener = "limits: {connections_per_client: 2}\n  tcp: {upstream: origin, allow: [127.0.0.0/28], deny: [127.0.0.3]}";
    let gate = Gate::yaml(&config(&[echo()], listener, ""));
    let reached = |last: u8| {
        let mut client = Client::connect_from([127, 0, 0, last], gate.address());
        let _ = client.try_send("hello");
        client.finish().rest() == b"hello"
    };
    assert_eq!([3, 16, 4, 15].map(reached), [false, false, true, true]);
    eventually("they are counted", || ended(&gate, "P4") == 2.0);
    let log = gate.log(4);
    let denied = log.iter().find(|line| line["client.address"] == "127.0.0.3");
    let denied = denied.expect("it has a line");
    assert_eq!((&denied["failure"], denied.get("upstream")), (&"P4".into(), None));

    let open: Vec<_> = (0..2).map(|_| connect(&gate)).collect();
    let refused = "gateway_connections_refused_total{listener=\"public\",reason=\"per_client\"}";
    assert_eq!(rest(connect(&gate)), b"");
    assert_eq!(gate.metric(refused), 1.0);
    drop(open);
    eventually("there is room again", || {
        let mut socket = connect(&gate);
        socket.write_all(b"x").is_ok() && socket.read(&mut [0]).is_ok_and(|read| read == 1)
    });
}

/// Bytes that are not the same anywhere.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..length).map(next).collect()
}

/// Sends these bytes from a thread of its own.
fn sending(socket: &TcpStream, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut socket = socket.try_clone().expect("it can be copied");
    thread::spawn(move || {
        socket.write_all(&bytes).expect("all of it is taken");
        socket.shutdown(Shutdown::Write).expect("it is open");
    })
}

#[test]
fn both_ways_are_full_at_once_and_every_byte_arrives() {
    let gate = gate(echo());
    let bytes = noise(32 << 20);
    let socket = connect(&gate);
    let sender = sending(&socket, bytes.clone());
    // A reader that takes its time, so that everything in between fills up.
    thread::sleep(Duration::from_millis(300));
    let heard = rest(socket);
    sender.join().expect("all of it is taken");
    assert!(heard == bytes, "{} of {} bytes came back, or others", heard.len(), bytes.len());
    let line = &gate.log(1)[0];
    let whole = Some(bytes.len() as u64);
    assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (whole, whole));
}

#[test]
fn who_cannot_be_reached_is_passed_over_and_a_sick_one_is_left_out() {
    let (dead, alive) = (Origin::nobody(), named("alive"));
    let gate = Gate::yaml(&config(
        &[dead, alive],
        "tcp: {upstream: origin}",
        "retry: {attempts: 2, budget_minimum: 100}",
    ));
    for _ in 0..20 {
        assert_eq!(rest(connect(&gate)), b"alive");
    }
    let log = gate.log(20);
    let tries: Vec<_> = log.iter().filter_map(|line| line["attempts"].as_u64()).collect();
    assert!(tries.contains(&2) && tries.iter().all(|tries| *tries <= 2), "{tries:?}");
    let refused = "gateway_upstream_attempts_total{outcome=\"U3\",upstream=\"origin\"}";
    let failed = gate.metric(refused);
    assert!((5.0..=15.0).contains(&failed), "{failed}");

    // Checks find out beforehand.
    let upstream = "health: {active: {kind: tcp, interval: 50ms, unhealthy_after: 1}}";
    let gate = Gate::yaml(&config(&[dead, alive], "tcp: {upstream: origin}", upstream));
    gate.await_metric("gateway_upstream_endpoints{state=\"unhealthy\",upstream=\"origin\"}", 1.0);
    for _ in 0..10 {
        assert_eq!(rest(connect(&gate)), b"alive");
    }
    assert_eq!(gate.metric(refused), 0.0);

    // So does what becomes of connections.
    let upstream = "health: {passive: {failures: 2, max_ejected: 100%}}, retry: {attempts: 2, budget_minimum: 100}";
    let gate = Gate::yaml(&config(&[dead, alive], "tcp: {upstream: origin}", upstream));
    for _ in 0..20 {
        assert_eq!(rest(connect(&gate)), b"alive");
    }
    assert_eq!(gate.metric(refused), 2.0);

    // Without anybody it is said why.
    let gate = self::gate(dead);
    assert_eq!(rest(connect(&gate)), b"");
    let line = &gate.log(1)[0];
    assert_eq!((&line["failure"], &line["endpoint"]), (&"U3".into(), &dead.to_string().into()));
    assert!(line.get("ended_by").is_none());
}

#[test]
fn connections_are_balanced_as_requests_are_and_no_more_than_may_be_open() {
    // One that stays is load.
    let held = |name: &'static str| {
        endpoint(move |mut socket| {
            let _ = socket.write_all(name.as_bytes());
            let _ = socket.read(&mut [0]);
        })
    };
    let endpoints = [held("a"), held("b"), held("c")];
    let first = |gate: &Gate| {
        let mut socket = connect(gate);
        let mut name = [0];
        let read = socket.read(&mut name).unwrap_or(0);
        (socket, String::from_utf8_lossy(&name[..read]).into_owned())
    };
    let upstream =
        "balance: least_requests, limits: {in_flight: 6, queue: 1, queue_timeout: 200ms}";
    let gate = Gate::yaml(&config(&endpoints, "tcp: {upstream: origin}", upstream));
    let mut open: Vec<_> = (0..6).map(|_| first(&gate)).collect();
    let mut names: Vec<_> = open.iter().map(|(_, name)| name.clone()).collect();
    names.sort();
    let most = ["a", "b", "c"].map(|one| names.iter().filter(|name| *name == one).count());
    // Of two that are drawn it takes the one with less.
    assert!(most.iter().all(|count| (1..=3).contains(count)), "{names:?}");
    // One more waits, in vain or not.
    assert_eq!(first(&gate).1, "");
    eventually("it is counted", || ended(&gate, "U8") == 1.0);
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| first(&gate).1);
        thread::sleep(Duration::from_millis(50));
        drop(open.remove(2));
        waiting.join().expect("it ends")
    });
    assert!(!waiting.is_empty(), "there was room again");

    // A client is kept where it is, by its address.
    let upstream = "balance: {hash: client.ip, max_load: 10}";
    let gate = Gate::yaml(&config(&endpoints, "tcp: {upstream: origin}", upstream));
    let names: Vec<_> = (0..10).map(|_| first(&gate).1).collect();
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
}

#[test]
fn whose_a_connection_is_comes_in_and_goes_on_in_the_proxy_protocol() {
    let (tell, told) = std::sync::mpsc::channel();
    let listening = endpoint(move |mut socket| {
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all);
        let _ = tell.send(all);
    });
    let listener =
        "proxy_protocol: {trusted: [127.0.0.1]}\n  tcp: {upstream: origin, deny: [192.0.2.66]}";
    let gate = Gate::yaml(&config(&[listening], listener, "proxy_protocol: v1"));
    let say = |bytes: &[u8]| {
        let mut socket = connect(&gate);
        socket.write_all(bytes).expect("it is taken");
        // Who is not let in may be gone already.
        let _ = socket.shutdown(Shutdown::Write);
        let _ = rest(socket);
    };
    say(b"PROXY TCP4 192.0.2.8 198.51.100.1 5 80\r\nhello");
    let heard = told.recv_timeout(Duration::from_secs(5)).expect("it is heard");
    assert_eq!(String::from_utf8_lossy(&heard), "PROXY TCP4 192.0.2.8 198.51.100.1 5 80\r\nhello");
    say(b"PROXY TCP4 192.0.2.66 198.51.100.1 5 80\r\nhello");
    say(b"hello");
    let mut log = gate.log(2);
    log.sort_by_key(|line| line["client.address"].to_string().len());
    assert_eq!(log[0]["client.address"], "192.0.2.8");
    assert_eq!(
        (&log[1]["client.address"], &log[1]["failure"]),
        (&"192.0.2.66".into(), &"P4".into())
    );
    gate.await_metric(
        "gateway_connections_ended_total{listener=\"public\",reason=\"proxy_protocol\"}",
        1.0,
    );
    assert!(told.try_recv().is_err(), "the others are not passed on");
}

#[test]
fn what_is_passed_on_outlives_a_reload_and_lasts_until_a_drain_is_over() {
    let mut gate = Gate::yaml(&config(&[echo()], "tcp: {upstream: origin}", ""));
    let mut old = connect(&gate);
    let says = |socket: &mut TcpStream| {
        let mut byte = [0];
        socket.write_all(b"x").is_ok() && socket.read(&mut byte).is_ok_and(|read| read == 1)
    };
    assert!(says(&mut old));
    let to = |endpoint: SocketAddr, name: &str| {
        let config = config(&[endpoint], &format!("tcp: {{upstream: {name}}}"), "");
        config.replace("name: origin", &format!("name: {name}"))
    };
    gate.write(&to(named("new"), "other"));
    gate.running().reload().expect("it is sound");
    assert_eq!(rest(connect(&gate)), b"new");
    assert!(says(&mut old), "what was open still is");

    // The listener may speak HTTP from now on, and back again.
    let http = "routes: [{name: all, match: {path: /}, reply: {body: hello}}]\n";
    gate.write(
        &(config(&[], "limits: {}", "").split("upstreams").next().expect("it is").to_owned()
            + http),
    );
    gate.running().reload().expect("it is sound");
    assert_eq!(gate.get("/").text(), "hello");
    gate.write(&to(named("again"), "other"));
    gate.running().reload().expect("it is sound");
    assert_eq!(rest(connect(&gate)), b"again");
    assert!(says(&mut old));

    let log = gate.log_path();
    let (_never, hurry) = tokio::sync::watch::channel(false);
    let running = gate.take();
    let draining = thread::spawn(move || running.drain(Duration::from_secs(1), hurry));
    let began = Instant::now();
    while says(&mut old) {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(draining.join().expect("it ends"), DrainOutcome::Cut(1));
    let log = std::fs::read_to_string(log).expect("there is a log");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains(r#""failure":"G3""#) && last.contains(r#""ended_by":"drain""#), "{last}");
}

#[test]
fn a_connection_is_no_request() {
    let gate = gate(echo());
    let mut socket = connect(&gate);
    socket.write_all(b"x").expect("it is taken");
    assert_eq!(socket.read(&mut [0]).expect("it comes back"), 1);
    let status: serde_json::Value = gate.admin("/status").json();
    assert_eq!((&status["requests_in_flight"], &status["connections"]), (&0.into(), &1.into()));
}

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    let refused = |listener: &str, upstream: &str| {
        let config = config(&["127.0.0.1:9".parse().expect("it is one")], listener, upstream);
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("gateway.yaml");
        std::fs::write(&file, config.replace("LOG", "stdout")).expect("it can be written");
        let checked = Gateway::builder().plugins(gateway_plugins::all()).config_file(&file).check();
        checked.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let asks = |listener: &str, upstream: &str, expected: &str| {
        let told = refused(listener, upstream);
        assert!(told.contains(expected), "{listener}: {told}");
    };
    asks("tcp: {}", "", "listeners[0].tcp: connections go nowhere; write `upstream`, or `sni`");
    asks(
        "tcp: {upstream: orign}",
        "",
        "tcp.upstream: there is no upstream `orign`, did you mean `origin`?",
    );
    asks("tcp: {sni: {\"a b\": origin}}", "", "tcp.sni");
    asks(
        "tcp: {sni: {a.test: origin, A.test: origin}}",
        "",
        "tcp.sni[\"a.test\"]: it is the same name as `A.test`",
    );
    asks("tcp: {sni: {192.0.2.1: origin}}", "", "clients ask for no address");
    asks(
        "tcp: {upstream: origin, timeouts: {half_closed: 0}}",
        "",
        "timeouts.half_closed: this limit cannot be turned off",
    );
    asks("tcp: {upstream: origin, alpn: [x]}", "", "tcp.alpn: nothing is agreed to");
    asks(
        "tcp: {upstream: origin, timeouts: {idle: 0}}",
        "",
        "timeouts.idle: this limit cannot be turned off",
    );
    asks("tcp: {sni: {a.test: origin}}", "tls: {}", "it would be secured twice");
    asks(
        "tcp: {upstream: origin}",
        "balance: {hash: http.path}",
        "which a connection without requests has not",
    );
    asks(
        "tcp: {upstream: origin}",
        "limits: {adaptive: {}}",
        "tcp.upstream: upstream `origin` has `limits.adaptive`, which goes by how long answers take",
    );
    asks(
        "limits: {body_bytes: 1KiB}\n  tcp: {upstream: origin}",
        "",
        "limits.body_bytes: it is about requests",
    );
    asks(
        "plugins: [{kind: request-id}]\n  tcp: {upstream: origin}",
        "",
        "plugins: it is about requests",
    );
}
