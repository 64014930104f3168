//! The commands that read and lay out configs without serving them: `config show`, `config diff`, `fmt`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use gateway_core::config::{laid_out, shown, shown_yaml};
use gateway_tests::{Gate, gateway_binary};
use tempfile::TempDir;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }
    folder
}

/// Runs a command to its end in a folder.
fn gateway(folder: &Path, arguments: &[&str]) -> Output {
    let command = Command::new(gateway_binary()).args(arguments).current_dir(folder).output();
    command.expect("the command can be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the command prints, and its exit code.
#[track_caller]
fn assert_prints(folder: &TempDir, arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = gateway(folder.path(), arguments);
    let told = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(told, (Some(code), stdout.to_owned(), stderr.to_owned()), "{arguments:?}");
}

const MAIN: &str = "\
version: 1
include: [\"routes.d/*.yaml\"]
admin: {address: \"unix:admin.sock\", token: {env: ADMIN_TOKEN}}
access_log: {output: \"off\"}
listeners: [{name: public, address: \"127.0.0.1:0\"}]
upstreams:
  - name: users
    endpoints: [\"127.0.0.1:9\"]
consumers: [{name: app, keys: [hunter2]}]
";

const ROUTES: &str = "\
routes:
  - name: users
    match: {path: /users}
    plugins: [{kind: headers, options: {request: {set: {x-api-token: hunter2, x-a: b}}}}]
    upstream: users
    timeouts: {total: 10s}
";

fn files() -> TempDir {
    folder(&[("gateway.yaml", MAIN), ("routes.d/users.yaml", ROUTES)])
}

#[test]
fn a_config_is_shown_as_it_takes_effect_and_without_its_secrets() {
    let folder = files();

    let output = gateway(folder.path(), &["config", "show"]);

    let told = text(&output.stdout);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    for part in [
        "version: 1\n\nserver:\n  workers: auto\n",
        "  token:\n    env: ADMIN_TOKEN\n",
        "    keys:\n      - \"***\"\n",
        "routes:\n  - name: users\n    match:\n      path:\n        prefix: /users\n",
        "              x-api-token: \"***\"\n              x-a: b\n",
        "    upstream: users\n    timeouts:\n      total: 10s\n",
        // A default.
        "      connections_per_client: 1024\n",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    for absent in ["include", "hedge", "disable", "null", "[]"] {
        assert!(!told.contains(absent), "{absent:?} is in\n{told}");
    }
    assert_eq!(laid_out("shown", &told).expect("it is YAML"), told, "it is as fmt has it");
    let json =
        gateway(folder.path(), &["config", "show", "-c", "gateway.yaml", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(json["routes"][0]["timeouts"]["total"], "10s");
}

#[test]
fn faults_are_told_in_place_of_a_config() {
    let folder = folder(&[("gateway.yaml", "version: 1\nlisteners: []\nrotues: []\n")]);

    let stderr = "gateway.yaml:3:1  rotues: unknown key `rotues`, did you mean `routes`?\n";
    assert_prints(&folder, &["config", "show"], 2, "", stderr);
}

/// A gateway in the process of the test, and the name of its admin address.
fn running() -> (Gate, String) {
    let gate = Gate::yaml(&format!("{MAIN}{ROUTES}").replace("{env: ADMIN_TOKEN}", "hunter3"));
    let folder = gate.config_path().parent().expect("it is in a folder").to_owned();
    (gate, format!("unix:{}", folder.join("admin.sock").display()))
}

#[test]
fn a_running_gateway_shows_the_same_as_its_file() {
    let (gate, at) = running();
    let folder = gate.config_path().parent().expect("it is in a folder").to_owned();

    for format in ["yaml", "json"] {
        let offline =
            gateway(&folder, &["config", "show", "-c", "gateway.yaml", "--format", format]);
        let live = gateway(&folder, &["config", "show", "--at", &at, "--format", format]);

        assert_eq!((offline.status.code(), text(&offline.stderr).as_str()), (Some(0), ""));
        assert!(offline.stdout.len() > 1000, "{}", text(&offline.stdout));
        assert_eq!(text(&live.stdout), text(&offline.stdout), "{}", text(&live.stderr));
    }
}

#[test]
fn whoever_is_not_there_shows_nothing() {
    let folder = folder(&[]);

    let output = gateway(folder.path(), &["config", "show", "--at", "unix:none.sock"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("none.sock"), "{}", text(&output.stderr));
}

#[test]
fn every_config_that_is_handed_out_means_the_same_when_what_is_shown_of_it_is_read() {
    let conf = gateway_tests::docs::repository().join("conf");
    let examples = fs::read_dir(conf.join("examples")).expect("it is there");
    let examples = examples.flatten().map(|entry| entry.path());
    let mut seen = 0;
    for path in examples.chain([conf.join("gateway.yaml")]) {
        let load = |builder: gateway_core::GatewayBuilder| {
            let checked = builder.plugins(gateway_plugins::all()).check();
            let checked = checked.unwrap_or_else(|faults| panic!("{}:\n{faults}", path.display()));
            checked.loaded.config.redacted_json()
        };
        let config = load(gateway_core::Gateway::builder().config_file(&path));
        let mut text = shown_yaml(&shown(config.clone())).expect("it can be shown");
        // Two consumers cannot have the same key.
        for number in 0..text.matches("\"***\"").count() {
            text = text.replacen("\"***\"", &format!("secret-{number}"), 1);
        }

        let read = load(gateway_core::Gateway::builder().config_text(&text));

        assert_eq!(read, config, "{}:\n{text}", path.display());
        seen += 1;
    }
    assert!(seen > 10, "only {seen} were seen");
}

#[test]
fn two_configs_are_compared_by_meaning() {
    let folder = files();
    let routes = ROUTES.replace("10s", "5s").replace("hunter2", "hunter3");
    let whole = format!("{}{routes}", MAIN.replace("include: [\"routes.d/*.yaml\"]\n", ""));
    let next = whole.replace("\"off\"", "stdout").replace("hunter2", "other");
    fs::write(folder.path().join("next.yaml"), &next).expect("it can be written");
    fs::write(folder.path().join("restart.yaml"), format!("{next}server: {{connections: 3}}\n"))
        .expect("it can be written");

    let told = "\
changed  access_log.output: off -> stdout
added    consumers[app].keys: ***
removed  consumers[app].keys: ***
changed  routes[users].plugins[headers].options.request.set.x-api-token: another secret
changed  routes[users].timeouts.total: 10s -> 5s
5 changes, none needs a restart
";
    assert_prints(&folder, &["config", "diff", "gateway.yaml", "next.yaml"], 0, told, "");
    let code = ["config", "diff", "--exit-code", "gateway.yaml", "next.yaml"];
    assert_prints(&folder, &code, 1, told, "");
    let same = ["config", "diff", "--exit-code", "next.yaml", "next.yaml"];
    assert_prints(&folder, &same, 0, "no difference\n", "");
    let told = "changed  server.connections: 100000 -> 3  (needs a restart)\n1 change, which needs a restart\n";
    assert_prints(&folder, &["config", "diff", "next.yaml", "restart.yaml"], 0, told, "");

    let json = gateway(
        folder.path(),
        &["config", "diff", "next.yaml", "restart.yaml", "--format", "json"],
    );
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(
        json,
        serde_json::json!({
            "changes": [{
                "kind": "changed", "path": "server.connections", "before": 100000, "after": 3,
                "needs_restart": true,
            }],
            "secrets_compared": true,
        })
    );
}

#[test]
fn faults_of_both_files_are_told_with_their_names() {
    let folder = folder(&[("a.yaml", "version: 2\n"), ("b.yaml", "version: 1\nx: [\n")]);

    let output = gateway(folder.path(), &["config", "diff", "a.yaml", "b.yaml"]);

    let told = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""));
    assert!(
        told.contains("a.yaml:1:10  version: ") && told.contains("b.yaml:3:1  not YAML"),
        "{told}"
    );
    let one = gateway(folder.path(), &["config", "diff", "a.yaml"]);
    assert_eq!(one.status.code(), Some(2), "{}", text(&one.stderr));
}

#[test]
fn a_running_gateway_is_compared_with_what_would_follow() {
    let (gate, at) = running();
    let folder = gate.config_path().parent().expect("it is in a folder").to_owned();
    let written = fs::read_to_string(gate.config_path()).expect("it is there");
    let next = written.replace("10s", "5s").replace("hunter", "other");
    fs::write(folder.join("next.yaml"), next).expect("it can be written");

    let same = gateway(&folder, &["config", "diff", "gateway.yaml", "--at", &at, "--exit-code"]);
    let other = gateway(&folder, &["config", "diff", "next.yaml", "--at", &at, "--exit-code"]);

    let blind = "secrets that are written as text were not compared: a gateway tells none\n";
    assert_eq!(text(&same.stdout), format!("{blind}no difference\n"), "{}", text(&same.stderr));
    assert_eq!(same.status.code(), Some(0));
    let change = "changed  routes[users].timeouts.total: 10s -> 5s\n";
    assert_eq!(
        (text(&other.stdout), other.status.code()),
        (format!("{change}{blind}1 change, which needs no restart\n"), Some(1))
    );
}

const UGLY: &str =
    "version:   1 # of the language\nlisteners: [{name: a,address: \"127.0.0.1:0\"}]\n";
const NEAT: &str =
    "version: 1 # of the language\nlisteners: [{name: a, address: \"127.0.0.1:0\"}]\n";

#[test]
fn the_config_and_what_it_includes_are_brought_into_form() {
    let ugly = format!("{UGLY}include: [more.d/*.yaml]\n");
    let files = [
        ("gateway.yaml", &*ugly),
        ("more.d/a.yaml", "routes:\n- {name: a}\n"),
        ("other.yaml", UGLY),
    ];
    let folder = folder(&files);
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("it is there");
    let path = folder.path().join("gateway.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it can be changed");

    assert_prints(&folder, &["fmt", "--check"], 1, "gateway.yaml\nmore.d/a.yaml\n", "");
    let neat = format!("{NEAT}include: [more.d/*.yaml]\n");
    assert_prints(&folder, &["fmt", "gateway.yaml", "--stdout"], 0, &neat, "");
    assert_eq!(read("gateway.yaml"), ugly, "nothing is written so far");

    assert_prints(&folder, &["fmt"], 0, "gateway.yaml\nmore.d/a.yaml\n", "");
    assert_eq!(read("gateway.yaml"), neat);
    assert_eq!(read("more.d/a.yaml"), "routes:\n  - {name: a}\n");
    assert_eq!(read("other.yaml"), UGLY, "it is not of the config");
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    let before = fs::metadata(&path).expect("it is there").modified().expect("there are times");
    assert_prints(&folder, &["fmt", "--check"], 0, "", "");
    assert_prints(&folder, &["fmt"], 0, "", "");
    let after = fs::metadata(&path).expect("it is there").modified().expect("there are times");
    assert_eq!(after, before, "a file that is in form is not touched");
}

#[test]
fn a_text_comes_through_in_form() {
    let folder = folder(&[]);
    let pass = |arguments: &[&str], text: &str| {
        let mut command = Command::new(gateway_binary());
        command.args(arguments).current_dir(folder.path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command can be run");
        child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    };

    let output = pass(&["fmt", "-"], UGLY);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), NEAT));
    let output = pass(&["fmt", "--check", "-"], UGLY);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), "-\n"));
    let output = pass(&["fmt", "-"], "a: [\n");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""));
    assert!(text(&output.stderr).starts_with("stdin:2:1  not YAML"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_laid_out_is_left_alone_and_keeps_nothing_else_from_it() {
    let kept = "a: |+\n  text\n\n\nb:   1\n";
    let folder =
        folder(&[("bad.yaml", "a: 1\n  b: [\n"), ("kept.yaml", kept), ("ugly.yaml", UGLY)]);

    let output =
        gateway(folder.path(), &["fmt", "bad.yaml", "kept.yaml", "none.yaml", "ugly.yaml"]);

    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), "ugly.yaml\n"));
    let lines = text(&output.stderr);
    for line in [
        "bad.yaml:2:4  not YAML: ",
        "kept.yaml  cannot be laid out: another layout would mean something else\n",
        "none.yaml  cannot be read: ",
    ] {
        assert!(lines.contains(line), "{line:?} is not in {lines}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("kept.yaml")).expect("it is there"), kept);
}
