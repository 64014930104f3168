//! Which endpoint gets a request.

use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Gate, Origin, balanced_config as config};

/// A gateway over these endpoints, with further options of the upstream, one a line.
fn house(endpoints: &[String], options: &str) -> Gate {
    Gate::yaml(&config(endpoints, options))
}

fn addresses(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| format!("\"{}\"", origin.address())).collect()
}

/// Endpoints with further words, such as `weight: 3`.
fn described(origins: &[Origin], words: &[&str]) -> Vec<String> {
    let pairs = origins.iter().zip(words);
    pairs.map(|(origin, words)| format!("{{address: \"{}\", {words}}}", origin.address())).collect()
}

fn balanced(origins: &[Origin], way: &str) -> Gate {
    house(&addresses(origins), &format!("balance: {way}"))
}

fn named() -> [Origin; 3] {
    ["a", "b", "c"].map(Origin::saying)
}

/// Who answers a request with these fields, each with its line's end.
fn asked(gate: &Gate, fields: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let response = gate.exchange(request);
    assert_eq!(response.status, 200);
    response.text()
}

fn given(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(|origin| origin.requests().len()).collect()
}

#[test]
fn turns_are_taken_by_weight() {
    let origins = named();
    let gate = house(&described(&origins, &["weight: 5", "weight: 1", "weight: 1"]), "");

    let answers: String = (0..14).map(|_| asked(&gate, "")).collect();

    assert_eq!(answers, "aabacaaaabacaa");
}

#[test]
fn an_endpoint_that_answers_nothing_gets_hardly_any_requests_if_the_least_busy_is_chosen() {
    let hangs = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_secs(60));
        exchange.close()
    });
    let origins = [Origin::saying("ok"), hangs, Origin::saying("ok")];
    let gate = balanced(&origins, "least_requests");

    // Whoever is sent to the one that hangs waits there; all others go on.
    let (answered, answers) = mpsc::channel();
    for _ in 0..60 {
        let mut client = gate.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answered = answered.clone();
        thread::spawn(move || answered.send(client.response().status));
        if let Ok(status) = answers.recv_timeout(Duration::from_millis(50)) {
            assert_eq!(status, 200);
        }
    }

    let given: Vec<usize> = origins.iter().map(|origin| origin.requests().len()).collect();
    assert!((1..=3).contains(&given[1]), "{given:?}");
    assert_eq!(given.iter().sum::<usize>(), 60, "{given:?}");
}

#[test]
fn chance_leaves_no_endpoint_out() {
    let origins = ["a", "b", "c"].map(Origin::saying);
    let gate = balanced(&origins, "random");
    let mut client = gate.client();

    for _ in 0..300 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }

    // Each is expected 100 times, give or take 8; fewer than 50 is one in a billion.
    let given: Vec<usize> = origins.iter().map(|origin| origin.requests().len()).collect();
    assert!(given.iter().all(|count| *count >= 50), "{given:?}");
}

#[test]
fn a_slow_endpoint_gets_few_requests_where_answers_are_timed() {
    let slow = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_millis(200));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ns")
    });
    let origins = [Origin::saying("a"), slow, Origin::saying("b")];
    let gate = balanced(&origins, "ewma");

    for _ in 0..200 {
        asked(&gate, "");
    }

    let given = given(&origins);
    assert!((1..=4).contains(&given[1]), "{given:?}");
    let told = gate.admin("/upstreams").json()[0]["endpoints"][1]["latency_ms"].as_f64();
    assert!(told.is_some_and(|ms| ms > 100.0), "{told:?}");
}

/// Nobody listens, which is found out at once.
#[test]
fn an_endpoint_that_refuses_at_once_is_not_the_fastest() {
    let origins = [Origin::saying("a"), Origin::saying("b")];
    let mut endpoints = addresses(&origins);
    endpoints.push(format!("\"{}\"", Origin::nobody()));
    let gate = house(&endpoints, "balance: ewma");

    let failed = (0..200).filter(|_| gate.get("/").status != 200).count();

    assert!((1..=4).contains(&failed), "{failed}");
}

#[test]
fn an_endpoint_that_has_only_errors_to_give_is_not_the_fastest() {
    let failing = Origin::answering("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let origins = [Origin::saying("a"), failing, Origin::saying("b")];
    let gate = balanced(&origins, "ewma");

    let failed = (0..200).filter(|_| gate.get("/").status != 200).count();

    assert!((1..=4).contains(&failed), "{failed}");
}

#[test]
fn a_key_stays_at_its_endpoint_through_restarts_and_changes_of_others() {
    let origins = ["a", "b", "c", "d"].map(Origin::saying);
    let all = addresses(&origins);
    let key = |number: u32| format!("X-User: user-{number}\r\n");
    let owners = |gate: &Gate| (0..100).map(|one| asked(gate, &key(one))).collect::<Vec<_>>();
    let options = "balance: {hash: request.header.x-user}";

    let gate = house(&all[..3], options);
    let before = owners(&gate);
    assert_eq!(owners(&gate), before);
    assert_eq!(owners(&house(&all[..3], options)), before, "another gateway agrees");
    for name in ["a", "b", "c"] {
        let share = before.iter().filter(|owner| *owner == name).count();
        assert!(share > 10, "{name} has {share} of 100 keys");
    }

    gate.write(&config(&all, options));
    gate.running().reload().expect("the config is good");
    let after = owners(&gate);

    let moved: Vec<_> = before.iter().zip(&after).filter(|(was, is)| was != is).collect();
    assert!(moved.iter().all(|(_, is)| *is == "d"), "{moved:?}");
    assert!((5..50).contains(&moved.len()), "{moved:?}");
}

#[test]
fn requests_without_the_key_go_anywhere() {
    let origins = named();
    let gate = balanced(&origins, "{hash: request.query.user, max_load: 1.5}");

    for _ in 0..60 {
        asked(&gate, "");
    }

    assert!(given(&origins).iter().all(|count| *count > 3), "{:?}", given(&origins));
}

#[test]
fn a_key_that_cannot_be_known_in_time_is_refused() {
    for (key, fault) in [
        ("request.heder.x-user", "unknown attribute `request.heder.x-user`"),
        ("response.status", "`response.status` is not known before an endpoint is chosen"),
    ] {
        let config = config(&["10.0.0.1:80".to_owned()], &format!("balance: {{hash: {key}}}"));
        let faults = gateway_core::Gateway::builder().config_text(config).check().err();
        let text = faults.expect("the key is refused").to_string();
        assert!(text.contains(fault) && text.contains("upstreams[0].balance.hash"), "{text}");
    }
}

/// The cookie that an answer sets, as a client sends it back.
fn cookie(gate: &Gate, fields: &str) -> (String, Option<String>) {
    let response = gate.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(response.status, 200);
    let set = response.header("set-cookie").map(|set| {
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"), "{set}");
        format!("Cookie: theme=dark; {}\r\n", set.split(';').next().unwrap_or_default())
    });
    (response.text(), set)
}

#[test]
fn a_client_with_a_cookie_stays_where_it_was() {
    let origins = named();
    let options = "sticky: {cookie: gw, ttl: 1h}";
    let gate = house(&addresses(&origins), options);

    for _ in 0..3 {
        let (first, set) = cookie(&gate, "");
        let sent = set.expect("a new client is given a cookie");
        for _ in 0..5 {
            assert_eq!(cookie(&gate, &sent), (first.clone(), None));
        }
        assert_eq!(cookie(&house(&addresses(&origins), options), &sent), (first, None));
    }

    let (_, forged) = cookie(&gate, "Cookie: gw=0123456789abcdef\r\n");
    assert!(forged.is_some(), "what names no endpoint is replaced");
}

#[test]
fn a_client_whose_endpoint_is_gone_is_sent_to_another_and_told() {
    let origins = named();
    let options = "sticky: {cookie: gw, ttl: 1h}";
    let gate = house(&addresses(&origins), options);
    let (first, sent) = cookie(&gate, "");
    let sent = sent.expect("a new client is given a cookie");
    assert_eq!(first, "a");

    gate.write(&config(&addresses(&origins)[1..], options));
    gate.running().reload().expect("the config is good");

    let (second, again) = cookie(&gate, &sent);
    assert_ne!(second, "a");
    let again = again.expect("the client is told of its new endpoint");
    assert_eq!(cookie(&gate, &again), (second, None));
}

#[test]
fn endpoints_that_are_preferred_come_before_the_others_of_their_priority() {
    let origins = ["a", "b", "c", "d"].map(Origin::saying);
    let words =
        ["labels: {zone: x}", "labels: {zone: y}", "priority: 1, labels: {zone: y}", "weight: 2"];
    let endpoints = described(&origins, &words);

    let gate = house(&endpoints, "prefer: {zone: y}");
    let answers: String = (0..8).map(|_| asked(&gate, "")).collect();
    assert_eq!(answers, "bbbbbbbb");

    let gate = house(&endpoints, "");
    let answers: String = (0..8).map(|_| asked(&gate, "")).collect();
    assert!(!answers.contains('c') && answers.contains('a') && answers.contains('d'), "{answers}");
}

#[test]
fn an_endpoint_that_comes_later_warms_up_and_those_of_the_start_do_not() {
    let origins = named();
    let options = "health: {slow_start: 3s}";
    let gate = house(&addresses(&origins[..2]), options);
    let answers: String = (0..4).map(|_| asked(&gate, "")).collect();
    assert_eq!(answers, "abab");

    gate.write(&config(&addresses(&origins), options));
    gate.running().reload().expect("the config is good");
    let began = Instant::now();
    for _ in 0..120 {
        asked(&gate, "");
    }
    let at_first = given(&origins)[2];
    assert!(began.elapsed() < Duration::from_secs(1), "the test itself is slow");
    assert!((1..24).contains(&at_first), "of 120 requests 40 would be fair, not {at_first}");

    thread::sleep(Duration::from_secs(4).saturating_sub(began.elapsed()));
    let before = given(&origins)[2];
    for _ in 0..120 {
        asked(&gate, "");
    }
    assert_eq!(given(&origins)[2] - before, 40);
}

/// The 99th percentile of the time of answers to eight clients over two quick endpoints and one that
/// works through its requests one by one, 10 ms each.
fn slowest(way: &str) -> Duration {
    let turn = Mutex::new(());
    let slow = Origin::scripted(move |exchange| {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        exchange.pause(Duration::from_millis(10));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ns")
    });
    let gate = balanced(&[Origin::saying("a"), slow, Origin::saying("b")], way);
    let end = Instant::now() + Duration::from_millis(1500);
    let ask = |_| {
        let mut client = gate.client();
        thread::spawn(move || {
            let mut times = Vec::new();
            while Instant::now() < end {
                let began = Instant::now();
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                assert_eq!(client.response().status, 200);
                times.push(began.elapsed());
                thread::sleep(Duration::from_millis(2));
            }
            times
        })
    };
    let clients: Vec<_> = (0..8).map(ask).collect();
    let mut times: Vec<Duration> =
        clients.into_iter().flat_map(|client| client.join().expect("a client ends")).collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[test]
fn ways_that_look_at_endpoints_keep_the_slowest_answers_short() {
    let [turns, least, ewma] = ["round_robin", "least_requests", "ewma"].map(slowest);

    println!(
        "p99 with one slow endpoint: {turns:?} in turns, {least:?} least requests, {ewma:?} ewma"
    );
    assert!(least * 2 < turns && ewma * 2 < turns, "{turns:?} {least:?} {ewma:?}");
}
