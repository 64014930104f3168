//! Which endpoints are left out, why, and when they come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Gate, Origin, Program, balanced_config as config};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway over these endpoints, with further options of the upstream, one a line.
fn house(endpoints: &[String], options: &str) -> Gate {
    Gate::yaml(&config(endpoints, options))
}

fn quoted(address: impl std::fmt::Display) -> String {
    format!("\"{address}\"")
}

/// An endpoint whose answers to `/healthz` and to everything else have a status that can be changed.
struct Endpoint {
    origin: Origin,
    health: Arc<AtomicU16>,
    service: Arc<AtomicU16>,
}

impl Endpoint {
    fn saying(text: &'static str) -> Self {
        let (health, service) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
        let (asked, served) = (health.clone(), service.clone());
        let origin = Origin::scripted(move |exchange| {
            let check = exchange.head.starts_with("GET /healthz ");
            let status = if check { &asked } else { &served }.load(Ordering::Relaxed);
            let length = text.len();
            exchange.write(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{text}"))
        });
        Self { origin, health, service }
    }

    fn address(&self) -> String {
        quoted(self.origin.address())
    }

    /// The requests that were no checks.
    fn served(&self) -> usize {
        let requests = self.origin.requests();
        requests.iter().filter(|request| !request.starts_with("GET /healthz ")).count()
    }
}

fn told(gate: &Gate, endpoint: usize) -> Value {
    gate.admin("/upstreams").json()[0]["endpoints"][endpoint].clone()
}

#[track_caller]
fn await_state(gate: &Gate, endpoint: usize, state: &str) -> Value {
    let began = Instant::now();
    loop {
        let told = told(gate, endpoint);
        if told["state"] == state {
            return told;
        }
        assert!(began.elapsed() < PATIENCE, "still {told}, not {state}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Who answers so many requests, in their order; `-` for who fails.
fn asked(gate: &Gate, requests: usize) -> String {
    let ask = |_| {
        let response = gate.get("/");
        if response.status == 200 { response.text() } else { "-".to_owned() }
    };
    (0..requests).map(ask).collect()
}

const CHECKS: &str =
    "health: {active: {path: /healthz, interval: 50ms, timeout: 500ms, unhealthy_after: 2}}";

#[test]
fn an_endpoint_that_fails_its_checks_gets_no_requests_until_it_passes_them() {
    let endpoints = ["a", "b"].map(Endpoint::saying);
    let gate = house(&[endpoints[0].address(), endpoints[1].address()], CHECKS);
    assert_eq!(asked(&gate, 4), "abab");

    endpoints[0].health.store(500, Ordering::Relaxed);
    let told = await_state(&gate, 0, "unhealthy");
    assert_eq!(told["reason"], "status 500");
    assert!(told["checked_at"].as_u64().is_some_and(|at| at > 1_700_000_000), "{told}");
    assert_eq!(asked(&gate, 6), "bbbbbb");
    let gauge = |state| {
        gate.metric(&format!(r#"gateway_upstream_endpoints{{state="{state}",upstream="origin"}}"#))
    };
    assert_eq!((gauge("usable"), gauge("unhealthy"), gauge("ejected")), (1.0, 1.0, 0.0));
    let failed = r#"gateway_upstream_health_checks_total{outcome="fail",upstream="origin"}"#;
    assert!(gate.metric(failed) >= 2.0);

    endpoints[0].health.store(204, Ordering::Relaxed);
    await_state(&gate, 0, "usable");
    let answers = asked(&gate, 4);
    assert!(answers == "abab" || answers == "baba", "{answers}");
}

#[test]
fn a_request_for_which_nobody_is_healthy_is_answered_503() {
    let endpoint = Endpoint::saying("a");
    endpoint.health.store(503, Ordering::Relaxed);
    let gate = house(&[endpoint.address()], CHECKS);
    await_state(&gate, 0, "unhealthy");

    assert_eq!(gate.get("/").status, 503);

    gate.await_metric(r#"gateway_request_failures_total{code="U2",route="all"}"#, 1.0);
    assert_eq!(endpoint.served(), 0);
}

#[test]
fn where_too_little_is_healthy_health_is_not_believed() {
    let endpoints = ["a", "b"].map(Endpoint::saying);
    endpoints.iter().for_each(|endpoint| endpoint.health.store(503, Ordering::Relaxed));
    let addresses = [endpoints[0].address(), endpoints[1].address()];
    let gate = house(&addresses, &CHECKS.replace("health: {", "health: {panic: 60%, "));
    await_state(&gate, 0, "unhealthy");
    await_state(&gate, 1, "unhealthy");
    assert_eq!(asked(&gate, 40).replace('a', "").len(), 20, "both get requests");

    // One of two is less than 60 % too.
    endpoints[0].health.store(200, Ordering::Relaxed);
    await_state(&gate, 0, "usable");
    assert_eq!(asked(&gate, 40).replace('a', "").len(), 20);
}

#[test]
fn an_endpoint_may_have_to_wait_for_its_first_check() {
    let endpoints = ["a", "b"].map(Endpoint::saying);
    endpoints[1].health.store(500, Ordering::Relaxed);
    let addresses = [endpoints[0].address(), endpoints[1].address()];
    let gate = house(
        &addresses,
        &CHECKS
            .replace("path:", "wait: true, unhealthy_after: 9999, path:")
            .replace(", unhealthy_after: 2", ""),
    );

    await_state(&gate, 0, "usable");

    assert_eq!(asked(&gate, 6), "aaaaaa");
    let began = Instant::now();
    while told(&gate, 1)["reason"] != "status 500" {
        assert!(began.elapsed() < PATIENCE, "still {}", told(&gate, 1));
    }
    assert_eq!(told(&gate, 1)["state"], "unchecked");
    endpoints[1].health.store(200, Ordering::Relaxed);
    await_state(&gate, 1, "usable");
    assert!(asked(&gate, 4).contains('b'));
}

#[test]
fn a_check_may_ask_for_a_host_a_status_a_body_and_another_port() {
    let endpoint = Endpoint::saying("all is well");
    let nobody = Origin::nobody();
    let port = endpoint.origin.address().port();
    let gate = |status: &str, body: &str| {
        let active = format!(
            "health: {{active: {{path: \"/healthz\", host: health.example, interval: 50ms, \
             status: {status}, body: {body}, port: {port}, wait: true, unhealthy_after: 1}}}}"
        );
        house(&[quoted(nobody)], &active)
    };

    endpoint.health.store(418, Ordering::Relaxed);
    let good = gate("[200, 400-418]", "is well");
    await_state(&good, 0, "usable");
    let asked = endpoint.origin.last_request().to_lowercase();
    assert!(asked.contains("\r\nhost: health.example\r\n"), "{asked}");

    let told = await_state(&gate("[200, 400-417]", "is well"), 0, "unhealthy");
    assert_eq!(told["reason"], "status 418");
    let told = await_state(&gate("[418]", "is bad"), 0, "unhealthy");
    assert_eq!(told["reason"], "status 418, but the body does not hold `is bad`");
}

#[test]
fn an_endpoint_that_accepts_connections_passes_a_check_of_tcp() {
    let origin = Origin::saying("a");
    let addresses = [quoted(origin.address()), quoted(Origin::nobody())];
    let gate = house(&addresses, "health: {active: {kind: tcp, interval: 50ms}}");

    let told = await_state(&gate, 1, "unhealthy");

    assert_eq!(told["reason"], "cannot connect: refused");
    assert_eq!(asked(&gate, 4), "aaaa");
}

#[test]
fn an_endpoint_that_does_not_answer_fails_in_time() {
    let hangs = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_secs(30));
        exchange.close()
    });
    let addresses = [quoted(hangs.address()), Endpoint::saying("a").address()];
    let gate = house(
        &addresses,
        "health: {active: {path: /healthz, interval: 50ms, timeout: 100ms, unhealthy_after: 1}}",
    );

    assert_eq!(await_state(&gate, 0, "unhealthy")["reason"], "no answer within 100ms");
}

#[test]
fn a_grpc_server_tells_its_health_by_the_standard_service() {
    // Of another make: `grpcio`, from the Debian package `python3-grpcio`; CI installs it.
    let mut server = Program::start("grpc_health.py", &[]);
    let address = quoted(server.address());
    let gate = |service: &str| {
        house(
            std::slice::from_ref(&address),
            &format!(
                "health: {{active: {{kind: grpc, {service}interval: 50ms, wait: true, \
                 unhealthy_after: 1, healthy_after: 1}}}}"
            ),
        )
    };
    let (whole, users, other) = (gate(""), gate("service: users, "), gate("service: orders, "));

    await_state(&whole, 0, "usable");
    await_state(&users, 0, "usable");
    assert_eq!(await_state(&other, 0, "unhealthy")["reason"], "grpc-status 5");

    server.say("not_serving");
    assert_eq!(await_state(&users, 0, "unhealthy")["reason"], "NOT_SERVING");
    server.say("serving");
    await_state(&users, 0, "usable");
}

#[test]
fn checks_that_a_reload_takes_away_leave_nobody_out() {
    let endpoint = Endpoint::saying("a");
    endpoint.health.store(500, Ordering::Relaxed);
    let gate = house(&[endpoint.address()], CHECKS);
    await_state(&gate, 0, "unhealthy");

    gate.write(&config(&[endpoint.address()], ""));
    gate.running().reload().expect("the config is good");

    assert_eq!(told(&gate, 0)["state"], "usable");
    assert_eq!(asked(&gate, 3), "aaa");
    let checks = endpoint.origin.requests().len();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(endpoint.origin.requests().len(), checks, "nobody checks any more");
}

#[test]
fn what_is_known_of_an_endpoint_outlives_a_reload() {
    let endpoints = ["a", "b"].map(Endpoint::saying);
    let addresses = [endpoints[0].address(), endpoints[1].address()];
    let rarely = CHECKS.replace("interval: 50ms", "interval: 1h");
    endpoints[0].health.store(500, Ordering::Relaxed);
    let gate = house(&addresses, CHECKS);
    await_state(&gate, 0, "unhealthy");

    gate.write(&config(&addresses, &rarely));
    gate.running().reload().expect("the config is good");

    assert_eq!(told(&gate, 0)["state"], "unhealthy");
    assert_eq!(asked(&gate, 4), "bbbb");
}

#[test]
fn requests_spill_over_to_endpoints_in_reserve() {
    let endpoints = ["a", "b", "c"].map(Endpoint::saying);
    let described = |endpoint: &Endpoint, priority: u32| {
        format!("{{address: {}, priority: {priority}}}", endpoint.address())
    };
    let list =
        [described(&endpoints[0], 0), described(&endpoints[1], 0), described(&endpoints[2], 1)];
    let gate = house(&list, CHECKS);
    assert!(!asked(&gate, 20).contains('c'));

    endpoints[0].health.store(500, Ordering::Relaxed);
    await_state(&gate, 0, "unhealthy");
    let answers = asked(&gate, 100);
    let reserve = answers.matches('c').count();
    assert!((10..55).contains(&reserve), "29 of 100 are expected: {answers}");

    endpoints[1].health.store(500, Ordering::Relaxed);
    await_state(&gate, 1, "unhealthy");
    assert_eq!(asked(&gate, 5), "ccccc");
}

const EJECTS: &str = "health: {passive: {failures: 3, eject_for: 1s, max_ejected: 50%}}";

#[test]
fn an_endpoint_whose_requests_fail_is_taken_out_for_a_while() {
    let endpoints = ["a", "b"].map(Endpoint::saying);
    let gate = house(&[endpoints[0].address(), endpoints[1].address()], EJECTS);
    endpoints[0].service.store(502, Ordering::Relaxed);

    let answers = asked(&gate, 6);
    assert_eq!(answers, "-b-b-b");
    let told = await_state(&gate, 0, "ejected");
    assert_eq!(told["reason"], "3 failures in a row, the last status 502");
    assert!((1..=1000).contains(&told["ejected_for_ms"].as_u64().unwrap_or(0)), "{told}");
    assert_eq!(asked(&gate, 10), "bbbbbbbbbb");
    let ejections =
        r#"gateway_upstream_ejections_total{reason="consecutive_failures",upstream="origin"}"#;
    assert_eq!(gate.metric(ejections), 1.0);

    endpoints[0].service.store(200, Ordering::Relaxed);
    await_state(&gate, 0, "usable");
    assert!(asked(&gate, 4).contains('a'));
}

#[test]
fn a_request_that_began_before_a_reload_still_tells_of_its_endpoint() {
    let hangs = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_millis(300));
        exchange.close()
    });
    let addresses = [quoted(hangs.address()), Endpoint::saying("b").address()];
    let ejects = "health: {passive: {failures: 1, eject_for: 1m}}";
    let gate = house(&addresses, ejects);
    let mut client = gate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(100));

    gate.write(&config(&addresses, &format!("{ejects}\nspill_below: 60%")));
    gate.running().reload().expect("the config is good");
    assert_eq!(client.response().status, 502);

    await_state(&gate, 0, "ejected");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(asked(&gate, 6), "bbbbbb");

    gate.write(&config(&addresses, ""));
    gate.running().reload().expect("the config is good");
    assert_eq!(told(&gate, 0)["state"], "usable", "nobody is ejected any more");
}

#[test]
fn an_endpoint_that_refuses_connections_is_taken_out_but_never_too_many() {
    let addresses =
        [quoted(Origin::nobody()), quoted(Origin::nobody()), Endpoint::saying("a").address()];
    let gate = house(&addresses, EJECTS);

    asked(&gate, 30);

    let states: Vec<Value> =
        (0..3).map(|endpoint| told(&gate, endpoint)["state"].clone()).collect();
    let ejected = states.iter().filter(|state| **state == "ejected").count();
    assert_eq!(ejected, 1, "half of three, rounded down: {states:?}");
    assert_eq!(states[2], "usable");
}

#[test]
fn an_endpoint_that_is_alone_is_never_taken_out() {
    let endpoint = Endpoint::saying("a");
    endpoint.service.store(503, Ordering::Relaxed);
    let gate = house(&[endpoint.address()], EJECTS);

    asked(&gate, 20);

    assert_eq!(endpoint.served(), 20);
    assert_eq!(told(&gate, 0)["state"], "usable");
}

#[test]
fn an_endpoint_that_is_much_slower_than_the_others_is_taken_out() {
    let slow = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_millis(60));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ns")
    });
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let addresses = [&a, &slow, &b].map(|origin| quoted(origin.address()));
    let gate = house(&addresses, "health: {passive: {slower_than: 5, minimum: 10, eject_for: 1m}}");

    let began = Instant::now();
    while told(&gate, 1)["state"] == "usable" {
        assert!(began.elapsed() < PATIENCE);
        asked(&gate, 3);
    }

    let reason = told(&gate, 1)["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.starts_with("answers take 6") && reason.ends_with("is the middle"), "{reason}");
    assert!(!asked(&gate, 10).contains('s'));
}

#[test]
fn what_a_client_does_is_not_blamed_on_an_endpoint() {
    let slow = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_millis(100));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
    });
    let addresses = [quoted(slow.address()), Endpoint::saying("b").address()];
    let gate = house(&addresses, EJECTS);

    for _ in 0..12 {
        let mut client = gate.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(200));

    assert_eq!(told(&gate, 0)["state"], "usable");
}

#[test]
fn options_that_do_not_belong_together_are_refused_with_their_places() {
    let text = |health: &str| {
        let config = config(&["\"10.0.0.1:80\"".to_owned()], &format!("health: {health}"));
        let checked = gateway_core::Gateway::builder().config_text(config).check();
        checked.err().expect("the config is refused").to_string()
    };

    for (health, fault) in [
        (
            "{active: {kind: tcp, path: /x}}",
            "upstreams[0].health.active.path: a check of this `kind` has no `path`",
        ),
        ("{active: {path: x}}", "`x` is no path"),
        ("{active: {interval: 0s}}", "health.active.interval"),
        ("{active: {status: [200-99]}}", "health.active.status[0]"),
        ("{active: {status: [700]}}", "health.active.status[0]"),
        ("{passive: {eject_for: 10m}}", "health.passive.eject_at_most: less than `eject_for`"),
        ("{passive: {failures: 0}}", "health.passive.failures"),
    ] {
        let text = text(health);
        assert!(text.contains(fault), "{health}: {text}");
    }
}
