//! How connections that are no HTTP come to an end, and what the other side is told of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Certificates, Gate, Program, eventually};

use super::{config, connect, echo, endpoint, gate, rest, said, sending};

#[test]
fn a_side_that_has_said_all_still_hears_the_other() {
    // It answers once it has heard everything.
    let counted = endpoint(|mut socket| {
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all);
        thread::sleep(Duration::from_millis(50));
        let _ = write!(socket, "{} bytes", all.len());
    });
    let gate = gate(counted);
    let mut socket = connect(&gate);
    socket.write_all(&[7; 100_000]).expect("it is taken");
    socket.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(rest(socket), b"100000 bytes");
    let log = gate.log(1);
    assert_eq!(
        (&log[0]["ended_by"], log[0]["bytes_in"].as_u64()),
        (&"client".into(), Some(100_000))
    );

    // However long it was silent before.
    let listener = "tcp: {upstream: origin, timeouts: {half_closed: 500ms}}";
    let patient = Gate::yaml(&config(&[counted], listener, ""));
    let mut socket = connect(&patient);
    socket.write_all(b"hello").expect("it is taken");
    thread::sleep(Duration::from_millis(800));
    socket.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(rest(socket), b"5 bytes");

    // And the other way round: it says all at once, and then listens.
    let (tell, told) = std::sync::mpsc::channel();
    let listening = endpoint(move |mut socket| {
        let _ = socket.write_all(b"hello");
        let _ = socket.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all);
        let _ = tell.send(all);
    });
    let gate = self::gate(listening);
    let mut socket = connect(&gate);
    let mut all = Vec::new();
    socket.read_to_end(&mut all).expect("it closes in peace");
    assert_eq!(all, b"hello");
    socket.write_all(b"goodbye").expect("it is taken");
    drop(socket);
    assert_eq!(told.recv_timeout(Duration::from_secs(5)).expect("it is heard"), b"goodbye");
    assert_eq!(gate.log(1)[0]["ended_by"], "upstream");
}

#[test]
fn nothing_lasts_longer_than_it_may() {
    let gate = Gate::yaml(&config(
        &[echo()],
        "tcp: {upstream: origin, timeouts: {idle: 300ms, total: 1200ms}}",
        "",
    ));
    let began = Instant::now();
    let mut silent = connect(&gate);
    silent.write_all(b"x").expect("it is taken");
    assert_eq!(rest(silent), b"x");
    assert!((250..1000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    // One that goes on and on is not idle, but it ends.
    let began = Instant::now();
    let mut busy = connect(&gate);
    let mut byte = [0];
    while busy.write_all(b"x").is_ok() && busy.read(&mut byte).is_ok_and(|read| read == 1) {
        thread::sleep(Duration::from_millis(50));
    }
    assert!((1100..2500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let log = gate.log(2);
    let shown = |line: usize, field: &str| log[line][field].as_str().map(str::to_owned);
    assert_eq!((shown(0, "ended_by"), shown(0, "failure")), (Some("idle".into()), None));
    assert_eq!(
        (shown(1, "ended_by"), shown(1, "failure")),
        (Some("total".into()), Some("X7".into()))
    );
}

/// Ends a connection without a word.
fn reset(socket: TcpStream) {
    let socket = socket2::Socket::from(socket);
    socket.set_linger(Some(Duration::ZERO)).expect("it is open");
}

/// What comes of a secured connection until its end, and whether that was said to be one.
fn secured(gate: &Gate, ca: &str, say: &str) -> (String, bool) {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/tls_endings.py");
    let port = gate.address().port().to_string();
    let told = Command::new("/usr/bin/python3").args([program, "ask", ca, &port, say]).output();
    let told = said(&told.expect("python3 is installed"));
    let (heard, end) = told.rsplit_once(' ').expect("it says how it ended");
    assert!(["said", "unsaid"].contains(&end), "{told}");
    (heard.to_owned(), end == "said")
}

#[test]
fn an_end_that_is_not_said_in_tls_is_not_passed_on_as_one_that_is() {
    let ours = Certificates::new();
    let own = ours.issue("own", "IP:127.0.0.1");
    let ca = ours.authority().display().to_string();
    let listener = format!(
        "tls: {{certificates: [{{cert: {}, key: {}}}]}}\n  tcp: {{upstream: origin}}",
        own.cert, own.key
    );
    let gate = |endpoint| Gate::yaml(&config(&[endpoint], &listener, ""));
    let answering = |say: &'static str, end: fn(TcpStream)| {
        endpoint(move |mut socket| {
            let _ = socket.read(&mut [0; 8]);
            let _ = socket.write_all(say.as_bytes());
            end(socket);
        })
    };
    let in_peace = gate(answering("all", drop));
    assert_eq!(secured(&in_peace, &ca, "x"), ("all".to_owned(), true));
    let broken = gate(answering("some", |socket| {
        thread::sleep(Duration::from_millis(100));
        reset(socket);
    }));
    assert_eq!(secured(&broken, &ca, "x"), ("some".to_owned(), false));
    assert_eq!(broken.log(1)[0]["failure"], "X2");

    // One whose own connection is secured, and that says so or not when it has said all.
    let inner = ours.issue("inner", "DNS:inner.test");
    for says_so in [true, false] {
        let arguments = ["serve", &inner.cert, &inner.key, &says_so.to_string()];
        let serving = Program::start("tls_endings.py", &arguments);
        let upstream = format!("tls: {{ca: {ca}, server_name: inner.test}}");
        let gate = Gate::yaml(&config(&[serving.address()], &listener, &upstream));
        assert_eq!(secured(&gate, &ca, "x"), ("all".to_owned(), says_so));
        let line = &gate.log(1)[0];
        assert_eq!((line.get("failure"), &line["ended_by"]), (None, &"upstream".into()));
    }
}

#[test]
fn who_is_gone_is_noticed_though_nothing_is_read_of_him() {
    // It says nothing, and takes nothing.
    let deaf = endpoint(|socket| {
        thread::sleep(Duration::from_secs(20));
        drop(socket);
    });
    let listener = "tcp: {upstream: origin, timeouts: {half_closed: 2s}}";
    let gate = Gate::yaml(&config(&[deaf], listener, ""));
    let began = Instant::now();
    // It has said all, hears nothing, and goes.
    let socket = connect(&gate);
    socket.shutdown(Shutdown::Write).expect("it is open");
    thread::sleep(Duration::from_millis(200));
    reset(socket);
    let line = &gate.log(1)[0];
    assert_eq!((&line["failure"], &line["ended_by"]), (&"D2".into(), &"client".into()));
    assert!(began.elapsed() < Duration::from_millis(1_900), "{:?}", began.elapsed());
    // The same, and it stays.
    let socket = connect(&gate);
    socket.shutdown(Shutdown::Write).expect("it is open");
    let line = &gate.log(2)[1];
    assert_eq!((line.get("failure"), &line["ended_by"]), (None, &"idle".into()));
    assert!(line["duration_ms"].as_f64() >= Some(1_900.0), "{line}");
    drop(socket);
    // It says more than is taken, and goes.
    let socket = connect(&gate);
    socket.set_nonblocking(true).expect("it is open");
    eventually("nothing more is taken", || {
        let full = || (&socket).write_all(&[7; 64 << 10]).is_err();
        full() && {
            thread::sleep(Duration::from_millis(100));
            full()
        }
    });
    reset(socket);
    let line = &gate.log(3)[2];
    assert_eq!((&line["failure"], &line["ended_by"]), (&"D2".into(), &"client".into()));
    assert!(line["duration_ms"].as_f64() <= Some(9_000.0), "{line}");
}

#[test]
fn what_is_taken_slowly_is_not_idle() {
    // All of it is said at once, and taken over a time that is longer than nothing may move.
    let slow = endpoint(|mut socket| {
        let mut all = 0;
        let mut piece = vec![0; 256 << 10];
        while let Ok(read @ 1..) = socket.read(&mut piece) {
            all += read;
            thread::sleep(Duration::from_millis(10));
        }
        let _ = write!(socket, "{all}");
    });
    let listener = "tcp: {upstream: origin, timeouts: {idle: 500ms}}";
    let gate = Gate::yaml(&config(&[slow], listener, ""));
    let socket = connect(&gate);
    let sender = sending(&socket, vec![7; 24 << 20]);
    assert_eq!(rest(socket), (24 << 20).to_string().as_bytes());
    sender.join().expect("all of it is taken");
}

#[test]
fn a_connection_that_breaks_is_told_apart_from_one_that_ends() {
    let gate = gate(endpoint(|socket| {
        thread::sleep(Duration::from_millis(50));
        reset(socket);
    }));
    let mut socket = connect(&gate);
    let _ = socket.write_all(b"hello");
    let told = socket.read(&mut [0; 8]).expect_err("it does not look as if it were all");
    assert_eq!(told.kind(), ErrorKind::ConnectionReset);
    assert_eq!(gate.log(1)[0]["failure"], "X2");

    // What was said before is still heard, and then that it is not all.
    let (tell, told) = std::sync::mpsc::channel();
    let listening = endpoint(move |mut socket| {
        let _ = socket.write_all(b"welcome");
        let (mut all, mut piece) = (0, [0; 4096]);
        let end = loop {
            match socket.read(&mut piece) {
                Ok(0) => break None,
                Ok(read) => all += read,
                Err(error) => break Some(error.kind()),
            }
            thread::sleep(Duration::from_millis(1));
        };
        let _ = tell.send((all, end));
    });
    let gate = self::gate(listening);
    let mut socket = connect(&gate);
    assert_eq!(socket.read(&mut [0; 8]).expect("it comes back"), 7);
    socket.write_all(&[7; 500_000]).expect("it is taken");
    reset(socket);
    let line = &gate.log(1)[0];
    assert_eq!((&line["failure"], &line["ended_by"]), (&"D2".into(), &"client".into()));
    let (heard, end) = told.recv_timeout(Duration::from_secs(5)).expect("it ends");
    assert_eq!(Some(heard as u64), line["bytes_in"].as_u64());
    assert_eq!(end, Some(ErrorKind::ConnectionReset));

    // What is said before closing in the face of somebody is heard all the same.
    let rude = endpoint(|mut socket| {
        let _ = socket.write_all(b"go away");
    });
    let gate = self::gate(rude);
    for _ in 0..20 {
        let mut socket = connect(&gate);
        let _ = socket.write_all(&[0; 10_000]);
        assert_eq!(rest(socket), b"go away");
    }
}
