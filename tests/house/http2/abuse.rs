//! Clients of HTTP/2 that mean harm: they are ended, what they cost is bounded, and others hardly notice.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Gate, Origin, eventually, is_alone};

use super::echo_house;
use super::frames::{Field, Frames, request};

/// Each kind of flood ends the connection that it comes on; another client hardly notices.
#[test]
fn floods_end_their_connection_and_disturb_nobody_else() {
    if !is_alone() {
        return;
    }
    let (origin, gate) = echo_house();
    let ended =
        || gate.metric("gateway_connections_ended_total{listener=\"public\",reason=\"flood\"}");
    let resident = || gate.metric("process_resident_memory_bytes");
    let mut other = Frames::connect(gate.address());
    assert_eq!(other.get("/before").status, Some(200));
    let before = resident();
    let priority: &[u8] = &[0, 0, 0, 1, 7];
    let setting: &[u8] = &[0, 3, 0, 0, 0, 100];
    for (name, kind, flags, payload) in [
        ("resets", 3, 0, &[0, 0, 0, 8][..]),
        ("pings", 6, 0, &[7; 8]),
        ("settings", 4, 0, setting),
        ("priorities", 2, 0, priority),
        ("empty data", 0, 0, &[]),
        ("unknown frames", 77, 0, &[1]),
        ("window updates", 8, 0, &[0, 0, 0, 1]),
        ("continuations", 9, 0, &[]),
    ] {
        let mut attacker = Frames::connect(gate.address());
        // What would mean nothing without a stream.
        let stream = attacker.headers(&request("POST", "/slow", &[]), false);
        assert_eq!(stream, 1);
        attacker.flood(kind, flags, payload, 400_000);
        // HTTP/2 itself may have found fault with it first.
        let goodbye = attacker.goodbye();
        assert!(goodbye.is_none_or(|code| code != 0), "{name}: {goodbye:?}");
        let asked = Instant::now();
        assert_eq!(other.get("/meanwhile").status, Some(200), "{name}");
        assert!(asked.elapsed() < Duration::from_secs(2), "{name}: {:?}", asked.elapsed());
    }
    assert!(ended() >= 4.0, "{}", ended());
    // Streams that are opened and given up at once: few of them are served.
    let mut attacker = Frames::connect(gate.address());
    let fields = request("GET", "/given-up", &[]);
    (0..20_000).for_each(|_| attacker.give_up(&fields));
    assert!(attacker.goodbye().is_none_or(|code| code != 0));
    let served = origin.requests().iter().filter(|head| head.contains("/given-up")).count();
    assert!(served < 2_000, "{served}");
    assert_eq!(other.get("/after").status, Some(200));
    let grown = resident() - before;
    assert!(grown < 64e6, "{grown} bytes more");
    gate.await_metric("gateway_connections_open{listener=\"public\"}", 1.0);
}

/// A table of one long field, and heads that name it a thousand times each (the HPACK bomb).
#[test]
fn heads_that_unpack_to_too_much_are_refused() {
    if !is_alone() {
        return;
    }
    let (origin, gate) = echo_house();
    let before = gate.metric("process_resident_memory_bytes");
    for _ in 0..20 {
        let mut attacker = Frames::connect(gate.address());
        for _ in 0..50 {
            attacker.bomb(&request("GET", "/bomb", &[]));
        }
        let _ = attacker.goodbye();
    }
    assert!(!origin.requests().iter().any(|head| head.len() > 64 * 1024));
    let mut other = Frames::connect(gate.address());
    assert_eq!(other.get("/after").status, Some(200));
    let grown = gate.metric("process_resident_memory_bytes") - before;
    assert!(grown < 64e6, "{grown} bytes more");
}

/// An origin whose answers to `/long` have 8 MiB, of which it holds none itself.
fn long_answers() -> Origin {
    static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];
    Origin::scripted(|exchange| {
        let pieces = if exchange.head.contains("/long") { 128 } else { 0 };
        let length = pieces * PIECE.len() + 2;
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
        (0..pieces).try_for_each(|_| exchange.write(&PIECE[..]))?;
        exchange.write("ok")
    })
}

/// Answers that nobody takes: each is given up in time, and the gateway holds little of it until then.
#[test]
fn windows_that_stay_shut_hold_little_and_not_for_long() {
    if !is_alone() {
        return;
    }
    let origin = long_answers();
    let gate = Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", timeouts: {{write: 3s}}}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    ));
    let resident = || gate.metric("process_resident_memory_bytes");
    let mut other = Frames::connect(gate.address());
    assert_eq!(other.get("/").status, Some(200));
    let before = resident();
    let attackers: Vec<_> = (0..5)
        .map(|_| {
            let mut attacker = Frames::connect(gate.address());
            for _ in 0..40 {
                attacker.headers(&request("GET", "/long", &[]), true);
            }
            attacker
        })
        .collect();
    let flying = || gate.metric("gateway_requests_in_flight{listener=\"public\"}");
    eventually("they are all served", || flying() == 200.0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        let asked = Instant::now();
        assert_eq!(other.get("/meanwhile").status, Some(200));
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    let grown = resident() - before;
    // Not the 1.6 GB that were asked for: what fits the windows of the streams, and the buffers of their connections.
    assert!(grown < 160e6, "{grown} bytes more");
    eventually("they are given up", || flying() == 0.0);
    assert_eq!(other.get("/after").status, Some(200));
    let log = || std::fs::read_to_string(gate.log_path()).expect("there is a log");
    eventually("each has its line", || log().matches(r#""failure":"D4""#).count() == 200);
    drop(attackers);
}

/// One attack, again and again until told to stop. Returns how often its connection was ended.
fn attack(gate: &Gate, kind: &str, over: &AtomicBool, ended: &AtomicU64) {
    // As if it ran elsewhere: it takes what the gateway leaves of the processors.
    let thread = std::fs::read_link("/proc/thread-self").expect("it is Linux");
    let thread = thread.file_name().expect("it has a number").to_owned();
    let renice = Command::new("renice").args(["-n", "19", "-p"]).arg(thread).output();
    assert!(renice.is_ok_and(|told| told.status.success()), "renice is installed");
    let fields: Vec<Field> = request("GET", "/attack", &[]);
    while !over.load(Ordering::Relaxed) {
        let mut attacker = Frames::connect(gate.address());
        match kind {
            "rapid reset" => (0..5_000).for_each(|_| attacker.give_up(&fields)),
            "continuations" => {
                attacker.headers(&request("POST", "/attack", &[]), false);
                attacker.flood(9, 0, &[], 5_000);
            }
            "header bomb" => (0..50).for_each(|_| attacker.bomb(&fields)),
            "settings" => {
                attacker.headers(&request("POST", "/attack", &[]), false);
                attacker.flood(4, 0, &[0, 3, 0, 0, 0, 100], 5_000);
            }
            "pings" => {
                attacker.headers(&request("POST", "/attack", &[]), false);
                attacker.flood(6, 0, &[7; 8], 50_000);
            }
            _ => {
                for _ in 0..50 {
                    attacker.headers(&request("GET", "/long", &[]), true);
                }
            }
        }
        let _ = attacker.goodbye();
        ended.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(100));
    }
}

/// The 99th percentile of the time that one request after the other takes, in microseconds.
fn p99(gate: &Gate, time: Duration) -> u128 {
    let mut client = Frames::connect(gate.address());
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < time {
        let asked = Instant::now();
        assert_eq!(client.get("/other").status, Some(200));
        times.push(asked.elapsed().as_micros());
        thread::sleep(Duration::from_millis(1));
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// What one gateway's client notices of attacks on it, beside the same attacks on another on the same processors: what it
/// costs to be attacked, and what it costs that attackers are near.
#[test]
#[ignore = "a measurement, meaningful in release mode only"]
fn what_others_notice_of_abuse() {
    let origin = long_answers();
    let gate = || {
        Arc::new(Gate::yaml(&format!(
            "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
             access_log: {{output: \"off\"}}\n\
             listeners: [{{name: public, address: \"127.0.0.1:0\", timeouts: {{write: 1s}}}}]\n\
             upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
             routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
            origin.address()
        )))
    };
    let (gate, near) = (gate(), gate());
    let time = Duration::from_secs(8);
    p99(&gate, time / 4);
    println!(
        "kind: p99 at rest, of the neighbour, of the attacked; connections ended; memory more"
    );
    for kind in ["rapid reset", "continuations", "header bomb", "settings", "pings", "window stall"]
    {
        let rest = p99(&gate, time);
        let [(beside, ..), (during, ended, grown)] = [&near, &gate].map(|attacked| {
            let resident = || gate.metric("process_resident_memory_bytes");
            let before = resident();
            let over = Arc::new(AtomicBool::new(false));
            let ended = Arc::new(AtomicU64::new(0));
            let attackers: Vec<_> = (0..4)
                .map(|_| {
                    let (gate, over, ended) = (attacked.clone(), over.clone(), ended.clone());
                    thread::spawn(move || attack(&gate, kind, &over, &ended))
                })
                .collect();
            let during = p99(&gate, time);
            let grown = (resident() - before) / 1e6;
            over.store(true, Ordering::Relaxed);
            attackers.into_iter().for_each(|one| one.join().expect("it ends"));
            (during, ended.load(Ordering::Relaxed), grown)
        });
        println!("{kind}: {rest}, {beside}, {during} µs; {ended}; {grown:.1} MB");
    }
}
