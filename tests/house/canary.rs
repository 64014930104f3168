//! A new config is tried on a share of requests before it takes all, and discarded if it does worse.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gateway_tests::{Client, Gate, Origin, Response, eventually, gateway_binary};
use serde_json::Value;

/// A config that passes everything on to this endpoint, and says so in a field.
fn config(word: &str, endpoint: SocketAddr, canary: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 2}}\n\
         admin: {{address: \"127.0.0.1:0\", token: s3cret}}\naccess_log: {{output: LOG, format: json}}\n\
         reload: {{{canary}}}\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         plugins: [{{kind: headers, options: {{response: {{set: {{x-config: {word}}}}}}}}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{endpoint}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n"
    )
}

const TRIED: &str = "canary: {share: 30%, time: 2s, minimum: 20}";

fn gate(config: &str) -> Gate {
    Gate::with(super::plugins::builder(), config)
}

fn call(gate: &Gate, method: &str, path: &str) -> Response {
    let admin = gate.running().admin().and_then(|admin| admin.parse().ok()).expect("there is one");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\nContent-Length: 0\r\n\r\n"
    );
    Client::connect(admin).send(head).response()
}

fn canary(gate: &Gate) -> Value {
    call(gate, "GET", "/status").json()["canary"].clone()
}

/// Requests one after the other, by several clients at once, while `meanwhile` runs: which config served how many, and how
/// many failed.
fn under_requests(gate: &Gate, meanwhile: impl FnOnce()) -> Vec<(String, u16)> {
    let over = AtomicBool::new(false);
    let (over, address) = (&over, gate.address());
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let (mut client, mut seen) = (Client::connect(address), Vec::new());
                    while !over.load(Ordering::Relaxed) {
                        let answer = client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response();
                        let by = answer.header("x-config").unwrap_or("neither").to_owned();
                        if answer.header("connection") == Some("close") {
                            client = Client::connect(address);
                        }
                        seen.push((by, answer.status));
                        thread::sleep(Duration::from_millis(2));
                    }
                    seen
                })
            })
            .collect();
        meanwhile();
        over.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().expect("it asks")).collect()
    })
}

fn count(seen: &[(String, u16)], by: &str) -> usize {
    seen.iter().filter(|(word, _)| word == by).count()
}

#[test]
fn a_config_that_does_as_well_takes_all_requests_in_the_end() {
    let origin = Origin::saying("ok");
    let gate = gate(&config("old", origin.address(), TRIED));
    let seen = under_requests(&gate, || {
        thread::sleep(Duration::from_millis(200));
        gate.write(&config("new", origin.address(), TRIED));
        let answer = call(&gate, "POST", "/reload");
        assert_eq!(
            (answer.status, &answer.json()["on_trial"]),
            (200, &true.into()),
            "{}",
            answer.text()
        );
        let told = canary(&gate);
        assert_eq!(
            (&told["revision"]["number"], &told["share"]),
            (&2.into(), &"30%".into()),
            "{told}"
        );
        assert_eq!(
            call(&gate, "GET", "/revision").json()["revision"]["number"],
            1,
            "it is not in force"
        );
        let text = call(&gate, "GET", "/metrics").text();
        assert!(text.contains("gateway_config_canary_info{digest="), "{text}");
        eventually("it is judged", || canary(&gate).is_null());
        thread::sleep(Duration::from_millis(200));
    });
    assert!(seen.iter().all(|(_, status)| *status == 200));
    assert_eq!(gate.get("/").header("x-config"), Some("new"));
    let status = call(&gate, "GET", "/status").json();
    assert_eq!(
        (&status["revision"]["number"], &status["last_reload"]["succeeded"]),
        (&2.into(), &true.into())
    );
    // While it was tried each had its share: both can be told apart in metrics and log.
    let series =
        |by: &str| format!("gateway_config_canary_requests_total{{by=\"{by}\",outcome=\"good\"}}");
    let (tried, in_force) = (gate.metric(&series("canary")), gate.metric(&series("in_force")));
    let share = tried / (tried + in_force);
    assert!((0.15..0.45).contains(&share), "{tried} {in_force}");
    assert!(count(&seen, "old") > 0 && count(&seen, "new") > 0);
    let log = std::fs::read_to_string(gate.log_path()).expect("there is one");
    for (revision, status) in [(1, 200), (2, 200)] {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = lines.filter(|line| {
            line["revision"] == revision && line["http.response.status_code"] == status
        });
        assert!(found.count() > 10, "revision {revision}");
    }
    assert!(!call(&gate, "GET", "/metrics").text().contains("gateway_config_canary_info{"));
}

#[test]
fn a_config_that_fails_more_is_discarded_long_before_its_time_is_up() {
    let (origin, nobody) = (Origin::saying("ok"), Origin::nobody());
    let long = "canary: {share: 20%, time: 10m}";
    let gate = gate(&config("old", origin.address(), long));
    let seen = under_requests(&gate, || {
        gate.write(&config("new", nobody, long));
        assert_eq!(call(&gate, "POST", "/reload").status, 200);
        eventually("it is judged", || canary(&gate).is_null());
        thread::sleep(Duration::from_millis(300));
    });
    let last = call(&gate, "GET", "/revision").json();
    let why = last["last_reload"]["discarded"].as_str().expect("it says why").to_owned();
    assert!(why.contains("of its requests failed, against 0 of"), "{why}");
    assert_eq!(
        (&last["revision"]["number"], &last["last_reload"]["succeeded"]),
        (&1.into(), &false.into())
    );
    // Few were harmed: a share of those of a moment.
    let failed = seen.iter().filter(|(_, status)| *status != 200).count();
    assert!(failed > 3 && failed * 3 < seen.len(), "{failed} of {}", seen.len());
    assert!(seen.iter().rev().take(20).all(|(by, status)| by == "old" && *status == 200));
    assert_eq!(gate.metric(r#"gateway_config_reloads_total{outcome="discarded"}"#), 1.0);

    // The next one has another number, so that the two cannot be taken for each other.
    gate.write(&config("newer", origin.address(), long));
    let answer = call(&gate, "POST", "/reload?canary=off").json();
    assert_eq!((&answer["on_trial"], &answer["revision"]["number"]), (&false.into(), &3.into()));
}

#[test]
fn a_config_that_is_slower_is_discarded() {
    let quick = Origin::saying("ok");
    let slow = Origin::scripted(|exchange| {
        thread::sleep(Duration::from_millis(40));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let long = "canary: {share: 50%, time: 10m}";
    let gate = gate(&config("old", quick.address(), long));
    under_requests(&gate, || {
        gate.write(&config("new", slow.address(), long));
        assert_eq!(call(&gate, "POST", "/reload").status, 200);
        eventually("it is judged", || canary(&gate).is_null());
    });
    let last = call(&gate, "GET", "/revision").json();
    let why = last["last_reload"]["discarded"].as_str().expect("it says why");
    assert!(why.contains("its answers typically took"), "{why}");
}

#[test]
fn a_trial_is_ended_by_who_says_so_and_by_what_comes_after_it() {
    let origin = Origin::saying("ok");
    let gate = gate(&config("one", origin.address(), ""));
    let try_out = |word: &str| {
        gate.write(&config(word, origin.address(), ""));
        let answer = call(&gate, "POST", "/reload?canary=50%25&time=10m");
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    assert_eq!(call(&gate, "POST", "/canary").status, 409, "there is none");
    try_out("two");
    assert_eq!(call(&gate, "POST", "/upgrade").status, 409);
    assert_eq!(call(&gate, "POST", "/canary").status, 200);
    assert_eq!(gate.get("/").header("x-config"), Some("two"));

    try_out("three");
    assert_eq!(call(&gate, "DELETE", "/canary").status, 200);
    assert!((0..20).all(|_| gate.get("/").header("x-config") == Some("two")));

    // Another config takes the place of the one on trial; one with faults leaves it there.
    try_out("four");
    gate.write("version: 2");
    assert_eq!(call(&gate, "POST", "/reload").status, 422);
    let tried = canary(&gate)["revision"]["number"].clone();
    // One whose faults are found as late as can be, too.
    gate.write(&config("x", origin.address(), "").replace("kind: headers", "kind: nothing"));
    assert_eq!(call(&gate, "POST", "/reload").status, 422);
    gate.write(&config("x", origin.address(), "").replace("upstream: origin", "upstream: nobody"));
    assert_eq!(call(&gate, "POST", "/rollback").status, 404, "there is no history");
    assert_eq!(call(&gate, "POST", "/reload").status, 422);
    assert_eq!(
        (canary(&gate)["revision"]["number"].clone(), tried.is_u64()),
        (tried.clone(), true)
    );
    try_out("five");
    let number = |value: &Value| value["revision"]["number"].as_u64();
    assert_eq!(
        number(&canary(&gate)),
        tried.as_u64().map(|tried| tried + 1),
        "a number of its own"
    );
    eventually("one of the two serves", || gate.get("/").header("x-config") == Some("five"));
    assert!((0..50).all(|_| gate.get("/").header("x-config") != Some("four")));
    gate.write(&config("six", origin.address(), ""));
    assert_eq!(call(&gate, "POST", "/reload").status, 200);
    assert!((0..20).all(|_| gate.get("/").header("x-config") == Some("six")));

    for (query, says) in [
        ("canary=0%25", "above 0%"),
        ("canary=100%25", "below 100%"),
        ("canary=half", "`canary`"),
        ("time=1d", "1s to 1h"),
        ("canary=off&time=3s", "takes no time"),
        ("share=3%25", "means nothing here"),
    ] {
        let answer = call(&gate, "POST", &format!("/reload?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(says), "{query}: {}", answer.text());
    }
}

#[test]
fn what_is_tried_leaves_the_state_of_what_is_in_force_alone() {
    let origin = Origin::saying("ok");
    let checked = |word: &str, interval: &str| {
        config(word, origin.address(), "").replace(
            "endpoints:",
            &format!("health: {{active: {{kind: tcp, interval: {interval}}}}}, endpoints:"),
        )
    };
    let gate = gate(&checked("one", "50ms"));
    let drain = format!("/upstreams/origin/endpoints/{}/weight?value=7", origin.address());
    assert_eq!(call(&gate, "POST", &drain).status, 200);
    let checks = r#"gateway_upstream_health_checks_total{outcome="pass",upstream="origin"}"#;

    // Another upstream of the same name: checked elsewise, it has endpoints of its own for as long as it is tried.
    gate.write(&checked("two", "1h"));
    assert_eq!(call(&gate, "POST", "/reload?canary=50%25&time=10m").status, 200);
    let before = gate.metric(checks);
    eventually("the one in force is checked on", || gate.metric(checks) > before + 3.0);
    eventually("the one on trial serves", || gate.get("/").header("x-config") == Some("two"));
    assert_eq!(call(&gate, "DELETE", "/canary").status, 200);
    let before = gate.metric(checks);
    eventually("it still is", || gate.metric(checks) > before + 3.0);

    // Once it takes all requests it has the state of the one before.
    assert_eq!(call(&gate, "POST", "/reload?canary=50%25&time=10m").status, 200);
    assert_eq!(call(&gate, "POST", "/canary").status, 200);
    let upstreams = call(&gate, "GET", "/upstreams").json();
    assert_eq!(upstreams[0]["endpoints"][0]["overrides"]["weight"], 7, "{upstreams}");
}

#[test]
fn the_command_waits_for_the_verdict_and_tells_it() {
    let (origin, nobody) = (Origin::saying("ok"), Origin::nobody());
    let gate = gate(&config("one", origin.address(), ""));
    let admin = gate.running().admin().expect("there is one").to_owned();
    std::fs::write(gate.folder().join("token"), "s3cret").expect("it can be written");
    let token = gate.folder().join("token").display().to_string();
    let reload = |more: &[&str]| {
        let words = ["reload", "--admin", &admin, "--token-file", &token];
        let told = Command::new(gateway_binary()).args(words).args(more).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (told.status.code(), text(&told.stdout), text(&told.stderr))
    };
    under_requests(&gate, || {
        gate.write(&config("two", origin.address(), ""));
        let told = reload(&["--canary", "40%", "--time", "1s"]);
        let said = "revision 2 is tried on a share of requests\nrevision 2 takes all requests\n";
        assert_eq!(told, (Some(0), said.to_owned(), String::new()));

        gate.write(&config("three", nobody, ""));
        let (code, said, why) = reload(&["--canary", "40%", "--time", "10m"]);
        assert_eq!((code, &*said), (Some(1), "revision 3 is tried on a share of requests\n"));
        assert!(why.starts_with("revision 3 is discarded: ") && why.contains("failed"), "{why}");
    });
    let (code, said, _) = reload(&["--canary", "40%", "--time", "10m", "--no-wait"]);
    assert_eq!((code, &*said), (Some(0), "revision 4 is tried on a share of requests\n"));
    assert_eq!(reload(&["--discard"]), (Some(0), "revision 2\n".to_owned(), String::new()));
}
