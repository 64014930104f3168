use std::time::Duration;

use gateway_core::plugin::testing::{Outcome, PluginTest};

use super::limit::{Limit, Way};
use super::table::Table;
use super::*;

fn faults(options: &str) -> String {
    PluginTest::<RateLimit>::faults(options).join("\n")
}

async fn statuses(test: &PluginTest<RateLimit>, client: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(test.get("/").client(client).send().await.status());
    }
    statuses
}

fn field(answer: &Outcome, name: &str) -> String {
    answer.header(name).unwrap_or_default()
}

#[tokio::test]
async fn each_client_has_a_bucket() {
    let test = PluginTest::<RateLimit>::yaml("{limits: [{requests: 2, per: 1m}]}");
    assert_eq!(statuses(&test, "192.0.2.1", 4).await, [200, 200, 429, 429]);
    assert_eq!(statuses(&test, "192.0.2.2", 3).await, [200, 200, 429]);
}

#[tokio::test]
async fn answers_tell_what_is_left() {
    let test = PluginTest::<RateLimit>::yaml(
        "{limits: [{requests: 2, per: 1m, name: minute}, {requests: 100, per: 1h, algorithm: sliding_window}], fields: both}",
    );
    let first = test.get("/").send().await;
    assert_eq!(field(&first, "ratelimit-policy"), "\"minute\";q=2;w=60, \"2\";q=100;w=3600");
    let told = field(&first, "ratelimit");
    assert!(told.starts_with("\"minute\";r=1;t=30, \"2\";r=99;t="), "{told}");
    assert_eq!(field(&first, "x-ratelimit-limit"), "2");
    assert_eq!(field(&first, "x-ratelimit-remaining"), "1");
    assert_eq!(field(&first, "x-ratelimit-reset"), "30");
    test.get("/").send().await;
    let refused = test.get("/").send().await;
    assert_eq!((refused.status(), refused.failure()), (429, Some(FailureCode::P6)));
    assert_eq!(field(&refused, "retry-after"), "30");
    let told = field(&refused, "ratelimit");
    assert_eq!(told, "\"minute\";r=0;t=60", "{told}");
    let none = PluginTest::<RateLimit>::yaml("{limits: [{requests: 2, per: 1m}], fields: none}");
    assert_eq!(none.get("/").send().await.header("ratelimit"), None);
}

#[tokio::test]
async fn what_one_limit_refuses_counts_in_none() {
    let test = PluginTest::<RateLimit>::yaml(
        "{limits: [{requests: 100, per: 1h}, {requests: 1, per: 1h, name: few}]}",
    );
    statuses(&test, "192.0.2.1", 20).await;
    let refused = test.get("/").client("192.0.2.1").send().await;
    assert!(
        field(&refused, "ratelimit").starts_with("\"1\";r=99;"),
        "{refused:?}",
        refused = field(&refused, "ratelimit")
    );
}

#[tokio::test]
async fn a_key_may_be_missing() {
    let ask = |missing: &'static str| async move {
        let options = format!(
            "{{key: [request.header.x-user], missing: {missing}, limits: [{{requests: 1, per: 1h}}]}}"
        );
        let test = PluginTest::<RateLimit>::yaml(&options);
        let mut statuses = Vec::new();
        for user in [None, None, Some("a"), Some("a"), Some("b"), Some("")] {
            let request = test.get("/");
            let request = match user {
                Some(user) => request.header("X-User", user),
                None => request,
            };
            statuses.push(request.send().await.status());
        }
        statuses
    };
    assert_eq!(ask("share").await, [200, 429, 200, 429, 200, 200]);
    assert_eq!(ask("skip").await, [200, 200, 200, 429, 200, 200]);
    assert_eq!(ask("refuse").await, [400, 400, 200, 429, 200, 200]);
}

#[tokio::test]
async fn parts_of_a_key_are_told_apart() {
    let test = PluginTest::<RateLimit>::yaml(
        "{key: [request.header.a, request.header.b], limits: [{requests: 1, per: 1h}]}",
    );
    for (a, b, status) in
        [("x", "yz", 200), ("xy", "z", 200), ("x", "yz", 429), ("", "xyz", 200), ("xyz", "", 200)]
    {
        let answer = test.get("/").header("a", a).header("b", b).send().await;
        assert_eq!(answer.status(), status, "{a} {b}");
    }
}

#[tokio::test]
async fn requests_may_cost_more_than_one() {
    let test = PluginTest::<RateLimit>::yaml("{limits: [{requests: 10, per: 1h}], cost: 4}");
    assert_eq!(statuses(&test, "192.0.2.1", 3).await, [200, 200, 429]);
}

#[tokio::test]
async fn without_room_a_new_key_meets_what_is_configured() {
    for (on_full, expected) in [("allow", 200), ("refuse", 429)] {
        let options =
            format!("{{limits: [{{requests: 1, per: 1h}}], keys: 1, on_full: {on_full}}}");
        let test = PluginTest::<RateLimit>::yaml(&options);
        let mut last = 0;
        for client in 0..200 {
            last = statuses(&test, &format!("192.0.2.{client}"), 1).await[0];
        }
        assert_eq!(last, expected, "{on_full}");
        assert_eq!(statuses(&test, "192.0.2.0", 1).await, [429], "{on_full}: it keeps its place");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (options, fault) in [
        ("{limits: []}", "limits"),
        ("{limits: [{requests: 0, per: 1s}]}", "limits[0].requests"),
        ("{limits: [{requests: 1, per: 0s}]}", "limits[0].per: from 1ms to 31d"),
        ("{limits: [{requests: 1, per: 32d}]}", "limits[0].per: from 1ms to 31d"),
        ("{limits: [{requests: 10000, per: 1ms}]}", "limits[0].requests: more than a million"),
        ("{limits: [{requests: 5, per: 1s, name: a b}]}", "limits[0].name: letters"),
        (
            "{limits: [{requests: 5, per: 1s, name: a}, {requests: 5, per: 1m, name: a}]}",
            "limits[1].name: another limit",
        ),
        (
            "{limits: [{requests: 5, per: 1s, algorithm: sliding_window, burst: 2}]}",
            "limits[0].burst: a sliding window has none",
        ),
        ("{limits: [{requests: 5, per: 1s}], cost: 6}", "limits[0]: no request can pass"),
        ("{key: [client.name], limits: [{requests: 5, per: 1s}]}", "key[0]: "),
        (
            "{key: [response.status], limits: [{requests: 5, per: 1s}]}",
            "key[0]: `response.status` is not known",
        ),
    ] {
        let told = faults(options);
        assert!(told.contains(fault), "{options}: {told}");
    }
}

/// Against an exact oracle: what passes in a long time of random arrivals.
#[test]
fn what_passes_is_what_an_exact_count_lets_pass() {
    const SECOND: u64 = 1_000_000_000;
    for keys in [1_u64, 10, 10_000] {
        let limit = Limit::new(Way::Gcra, 10, Duration::from_secs(1), Some(5));
        let table = Table::new(limit, usize::try_from(keys).unwrap());
        // What each key has, in requests, as a bucket that fills evenly has it.
        let mut oracle = vec![(5.0_f64, 0_u64); usize::try_from(keys).unwrap()];
        let (mut passed, mut expected) = (0_u64, 0_u64);
        let mut random = 88_172_645_463_325_252_u64;
        let mut now = 1000 * SECOND;
        for _ in 0..400_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            now += random % (2 * SECOND / 15 / keys);
            let key = (random >> 32) % keys;
            // Spread as a hash would be.
            let hash = (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            passed += u64::from(matches!(table.take(hash, 1, now), Ok(Ok(_))));
            let (tokens, last) = &mut oracle[usize::try_from(key).unwrap()];
            let elapsed = if *last == 0 { 0.0 } else { (now - *last) as f64 / SECOND as f64 };
            *tokens = (*tokens + elapsed * 10.0).min(5.0);
            *last = now;
            if *tokens >= 1.0 {
                *tokens -= 1.0;
                expected += 1;
            }
        }
        let ratio = passed as f64 / expected as f64;
        assert!((0.99..=1.01).contains(&ratio), "{keys} keys: {passed} of {expected}");
    }
}

#[tokio::test]
async fn a_request_costs_what_a_fact_says() {
    let test = PluginTest::<RateLimit>::yaml(
        "{limits: [{requests: 100, per: 1h}], cost: {attribute: request.header.x-cost, otherwise: 3, most: 50}}",
    );
    for (cost, remaining) in [
        ("10", 90),
        ("none", 87),
        ("-1", 84),
        ("", 81),
        ("0", 80),
        ("99999999999999999999999", 30),
        ("29", 1),
    ] {
        let answer = test.get("/").header("x-cost", cost).send().await;
        assert!(
            field(&answer, "ratelimit").starts_with(&format!("\"1\";r={remaining};")),
            "{cost}"
        );
    }
    assert_eq!(test.get("/").send().await.status(), 429);
    assert_eq!(test.get("/").header("x-cost", "1").send().await.status(), 200);
}

#[tokio::test]
async fn a_request_costs_what_its_answer_says() {
    for algorithm in ["gcra", "sliding_window"] {
        let test = PluginTest::<RateLimit>::yaml(&format!(
            "{{limits: [{{requests: 100, per: 1h, algorithm: {algorithm}}}], cost: {{response_header: x-cost, most: 60}}}}",
        ));
        let remaining = |answer: &Outcome| {
            let told = field(answer, "ratelimit");
            told.split("r=").nth(1).and_then(|rest| rest.split(';').next()).map(str::to_owned)
        };
        for (cost, left) in [("40", "60"), ("nothing", "59"), ("0", "59"), ("999", "0")] {
            let answer = test.get("/").upstream_header("x-cost", cost).send().await;
            assert_eq!(
                (answer.status(), remaining(&answer).as_deref()),
                (200, Some(left)),
                "{cost}"
            );
        }
        // What is owed has to come back first.
        assert_eq!(test.get("/").send().await.status(), 429, "{algorithm}");
    }
}

#[test]
fn stores_costs_and_overrides_that_cannot_be_are_refused() {
    for (options, place, said) in [
        ("cost: {attribute: request.nothing}", "cost.attribute", "unknown attribute"),
        ("cost: {attribute: response.status}", "cost.attribute", "response_header"),
        ("cost: {response_header: 'a b'}", "cost.response_header", "no name"),
        ("cost: {}", "cost", "exactly one"),
        ("cost: {response_header: a, otherwise: 9, most: 3}", "cost.otherwise", "more than `most`"),
        ("cost: 0", "cost", "1"),
        ("overrides: [{limits: []}]", "overrides[0]", "for whom"),
        ("overrides: [{consumers: [nobody], limits: []}]", "consumers[0]", "no consumer `nobody`"),
        ("overrides: [{groups: [none], limits: []}]", "groups[0]", "in a group `none`"),
        ("store: {redis: nowhere}", "store.redis", "no URL"),
        ("store: {redis: 'redis://:secret@127.0.0.1/'}", "store.redis", "write `password`"),
        ("store: {redis: 'redis://127.0.0.1/', timeout: 1h}", "store.timeout", "10s"),
        (
            "store: {redis: 'redis://127.0.0.1/', password: {env: NOT_SET_AT_ALL}}",
            "store.password",
            "not set",
        ),
        ("store: {redis: 'rediss://127.0.0.1/', ca: /nowhere.pem}", "store.ca", "cannot be read"),
        ("store: {redis: 'redis://127.0.0.1/', lease: {}}", "store.lease", "requests"),
        (
            "store: {redis: 'redis://127.0.0.1/', lease: {requests: 5, for: 2m}}",
            "store.lease.for",
            "from 10ms",
        ),
        (
            "cost: {response_header: a}, store: {redis: 'redis://127.0.0.1/', lease: {requests: 5}}",
            "store.lease",
            "cost the same",
        ),
    ] {
        let all = faults(&format!("{{limits: [{{requests: 10, per: 1s}}], {options}}}"));
        assert!(
            all.contains(&format!("options.{place}")) && all.contains(said)
                || all.contains(place) && all.contains(said),
            "{options}: {all}"
        );
    }
}
