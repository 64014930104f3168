//! The limiter in a whole gateway.

use std::time::{Duration, Instant};

use gateway_core::Gateway;
use gateway_tests::{Client, Gate, Origin};

fn config(origin: &Origin, options: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 2}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         plugins: [{{kind: rate-limit, options: {options}}}]\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.9/32]}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes:\n- {{name: free, match: {{path: /free}}, disable: [rate-limit], upstream: origin}}\n\
         - {{name: all, match: {{path: /}}, upstream: origin}}\n",
        origin.address()
    )
}

fn gate(config: &str) -> Gate {
    Gate::with(Gateway::builder().plugins(gateway_plugins::all()), config)
}

/// How many of so many requests pass, made by several clients at a time on connections that stay.
fn passed(gate: &Gate, clients: usize, requests: usize) -> usize {
    std::thread::scope(|scope| {
        let one = || {
            let mut client = gate.client();
            let pass = |_: &usize| {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                match client.response().status {
                    200 => true,
                    429 => false,
                    other => panic!("{other}"),
                }
            };
            (0..requests).filter(pass).count()
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it passes")).sum()
    })
}

#[test]
fn exactly_so_many_pass_whichever_worker_serves_them() {
    let origin = Origin::saying("ok");
    let gate = gate(&config(&origin, "{limits: [{requests: 37, per: 1h}]}"));

    assert_eq!(passed(&gate, 6, 20), 37);

    assert_eq!(origin.requests().len(), 37, "what is refused goes nowhere");
    assert_eq!(gate.total("gateway_plugin_replies_total"), 120.0 - 37.0);
    let refused = gate.get("/");
    assert_eq!(
        (refused.status, refused.header("ratelimit-policy")),
        (429, Some("\"1\";q=37;w=3600"))
    );
    assert!(refused.header("retry-after").is_some());
    let line = gate.log(121)[120].clone();
    assert_eq!((&line["failure"], &line["ended_by"]), (&"P6".into(), &"rate-limit".into()));
    assert_eq!(gate.get("/free").status, 200);
    let mut other = Client::connect_from([127, 0, 0, 3], gate.address());
    other.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(other.response().status, 200, "another client");
}

#[test]
fn a_limit_that_is_tried_refuses_nobody() {
    let origin = Origin::saying("ok");
    let gate = gate(&config(&origin, "{limits: [{requests: 3, per: 1h}], dry_run: true}"));
    let decided = |decision: &str| {
        let series = format!(
            "gateway_limiter_decisions_total{{decision=\"{decision}\",plugin=\"rate-limit\"}}"
        );
        gate.metric(&series)
    };

    assert_eq!(passed(&gate, 2, 5), 10);
    assert_eq!(gate.get("/").header("ratelimit"), None);
    assert_eq!([decided("allowed"), decided("would_limit"), decided("limited")], [3.0, 8.0, 0.0]);

    gate.write(&config(&origin, "{limits: [{requests: 3, per: 1h}]}"));
    gate.running().reload().expect("the config is good");
    assert_eq!(passed(&gate, 1, 2), 0, "what was counted counts");
    assert_eq!(decided("limited"), 2.0);
}

#[test]
fn what_is_counted_outlives_a_reload_that_leaves_the_limit() {
    let origin = Origin::saying("ok");
    let options = "{limits: [{requests: 5, per: 1h}]}";
    let gate = gate(&config(&origin, options));
    let reload = |options: &str| {
        gate.write(&config(&origin, options));
        gate.running().reload().expect("the config is good");
    };

    assert_eq!(passed(&gate, 1, 4), 4);
    reload("{limits: [{requests: 5, per: 1h}], fields: legacy}");
    assert_eq!(passed(&gate, 1, 4), 1);
    reload("{limits: [{requests: 6, per: 1h}]}");
    assert_eq!(passed(&gate, 1, 10), 6, "another limit begins anew");
}

#[test]
fn a_rate_is_kept_under_constant_load() {
    let origin = Origin::saying("ok");
    for (algorithm, most) in [("gcra", 20.0), ("sliding_window", 100.0)] {
        let limit = match algorithm {
            "gcra" => "{requests: 100, per: 1s, burst: 20}",
            _ => "{requests: 100, per: 1s, algorithm: sliding_window}",
        };
        let gate = gate(&config(&origin, &format!("{{limits: [{limit}]}}")));
        let began = Instant::now();
        let mut count = 0;
        while began.elapsed() < Duration::from_millis(2500) {
            count += passed(&gate, 2, 10);
        }
        let seconds = began.elapsed().as_secs_f64();
        let expected = seconds * 100.0;
        // While the machine pauses nobody asks.
        let range = expected * 0.8 - 20.0..=expected * 1.01 + most;
        assert!(range.contains(&(count as f64)), "{algorithm}: {count} in {seconds} s");
    }
}
