//! Calls of gRPC through a whole gateway, by grpcio at both ends.

use std::sync::Mutex;

use gateway_core::Gateway;
use gateway_tests::{Certificates, Gate, Origin, Program, eventually};

pub(crate) struct House {
    pub(crate) gate: Gate,
    pub(crate) peer: Mutex<Program>,
}

/// A gateway in front of grpcio, with more of the listener, the upstream, and the route.
pub(crate) fn house(listener: &str, upstream: &str, route: &str) -> House {
    let peer = Program::start("grpc_peer.py", &[]);
    let config = format!(
        "version: 1\nserver: {{workers: 2}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"{listener}}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"], protocol: http2{upstream}}}]\n\
         routes:\n- {{name: one, match: {{path: {{exact: /test.Test/Collect}}, methods: [POST]}}, upstream: origin}}\n\
         - {{name: all, match: {{path: /test.Test}}, upstream: origin{route}}}\n",
        peer.address()
    );
    let gate = Gate::with(Gateway::builder().plugins(gateway_plugins::all()), &config);
    House { gate, peer: Mutex::new(peer) }
}

impl House {
    pub(crate) fn tell(&self, line: &str) -> String {
        self.peer.lock().expect("it lives").tell(line).trim().to_owned()
    }

    /// The status of a call, how long it took, and what was said.
    pub(crate) fn call(&self, what: &str) -> (String, f64, String) {
        let (method, rest) = what.split_once(' ').unwrap_or((what, ""));
        let told = self.tell(&format!("call {} {method} {rest}", self.gate.address()));
        let mut words = told.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        (word(), word().parse().unwrap_or(f64::NAN), word())
    }

    pub(crate) fn status(&self, what: &str) -> String {
        self.call(what).0
    }

    /// How a call ended that may have several messages each way: the status, how many came, and what was said.
    pub(crate) fn stream(&self, what: &str) -> String {
        self.tell(&format!("stream {} {what}", self.gate.address()))
    }

    fn counted(&self, route: &str, status: &str) -> f64 {
        let labels = format!("{{grpc_status=\"{status}\",route=\"{route}\"}}");
        self.gate.metric(&format!("gateway_grpc_responses_total{labels}"))
    }
}

#[test]
fn calls_of_all_kinds_pass_with_metadata_and_trailers() {
    let house = house("", "", "");
    assert_eq!(house.tell(&format!("all {}", house.gate.address())), "ok");
    assert_eq!((house.counted("one", "OK"), house.counted("all", "OK")), (2.0, 12.0));
    let line = house.gate.log(14)[0].clone();
    assert_eq!(
        (&line["http.response.status_code"], &line["rpc.grpc.status_code"]),
        (&200.into(), &0.into())
    );

    let ours = Certificates::new();
    let own = ours.issue("own", "DNS:a.test");
    let tls = format!(", tls: {{certificates: [{{cert: {}, key: {}}}]}}", own.cert, own.key);
    let secure = self::house(&tls, "", "");
    let ca = ours.authority();
    assert_eq!(secure.tell(&format!("all {} {}", secure.gate.address(), ca.display())), "ok");
}

#[test]
fn statuses_are_known_with_and_without_a_message_before_them() {
    let house = house("", "", "");
    for (number, name) in
        [(3, "INVALID_ARGUMENT"), (5, "NOT_FOUND"), (14, "UNAVAILABLE"), (16, "UNAUTHENTICATED")]
    {
        let (status, _, said) = house.call(&format!("Fail{number}"));
        assert_eq!((status.as_str(), said.as_str()), (name, "as you like: 100% sûr"));
        assert_eq!(house.status(&format!("Late{number}")), name);
        eventually("both are counted", || house.counted("all", name) == 2.0);
    }
    for line in house.gate.log(8) {
        assert_eq!(line["http.response.status_code"], 200);
        assert!(line["rpc.grpc.status_code"].as_u64().is_some_and(|number| number > 0), "{line}");
    }
}

#[test]
fn a_client_waits_no_longer_than_it_says_and_neither_does_the_gateway() {
    let house = house("", "", ", timeouts: {total: 2s}");
    let (status, took, left) = house.call("Echo 1.5");
    assert_eq!(status, "OK");
    assert!(left.parse::<f64>().is_ok_and(|left| left > 0.5 && left <= 1.5), "{left} of {took}");
    assert_eq!(house.status("Sleep 0.5 3"), "DEADLINE_EXCEEDED");
    // What is configured holds for who waits longer.
    let (status, took, said) = house.call("Sleep 9 4");
    assert_eq!(status, "DEADLINE_EXCEEDED");
    assert!((1.5..3.5).contains(&took) && said == "Gateway Timeout", "{took} {said}");
    let log = house.gate.log(3);
    assert_eq!((&log[2]["failure"], &log[2]["rpc.grpc.status_code"]), (&"X7".into(), &4.into()));
}

#[test]
fn an_answer_that_the_gateway_ends_midway_ends_with_a_status() {
    let house = house("", "", ", timeouts: {total: 1s}");
    assert_eq!(house.stream("Turns 20 x"), "DEADLINE_EXCEEDED 1 Gateway Timeout");
    let line = house.gate.log(1)[0].clone();
    assert_eq!(
        (&line["failure"], &line["rpc.grpc.status_code"], &line["http.response.status_code"]),
        (&"X7".into(), &4.into(), &200.into())
    );
}

#[test]
fn what_the_gateway_answers_itself_is_a_status_of_grpc() {
    let plugins = ", plugins: [{kind: rate-limit, options: {limits: [{requests: 2, per: 1h}]}}]";
    let house = house("", "", plugins);
    assert_eq!(
        [(); 4].map(|()| house.status("Echo")),
        ["OK", "OK", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"]
    );
    assert_eq!(house.tell("seen"), "2");
    let line = house.gate.log(4)[3].clone();
    assert_eq!((&line["failure"], &line["ended_by"]), (&"P6".into(), &"rate-limit".into()));
    // As it goes over the wire; to others it is an answer like before.
    let told = std::process::Command::new("curl")
        .args([
            "-s",
            "-i",
            "--http2-prior-knowledge",
            "-H",
            "content-type: application/grpc+proto",
            "-d",
            "",
        ])
        .arg(format!("http://{}/test.Test/Echo", house.gate.address()))
        .output()
        .expect("curl is installed");
    let told = String::from_utf8_lossy(&told.stdout).to_lowercase();
    for part in [
        "http/2 200",
        "content-type: application/grpc\r\n",
        "grpc-status: 8",
        "grpc-message: too many requests",
        "retry-after: ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(told.ends_with("\r\n\r\n"), "no body: {told}");
    assert_eq!(house.gate.get("/test.Test/Echo").status, 429);
    // Nobody routes there, and nobody is there.
    let nobody = format!("endpoints: [\"{}\"]", Origin::nobody());
    let config = std::fs::read_to_string(house.gate.config_path()).expect("it is there");
    let (before, after) = config.split_once("endpoints: [").expect("it has endpoints");
    let (_, after) = after.split_once(']').expect("they end");
    house.gate.write(&format!("{before}{nobody}{after}").replace("requests: 2", "requests: 200"));
    house.gate.running().reload().expect("the config is good");
    assert_eq!(house.status("Echo"), "UNAVAILABLE");
    let told = house.tell(&format!("call {} ../other.Service/Nothing", house.gate.address()));
    assert!(told.starts_with("UNIMPLEMENTED"), "{told}");
}

#[test]
fn breakers_retries_and_health_count_statuses_of_grpc() {
    let breaker = ", plugins: [{kind: circuit-breaker, options: {minimum: 4, open_for: 1m}}]";
    for call in ["Fail14", "Late13"] {
        let house = house("", "", breaker);
        assert_eq!(house.status("Fail3"), "INVALID_ARGUMENT", "the client's own fault");
        let name = if call == "Fail14" { "UNAVAILABLE" } else { "INTERNAL" };
        let statuses: Vec<String> = (0..6).map(|_| house.status(call)).collect();
        let passed = house.tell("seen").parse::<u32>().expect("a number");
        assert!(statuses[..3].iter().all(|status| status == name), "{statuses:?}");
        assert!((4..=5).contains(&passed), "{passed}: it opens");
        assert_eq!(house.status("Echo"), "UNAVAILABLE", "and refuses");
        assert_eq!(house.gate.log(8)[7]["failure"], "U9");
    }
    // A status without a message is tried again where its like in HTTP is.
    let retrying =
        house("", ", retry: {attempts: 3, on: [503], methods: [POST], budget_minimum: 10}", "");
    assert_eq!(retrying.status("Fail14"), "UNAVAILABLE");
    assert_eq!(retrying.tell("seen"), "3");
    assert_eq!(
        (retrying.status("Fail5"), retrying.status("Late14")),
        ("NOT_FOUND".into(), "UNAVAILABLE".into())
    );
    assert_eq!(retrying.tell("seen"), "5");
    let ejecting =
        house("", ", health: {passive: {failures: 3, eject_for: 1m, max_ejected: 100%}}", "");
    (0..3).for_each(|_| drop(ejecting.status("Fail13")));
    let ejected =
        "gateway_upstream_ejections_total{reason=\"consecutive_failures\",upstream=\"origin\"}";
    eventually("it is ejected", || ejecting.gate.metric(ejected) == 1.0);
}

#[test]
fn copies_of_calls_are_compared_by_the_status_in_their_trailers() {
    let house = house("", "", ", mirror: {upstream: origin, compare: {}}");
    let compared = |outcome: &str, count: f64| {
        let labels = format!("{{outcome=\"{outcome}\",route=\"all\"}}");
        house.gate.await_metric(&format!("gateway_mirror_comparisons_total{labels}"), count);
    };

    assert_eq!(house.status("Echo 5 hello"), "OK");
    compared("same", 1.0);
    assert_eq!(house.status("Late5"), "NOT_FOUND");
    compared("same", 2.0);
    assert_eq!(house.status("Fail5"), "NOT_FOUND");
    compared("same", 3.0);
    // One of the two calls, whichever comes first.
    house.status("Once5");
    compared("status", 1.0);
    assert_eq!(house.tell("seen"), "8");
}
