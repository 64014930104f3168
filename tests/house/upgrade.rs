//! Another process takes over while requests come: nothing is lost, and what does not work out changes nothing.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{
    Certificates, Client, Installed, Origin, Process, Response, eventually, gateway_binary,
};
use serde_json::{Value, json};

/// A gateway that was installed and runs.
struct Run {
    process: Process,
    admin: SocketAddr,
    public: SocketAddr,
    installed: Installed,
}

/// A config whose answers have this text, with more behind it.
fn saying(text: &str, more: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 2, drain_timeout: 4s, upgrade_timeout: 20s}}\n\
         admin: {{address: \"127.0.0.1:0\", token: s3cret}}\naccess_log: {{output: \"off\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         routes: [{{name: all, match: {{path: /}}, reply: {{body: {text}}}}}]\n{more}"
    )
}

impl Run {
    fn start(config: &str) -> Self {
        Self::of(Installed::new(config), &[])
    }

    fn of(installed: Installed, more: &[&str]) -> Self {
        let mut process = installed.run(more);
        let admin = process.await_address("admin calls are answered");
        let public = process.await_address("listening");
        Self { process, admin, public, installed }
    }

    fn get(&self) -> Response {
        Client::connect(self.public).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response()
    }

    fn call(&self, method: &str, path: &str) -> Response {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\nContent-Length: 0\r\n\r\n"
        );
        Client::connect(self.admin).send(head).response()
    }

    fn status(&self) -> Value {
        self.call("GET", "/status").json()
    }

    fn pid(&self) -> u64 {
        self.status()["pid"].as_u64().expect("it has a number")
    }

    fn metric(&self, series: &str) -> Option<f64> {
        let text = self.call("GET", "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }

    /// Has it upgrade itself, which works.
    #[track_caller]
    fn upgrade(&self) -> Value {
        let answer = self.call("POST", "/upgrade");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Has it upgrade itself, which does not work, and tells why.
    #[track_caller]
    fn fail(&self) -> String {
        let (answer, before) = (self.call("POST", "/upgrade"), self.process.id());
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(self.pid(), u64::from(before), "it serves on");
        let why = answer.json()["detail"].as_str().expect("it says why").to_owned();
        assert_eq!(self.status()["last_failed_upgrade"]["why"], why.as_str());
        why
    }
}

/// Requests one after the other, each on a connection of its own and by several clients at once, while `meanwhile`
/// runs; none may fail.
fn under_requests<T>(public: SocketAddr, meanwhile: impl FnOnce() -> T) -> T {
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                    let answer = Client::connect(public).send(get).response();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let done = meanwhile();
        let so_far = asked.load(Ordering::Relaxed);
        eventually("requests go on", || asked.load(Ordering::Relaxed) > so_far + 10);
        over.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
fn another_process_takes_over_and_the_one_before_ends() {
    let mut run = Run::start(&saying("before", ""));
    let mut kept = Client::connect(run.public);
    assert_eq!(kept.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().text(), "before");
    let first = run.process.id();

    // The config that is on disk by now is the one of the process that follows.
    run.installed.configure(&saying("after", ""));
    let admin = run.admin.to_string();
    let words = ["upgrade", "--admin", &admin, "--token-file", "token"];
    fs::write(run.installed.path("token"), "s3cret").expect("it can be written");
    let told = under_requests(run.public, || run.installed.command(&words));

    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success(), "{said} {}", String::from_utf8_lossy(&told.stderr));
    assert_ne!(run.pid(), u64::from(first));
    let version = env!("CARGO_PKG_VERSION");
    let expected =
        format!("process {} of version {version} serves; the one before drains\n", run.pid());
    assert_eq!(said, expected);
    assert_eq!(run.get().text(), "after");
    // Who is connected to the one before has an answer of it, and is told to come again.
    let last = kept.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response();
    assert_eq!((last.text(), last.header("connection")), ("before".to_owned(), Some("close")));
    assert!(run.process.wait().success());
    assert_eq!(run.status()["revision"]["number"], 2);
    assert_eq!(run.metric(r#"gateway_upgrades_total{outcome="success"}"#), Some(1.0));
    assert_eq!(run.installed.processes().len(), 1);
}

#[test]
fn a_signal_does_the_same_time_and_again() {
    let mut run = Run::start(&saying("x", ""));
    run.process.signal("USR2");
    run.process.await_line("another process serves in place of this one");
    assert!(run.process.wait().success());

    for _ in 0..2 {
        let before = run.pid();
        let pid = run.upgrade()["pid"].as_u64();
        assert_eq!((Some(run.pid()), run.get().status), (pid, 200));
        assert_ne!(pid, Some(before));
    }
    eventually("those before have ended", || run.installed.processes().len() == 1);
}

#[test]
fn a_process_that_fails_at_any_step_leaves_the_one_before_serving() {
    let limit = "plugins: [{kind: rate-limit, options: {key: [client.ip], limits: [{requests: 1000000, per: 1s}]}}]\n";
    let config = saying("x", limit).replace("upgrade_timeout: 20s", "upgrade_timeout: 1500ms");
    let run = Run::start(&config);
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/successor.py");
    let mut failures = 0.0;
    let steps = ["start", "take", "given", "sockets", "ready", "state", "over"];
    for step in steps {
        let ends = ["kill", "refuse", "nonsense", "hang"];
        // A step at which it is not waited for the other process is not one to hang at.
        let hangs = ["start", "sockets", "over"].contains(&step);
        for how in &ends[..if hangs { 4 } else { 3 }] {
            run.installed
                .turn_to_script(&format!("#!/bin/sh\nexec python3 {program} {step} {how} $0\n"));
            let why = under_requests(run.public, || run.fail());
            let expected = match (*how, step) {
                ("kill", _) => "the other process ended (signal: 9 (SIGKILL))",
                ("refuse", _) => "it does not want to (exit status: 3)",
                ("nonsense", _) => "the other process speaks another protocol",
                _ => "the other process took too long",
            };
            assert_eq!(why, expected, "{how} at {step}");
            failures += 1.0;
        }
    }
    assert_eq!(run.metric(r#"gateway_upgrades_total{outcome="failure"}"#), Some(failures));
    eventually("what failed has ended", || run.installed.processes().len() == 1);

    run.installed.turn_to(&gateway_binary());
    under_requests(run.public, || run.upgrade());
}

#[test]
fn what_cannot_be_started_says_why() {
    let run = Run::start(&saying("x", ""));
    let gateway = run.installed.path("gateway").display().to_string();
    let expect = |expected: &str| {
        let why = under_requests(run.public, || run.fail());
        assert!(why.contains(expected), "{why}");
    };

    run.installed.turn_to_script("#!/bin/sh\nexit 7\n");
    expect("the other process ended (exit status: 7)");
    run.installed.turn_to_script("no program\n");
    fs::remove_file(&gateway).expect("it can be removed");
    expect(&format!("{gateway}: No such file or directory"));

    run.installed.turn_to(&gateway_binary());
    let good = saying("x", "");
    run.installed.configure(&good.replace("reply: {body: x}", "reply: {status: 900}"));
    expect("gateway.yaml:6");
    let held = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let held = held.local_addr().expect("it is bound").to_string();
    run.installed.configure(&good.replacen("127.0.0.1:0\"}]", &format!("{held}\"}}]"), 1));
    expect(&format!("listener `public` cannot bind {held}"));

    run.installed.configure(&good);
    run.upgrade();
}

/// State that is limited, broken, drained and weighed, behind an origin that fails where it is told to.
fn stateful(endpoints: [SocketAddr; 2], more: &str) -> String {
    let [good, bad] = endpoints;
    format!(
        "version: 1\nserver: {{workers: 2, drain_timeout: 4s{more}}}\n\
         admin: {{address: \"127.0.0.1:0\", token: s3cret}}\naccess_log: {{output: \"off\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n- {{name: good, endpoints: [{{address: \"{good}\", weight: 3}}, {{address: \"{bad}\"}}], health: {{active: {{path: /, interval: 200ms, unhealthy_after: 1}}}}}}\n\
         - {{name: bad, endpoints: [\"{bad}\"]}}\n\
         routes:\n- {{name: limited, match: {{path: /limited}}, reply: {{status: 204}}, plugins: [{{kind: rate-limit, options: {{key: [\"request.header.x-key\"], limits: [{{requests: 5, per: 1h}}]}}}}]}}\n\
         - {{name: windowed, match: {{path: /windowed}}, reply: {{status: 204}}, plugins: [{{kind: rate-limit, options: {{key: [\"request.header.x-key\"], limits: [{{requests: 5, per: 1h, algorithm: sliding_window}}]}}}}]}}\n\
         - {{name: broken, match: {{path: /broken}}, upstream: bad, plugins: [{{kind: circuit-breaker, options: {{minimum: 5, open_for: 10m, open_at_most: 10m}}}}]}}\n\
         - {{name: good, match: {{path: /good}}, upstream: good}}\n"
    )
}

/// What there is to see of its state.
fn seen(run: &Run) -> Value {
    let mut upstreams = run.call("GET", "/upstreams").json();
    for upstream in upstreams.as_array_mut().expect("a list") {
        for endpoint in upstream["endpoints"].as_array_mut().expect("a list") {
            let endpoint = endpoint.as_object_mut().expect("a mapping");
            // These move by themselves.
            for moves in ["latency_ms", "checked_at", "requests_in_flight", "in_flight"] {
                endpoint.remove(moves);
            }
        }
    }
    let left = |path: &str, key: &str| {
        let get = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n");
        let answer = Client::connect(run.public).send(get).response();
        (answer.status, answer.header("ratelimit").map(str::to_owned))
    };
    let buckets: Vec<_> = ["/limited", "/windowed"]
        .into_iter()
        .flat_map(|path| ["full", "half"].map(|key| left(path, key)))
        .collect();
    let broken =
        Client::connect(run.public).send("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n").response();
    json!({ "upstreams": upstreams, "buckets": buckets, "broken": broken.status })
}

#[test]
fn state_is_the_same_before_and_after_a_reload_and_an_upgrade() {
    let origin = |status: &'static str| {
        Origin::scripted(move |exchange| {
            exchange.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
        })
    };
    let (good, bad) = (origin("200 OK"), origin("503 Service Unavailable"));
    let config = stateful([good.address(), bad.address()], "");
    let run = Run::start(&config);
    let ask = |path: &str, key: &str| {
        let get = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n");
        Client::connect(run.public).send(get).response().status
    };
    for path in ["/limited", "/windowed"] {
        assert_eq!([0; 6].map(|_| ask(path, "full")), [204, 204, 204, 204, 204, 429]);
        assert_eq!([0; 2].map(|_| ask(path, "half")), [204; 2]);
    }
    assert_eq!([0; 6].map(|_| ask("/broken", "x"))[4..], [503, 503]);
    let answered = ask("/good", "x");
    assert_eq!(answered, 200);
    let weight = format!("/upstreams/good/endpoints/{}/weight?value=9", good.address());
    assert_eq!(run.call("POST", &weight).status, 200);
    let state = || seen(&run);
    eventually("the bad endpoint is found so", || {
        run.call("GET", "/upstreams").json()[0]["endpoints"][1]["state"] == "unhealthy"
    });

    let before = state();
    assert_eq!(before["upstreams"][1]["breakers"][0]["state"], "open", "{before:#}");
    assert_eq!(before["upstreams"][0]["endpoints"][0]["overrides"]["weight"], 9, "{before:#}");
    let count = |state: &Value, index: usize| state["buckets"][index][0].clone();
    assert_eq!(
        [0, 1, 2, 3].map(|index| count(&before, index)),
        [429, 204, 429, 204].map(Value::from)
    );

    // Something else of the config is another one.
    run.installed.configure(
        &(config.clone() + "- {name: more, match: {path: /more}, reply: {status: 204}}\n"),
    );
    assert_eq!(run.call("POST", "/reload").status, 200);
    let reloaded = state();
    run.upgrade();
    let upgraded = state();
    for (after, how) in [(&reloaded, "reload"), (&upgraded, "upgrade")] {
        assert_eq!(after["upstreams"], before["upstreams"], "{how}");
        assert_eq!(after["broken"], before["broken"], "{how}");
        assert_eq!(count(after, 0), 429, "{how}");
        assert_eq!(count(after, 2), 429, "{how}");
    }
    // Five in all: two, and one each time that it was looked.
    assert_eq!([count(&reloaded, 1), count(&upgraded, 1)], [204, 204].map(Value::from));
    for path in ["/limited", "/windowed"] {
        assert_eq!(ask(path, "half"), 429, "{path}");
    }
}

/// A config at whose upgrade socket others take over.
fn with_a_door(text: &str) -> String {
    saying(text, "").replace("upgrade_timeout", "upgrade_socket: own/upgrade.sock, upgrade_timeout")
}

fn installed_with_a_door() -> Installed {
    let installed = Installed::new(&with_a_door("before"));
    fs::create_dir(installed.path("own")).expect("it can be made");
    installed
}

#[test]
fn a_process_that_somebody_else_started_takes_over_at_the_upgrade_socket() {
    let mut run = Run::of(installed_with_a_door(), &[]);
    let door = run.installed.path("own/upgrade.sock");
    eventually("it is open", || door.exists());
    let mode = fs::metadata(&door).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    run.installed.configure(&with_a_door("after"));
    let mut next = under_requests(run.public, || {
        let mut next = run.installed.run(&[]);
        next.await_line("listening");
        next
    });
    run.process.await_line("another process serves in place of this one");
    assert!(run.process.wait().success());
    assert_eq!((run.get().text(), run.pid()), ("after".to_owned(), u64::from(next.id())));

    // One that cannot start leaves it as it is, and says why itself.
    run.installed
        .configure(&with_a_door("broken").replace("status", "stat").replace("match", "macth"));
    let mut broken = run.installed.run(&[]);
    assert_eq!(broken.wait().code(), Some(2));
    assert_eq!(run.pid(), u64::from(next.id()));

    // Where nobody serves any more it starts as it would without.
    next.signal("KILL");
    next.wait();
    assert!(door.exists(), "what is left of it is in nobody's way");
    run.installed.configure(&with_a_door("alone"));
    let mut alone = run.installed.run(&[]);
    let public = alone.await_address("listening");
    let answer = Client::connect(public).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response();
    assert_eq!(answer.text(), "alone");
}

#[test]
fn what_comes_to_the_upgrade_socket_and_is_no_gateway_changes_nothing() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let mut run = Run::of(installed_with_a_door(), &[]);
    let door = run.installed.path("own/upgrade.sock");
    eventually("it is open", || door.exists());
    let connect = || UnixStream::connect(&door).expect("somebody listens there");
    connect().write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it can be written");
    run.process.await_line("the other process speaks another protocol");
    // The line comes a moment before the turn is over, and who comes in between is told to come again.
    std::thread::sleep(Duration::from_millis(200));
    drop(connect());
    run.process.await_line("the other process ended");
    // One at a time: who comes while another is there waits.
    let silent = connect();
    let next = run.installed.run(&[]);
    assert_eq!(run.get().text(), "before");
    drop(silent);
    run.process.await_line("another process serves in place of this one");
    assert_eq!(run.pid(), u64::from(next.id()));
}

#[test]
fn an_upgrade_socket_where_others_may_write_is_a_fault() {
    let installed = installed_with_a_door();
    let folder = installed.path("own");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let told = installed.command(&["check", "-c", "gateway.yaml"]);
    let said =
        String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(2), "{said}");
    assert!(
        said.contains("gateway.yaml:2") && said.contains("nobody else may write there"),
        "{said}"
    );
}

#[test]
fn a_rollback_holds_for_whoever_takes_over_and_a_worse_config_takes_nothing_over() {
    let config = |text: &str| {
        let history = "reload: {history: {folder: kept}}\n";
        with_a_door(text).replace("s3cret", "{file: token}") + history
    };
    let installed = Installed::new(&config("one"));
    fs::create_dir(installed.path("own")).expect("it can be made");
    fs::write(installed.path("token"), "s3cret").expect("it can be written");
    let run = Run::of(installed, &[]);
    run.installed.configure(&config("two"));
    assert_eq!(run.call("POST", "/reload").status, 200);
    assert_eq!(run.call("POST", "/rollback").status, 200);

    let door = run.installed.path("own/upgrade.sock");
    eventually("it is open", || door.exists());
    let next = run.installed.run(&[]);
    eventually("it has taken over", || run.pid() == u64::from(next.id()));
    assert_eq!(run.get().text(), "one");

    run.installed.configure("version: 2");
    let history = run.installed.path("kept").display().to_string();
    let mut worse = run.installed.run(&["--last-good", &history]);
    assert_eq!(worse.wait().code(), Some(2), "{}", worse.stderr.join("\n"));
    assert_eq!((run.pid(), run.get().text()), (u64::from(next.id()), "one".to_owned()));
}

/// A process before that gives up when it has waited long enough, and then lives on.
#[test]
fn one_that_is_too_slow_does_not_take_the_silence_for_an_end() {
    // What follows is held before it is ready: its upstream's name takes its time, longer than there is.
    let held = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let server = held.local_addr().expect("it is bound");
    let installed = installed_with_a_door();
    let run = Run::of(installed, &[]);
    let more = format!(
        "upstreams: [{{name: found, discover: {{dns: \"a.test:80\", server: \"{server}\"}}}}]\n"
    );
    let short =
        |text: &str| with_a_door(text).replace("upgrade_timeout: 20s", "upgrade_timeout: 1s");
    run.installed.configure(&short("before"));
    // `server` needs a restart: one that nobody notices.
    run.upgrade();
    eventually("the one before has ended", || run.installed.processes().len() == 1);
    let before = run.pid();

    run.installed.configure(&(short("after") + &more));
    let (status, said) = under_requests(run.public, || {
        let mut late = run.installed.run(&[]);
        let status = late.wait().code();
        (status, late.stderr.join("\n"))
    });
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the other process took too long"), "{said}");
    assert_eq!((run.pid(), run.get().text()), (before, "before".to_owned()));
    assert_eq!(run.installed.processes().len(), 1);
}

#[test]
fn what_is_asked_of_a_process_that_does_not_serve_any_more_is_refused_or_passed_on() {
    let run = Run::start(&saying("before", ""));
    // For as long as it is connected to, the one before is there.
    let _connected = Client::connect(run.public);
    let mut admin = Client::connect(run.admin);
    let get = "GET /status HTTP/1.1\r\nHost: a\r\n\r\n";
    let first = admin.send(get).response().json()["pid"].clone();
    run.upgrade();

    let post = "POST /reload HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\nContent-Length: 0\r\n\r\n";
    let refused = admin.send(post).response();
    assert_eq!((refused.status, refused.header("connection")), (409, Some("close")));
    assert_ne!(run.status()["pid"], first);
    run.installed.configure(&saying("after", ""));
    run.process.signal("HUP");
    eventually("it has reached the one that serves", || run.get().text() == "after");
}

#[test]
fn sessions_of_tls_are_resumed_after_reloads_and_by_the_process_that_follows() {
    let authority = Certificates::new();
    let own = authority.issue("own", "DNS:a.test,IP:127.0.0.1");
    let tls = format!(
        "\"127.0.0.1:0\", tls: {{certificates: [{{cert: {}, key: {}}}]}}}}]\nroutes",
        own.cert, own.key
    );
    let config = saying("x", "");
    let run = Run::start(&config.replace("\"127.0.0.1:0\"}]\nroutes", &tls));
    let session = run.installed.path("session").display().to_string();
    let connect = |more: &[&str]| {
        let connect = run.public.to_string();
        let words = ["s_client", "-connect", &connect, "-tls1_2"];
        let told = Command::new("openssl")
            .args(words)
            .args(more)
            .stdin(std::process::Stdio::null())
            .output();
        String::from_utf8_lossy(&told.expect("openssl is installed").stdout).into_owned()
    };
    assert!(connect(&["-sess_out", &session]).contains("New, TLSv1.2"));
    let resumes = || connect(&["-sess_in", &session]).contains("Reused, TLSv1.2");
    assert!(resumes());
    assert_eq!(run.call("POST", "/reload").status, 200);
    assert!(resumes(), "after a reload");
    run.upgrade();
    assert!(resumes(), "after an upgrade");
}

#[test]
fn what_was_rolled_back_to_is_in_force_after_an_upgrade_too() {
    let config = |text: &str| {
        saying(text, "reload: {history: {folder: kept}}\n").replace("s3cret", "{file: token}")
    };
    let installed = Installed::new(&config("one"));
    fs::write(installed.path("token"), "s3cret").expect("it can be written");
    let run = Run::of(installed, &[]);
    run.installed.configure(&config("two"));
    assert_eq!(run.call("POST", "/reload").status, 200);
    assert_eq!(run.call("POST", "/rollback").status, 200);
    assert_eq!(run.get().text(), "one");

    run.upgrade();
    assert_eq!(run.get().text(), "one");
    assert_eq!(run.status()["last_reload"]["history_entry"], 1);
    // And again: the process that follows knows it as well as the one before did.
    run.upgrade();
    assert_eq!(run.get().text(), "one");
    // With faults, and as they were, the files do not count; what they say since does.
    run.installed.configure("version: 2");
    run.upgrade();
    assert_eq!(run.get().text(), "one");
    run.installed.configure(&config("three"));
    run.upgrade();
    assert_eq!(
        (run.get().text(), &run.status()["last_reload"]),
        ("three".to_owned(), &Value::Null)
    );
}

#[test]
fn what_a_start_fell_back_to_is_left_with_the_next_upgrade() {
    let config = |text: &str| {
        saying(text, "reload: {history: {folder: kept}}\n").replace("s3cret", "{file: token}")
    };
    let installed = Installed::new(&config("one"));
    fs::write(installed.path("token"), "s3cret").expect("it can be written");
    let mut first = installed.run(&[]);
    first.await_line("listening");
    first.signal("TERM");
    assert!(first.wait().success());
    installed.configure("version: 2");
    let history = installed.path("kept").display().to_string();
    let run = Run::of(installed, &["--last-good", &history]);
    assert_eq!(run.get().text(), "one");
    let why = run.fail();
    assert!(why.contains("version"), "{why}");

    run.installed.configure(&config("two"));
    run.upgrade();
    assert_eq!(run.get().text(), "two");
}

#[test]
fn a_signal_to_end_means_whoever_serves_by_now() {
    let origin = Origin::scripted(|exchange| {
        thread::sleep(Duration::from_millis(1500));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
    });
    let more = format!("upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n", origin.address());
    let config = saying("x", &more).replace("reply: {body: x}", "upstream: origin");
    let mut run = Run::start(&config);
    let mut slow = Client::connect(run.public);
    slow.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(200));
    run.upgrade();
    thread::sleep(Duration::from_millis(200));
    // As a script does that knows the number of the process that it has started.
    run.process.signal("TERM");
    assert_eq!(slow.response().text(), "late");
    assert!(run.process.wait().success());
    eventually("both have ended", || run.installed.processes().is_empty());
}

#[test]
fn one_that_is_told_to_end_meanwhile_ends_and_takes_the_other_with_it() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/successor.py");
    let mut run = Run::start(&saying("x", ""));
    run.installed.turn_to_script(&format!("#!/bin/sh\nexec python3 {program} sockets hang $0\n"));
    run.process.signal("USR2");
    eventually("the other is there", || run.installed.processes().len() == 2);
    let again = run.call("POST", "/upgrade");
    assert_eq!(
        (again.status, again.json()["detail"].as_str()),
        (409, Some("an upgrade is under way already"))
    );

    run.process.signal("TERM");
    assert!(run.process.wait().success());
    let said = run.process.stderr.join("\n");
    assert!(said.contains("this process is about to end"), "{said}");
    eventually("the other has ended too", || run.installed.processes().is_empty());
}

#[test]
fn a_process_before_that_dies_leaves_its_sockets_to_the_one_that_follows() {
    // The one that follows is held where it has the sockets and is not ready: its upstream's name takes its time.
    let held = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let server = held.local_addr().expect("it is bound");
    let more = format!(
        "upstreams: [{{name: found, discover: {{dns: \"a.test:80\", server: \"{server}\"}}}}]\n"
    );
    let mut run = Run::start(&saying("x", &more));
    run.process.signal("USR2");
    run.process.await_line("taking over");
    run.process.signal("KILL");
    run.process.wait();

    eventually("the other serves", || {
        let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        Client::connect(run.public).send(get).response().status == 200
    });
    assert_eq!(run.installed.processes().len(), 1);
}

/// Of two that drain, the one that is told to end waits for the other: whoever waits for it cuts what is left.
#[test]
fn one_that_is_told_to_end_waits_for_the_one_before_to_have_drained() {
    let origin = Origin::scripted(|exchange| {
        thread::sleep(Duration::from_millis(2500));
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
    });
    let more = format!("upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n", origin.address());
    let config = saying("x", &more).replace("reply: {body: x}", "upstream: origin");
    let run = Run::start(&config);
    let mut slow = Client::connect(run.public);
    slow.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(100));
    run.upgrade();
    let follower = run.pid().to_string();
    let began = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-s", "TERM", &follower])
            .status()
            .is_ok_and(|sent| sent.success())
    );
    thread::sleep(Duration::from_millis(1000));
    assert_eq!(run.installed.processes().len(), 2, "both are there");
    assert_eq!(slow.response().text(), "late");
    eventually("both have ended", || run.installed.processes().is_empty());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// Nobody else can see that the process that follows has ended while its parent drains.
#[test]
fn one_that_drains_ends_when_the_one_that_follows_it_dies() {
    let mut run = Run::start(&saying("x", "").replace("drain_timeout: 4s", "drain_timeout: 60s"));
    let origin = Client::connect(run.public);
    run.upgrade();
    let follower = run.pid().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "KILL", &follower])
            .status()
            .is_ok_and(|sent| sent.success())
    );
    assert_eq!(run.process.wait().code(), Some(1));
    drop(origin);
}
