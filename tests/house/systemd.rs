//! Under systemd, by a program that plays its part, and by systemd itself where that can be started; and as process 1.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use gateway_tests::{Client, Installed, Program, Response, eventually};
use serde_json::Value;

const KIND: [&str; 2] = ["public", "inner"];

/// A config with two listeners: one of the address that is passed, one that is known by its name.
fn config(text: &str, public: &str, more: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 2, drain_timeout: 4s, upgrade_timeout: 20s}}\n\
         admin: {{address: \"127.0.0.1:0\", token: s3cret}}\naccess_log: {{output: \"off\"}}\n\
         listeners: [{{name: public, address: \"{public}\"}}, {{name: inner, address: \"127.0.0.1:1\"}}]\n\
         routes: [{{name: all, match: {{path: /}}, reply: {{body: {text}}}}}]\n{more}"
    )
}

/// A gateway under what plays systemd.
struct Unit {
    manager: Program,
    installed: Installed,
}

impl Unit {
    /// So many milliseconds of watchdog.
    fn start(config: &str, watchdog: u32) -> Self {
        let installed = Installed::new(config);
        let path = |name: &str| installed.path(name).display().to_string();
        let (folder, program, file) = (path(""), path("gateway"), path("gateway.yaml"));
        let (watchdog, names) = (watchdog.to_string(), KIND.join(","));
        let words = [&folder, &watchdog, &names, &program, "run", "-c", &file];
        let manager = Program::start("manager.py", &words.map(|word: &str| word));
        Self { manager, installed }
    }

    fn tell(&mut self, what: &str) -> Value {
        serde_json::from_str(&self.manager.tell(what)).expect("it is JSON")
    }

    #[track_caller]
    fn await_state(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..1000 {
            let state = self.tell("state");
            if holds(&state) {
                return state;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what}: {:#}", self.tell("state"));
    }
}

/// What gives a program a space of processes of its own, which root may do, and who is root in a space of users.
fn of_its_own() -> Vec<&'static str> {
    let told = Command::new("id").arg("-u").output().expect("id is there");
    let is_root = told.stdout == b"0\n";
    let users: &[&str] = if is_root { &[] } else { &["--user", "--map-root-user"] };
    [users, &["--pid", "--fork", "--kill-child"]].concat()
}

#[track_caller]
fn get(address: SocketAddr) -> Response {
    Client::connect(address)
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .response()
}

fn has(lines: &Value, line: &str) -> bool {
    lines.as_array().is_some_and(|lines| lines.iter().any(|one| one == line))
}

#[test]
fn a_service_is_ready_reloads_upgrades_and_stops_as_systemd_is_told() {
    let mut unit = Unit::start(&config("before", "0.0.0.0:1", ""), 1000);
    let state = unit.await_state("it is ready", |state| state["state"] == "active");
    assert!(
        state["status"].as_str().is_some_and(|status| status.starts_with("revision 1 (")),
        "{state}"
    );
    // The sockets that were passed are served: known by their names, as no address is the same.
    let ports = state["ports"].as_array().expect("a list").clone();
    let address = |index: usize| {
        let port = ports[index].as_u64().and_then(|port| u16::try_from(port).ok());
        SocketAddr::from(([127, 0, 0, 1], port.expect("it is a port")))
    };
    assert_eq!([0, 1].map(|index| get(address(index)).text()), ["before"; 2]);
    let first = state["main"].clone();

    // A reload is done when the service says so, good or bad.
    unit.installed.configure(&config("reloaded", "0.0.0.0:1", ""));
    let state = unit.tell("reload");
    assert_eq!(state["state"], "active", "{state:#}");
    assert_eq!(get(address(0)).text(), "reloaded");
    unit.installed.configure("version: 2");
    let state = unit.tell("reload");
    assert_eq!(state["state"], "active", "{state:#}");
    let status = state["status"].as_str().unwrap_or_default();
    assert!(
        status.starts_with("revision 2 (") && status.contains("the last reload was refused"),
        "{status}"
    );

    // An upgrade is one of the main process.
    unit.tell("quiet");
    unit.installed.configure(&config("upgraded", "0.0.0.0:1", ""));
    unit.tell("signal USR2");
    let state = unit.await_state("another is the main process", |state| state["main"] != first);
    let ended = |state: &Value| state["ended"].as_object().is_some_and(|ended| ended.len() == 1);
    let after = unit.await_state("the one before has ended", ended);
    assert_eq!(after["ended"][first.to_string()], 0, "{after:#}");
    assert_eq!((&after["state"], &after["main"]), (&"active".into(), &state["main"]));
    let status =
        |state: &Value| state["status"].as_str().is_some_and(|one| one.starts_with("revision 3 ("));
    unit.await_state("the one that follows says that it serves", status);
    assert_eq!([0, 1].map(|index| get(address(index)).text()), ["upgraded"; 2]);

    // It goes on being watched, and nobody speaks who is not to.
    std::thread::sleep(Duration::from_millis(2500));
    let state = unit.tell("state");
    assert!(state["late_ms"].as_u64() < Some(1000), "{state:#}");
    assert_eq!(state["ignored"], Value::Array(Vec::new()), "{state:#}");

    let state = unit.tell("stop");
    assert_eq!(state["state"], "inactive", "{state:#}");
    let heard = state["heard"].as_array().expect("a list");
    assert!(heard.iter().any(|lines| has(lines, "STOPPING=1")), "{state:#}");
}

#[test]
fn an_upgrade_that_fails_leaves_the_main_process_what_it_is() {
    let text = config("x", "0.0.0.0:1", "");
    let text =
        text.replace("address: \"127.0.0.1:0\", token: s3cret", "address: \"unix:DIR/admin.sock\"");
    let mut unit = Unit::start(&text, 0);
    let before = unit.await_state("it is ready", |state| state["state"] == "active");
    unit.installed.turn_to_script("#!/bin/sh\nexit 7\n");
    unit.tell("signal USR2");
    let failed = || {
        let told = unit.installed.command(&["status", "-c", "gateway.yaml"]);
        String::from_utf8_lossy(&told.stdout).contains("the last upgrade failed: ")
    };
    eventually("it has failed", failed);
    let state = unit.tell("state");
    assert_eq!((&state["main"], &state["state"]), (&before["main"], &"active".into()), "{state:#}");
    assert_eq!(state["ended"], before["ended"]);
    let status = state["status"].as_str().unwrap_or_default();
    assert!(status.contains("the last upgrade failed: the other process ended"), "{status}");
}

#[test]
fn sockets_that_are_passed_serve_whichever_listeners_come_and_go() {
    let both = config("x", "0.0.0.0:1", "");
    let one = both.replace(", {name: inner, address: \"127.0.0.1:1\"}", "");
    let mut unit = Unit::start(&one, 0);
    let state = unit.await_state("it is ready", |state| state["state"] == "active");
    let port = |index: usize| {
        let port = state["ports"][index].as_u64().and_then(|port| u16::try_from(port).ok());
        SocketAddr::from(([127, 0, 0, 1], port.expect("it is a port")))
    };
    assert_eq!(get(port(0)).text(), "x");
    for _ in 0..2 {
        unit.installed.configure(&both);
        unit.tell("reload");
        assert_eq!([0, 1].map(|index| get(port(index)).text()), ["x"; 2]);
        unit.installed.configure(&one);
        unit.tell("reload");
        assert_eq!(get(port(0)).text(), "x");
    }
}

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/systemd").join(name)
}

#[test]
fn the_units_are_what_systemd_takes_them_for_and_leave_little_open() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for name in ["gateway.service", "gateway.socket"] {
        let unit = std::fs::read_to_string(conf(name)).expect("it is there");
        // What it runs is not installed here.
        let unit = unit.replace("/usr/bin/gateway", "/bin/true");
        std::fs::write(folder.path().join(name), unit).expect("it can be written");
    }
    let run = |words: &[&str]| {
        let told = Command::new("systemd-analyze").args(words).current_dir(&folder).output();
        let told = told.expect("systemd-analyze is installed");
        let said =
            [told.stdout, told.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (told.status.success(), said.concat())
    };
    let units = ["./gateway.service", "./gateway.socket"];
    let verified = run(&[&["verify"], &units[..]].concat());
    assert_eq!(verified, (true, String::new()));

    let (_, said) = run(&["security", "--offline=yes", "./gateway.service"]);
    let level =
        said.lines().find_map(|line| line.split("exposure level for gateway.service: ").nth(1));
    let level: f64 =
        level.and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("it says one");
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/guide/systemd.md");
    let guide = std::fs::read_to_string(guide).expect("it is there");
    assert!(level <= 1.7 && guide.contains(&format!("exposure level {level}")), "{level}");
}

/// A gateway as process 1 of a container, or nearly so.
#[test]
fn process_one_stays_while_gateways_follow_each_other() {
    for isolated in [false, true] {
        let text = config("before", "127.0.0.1:0", "").replace("127.0.0.1:1", "127.0.0.1:0");
        let installed = Installed::new(&text);
        let file = installed.path("gateway.yaml").display().to_string();
        let gateway = installed.path("gateway").display().to_string();
        // What is process 1 of its own space of processes knows so by itself.
        let words = match isolated {
            true => [&*of_its_own(), &[&*gateway, "run", "-c", &file]].concat(),
            false => vec!["run", "--supervise", "-c", &file],
        };
        let program = if isolated { "unshare".into() } else { installed.path("gateway") };
        let mut process = gateway_tests::Process::start_in(&program, &words, &[]);
        let admin = process.await_address("admin calls are answered");
        let public = process.await_address("listening");
        let call = |path: &str| {
            let head =
                "HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\nContent-Length: 0\r\n\r\n";
            Client::connect(admin).send(format!("POST {path} {head}")).response()
        };
        assert_eq!(get(public).text(), "before");

        for round in 0..2 {
            installed.configure(&text.replace("before", &format!("after-{round}")));
            let answer = call("/upgrade");
            assert_eq!(answer.status, 200, "{isolated} {}", answer.text());
            assert_eq!(get(public).text(), format!("after-{round}"));
        }
        // An orphan of somebody else is nobody's concern.
        // Signals reach whichever serves by now.
        installed.configure(&text.replace("before", "reloaded"));
        let signal = |name: &str| {
            // Process 1 of another space is told by its number here: the child of `unshare`.
            let parent = process.id().to_string();
            let told = Command::new("pgrep").args(["--oldest", "--parent", &parent]).output();
            let child = String::from_utf8_lossy(&told.expect("pgrep is installed").stdout)
                .trim()
                .to_owned();
            let pid = if isolated { child } else { parent };
            let sent = Command::new("kill").args(["-s", name, &pid]).status();
            assert!(sent.is_ok_and(|status| status.success()));
        };
        eventually("those before have ended", || {
            installed.processes().len() == 2 + usize::from(isolated)
        });
        signal("HUP");
        eventually("it was reloaded", || get(public).text() == "reloaded");
        signal("TERM");
        assert_eq!(process.wait().code(), Some(0));
        assert!(installed.processes().is_empty());
    }
}

#[test]
fn process_one_ends_as_the_gateway_did() {
    let installed = Installed::new("version: 2");
    let mut process = installed.run(&["--supervise"]);
    assert_eq!(process.wait().code(), Some(2));

    installed.configure(&config("x", "127.0.0.1:0", "").replace("127.0.0.1:1", "127.0.0.1:0"));
    let mut process = installed.run(&["--supervise"]);
    process.await_line("listening");
    let gateway = installed.processes().into_iter().find(|pid| *pid != process.id());
    let gateway = gateway.expect("there is one").to_string();
    Command::new("kill").args(["-s", "KILL", &gateway]).status().expect("it is sent");
    assert_eq!(process.wait().code(), Some(128 + 9));
}

/// systemd itself, as process 1 of its own space, with the units of `conf/systemd`.
struct Systemd {
    booted: std::process::Child,
    inside: String,
    installed: Installed,
}

impl Systemd {
    fn boot(config: &str) -> Self {
        let installed = Installed::new(config);
        std::fs::set_permissions(installed.path(""), PermissionsExt::from_mode(0o755))
            .expect("it is ours");
        let units = installed.path("units");
        std::fs::create_dir_all(units.join("gateway.service.d")).expect("it can be made");
        for name in ["gateway.service", "gateway.socket"] {
            let unit = std::fs::read_to_string(conf(name)).expect("it is there");
            let unit = unit
                .replace("/usr/bin/gateway", "/test/gateway")
                .replace("/etc/gateway/", "/test/");
            std::fs::write(units.join(name), unit).expect("it can be written");
        }
        // Twenty seconds are too long for a test to wait.
        let sooner = "[Unit]\nWants=\nAfter=\n[Service]\nWatchdogSec=2\n";
        std::fs::write(units.join("gateway.service.d/sooner.conf"), sooner)
            .expect("it can be written");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/systemd.sh");
        let folder = installed.path("").display().to_string();
        let booted = Command::new("unshare")
            .args(["--pid", "--mount", "--cgroup", "--fork", "--kill-child", script, &folder])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare is installed");
        let parent = booted.id().to_string();
        let mut inside = String::new();
        let mut systemd = Self { booted, inside: String::new(), installed };
        for _ in 0..200 {
            let told = Command::new("pgrep").args(["--parent", &parent]).output();
            inside = String::from_utf8_lossy(&told.expect("pgrep is installed").stdout)
                .trim()
                .to_owned();
            systemd.inside = inside.clone();
            if !inside.is_empty()
                && systemd.run(&["systemctl", "is-system-running"]).1.trim() == "running"
            {
                return systemd;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("systemd does not come up: {inside}");
    }

    /// Runs a command inside: its exit code, and what it says.
    fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        let told =
            Command::new("nsenter").args(["-t", &self.inside, "-a", "--"]).args(words).output();
        let told = told.expect("nsenter is installed");
        let said =
            [told.stdout, told.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (told.status.code(), said.concat())
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let (code, said) = self.run(words);
        let more = || self.run(&["systemctl", "status", "gateway", "--no-pager"]).1;
        assert_eq!(code, Some(0), "{words:?}: {said}\n{}", more());
        said
    }

    fn property(&self, name: &str) -> String {
        self.does(&["systemctl", "show", "gateway.service", "--value", "-p", name])
            .trim()
            .to_owned()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // With process 1 all others of its space end.
        let _ = Command::new("kill").args(["-s", "KILL", &self.inside]).status();
        let _ = self.booted.wait();
    }
}

/// `cargo test -p gateway-tests --test house -- --ignored systemd_itself`
#[test]
#[ignore = "needs root, systemd and its cgroups"]
fn systemd_itself_starts_reloads_upgrades_watches_and_stops_it() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let public = port.expect("a port is free");
    let config = |text: &str| {
        format!(
            "version: 1\nserver: {{workers: 2, drain_timeout: 4s}}\n\
             admin: {{address: \"unix:/run/gateway/admin.sock\"}}\naccess_log: {{output: /var/log/gateway/access.log}}\n\
             reload: {{history: {{folder: /var/lib/gateway/history}}}}\n\
             listeners: [{{name: public, address: \"{public}\"}}]\n\
             routes: [{{name: all, match: {{path: /}}, reply: {{body: {text}}}}}]\n"
        )
    };
    let systemd = Systemd::boot(&config("one"));
    systemd.does(&["systemctl", "start", "gateway"]);
    // It is started when it serves, and not before.
    assert_eq!(get(public).text(), "one");
    let status = systemd.property("StatusText");
    assert!(status.starts_with("revision 1 ("), "{status}");
    let first = systemd.property("MainPID");

    systemd.installed.configure(&config("two"));
    systemd.does(&["systemctl", "reload", "gateway"]);
    assert_eq!(get(public).text(), "two");
    systemd.installed.configure("version: 2");
    assert_ne!(
        systemd.run(&["systemctl", "reload", "gateway"]).0,
        Some(0),
        "what is refused fails"
    );
    assert_eq!(
        (get(public).text(), systemd.property("ActiveState")),
        ("two".to_owned(), "active".to_owned())
    );

    // The process that follows is the main one, and as well confined as the one before.
    systemd.installed.configure(&config("three"));
    systemd.does(&["systemctl", "kill", "-s", "USR2", "--kill-whom=main", "gateway"]);
    eventually("another is the main process", || systemd.property("MainPID") != first);
    eventually("it serves", || get(public).text() == "three");
    let second = systemd.property("MainPID");
    let words = ["/test/gateway", "upgrade", "-c", "/test/gateway.yaml"];
    systemd.does(&words);
    eventually("another is the main process", || systemd.property("MainPID") != second);
    let third = systemd.property("MainPID");
    let confined =
        systemd.does(&["grep", "-E", "^(NoNewPrivs|Seccomp):", &format!("/proc/{third}/status")]);
    assert_eq!(
        confined.split_whitespace().collect::<Vec<_>>(),
        ["NoNewPrivs:", "1", "Seccomp:", "2"]
    );
    let group = "/sys/fs/cgroup/system.slice/gateway.service/cgroup.procs";
    let alone = || systemd.does(&["cat", group]).lines().count() == 1;
    eventually("those before have ended", alone);
    assert_eq!(
        (systemd.property("NRestarts"), systemd.property("ActiveState")),
        ("0".to_owned(), "active".to_owned())
    );

    // It is watched after that, too: for longer than its time it lives, and what stands still is started anew.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(systemd.property("MainPID"), third);
    systemd.does(&["kill", "-s", "STOP", &third]);
    eventually("it was started anew", || {
        systemd.property("NRestarts") == "1" && systemd.property("ActiveState") == "active"
    });
    assert_eq!(get(public).text(), "three");

    systemd.does(&["systemctl", "stop", "gateway"]);
    assert_eq!(
        (systemd.property("ActiveState"), systemd.property("Result")),
        ("inactive".to_owned(), "success".to_owned())
    );

    // Sockets that systemd opens are served, and those that come meanwhile wait.
    let socket = systemd.installed.path("units/gateway.socket");
    let unit = std::fs::read_to_string(&socket).expect("it is there");
    std::fs::write(&socket, unit.replace("0.0.0.0:8080", &public.to_string()))
        .expect("it can be written");
    systemd.does(&["cp", "/test/units/gateway.socket", "/etc/systemd/system/"]);
    systemd.does(&["systemctl", "daemon-reload"]);
    systemd.does(&["systemctl", "start", "gateway.socket"]);
    assert_eq!(get(public).text(), "three", "it was started by who came");
    let fourth = systemd.property("MainPID");
    systemd.does(&["systemctl", "restart", "gateway"]);
    assert_ne!(systemd.property("MainPID"), fourth);
    assert_eq!(get(public).text(), "three");
    systemd.does(&["systemctl", "stop", "gateway.socket", "gateway"]);
}

/// As where two containers share a network and a volume: neither sees the other's processes.
#[test]
fn a_gateway_takes_over_from_one_in_another_space_of_processes() {
    let text = config("before", "127.0.0.1:0", "").replace("127.0.0.1:1", "127.0.0.1:0");
    let text = text.replace("upgrade_timeout", "upgrade_socket: own/upgrade.sock, upgrade_timeout");
    let installed = Installed::new(&text);
    std::fs::create_dir(installed.path("own")).expect("it can be made");
    let path = |name: &str| installed.path(name).display().to_string();
    let (program, file) = (path("gateway"), path("gateway.yaml"));
    let words = [&*of_its_own(), &[&*program, "run", "-c", &file]].concat();
    let (mut before, mut after) = (
        gateway_tests::Process::start_in(Path::new("unshare"), &words, &[]),
        gateway_tests::Process::start_in(Path::new("true"), &[], &[]),
    );
    let door = installed.path("own/upgrade.sock");
    for round in 0..2 {
        eventually("it is open", || door.exists());
        let told = if round == 0 { &mut before } else { &mut after };
        told.await_line("admin calls are answered");
        let public = told.await_address("listening");

        installed.configure(&text.replace("before", &format!("after-{round}")));
        // The first takes over from inside, the second from outside and into another.
        let mut next = gateway_tests::Process::start_in(Path::new("unshare"), &words, &[]);
        let told = if round == 0 { &mut before } else { &mut after };
        assert_eq!(told.wait().code(), Some(0), "{}", told.stderr.join("\n"));
        eventually("it serves", || get(public).text() == format!("after-{round}"));
        std::mem::swap(&mut after, &mut next);
    }
}
