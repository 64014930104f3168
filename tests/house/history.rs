//! Configs that were accepted are kept, and one of them can be in force again: by command, and at a start that fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use gateway_tests::{Client, Gate, Process, eventually, gateway_binary};
use serde_json::Value;

/// A config with a history, whose one route answers with this text.
fn config(more: &str, word: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\", token: {{file: token}}}}\n\
         access_log: {{output: LOG, format: json}}\nreload: {{history: {{folder: kept, keep: 4}}}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n{more}\n\
         routes: [{{name: all, match: {{path: /}}, reply: {{body: {word}}}}}]\n"
    )
}

fn gate(config: &str) -> Gate {
    // The token is beside the config, which is written first.
    let gate = Gate::yaml(&config.replace(", token: {file: token}", ", token: s3cret"));
    fs::write(gate.folder().join("token"), "s3cret").expect("it can be written");
    gate
}

fn reload(gate: &Gate, config: &str) {
    gate.write(&config.replace(", token: {file: token}", ", token: s3cret"));
    gate.running().reload().unwrap_or_else(|error| panic!("the config is refused:\n{error}"));
}

fn entries(gate: &Gate) -> Vec<Value> {
    let told = gate.admin("/history").json();
    told["entries"].as_array().expect("they are a list").clone()
}

fn numbers(gate: &Gate) -> Vec<u64> {
    entries(gate).iter().filter_map(|entry| entry["number"].as_u64()).collect()
}

fn command(gate: &Gate, words: &[&str]) -> (Option<i32>, String) {
    let admin = gate.running().admin().expect("there is one").to_owned();
    let token = gate.folder().join("token").display().to_string();
    let more = ["--admin", &admin, "--token-file", &token];
    let told = Command::new(gateway_binary()).args(words).args(more).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (told.status.code(), text(&told.stdout) + &text(&told.stderr))
}

/// A token by reference, so that nothing is left out of what is kept.
fn by_reference(word: &str) -> String {
    config("", word).replace(", token: {file: token}", "")
}

#[test]
fn what_was_accepted_is_kept_and_can_be_in_force_again() {
    let gate = Gate::yaml(&by_reference("one"));
    for word in ["two", "three"] {
        gate.write(&by_reference(word));
        gate.running().reload().expect("it is sound");
    }
    gate.running().reload().expect("it is sound");
    assert_eq!(numbers(&gate), [3, 2, 1], "what does not change is not kept again");
    let list = entries(&gate);
    assert_eq!((&list[0]["in_force"], &list[1]["in_force"]), (&true.into(), &false.into()));
    assert!(list[0]["accepted"].as_str().is_some_and(|moment| moment.starts_with("20")));

    // Nobody else reads it.
    let folder = gate.folder().join("kept");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("3"))), (0o700, 0o700));
    assert_eq!(mode(&folder.join("3/0.yaml")), 0o600);
    let kept = fs::read_to_string(folder.join("1/0.yaml")).expect("it is there");
    assert!(kept.contains("reply: {body: one}"), "{kept}");

    gate.running().rollback(None).expect("there is one before");
    assert_eq!(gate.get("/").text(), "two");
    gate.running().rollback(None).expect("there is one before that");
    assert_eq!(gate.get("/").text(), "one");
    let told = gate.running().rollback(None).expect_err("there is none before that").to_string();
    assert!(told.contains("nothing before this config"), "{told}");
    assert_eq!(gate.admin("/revision").json()["last_reload"]["history_entry"], 1);
    gate.running().rollback(Some(3)).expect("it is there");
    assert_eq!(gate.get("/").text(), "three");
    assert_eq!(numbers(&gate), [3, 2, 1], "to go back is to accept nothing new");
    assert!(gate.running().rollback(Some(9)).is_err());

    // The files say something else, and are read again when that is asked for.
    gate.write(&by_reference("four"));
    gate.running().rollback(Some(1)).expect("it is there");
    assert_eq!(gate.get("/").text(), "one");
    gate.running().reload().expect("it is sound");
    assert_eq!(gate.get("/").text(), "four");
    assert_eq!(gate.admin("/revision").json()["last_reload"]["history_entry"], Value::Null);
    gate.write(&by_reference("five"));
    gate.running().reload().expect("it is sound");
    assert_eq!(numbers(&gate), [5, 4, 3, 2], "the oldest is forgotten");
}

#[test]
fn an_entry_is_whole_with_what_it_included() {
    let more = "include: [\"routes.d/*.yaml\"]";
    let gate = Gate::yaml(&by_reference("one").replace("routes:", &format!("{more}\nroutes:")));
    let folder = gate.folder().join("routes.d");
    fs::create_dir(&folder).expect("it is not there");
    let route = |word: &str| {
        format!("routes: [{{name: more, match: {{path: /more}}, reply: {{body: {word}}}}}]\n")
    };
    fs::write(folder.join("more.yaml"), route("more")).expect("it can be written");
    gate.running().reload().expect("it is sound");
    fs::write(folder.join("more.yaml"), route("other")).expect("it can be written");
    fs::write(
        folder.join("yet.yaml"),
        "routes: [{name: yet, match: {path: /yet}, reply: {body: yet}}]\n",
    )
    .expect("it can be written");
    gate.running().reload().expect("it is sound");
    assert_eq!((gate.get("/more").text(), gate.get("/yet").text()), ("other".into(), "yet".into()));
    gate.running().rollback(None).expect("there is one before");
    assert_eq!((gate.get("/more").text(), gate.get("/yet").text()), ("more".into(), "one".into()));
}

/// An embedded gateway may have its config as a text.
#[test]
fn a_config_that_came_from_no_file_is_kept_like_others() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let kept = folder.path().join("kept");
    let text = |word: &str| {
        by_reference(word)
            .replace("LOG", "\"off\"")
            .replace("folder: kept", &format!("folder: {}", kept.display()))
    };
    let start =
        |text: &str| gateway_core::Gateway::builder().config_text(text).last_good(&kept).start();
    drop(start(&text("one")).expect("it starts"));
    let whole = fs::read_to_string(kept.join("1/0.yaml")).expect("it is there");
    assert_eq!(whole, text("one"));
    let running = start(&text("two").replace("reply", "repyl")).expect("it falls back");
    let address = running.address("public").expect("it listens");
    let answer = Client::connect(address).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response();
    assert_eq!(answer.text(), "one");
}

#[test]
fn secrets_that_are_written_as_text_are_not_kept() {
    let keys = "consumers: [{name: me, keys: [first-key-of-mine, {env: PATH}]}]";
    let gate = gate(&config(keys, "one"));
    reload(&gate, &config("", "two"));
    let kept = fs::read_to_string(gate.folder().join("kept/1/0.yaml")).expect("it is there");
    assert!(!kept.contains("first-key") && !kept.contains("s3cret"), "{kept}");
    assert!(kept.contains("env: PATH") && kept.contains("body: one"), "{kept}");
    assert_eq!(entries(&gate)[1]["redacted"], true);

    let (code, told) = command(&gate, &["config", "history"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.contains("in force") && told.contains("it cannot be used"), "{told}");
    let (code, told) = command(&gate, &["config", "rollback"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("entry 1 has secrets written as text"), "{told}");
    assert_eq!(gate.get("/").text(), "two");
}

#[test]
fn the_command_goes_back_and_says_so() {
    let with =
        |word: &str| by_reference(word).replace("127.0.0.1:0\"}\naccess", "unix:SOCKET\"}\naccess");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let at = |name: &str| folder.path().join(name);
    let write = |word: &str| {
        let config = with(word)
            .replace("SOCKET", &at("admin.sock").display().to_string())
            .replace("LOG", "\"off\"");
        fs::write(at("gateway.yaml"), config).expect("it can be written");
    };
    write("one");
    let path = at("gateway.yaml").display().to_string();
    let mut running = Process::start(&["run", "-c", &path]);
    let line = running.await_line("listening");
    let address: Value = serde_json::from_str(&line).expect("it is JSON");
    let address = address["address"].as_str().and_then(|text| text.parse().ok());
    let address = address.expect("it has an address");
    let word =
        || Client::connect(address).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().text();
    let told = |words: &[&str]| {
        let told = Command::new(gateway_binary()).args(words).args(["-c", &path]).output();
        let told = told.expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (told.status.code(), text(&told.stdout) + &text(&told.stderr))
    };
    let (code, said) = told(&["config", "rollback"]);
    assert!(code == Some(1) && said.contains("nothing before this config"), "{said}");
    write("two");
    assert_eq!(told(&["reload"]).0, Some(0));
    assert_eq!(word(), "two");
    let (code, said) = told(&["config", "rollback"]);
    assert!(code == Some(0) && said.starts_with("entry 1 ("), "{said}");
    assert!(said.contains("the next reload reads them"), "{said}");
    assert_eq!(word(), "one");
    running.await_line("rolled back");
    let (_, said) = told(&["status"]);
    assert!(said.contains("entry 1 of the history is in force"), "{said}");
    let (_, said) = told(&["config", "history", "--format", "json"]);
    let list: Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!(list["entries"][1]["in_force"], true);
}

#[test]
fn a_start_that_fails_falls_back_on_the_last_good_config_if_asked_to() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let write = |config: &str| {
        fs::write(at("gateway.yaml"), config.replace("LOG", "\"off\"")).expect("it can be written");
    };
    let run = |arguments: &[&str]| {
        let path = at("gateway.yaml");
        Process::start(&[&["run", "-c", &path], arguments].concat())
    };
    let address = |process: &mut Process, what: &str| {
        let line: Value = serde_json::from_str(&process.await_line(what)).expect("it is JSON");
        let address = line["address"].as_str().and_then(|text| text.parse().ok());
        address.expect("it has an address")
    };
    let ask = |address, path: &str| {
        let asked = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        Client::connect(address).send(asked).response()
    };
    for word in ["one", "two"] {
        write(&by_reference(word));
        let mut good = run(&[]);
        good.await_line("listening");
        good.signal("TERM");
        assert_eq!(good.wait().code(), Some(0));
    }
    // The latest entry cannot be read any more, and the config has faults.
    write(&by_reference("three").replace("reply", "repyl"));
    fs::write(at("kept/2/0.yaml"), "nonsense").expect("it can be written");
    let mut refused = run(&[]);
    assert_eq!(refused.wait().code(), Some(2));
    let mut process = run(&["--last-good", &at("kept")]);
    let admin = address(&mut process, "admin calls are answered");
    let public = address(&mut process, "listening");
    process.await_line("started with the last good config");
    let lines = process.stderr.join("\n");
    assert!(
        lines.contains("unknown key `repyl`") && lines.contains("cannot be started with either"),
        "{lines}"
    );
    assert_eq!(ask(public, "/").text(), "one");
    let told = ask(admin, "/revision").json();
    assert_eq!(told["last_reload"]["succeeded"], false);
    assert_eq!(told["last_reload"]["history_entry"], 1);
    assert!(told["last_reload"]["faults"].to_string().contains("repyl"), "{told}");
    let metrics = ask(admin, "/metrics").text();
    assert!(metrics.contains("gateway_config_reloads_total{outcome=\"failure\"} 1"), "{metrics}");
    // Repaired, it is read again from where it was given.
    write(&by_reference("four"));
    process.signal("HUP");
    process.await_line("reloaded");
    eventually("it is the one given", || ask(public, "/").text() == "four");

    // Where nothing is good, it is as it would be without.
    let empty = at("none");
    write("version: 1\n");
    let mut refused = run(&["--last-good", &empty]);
    assert_eq!(refused.wait().code(), Some(2));
}
