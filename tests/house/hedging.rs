//! Requests that are sent a second time while the first attempt has not answered.

use std::time::{Duration, Instant};

use gateway_core::Gateway;
use gateway_tests::{Certificates, Client, Gate, Origin, Program, balanced_config, eventually};

/// The ways to endpoints: what `endpoint.py` is told, and what the gateway is.
const WAYS: [(&[&str], &str); 4] = [
    (&[], ""),
    (&[], "tls"),
    (&["--http2"], "protocol: http2"),
    (&["--alpn", "h2"], "protocol: http2\ntls"),
];

struct House {
    gate: Gate,
    slow: Program,
    quick: Program,
    way: &'static str,
}

/// The wait is long enough that no hiccup of a quick endpoint is taken for slowness.
const HEDGE: &str = "retry: {hedge: {after: 90%, at_least: 150ms}, budget: 100%, backoff: 1ms}";
const HEDGED: &str = r#"gateway_upstream_retries_total{reason="hedge",upstream="origin"}"#;

/// A gateway over two endpoints that are quick, and known to be.
fn house(way: usize, options: &str) -> House {
    house_by(WAYS[way], options)
}

fn house_by((arguments, way): (&[&str], &'static str), options: &str) -> House {
    let certificates = Certificates::new();
    let server = certificates.issue("endpoint", "IP:127.0.0.1");
    let tls: &[&str] = match way.contains("tls") {
        true => &["--tls", &server.cert, &server.key],
        false => &[],
    };
    let [slow, quick] = [0, 1].map(|_| Program::start("endpoint.py", &[tls, arguments].concat()));
    let ca = format!("tls: {{ca: {}}}", certificates.authority().display());
    let options = format!("{}\n{options}", way.replace("tls", &ca));
    let endpoints = [&slow, &quick].map(|one| format!("\"{}\"", one.address()));
    let config = balanced_config(&endpoints, &options);
    let config = config.replace(
        "listeners:",
        "access_log: {output: LOG, format: json, fields: [url.path, attempts, attempt_list, endpoint, failure]}\nlisteners:",
    );
    let house = House { gate: Gate::yaml(&config), slow, quick, way };
    for _ in 0..60 {
        assert_eq!(house.gate.get("/warm").status, 200, "{way}");
    }
    // What is usual is found within a moment.
    std::thread::sleep(Duration::from_millis(1200));
    house
}

impl House {
    /// The records of requests for a path, once there are so many.
    fn records(&self, path: &str, count: usize) -> Vec<serde_json::Value> {
        let read = || {
            let text = std::fs::read_to_string(self.gate.log_path()).unwrap_or_default();
            let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
            lines.filter(|line: &serde_json::Value| line["url.path"] == path).collect::<Vec<_>>()
        };
        eventually("the requests are recorded", || read().len() >= count);
        read()
    }
}

#[test]
fn a_slow_endpoint_is_overtaken_by_another() {
    for way in 0..WAYS.len() {
        let mut house = house(way, HEDGE);
        house.slow.tell("delay 1.5");
        let before = house.gate.metric(HEDGED);

        for _ in 0..6 {
            let began = Instant::now();
            let answer = house.gate.get("/asked");
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{}", house.way);
            assert!(began.elapsed() < Duration::from_millis(800), "{}", house.way);
        }

        let records = house.records("/asked", 6);
        let hedged: Vec<_> = records.iter().filter(|record| record["attempts"] == 2).collect();
        assert_eq!(hedged.len(), 3, "{}: every other one went to the slow one", house.way);
        for record in &hedged {
            let attempts = &record["attempt_list"];
            assert_eq!(attempts[0]["endpoint"], house.slow.address().to_string());
            assert_eq!(
                (&attempts[0]["lost"], &attempts[1]["lost"]),
                (&true.into(), &serde_json::Value::Null)
            );
            assert_eq!(
                (&attempts[1]["status"], &record["endpoint"]),
                (&200.into(), &house.quick.address().to_string().into())
            );
        }
        assert_eq!(house.gate.metric(HEDGED) - before, 3.0);
        let lost = r#"gateway_upstream_attempts_total{outcome="lost",upstream="origin"}"#;
        house.gate.await_metric(lost, 3.0);
        house.gate.await_metric(r#"gateway_upstream_requests_in_flight{upstream="origin"}"#, 0.0);
    }
}

#[test]
fn the_first_attempt_may_still_win() {
    for way in [0, 2] {
        let mut house = house(way, HEDGE);
        house.slow.tell("delay 0.3");
        house.quick.tell("delay 1.5");

        let began = Instant::now();
        // One of two goes to the slow one first, and the other way round.
        (0..2).for_each(|_| assert_eq!(house.gate.get("/asked").status, 200));
        assert!(began.elapsed() < Duration::from_millis(1400), "{:?}", began.elapsed());

        for record in house.records("/asked", 2) {
            assert_eq!(record["attempts"], 2, "{record}");
            assert_eq!(record["endpoint"], house.slow.address().to_string());
            assert_eq!(record["attempt_list"][0]["lost"], true);
        }
    }
}

#[test]
fn bodies_come_whole_and_connections_are_used_again() {
    let whole: String = (0..100_000).map(|number| format!("{number:06}")).collect();
    for way in 0..WAYS.len() {
        let mut house = house(way, HEDGE);
        house.slow.tell("delay 0.4");
        for _ in 0..4 {
            let answer = house.gate.get("/big");
            assert!(answer.text() == whole, "{}: {} bytes", house.way, answer.text().len());
        }
        house.slow.tell("delay 0");
        let connection = |answer: gateway_tests::Response| {
            answer.header("x-connection").unwrap_or_default().parse::<u32>().expect("it is told")
        };
        let last = (0..10).map(|_| connection(house.gate.get("/ok"))).max();
        assert!(last <= Some(6), "{}: {last:?} connections", house.way);
        let mut client = house.gate.client();
        client.send("HEAD /ok HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response_to_head().status, 200, "{}", house.way);
    }
}

/// An endpoint that is told nothing takes the request for what it is told, and does not answer it.
#[test]
fn either_endpoint_is_told_whose_connection_it_is() {
    let ways = [
        (&["--proxy"][..], "proxy_protocol: v1"),
        (&["--proxy", "--http2"], "proxy_protocol: v2\nprotocol: http2"),
    ];
    for way in ways {
        let mut house = house_by(way, HEDGE);
        house.slow.tell("delay 1.5");
        for _ in 0..2 {
            let mut client = Client::connect_from([127, 0, 0, 7], house.gate.address());
            let began = Instant::now();
            client.send("GET /asked HTTP/1.1\r\nHost: a\r\n\r\n");
            let answer = client.response();
            assert!(began.elapsed() < Duration::from_secs(1), "{}", house.way);
            let told = answer.header("x-proxy").unwrap_or_default();
            assert!(told.contains(" 127.0.0.7 ") || told.contains(" 7f000007"), "{told}");
            assert!(answer.header("x-connection").is_some(), "{}", house.way);
        }
        let records = house.records("/asked", 2);
        assert!(records.iter().any(|record| record["attempts"] == 2), "{}", house.way);
    }
}

/// Each is one client's alone: those of clients that are gone would otherwise wait out their time.
#[test]
fn connections_that_say_whose_they_are_do_not_pile_up() {
    let ways = [
        (&["--proxy"][..], "proxy_protocol: v1"),
        (&["--proxy", "--http2"], "proxy_protocol: v2\nprotocol: http2"),
    ];
    for way in ways {
        let house = house_by(way, HEDGE);
        // A client, and so a connection, a request. Those to warm up by were Pingora's.
        (0..400).for_each(|_| assert_eq!(house.gate.get("/ok").status, 200));

        let ports = [&house.slow, &house.quick].map(|one| one.address().port());
        eventually("few are left", || {
            ports.iter().map(|port| open_to(*port)).sum::<usize>() <= 190
        });
        assert!(open_to(ports[0]) > 30, "{}: some are", house.way);
    }
}

/// How many connections are open to a port of 127.0.0.1.
fn open_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let told = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells");
    let remote = format!("0100007F:{port:04X}");
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next() == Some(&remote) && fields.next() == Some(ESTABLISHED)
    };
    told.lines().filter(is_one).count()
}

#[test]
fn what_may_not_be_sent_twice_is_not() {
    let mut house = house(0, HEDGE);
    house.slow.tell("delay 0.5");
    let before = house.gate.metric(HEDGED);
    for _ in 0..2 {
        let post = "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(house.gate.exchange(post).status, 200);
        let get = "GET /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(house.gate.exchange(get).status, 200);
    }
    assert_eq!(house.gate.metric(HEDGED), before);
}

#[test]
fn hedging_stays_within_the_budget() {
    let mut house =
        house(0, "retry: {hedge: {after: 90%}, budget: 10%, budget_minimum: 0, attempts: 1}");
    house.slow.tell("delay 0.2");
    let before = house.gate.metric(HEDGED);
    for _ in 0..40 {
        assert_eq!(house.gate.get("/asked").status, 200);
    }
    let hedged = house.gate.metric(HEDGED) - before;
    assert!((1.0..=10.0).contains(&hedged), "{hedged} of 100 requests");
    assert!(house.gate.total("gateway_upstream_retries_refused_total") > 0.0);
}

#[test]
fn where_both_attempts_hang_the_first_byte_timeout_ends_both() {
    for way in 0..WAYS.len() {
        let mut house =
            house(way, "retry: {hedge: {after: 90%}, attempts: 1}\ntimeouts: {first_byte: 600ms}");
        house.slow.tell("delay 5");
        house.quick.tell("delay 5");
        let began = Instant::now();
        assert_eq!(house.gate.get("/asked").status, 504, "{}", house.way);
        assert!((500..2000).contains(&began.elapsed().as_millis()), "{}", house.way);

        let record = house.records("/asked", 1).remove(0);
        assert_eq!((&record["failure"], &record["attempts"]), (&"X3".into(), &2.into()));
        house.gate.await_metric(r#"gateway_upstream_requests_in_flight{upstream="origin"}"#, 0.0);
    }
}

#[test]
fn a_client_that_leaves_takes_both_attempts_with_it() {
    let mut house = house(0, HEDGE);
    house.slow.tell("delay 5");
    house.quick.tell("delay 5");
    let in_flight = r#"gateway_upstream_requests_in_flight{upstream="origin"}"#;
    let mut client = Client::connect(house.gate.address());
    client.send("GET /asked HTTP/1.1\r\nHost: a\r\n\r\n");
    house.gate.await_metric(in_flight, 2.0);
    drop(client);
    house.gate.await_metric(in_flight, 0.0);
    assert_eq!(house.records("/asked", 1)[0]["failure"], "D1");
}

#[test]
fn an_attempt_that_fails_at_once_leaves_the_other_its_time() {
    let mut house = house(0, HEDGE);
    // The second attempt is refused.
    house.slow.tell("delay 0.5");
    drop(std::mem::replace(&mut house.quick, Program::start("endpoint.py", &[])));
    for _ in 0..4 {
        assert_eq!(house.gate.get("/asked").status, 200);
    }
}

/// Whose fault it was is told of an attempt that failed, and that it lost of one that was slower.
#[test]
fn an_attempt_that_fails_beside_the_other_is_told_as_that() {
    for way in 0..WAYS.len() {
        let mut house = house(way, HEDGE);
        // Both take their time, and then one of them breaks off.
        house.slow.tell("break 0.4");
        house.quick.tell("delay 0.6");
        for _ in 0..2 {
            assert_eq!(house.gate.get("/asked").status, 200, "{}", house.way);
        }
        for record in house.records("/asked", 2) {
            let attempts = record["attempt_list"].as_array().expect("it is a list");
            let told: Vec<_> = attempts
                .iter()
                .map(|one| {
                    (one["endpoint"].as_str(), one["failure"].as_str(), one["lost"].as_bool())
                })
                .collect();
            let (slow, quick) =
                (house.slow.address().to_string(), house.quick.address().to_string());
            let wanted = [(Some(&*slow), Some("X1"), None), (Some(&*quick), None, None)];
            assert_eq!(told, wanted, "{}: {record}", house.way);
        }
        house.gate.await_metric(r#"gateway_upstream_requests_in_flight{upstream="origin"}"#, 0.0);
    }
}

/// An endpoint of chunks, one that says how long it keeps connections, and one with many fields.
#[test]
fn connections_are_used_again_however_the_answer_was_framed() {
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let answer = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
    let chunked = answer("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n");
    let length = "Content-Length: 2\r\n";
    for (answer, again) in [
        (chunked, true),
        (answer(&format!("{length}{many}"), "ok"), true),
        (answer(&format!("{length}Keep-Alive: timeout=0\r\n"), "ok"), false),
    ] {
        let origins = [0, 1].map(|_| Origin::answering(answer.clone()));
        let endpoints = [0, 1].map(|place: usize| format!("\"{}\"", origins[place].address()));
        let gate = Gate::yaml(&balanced_config(&endpoints, HEDGE));
        let connections = || origins.iter().map(Origin::connections).sum::<usize>();
        // Until what is usual is known they are Pingora's.
        (0..60).for_each(|_| assert_eq!(gate.get("/").text(), "ok"));
        std::thread::sleep(Duration::from_millis(1200));
        let before = connections();
        (0..20).for_each(|_| assert_eq!(gate.get("/").text(), "ok"));
        let more = connections() - before;
        assert_eq!(more <= 2, again, "{more} connections for {}", &answer[..60]);
    }
}

/// A plugin that looks at bodies is told that they end, on connections of Pingora's and of the gateway's own.
#[test]
fn plugins_see_the_end_of_bodies_however_they_are_framed() {
    let answer = |fields: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{fields}\r\n{body}")
    };
    let chunked = "b\r\nmail a@b.cd\r\n0\r\n";
    for answer in [
        answer("Transfer-Encoding: chunked\r\n", &format!("{chunked}\r\n")),
        answer("Transfer-Encoding: chunked\r\n", &format!("{chunked}X-Sum: 1\r\n\r\n")),
        answer("Content-Length: 11\r\n", "mail a@b.cd"),
    ] {
        let origins = [0, 1].map(|_| Origin::answering(answer.clone()));
        let endpoints = [0, 1].map(|place: usize| format!("\"{}\"", origins[place].address()));
        let plugin =
            "plugins: [{kind: redaction, options: {surfaces: [response_body]}}]\nlisteners:";
        let config = balanced_config(&endpoints, HEDGE).replace("listeners:", plugin);
        let gate = Gate::with(Gateway::builder().plugins(gateway_plugins::all()), &config);
        (0..60).for_each(|_| assert_eq!(gate.get("/").text(), "mail ***"));
        std::thread::sleep(Duration::from_millis(1200));
        (0..20).for_each(|_| assert_eq!(gate.get("/").text(), "mail ***", "{answer}"));
    }
}

#[test]
fn what_cannot_be_hedged_is_refused() {
    for (options, fault) in [
        ("retry: {hedge: {after: 20%}}", "upstreams[0].retry.hedge.after: from 50% to 99.9%"),
        (
            "retry: {hedge: {}}\nheader_case: preserve",
            "upstreams[0].header_case: the gateway's own",
        ),
    ] {
        let config = balanced_config(&["\"127.0.0.1:1\"".into()], options);
        let checked = gateway_core::Gateway::builder().config_text(config).check();
        let text = checked.err().expect("the config is refused").to_string();
        assert!(text.contains(fault), "{text}");
    }
}
