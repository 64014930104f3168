//! What the gateway tells about itself: one record on every exit path, no secret in any, and
//! metrics that all move.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gateway_core::Gateway;
use gateway_core::telemetry::access_log::{DEFAULT_FIELDS, Field};
use gateway_core::telemetry::metrics::{DOCUMENTED, Kind, series_bound};
use gateway_tests::{Certificates, Client, Exchange, Gate, Origin, Process};
use serde_json::Value;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A gateway with a route for each way out. `log` stands in its `access_log`.
fn exits(origin: SocketAddr, log: &str) -> Gate {
    let nobody = Origin::nobody();
    let config = format!(
        "version: 1\n\
         server: {{workers: 1, upgrade_socket: upgrade.sock}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, {log}}}\n\
         plugins: [{{kind: request-id}}]\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", timeouts: {{header: 300ms}}}}]\n\
         upstreams:\n\
         - {{name: origin, endpoints: [\"{origin}\"], timeouts: {{first_byte: 300ms}}}}\n\
         - {{name: nobody, endpoints: [\"{nobody}\"]}}\n\
         routes:\n\
         - {{name: reply, match: {{path: /reply}}, reply: {{body: hello}}}}\n\
         - {{name: proxied, match: {{path: /proxied}}, upstream: origin}}\n\
         - {{name: refused, match: {{path: /refused}}, upstream: nobody}}\n\
         - {{name: readonly, match: {{path: /readonly, methods: [GET]}}, reply: {{body: hello}}}}\n\
         - {{name: denied, match: {{path: /denied}}, reply: {{body: hello}},\n\
             plugins: [{{kind: ip-restriction, options: {{deny: [127.0.0.0/8]}}}}]}}\n"
    );
    Gate::with(super::plugins::builder(), &config)
}

/// An upstream that does what the path asks for.
fn origin() -> Origin {
    Origin::scripted(|exchange: &mut Exchange| {
        let path = exchange.head.split(' ').nth(1).unwrap_or_default().to_owned();
        match path.trim_start_matches("/proxied") {
            "/teapot" => exchange.write("HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n"),
            "/error" => exchange.write("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
            "/close" => exchange.close(),
            "/hang" => exchange.await_close(),
            "/cut" => {
                exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")?;
                exchange.pause(Duration::from_millis(50));
                exchange.close()
            }
            _ => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        }
    })
}

fn text_log(gate: &Gate) -> Vec<String> {
    let text = fs::read_to_string(gate.log_path()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until the access log has this many lines, whatever their format.
#[track_caller]
fn await_lines(gate: &Gate, count: usize) -> Vec<String> {
    for _ in 0..1000 {
        let lines = text_log(gate);
        if lines.len() >= count {
            assert_eq!(lines.len(), count, "more lines than requests: {lines:#?}");
            return lines;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the log has no {count} lines: {:#?}", text_log(gate));
}

/// Method, target, route, status, failure, and who chose the status.
type Exit =
    (&'static str, &'static str, Option<&'static str>, u64, Option<&'static str>, &'static str);

#[test]
fn every_exit_of_a_request_is_one_line_and_one_count() {
    let origin = origin();
    let gate = exits(origin.address(), "format: json");
    let exits: [Exit; 13] = [
        ("GET", "/reply", Some("reply"), 200, None, "gateway"),
        ("HEAD", "/reply", Some("reply"), 200, None, "gateway"),
        ("GET", "/nowhere", None, 404, Some("P1"), "gateway"),
        ("POST", "/readonly", None, 405, Some("P2"), "gateway"),
        ("GET", "/denied", Some("denied"), 403, Some("P4"), "gateway"),
        ("GET", "/%00", None, 400, Some("P8"), "gateway"),
        ("GET", "/refused", Some("refused"), 503, Some("U3"), "gateway"),
        ("GET", "/proxied", Some("proxied"), 200, None, "upstream"),
        ("GET", "/proxied/teapot", Some("proxied"), 418, None, "upstream"),
        ("GET", "/proxied/error", Some("proxied"), 500, None, "upstream"),
        ("GET", "/proxied/close", Some("proxied"), 502, Some("X1"), "gateway"),
        ("GET", "/proxied/hang", Some("proxied"), 504, Some("X3"), "gateway"),
        ("GET", "/proxied/cut", Some("proxied"), 200, Some("X2"), "upstream"),
    ];

    for (number, (method, target, route, status, failure, source)) in exits.iter().enumerate() {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        gate.client().send(request).rest();

        let line = &gate.log(number + 1)[number];
        let optional = |name: &str| line.get(name).and_then(Value::as_str);
        assert_eq!(line["http.response.status_code"], *status, "{target}: {line}");
        assert_eq!(optional("route"), *route, "{target}: {line}");
        assert_eq!(optional("failure"), *failure, "{target}: {line}");
        assert_eq!(line["status_source"], *source, "{target}: {line}");
        assert_eq!(line["listener"], "public", "{target}: {line}");
        assert_eq!(line["http.request.method"], *method, "{target}: {line}");
        let count = (number + 1) as f64;
        assert_eq!(gate.total("gateway_requests_total"), count, "{target}");
        let durations = gate.total("gateway_request_duration_seconds_count");
        assert_eq!(durations, count, "{target}");
    }
    let failures = exits.iter().filter(|exit| exit.4.is_some()).count();
    assert_eq!(gate.total("gateway_request_failures_total"), failures as f64);
}

#[test]
fn request_without_a_host_is_recorded() {
    let gate = exits(Origin::nobody(), "format: json");

    let response = gate.exchange("GET /reply HTTP/1.1\r\n\r\n");

    assert_eq!(response.status, 400);
    let line = &gate.log(1)[0];
    assert_eq!((&line["http.response.status_code"], &line["failure"]), (&400.into(), &"P8".into()));
    assert_eq!(gate.total("gateway_requests_total"), 1.0);
}

#[test]
fn client_that_left_is_recorded() {
    let origin = origin();
    let gate = exits(origin.address(), "format: json");
    let mut client = gate.client();
    client.send("GET /proxied/hang HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.await_metric(r#"gateway_requests_in_flight{listener="public"}"#, 1.0);

    drop(client);

    let line = &gate.log(1)[0];
    assert_eq!((&line["http.response.status_code"], &line["failure"]), (&499.into(), &"D1".into()));
    assert_eq!(gate.total("gateway_requests_total"), 1.0);
    gate.await_metric(r#"gateway_requests_in_flight{listener="public"}"#, 0.0);
}

#[test]
fn requests_behind_each_other_are_recorded_one_by_one() {
    let origin = origin();
    let gate = exits(origin.address(), "format: json");
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut client = gate.client();

    client.send(["/reply", "/proxied", "/nowhere", "/proxied/teapot"].map(request).concat());

    let statuses: Vec<u16> = (0..4).map(|_| client.response().status).collect();
    assert_eq!(statuses, [200, 200, 404, 418]);
    let logged: Vec<Value> =
        gate.log(4).iter().map(|line| line["http.response.status_code"].clone()).collect();
    assert_eq!(logged, [200, 200, 404, 418]);
    assert_eq!(gate.total("gateway_requests_total"), 4.0);
}

#[test]
fn what_dies_before_its_head_is_counted_with_its_reason_and_has_no_line() {
    let gate = exits(Origin::nobody(), "format: json");

    gate.client().send("this is not http\r\n\r\n").rest();
    gate.client().send("GET / HT").rest();
    gate.client().send("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").rest();

    let ended = |reason: &str| {
        format!(r#"gateway_connections_ended_total{{listener="public",reason="{reason}"}}"#)
    };
    gate.await_metric(&ended("bad_request"), 2.0);
    gate.await_metric(&ended("header_timeout"), 1.0);
    assert_eq!(gate.total("gateway_requests_total"), 0.0);
    gate.get("/reply");
    assert_eq!(gate.log(1)[0]["route"], "reply");
}

#[test]
fn json_lines_have_the_default_fields_under_their_names() {
    let origin = origin();
    let gate = exits(origin.address(), "format: json");

    gate.exchange(
        "POST /proxied HTTP/1.1\r\nHost: Test.Example:80\r\nUser-Agent: probe/1\r\n\
         X-Request-Id: abc\r\nContent-Length: 3\r\n\r\nxyz",
    );

    let line = &gate.log(1)[0];
    let endpoint = origin.address().to_string();
    for (name, value) in [
        ("http.request.method", Value::from("POST")),
        ("url.scheme", "http".into()),
        ("server.address", "test.example".into()),
        ("url.path", "/proxied".into()),
        ("http.response.status_code", 200.into()),
        ("status_source", "upstream".into()),
        ("listener", "public".into()),
        ("route", "proxied".into()),
        ("upstream", "origin".into()),
        ("endpoint", endpoint.as_str().into()),
        ("attempts", 1.into()),
        ("retries", 0.into()),
        ("client.address", "127.0.0.1".into()),
        ("user_agent.original", "probe/1".into()),
        ("network.protocol.version", "1.1".into()),
        ("http.request.body.size", 3.into()),
        ("http.response.body.size", 2.into()),
        ("request_id", "abc".into()),
        ("revision", 1.into()),
    ] {
        assert_eq!(line[name], value, "{name}: {line}");
    }
    for name in ["duration_ms", "upstream_ms", "plugin_ms"] {
        assert!(line[name].is_number(), "{name}: {line}");
    }
    assert_eq!(line["trace_id"].as_str().map(str::len), Some(32), "{line}");
    assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    let known: BTreeSet<&str> = DEFAULT_FIELDS.iter().map(|field| field.name()).collect();
    let keys = line.as_object().expect("a line is an object").keys();
    assert!(keys.map(String::as_str).all(|key| known.contains(key)), "{line}");
}

#[test]
fn text_lines_are_one_a_request_and_begin_with_what_matters() {
    let origin = origin();
    let gate = exits(origin.address(), "format: text");

    gate.exchange("GET /proxied/teapot HTTP/1.1\r\nHost: a\r\nUser-Agent: two words\r\n\r\n");

    let line = await_lines(&gate, 1).remove(0);
    assert!(line.contains(" 418 GET http a /proxied/teapot "), "{line}");
    assert!(line.contains("route=proxied"), "{line}");
    assert!(line.contains(r#"user_agent="two words""#), "{line}");
    assert!(serde_json::from_str::<Value>(&line).is_err(), "not JSON: {line}");
}

#[test]
fn a_client_cannot_forge_a_line() {
    for format in ["json", "text"] {
        let gate = exits(Origin::nobody(), &format!("format: {format}"));

        gate.exchange(
            "GET /reply/%0A%0Dforged?%0a=%0d HTTP/1.1\r\nHost: a\r\n\
             User-Agent: x\" status=200 \\n[2J\tforged\r\n\r\n",
        );

        let line = await_lines(&gate, 1).remove(0);
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    }
}

#[test]
fn chosen_fields_stand_in_their_order_and_no_other() {
    let gate = exits(
        Origin::nobody(),
        "format: json, fields: [route, url.query, http.response.status_code, plugins]",
    );

    gate.get("/reply?b=c");

    let line = await_lines(&gate, 1).remove(0);
    assert!(
        line.starts_with(
            r#"{"route":"reply","url.query":"b=c","http.response.status_code":200,"plugins":{"request-id":"#
        ),
        "{line}"
    );
}

#[test]
fn unknown_field_is_refused_with_what_may_have_been_meant() {
    let config = "version: 1\n\
                  access_log: {fields: [routes]}\n\
                  listeners: [{name: public, address: \"127.0.0.1:0\"}]\n\
                  routes: [{name: all, reply: {body: x}}]\n";

    let checked = Gateway::builder().config_text(config).check();

    let faults = checked.err().expect("the config has a fault").to_string();
    assert!(faults.contains("access_log.fields[0]"), "{faults}");
    assert!(faults.contains("did you mean") && faults.contains("\"route\""), "{faults}");
}

#[test]
fn sampling_away_all_that_is_good_keeps_every_error() {
    let origin = origin();
    let gate = exits(origin.address(), "format: json, sample: {ok: 0%}");

    for _ in 0..20 {
        gate.get("/reply");
        gate.get("/proxied");
    }
    gate.get("/nowhere");
    gate.get("/refused");
    gate.get("/proxied/error");

    let statuses: Vec<Value> =
        gate.log(3).iter().map(|line| line["http.response.status_code"].clone()).collect();
    assert_eq!(statuses, [404, 503, 500]);
    assert_eq!(gate.total("gateway_requests_total"), 43.0, "metrics are not sampled");
}

#[test]
fn sampling_keeps_what_is_slow() {
    let slow = Origin::scripted(|exchange| {
        exchange.pause(Duration::from_millis(150));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let gate = exits(slow.address(), "format: json, sample: {ok: 0%, slower_than: 100ms}");

    gate.get("/reply");
    gate.get("/proxied");

    assert_eq!(gate.log(1)[0]["route"], "proxied");
}

#[test]
fn sampled_lines_say_their_share() {
    let gate = exits(Origin::nobody(), "format: json, sample: {ok: 50%}");
    let mut client = gate.client();
    for _ in 0..200 {
        client.send("GET /reply HTTP/1.1\r\nHost: a\r\n\r\n").response();
    }
    // The last line: an error, always kept.
    client.send("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").response();

    while !text_log(&gate).iter().any(|line| line.contains(r#"status_code":404"#)) {
        thread::sleep(Duration::from_millis(5));
    }

    let lines = text_log(&gate);
    let (errors, kept): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line.contains(r#"status_code":404"#));
    assert_eq!(errors.len(), 1);
    assert!(!errors[0].contains("sample"), "{}", errors[0]);
    assert!((60..=140).contains(&kept.len()), "about half of 200: {}", kept.len());
    assert!(kept.iter().all(|line| line.contains(r#""sample":0.5"#)), "{}", kept[0]);
}

/// Secrets by their look: each would be one wherever it stood.
const BY_LOOK: [&str; 4] = [
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "4111111111111111",
    "jane.doe@example.com",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
];
/// A secret by the name it stands under alone.
const BY_NAME: &str = "hunter2hunter2";

/// Requests with a secret in every position that a client can fill.
fn planted() -> Vec<String> {
    let mut requests = vec![
        format!("GET /reply?access_token={BY_NAME}&a=b HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!(
            "GET /reply?password={BY_NAME}&client_secret={BY_NAME} HTTP/1.1\r\nHost: a\r\n\r\n"
        ),
        format!("GET /reply?user[password]={BY_NAME} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /reply?p%61ssword={BY_NAME} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /reply;password={BY_NAME}/x HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET http://a/reply?token={BY_NAME} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET http://me:{BY_NAME}@a/reply HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /reply HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {BY_NAME}\r\n\r\n"),
        format!("GET /reply HTTP/1.1\r\nHost: a\r\nCookie: session={BY_NAME}\r\n\r\n"),
        format!("GET /reply HTTP/1.1\r\nHost: a\r\nX-Api-Key: {BY_NAME}\r\n\r\n"),
        format!("GET /proxied/cut HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {BY_NAME}\r\n\r\n"),
        // Heads that are refused, before and after they are one.
        format!("GET /reply HTTP/1.1\r\nAuthorization: Bearer {BY_NAME}\r\n\r\n"),
        format!("GET /reply HTTP/1.1\r\nHost: a\r\nAuthorization Bearer {BY_NAME}\r\n\r\n"),
        format!("GET /reply?token={BY_NAME} HTTP/9.9\r\nHost: a\r\n\r\n"),
        format!("POST /reply?token={BY_NAME} HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
    ];
    for secret in BY_LOOK {
        let encoded: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
        requests.extend([
            format!("GET /reply/{secret}/x HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET /reply/{encoded}/x HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET /reply?q={secret} HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET /reply?q={encoded}&{secret}=1 HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET /reply HTTP/1.1\r\nHost: a\r\nUser-Agent: x {secret}\r\n\r\n"),
            format!("GET /reply HTTP/1.1\r\nHost: a\r\nX-Request-Id: {secret}\r\n\r\n"),
            format!("GET /reply HTTP/1.1\r\nHost: a\r\nReferer: http://a/?{secret}\r\n\r\n"),
            format!("GET /reply HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {secret}\r\n\r\n"),
            format!("GET /reply HTTP/1.1\r\nHost: a\r\ntraceparent: {secret}\r\n\r\n"),
            format!("GET /reply HTTP/1.1\r\nHost: {secret}\r\n\r\n"),
            format!("GET /proxied/{secret} HTTP/1.1\r\nHost: a\r\nX-Other: {secret}\r\n\r\n"),
            format!("{secret} /reply HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("POST /reply HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{secret}"),
        ]);
    }
    requests
}

#[track_caller]
fn assert_no_secret(surface: &str, text: &str) {
    // A host is shown in small letters: what is left there of a token is none.
    for secret in BY_LOOK.iter().chain([&BY_NAME]) {
        let encoded: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let shown = |line: &&str| line.contains(*secret) || line.to_lowercase().contains(&encoded);
        let found = text.lines().find(shown);
        assert!(found.is_none(), "{surface} shows {secret}: {}", found.unwrap_or_default());
    }
}

#[test]
fn secrets_planted_in_every_input_come_out_nowhere() {
    let origin = origin();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let log = folder.path().join("access.log");
    let config = folder.path().join("gateway.yaml");
    let (public, admin) = (Origin::nobody(), Origin::nobody());
    let fields: Vec<&str> = Field::ALL.iter().map(|field| field.name()).collect();
    for format in ["json", "text"] {
        let yaml = format!(
            "version: 1\n\
             server: {{workers: 1}}\n\
             admin: {{address: \"{admin}\", token: {BY_NAME}}}\n\
             access_log: {{output: {}, format: {format}, fields: [{}]}}\n\
             plugins:\n\
             - {{kind: request-id}}\n\
             - {{kind: headers, options: {{request: {{set: {{authorization: \"Bearer {BY_NAME}\", x-api-key: {BY_NAME}}}}}}}}}\n\
             listeners: [{{name: public, address: \"{public}\"}}]\n\
             upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
             routes:\n\
             - {{name: reply, match: {{path: /reply}}, reply: {{body: hello}}}}\n\
             - {{name: proxied, match: {{path: /proxied}}, upstream: origin}}\n",
            log.display(),
            fields.join(", "),
            origin.address(),
        );
        fs::write(&config, yaml).expect("the config can be written");
        let mut process = Process::start(&["run", "-c", &config.display().to_string()]);
        process.await_line("admin calls are answered");
        let read = |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            Client::connect(admin).send(request).response().text()
        };

        for request in planted() {
            let mut client = Client::connect(public);
            client.send(request).finish().rest();
        }
        let surfaces = ["/config", "/metrics", "/routes", "/plugins", "/status", "/listeners"];
        let read_outs: Vec<_> = surfaces.iter().map(|path| (*path, read(path))).collect();
        process.signal("TERM");
        process.wait();

        for (path, text) in read_outs {
            assert_no_secret(path, &text);
        }
        assert_no_secret("stderr", &process.stderr.join("\n"));
        let lines = fs::read_to_string(&log).expect("the log was written");
        assert!(lines.lines().count() > 40, "the requests were logged");
        assert_no_secret("the access log", &lines);
        fs::remove_file(&log).expect("the log can be removed");
    }
}

#[test]
fn log_moved_away_and_reopened_loses_no_line() {
    let gate = exits(Origin::nobody(), "format: json");
    let over = AtomicBool::new(false);
    let moved = |number: usize| gate.folder().join(format!("access.log.{number}"));

    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut client = gate.client();
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                client.send("GET /reply HTTP/1.1\r\nHost: a\r\n\r\n").response();
                sent += 1;
            }
            sent
        });
        for number in 0..5 {
            while text_log(&gate).len() < 20 {
                thread::sleep(Duration::from_millis(2));
            }
            fs::rename(gate.log_path(), moved(number)).expect("the log can be moved");
            gate.running().reopen_logs();
        }
        over.store(true, Ordering::Relaxed);
        load.join().expect("the load ends well")
    });

    let lines = || {
        let files = (0..5).map(&moved).chain([gate.log_path()]);
        files.map(|file| fs::read_to_string(file).unwrap_or_default()).collect::<String>()
    };
    for _ in 0..500 {
        if lines().lines().count() >= sent {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(lines().lines().count(), sent);
    assert!(lines().lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "whole lines");
}

#[test]
fn stock_binary_reopens_its_log_at_sigusr1() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (log, config) = (folder.path().join("access.log"), folder.path().join("gateway.yaml"));
    let public = Origin::nobody();
    let yaml = format!(
        "version: 1\n\
         server: {{workers: 1}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: access.log, format: json}}\n\
         listeners: [{{name: public, address: \"{public}\"}}]\n\
         routes: [{{name: reply, match: {{path: /}}, reply: {{body: hello}}}}]\n"
    );
    fs::write(&config, yaml).expect("the config can be written");
    let mut process = Process::start(&["run", "-c", &config.display().to_string()]);
    process.await_line("admin calls are answered");
    Client::connect(public).send(GET).response();
    let moved = folder.path().join("access.log.1");
    let count = |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    while count(&log) < 1 {
        thread::sleep(Duration::from_millis(5));
    }
    fs::rename(&log, &moved).expect("the log can be moved");

    process.signal("USR1");

    while !log.exists() {
        thread::sleep(Duration::from_millis(5));
    }
    Client::connect(public).send(GET).response();
    process.signal("TERM");
    process.wait();
    assert_eq!((count(&moved), count(&log)), (1, 1));
}

/// The samples of an exposition, by name and labels.
#[track_caller]
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let name = series.split('{').next().unwrap_or_default();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
        assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }
    samples
}

#[test]
fn metrics_are_declared_before_their_samples_and_only_those_documented() {
    let gate = exits(Origin::nobody(), "format: json");
    gate.get("/reply");
    gate.log(1);

    let response = gate.admin("/metrics");

    let content_type = response.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
    let text = response.text();
    let mut declared = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            declared = rest.split(' ').next();
            let known = DOCUMENTED.iter().find(|doc| Some(doc.name) == declared);
            let doc = known.unwrap_or_else(|| panic!("not documented: {line}"));
            let kind = match doc.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            assert_eq!(rest.split(' ').nth(1), Some(kind), "{line}");
            assert!(text.contains(&format!("# HELP {} ", doc.name)), "{line}");
        } else if !line.starts_with('#') {
            let family = declared.expect("a sample follows its declaration");
            assert!(line.starts_with(family), "{line} under {family}");
        }
    }
    assert!(samples(&text).len() > 20);
}

#[test]
fn nothing_a_client_sends_makes_a_series() {
    let origin = origin();
    let gate = exits(origin.address(), "format: json");
    let send = |number: usize| {
        for request in [
            format!("GET /reply/{number}?x={number} HTTP/1.1\r\nHost: host-{number}\r\n\r\n"),
            format!("M{number} /proxied/{number} HTTP/1.1\r\nHost: host-{number}\r\n\r\n"),
            format!("GET /nowhere-{number} HTTP/1.1\r\nHost: a\r\nUser-Agent: {number}\r\n\r\n"),
            format!("M{number} /readonly HTTP/1.1\r\nHost: a\r\nX-Request-Id: {number}\r\n\r\n"),
        ] {
            gate.exchange(request);
        }
    };
    let shown = || samples(&gate.admin("/metrics").text()).into_keys().collect::<BTreeSet<_>>();
    send(0);
    send(0);
    gate.log(8);
    let first = shown();

    (1..50).for_each(send);

    gate.log(204);
    let now = shown();
    assert_eq!(now.difference(&first).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(now.len() <= series_bound(5, 1, 2, 2), "{} series", now.len());
}

/// Needs `promtool` of the Debian package `prometheus`; CI installs it.
#[test]
fn promtool_of_the_debian_package_prometheus_finds_no_fault_in_the_metrics() {
    let origin = origin();
    let gate = exits(origin.address(), "format: json");
    for path in ["/reply", "/nowhere", "/denied", "/refused", "/proxied", "/proxied/cut"] {
        gate.client()
            .send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
            .rest();
    }

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: apt-get install --no-install-recommends prometheus");
    let mut input = promtool.stdin.take().expect("stdin is piped");
    input.write_all(&gate.admin("/metrics").body).expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("promtool ends");

    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// Metrics that no test here can move, each with the reason.
const UNMOVED: &[(&str, &str)] = &[
    ("gateway_build_info", "constant: says which program runs"),
    ("process_max_fds", "constant: set by whoever starts the process"),
    ("process_start_time_seconds", "constant: the process starts once"),
    ("process_virtual_memory_bytes", "asserted to be above 0; allocators decide when it moves"),
    ("process_resident_memory_bytes", "asserted to be above 0; allocators decide when it moves"),
];

/// Every state of the metrics that was seen, by family.
#[derive(Default)]
struct Seen(BTreeMap<String, BTreeSet<String>>);

impl Seen {
    /// Keeps the state of each family as one text.
    fn look(&mut self, gate: &Gate) {
        let text = gate.admin("/metrics").text();
        for doc in DOCUMENTED {
            let of_family = |line: &&str| {
                let rest = line.strip_prefix(doc.name).unwrap_or(".");
                let rest = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| rest.strip_prefix(suffix))
                    .unwrap_or(rest);
                rest.starts_with(['{', ' '])
            };
            let state: Vec<&str> = text.lines().filter(of_family).collect();
            self.0.entry(doc.name.to_owned()).or_default().insert(state.join("\n"));
        }
    }

    fn has_moved(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|states| states.len() > 1)
    }
}

/// A pipe by name whose reader reads nothing until it is dropped.
fn unread_pipe(path: &Path) -> thread::JoinHandle<File> {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "a pipe can be made");
    let path = path.to_owned();
    // Opening waits for the writer.
    thread::spawn(move || File::open(path).expect("the pipe can be opened"))
}

#[test]
fn every_documented_metric_that_can_move_does() {
    let mut seen = Seen::default();
    let origin = origin();
    let gate = exits(origin.address(), "format: json");
    seen.look(&gate);

    // Requests, plugins, attempts, connections new and reused.
    for path in
        ["/reply", "/nowhere", "/denied", "/refused", "/proxied", "/proxied", "/proxied/close"]
    {
        gate.get(path);
    }
    gate.exchange("POST /proxied HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let call = "Host: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    gate.exchange(format!("POST /denied HTTP/1.1\r\n{call}"));
    gate.client().send("no http\r\n\r\n").rest();
    seen.look(&gate);
    // What is only while it is.
    let mut waiting = gate.client();
    waiting.send("GET /proxied/hang HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.await_metric(r#"gateway_requests_in_flight{listener="public"}"#, 1.0);
    gate.await_metric(r#"gateway_upstream_requests_in_flight{upstream="origin"}"#, 1.0);
    seen.look(&gate);
    assert_eq!(waiting.response().status, 504);
    // Reloads, good and bad; a limit of connections, and a plugin that fails.
    let config = fs::read_to_string(gate.config_path()).expect("the config can be read");
    let tighter = config
        .replace("timeouts: {header: 300ms}", "limits: {connections: 1}")
        .replace("request-id", "faulty-transform, options: {phase: request}");
    gate.write(&tighter);
    gate.running().reload().expect("the config is good");
    gate.write("version: 2");
    assert!(gate.running().reload().is_err());
    assert_eq!(gate.get("/reply").status, 500, "its plugin fails");
    drop(waiting);
    gate.await_metric(r#"gateway_connections_open{listener="public"}"#, 0.0);
    let held = gate.client();
    gate.await_metric(r#"gateway_connections_open{listener="public"}"#, 1.0);
    assert!(gate.client().is_closed());
    // Somebody comes to take over who is no gateway.
    let door = gate.folder().join("upgrade.sock");
    drop(UnixStream::connect(door).expect("somebody listens there"));
    gate.await_metric(r#"gateway_upgrades_total{outcome="failure"}"#, 1.0);
    seen.look(&gate);
    drop((held, gate));
    // A config on trial.
    let tried = |word: &str| {
        format!(
            "version: 1\nadmin: {{address: \"127.0.0.1:0\"}}\nreload: {{canary: {{share: 50%, time: 1h}}}}\n\
             listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
             routes: [{{name: all, match: {{path: /}}, reply: {{body: {word}}}}}]\n"
        )
    };
    let gate = Gate::yaml(&tried("one"));
    gate.write(&tried("two"));
    gate.running().reload().expect("the config is good");
    (0..20).for_each(|_| drop(gate.get("/")));
    seen.look(&gate);
    drop(gate);
    // Endpoints that are left out.
    let endpoints = Gate::yaml(&format!(
        "version: 1\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - name: origin\n    endpoints: [\"{}\", \"{}\"]\n    \
         health: {{active: {{kind: tcp, interval: 50ms}}, passive: {{failures: 1}}}}\n    \
         discover: {{file: /nowhere/endpoints.yaml}}\n  \
         - name: nobody\n    endpoints: [\"{}\"]\n    \
         retry: {{attempts: 3, budget: 0%, budget_minimum: 1, backoff: 1ms}}\n  \
         - name: limited\n    endpoints: [\"{}\"]\n    \
         limits: {{in_flight: 1, queue: 1, queue_timeout: 300ms}}\n\
         routes:\n  - name: all\n    match: {{path: /}}\n    upstream: origin\n    \
         plugins: [{{kind: rate-limit, options: {{limits: [{{requests: 9, per: 1s}}]}}}}]\n  \
         - {{name: nobody, match: {{path: /nobody}}, upstream: nobody,\n     \
         plugins: [{{kind: circuit-breaker, options: {{minimum: 3}}}}]}}\n  \
         - {{name: limited, match: {{path: /proxied}}, upstream: limited}}\n  \
         - {{name: copied, match: {{path: /copied}}, rewrite: {{prefix: /proxied}}, upstream: limited,\n     \
         mirror: {{upstream: limited, compare: {{}}}}}}\n  \
         - {{name: tokens, match: {{path: /tokens}}, reply: {{}}, plugins: [{{kind: jwt, \
         options: {{issuers: [{{jwks: {{url: \"http://{}/keys\"}}}}]}}}}]}}\n  \
         - {{name: small, match: {{path: /small}}, reply: {{headers: {{Content-Type: text/plain}}, \
         body: small}}, plugins: [{{kind: compression, options: {{min_size: 0}}}}]}}\n  \
         - {{name: shared, match: {{path: /shared}}, reply: {{}}, plugins: [{{kind: rate-limit, \
         options: {{limits: [{{requests: 9, per: 1s}}], store: {{redis: \"redis://{}/\"}}}}}}]}}\n",
        origin.address(),
        Origin::nobody(),
        Origin::nobody(),
        origin.address(),
        Origin::nobody(),
        Origin::nobody()
    ));
    seen.look(&endpoints);
    (0..4).for_each(|_| drop(endpoints.get("/")));
    assert_eq!(endpoints.get("/tokens").status, 401);
    endpoints.get("/copied");
    endpoints
        .await_metric(r#"gateway_mirror_comparisons_total{outcome="same",route="copied"}"#, 1.0);
    assert_eq!(endpoints.get("/shared").status, 200);
    endpoints.exchange("GET /small HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    // With the third failure its breaker opens.
    (0..3).for_each(|_| drop(endpoints.get("/nobody")));
    // More requests than may be in flight.
    let mut held = endpoints.client();
    held.send("GET /proxied/hang HTTP/1.1\r\nHost: a\r\n\r\n");
    let limited = r#"gateway_upstream_requests_in_flight{upstream="limited"}"#;
    endpoints.await_metric(limited, 1.0);
    let mut waiting = endpoints.client();
    waiting.send("GET /proxied HTTP/1.1\r\nHost: a\r\n\r\n");
    endpoints.await_metric(r#"gateway_upstream_queue_length{upstream="limited"}"#, 1.0);
    seen.look(&endpoints);
    assert_eq!(waiting.response().status, 503);
    drop(held);
    let unhealthy = r#"gateway_upstream_endpoints{state="unhealthy",upstream="origin"}"#;
    endpoints.await_metric(unhealthy, 1.0);
    seen.look(&endpoints);
    drop(endpoints);
    // Handshakes, good and bad.
    let certificates = Certificates::new();
    let own = certificates.issue("own", "DNS:a.test");
    let secured = Gate::yaml(&format!(
        "version: 1\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", \
         tls: {{certificates: [{{cert: {}, key: {}}}]}}}}]\n\
         routes: [{{name: all, match: {{path: /}}, reply: {{}}}}]\n",
        own.cert, own.key
    ));
    seen.look(&secured);
    assert_eq!(secured.get("/").status, 400, "it is no handshake");
    let url = format!("https://{}/", secured.address());
    let curl = std::process::Command::new("curl").args(["-sk", &url]).status();
    assert!(curl.is_ok_and(|status| status.success()));
    seen.look(&secured);
    drop(secured);
    // A connection that is no HTTP.
    let passed = Gate::yaml(&format!(
        "version: 1\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\", tcp: {{upstream: origin}}}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n",
        origin.address()
    ));
    seen.look(&passed);
    assert_eq!(passed.get("/").status, 200);
    passed.await_metric(r#"gateway_connections_open{listener="public"}"#, 0.0);
    seen.look(&passed);
    drop(passed);
    // A log that cannot be written, and one that is not read.
    let full = exits(origin.address(), "format: json");
    let config = fs::read_to_string(full.config_path()).expect("the config can be read");
    let log = full.log_path().display().to_string();
    full.write(&config.replace(&log, "/dev/full"));
    full.running().reload().expect("the config is good");
    full.get("/reply");
    full.await_metric("gateway_access_log_failed_total", 1.0);
    seen.look(&full);
    let pipe = full.folder().join("pipe");
    let reader = unread_pipe(&pipe);
    let one = format!("{}, queue: 1", pipe.display());
    full.write(&config.replace(&log, &one));
    full.running().reload().expect("the config is good");
    let mut client = full.client();
    while full.total("gateway_access_log_dropped_total") < 1.0 {
        for _ in 0..100 {
            client.send("GET /reply HTTP/1.1\r\nHost: a\r\n\r\n").response();
        }
    }
    seen.look(&full);
    let mut reader = reader.join().expect("the pipe was opened");
    thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));

    for doc in DOCUMENTED {
        let reason = UNMOVED.iter().find(|(name, _)| *name == doc.name);
        match reason {
            None => assert!(seen.has_moved(doc.name), "{} has not moved", doc.name),
            Some((_, reason)) => assert!(!reason.is_empty()),
        }
    }
    for (name, _) in UNMOVED {
        assert!(DOCUMENTED.iter().any(|doc| doc.name == *name), "{name} is not documented");
    }
    for name in ["process_virtual_memory_bytes", "process_resident_memory_bytes"] {
        assert!(full.metric(name) > 0.0, "{name}");
    }
    assert_eq!(full.total("gateway_build_info"), 1.0);
}
