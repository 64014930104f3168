//! Circuit breakers before upstreams, put there by a plugin made here and by that of the catalogue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::Gateway;
use gateway_core::plugin::{BuildEnv, BuildError, Class, Hooks, Plugin};
use gateway_core::upstream::BreakerOptions;
use gateway_tests::{Client, Gate, Origin, Program, balanced_config, eventually};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Puts a breaker before the upstream.
struct Fuse(BreakerOptions);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    minimum: u32,
    open_ms: u64,
    #[serde(default)]
    slow_ms: Option<u64>,
}

impl Plugin for Fuse {
    const KIND: &'static str = "fuse";
    const CLASS: Class = Class::Traffic;
    type Config = Options;

    fn build(options: Options, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        Ok(Self(BreakerOptions {
            minimum: options.minimum,
            open_for: Duration::from_millis(options.open_ms),
            slow_ratio: options.slow_ms.map(|_| 0.5),
            slow: Duration::from_millis(options.slow_ms.unwrap_or(u64::MAX)),
            probes: 2,
            ..BreakerOptions::default()
        }))
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.breaker(self.0.clone(), None);
    }
}

const FUSE: &str = "{kind: fuse, options: {minimum: 6, open_ms: 1000}}";

/// Two routes to one upstream and one to another, with a plugin for all routes and perhaps one for the
/// first.
fn config(ours: &str, other: &str, all: &str, first: &str, upstream: &str) -> String {
    format!(
        r#"
version: 1
server: {{workers: 2}}
admin: {{address: "127.0.0.1:0"}}
access_log: {{output: LOG, format: json, fields: [url.path, failure, ended_by, attempts, http.response.status_code]}}
plugins: [{all}]
listeners: [{{name: public, address: "127.0.0.1:0"}}]
upstreams:
- {{name: ours, endpoints: ["{ours}"], {upstream}}}
- {{name: other, endpoints: ["{other}"]}}
routes:
- {{name: first, match: {{path: /status/}}, upstream: ours, plugins: [{first}]}}
- {{name: slow, match: {{path: /slow/}}, upstream: ours}}
- {{name: stall, match: {{path: /stall}}, upstream: ours}}
- {{name: other, match: {{path: /other}}, upstream: other}}
- {{name: reply, match: {{path: /reply}}, reply: {{}}}}
"#
    )
}

fn gate(config: &str) -> Gate {
    Gate::with(Gateway::builder().plugins(gateway_plugins::all()).plugin::<Fuse>(), config)
}

fn house(all: &str, first: &str, upstream: &str) -> (Gate, Program, Origin) {
    let (ours, other) = (Program::start("endpoint.py", &[]), Origin::saying("other"));
    let addresses = (ours.address().to_string(), other.address().to_string());
    (gate(&config(&addresses.0, &addresses.1, all, first, upstream)), ours, other)
}

/// What is told of the breakers before either upstream.
fn told(gate: &Gate) -> [serde_json::Value; 2] {
    let told: serde_json::Value =
        serde_json::from_str(&gate.admin("/upstreams").text()).expect("it is JSON");
    [0, 1].map(|upstream| told[upstream]["breakers"].clone())
}

/// The statuses of so many requests for a path.
fn statuses(gate: &Gate, path: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| gate.get(path).status).collect()
}

#[test]
fn it_opens_refuses_probes_and_closes() {
    let (gate, _ours, _other) = house(FUSE, "", "");
    // Three are well and three are not: with the sixth it is open.
    assert_eq!(statuses(&gate, "/status/200", 3), [200; 3]);
    assert_eq!(statuses(&gate, "/status/502", 3), [502; 3]);

    let mut client = gate.client();
    for _ in 0..2 {
        // On a connection that stays.
        client.send("GET /status/200 HTTP/1.1\r\nHost: a\r\n\r\n");
        let refused = client.response();
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    }
    // Lines of answers that follow each other closely may change places.
    let log = gate.log(8);
    let refused: Vec<_> = log.iter().filter(|line| line["failure"] == "U9").collect();
    assert_eq!(refused.len(), 2);
    assert_eq!((&refused[1]["ended_by"], &refused[1]["attempts"]), (&"fuse".into(), &0.into()));
    // All routes to the upstream are behind it, others are not.
    assert_eq!(gate.get("/slow/0").status, 503);
    assert_eq!(gate.get("/other").status, 200);
    assert_eq!(gate.get("/reply").status, 200);

    let state = |state: &str| {
        let told = |state: &str| json!([{"plugin": "fuse", "from": "gateway", "state": state}]);
        [told(state), told("closed")]
    };
    assert_eq!(told(&gate), state("open"));

    // A probe that fails opens it again, for twice as long.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(statuses(&gate, "/status/504", 2), [504, 503]);
    let opened = Instant::now();
    std::thread::sleep(Duration::from_millis(1200));
    if opened.elapsed() < Duration::from_millis(1800) {
        assert_eq!(gate.get("/status/200").status, 503);
    }
    // Two that go well close it, and it begins anew.
    std::thread::sleep(Duration::from_millis(1000));
    assert_eq!(told(&gate), state("half_open"));
    assert_eq!(statuses(&gate, "/status/200", 8), [200; 8]);
    assert_eq!(told(&gate), state("closed"));
    assert_eq!(statuses(&gate, "/status/502", 5), [502; 5]);
    assert_eq!(gate.get("/status/200").status, 200);
}

#[test]
fn half_open_lets_two_through_and_no_more() {
    let (gate, _ours, _other) = house(FUSE, "", "");
    assert_eq!(statuses(&gate, "/status/500", 6), [500; 6]);
    std::thread::sleep(Duration::from_millis(1100));

    let mut clients: Vec<_> = (0..6).map(|_| gate.client()).collect();
    for client in &mut clients {
        client.send("GET /slow/0.5 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut statuses: Vec<_> = clients.iter_mut().map(|client| client.response().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503, 503, 503]);
    assert_eq!(gate.get("/status/200").status, 200, "the probes have closed it");
}

#[test]
fn a_probe_whose_answer_goes_on_and_on_keeps_nobody_out() {
    let (gate, _ours, _other) = house(FUSE, "", "");
    assert_eq!(statuses(&gate, "/status/500", 6), [500; 6]);
    std::thread::sleep(Duration::from_millis(1100));

    let mut clients: Vec<_> = (0..2).map(|_| gate.client()).collect();
    for client in &mut clients {
        client.send("GET /stall HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    gate.await_metric(r#"gateway_upstream_requests_in_flight{upstream="ours"}"#, 2.0);
    eventually("their answers have begun", || gate.get("/status/200").status == 200);
    gate.await_metric(r#"gateway_upstream_requests_in_flight{upstream="ours"}"#, 2.0);
}

#[test]
fn a_probe_whose_client_leaves_makes_room_for_another() {
    let (gate, _ours, _other) = house(FUSE, "", "");
    assert_eq!(statuses(&gate, "/status/500", 6), [500; 6]);
    std::thread::sleep(Duration::from_millis(1100));

    let mut clients: Vec<_> = (0..2).map(|_| Client::connect(gate.address())).collect();
    for client in &mut clients {
        client.send("GET /slow/5 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    gate.await_metric(r#"gateway_upstream_requests_in_flight{upstream="ours"}"#, 2.0);
    assert_eq!(gate.get("/status/200").status, 503);
    drop(clients);
    eventually("they are gone", || gate.get("/status/200").status == 200);
}

#[test]
fn slow_answers_open_it() {
    let slow = "{kind: fuse, options: {minimum: 4, open_ms: 60000, slow_ms: 150}}";
    let (gate, _ours, _other) = house(slow, "", "");
    assert_eq!(statuses(&gate, "/slow/0.0", 2), [200; 2]);
    assert_eq!(statuses(&gate, "/slow/0.2", 2), [200; 2]);
    assert_eq!(gate.get("/slow/0.0").status, 503);
}

#[test]
fn a_client_that_is_slow_to_send_is_not_a_slow_answer() {
    let slow = "{kind: fuse, options: {minimum: 4, open_ms: 60000, slow_ms: 150}}";
    let (gate, _ours, _other) = house(slow, "", "");
    for _ in 0..5 {
        let mut client = gate.client();
        client.send("POST /status/200 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(client.send("cd").response().status, 200);
    }
    assert_eq!(gate.get("/status/200").status, 200);
}

#[test]
fn it_outlives_a_reload_that_does_not_change_it() {
    let (gate, ours, other) = house(FUSE, "", "");
    assert_eq!(statuses(&gate, "/status/500", 6), [500; 6]);
    let addresses = (ours.address().to_string(), other.address().to_string());
    let reload = |fuse: &str, upstream: &str| {
        gate.write(&config(&addresses.0, &addresses.1, fuse, "", upstream));
        let answer = gate.running().reload();
        assert!(answer.is_ok(), "{answer:?}");
    };
    let long = FUSE.replace("1000", "60000");

    reload(&long, "");
    assert_eq!(statuses(&gate, "/status/500", 6), [500; 6], "other options are another breaker");
    assert_eq!(gate.get("/status/200").status, 503);
    reload(&long, "timeouts: {idle: 9s}");
    assert_eq!(gate.get("/status/200").status, 503, "it stays open");
}

#[test]
fn each_list_has_its_own_and_conditions_hold() {
    let own = "{kind: fuse, when: 'request.header[\"x-way\"] == \"careful\"', options: {minimum: 3, open_ms: 60000}}";
    let (gate, _ours, _other) = house("", own, "");
    let careful = |path: &str| {
        gate.exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Way: careful\r\n\r\n")).status
    };
    assert_eq!(statuses(&gate, "/status/500", 9), [500; 9], "it takes no part");
    assert_eq!([(); 3].map(|()| careful("/status/500")), [500; 3]);
    assert_eq!(careful("/status/200"), 503);
    assert_eq!(gate.get("/status/200").status, 200);
    let open = json!({"plugin": "fuse", "from": "route", "route": "first", "state": "open"});
    assert_eq!(told(&gate), [json!([open]), json!(null)]);
    assert_eq!(careful("/slow/0"), 200, "another route to the same upstream");
}

#[test]
fn what_is_open_is_not_tried_again() {
    let fuse = FUSE.replace("1000", "150");
    let (gate, _ours, _other) =
        house(&fuse, "", "retry: {on: [503], attempts: 9, budget: 100%, backoff: 20ms}");
    assert_eq!(gate.get("/status/503").status, 503);
    let record = &gate.log(1)[0];
    assert_eq!(record["attempts"], 6, "{record}");
}

/// A gateway with a breaker for each of three endpoints, the first of which is out of order.
fn three_endpoints(options: &str) -> (Gate, [Program; 3]) {
    let endpoints = [(); 3].map(|()| Program::start("endpoint.py", &[]));
    let addresses = endpoints.each_ref().map(|one| format!("\"{}\"", one.address()));
    let config = format!(
        "version: 1\nserver: {{workers: 1}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\n\
         plugins: [{{kind: circuit-breaker, name: careful, options: {{per: endpoint, minimum: 4, {options}}}}}]\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: ours, endpoints: [{}]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: ours}}]\n",
        addresses.join(", ")
    );
    (gate(&config), endpoints)
}

#[test]
fn a_bad_endpoint_of_three_is_passed_over_and_comes_back() {
    let (gate, [bad, _second, _third]) = three_endpoints("open_for: 1s, probes: 1");
    let address = bad.address();
    drop(bad);

    // Every third request meets it, four times.
    let statuses = statuses(&gate, "/ok", 30);
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 4, "{statuses:?}");
    assert!(statuses[12..].iter().all(|status| *status == 200), "{statuses:?}");
    let told = || gate.admin("/upstreams").json()[0]["breakers"].clone();
    let states = || {
        let told = told();
        let of = |one: &serde_json::Value| (one["endpoint"].clone(), one["state"].clone());
        told.as_array().expect("they are told").iter().map(of).collect::<Vec<_>>()
    };
    for (endpoint, state) in states() {
        let expected = if endpoint == address.to_string() { "open" } else { "closed" };
        assert_eq!(state, expected, "{endpoint}");
    }
    gate.await_metric(r#"gateway_upstream_breakers{state="open",upstream="ours"}"#, 1.0);
    gate.await_metric(r#"gateway_upstream_breakers{state="closed",upstream="ours"}"#, 2.0);
    gate.await_metric(
        r#"gateway_upstream_breaker_changes_total{state="open",upstream="ours"}"#,
        1.0,
    );

    let _again = Origin::saying_at(address, "back").expect("its port is free");
    eventually("it is found to be well", || gate.get("/ok").text() == "back");
    assert!(states().iter().all(|(_, state)| state == "closed"), "{}", told());
    assert_eq!(gate.total("gateway_upstream_breaker_changes_total"), 3.0);
}

#[test]
fn where_all_endpoints_are_refused_requests_are() {
    let (gate, endpoints) = three_endpoints("open_for: 1m, reply: {status: 200, body: later}");
    assert_eq!(statuses(&gate, "/status/500", 12), [500; 12]);
    let answer = gate.get("/ok");
    assert_eq!((answer.status, answer.text().as_str()), (200, "later"));
    assert_eq!(answer.header("retry-after"), Some("60"));
    drop(endpoints);
}

#[test]
fn a_retry_goes_past_an_endpoint_that_is_refused() {
    let (gate, [bad, _second, good]) = three_endpoints("open_for: 1m");
    let config = std::fs::read_to_string(gate.config_path()).expect("it is there");
    let retried = config
        .replace("endpoints:", "retry: {attempts: 3, backoff: 1ms, budget: 100%}, endpoints:");
    gate.write(&retried);
    gate.running().reload().expect("the config is good");
    drop(bad);
    assert_eq!(statuses(&gate, "/ok", 40), [200; 40]);
    // One is open; another fails, and what is tried again does not go to the open one.
    drop(good);
    assert_eq!(statuses(&gate, "/ok", 40), [200; 40]);
}

#[test]
fn each_route_may_have_its_own() {
    let plugin = "{kind: circuit-breaker, options: {per: route, minimum: 3, open_for: 1m}}";
    let (gate, _ours, _other) = house(plugin, "", "");
    assert_eq!(statuses(&gate, "/status/500", 3), [500; 3]);
    assert_eq!(gate.get("/status/200").status, 503);
    assert_eq!(gate.get("/slow/0").status, 200, "of the same upstream");
    let told = told(&gate)[0].clone();
    let open: Vec<_> =
        told.as_array().expect("a list").iter().filter(|one| one["state"] == "open").collect();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0]["route"], "first");
}

#[test]
fn breakers_do_what_they_are_told() {
    let plugin = "{kind: circuit-breaker, options: {minimum: 3, open_for: 1m}}";
    let ours = Program::start("endpoint.py", &[]);
    let address = ours.address().to_string();
    let config = config(&address, &address, plugin, "", "");
    let gate = gate(&config.replacen("0\"}", "0\", token: secret}", 1));
    let call = |method: &str, path: &str| {
        let fields = "Authorization: Bearer secret\r\n";
        gate.admin_call(method, &format!("/upstreams/{path}"), fields)
    };
    let breakers = "ours/breakers/circuit-breaker";

    let answer = call("POST", &format!("{breakers}?state=open"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        (&answer.json()[0]["state"], &answer.json()[0]["told"]),
        (&json!("open"), &json!("open"))
    );
    assert_eq!(gate.get("/status/200").status, 503);
    assert_eq!(gate.get("/other").status, 200, "another upstream");

    assert_eq!(call("POST", &format!("{breakers}?state=closed")).status, 200);
    assert_eq!(statuses(&gate, "/status/500", 9), [500; 9], "whatever it finds");
    assert_eq!(call("DELETE", breakers).status, 200);
    assert_eq!(gate.get("/status/200").status, 503, "what it has found meanwhile");

    for (path, status) in [
        ("ours/breakers/circuit-breaker", 400),
        ("ours/breakers/nothing?state=open", 404),
        ("theirs/breakers/circuit-breaker?state=open", 404),
        ("ours/breakers/circuit-breaker?state=open&route=none", 404),
        ("ours/breakers/circuit-breaker?state=open&endpoint=127.0.0.1:1", 404),
    ] {
        assert_eq!(call("POST", path).status, status, "{path}");
    }
    let path = format!("/upstreams/{breakers}?state=closed");
    assert_eq!(gate.admin_call("POST", &path, "").status, 403);
    assert_eq!(gate.admin(&format!("/upstreams/{breakers}")).status, 405);
}

#[test]
fn the_command_opens_and_closes() {
    let (gate, [first, ..]) = three_endpoints("open_for: 1m");
    let config = std::fs::read_to_string(gate.config_path()).expect("it is there");
    let socket = gate.folder().join("admin.sock");
    let config =
        config.replace("admin: {address: \"127.0.0.1:0\"}", "admin: {address: \"unix:SOCKET\"}");
    let config = config.replace("SOCKET", socket.to_str().expect("it is text"));
    let gate = self::gate(&config);
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(gateway_tests::gateway_binary())
            .args(arguments)
            .args(["--admin", &format!("unix:{}", socket.display())])
            .output()
            .expect("it runs");
        let text = [output.stdout, output.stderr];
        (
            output.status.code(),
            text.map(|text| String::from_utf8_lossy(&text).into_owned()).concat(),
        )
    };
    let address = first.address().to_string();

    let told = run(&["breaker", "open", "ours", "careful", "--endpoint", &address]);
    let line = format!("careful open, as it was told, endpoint {address}\n");
    assert_eq!(told, (Some(0), line.clone()));
    let (_, listed) = run(&["upstreams"]);
    assert!(listed.contains(&format!("    circuit breaker {line}")), "{listed}");
    let (code, all) = run(&["breaker", "close", "ours", "careful"]);
    assert_eq!(
        (code, all.matches("careful closed, as it was told").count()),
        (Some(0), 3),
        "{all}"
    );
    let (code, all) = run(&["breaker", "auto", "ours", "careful"]);
    assert_eq!((code, all.matches("careful closed, endpoint").count()), (Some(0), 3), "{all}");
    let (code, text) = run(&["breaker", "open", "ours", "careless"]);
    assert_ne!(code, Some(0));
    assert!(text.contains("plugin `careless` has no circuit breaker before `ours`"), "{text}");
    drop(gate);
}

/// More endpoints than are looked at in the way of the balancing.
#[test]
fn of_many_endpoints_the_one_that_is_let_through_is_found() {
    let bad = "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n";
    let mut origins: Vec<Origin> = (0..30).map(|_| Origin::answering(bad)).collect();
    origins.push(Origin::saying("ok"));
    let endpoints: Vec<String> =
        origins.iter().map(|one| format!("\"{}\"", one.address())).collect();
    let gate = gate(&balanced_config(&endpoints, "").replace(
        "routes:",
        "plugins: [{kind: circuit-breaker, options: {per: endpoint, minimum: 1, open_for: 60s}}]\nroutes:",
    ));

    let failed = (0..62).filter(|_| gate.get("/").status != 200).count();

    assert_eq!(failed, 30, "each of the bad ones was asked once");
    assert_eq!(statuses(&gate, "/", 10), [200; 10]);
}
