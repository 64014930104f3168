//! Taking one endpoint out, and weighing it, by calls at the admin address.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Gate, Origin, Response, balanced_config};
use serde_json::Value;

const TOKEN: &str = "Authorization: Bearer secret\r\n";

fn quoted(origins: &[&Origin]) -> Vec<String> {
    origins.iter().map(|origin| format!("\"{}\"", origin.address())).collect()
}

fn config(endpoints: &[String], options: &str) -> String {
    let admin = "admin: {address: \"127.0.0.1:0\", token: secret}";
    balanced_config(endpoints, options).replace("admin: {address: \"127.0.0.1:0\"}", admin)
}

fn call(gate: &Gate, method: &str, origin: &Origin, what: &str) -> Response {
    let path = format!("/upstreams/origin/endpoints/{}/{what}", origin.address());
    gate.admin_call(method, &path, TOKEN)
}

fn told(gate: &Gate, endpoint: usize) -> Value {
    gate.admin("/upstreams").json()[0]["endpoints"][endpoint].clone()
}

fn answers(gate: &Gate, requests: usize) -> String {
    (0..requests).map(|_| gate.get("/").text()).collect()
}

#[test]
fn an_endpoint_is_drained_and_its_requests_are_waited_for() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let slow = Origin::scripted(move |exchange| {
        if exchange.head.starts_with("GET /slow ") {
            let _ = released.lock().expect("one at a time").recv();
        }
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
    });
    let other = Origin::saying("b");
    let gate = Gate::yaml(&config(&quoted(&[&slow, &other]), ""));
    let mut client = gate.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.await_metric(r#"gateway_upstream_requests_in_flight{upstream="origin"}"#, 1.0);

    let at_once = call(&gate, "POST", &slow, "drain");
    assert_eq!((at_once.status, &at_once.json()["in_flight"]), (200, &1.into()));
    assert_eq!(answers(&gate, 4), "bbbb");
    let began = Instant::now();
    let waited = call(&gate, "POST", &slow, "drain?wait=200ms");
    assert_eq!((waited.status, &waited.json()["in_flight"]), (200, &1.into()));
    assert!(began.elapsed() >= Duration::from_millis(200));

    thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        release.send(()).expect("the endpoint is there");
    });
    let done = call(&gate, "POST", &slow, "drain?wait=20s").json();
    assert_eq!((&done["in_flight"], &done["state"]), (&0.into(), &"drained".into()));
    assert_eq!(done["overrides"]["drained"], true);
    assert_eq!(client.response().status, 200, "what was in flight was answered");
    gate.await_metric(r#"gateway_upstream_endpoints{state="drained",upstream="origin"}"#, 1.0);

    let back = call(&gate, "DELETE", &slow, "drain").json();
    assert_eq!((&back["state"], &back["overrides"]), (&"usable".into(), &Value::Null));
    assert_eq!(answers(&gate, 4).matches('a').count(), 2);
}

#[test]
fn a_weight_is_changed_while_it_serves() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let gate = Gate::yaml(&config(&quoted(&[&a, &b]), ""));

    let weighed = call(&gate, "POST", &a, "weight?value=3").json();
    assert_eq!((&weighed["weight"], &weighed["overrides"]["weight"]), (&1.into(), &3.into()));
    assert_eq!(answers(&gate, 8).matches('a').count(), 6);
    call(&gate, "POST", &a, "weight?value=0");
    assert_eq!(answers(&gate, 4), "bbbb");
    call(&gate, "DELETE", &a, "weight");
    assert_eq!(answers(&gate, 8).matches('a').count(), 4);
}

#[test]
fn what_was_changed_outlives_a_reload_that_changes_something_else() {
    let (a, b, c) = (Origin::saying("a"), Origin::saying("b"), Origin::saying("c"));
    let all = [&a, &b, &c];
    let gate = Gate::yaml(&config(&quoted(&all), ""));
    call(&gate, "POST", &a, "drain");
    call(&gate, "POST", &b, "weight?value=3");

    gate.write(&config(&quoted(&all), "balance: random\nretry: {}"));
    gate.running().reload().expect("the config is good");

    assert_eq!(
        (&told(&gate, 0)["state"], &told(&gate, 1)["overrides"]["weight"]),
        (&"drained".into(), &3.into())
    );
    assert!(!answers(&gate, 20).contains('a'));

    // A config that says another weight is believed.
    let mut endpoints = quoted(&all);
    endpoints[1] = format!("{{address: {}, weight: 2}}", endpoints[1]);
    gate.write(&config(&endpoints, ""));
    gate.running().reload().expect("the config is good");
    assert_eq!(
        (&told(&gate, 0)["state"], &told(&gate, 1)["overrides"]),
        (&"drained".into(), &Value::Null)
    );
    assert_eq!(answers(&gate, 6).matches('b').count(), 4);
}

#[test]
fn nobody_is_left_when_all_are_drained_whatever_panic_says() {
    let a = Origin::saying("a");
    let gate = Gate::yaml(&config(&quoted(&[&a]), "health: {panic: 50%}"));
    call(&gate, "POST", &a, "drain");
    assert_eq!(gate.get("/").status, 503);
    call(&gate, "DELETE", &a, "drain");
    assert_eq!(gate.get("/").text(), "a");
}

#[test]
fn who_is_drained_leaves_its_share_to_its_own_group() {
    let (a, b, reserve) = (Origin::saying("a"), Origin::saying("b"), Origin::saying("c"));
    let mut endpoints = quoted(&[&a, &b, &reserve]);
    endpoints[2] = format!("{{address: {}, priority: 1}}", endpoints[2]);
    let gate = Gate::yaml(&config(&endpoints, ""));

    call(&gate, "POST", &a, "drain");

    assert_eq!(answers(&gate, 20), "b".repeat(20), "it is no failure that spills over");
}

#[test]
fn calls_that_cannot_be_done_say_why() {
    let a = Origin::saying("a");
    let gate = Gate::yaml(&config(&quoted(&[&a]), ""));
    let address = a.address();
    for (method, path, fields, status) in [
        ("POST", format!("/upstreams/other/endpoints/{address}/drain"), TOKEN, 404),
        ("POST", "/upstreams/origin/endpoints/127.0.0.1:1/drain".to_owned(), TOKEN, 404),
        ("POST", "/upstreams/origin/endpoints/nonsense/drain".to_owned(), TOKEN, 404),
        ("POST", format!("/upstreams/origin/endpoints/{address}/weight"), TOKEN, 400),
        ("POST", format!("/upstreams/origin/endpoints/{address}/weight?value=70000"), TOKEN, 400),
        ("POST", format!("/upstreams/origin/endpoints/{address}/drain?wait=1"), TOKEN, 400),
        ("POST", format!("/upstreams/origin/endpoints/{address}/drain"), "", 403),
        ("DELETE", format!("/upstreams/origin/endpoints/{address}/weight"), "", 403),
        ("GET", format!("/upstreams/origin/endpoints/{address}/drain"), TOKEN, 405),
    ] {
        let answer = gate.admin_call(method, &path, fields);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(answer.json()["detail"].is_string());
    }
    assert_eq!(told(&gate, 0)["state"], "usable");
}

/// The command does the same for those who have no `curl` at hand.
#[test]
fn the_command_drains_weighs_and_lists() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let mut endpoints = quoted(&[&a, &b]);
    endpoints.push("{address: \"[::1]:9\", priority: 9}".to_owned());
    let gate = Gate::yaml(&config(&endpoints, ""));
    let admin = gate.running().admin().expect("there is one").to_owned();
    let token = gate.folder().join("token");
    std::fs::write(&token, "secret\n").expect("it can be written");
    let run = |arguments: &[&str]| {
        let common = ["--admin", &admin, "--token-file", token.to_str().expect("it is text")];
        let output = std::process::Command::new(gateway_tests::gateway_binary())
            .args(arguments)
            .args(common)
            .output();
        let output = output.expect("it runs");
        let text =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), text.concat())
    };
    let address = a.address().to_string();

    let (code, text) = run(&["endpoint", "drain", "origin", &address, "--wait", "1s"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), format!("{address} drained, 0 in flight\n").as_str())
    );
    assert_eq!(answers(&gate, 4), "bbbb");
    let (code, text) = run(&["upstreams"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("drained") && text.contains(&b.address().to_string()), "{text}");
    let (_, text) = run(&["endpoint", "restore", "origin", &address]);
    assert_eq!(text, format!("{address} usable, 0 in flight\n"));
    let (_, text) = run(&["endpoint", "weight", "origin", &address, "3"]);
    assert_eq!(text, format!("{address} usable, weight 3 in place of 1\n"));
    assert_eq!(answers(&gate, 8).matches('a').count(), 6);
    let (_, text) = run(&["endpoint", "weight", "origin", &address, "config"]);
    assert_eq!(text, format!("{address} usable, weight 1\n"));
    let (_, text) = run(&["endpoint", "drain", "origin", "[::1]:9"]);
    assert_eq!(text, "[::1]:9 drained, 0 in flight\n");
    let (code, text) = run(&["endpoint", "drain", "origin", "127.0.0.1:1"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("has no endpoint `127.0.0.1:1`"), "{text}");
}
