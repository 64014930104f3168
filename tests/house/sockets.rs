//! Listeners come, go and change while the gateway runs: nobody else is disturbed, and those of a listener that goes
//! come to their end in peace.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_core::ReloadError;
use gateway_tests::{Client, Gate, Process, Program, Response, eventually, gateway_binary};

use crate::http2::frames::Frames;

/// A config with these listeners, and a route that says what it is called.
fn config(listeners: &[String], word: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 2, drain_timeout: 4s}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\naccess_log: {{output: LOG, format: json}}\n\
         listeners: [{}]\nroutes: [{{name: all, match: {{path: /}}, reply: {{body: {word}}}}}]\n",
        listeners.join(", ")
    )
}

fn listener(name: &str, address: impl ToString) -> String {
    format!("{{name: {name}, address: \"{}\"}}", address.to_string())
}

/// An address that nobody listens on, where no other test does.
fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.7.7:0").expect("a port is free");
    socket.local_addr().expect("it is bound")
}

#[track_caller]
fn reload(gate: &Gate, config: &str) {
    gate.write(config);
    gate.running().reload().unwrap_or_else(|error| panic!("the config is refused:\n{error}"));
}

fn ask(client: &mut Client) -> Response {
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response()
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

#[test]
fn a_listener_comes_and_goes_and_its_connections_end_after_their_next_answer() {
    let public = listener("public", "127.0.0.1:0");
    let gate = Gate::yaml(&config(std::slice::from_ref(&public), "one"));
    let first = gate.address();
    let mut stays = gate.client();
    assert_eq!(ask(&mut stays).text(), "one");

    // In front of the one that there was, so that all have another place.
    reload(&gate, &config(&[listener("more", "127.0.0.1:0"), public.clone()], "two"));
    let more = gate.listener("more");
    assert_eq!((gate.address(), more == first), (first, false));
    let mut leaves = Client::connect(more);
    assert_eq!(ask(&mut leaves).text(), "two");
    assert_eq!(ask(&mut stays).text(), "two");
    let mut late = Client::connect(more);
    late.send("GET / HTTP/1.1\r\nHost");
    let mut frames = Frames::connect(more);
    assert_eq!(frames.get("/").body, b"two");

    reload(&gate, &config(&[public], "three"));
    assert!(is_refused(more), "it is closed once the reload is done");
    assert_eq!(gate.running().address("more"), None);
    // Those of the listener that is gone are served as it was, once more.
    let answer = ask(&mut leaves);
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("two", Some("close")));
    assert!(leaves.rest().is_empty());
    let answer = late.send(": a\r\n\r\n").response();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("two", Some("close")));
    assert!(frames.goodbye().is_some());
    let answer = ask(&mut stays);
    assert_eq!(
        (answer.text().as_str(), answer.header("connection")),
        ("three", Some("keep-alive"))
    );
    let lines = gate.log(7);
    let of = |name: &str| lines.iter().filter(|line| line["listener"] == name).count();
    assert_eq!((of("public"), of("more")), (3, 4));
}

#[test]
fn a_listener_is_the_address_that_it_has_and_may_be_called_something_else() {
    let address = free();
    let gate = Gate::yaml(&config(&[listener("public", address)], "one"));
    let mut stays = gate.client();
    assert_eq!(ask(&mut stays).text(), "one");
    reload(&gate, &config(&[listener("other", address)], "two"));
    assert_eq!(ask(&mut stays).text(), "two");
    assert_eq!(ask(&mut Client::connect(address)).text(), "two");
    let names: Vec<_> = gate.log(3).iter().map(|line| line["listener"].clone()).collect();
    assert_eq!(names, ["public", "other", "other"]);
    // Its name moves to another address, and what was there before goes.
    let next = free();
    reload(&gate, &config(&[listener("other", next)], "three"));
    assert_eq!(ask(&mut Client::connect(next)).text(), "three");
    assert!(is_refused(address));
    // Back at once: nothing of it is left in the way.
    reload(&gate, &config(&[listener("other", address)], "four"));
    assert_eq!(ask(&mut Client::connect(address)).text(), "four");
}

#[test]
fn an_address_that_cannot_be_bound_refuses_the_reload_whole() {
    let public = listener("public", "127.0.0.1:0");
    let gate = Gate::yaml(&config(std::slice::from_ref(&public), "one"));
    let held = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = held.local_addr().expect("it is bound");
    let good = free();
    let next = config(&[public.clone(), listener("good", good), listener("bad", taken)], "two");
    gate.write(&next);
    let error = gate.running().reload().expect_err("somebody else has it");
    assert!(matches!(error, ReloadError::Address(_)));
    let told = error.to_string();
    assert!(told.contains("listeners[2].address: listener `bad` cannot bind"), "{told}");
    assert_eq!(ask(&mut gate.client()).text(), "one");
    assert!(is_refused(good), "the one that could be bound is not there either");
    let reloads = |outcome: &str| format!("gateway_config_reloads_total{{outcome=\"{outcome}\"}}");
    assert_eq!(gate.metric(&reloads("failure")), 1.0);
    drop(held);
    gate.running().reload().expect("nobody has it any more");
    assert_eq!(ask(&mut Client::connect(taken)).text(), "two");

    // A socket for all addresses is in the way of one for a single one, and says so.
    let all = format!("0.0.0.0:{}", good.port());
    gate.write(&config(&[listener("public", "127.0.0.1:0"), listener("good", all)], "three"));
    let told = gate.running().reload().expect_err("it is held").to_string();
    assert!(told.contains("the running gateway holds 127.0.7.7"), "{told}");
    assert!(told.contains("restart"), "{told}");
}

#[test]
fn the_command_tells_an_address_that_is_taken_from_a_config_with_faults() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("gateway.yaml");
    let socket = folder.path().join("admin.sock");
    let write = |listeners: &[String]| {
        let config = config(listeners, "one").replace("LOG", "stdout").replace(
            "\"127.0.0.1:0\"}\naccess",
            &format!("\"unix:{}\"}}\naccess", socket.display()),
        );
        std::fs::write(&file, config).expect("it can be written");
    };
    let (own, held) = (free(), TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    write(&[listener("public", own)]);
    let path = file.to_str().expect("it is text");
    let _gateway = Process::start(&["run", "-c", path]);
    eventually("it serves", || !is_refused(own));
    let told = |arguments: &[&str]| {
        let told = Command::new(gateway_binary()).args(arguments).output().expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (told.status.code(), text(&told.stdout) + &text(&told.stderr))
    };
    write(&[listener("public", own), listener("bad", held.local_addr().expect("it is bound"))]);
    let (code, said) = told(&["reload", "-c", path]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("listener `bad` cannot bind"), "{said}");
    write(&[]);
    assert_eq!(told(&["reload", "-c", path]).0, Some(2));
    write(&[listener("public", own)]);
    assert_eq!(told(&["reload", "-c", path]).0, Some(0));
}

#[test]
fn what_never_ends_by_itself_is_told_and_cut_when_its_listener_is_gone_for_long() {
    let mut other = Program::start("websocket.py", &[]);
    let echo = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let echoing = echo.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut socket in echo.incoming().flatten() {
            thread::spawn(move || {
                let mut out = socket.try_clone().expect("it can be copied");
                let _ = std::io::copy(&mut socket, &mut out);
            });
        }
    });
    let chat = other.address();
    let whole = |listeners: &str| {
        format!(
            "version: 1\nserver: {{workers: 1, drain_timeout: 3s}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
             access_log: {{output: LOG, format: json}}\n\
             listeners: [{{name: public, address: \"127.0.0.1:0\"}}{listeners}]\n\
             upstreams:\n- {{name: chat, endpoints: [\"{chat}\"]}}\n- {{name: echo, endpoints: [\"{echoing}\"]}}\n\
             routes: [{{name: all, match: {{path: /}}, upstream: chat}}]\n"
        )
    };
    let more = ", {name: talk, address: \"127.0.0.1:0\"}, {name: tcp, address: \"127.0.0.1:0\", tcp: {upstream: echo}}";
    let gate = Gate::yaml(&whole(more));
    let number = other.tell(&format!("hold ws://{}/", gate.listener("talk"))).trim().to_owned();
    let mut tcp = TcpStream::connect(gate.listener("tcp")).expect("it listens");
    tcp.set_read_timeout(Some(Duration::from_secs(10))).expect("it is above zero");
    let says = |socket: &mut TcpStream| {
        let mut byte = [0];
        socket.write_all(b"x").is_ok() && socket.read(&mut byte).is_ok_and(|read| read == 1)
    };
    assert!(says(&mut tcp));
    reload(&gate, &whole(""));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        assert!(says(&mut tcp));
        assert_eq!(other.tell(&format!("say {number} hello")).trim(), "hello");
    }
    assert_eq!(other.tell(&format!("ended {number}")).trim(), "1001");
    assert!((1_400..2_800).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    while says(&mut tcp) {
        thread::sleep(Duration::from_millis(10));
    }
    assert!((2_800..4_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let lines = gate.log(2);
    let cut = lines.iter().find(|line| line["listener"] == "tcp").expect("it has a line");
    assert_eq!((&cut["failure"], &cut["ended_by"]), (&"G3".into(), &"drain".into()));
}

/// Requests on connections that stay and on new ones, until told to stop. How many there were, and how many clients
/// of a listener that is just not there were turned away.
fn load(address: SocketAddr, keeps: bool, over: &AtomicBool, served: &AtomicUsize) -> usize {
    let mut away = 0;
    let mut client = None;
    while !over.load(Ordering::Relaxed) {
        let is_new = client.is_none();
        let asked = client.take().map_or_else(|| Client::try_connect(address), Ok);
        let answered = asked.and_then(|mut asked| {
            asked.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
            Ok((asked.try_response(false)?, asked))
        });
        match answered {
            Ok((answer, asked)) => {
                assert_eq!((answer.status, answer.text().len()), (200, 3));
                served.fetch_add(1, Ordering::Relaxed);
                let stays = keeps && answer.header("connection") != Some("close");
                client = stays.then_some(asked);
            }
            // The kernel resets what comes in while it closes a socket.
            Err(error) => {
                assert!(is_new, "a connection that is open is served: {error}");
                away += 1;
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    away
}

#[test]
fn listeners_that_come_and_go_disturb_nobody() {
    let (stays, comes) = (free(), free());
    let both = |word: &str| config(&[listener("stays", stays), listener("comes", comes)], word);
    let one = |word: &str| config(&[listener("stays", stays)], word);
    let gate = Gate::yaml(&both("000"));
    let (over, at_rest, at_gone) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let undisturbed: Vec<_> = [true, false]
            .map(|keeps| {
                scope.spawn({
                    let (over, served) = (&over, &at_rest);
                    move || load(stays, keeps, over, served)
                })
            })
            .into();
        let coming = scope.spawn(|| load(comes, true, &over, &at_gone));
        for round in 0..20 {
            thread::sleep(Duration::from_millis(30));
            reload(&gate, &one(&format!("{:03}", 2 * round + 1)));
            assert!(is_refused(comes));
            reload(&gate, &both(&format!("{:03}", 2 * round + 2)));
        }
        over.store(true, Ordering::Relaxed);
        for client in undisturbed {
            assert_eq!(client.join().expect("no request is lost"), 0, "nobody is turned away");
        }
        coming.join().expect("no request is lost");
    });
    assert!(at_rest.load(Ordering::Relaxed) > 200 && at_gone.load(Ordering::Relaxed) > 20);
    eventually("none is left", || gate.running().connections() == 0);
}
