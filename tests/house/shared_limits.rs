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

/// What came of a request of a key, and when, in seconds.
struct Asked {
    key: usize,
    at: f64,
    passed: bool,
}

/// Asks for all keys in turn through each gateway at the same time, for so many seconds.
fn press(gates: &[Gate], keys: usize, seconds: f64) -> Vec<Asked> {
    let began = Instant::now();
    let one = |gate: &Gate, first: usize| {
        let mut client = gate.client();
        let mut asked = Vec::new();
        for key in (0..keys).cycle().skip(first) {
            let sent = began.elapsed().as_secs_f64();
            if sent >= seconds {
                break;
            }
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n"));
            let passed = match client.response().status {
                200 => true,
                429 => false,
                other => panic!("{other}"),
            };
            asked.push(Asked { key, at: sent.midpoint(began.elapsed().as_secs_f64()), passed });
        }
        asked
    };
    std::thread::scope(|scope| {
        let start = |(index, gate)| scope.spawn(move || one(gate, index * keys / gates.len()));
        let threads: Vec<_> = gates.iter().enumerate().map(start).collect();
        let mut all: Vec<Asked> =
            threads.into_iter().flat_map(|thread| thread.join().expect("it passes")).collect();
        all.sort_by(|one, other| one.at.total_cmp(&other.at));
        all
    })
}

/// How many pass of what was asked when, by a bucket for each key that fills evenly; and how many passed.
fn exact(asked: &[Asked], keys: usize, rate: f64, burst: f64) -> (f64, f64) {
    let mut buckets = vec![(burst, 0.0); keys];
    let (mut expected, mut passed) = (0, 0);
    for Asked { key, at, passed: did } in asked {
        let (tokens, last) = &mut buckets[*key];
        *tokens = (*tokens + (at - *last) * rate).min(burst);
        *last = *at;
        if *tokens >= 1.0 {
            *tokens -= 1.0;
            expected += 1;
        }
        passed += i32::from(*did);
    }
    (f64::from(expected), f64::from(passed))
}

#[test]
fn gateways_agree_with_the_exact_count_over_time() {
    let (origin, redis) = (Origin::saying("ok"), Redis::start(&[], false));
    // With many keys each is asked for more seldom.
    let cases = [(1, "100ms", 20), (10, "1s", 100), (10_000, "1h", 1)];
    for (keys, per, requests) in cases {
        let limits = format!("{{requests: {requests}, per: {per}, burst: {}}}", requests / 4 + 1);
        for count in [1, 4] {
            let prefix = format!(", prefix: at-{keys}-{count}");
            let here = format!("{}{prefix}", at(&redis));
            let config = config(&origin, &here, &limits, "");
            let gates: Vec<Gate> = (0..count).map(|_| gate(&config)).collect();
            let rate = match per {
                "100ms" => 200.0,
                "1s" => 100.0,
                _ => 1.0 / 3600.0,
            };
            let asked = press(&gates, keys, 3.0);
            let (expected, passed) = exact(&asked, keys, rate, f64::from(requests / 4 + 1));
            let off = (passed - expected).abs() / expected;
            let told =
                format!("{keys} keys, {count} gateways: {passed} passed, exactly {expected}");
            println!("{told}, of {}", asked.len());
            assert!(off < 0.01, "{told}");
        }
    }
}

#[test]
fn what_is_leased_is_asked_for_once_and_no_more_pass() {
    let (origin, redis) = (Origin::saying("ok"), Redis::start(&[], false));
    let leased =
        |prefix: &str| format!("{}, prefix: {prefix}, lease: {{requests: 50}}", at(&redis));
    let limits = "{requests: 200, per: 1s, burst: 50}";
    for (keys, count) in [(1, 1), (1, 4), (4, 4)] {
        let text = config(&origin, &leased(&format!("at-{keys}-{count}")), limits, "");
        let gates: Vec<Gate> = (0..count).map(|_| gate(&text)).collect();
        let before: f64 = gates.iter().map(|gate| calls(gate, "success")).sum();
        let asked = press(&gates, keys, 3.0);
        let called = gates.iter().map(|gate| calls(gate, "success")).sum::<f64>() - before;
        let (expected, passed) = exact(&asked, keys, 200.0, 50.0);
        let told = format!("{keys} keys, {count} gateways: {passed} passed, exactly {expected}");
        println!("{told}, {called} calls for {}", asked.len());
        assert!((expected * 0.97..=expected * 1.01).contains(&passed), "{told}");
    }

    // Far from the limit hardly anything is asked, and answers tell what is left.
    let text = config(&origin, &leased("far"), "{requests: 10000, per: 1h, name: a}", "");
    let gates = [(); 2].map(|()| gate(&text));
    let before = calls(&gates[0], "success");
    let told = |answer: &Response| {
        let told = answer.header("ratelimit").unwrap_or_default().to_owned();
        let left = told.strip_prefix("\"a\";r=").and_then(|rest| rest.split(';').next());
        left.and_then(|left| left.parse::<u32>().ok()).expect("it tells what is left")
    };
    for round in 1..=200 {
        let left = told(&ask(&gates[0], "k"));
        // What is leased is no more than is left; time brings some back.
        let exact = 10_000 - round;
        assert!((exact - 1..exact + 20).contains(&left), "{left} in round {round}");
    }
    let called = calls(&gates[0], "success") - before;
    assert!((5.0..=20.0).contains(&called), "{called} calls for 200 requests");
    // What one did not need the other finds again, once it was asked for.
    std::thread::sleep(Duration::from_millis(1100));
    ask(&gates[0], "k");
    let left = told(&ask(&gates[1], "k"));
    // But for what the first holds now.
    assert!(left >= 10_000 - 202 - 50, "{left} are left after 202");
}

#[test]
fn who_is_refused_is_not_asked_about_again() {
    let (origin, redis) = (Origin::saying("ok"), Redis::start(&[], false));
    let here = format!("{}, lease: {{requests: 10}}", at(&redis));
    let limits = "{requests: 5, per: 1h, name: a}";
    let gates = [(); 2].map(|()| gate(&config(&origin, &here, limits, "")));
    assert_eq!(passed(&gates, "k", 10), 5, "a lease takes nothing from who needs it");
    ask(&gates[0], "k");
    let before = calls(&gates[0], "success");
    for _ in 0..50 {
        let refused = ask(&gates[0], "k");
        assert_eq!(refused.status, 429);
        let told = refused.header("ratelimit").unwrap_or_default();
        assert!(told.starts_with("\"a\";r=0;t=3"), "{told}");
        let retry = refused.header("retry-after").expect("it says").parse::<u64>();
        assert!((600..=720).contains(&retry.expect("seconds")));
    }
    assert_eq!(calls(&gates[0], "success") - before, 0.0);
}

#[test]
fn limits_of_different_places_are_different_though_they_are_called_alike() {
    let (origin, redis) = (Origin::saying("ok"), Redis::start(&[], false));
    let plugin = |key: &str, more: &str| {
        format!(
            "plugins: [{{kind: rate-limit, options: {{key: [{key}], limits: [{{requests: 5, per: 1h{more}}}], store: {{{}}}}}}}]",
            at(&redis)
        )
    };
    let text = config(&origin, &at(&redis), "{requests: 5, per: 1h}", "");
    let (head, _) = text.split_once("routes:").expect("it has routes");
    let (before, after) = head.split_once("plugins:").expect("it has plugins");
    let (_, after) = after.split_once('\n').expect("it is one line");
    let text = format!(
        "{before}{after}routes:\n\
         - {{name: one, match: {{path: /one}}, upstream: origin, {}}}\n\
         - {{name: two, match: {{path: /two}}, upstream: origin, {}}}\n\
         - {{name: all, match: {{path: /}}, upstream: origin, {}}}\n",
        plugin("request.header.x-key", ""),
        plugin("request.header.x-key", ", algorithm: sliding_window"),
        plugin("request.header.x-other", ""),
    );
    let gate = gate(&text);
    let ask = |path: &str| {
        let fields = "Host: a\r\nX-Key: k\r\nX-Other: k\r\n";
        gate.exchange(format!("GET {path} HTTP/1.1\r\n{fields}\r\n")).status
    };
    // Each has five, and none gives back what another took.
    let mut passed = [0; 3];
    for _ in 0..8 {
        for (place, path) in ["/one", "/two", "/k"].into_iter().enumerate() {
            passed[place] += usize::from(ask(path) == 200);
        }
    }
    assert_eq!(passed, [5; 3]);
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
