//! The `gateway` command as an operator meets it: what it prints, how it exits, which signals do
//! what.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gateway_tests::{Client, Origin, Process, Response, eventually, gateway_binary, violations};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command to its end, in the folder of its config.
pub(crate) fn gateway(folder: &TempDir, arguments: &[&str]) -> Output {
    let command = Command::new(gateway_binary()).args(arguments).current_dir(folder).output();
    command.expect("the command can be run")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("the command exits")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with this `gateway.yaml`. In it `DIR` stands for the folder.
pub(crate) fn folder(config: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    write(&folder, config);
    std::fs::write(folder.path().join("token"), "s3cret\n").expect("it can be written");
    folder
}

fn write(folder: &TempDir, config: &str) -> PathBuf {
    let path = folder.path().join("gateway.yaml");
    let config = config.replace("DIR", &folder.path().display().to_string());
    std::fs::write(&path, config).expect("the config can be written");
    path
}

/// A config whose one route answers with this text.
fn saying(text: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 1, drain_timeout: 5s}}\n\
         admin: {{address: \"127.0.0.1:0\", token: {{file: token}}}}\n\
         access_log: {{output: \"off\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         routes: [{{name: only, match: {{path: /}}, reply: {{body: {text}}}}}]\n"
    )
}

/// A config that passes everything on.
fn proxying(upstream: SocketAddr) -> String {
    saying("x").replace("reply: {body: x}", "upstream: origin")
        + &format!("upstreams: [{{name: origin, endpoints: [\"{upstream}\"]}}]\n")
}

/// A gateway that runs as a process, in a folder of its own with a token for its admin address.
pub(crate) struct Run {
    process: Process,
    pub(crate) folder: TempDir,
    public: SocketAddr,
    pub(crate) admin: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn start(config: &str) -> Self {
        let folder = folder(config);
        let config = folder.path().join("gateway.yaml");
        let mut process = Process::start(&["run", "-c", &config.display().to_string()]);
        let admin = address(&process.await_line("admin calls are answered"));
        let public = address(&process.await_line("listening"));
        let public = public.parse().expect("a listener has an address");
        Self { process, folder, public, admin }
    }

    fn client(&self) -> Client {
        Client::connect(self.public)
    }

    fn get(&self) -> Response {
        self.client().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response()
    }

    /// A GET request to the admin address.
    fn admin(&self, path: &str) -> Response {
        let address = self.admin.parse().expect("the admin address is one of TCP");
        Client::connect(address).send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).response()
    }

    fn revision(&self) -> serde_json::Value {
        self.admin("/revision").json()["revision"]["number"].clone()
    }

    /// `gateway reload` with the gateway's own token.
    fn reload(&self) -> Output {
        gateway(&self.folder, &["reload", "--admin", &self.admin, "--token-file", "token"])
    }
}

/// The address in a log line.
fn address(line: &str) -> String {
    let line: serde_json::Value = serde_json::from_str(line).expect("a log line is JSON");
    line["address"].as_str().expect("the line names an address").to_owned()
}

/// An origin that tells when a request is there, and answers when it is told to.
fn held_origin() -> (Origin, Receiver<()>, Sender<()>) {
    let (arrived, arrival) = channel();
    let (release, released) = channel();
    let (arrived, released) = (Mutex::new(arrived), Mutex::new(released));
    let origin = Origin::scripted(move |exchange| {
        let _ = arrived.lock().unwrap_or_else(PoisonError::into_inner).send(());
        let _ = released.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PATIENCE);
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
    });
    (origin, arrival, release)
}

/// Five faults, each of another kind, with the lines that say so.
const FIVE_FAULTS: &str = "\
version: 1
acess_log: {output: stdout}
listeners:
  - {name: public, address: localhost}
upstreams:
  - {name: users, endpoints: [\"127.0.0.1:1\"], timeouts: {connect: 10}}
routes:
  - {match: {path: /}, upstream: users}
  - {name: other, match: {path: /x}, reply: {status: 900}}
";
const FIVE_LINES: [&str; 5] = [
    "gateway.yaml:2:1  acess_log: unknown key `acess_log`, did you mean `access_log`?",
    "gateway.yaml:4:29  listeners[0].address: ",
    "gateway.yaml:6:67  upstreams[0].timeouts.connect: expected a duration such as `10s`, got the number 10",
    "gateway.yaml:8:5  routes[0]: ",
    "gateway.yaml:9:54  routes[1].reply.status: ",
];

#[track_caller]
fn assert_lines(text: &str, starts: &[&str]) {
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{text}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\ndoes not start with\n{start}");
        assert!(line.len() > "gateway.yaml:1:1  ".len() + 20, "it says nothing: {line}");
    }
}

#[test]
fn check_prints_every_fault_with_its_place_and_exits_2() {
    let folder = folder(FIVE_FAULTS);

    let output = gateway(&folder, &["check", "-c", "gateway.yaml"]);

    assert_eq!(code(&output), 2);
    assert_lines(&stderr(&output), &FIVE_LINES);
    assert_eq!(stdout(&output), "");
}

#[test]
fn run_prints_the_same_faults_and_does_not_start() {
    let folder = folder(FIVE_FAULTS);

    let output = gateway(&folder, &["run", "-c", "gateway.yaml"]);

    assert_eq!(code(&output), 2);
    assert_lines(&stderr(&output), &FIVE_LINES);
}

#[test]
fn references_and_options_are_checked_together() {
    let folder = folder(
        "version: 1\n\
         access_log: {fields: [time, rout]}\n\
         listeners: [{name: public, address: \"127.0.0.1:0\"}]\n\
         upstreams: [{name: users, endpoints: [\"127.0.0.1:1\"]}]\n\
         routes:\n\
         - {name: a, match: {path: /}, upstream: usres}\n\
         - name: b\n\
         \x20 match: {path: /b}\n\
         \x20 upstream: users\n\
         \x20 plugins: [{kind: ip-restriction, options: {allow: [nonsense]}}]\n",
    );

    let output = gateway(&folder, &["check"]);

    assert_eq!(code(&output), 2);
    assert_lines(
        &stderr(&output),
        &[
            "gateway.yaml:2:29  access_log.fields[1]: unknown access log field \"rout\", did you mean \"route\"?",
            "gateway.yaml:6:41  routes[0].upstream: there is no upstream `usres`, did you mean `users`?",
            "gateway.yaml:10:54  routes[1].plugins[0].options.allow[0]: ",
        ],
    );
}

#[test]
fn three_faults_in_the_options_of_one_plugin_are_three_messages() {
    let folder = folder(
        "version: 1\n\
         listeners: [{name: public, address: \"127.0.0.1:0\"}]\n\
         routes: [{name: a, reply: {}}]\n\
         plugins:\n\
         \x20 - kind: headers\n\
         \x20   options:\n\
         \x20     request:\n\
         \x20       set: {\"bad name\": x, x-a: \"{client.ipp}\"}\n\
         \x20       remove: [host]\n",
    );

    let output = gateway(&folder, &["check"]);

    assert_eq!(code(&output), 2);
    assert_lines(
        &stderr(&output),
        &[
            "gateway.yaml:8:27  plugins[0].options.request.set[\"bad name\"]: `bad name`",
            "gateway.yaml:8:35  plugins[0].options.request.set.x-a: unknown attribute `client.ipp`; did you mean `client.ip`?",
            "gateway.yaml:9:18  plugins[0].options.request.remove[0]: `host`",
        ],
    );
}

#[test]
fn check_says_that_a_good_config_is_good() {
    let folder = folder(&saying("x"));

    for spelling in ["check", "-t"] {
        let output = gateway(&folder, &[spelling, "-c", "gateway.yaml"]);

        assert_eq!((code(&output), stdout(&output).as_str()), (0, "gateway.yaml is valid\n"));
    }
}

#[test]
fn check_can_answer_in_json() {
    let folder = folder(FIVE_FAULTS);

    let output = gateway(&folder, &["check", "--format", "json"]);

    assert_eq!(code(&output), 2);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(answer["valid"], false);
    assert_eq!(answer["faults"].as_array().map(Vec::len), Some(5));
    assert_eq!(answer["faults"][2]["path"], "upstreams[0].timeouts.connect");
    assert_eq!(
        (&answer["faults"][2]["line"], &answer["faults"][2]["column"]),
        (&6.into(), &67.into())
    );
}

#[test]
fn warnings_are_printed_and_are_faults_only_if_strict() {
    let folder = folder(&saying("x").replace("{file: token}", "literal"));

    let lenient = gateway(&folder, &["check"]);
    let strict = gateway(&folder, &["check", "--strict"]);

    assert_eq!((code(&lenient), code(&strict)), (0, 3));
    let warning = "warning: gateway.yaml:3:40  admin.token: a secret is written in the file";
    for output in [lenient, strict] {
        assert!(stderr(&output).starts_with(warning), "{}", stderr(&output));
        assert!(!stderr(&output).contains("literal"));
    }
}

#[test]
fn a_config_of_another_version_is_refused_with_what_this_build_reads() {
    let folder = folder("version: 2\nlisteners: {of: another, kind: entirely}\n");

    let output = gateway(&folder, &["check"]);

    assert_eq!(code(&output), 2);
    assert_eq!(
        stderr(&output),
        "gateway.yaml:1:10  version: this build reads version 1; the file is written for version 2\n"
    );
}

#[test]
fn a_config_that_is_not_there_is_named() {
    let folder = folder("");

    for command in ["check", "run", "routes"] {
        let output = gateway(&folder, &[command, "-c", "nowhere.yaml"]);

        assert_eq!(code(&output), 2, "{command}");
        let said = stderr(&output);
        assert!(said.starts_with("nowhere.yaml  cannot be read: No such file"), "{said}");
    }
}

#[test]
fn a_command_that_does_not_exist_is_a_usage_error() {
    let output = gateway(&folder(""), &["serve"]);

    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("unrecognized subcommand 'serve'"));
}

#[test]
fn an_address_that_is_taken_is_named_with_its_listener_and_exits_69() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("it is bound").1;
    let holder = TcpListener::bind(taken).expect("the port is still free");
    let folder = folder(&saying("x").replacen("127.0.0.1:0\"}]", &format!("{taken}\"}}]"), 1));

    let output = gateway(&folder, &["run"]);

    assert_eq!(code(&output), 69, "{}", stderr(&output));
    let expected = format!("listener `public` cannot bind {taken}: Address already in use");
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    drop(holder);
}

#[test]
fn check_says_what_run_would_not_start_with() {
    let folder = folder(
        "version: 1\n\
         admin: {address: \"127.0.0.1:9\", token: {env: GATEWAY_TEST_UNSET}}\n\
         access_log: {output: none/access.log}\n\
         listeners: [{name: public, address: \"127.0.0.1:9\"}]\n\
         routes: [{name: all, reply: {}}]\n",
    );

    let check = gateway(&folder, &["check"]);
    let run = gateway(&folder, &["run"]);

    for expected in [
        "gateway.yaml:2:40  admin.token: environment variable `GATEWAY_TEST_UNSET` is not set or empty",
        "gateway.yaml:2:18  admin.address: the listener `public` has this address already",
        "gateway.yaml:3:22  access_log.output: there is no folder `",
    ] {
        assert!(stderr(&check).contains(expected), "{}", stderr(&check));
    }
    assert_eq!((code(&check), code(&run)), (2, 2));
    assert_eq!(stderr(&check), stderr(&run));
}

#[test]
fn output_that_nobody_reads_to_its_end_is_no_failure() {
    let mut command = Command::new(gateway_binary());
    let mut child = command
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the gateway runs");

    drop(child.stdout.take());

    let output = child.wait_with_output().expect("it ends");
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
}

#[test]
fn reload_over_tcp_needs_the_token() {
    let run = Run::start(&saying("first"));
    write(&run.folder, &saying("second"));
    std::fs::write(run.folder.path().join("wrong"), "guess").expect("it can be written");

    for arguments in [vec![], vec!["--token-file", "wrong"]] {
        let output =
            gateway(&run.folder, &[&["reload", "--admin", &run.admin][..], &arguments].concat());
        assert_eq!(code(&output), 1);
        assert!(stderr(&output).contains("403"), "{}", stderr(&output));
    }
    assert_eq!(run.get().text(), "first");

    let output = run.reload();
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (0, "revision 2\n"),
        "{}",
        stderr(&output)
    );
    assert_eq!(run.get().text(), "second");
}

#[test]
fn reload_finds_address_and_token_in_a_config() {
    let run = Run::start(&saying("first"));
    write(&run.folder, &saying("second"));
    let with_address = saying("x").replacen("127.0.0.1:0", &run.admin, 1);
    std::fs::write(run.folder.path().join("where.yaml"), with_address).expect("it can be written");

    let output = gateway(&run.folder, &["reload", "-c", "where.yaml"]);

    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(run.get().text(), "second");
}

#[test]
fn reload_over_a_unix_socket_needs_no_token() {
    let config = |text: &str| {
        saying(text).replace("\"127.0.0.1:0\", token: {file: token}}", "\"unix:DIR/admin.sock\"}")
    };
    let run = Run::start(&config("first"));
    write(&run.folder, &config("second"));

    let output = gateway(&run.folder, &["reload", "-c", "gateway.yaml"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(run.get().text(), "second");

    write(&run.folder, &config("third"));
    let output = gateway(&run.folder, &["reload", "--admin", &run.admin]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(run.get().text(), "third");
}

#[test]
fn reload_of_a_bad_config_prints_its_faults_and_changes_nothing() {
    let run = Run::start(&saying("first"));
    write(&run.folder, FIVE_FAULTS);

    let output = run.reload();

    assert_eq!(code(&output), 2);
    let said = stderr(&output);
    let at_home = format!("{}/", run.folder.path().display());
    assert_lines(&said.replace(&at_home, ""), &FIVE_LINES);
    assert_eq!((run.get().text().as_str(), run.revision()), ("first", 1.into()));
}

#[test]
fn reload_of_a_config_that_is_gone_names_the_file_alone() {
    let run = Run::start(&saying("first"));
    let config = run.folder.path().join("gateway.yaml");
    std::fs::remove_file(&config).expect("it is there");

    let output = run.reload();

    assert_eq!(code(&output), 2);
    let expected = format!("{}  cannot be read: ", config.display());
    assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    assert_eq!(run.get().text(), "first");
}

#[test]
fn reload_reaches_the_gateway_through_a_config_with_faults() {
    let config = |text: &str| {
        saying(text).replace("\"127.0.0.1:0\", token: {file: token}}", "\"unix:DIR/admin.sock\"}")
    };
    let run = Run::start(&config("first"));
    write(&run.folder, &config("second").replace("reply", "repyl"));

    let output = gateway(&run.folder, &["reload"]);

    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("unknown key `repyl`"), "{}", stderr(&output));
    assert_eq!(run.get().text(), "first");
}

#[test]
fn reload_says_when_no_gateway_runs() {
    let folder = folder("");
    let nobody = Origin::nobody().to_string();

    let over_tcp = gateway(&folder, &["reload", "--admin", &nobody]);
    let over_unix = gateway(&folder, &["reload", "--admin", "unix:/nonexistent/admin.sock"]);

    for (output, address) in [(over_tcp, nobody.as_str()), (over_unix, "unix:/nonexistent")] {
        assert_eq!(code(&output), 1);
        let expected = format!("cannot reach the gateway at {address}");
        assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    }
}

#[test]
fn reload_of_a_text_that_is_no_yaml_is_a_config_fault() {
    let folder = folder("version: [1\n");

    let output = gateway(&folder, &["reload"]);

    assert_eq!(code(&output), 2);
    assert!(stderr(&output).starts_with("gateway.yaml:"), "{}", stderr(&output));
}

#[test]
fn plugins_are_listed_with_their_class_and_options() {
    let folder = folder("");

    let text = stdout(&gateway(&folder, &["plugins"]));
    let json = gateway(&folder, &["plugins", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");

    let kinds: Vec<_> =
        json.as_array().expect("it is a list").iter().map(|one| &one["kind"]).collect();
    let all = [
        "body-limit",
        "circuit-breaker",
        "compression",
        "cors",
        "grpc-message-limit",
        "grpc-web",
        "headers",
        "ip-restriction",
        "jwt",
        "key-auth",
        "rate-limit",
        "redaction",
        "request-id",
    ];
    assert_eq!(kinds, all);
    assert_eq!(text.lines().count(), kinds.len());
    assert_eq!(json[0]["class"], "security");
    assert!(json[0]["options"]["properties"]["max"].is_object());
}

#[test]
fn the_version_is_told_to_people_and_programs() {
    let folder = folder("");

    let text = stdout(&gateway(&folder, &["version"]));
    let json = gateway(&folder, &["version", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");

    assert_eq!(text, format!("gateway {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&json["config_version"], &json["pingora"]), (&1.into(), &"0.9.1".into()));
}

#[test]
fn sigterm_lets_a_request_finish_and_refuses_new_connections() {
    let (origin, arrival, release) = held_origin();
    let mut run = Run::start(&proxying(origin.address()));
    let mut client = run.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    arrival.recv_timeout(PATIENCE).expect("the request reaches the origin");
    assert_eq!(run.admin("/health/ready").status, 200);

    run.process.signal("TERM");
    run.process.await_line("draining");

    eventually("new connections are refused", || TcpStream::connect(run.public).is_err());
    assert_eq!(run.admin("/health/ready").status, 503, "not ready while draining");
    assert_eq!(run.admin("/health/live").status, 200, "but alive");
    release.send(()).expect("the origin waits");
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(run.process.wait().code(), Some(0));
}

#[test]
fn sigterm_ends_a_gateway_with_idle_connections_only_well_before_the_drain_is_over() {
    let mut run = Run::start(&saying("x").replace("drain_timeout: 5s", "drain_timeout: 60s"));
    let mut client = run.client();
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().status, 200);

    let began = Instant::now();
    run.process.signal("TERM");

    assert_eq!(run.process.wait().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_second_sigterm_ends_at_once_and_the_cut_request_is_recorded() {
    let (origin, arrival, _release) = held_origin();
    let config = proxying(origin.address())
        .replace("drain_timeout: 5s", "drain_timeout: 60s")
        .replace("output: \"off\"", "output: DIR/access.log, format: json");
    let mut run = Run::start(&config);
    let mut client = run.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    arrival.recv_timeout(PATIENCE).expect("the request reaches the origin");
    run.process.signal("TERM");
    run.process.await_line("draining");

    let began = Instant::now();
    run.process.signal("TERM");

    assert_eq!(run.process.wait().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(client.response().status, 503);
    let log = std::fs::read_to_string(run.folder.path().join("access.log")).expect("there is one");
    let lines: Vec<serde_json::Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!(lines[0]["failure"], "G3");
    assert_eq!(lines[0]["http.response.status_code"], 503);
}

#[test]
fn a_drain_that_is_asked_for_serves_on_for_as_long_as_others_take_to_notice() {
    let config = saying("x").replace("drain_timeout: 5s", "drain_timeout: 5s, drain_delay: 4s");
    let mut run = Run::start(&config);
    let call = |folder: &TempDir, word: &str| {
        let told = gateway(folder, &[word, "--admin", &run.admin, "--token-file", "token"]);
        (code(&told), stdout(&told) + &String::from_utf8_lossy(&told.stderr))
    };
    std::fs::write(run.folder.path().join("token"), "no\n").expect("it can be written");
    let (refused, told) = call(&run.folder, "drain");
    assert!(refused == 1 && told.contains("403"), "{told}");
    let (ready, told) = call(&run.folder, "status");
    assert_eq!(ready, 0, "{told}");
    let pid = run.process.id();
    for part in [
        &format!("ready, process {pid}, version "),
        "revision 1, ",
        "listener public at 127.0.0.1:",
    ] {
        assert!(told.contains(part), "{told}");
    }
    std::fs::write(run.folder.path().join("token"), "s3cret\n").expect("it can be written");
    let began = Instant::now();
    assert_eq!(call(&run.folder, "drain"), (0, "draining; it ends when it is done\n".to_owned()));
    while began.elapsed() < Duration::from_millis(1_200) {
        assert_eq!(run.admin("/health/ready").status, 503);
        assert_eq!(run.get().text(), "x", "it serves on");
    }
    let (ready, told) = call(&run.folder, "status");
    assert!(ready == 1 && told.starts_with("draining, "), "{told}");
    assert_eq!(run.process.wait().code(), Some(0));
    assert!(began.elapsed() >= Duration::from_millis(3_900), "{:?}", began.elapsed());
}

#[test]
fn sighup_reloads_and_a_bad_config_leaves_the_one_in_force() {
    let mut run = Run::start(&saying("first"));

    write(&run.folder, &saying("second"));
    run.process.signal("HUP");
    run.process.await_line("reloaded");
    assert_eq!(run.get().text(), "second");

    write(&run.folder, &saying("third").replace("reply", "repyl"));
    run.process.signal("HUP");
    let line = run.process.await_line("reload refused");
    assert!(line.contains("unknown key `repyl`"), "{line}");
    assert_eq!(run.get().text(), "second");
}

#[test]
fn sigusr1_opens_the_log_again_after_it_was_moved() {
    let config = saying("x").replace("output: \"off\"", "output: DIR/access.log, format: json");
    let run = Run::start(&config);
    let file = |name: &str| run.folder.path().join(name);
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    assert_eq!(run.get().status, 200);
    eventually("the request is logged", || lines(&file("access.log")) == 1);

    std::fs::rename(file("access.log"), file("access.log.1")).expect("it can be moved");
    run.process.signal("USR1");
    eventually("the file is made anew", || file("access.log").exists());
    assert_eq!(run.get().status, 200);

    eventually("the next is logged to the new file", || lines(&file("access.log")) == 1);
    assert_eq!(lines(&file("access.log.1")), 1);
}

/// A YAML text as JSON.
fn json(yaml: &str) -> serde_json::Value {
    serde_yaml::from_str(yaml).expect("it is YAML")
}

#[test]
fn the_schema_accepts_the_stock_config_and_refuses_one_with_faults() {
    let output = gateway(&folder(""), &["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let stock = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/gateway.yaml");
    let stock = std::fs::read_to_string(stock).expect("it is there");

    assert_eq!(violations(&schema, &json(&stock)), Vec::<String>::new());

    for (before, after) in [
        ("version: 1", "version: 2"),
        ("listeners:", "listners:"),
        ("kind: request-id", "kind: request-ids"),
        ("kind: request-id", "kind: request-id\n    options: {headr: x}"),
        ("address: 127.0.0.1:8080", "address: localhost"),
        ("endpoints: [127.0.0.1:8081]", "endpoints: []"),
    ] {
        let broken = stock.replacen(before, after, 1);
        assert_ne!(broken, stock, "{before}");
        assert!(!violations(&schema, &json(&broken)).is_empty(), "{after}");
    }
}

#[test]
fn a_config_that_is_no_yaml_keeps_nobody_from_calling_the_gateway() {
    let config =
        saying("x").replace("\"127.0.0.1:0\", token: {file: token}", "\"unix:DIR/admin.sock\"");
    let folder = folder(&config);
    let file = folder.path().join("gateway.yaml");
    let mut process = Process::start(&["run", "-c", &file.display().to_string()]);
    process.await_line("admin calls are answered");
    std::fs::write(&file, std::fs::read_to_string(&file).expect("it is there") + "a: [b\n")
        .expect("it can be written");

    assert_eq!(code(&gateway(&folder, &["status"])), 0);
    let refused = gateway(&folder, &["reload"]);
    assert_eq!(code(&refused), 2);
    assert!(stderr(&refused).contains("not YAML"), "{}", stderr(&refused));
    process.await_line("reload refused");
    assert_eq!(code(&gateway(&folder, &["reload", "--canary", "100%"])), 2);
    assert_eq!(code(&gateway(&folder, &["drain"])), 0);
    assert!(process.wait().success());
}
