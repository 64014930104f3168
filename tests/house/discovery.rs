//! Endpoints that come and go while the gateway serves: in DNS, in a file.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gateway_tests::{Certificates, Dns, Gate, Origin, Program, eventually};
use serde_json::Value;

/// Two origins, `a` at 127.0.0.1 and `b` at 127.0.0.2, on the same port.
fn neighbours() -> (Origin, Origin) {
    loop {
        let a = Origin::saying("a");
        let address = SocketAddr::from(([127, 0, 0, 2], a.address().port()));
        if let Ok(b) = Origin::saying_at(address, "b") {
            return (a, b);
        }
    }
}

/// A gateway whose upstream has no endpoints but those that it discovers.
fn house(discover: &str, options: &str) -> Gate {
    Gate::yaml(&config(discover, options))
}

fn config(discover: &str, options: &str) -> String {
    let options: String = options.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - name: origin\n    discover: {{{discover}}}\n{options}\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n"
    )
}

fn told(gate: &Gate) -> Value {
    gate.admin("/upstreams").json()[0].clone()
}

/// Who answers, in so many requests.
fn answering(gate: &Gate, requests: usize) -> BTreeSet<String> {
    (0..requests).map(|_| gate.get("/").text()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn addresses(gate: &Gate) -> Vec<String> {
    let told = told(gate);
    let endpoints = told["endpoints"].as_array().expect("it is a list");
    endpoints.iter().map(|one| one["address"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_addresses_of_a_name_are_endpoints_and_follow_it() {
    let (a, b) = neighbours();
    let port = a.address().port();
    let dns = Dns::start("127.0.0.1 users.test\n", &[]);
    let gate = house(&format!("dns: \"users.test:{port}\", server: \"{}\"", dns.address()), "");

    assert_eq!(answering(&gate, 4), set(&["a"]), "the first request waits for the first answer");

    dns.say("127.0.0.1 users.test\n127.0.0.2 users.test\n");
    eventually("b comes", || answering(&gate, 4) == set(&["a", "b"]));
    let connections = a.connections();

    dns.say("127.0.0.2 users.test\n");
    eventually("a goes", || answering(&gate, 4) == set(&["b"]));
    assert_eq!((a.connections(), b.connections()), (connections, 1), "nobody else is disturbed");
    assert_eq!(told(&gate)["discovery"]["found"], 1);
}

#[test]
fn what_was_found_stays_while_nobody_answers() {
    let (a, _b) = neighbours();
    let port = a.address().port();
    let dns = Dns::start("127.0.0.1 users.test\n", &[]);
    let gate = house(&format!("dns: \"users.test:{port}\", server: \"{}\"", dns.address()), "");
    assert_eq!(gate.get("/").text(), "a");

    // The name is gone.
    dns.say("\n");
    eventually("the look fails", || told(&gate)["discovery"]["fault"].is_string());
    assert_eq!(gate.get("/").text(), "a");
    // So is the server.
    dns.stop();
    let looks = r#"gateway_upstream_discoveries_total{outcome="failure",upstream="origin"}"#;
    let before = gate.metric(looks);
    eventually("more looks fail", || gate.metric(looks) > before);
    assert_eq!(gate.get("/").text(), "a");

    dns.go_on();
    dns.say("127.0.0.2 users.test\n");
    eventually("b is found", || gate.get("/").text() == "b");
    assert!(told(&gate)["discovery"]["fault"].is_null());
}

#[test]
fn a_name_that_was_never_found_is_u1() {
    let dns = Dns::start("\n", &[]);
    let gate = house(&format!("dns: \"users.test:80\", server: \"{}\"", dns.address()), "");

    assert_eq!((gate.get("/").status, &gate.log(1)[0]["failure"]), (503, &"U1".into()));
    let fault = told(&gate)["discovery"]["fault"].to_string();
    assert!(fault.contains("users.test"), "{fault}");
}

#[test]
fn a_request_does_not_wait_forever_for_the_first_answer() {
    let dns = Dns::start("127.0.0.1 users.test\n", &[]);
    dns.stop();
    let discover = format!("dns: \"users.test:80\", server: \"{}\"", dns.address());
    let gate = house(&discover, "timeouts: {connect: 300ms}");

    let began = Instant::now();
    assert_eq!(gate.get("/").status, 503);
    assert!((250..1500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    dns.go_on();
}

#[test]
fn services_have_ports_weights_and_priorities() {
    let [a, b, reserve] = ["a", "b", "c"].map(Origin::saying);
    let service = |origin: &Origin, target: &str, priority: u16, weight: u16| {
        let port = origin.address().port();
        format!("--srv-host=_http._tcp.users.test,{target}.test,{port},{priority},{weight}")
    };
    let records =
        [service(&a, "one", 10, 3), service(&b, "one", 10, 1), service(&reserve, "two", 20, 1)];
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let dns = Dns::start("127.0.0.1 one.test\n127.0.0.1 two.test\n", &records);
    let discover = format!("srv: _http._tcp.users.test, server: \"{}\"", dns.address());
    let gate = house(&discover, "");

    let answers: Vec<String> = (0..8).map(|_| gate.get("/").text()).collect();

    let count = |name: &str| answers.iter().filter(|answer| *answer == name).count();
    assert_eq!((count("a"), count("b"), count("c")), (6, 2, 0), "{answers:?}");
    let endpoints = told(&gate)["endpoints"].clone();
    let last = endpoints
        .as_array()
        .expect("it is a list")
        .iter()
        .find(|one| one["address"] == reserve.address().to_string());
    assert_eq!(last.expect("it is told")["priority"], 1);
}

/// Of one target's name nobody answers any more; that it is gone is not known.
#[test]
fn a_target_that_nobody_answers_for_stays() {
    let [a, b] = ["a", "b"].map(Origin::saying);
    let service = |origin: &Origin, target: &str| {
        let port = origin.address().port();
        format!("--srv-host=_http._tcp.users.test,{target},{port},1,1")
    };
    let nobody = format!("--server=/elsewhere/127.0.0.1#{}", Origin::nobody().port());
    let records = [service(&a, "one.test"), service(&b, "two.elsewhere")];
    let [one, two] = records.each_ref().map(String::as_str);
    let dns = Dns::start("127.0.0.1 one.test\n127.0.0.1 two.elsewhere\n", &[one, two, &nobody]);
    let discover =
        format!("srv: _http._tcp.users.test, refresh: 50ms, server: \"{}\"", dns.address());
    let gate = house(&discover, "");
    eventually("both answer", || answering(&gate, 4) == set(&["a", "b"]));
    let looks = r#"gateway_upstream_discoveries_total{outcome="success",upstream="origin"}"#;

    dns.say("127.0.0.1 one.test\n");
    let before = gate.metric(looks);
    eventually("it is looked again", || gate.metric(looks) > before + 1.0);
    assert_eq!(answering(&gate, 4), set(&["a", "b"]));

    // Who has no such name says so: it is gone.
    let services = service(&b, "two.test");
    let dns = Dns::start("127.0.0.1 one.test\n127.0.0.1 two.test\n", &[one, &services]);
    let discover =
        format!("srv: _http._tcp.users.test, refresh: 50ms, server: \"{}\"", dns.address());
    gate.write(&config(&discover, ""));
    gate.running().reload().expect("the config is good");
    eventually("both answer", || answering(&gate, 4) == set(&["a", "b"]));
    dns.say("127.0.0.1 one.test\n");
    eventually("one is gone", || answering(&gate, 4) == set(&["a"]));
}

#[test]
fn of_two_families_the_one_that_is_reached_is_used() {
    let origin = Origin::saying("a");
    let port = origin.address().port();
    let dns = Dns::start("127.0.0.1 users.test\n::1 users.test\n", &[]);
    let discover = format!("dns: \"users.test:{port}\", server: \"{}\"", dns.address());

    let gate = house(&discover, "");
    assert_eq!(answering(&gate, 3), set(&["a"]));
    assert_eq!(addresses(&gate), [format!("127.0.0.1:{port}")]);

    let gate = house(&format!("{discover}, family: both"), "");
    eventually("both are there", || addresses(&gate).len() == 2);
    let gate = house(&format!("{discover}, family: ipv6"), "");
    eventually("one is there", || addresses(&gate) == [format!("[::1]:{port}")]);
}

#[test]
fn a_certificate_has_to_be_for_the_name_that_was_looked_up() {
    let certificates = Certificates::new();
    let server = certificates.issue("endpoint", "DNS:users.test");
    let endpoint = Program::start("endpoint.py", &["--tls", &server.cert, &server.key]);
    let port = endpoint.address().port();
    let dns = Dns::start("127.0.0.1 users.test\n127.0.0.1 other.test\n", &[]);
    let tls = format!("tls: {{ca: {}}}", certificates.authority().display());
    let discover = |name: &str| format!("dns: \"{name}:{port}\", server: \"{}\"", dns.address());

    let good = house(&discover("users.test"), &tls).get("/ok");
    assert_eq!((good.status, good.header("x-name")), (200, Some("users.test")));
    let gate = house(&discover("other.test"), &tls);
    assert_eq!((gate.get("/ok").status, &gate.log(1)[0]["failure"]), (502, &"U7".into()));
}

#[test]
fn a_file_of_endpoints_is_followed() {
    let (a, b) = neighbours();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("endpoints.yaml");
    let list = |origins: &[&Origin]| {
        let lines = origins.iter().map(|origin| format!("  - {}\n", origin.address()));
        let text = format!("endpoints:\n{}", lines.collect::<String>());
        // As whoever writes such a file should: all at once.
        let next = folder.path().join("next");
        fs::write(&next, text).expect("a file can be written");
        fs::rename(&next, &file).expect("a file can be renamed");
    };
    list(&[&a]);
    let gate = house(&format!("file: {}, refresh: 50ms", file.display()), "");
    assert_eq!(answering(&gate, 4), set(&["a"]));

    list(&[&a, &b]);
    eventually("b comes", || answering(&gate, 4) == set(&["a", "b"]));

    // A file that is wrong changes nothing, and says where it is.
    fs::write(&file, "endpoints: [nonsense]\n").expect("a file can be written");
    eventually("the fault is told", || told(&gate)["discovery"]["fault"].is_string());
    let fault = told(&gate)["discovery"]["fault"].to_string();
    assert!(fault.contains("endpoints.yaml:1:13  endpoints[0]: "), "{fault}");
    assert_eq!(answering(&gate, 4), set(&["a", "b"]));
    fs::remove_file(&file).expect("it is there");
    eventually("it is missed", || {
        told(&gate)["discovery"]["fault"].to_string().contains("cannot read")
    });
    assert_eq!(answering(&gate, 4), set(&["a", "b"]));

    fs::write(&file, "endpoints: []\n").expect("a file can be written");
    eventually("nobody is left", || gate.get("/").status == 503);
    let log = || fs::read_to_string(gate.log_path()).expect("there is a log");
    eventually("there is nobody, but that is known", || log().contains("\"U2\""));
    list(&[&b]);
    eventually("b is back", || gate.get("/").text() == "b");
}

#[test]
fn what_is_found_comes_beside_what_is_written_and_outlives_reloads() {
    let (a, b) = neighbours();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("endpoints.json");
    let found = format!(r#"{{"endpoints": [{{"address": "{}", "weight": 3}}]}}"#, b.address());
    fs::write(&file, found).expect("a file can be written");
    let discover = format!("file: {}, refresh: 50ms", file.display());
    let written = format!("endpoints: [\"{}\"]", a.address());
    let gate = house(&discover, &written);
    eventually("both answer", || answering(&gate, 8) == set(&["a", "b"]));
    let connections = (a.connections(), b.connections());

    // The file is out of reach, and a reload changes something else.
    fs::remove_file(&file).expect("it is there");
    gate.write(&config(&discover, &format!("{written}\nbalance: random")));
    gate.running().reload().expect("the config is good");

    eventually("both answer still", || answering(&gate, 8) == set(&["a", "b"]));
    assert_eq!((a.connections(), b.connections()), connections, "on the connections there were");
    assert_eq!(told(&gate)["endpoints"][1]["weight"], 3);
}

/// Nobody is refused between a reload that says to look elsewhere and what is found there.
#[test]
fn a_reload_that_looks_elsewhere_refuses_nobody() {
    let (a, b) = neighbours();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let discover = |name: &str, origin: &Origin| {
        let file = folder.path().join(name);
        let found = format!(r#"{{"endpoints": ["{}"]}}"#, origin.address());
        fs::write(&file, found).expect("a file can be written");
        format!("file: {}", file.display())
    };
    let ways = [(discover("a.json", &a), "a"), (discover("b.json", &b), "b")];
    let gate = house(&ways[0].0, "");
    assert_eq!(gate.get("/").text(), "a");

    for (discover, name) in ways.iter().cycle().skip(1).take(20) {
        gate.write(&config(discover, ""));
        gate.running().reload().expect("the config is good");
        let answer = gate.get("/");
        assert_eq!((answer.status, answer.text().as_str()), (200, *name));
    }
}

#[test]
fn endpoints_that_come_are_checked_and_warm_up() {
    let (a, b) = neighbours();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("endpoints.yaml");
    fs::write(&file, format!("endpoints: [\"{}\"]\n", a.address())).expect("it can be written");
    let gate = house(
        &format!("file: {}, refresh: 50ms", file.display()),
        "health: {active: {interval: 50ms, wait: true}, slow_start: 60s}",
    );
    eventually("a is checked", || gate.get("/").status == 200);
    let both = format!("endpoints: [\"{}\", \"{}\"]\n", a.address(), b.address());
    fs::write(&file, both).expect("it can be written");

    eventually("b is checked", || told(&gate)["endpoints"][1]["state"] == "usable");

    let answers: Vec<String> = (0..22).map(|_| gate.get("/").text()).collect();
    let new = answers.iter().filter(|answer| *answer == "b").count();
    assert!((1..=4).contains(&new), "a newcomer begins with a tenth: {answers:?}");
}

/// A thousand endpoints of which half change every second: nobody fails, and nothing grows.
fn churn(seconds: u64) {
    const ENDPOINTS: u16 = 1000;
    // Every address of 127.0.0.0/8 is this machine's.
    let everywhere = std::net::TcpListener::bind(("0.0.0.0", 0)).expect("a port is free");
    let twin = everywhere.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for stream in everywhere.incoming().flatten() {
            std::thread::spawn(move || answer_all(stream));
        }
    });
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("endpoints.yaml");
    let write = |turn: u16| {
        let mut text = String::from("endpoints:\n");
        for number in 0..ENDPOINTS {
            // Every other one is another one at every turn.
            let host = if number % 2 == 0 { number } else { number + ENDPOINTS * (1 + turn % 7) };
            let (high, low) = (host / 250, host % 250 + 1);
            text.push_str(&format!("  - 127.1.{high}.{low}:{twin}\n"));
        }
        let next = folder.path().join("next");
        fs::write(&next, text).expect("a file can be written");
        fs::rename(&next, &file).expect("a file can be renamed");
    };
    write(0);
    let gate = house(&format!("file: {}, refresh: 200ms", file.display()), "");
    eventually("they are found", || gate.get("/").status == 200);
    let until = Instant::now() + Duration::from_secs(seconds);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = gate.client();
            std::thread::spawn(move || {
                let (mut good, mut bad) = (0_u64, 0_u64);
                while Instant::now() < until {
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    match client.response().status {
                        200 => good += 1,
                        _ => bad += 1,
                    }
                }
                (good, bad)
            })
        })
        .collect();
    let mut memory = Vec::new();
    let mut turn = 0;
    while Instant::now() < until {
        turn += 1;
        write(turn);
        std::thread::sleep(Duration::from_secs(1));
        memory.push(gate.metric("process_resident_memory_bytes") / 1e6);
    }
    let counts: Vec<(u64, u64)> =
        clients.into_iter().map(|client| client.join().expect("it ends")).collect();
    let good: u64 = counts.iter().map(|(good, _)| good).sum();
    let bad: u64 = counts.iter().map(|(_, bad)| bad).sum();
    eprintln!("{good} good, {bad} failed; resident memory in MB, second by second: {memory:.0?}");
    assert_eq!(bad, 0);
    let changes =
        gate.metric(r#"gateway_upstream_discoveries_total{outcome="success",upstream="origin"}"#);
    assert!(changes > f64::from(turn), "{changes} looks for {turn} changes");
    let middle = memory.len() / 2;
    let (early, late) = (memory[middle], memory[memory.len() - 1]);
    assert!(late < early * 1.1 + 8.0, "it grows: {memory:.0?}");
}

/// Answers every request on a connection.
fn answer_all(mut stream: std::net::TcpStream) {
    use std::io::{Read, Write};
    let mut buffer = [0; 4096];
    let mut seen = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..read]);
        while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            seen.drain(..end + 4);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_thousand_endpoints_may_change_every_second() {
    churn(6);
}

#[test]
#[ignore = "a minute of the same; CONTRIBUTING.md has its command"]
fn a_thousand_endpoints_may_change_every_second_for_a_minute() {
    churn(60);
}

#[test]
fn what_cannot_be_discovered_is_refused() {
    let checked = |discover: &str, options: &str| {
        let text =
            config(discover, options).replace("access_log: {output: LOG, format: json}\n", "");
        let checked = gateway_core::Gateway::builder().config_text(text).check();
        checked.err().map(|faults| faults.to_string()).unwrap_or_default()
    };
    for (discover, options, fault) in [
        ("", "", "upstreams[0].discover: write one of `dns`, `srv` and `file`"),
        ("dns: \"a:1\", srv: _a._tcp.b", "", "write one of"),
        ("dns: users.test", "", "upstreams[0].discover.dns: expected a name and a port"),
        ("dns: \"127.0.0.1:80\"", "", "upstreams[0].discover.dns: expected a name and a port"),
        ("srv: _a._tcp.b", "tls: {}", "upstreams[0].discover.srv: no certificate is for the name"),
        ("file: /a, family: ipv4", "", "upstreams[0].discover.family: `family` is for names"),
        (
            "file: /a, refresh: 0s",
            "",
            "upstreams[0].discover.refresh: this limit cannot be turned off",
        ),
    ] {
        let text = checked(discover, options);
        assert!(text.contains(fault), "{text}\ndoes not say: {fault}");
    }
    let none = config("file: /a", "").replace("    discover: {file: /a}\n", "");
    let none = none.replace("access_log: {output: LOG, format: json}\n", "");
    let text = gateway_core::Gateway::builder().config_text(none).check().err();
    assert!(
        text.expect("it is refused").to_string().contains("upstreams[0]: there is no endpoint")
    );
}
