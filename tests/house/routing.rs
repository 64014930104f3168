//! Which route takes a request, by a table of cases: a real gateway and `explain` give one answer.

use std::sync::Arc;

use gateway_core::Gateway;
use gateway_core::explain::{Explained, Explanation, Question};
use gateway_core::snapshot::Snapshot;
use gateway_tests::{Client, Gate};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

const ROUTES: &str = include_str!("routing/table.yaml");
const CASES: &str = include_str!("routing/table.txt");

/// One line of the table.
struct Case<'a> {
    line: &'a str,
    method: &'a str,
    host: &'a str,
    target: &'a str,
    listener: &'a str,
    fields: Vec<&'a str>,
    expected: &'a str,
}

impl<'a> Case<'a> {
    fn read(line: &'a str) -> Self {
        let (asked, expected) = line.split_once(" => ").expect("a case says what it expects");
        let mut parts = asked.split(" | ");
        let head = parts.next().expect("a case has a request");
        let (head, listener) = head.split_once(" through ").unwrap_or((head, "public"));
        let [method, host, target] = head.split(' ').collect::<Vec<_>>()[..] else {
            panic!("method, host and target: {line}")
        };
        Self { line, method, host, target, listener, fields: parts.collect(), expected }
    }

    fn send(&self, client: &mut Client) -> String {
        let Self { method, host, target, .. } = self;
        let fields: String = self.fields.iter().map(|field| format!("{field}\r\n")).collect();
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        let response = client.next_response(*method == "HEAD");
        match response.status {
            200 if *method == "HEAD" => response.header("x-route").unwrap_or_default().to_owned(),
            200 => response.text(),
            status => status.to_string(),
        }
    }
}

impl Case<'_> {
    fn question(&self) -> Question {
        let fields = self.fields.iter().map(|field| {
            let (name, value) = field.split_once(':').expect("a field has a colon");
            (name.to_owned(), value.trim().to_owned())
        });
        let host = ("Host".to_owned(), self.host.to_owned());
        Question {
            headers: [host].into_iter().chain(fields).collect(),
            listener: Some(self.listener.to_owned()),
            ..Question::new(self.method, self.target)
        }
    }
}

/// What an explanation says that a client would get.
fn answer(explanation: &Explanation) -> String {
    let told = &explanation.told;
    match told.action {
        Explained::Reply => told.route.clone().unwrap_or_default(),
        _ => told.status.map(|status| status.to_string()).unwrap_or_default(),
    }
}

fn offline(config: &str) -> Arc<Snapshot> {
    let gateway = Gateway::builder().plugins(gateway_plugins::all()).config_text(config);
    match gateway.check() {
        Ok(checked) => checked.snapshot,
        Err(faults) => panic!("{faults}"),
    }
}

fn cases() -> impl Iterator<Item = Case<'static>> {
    CASES.lines().filter(|line| line.contains(" => ") && !line.starts_with('#')).map(Case::read)
}

/// The routes, each of which answers with its name.
fn config() -> String {
    let named = |line: &str| match line.trim_start().strip_prefix("- {name: ") {
        Some(rest) if !line.contains("address") => {
            let name = rest.split([',', '}']).next().unwrap_or_default();
            line.replacen(
                "- {",
                &format!("- {{reply: {{body: {name}, headers: {{x-route: {name}}}}}, "),
                1,
            )
        }
        _ => line.to_owned(),
    };
    ROUTES.lines().map(named).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_row_of_the_table_holds_at_a_real_gateway() {
    let gate = Gate::yaml(&config());
    let mut wrong = Vec::new();

    for case in cases() {
        // What is refused may cost the connection.
        let found = case.send(&mut Client::connect(gate.listener(case.listener)));
        if found != case.expected {
            wrong.push(format!("{}, not {found}", case.line));
        }
    }

    assert!(cases().count() >= 120);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_of_the_table_is_explained_as_it_is() {
    let gate = Gate::yaml(&config());
    let (live, offline) = (gate.running().snapshots().load(), offline(&config()));
    let mut wrong = Vec::new();

    // What names another host in its target than in Host is refused before anybody can be asked.
    let cases = cases().filter(|case| !case.target.to_ascii_lowercase().starts_with("http"));
    for case in cases {
        for snapshot in [&live, &offline] {
            let explained = snapshot.explain(&case.question()).map(|told| answer(&told));
            if explained.as_deref() != Ok(case.expected) {
                wrong.push(format!("{}, not {explained:?}", case.line));
            }
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One of these, or nothing.
fn maybe<'a>(random: &mut StdRng, chance: f64, of: &[&'a str]) -> Option<&'a str> {
    if random.gen_bool(chance) { of.choose(random).copied() } else { None }
}

/// A config of random routes, of which those that are tied have priorities of their own.
fn random_config(random: &mut StdRng, tied: bool) -> String {
    let hosts = [
        "[a.b.example]",
        "[b.example, \"*.c.example\"]",
        "[\"*.example\"]",
        "[\"*.b.example\"]",
        "[{regex: \"[a-c]\\\\.b\\\\.example\"}]",
    ];
    let paths = [
        "/a",
        "/a/b",
        "/",
        "{exact: /a}",
        "{exact: /a/b/}",
        "{template: \"/{x}\"}",
        "{template: \"/a/{x}\"}",
        "{template: \"/{x}/b\"}",
        "{template: \"/a/{*rest}\"}",
        "{regex: \"/[ab]/.*\"}",
        "{regex: \"/a.*\"}",
    ];
    let methods = ["[GET]", "[GET, PUT]", "[POST]", "[OPTIONS]", "[PATCH, GET]"];
    let headers = ["{x-v: \"1\"}", "{x-v: \"2\"}", "{x-v: {absent: true}}", "{x-w: {prefix: a}}"];
    let query = ["{q: \"1\"}", "{q: {present: true}, r: \"1\"}"];
    let clients = ["[10.0.0.0/8]", "[127.0.0.0/8]"];
    let whens = ["'request.query.r == \"1\"'", "'request.header[\"x-w\"] == \"ab\"'"];
    let routes = (0..random.gen_range(1..14)).map(|number| {
        let parts = [
            ("hosts", maybe(random, 0.6, &hosts)),
            ("path", maybe(random, 0.9, &paths)),
            ("methods", maybe(random, 0.4, &methods)),
            ("headers", maybe(random, 0.2, &headers)),
            ("query", maybe(random, 0.2, &query)),
            ("clients", maybe(random, 0.1, &clients)),
            ("when", maybe(random, 0.1, &whens)),
            ("listeners", maybe(random, 0.1, &["[public]", "[inner]"])),
        ];
        let parts = parts.iter().filter_map(|(key, part)| Some(format!("{key}: {}", (*part)?)));
        let rules = parts.collect::<Vec<_>>().join(", ");
        let priority = match tied {
            true => number,
            false if random.gen_bool(0.1) => random.gen_range(-1..2),
            false => 0,
        };
        format!("  - {{name: r{number}, match: {{{rules}}}, priority: {priority}}}")
    });
    let routes: Vec<String> = routes.collect();
    let head = ROUTES.split("routes:\n").next().unwrap_or_default();
    let named = routes.iter().map(|route| {
        let name = route.trim_start_matches("  - {name: ").split(',').next().unwrap_or_default();
        let reply = format!("- {{reply: {{body: {name}, headers: {{x-route: {name}}}}}, ");
        route.replacen("- {", &reply, 1)
    });
    format!("{head}routes:\n{}\n", named.collect::<Vec<_>>().join("\n"))
}

fn random_request(random: &mut StdRng) -> String {
    let pick = |random: &mut StdRng, of: &[&'static str]| of.choose(random).copied().unwrap_or("");
    let method = pick(random, &["GET", "PUT", "POST", "OPTIONS", "PATCH", "HEAD"]);
    let host = pick(
        random,
        &["a.b.example", "b.example", "x.c.example", "A.B.Example:80", "q", "c.b.example."],
    );
    let path = pick(
        random,
        &[
            "/",
            "/a",
            "/a/",
            "/a/b",
            "/a/b/",
            "//a//b",
            "/x",
            "/x/b",
            "/b/z",
            "/ab",
            "/a/../b/c",
            "/%61",
            "/a%2Fb",
        ],
    );
    let query = pick(random, &["", "?", "?q=1", "?q", "?q=1&r=1", "?r=1&q=2"]);
    let listener = pick(random, &["", "", " through inner"]);
    let fields = [
        maybe(random, 0.3, &["x-v: 1", "x-v: 2", "x-v: 3"]),
        maybe(random, 0.3, &["x-w: ab", "x-w: b"]),
        maybe(random, 0.2, &["x-forwarded-for: 10.1.1.1"]),
        maybe(random, 0.2, &["origin: http://o | access-control-request-method: PUT"]),
    ];
    let fields: String = fields.iter().flatten().map(|field| format!(" | {field}")).collect();
    format!("{method} {host} {path}{query}{listener}{fields} => ?")
}

#[test]
fn a_gateway_does_what_explain_says_on_random_configs_and_requests() {
    const CONFIGS: usize = 25;
    const REQUESTS: usize = 60;
    let mut random = StdRng::seed_from_u64(7);
    let gate = Gate::yaml(&config());
    let (mut tried, mut routed) = (0, 0);

    while tried < CONFIGS {
        let tied = random.gen_bool(0.3);
        let config = random_config(&mut random, tied);
        // Routes that are tied are refused.
        gate.write(&config);
        if gate.running().reload().is_err() {
            continue;
        }
        tried += 1;
        let snapshot = gate.running().snapshots().load();
        let mut clients = ["public", "inner"].map(|name| Client::connect(gate.listener(name)));
        for _ in 0..REQUESTS {
            let line = random_request(&mut random);
            let case = Case::read(&line);
            let client = &mut clients[usize::from(case.listener == "inner")];
            let (found, told) = (case.send(client), snapshot.explain(&case.question()).unwrap());
            assert_eq!(answer(&told), found, "{line}\n{config}\n{told}");
            routed += usize::from(told.told.route.is_some());
        }
    }

    assert!(routed > CONFIGS * REQUESTS / 4, "{routed} requests had a route");
}

#[test]
fn what_plugins_find_out_or_change_is_told_as_open() {
    let snapshot = offline(
        r#"
version: 1
listeners: [{name: public, address: "127.0.0.1:0"}]
upstreams: [{name: a, endpoints: ["127.0.0.1:1"]}, {name: b, endpoints: ["127.0.0.1:2"]}]
plugins:
  - {kind: ip-restriction, name: before, options: {allow: [10.0.0.0/8]}, when: 'request.header.x-t == "1"'}
  - {kind: headers, options: {request: {set: {x-t: "1"}}}}
  - {kind: ip-restriction, options: {allow: [10.0.0.0/8]}, when: 'request.header.x-t == "1"'}
routes:
  - {name: rewrite, match: {path: /rewrite}, rewrite: {path: "/x/{request.header.x-t}/y"}, upstream: a}
  - {name: redirect, match: {path: /redirect}, redirect: {path: "/x/{consumer.name}/y"}}
  - {name: kept, match: {path: /kept}, split: {sticky: consumer.name, upstreams: [{upstream: a}, {upstream: b}]}}
"#
        .replace("x-t ==", "`x-t` ==")
        .as_str(),
    );
    let told = |path: &str| snapshot.explain(&Question::new("GET", path)).unwrap().told;

    let rewrite = told("/rewrite");
    let acts: Vec<Option<bool>> = rewrite.plugins.iter().map(|plugin| plugin.acts).collect();
    assert_eq!(acts, [Some(false), Some(true), None]);
    assert_eq!(rewrite.plugins[2].waits_for, ["request.header.x-t"]);
    assert_eq!((rewrite.action, rewrite.rewritten_path), (Explained::Upstream, None));
    assert_eq!(rewrite.waits_for, ["request.header.x-t"]);
    let redirect = told("/redirect");
    assert_eq!((redirect.status, redirect.location), (Some(302), None));
    assert_eq!(redirect.waits_for, ["consumer.name"]);
    let kept = told("/kept");
    assert!(kept.upstream.is_none());
    assert_eq!(kept.waits_for, ["consumer.name"]);
}

#[test]
fn heads_that_a_gateway_refuses_are_told_to_be() {
    let gate = Gate::yaml(&config().replace(
        "address: \"127.0.0.1:0\", trusted",
        "address: \"127.0.0.1:0\", limits: {header_bytes: 2KiB}, trusted",
    ));
    let snapshot = gate.running().snapshots().load();
    let long = format!("/api?{}", "x".repeat(4000));

    for (target, fields) in [
        (long.as_str(), ""),
        ("/api", "Host: other\r\n"),
        ("/api", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("/api", "Expect: x\r\n"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let status = Client::connect(gate.listener("public")).send(request).response().status;
        let mut question = Question::new("GET", target);
        let all = format!("Host: h\r\n{fields}");
        let fields = all.lines().filter_map(|line| line.split_once(": "));
        question.headers = fields.map(|(name, value)| (name.into(), value.into())).collect();
        let told = snapshot.explain(&question).unwrap().told;
        assert_eq!(told.status, Some(status), "{target} {all}");
        assert_eq!(told.route, None);
    }
}
