//! Limits that gateways share, in a real Redis that is well, stopped, frozen, full, and restarted.

use std::time::{Duration, Instant};

use gateway_core::Gateway;
use gateway_tests::{Certificates, Gate, Origin, Redis, Response, eventually};

fn config(origin: &Origin, redis: &str, limits: &str, more: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 2}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         plugins: [{{kind: rate-limit, options: {{key: [request.header.x-key], limits: [{limits}], \
         store: {{{redis}}}{more}}}}}]\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    )
}

fn gate(config: &str) -> Gate {
    let gate = Gate::with(Gateway::builder().plugins(gateway_plugins::all()), config);
    // Until it is connected nothing is shared.
    eventually("the store is called", || {
        ask(&gate, "nobody");
        calls(&gate, "success") > 0.0
    });
    gate
}

fn at(redis: &Redis) -> String {
    format!("redis: \"redis://{}\", timeout: 500ms", redis.address())
}

fn ask(gate: &Gate, key: &str) -> Response {
    gate.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n"))
}

fn calls(gate: &Gate, outcome: &str) -> f64 {
    let labels = format!("{{outcome=\"{outcome}\",plugin=\"rate-limit\"}}");
    gate.metric(&format!("gateway_limiter_store_calls_total{labels}"))
}

/// How many requests of this key pass, of so many through each gateway at the same time.
fn passed(gates: &[Gate], key: &str, requests: usize) -> usize {
    std::thread::scope(|scope| {
        let one = |gate: &Gate| {
            let mut client = gate.client();
            let pass = |_: &usize| {
                client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n"));
                match client.response().status {
                    200 => true,
                    429 => false,
                    other => panic!("{other}"),
                }
            };
            (0..requests).filter(pass).count()
        };
        let threads: Vec<_> = gates.iter().map(|gate| scope.spawn(move || one(gate))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it passes")).sum()
    })
}

#[test]
fn four_gateways_let_as_many_pass_as_one() {
    let (origin, redis) = (Origin::saying("ok"), Redis::start(&[], false));
    let limits = "{requests: 40, per: 1h, name: a}, {requests: 90, per: 1h, name: b, algorithm: sliding_window}";
    let config = config(&origin, &at(&redis), limits, ", fields: both");
    let gates: Vec<Gate> = (0..4).map(|_| gate(&config)).collect();

    for key in ["one", "other", "one{}x"] {
        assert_eq!(passed(&gates, key, 30), 40, "{key}");
    }

    let refused = ask(&gates[3], "one");
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (429, Some("0")));
    let told = refused.header("ratelimit").expect("it tells").to_owned();
    assert!(told.starts_with("\"a\";r=0;t=3"), "{told}");
    let retry: u64 = refused.header("retry-after").expect("it says").parse().expect("seconds");
    assert!((80..=90).contains(&retry), "{retry}");
    let fresh = ask(&gates[0], "fresh");
    let told = fresh.header("ratelimit").expect("it tells").to_owned();
    assert!(told.starts_with("\"a\";r=39;t=90, \"b\";r=89;t="), "{told}");
    assert_eq!(redis.tell(&["DBSIZE"]).parse::<u32>().map(|keys| keys % 2), Ok(0), "two each");
}

/// What the exact algorithm would let pass within the time that it took, by both ways of counting.
#[test]
fn four_gateways_agree_with_the_exact_count_over_time() {
    let (origin, redis) = (Origin::saying("ok"), Redis::start(&[], false));
    let config = config(&origin, &at(&redis), "{requests: 200, per: 1s, burst: 50}", "");
    let gates: Vec<Gate> = (0..4).map(|_| gate(&config)).collect();
    let began = Instant::now();
    let deadline = began + Duration::from_secs(3);

    let told: Vec<(usize, Instant)> = std::thread::scope(|scope| {
        let one = |gate: &Gate| {
            let mut client = gate.client();
            let (mut passed, mut last) = (0, began);
            while Instant::now() < deadline {
                client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Key: k\r\n\r\n");
                if client.response().status == 200 {
                    (passed, last) = (passed + 1, Instant::now());
                }
            }
            (passed, last)
        };
        let threads: Vec<_> = gates.iter().map(|gate| scope.spawn(move || one(gate))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it passes")).collect()
    });

    let passed: usize = told.iter().map(|(passed, _)| passed).sum();
    let last = told.iter().map(|(_, last)| *last).max().expect("there are four");
    let exact = 50.0 + 200.0 * last.saturating_duration_since(began).as_secs_f64();
    let off = (passed as f64 - exact).abs() / exact;
    assert!(off < 0.01, "{passed} passed, exactly {exact:.1}");
}

#[test]
fn a_store_that_is_gone_is_done_without_as_configured() {
    let (origin, mut redis) = (Origin::saying("ok"), Redis::start(&[], false));
    let limits = "{requests: 3, per: 1h}";
    let one = |choice: &str| {
        gate(&config(&origin, &at(&redis), limits, &format!(", on_store_error: {choice}")))
    };
    let [local, allow, refuse] = ["local", "allow", "refuse"].map(one);
    let statuses = |gate: &Gate, key: &str| [(); 5].map(|()| ask(gate, key).status);
    for gate in [&local, &allow, &refuse] {
        assert_eq!(statuses(gate, "shared")[4], 429);
    }
    redis.stop();

    assert_eq!(statuses(&local, "k"), [200, 200, 200, 429, 429]);
    assert_eq!(statuses(&allow, "k"), [200; 5]);
    assert_eq!(statuses(&refuse, "k"), [503; 5]);
    eventually("the log says why", || {
        let log = std::fs::read_to_string(refuse.log_path()).unwrap_or_default();
        log.matches(r#""failure":"P7""#).count() == 5
    });

    redis.restart();
    for gate in [&local, &allow, &refuse] {
        let before = calls(gate, "success");
        eventually("the store is called again", || {
            ask(gate, "again");
            calls(gate, "success") > before
        });
    }
    eventually("limits are shared again", || ask(&local, "again").status == 429);
    assert_eq!(ask(&allow, "again").status, 429);
}

#[test]
fn a_store_that_is_frozen_or_full_costs_nobody_more_than_the_timeout() {
    let (origin, redis) = (Origin::saying("ok"), Redis::start(&[], false));
    let here = format!("redis: \"redis://{}\"", redis.address());
    let gate = gate(&config(&origin, &here, "{requests: 3, per: 1h}", ", on_store_error: allow"));
    redis.signal("STOP");
    let mut slowest = Duration::ZERO;
    let began = Instant::now();
    for _ in 0..100 {
        let asked = Instant::now();
        assert_eq!(ask(&gate, "k").status, 200);
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_millis(300), "{slowest:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "after a few nobody waits");
    assert!(calls(&gate, "timeout") >= 5.0 && calls(&gate, "down") > 50.0);
    redis.signal("CONT");
    eventually("limits are shared again", || ask(&gate, "again").status == 429);

    assert_eq!(redis.tell(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    assert_eq!([(); 5].map(|()| ask(&gate, "more").status), [200; 5]);
    assert!(calls(&gate, "failure") >= 5.0);
    assert_eq!(redis.tell(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    assert_eq!([(); 4].map(|()| ask(&gate, "more").status), [200, 200, 200, 429]);
}

#[test]
fn a_store_is_reached_over_tls_with_a_password() {
    let certificates = Certificates::new();
    let own = certificates.issue("redis", "IP:127.0.0.1");
    let ca = certificates.authority().display().to_string();
    let redis = Redis::start(
        &[
            "--tls-cert-file",
            &own.cert,
            "--tls-key-file",
            &own.key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
            "--requirepass",
            "open sesame",
        ],
        true,
    );
    let origin = Origin::saying("ok");
    let password = certificates.folder().join("password");
    std::fs::write(&password, "open sesame\n").expect("a file can be written");
    let there = format!(
        "redis: \"rediss://{}/3\", timeout: 500ms, ca: {ca}, password: {{file: {}}}",
        redis.address(),
        password.display()
    );
    let gates = [(); 2].map(|()| gate(&config(&origin, &there, "{requests: 6, per: 1h}", "")));
    assert_eq!(passed(&gates, "k", 5), 6);

    let other = Certificates::new();
    let wrong = there.replace("/3", "").replace(&ca, &other.authority().display().to_string());
    let wrong = Gate::with(
        Gateway::builder().plugins(gateway_plugins::all()),
        &config(&origin, &wrong, "{requests: 6, per: 1h}", ", on_store_error: refuse"),
    );
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ask(&wrong, "k").status, 503, "nobody knows who that is");
}

#[test]
fn consumers_and_groups_have_limits_of_their_own() {
    let issuer = gateway_tests::Program::start("issuer.py", &[]);
    let url = format!("http://{}", issuer.address());
    let issuer = std::sync::Mutex::new(issuer);
    let (origin, redis) = (Origin::saying("ok"), Redis::start(&[], false));
    let there = at(&redis);
    let text = |store: &str| {
        config(&origin, &there, "{requests: 2, per: 1h}", store)
            .replace("request.header.x-key", "consumer.name")
            .replace(
                "plugins: [",
                &format!(
                    "consumers:\n- {{name: one, groups: [gold]}}\n- {{name: two, groups: [gold]}}\n- {{name: free}}\n\
                     plugins: [{{kind: jwt, options: {{anonymous: true, consumer: {{}}, \
                     issuers: [{{issuer: \"{url}\", jwks: {{discovery: true}}}}]}}}}, "
                ),
            )
    };
    let overrides = ", overrides: [{consumers: [free], limits: []}, {groups: [gold], limits: [{requests: 4, per: 1h}]}]";
    let gate = gate(&text(overrides));
    let status = |name: &str| {
        let claims = format!("token EdDSA {{\"iss\": \"{url}\", \"sub\": \"{name}\"}}");
        let token = issuer.lock().expect("it lives").tell(&claims);
        let fields = format!("Host: a\r\nAuthorization: Bearer {}\r\n", token.trim());
        gate.exchange(format!("GET / HTTP/1.1\r\n{fields}\r\n")).status
    };
    let passed = |name: &str| (0..7).filter(|_| status(name) == 200).count();

    assert_eq!(["one", "two", "free"].map(passed), [4, 4, 7]);
}

#[test]
fn a_cost_that_is_told_later_is_taken_from_all() {
    let (redis, limits) = (Redis::start(&[], false), "{requests: 100, per: 1h}");
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Cost: 60\r\n\r\n");
    let cost = ", cost: {response_header: x-cost}";
    let gates = [(); 2].map(|()| gate(&config(&origin, &at(&redis), limits, cost)));

    let first = ask(&gates[0], "k");
    assert!(first.header("ratelimit").is_some_and(|told| told.starts_with("\"1\";r=40;")));
    assert_eq!(ask(&gates[1], "k").status, 200);
    assert_eq!(ask(&gates[0], "k").status, 429);

    let free = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Cost: 0\r\n\r\n");
    for algorithm in ["gcra", "sliding_window"] {
        let limits = format!("{{requests: 9, per: 1h, algorithm: {algorithm}, name: {algorithm}}}");
        let cost = ", cost: {response_header: x-cost, otherwise: 4}";
        let gate = gate(&config(&free, &at(&redis), &limits, cost));
        for _ in 0..5 {
            let answer = ask(&gate, "free");
            let told = answer.header("ratelimit").unwrap_or_default().to_owned();
            assert!(answer.status == 200 && told.contains(";r=9;"), "{algorithm}: {told}");
        }
    }
}
