//! The files of a config are followed: however they change, the config follows, and nothing else makes it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Client, Gate, eventually};

/// A config whose one route answers with this text.
fn config(more: &str, word: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         {more}\nroutes: [{{name: all, match: {{path: /}}, reply: {{body: {word}}}}}]\n"
    )
}

const WATCH: &str = "reload: {watch: true}";

fn says(gate: &Gate, path: &str, word: &str) {
    eventually(word, || gate.get(path).text() == word);
}

fn revision(gate: &Gate) -> serde_json::Value {
    gate.admin("/revision").json()
}

/// Nothing happens for as long as a change takes, twice over.
#[track_caller]
fn is_quiet(gate: &Gate) {
    let before = revision(gate);
    thread::sleep(Duration::from_millis(2_500));
    assert_eq!(revision(gate), before);
}

#[test]
fn the_file_itself_is_followed_however_it_changes() {
    let gate = Gate::yaml(&config(WATCH, "one"));
    assert_eq!(gate.get("/").text(), "one");
    let mut stays = gate.client();
    let began = Instant::now();
    gate.write(&config(WATCH, "two"));
    says(&gate, "/", "two");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // Written beside it, and moved into its place.
    let beside = gate.folder().join("next");
    let placed = |word: &str| {
        let log = gate.log_path().display().to_string();
        config(WATCH, word).replace("LOG", &log)
    };
    fs::write(&beside, placed("three")).expect("it can be written");
    fs::rename(&beside, gate.config_path()).expect("it can be moved");
    says(&gate, "/", "three");
    // Gone, and back.
    fs::remove_file(gate.config_path()).expect("it is there");
    eventually("it is missed", || revision(&gate)["last_reload"]["succeeded"] == false);
    assert_eq!(gate.get("/").text(), "three");
    let quiet = revision(&gate)["last_reload"].clone();
    thread::sleep(Duration::from_millis(2_100));
    assert_eq!(revision(&gate)["last_reload"], quiet, "it is tried once");
    fs::write(gate.config_path(), placed("four")).expect("it can be written");
    says(&gate, "/", "four");
    // What the gateway writes itself is none of its files, and its connections stay.
    assert_eq!(stays.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().text(), "four");
    is_quiet(&gate);
    assert_eq!(revision(&gate)["revision"]["number"], 4);
}

#[test]
fn a_fault_changes_nothing_and_its_repair_does() {
    let gate = Gate::yaml(&config(WATCH, "one"));
    gate.write(&config(WATCH, "two").replace("reply", "repyl"));
    eventually("it is refused", || revision(&gate)["last_reload"]["succeeded"] == false);
    let told = revision(&gate)["last_reload"]["faults"][0].to_string();
    assert!(told.contains("repyl"), "{told}");
    assert_eq!(gate.get("/").text(), "one");
    assert_eq!(gate.metric(r#"gateway_config_reloads_total{outcome="failure"}"#), 1.0);
    gate.write(&config(WATCH, "two"));
    says(&gate, "/", "two");
    // It may say that it is followed no more, and then has to be told.
    gate.write(&config("", "three"));
    says(&gate, "/", "three");
    gate.write(&config(WATCH, "four"));
    is_quiet(&gate);
    assert_eq!(gate.get("/").text(), "three");
    gate.running().reload().expect("it is sound");
    gate.write(&config(WATCH, "five"));
    says(&gate, "/", "five");
}

#[test]
fn what_it_includes_and_what_it_names_is_followed_too() {
    let more = format!(
        "{WATCH}\ninclude: [\"routes.d/*.yaml\"]\nconsumers: [{{name: me, keys: [{{file: key}}]}}]\n\
         plugins: [{{kind: key-auth, options: {{from: [{{header: x-key}}]}}}}]"
    );
    let folder = tempfile::tempdir().expect("a folder can be made");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("key"), "first-key-of-mine").expect("it can be written");
    let gate = gateway_core::Gateway::builder().plugins(gateway_plugins::all());
    let config = config(&more, "one").replace("LOG", "access.log");
    fs::write(at("gateway.yaml"), config).expect("it can be written");
    let running = gate.config_file(at("gateway.yaml")).start().expect("it starts");
    let address = running.address("public").expect("it listens");
    let ask = |key: &str, path: &str| {
        let mut client = Client::connect(address);
        let asked = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n");
        let answer = client.send(asked).response();
        (answer.status, answer.text())
    };
    assert_eq!(ask("first-key-of-mine", "/"), (200, "one".into()));
    fs::write(at("key"), "other-key-of-mine").expect("it can be written");
    eventually("the other key is known", || ask("other-key-of-mine", "/").0 == 200);
    assert_eq!(ask("first-key-of-mine", "/").0, 401);

    fs::create_dir(at("routes.d")).expect("it is not there");
    let route = |word: &str| {
        format!("routes: [{{name: more, match: {{path: /more}}, reply: {{body: {word}}}}}]\n")
    };
    fs::write(at("routes.d/more.yaml"), route("more")).expect("it can be written");
    let more = || ask("other-key-of-mine", "/more").1;
    eventually("what is included is served", || more() == "more");
    fs::write(at("routes.d/more.yaml"), route("other")).expect("it can be written");
    eventually("it is served as it is now", || more() == "other");
    fs::remove_file(at("routes.d/more.yaml")).expect("it is there");
    eventually("it is served no more", || more() == "one");
}

/// As Kubernetes mounts a ConfigMap: the file is a link through a link, and that changes.
#[test]
fn a_link_that_leads_elsewhere_is_followed() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let at = |name: &str| folder.path().join(name);
    let put = |name: &str, word: &str| {
        fs::create_dir(at(name)).expect("it is not there");
        let config = config(WATCH, word).replace("LOG", "\"off\"");
        fs::write(at(name).join("gateway.yaml"), config).expect("it can be written");
    };
    put("..first", "one");
    symlink(Path::new("..first"), at("..data")).expect("it can be made");
    symlink(Path::new("..data/gateway.yaml"), at("gateway.yaml")).expect("it can be made");
    let running = gateway_core::Gateway::builder().config_file(at("gateway.yaml")).start();
    let running = running.expect("it starts");
    let address = running.address("public").expect("it listens");
    let word =
        || Client::connect(address).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().text();
    assert_eq!(word(), "one");
    put("..second", "two");
    symlink(Path::new("..second"), at("..next")).expect("it can be made");
    fs::rename(at("..next"), at("..data")).expect("it can be moved");
    eventually("it is another", || word() == "two");
    fs::remove_dir_all(at("..first")).expect("it is there");
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(word(), "two");
}
