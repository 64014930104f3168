//! Change under traffic of all kinds: nobody loses anything, what is long lives on, and nothing grows.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use gateway_tests::{
    Certificates, Client, Installed, Issued, Origin, Process, Program, Response, eventually,
};
use serde_json::Value;

/// What a download has.
const LONG: usize = 100 << 20;

/// A gateway that runs as a process, all that is behind it, and traffic through it.
struct House {
    installed: Installed,
    /// Held for its files.
    _authority: Certificates,
    certificates: [Issued; 2],
    origin: Origin,
    chat: Program,
    calls: Program,
    process: Process,
    admin: SocketAddr,
    traffic: Program,
}

fn origin() -> Origin {
    static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];
    Origin::scripted(|exchange| {
        if !exchange.head.starts_with("GET /download") {
            return exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"))?;
        (0..LONG / PIECE.len()).try_for_each(|_| exchange.write(&PIECE[..]))
    })
}

impl House {
    /// Its streams of gRPC are of so many messages, or without an end.
    fn start(turns: i32) -> Self {
        let authority = Certificates::new();
        let certificates =
            ["first", "second"].map(|name| authority.issue(name, "DNS:a.test,IP:127.0.0.1"));
        let (chat, calls) =
            (Program::start("websocket.py", &[]), Program::start("grpc_peer.py", &[]));
        let origin = origin();
        let endpoints = [origin.address(), chat.address(), calls.address()];
        let installed = Installed::new(&config(endpoints, 0));
        certify(&installed, &certificates[0]);
        let mut process = installed.run(&[]);
        let admin = process.await_address("admin calls are answered");
        let public = process.await_address("listening").to_string();
        let secured = process.await_address("listening").to_string();
        let (ca, length) = (authority.authority().display().to_string(), LONG.to_string());
        let turns = turns.to_string();
        let words = ["--http", &public, "--tls", &secured, "--ca", &ca, "--grpc", &public];
        let more = ["--download", &length, "--turns", &turns];
        let traffic = Program::start("traffic.py", &[&words[..], &more].concat());
        Self {
            installed,
            _authority: authority,
            certificates,
            origin,
            chat,
            calls,
            process,
            admin,
            traffic,
        }
    }

    /// Another config: routes, upstreams, plugins and certificates change in turn.
    fn reload(&self, round: usize) {
        let endpoints = [self.origin.address(), self.chat.address(), self.calls.address()];
        if round % 4 == 3 {
            certify(&self.installed, &self.certificates[round / 4 % 2]);
        }
        self.installed.configure(&config(endpoints, round));
        let answer = self.call("/reload");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn call(&self, path: &str) -> Response {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\nContent-Length: 0\r\n\r\n"
        );
        Client::connect(self.admin).send(head).response()
    }

    /// What its process has in memory, in bytes.
    fn resident(&self) -> f64 {
        let path = format!("/proc/{}/statm", self.process.id());
        let pages = fs::read_to_string(path).expect("it runs");
        let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
        pages.expect("it is a number") * 4096.0
    }

    /// What the traffic has seen so far.
    fn report(&mut self) -> Value {
        serde_json::from_str(&self.traffic.tell("report")).expect("it is JSON")
    }

    /// Ends the traffic: nothing may have been lost.
    #[track_caller]
    fn end(mut self) -> Value {
        let told: Value = serde_json::from_str(&self.traffic.tell("end")).expect("it is JSON");
        for (kind, seen) in told.as_object().expect("it tells of each kind") {
            assert_eq!(seen["lost"], 0, "{kind}: {told}");
        }
        told
    }
}

/// Puts a certificate where the config says that it is, both files in one step as far as files allow.
fn certify(installed: &Installed, issued: &Issued) {
    for (from, to) in [(&issued.key, "own.key"), (&issued.cert, "own.pem")] {
        let next = installed.path("next");
        fs::copy(from, &next).expect("it can be copied");
        fs::rename(next, installed.path(to)).expect("it can be moved");
    }
}

fn config([origin, chat, calls]: [SocketAddr; 3], round: usize) -> String {
    let (routes, upstreams, plugins) = (round / 4, round.div_ceil(4), (round + 2) / 4);
    format!(
        "version: 1\nserver: {{workers: 2, drain_timeout: 13s}}\n\
         admin: {{address: \"127.0.0.1:0\", token: s3cret}}\naccess_log: {{output: \"off\"}}\n\
         listeners:\n- {{name: public, address: \"127.0.0.1:0\"}}\n\
         - {{name: secured, address: \"127.0.0.1:0\", tls: {{certificates: [{{cert: own.pem, key: own.key}}]}}}}\n\
         plugins: [{{kind: headers, options: {{response: {{set: {{x-round: \"{plugins}\"}}}}}}}}, {{kind: rate-limit, options: {{key: [client.ip], limits: [{{requests: 1000000, per: 1s}}]}}}}]\n\
         upstreams:\n- {{name: origin, endpoints: [\"{origin}\"], timeouts: {{idle: {}s}}}}\n\
         - {{name: chat, endpoints: [\"{chat}\"], timeouts: {{tunnel: 10m}}}}\n\
         - {{name: calls, endpoints: [\"{calls}\"], protocol: http2, timeouts: {{idle: 10m}}}}\n\
         routes:\n- {{name: all, match: {{path: /}}, upstream: origin}}\n\
         - {{name: other-{routes}, match: {{path: /other-{routes}}}, reply: {{status: 204}}}}\n\
         - {{name: chat, match: {{path: /chat}}, upstream: chat}}\n\
         - {{name: calls, match: {{path: /test.Test}}, upstream: calls, timeouts: {{total: 1h}}}}\n",
        60 + upstreams % 60,
    )
}

/// So many reloads under traffic: nothing is lost, long ones live on, memory does not grow by more than this share.
fn reloads(rounds: usize, pause: Duration, grows: f64) -> Value {
    let mut house = House::start(-1);
    let warm = rounds / 5;
    let mut before = 0.0;
    for round in 1..=rounds {
        house.reload(round);
        std::thread::sleep(pause);
        if round == warm {
            before = house.resident();
        }
    }
    let after = house.resident();
    let told = house.report();
    for long in ["socket", "grpc"] {
        assert_eq!(told[long]["connections"], 1, "{long} lives on: {told}");
        assert!(told[long]["gap"].as_f64() < Some(4.0), "{told}");
    }
    for kind in ["kept", "fresh", "tls", "tls_fresh", "h2"] {
        assert!(told[kind]["done"].as_u64() > Some(20), "{kind}: {told}");
    }
    assert!(after < before * (1.0 + grows), "{before} bytes became {after}");
    let mut told = house.end();
    told["resident"] = serde_json::json!([before, after]);
    told
}

/// So many upgrades under traffic: nothing is lost, what takes its time is served to its end, conversations are told when
/// theirs is over.
fn upgrades(rounds: usize, pause: Duration) -> Value {
    let mut house = House::start(5);
    // Whoever is to be there is.
    std::thread::sleep(Duration::from_secs(1));
    for _ in 0..rounds {
        let answer = house.call("/upgrade");
        assert_eq!(answer.status, 200, "{}", answer.text());
        std::thread::sleep(pause);
    }
    eventually("all but the last have ended", || house.installed.processes().len() == 1);
    while house.report()["download"]["done"] == 0 {
        // It has what is left of it already, and is slow to read it.
        std::thread::sleep(Duration::from_millis(200));
    }
    let told = house.report();
    let closed = told["socket"]["closed"].as_object().expect("it says with what");
    assert!(closed.keys().eq(["1001"]), "{told}");
    for kind in ["kept", "fresh", "tls", "tls_fresh", "h2"] {
        assert!(told[kind]["done"].as_u64() > Some(20), "{kind}: {told}");
        assert!(told[kind]["gap"].as_f64() < Some(4.0), "{kind}: {told}");
    }
    assert!(told["grpc"]["connections"].as_u64() > Some(1), "{told}");
    house.end()
}

#[test]
fn upgrades_under_traffic_of_all_kinds_lose_nothing() {
    upgrades(3, Duration::from_secs(2));
}

/// The long form: `cargo test -p gateway-tests --test house -- --ignored --nocapture twenty_upgrades`.
#[test]
#[ignore = "takes a minute and a half"]
fn twenty_upgrades_lose_nothing() {
    println!("{:#}", upgrades(20, Duration::from_secs(4)));
}

#[test]
fn reloads_under_traffic_of_all_kinds_lose_nothing() {
    reloads(60, Duration::from_millis(50), 0.25);
}

/// The long form: `cargo test -p gateway-tests --test house -- --ignored --nocapture a_thousand_reloads`.
#[test]
#[ignore = "takes five minutes"]
fn a_thousand_reloads_lose_nothing() {
    println!("{:#}", reloads(1_000, Duration::from_millis(200), 0.05));
}
