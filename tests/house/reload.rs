//! A config takes the place of another: nothing is lost, nothing is half done, nothing else is
//! disturbed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gateway_tests::{Client, Gate, Origin, Response};

const PATIENCE: Duration = Duration::from_secs(10);
const TOKEN: &str = "Authorization: Bearer s3cret\r\n";
const HEAD: &str = "version: 1\n\
    server: {workers: 1}\n\
    admin: {address: \"127.0.0.1:0\", token: s3cret}\n\
    access_log: {output: LOG, format: json}\n\
    listeners: [{name: public, address: \"127.0.0.1:0\"}]\n";

/// A config in front of `upstream` whose answers carry this number twice: put there by a plugin
/// for every route, and by one of the route. The route is named after it too.
fn numbered(upstream: SocketAddr, number: usize) -> String {
    format!(
        "{HEAD}\
         plugins: [{{kind: headers, options: {{response: {{set: {{x-outer: \"{number}\"}}}}}}}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{upstream}\"]}}]\n\
         routes: [{{name: r{number}, match: {{path: /}}, upstream: origin, plugins: [\
         {{kind: headers, name: inner, options: {{response: {{set: {{x-inner: \"{number}\"}}}}}}}}]}}]\n"
    )
}

/// A config whose one route `only` answers with this text.
fn saying(text: &str) -> String {
    format!("{HEAD}routes: [{{name: only, match: {{path: /}}, reply: {{body: {text}}}}}]\n")
}

#[track_caller]
fn reload(gate: &Gate, config: &str) {
    gate.write(config);
    if let Err(faults) = gate.running().reload() {
        panic!("the config is refused:\n{faults}");
    }
}

/// The faults for which this config is refused, one a line.
#[track_caller]
fn refused(gate: &Gate, config: &str) -> String {
    gate.write(config);
    gate.running().reload().expect_err("the config is refused").to_string()
}

fn ask(client: &mut Client) -> Response {
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response()
}

/// An origin that tells when a request is there, and answers when it is told to.
fn held_origin() -> (Origin, Receiver<()>, Sender<()>) {
    let (arrived, arrival) = channel();
    let (release, released) = channel();
    let (arrived, released) = (Mutex::new(arrived), Mutex::new(released));
    let origin = Origin::scripted(move |exchange| {
        let _ = arrived.lock().unwrap_or_else(PoisonError::into_inner).send(());
        let _ = released.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PATIENCE);
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    (origin, arrival, release)
}

/// A client that asks again and again, and keeps what it was answered.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, BTreeSet<String>)>>,
}

impl Load {
    /// So many clients on one connection each, and as many that connect for every request.
    fn start(address: SocketAddr, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |keeps: bool| {
            let stop = stop.clone();
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let (mut answers, mut numbers) = (0, BTreeSet::new());
                while !stop.load(Ordering::Relaxed) {
                    if !keeps {
                        client = Client::connect(address);
                    }
                    let response = ask(&mut client);
                    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
                    let [outer, inner] = ["x-outer", "x-inner"].map(|name| response.header(name));
                    assert_eq!(outer, inner, "a request sees one snapshot");
                    numbers.insert(outer.unwrap_or_default().to_owned());
                    answers += 1;
                }
                (answers, numbers)
            })
        };
        let clients = (0..2 * clients).map(|index| client(index % 2 == 0)).collect();
        Self { stop, clients }
    }

    /// How many answers there were, and the numbers of the configs they were made by.
    ///
    /// # Panics
    /// A client lost a request or its connection.
    #[track_caller]
    fn end(self) -> (usize, BTreeSet<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answers, mut numbers) = (0, BTreeSet::new());
        for client in self.clients {
            let (more, seen) = client.join().expect("no request is lost");
            answers += more;
            numbers.extend(seen);
        }
        (answers, numbers)
    }
}

#[test]
fn fifty_reloads_under_load_lose_no_request_and_close_no_connection() {
    let origin = Origin::saying("ok");
    let gate = Gate::yaml(&numbered(origin.address(), 0));
    let load = Load::start(gate.address(), 2);

    for number in 1..=50 {
        reload(&gate, &numbered(origin.address(), number));
    }

    // The last config must be seen to serve before the load may end.
    assert_eq!(ask(&mut gate.client()).header("x-outer"), Some("50"));
    let (answers, numbers) = load.end();
    assert!(answers > 50, "there was no load to speak of: {answers}");
    assert!(numbers.len() > 5, "the load saw too few configs: {numbers:?}");
    assert_eq!(gate.metric(r#"gateway_config_reloads_total{outcome="success"}"#), 50.0);
    assert_eq!(gate.admin("/revision").json()["revision"]["number"], 51);
}

#[test]
fn a_request_in_flight_keeps_its_snapshot() {
    let (origin, arrival, release) = held_origin();
    let gate = Gate::yaml(&numbered(origin.address(), 1));
    let mut client = gate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    arrival.recv_timeout(PATIENCE).expect("the request reaches the origin");

    reload(&gate, &numbered(origin.address(), 2));
    release.send(()).expect("the origin waits");
    let before = client.response();
    release.send(()).expect("the origin waits");
    let after = ask(&mut client);

    assert_eq!((before.header("x-outer"), before.header("x-inner")), (Some("1"), Some("1")));
    assert_eq!((after.header("x-outer"), after.header("x-inner")), (Some("2"), Some("2")));
    let lines = gate.log(2);
    assert_eq!((&lines[0]["route"], &lines[0]["revision"]), (&"r1".into(), &1.into()));
    assert_eq!((&lines[1]["route"], &lines[1]["revision"]), (&"r2".into(), &2.into()));
}

#[test]
fn a_request_in_flight_to_an_upstream_that_is_gone_is_answered() {
    let (origin, arrival, release) = held_origin();
    let gate = Gate::yaml(&numbered(origin.address(), 1));
    let mut client = gate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    arrival.recv_timeout(PATIENCE).expect("the request reaches the origin");

    reload(&gate, &saying("other"));
    release.send(()).expect("the origin waits");

    assert_eq!(client.response().text(), "ok");
    assert_eq!(ask(&mut client).text(), "other");
}

#[test]
fn a_config_with_a_fault_changes_nothing_and_says_why() {
    let gate = Gate::yaml(&saying("first"));
    let mut client = gate.client();
    assert_eq!(ask(&mut client).text(), "first");

    let broken = saying("second").replace("reply", "repyl");
    let faults = refused(&gate, &broken);

    assert!(faults.contains("unknown key `repyl`, did you mean `reply`?"), "{faults}");
    assert_eq!(ask(&mut client).text(), "first");
    let revision = gate.admin("/revision").json();
    assert_eq!(revision["revision"]["number"], 1);
    assert_eq!(revision["last_reload"]["succeeded"], false);
    let fault = &revision["last_reload"]["faults"][0];
    assert_eq!(fault["path"], "routes[0].repyl");
    assert_eq!(fault["line"], 6);
    assert_eq!(gate.metric(r#"gateway_config_reloads_total{outcome="failure"}"#), 1.0);
    assert_eq!(gate.metric(r#"gateway_config_reloads_total{outcome="success"}"#), 0.0);
}

#[test]
fn a_config_that_a_plugin_refuses_changes_nothing() {
    let gate = Gate::yaml(&saying("first"));

    let broken = format!(
        "{}plugins: [{{kind: ip-restriction, options: {{allow: [nonsense]}}}}]\n",
        saying("second")
    );
    let faults = refused(&gate, &broken);

    assert!(faults.contains("plugins[0].options.allow[0]"), "{faults}");
    assert_eq!(ask(&mut gate.client()).text(), "first");
}

#[test]
fn a_config_that_is_gone_changes_nothing() {
    let gate = Gate::yaml(&saying("first"));

    std::fs::remove_file(gate.config_path()).expect("the config is there");
    let faults = gate.running().reload().expect_err("there is no config").to_string();

    assert!(faults.contains("cannot be read"), "{faults}");
    assert_eq!(ask(&mut gate.client()).text(), "first");
}

#[test]
fn after_a_refused_config_a_good_one_is_taken() {
    let gate = Gate::yaml(&saying("first"));
    refused(&gate, "version: 1\n");

    reload(&gate, &saying("third"));

    assert_eq!(ask(&mut gate.client()).text(), "third");
    let revision = gate.admin("/revision").json();
    assert_eq!(revision["revision"]["number"], 2, "refused configs are not counted");
    assert_eq!(revision["last_reload"]["succeeded"], true);
    assert_eq!(revision["last_reload"]["faults"], serde_json::json!([]));
}

#[test]
fn what_needs_a_restart_is_refused_with_a_message_that_says_so() {
    let first = saying("first");
    let gate = Gate::yaml(&first);
    let changes = [
        ("server", "workers: 1", "workers: 2"),
        ("server", "workers: 1", "workers: 1, drain_timeout: 5s"),
        ("admin", "127.0.0.1:0\", token", "127.0.0.1:1\", token"),
        ("admin", "token: s3cret", "token: another"),
        ("admin", "admin: {address: \"127.0.0.1:0\", token: s3cret}\n", ""),
    ];

    for (path, before, after) in changes {
        assert!(first.contains(before), "{before}");
        let faults = refused(&gate, &first.replace(before, after).replace("first", "second"));

        assert!(faults.contains("restart"), "{after}: {faults}");
        assert!(faults.contains(&format!("  {path}: ")), "{after}: {faults}");
        assert_eq!(ask(&mut gate.client()).text(), "first", "{after}");
    }
    assert_eq!(gate.admin("/revision").json()["revision"]["number"], 1);
}

/// Waits until the files together have this many lines.
#[track_caller]
fn await_lines(files: &[PathBuf], lines: usize) {
    let count = |file: &PathBuf| std::fs::read_to_string(file).unwrap_or_default().lines().count();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found: usize = files.iter().map(count).sum();
        if found == lines {
            return;
        }
        assert!(Instant::now() < deadline, "{found} lines instead of {lines}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_access_log_moves_to_another_file() {
    let gate = Gate::yaml(&saying("first"));
    assert_eq!(ask(&mut gate.client()).status, 200);
    gate.log(1);

    reload(&gate, &saying("second").replace("LOG", "LOG.second"));
    assert_eq!(ask(&mut gate.client()).status, 200);

    await_lines(&[gate.folder().join("access.log.second")], 1);
    assert_eq!(gate.log(1)[0]["revision"], 1, "the old file has the old line and no other");
}

#[test]
fn no_line_is_lost_while_the_access_log_moves_under_load() {
    let origin = Origin::saying("ok");
    let gate = Gate::yaml(&numbered(origin.address(), 0));
    let load = Load::start(gate.address(), 1);

    for number in 1..=20 {
        let config = numbered(origin.address(), number);
        reload(&gate, &if number % 2 == 0 { config } else { config.replace("LOG", "LOG.second") });
    }

    let (answers, _) = load.end();
    await_lines(&[gate.log_path(), gate.folder().join("access.log.second")], answers);
}

#[test]
fn an_access_log_that_cannot_be_opened_refuses_the_config() {
    let gate = Gate::yaml(&saying("first"));

    let faults = refused(&gate, &saying("second").replace("LOG", "/nonexistent/access.log"));

    assert!(faults.contains("access_log.output: "), "{faults}");
    assert_eq!(ask(&mut gate.client()).text(), "first");
}

#[test]
fn an_upstream_that_does_not_change_keeps_its_sequence_and_its_connections() {
    let origins = ["0", "1"].map(Origin::saying);
    let config = |note: &str| {
        let [first, second] = [0, 1].map(|index| origins[index].address());
        format!(
            "{HEAD}upstreams: [{{name: origin, endpoints: [\
             {{address: \"{first}\", weight: 3}}, {{address: \"{second}\", weight: 1}}]}}]\n\
             routes: [{{name: {note}, match: {{path: /}}, upstream: origin}}]\n"
        )
    };
    let gate = Gate::yaml(&config("before"));
    let mut client = gate.client();
    let mut taken: Vec<String> = Vec::new();

    for note in ["one", "two", "three", "four"] {
        taken.push(ask(&mut client).text());
        reload(&gate, &config(note));
    }
    taken.push(ask(&mut client).text());

    assert_eq!(taken, ["0", "0", "1", "0", "0"]);
    assert_eq!(origins.map(|origin| origin.connections()), [1, 1]);
}

#[test]
fn an_upstream_that_went_and_came_back_is_counted_again() {
    let (origin, arrival, release) = held_origin();
    let with = numbered(origin.address(), 1);
    let gate = Gate::yaml(&with);
    let mut held = gate.client();
    held.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    arrival.recv_timeout(PATIENCE).expect("the request reaches the origin");

    reload(&gate, &saying("without"));
    reload(&gate, &with);
    release.send(()).expect("the origin waits");
    release.send(()).expect("the origin waits");
    assert_eq!(held.response().status, 200);
    assert_eq!(ask(&mut gate.client()).status, 200);

    gate.await_metric(r#"gateway_upstream_attempts_total{outcome="ok",upstream="origin"}"#, 1.0);
}

#[test]
fn a_client_keeps_its_connection_and_its_listener_when_listeners_are_listed_anew() {
    let listeners =
        ["public", "inside"].map(|name| format!("{{name: {name}, address: \"127.0.0.1:0\"}}"));
    let config = |listeners: String| {
        format!(
            "version: 1\nserver: {{workers: 1}}\nlisteners: [{listeners}]\naccess_log: {{output: LOG}}\n\
             routes:\n\
             - {{name: open, match: {{listeners: [public]}}, reply: {{body: public}}}}\n\
             - {{name: closed, match: {{listeners: [inside]}}, reply: {{body: inside}}}}\n"
        )
    };
    let [public, inside] = &listeners;
    let gate = Gate::yaml(&config(format!("{public}, {inside}")));
    let mut client = gate.client();
    assert_eq!(ask(&mut client).text(), "public");

    reload(&gate, &config(format!("{inside}, {public}")));

    assert_eq!(ask(&mut client).text(), "public");
    assert_eq!(ask(&mut gate.client()).text(), "public");
}

#[test]
fn a_listeners_limits_change_for_connections_that_are_open() {
    let gate = Gate::yaml(&saying("first"));
    let mut client = gate.client();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(client.send(post).response().status, 200);

    let limited = "\"127.0.0.1:0\", limits: {body_bytes: 4}}]\nroutes";
    reload(&gate, &saying("second").replace("\"127.0.0.1:0\"}]\nroutes", limited));

    assert_eq!(client.send(post).response().status, 413);
}

#[test]
fn series_of_names_that_are_gone_vanish_and_the_others_go_on() {
    let origin = Origin::saying("ok");
    let route =
        |name: &str| format!("{{name: {name}, match: {{path: /{name}}}, upstream: {name}}}");
    let upstream = |name: &str| format!("{{name: {name}, endpoints: [\"{}\"]}}", origin.address());
    let config = |names: &[&str]| {
        let [upstreams, routes] = [&upstream as &dyn Fn(&str) -> String, &route]
            .map(|item| names.iter().map(|name| item(name)).collect::<Vec<_>>().join(", "));
        format!("{HEAD}upstreams: [{upstreams}]\nroutes: [{routes}]\n")
    };
    let gate = Gate::yaml(&config(&["stays", "goes"]));
    let requests = |name: &str| {
        format!("gateway_requests_total{{method=\"GET\",route=\"{name}\",status=\"2xx\"}}")
    };
    for name in ["stays", "goes"] {
        assert_eq!(gate.get(&format!("/{name}")).status, 200);
        gate.await_metric(&requests(name), 1.0);
    }

    reload(&gate, &config(&["stays"]));

    let text = gate.admin("/metrics").text();
    assert!(!text.contains("\"goes\""), "{text}");
    assert_eq!(gate.metric(&requests("stays")), 1.0);
    assert_eq!(gate.get("/stays").status, 200);
    gate.await_metric(&requests("stays"), 2.0);
}

#[test]
fn names_of_a_refused_config_get_no_series() {
    let gate = Gate::yaml(&saying("first"));

    refused(&gate, &saying("second").replace("only", "never").replace("path: /", "path: bad"));

    assert!(!gate.admin("/metrics").text().contains("never"));
}

#[test]
fn the_revision_in_use_is_the_only_one_shown() {
    let gate = Gate::yaml(&saying("first"));

    reload(&gate, &saying("second"));

    let text = gate.admin("/metrics").text();
    let shown: Vec<&str> =
        text.lines().filter(|line| line.starts_with("gateway_config_revision_info")).collect();
    let digest = gate.admin("/revision").json()["revision"]["digest"].clone();
    let digest = digest.as_str().expect("a digest is text");
    assert_eq!(
        shown,
        [format!("gateway_config_revision_info{{digest=\"{digest}\",revision=\"2\"}} 1")]
    );
}

#[test]
fn the_same_config_again_has_the_same_digest() {
    let gate = Gate::yaml(&saying("first"));
    let digest = || gate.admin("/revision").json()["revision"]["digest"].clone();
    let before = digest();

    reload(&gate, &format!("# a remark\n{}", saying("first")));
    let same = digest();
    reload(&gate, &saying("second"));

    assert_eq!(before, same);
    assert_ne!(before, digest());
}

#[test]
fn a_reload_needs_the_token() {
    let gate = Gate::yaml(&saying("first"));
    gate.write(&saying("second"));

    for fields in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic s3cret\r\n"] {
        let response = gate.admin_call("POST", "/reload", fields);
        assert_eq!(response.status, 403, "{fields}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
    }
    assert_eq!(ask(&mut gate.client()).text(), "first");

    let response = gate.admin_call("POST", "/reload", TOKEN);
    assert_eq!(response.status, 200);
    assert_eq!(response.json()["revision"]["number"], 2);
    assert_eq!(ask(&mut gate.client()).text(), "second");
}

#[test]
fn without_a_token_in_the_config_no_token_opens() {
    let gate = Gate::yaml(&saying("first").replace(", token: s3cret", ""));

    for fields in ["", TOKEN, "Authorization: Bearer \r\n"] {
        assert_eq!(gate.admin_call("POST", "/reload", fields).status, 403, "{fields}");
    }
}

#[test]
fn a_reload_is_not_something_to_get() {
    let gate = Gate::yaml(&saying("first"));
    gate.write(&saying("second"));

    let response = gate.admin_call("GET", "/reload", TOKEN);

    assert!([404, 405].contains(&response.status), "{}", response.status);
    assert_eq!(ask(&mut gate.client()).text(), "first");
}

#[test]
fn the_answer_to_a_refused_reload_lists_every_fault() {
    let gate = Gate::yaml(&saying("first"));
    gate.write(&saying("second").replace("reply", "repyl").replace("match", "mtach"));

    let response = gate.admin_call("POST", "/reload", TOKEN);

    assert_eq!(response.status, 422);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let body = response.json();
    let paths: Vec<&str> = body["faults"]
        .as_array()
        .expect("faults are a list")
        .iter()
        .filter_map(|fault| fault["path"].as_str())
        .collect();
    assert_eq!(paths, ["routes[0].mtach", "routes[0].repyl"]);
}
