//! What `explain` says, held against what a gateway does: connections that are secured, plugins that answer, and nothing
//! that is secret.

use std::process::Command;

use gateway_core::Gateway;
use gateway_core::explain::{Expectation, Explained, Explanation, Question};
use gateway_tests::{Certificates, Gate, gateway_binary};

fn gate(config: &str) -> Gate {
    Gate::with(Gateway::builder().plugins(gateway_plugins::all()), config)
}

fn explain(gate: &Gate, question: &Question) -> Explanation {
    let told = gate.running().snapshots().load().explain(question);
    told.unwrap_or_else(|error| panic!("{question:?}: {error}"))
}

/// The route that an explanation names, or the status without one.
fn outcome(told: &Explanation) -> String {
    let status = told.told.status.map(|status| status.to_string());
    match told.told.action {
        Explained::Reply => told.told.route.clone().unwrap_or_default(),
        _ => status.unwrap_or_default(),
    }
}

/// A listener with TLS for two names that share no certificate, of which one asks for a client's.
fn secured(certificates: &Certificates) -> Gate {
    let issue = |name: &str| {
        let issued = certificates.issue(name, &format!("DNS:{name}"));
        format!("{{cert: {}, key: {}}}", issued.cert, issued.key)
    };
    let ca = certificates.authority().display().to_string();
    gate(&format!(
        r#"version: 1
server: {{workers: 1}}
access_log: {{output: "off"}}
listeners:
  - name: public
    address: "127.0.0.1:0"
    tls: {{certificates: [{}, {}], client_auth: [{{ca: "{ca}", mode: optional}}]}}
routes:
  - {{name: partner, match: {{path: /c, when: '"DNS:partner" in tls.client.san'}}, reply: {{body: partner}}}}
  - {{name: stranger, match: {{path: /c}}, reply: {{body: stranger}}}}
  - {{name: old, match: {{path: /v, when: 'tls.version == "TLSv1.2"'}}, reply: {{body: old}}}}
  - {{name: new, priority: 1, match: {{path: /v, when: 'tls.version == "TLSv1.3"'}}, reply: {{body: new}}}}
  - {{name: named, match: {{path: /n, when: 'tls.server_name == "one.test"'}}, reply: {{body: named}}}}
  - {{name: http2, match: {{path: /p, when: 'request.protocol == "HTTP/2"'}}, reply: {{body: http2}}}}
  - {{name: http1, priority: 1, match: {{path: /p, when: 'request.protocol == "HTTP/1.1"'}}, reply: {{body: http1}}}}
  - {{name: traced, match: {{path: /t, when: 'has(trace.id)'}}, reply: {{body: traced}}}}
"#,
        issue("one.test"),
        issue("two.test"),
    ))
}

/// What curl gets of `https://one.test`: the body of a 200, else the status.
fn curl(gate: &Gate, certificates: &Certificates, path: &str, more: &[&str]) -> String {
    let port = gate.address().port();
    let ca = certificates.authority().display().to_string();
    let told = Command::new("curl")
        .args(["-s", "-w", "|%{http_code}", "--max-time", "10", "--http1.1"])
        .args(["--resolve", &format!("one.test:{port}:127.0.0.1"), "--cacert", &ca])
        .args(more)
        .arg(format!("https://one.test:{port}{path}"))
        .output()
        .expect("curl is installed");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    match told.rsplit_once('|') {
        Some((body, "200")) => body.to_owned(),
        Some((_, status)) => status.to_owned(),
        None => told,
    }
}

#[test]
fn what_tls_says_of_a_client_decides_as_it_does_for_traffic() {
    let certificates = Certificates::new();
    let gate = secured(&certificates);
    let partner = certificates.issue("partner", "DNS:partner");
    let shown = ["--cert", &partner.cert.to_string(), "--key", &partner.key.to_string()];

    for (path, more, given, expected) in [
        ("/c", &[][..], &[][..], "stranger"),
        ("/c", &shown, &[("tls.client.san", "DNS:partner")], "partner"),
        ("/v", &[], &[], "new"),
        ("/v", &["--tls-max", "1.2"], &[("tls.version", "TLSv1.2")], "old"),
        ("/n", &[], &[], "named"),
        ("/p", &[], &[], "http1"),
        ("/p", &["--http2"], &[("request.protocol", "HTTP/2")], "http2"),
        ("/t", &[], &[], "traced"),
        ("/x", &[], &[], "404"),
        ("/t", &["-H", "Host: two.test"], &[], "421"),
        // It would be shown the same certificate.
        ("/t", &["-H", "Host: other.test"], &[], "traced"),
    ] {
        let mut question = Question::new("GET", &format!("https://one.test{path}"));
        question.given =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        if let ["-H", field] = more {
            let (name, value) = field.split_once(": ").expect("it is a field");
            question.headers.push((name.to_owned(), value.to_owned()));
        }

        assert_eq!(curl(&gate, &certificates, path, more), expected, "{path} {more:?}");
        assert_eq!(outcome(&explain(&gate, &question)), expected, "{question:?}");
    }
}

#[test]
fn a_question_that_cannot_be_asked_says_why() {
    let certificates = Certificates::new();
    let gate = secured(&certificates);
    let snapshot = gate.running().snapshots().load();
    let refused = |url: &str, given: &[(&str, &str)]| {
        let mut question = Question::new("GET", url);
        question.given =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        snapshot.explain(&question).expect_err("it is refused").to_string()
    };

    assert_eq!(
        refused("http://one.test/", &[]),
        "no listener speaks http; what a proxy in front says is a field, as `x-forwarded-proto: https`"
    );
    assert!(
        refused("https://one.test/", &[("tls.version", "TLSv1.0")]).contains("there is TLSv1.2")
    );
    assert!(refused("https://one.test/", &[("tls.name", "x")]).contains("there is tls.version"));
    assert!(refused("https://one.test/", &[("request.protocol", "HTTP/3")]).contains("HTTP/2"));
    assert!(refused("https://one.test/", &[("client.ip", "::1")]).contains("request.protocol"));
    let plain = gate_with("routes: [{name: r, reply: {}}]");
    let port = plain.address().port();
    let snapshot = plain.running().snapshots().load();
    let told = |url: &str| snapshot.explain(&Question::new("GET", url)).map(|told| outcome(&told));
    assert!(
        told("https://a.test/").is_err_and(|error| error.to_string().starts_with("no listener"))
    );
    // What is asked of the very port of a listener is asked of that one.
    let own = format!("https://a.test:{port}/");
    assert!(port == 0 || told(&own).is_err(), "{own}");
    assert_eq!(told("http://a.test:1/"), Ok("r".to_owned()));
}

fn gate_with(rest: &str) -> Gate {
    gate(&format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: \"off\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", limits: {{body_bytes: 100B}}}}]\n{rest}\n"
    ))
}

#[test]
fn a_plugin_that_answers_is_told_with_its_answer() {
    let gate = gate_with(
        r#"
routes:
  - {name: denied, match: {path: /denied}, plugins: [{kind: ip-restriction, options: {deny: [127.0.0.0/8]}}], reply: {}}
  - {name: allowed, match: {path: /allowed}, plugins: [{kind: ip-restriction, options: {allow: [127.0.0.0/8]}}], reply: {}}
  - {name: cors, match: {path: /cors}, plugins: [{kind: cors, options: {origins: ["https://a.test"]}}], reply: {}}
  - {name: short, match: {path: /short}, plugins: [{kind: body-limit, options: {max: 10B}}], reply: {}}
  - {name: key, match: {path: /key}, plugins: [{kind: key-auth}, {kind: ip-restriction, options: {deny: [127.0.0.0/8]}}], reply: {}}
  - name: later
    match: {path: /later}
    plugins: [{kind: key-auth, when: 'request.method == "PUT"'}, {kind: ip-restriction, options: {deny: [127.0.0.0/8]}}]
    reply: {}
"#,
    );
    let preflight = [("origin", "https://a.test"), ("access-control-request-method", "PUT")];

    for (method, path, fields, status, by, unless) in [
        ("GET", "/denied", &[][..], 403, Some("ip-restriction"), ""),
        ("GET", "/allowed", &[], 200, None, ""),
        ("OPTIONS", "/cors", &preflight, 204, Some("cors"), ""),
        ("GET", "/cors", &preflight[..1], 200, None, ""),
        ("POST", "/short", &[("content-length", "11")], 413, Some("body-limit"), ""),
        ("POST", "/allowed", &[("content-length", "101")], 413, None, ""),
        ("GET", "/later", &[], 403, Some("ip-restriction"), ""),
        ("CONNECT", "/allowed", &[], 405, None, ""),
        // Without a key it is 401; with one the address decides.
        ("GET", "/key", &[], 403, Some("ip-restriction"), "key-auth"),
    ] {
        let mut question = Question::new(method, &format!("http://a.test{path}"));
        question.headers =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let explanation = explain(&gate, &question);
        let fields: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = question.headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.map_or(0, |(_, length)| length.parse().expect("a number"));
        let body = "x".repeat(length);
        let sent = gate
            .exchange(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}"));

        let told = &explanation.told;
        assert_eq!((told.status, told.by.as_deref()), (Some(status), by), "{method} {path}");
        assert_eq!(told.unless.join(","), unless, "{method} {path}");
        let expected: Expectation = format!("status={status}").parse().expect("it is one");
        match unless {
            "" => {
                assert_eq!(sent.status, status, "{method} {path}");
                assert_eq!(expected.check(&explanation), Ok(()));
            }
            _ => {
                assert_eq!(sent.status, 401);
                let open = expected.check(&explanation).expect_err("it is open");
                assert!(open.contains("unless key-auth answers before"), "{open}");
            }
        }
    }
}

#[test]
fn what_a_plugin_decides_is_open_where_another_changes_what_it_decides_by() {
    let gate = gate_with(
        r#"
plugins:
  - {kind: request-id}
  - {kind: headers, options: {request: {remove: [origin]}}}
  - {kind: cors, options: {origins: ["https://a.test"], others: refuse}}
  - {kind: ip-restriction, options: {allow: [127.0.0.0/8]}}
routes:
  - {name: r, match: {path: /a}, reply: {}}
  - name: limited
    match: {path: /l}
    plugins: [{kind: rate-limit, options: {limits: [{requests: 5, per: 1s}], key: [request.header.x-tenant], missing: refuse}}]
    reply: {}
"#,
    );
    let mut question = Question::new("GET", "http://a.test/a");
    question.headers.push(("origin".to_owned(), "https://other.test".to_owned()));

    let told = explain(&gate, &question).told;
    assert_eq!((told.status, &*told.unless.join(",")), (Some(200), "cors"));
    let sent =
        gate.exchange("GET /a HTTP/1.1\r\nHost: a.test\r\nOrigin: https://other.test\r\n\r\n");
    assert_eq!(sent.status, 200);
    let limited = explain(&gate, &Question::new("GET", "http://a.test/l")).told;
    assert_eq!(limited.unless, ["cors", "rate-limit"]);
    assert_eq!(gate.exchange("GET /l HTTP/1.1\r\nHost: a.test\r\n\r\n").status, 400);
}

#[test]
fn what_a_plugin_leaves_alone_is_known_behind_it() {
    let gate = gate_with(
        r#"
plugins:
  - {kind: request-id}
  - {kind: headers, options: {request: {set: {x-tenant: t1}}}}
upstreams: [{name: a, endpoints: ["127.0.0.1:1"]}, {name: b, endpoints: ["127.0.0.1:1"]}]
routes:
  - {name: page, match: {path: /page}, redirect: {path: "/n/{request.query.page}"}}
  - {name: tenant, match: {path: /tenant}, redirect: {path: "/t/{request.header.x-tenant}"}}
  - name: capture
    match: {path: {template: "/c/{id}"}}
    split: {upstreams: [{upstream: a}, {upstream: b}], sticky: request.capture.id}
"#,
    );
    let told = |path: &str| explain(&gate, &Question::new("GET", path)).told;

    assert_eq!(told("/page?page=3").location.as_deref(), Some("/n/3?page=3"));
    assert_eq!(told("/tenant").waits_for, ["request.header.x-tenant"]);
    let kept = told("/c/7");
    assert!(kept.upstream.is_some() && kept.waits_for.is_empty(), "{kept:?}");
}

const SECRET: &str = r#"version: 1
admin: {address: "127.0.0.1:0"}
listeners: [{name: public, address: "127.0.0.1:0"}]
routes:
  - name: r
    match:
      headers: {x-api-key: hunter-key, authorization: {prefix: "Bearer hunter"}}
      query: {access_token: hunter-query}
      cookies: {session: hunter-cookie}
      when: 'request.header["x-api-key"] != "hunter-when" || request.path in ["/hunter"]'
    plugins: [{kind: ip-restriction, options: {deny: [10.0.0.1]}, when: 'request.cookie.session == "hunter-plugin"'}]
    reply: {}
"#;

#[test]
fn nothing_that_a_secret_is_held_against_is_shown() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    std::fs::write(folder.path().join("gateway.yaml"), SECRET).expect("it can be written");
    let other = SECRET.replace("hunter-key", "hunter-other");
    std::fs::write(folder.path().join("other.yaml"), other).expect("it can be written");
    let run = |arguments: &[&str]| {
        let told = Command::new(gateway_binary()).args(arguments).current_dir(&folder).output();
        let told = told.expect("the command can be run");
        String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr)
    };
    let gate = gate(SECRET);
    let diff = run(&["config", "diff", "gateway.yaml", "other.yaml"]);

    assert!(diff.contains("x-api-key") && !diff.contains("hunter"), "{diff}");
    let url = "http://a.test/?access_token=own";
    for told in [
        run(&["config", "show"]),
        run(&["routes"]),
        run(&["routes", "--format", "json"]),
        run(&["explain", "GET", url]),
        run(&["explain", "GET", url, "-H", "x-api-key: hunter-ke", "--format", "json"]),
        gate.admin("/routes").text(),
        gate.admin("/routes/rows").text(),
        gate.admin("/config").text(),
    ] {
        assert!(!told.contains("hunter"), "{told}");
    }
}
