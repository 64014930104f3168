//! Two texts, and the lines that tell what differs.

use std::path::Path;

use schemars::{Schema, json_schema};

use super::*;
use crate::config::{LoadOptions, PluginSchemas, load_text};

struct Catalogue;

impl PluginSchemas for Catalogue {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["cors", "jwt", "headers"]
    }

    fn options_schema(&self, _: &str) -> Option<Schema> {
        Some(json_schema!({"type": "object", "additionalProperties": true}))
    }
}

fn loaded(text: &str) -> Loaded {
    let options = LoadOptions { env: Box::new(|name| (name == "KEY").then(|| "k".to_owned())) };
    let loaded = load_text("gateway.yaml", Path::new("/etc/gateway"), text, &Catalogue, &options);
    loaded.unwrap_or_else(|faults| panic!("{faults}\nin\n{text}"))
}

/// A config with these lines behind its first ones.
fn with(lines: &str) -> Loaded {
    loaded(&format!(
        "version: 1\nlisteners: [{{name: public, address: \"0.0.0.0:8080\"}}]\n\
         upstreams: [{{name: users, endpoints: [\"10.0.0.1:80\"]}}, {{name: next, endpoints: [\"10.0.0.2:80\"]}}]\n{lines}"
    ))
}

#[track_caller]
fn assert_told(before: &str, after: &str, lines: &[&str]) {
    let difference = diff(&with(before), &with(after));
    let told: Vec<String> = difference.changes.iter().map(ToString::to_string).collect();
    assert_eq!(told, lines, "{before:?} -> {after:?}");
    assert!(difference.secrets_compared);
}

#[test]
fn what_means_the_same_is_no_difference() {
    let before = "routes:\n  - {name: a, match: {hosts: [a.example, b.example], methods: [GET, POST]}, upstream: users}\n  - {name: b, match: {path: /b}, upstream: users}\n";
    let after = "# moved\nroutes:\n  - {name: b, upstream: users, match: {path: {prefix: /b}}, disable: []}\n  - {name: a, match: {methods: [POST, GET], hosts: [b.example, A.example]}, upstream: users}\nserver: {drain_timeout: 30s}\n";

    assert_told(before, after, &[]);
    assert_eq!(diff(&with(before), &with(after)).to_string(), "no difference");
}

#[test]
fn values_are_told_with_their_places_by_name() {
    assert_told(
        "routes: [{name: users, upstream: users, timeouts: {total: 10s}}]",
        "routes: [{name: users, upstream: users, timeouts: {total: 5s}}]",
        &["changed  routes[users].timeouts.total: 10s -> 5s"],
    );
    assert_told(
        "routes: [{name: users, upstream: users, match: {path: /a, headers: {x-a.b: v}}}]",
        "routes: [{name: users, split: {upstreams: [{upstream: users}]}, match: {path: {exact: /a}, headers: {x-a.b: w}}}]",
        &[
            "changed  routes[users].match.path: {prefix: /a} -> {exact: /a}",
            "changed  routes[users].match.headers[\"x-a.b\"].exact: v -> w",
            "added    routes[users].split: {upstreams: [{upstream: users, weight: 1}]}",
            "removed  routes[users].upstream: users",
        ],
    );
}

#[test]
fn nouns_come_and_go() {
    assert_told(
        "routes: [{name: a, match: {path: /a}, upstream: users}, {name: b, upstream: users}]",
        "routes: [{name: c, match: {path: /c}, upstream: users}, {name: b, upstream: users}]",
        &[
            "added    routes[c]: {name: c, match: {path: {prefix: /c}}, upstream: users}",
            "removed  routes[a]: {name: a, match: {path: {prefix: /a}}, upstream: users}",
        ],
    );
}

#[test]
fn endpoints_are_known_by_address_and_shares_by_upstream() {
    let text = |endpoints: &str, shares: &str| {
        loaded(&format!(
            "version: 1\nlisteners: [{{name: public, address: \"0.0.0.0:8080\"}}]\n\
             upstreams: [{{name: u, endpoints: {endpoints}}}, {{name: v, endpoints: [\"10.0.0.9:80\"]}}]\n\
             routes: [{{name: a, split: {{upstreams: {shares}}}}}]\n"
        ))
    };
    let before = text(
        "[\"10.0.0.1:80\", \"10.0.0.2:80\"]",
        "[{upstream: u, weight: 9}, {upstream: v, weight: 1}]",
    );
    let after = text(
        "[{address: \"10.0.0.2:80\", weight: 3}, \"10.0.0.3:80\"]",
        "[{upstream: v, weight: 5}, {upstream: u, weight: 9}]",
    );

    assert_eq!(
        diff(&before, &after).to_string(),
        "changed  upstreams[u].endpoints[10.0.0.2:80].weight: 1 -> 3\n\
         added    upstreams[u].endpoints[10.0.0.3:80]: {address: 10.0.0.3:80, weight: 1, priority: 0}\n\
         removed  upstreams[u].endpoints[10.0.0.1:80]: {address: 10.0.0.1:80, weight: 1, priority: 0}\n\
         changed  routes[a].split.upstreams[v].weight: 1 -> 5\n\
         4 changes, none needs a restart"
    );
}

#[test]
fn the_order_of_plugins_counts_and_those_that_stay_are_not_told() {
    assert_told(
        "plugins: [{kind: cors}, {kind: jwt}, {kind: headers, name: late}, {kind: headers}]",
        "plugins: [{kind: headers}, {kind: cors}, {kind: jwt, when: 'true'}, {kind: cors, name: c}]",
        &[
            "moved    plugins[headers]: from place 4 to 1",
            "added    plugins[jwt].when: \"true\"",
            "added    plugins[c]: {kind: cors, name: c}",
            "removed  plugins[late]: {kind: headers, name: late}",
        ],
    );
}

#[test]
fn what_order_means_in_options_is_left_to_the_plugin() {
    assert_told(
        "plugins: [{kind: jwt, options: {hosts: [a, b], rules: [{if: a}, {if: b}], x: null}}]",
        "plugins: [{kind: jwt, options: {hosts: [b, a], rules: [{if: c}, {if: a}, {if: b}]}}]",
        &[
            "changed  plugins[jwt].options.hosts: [a, b] -> [b, a]",
            "added    plugins[jwt].options.rules[0]: {if: c}",
            "removed  plugins[jwt].options.x: null",
        ],
    );
}

#[test]
fn what_a_reload_cannot_bring_about_says_so() {
    let before = with("server: {drain_timeout: 30s}\nadmin: {address: \"127.0.0.1:9901\"}\n");
    let after = with("server: {drain_timeout: 20s}\nreload: {watch: true}\n");

    let difference = diff(&before, &after);

    assert_eq!(
        difference.to_string(),
        "changed  server.drain_timeout: 30s -> 20s  (needs a restart)\n\
         removed  admin: {address: 127.0.0.1:9901}  (needs a restart)\n\
         changed  reload.watch: false -> true\n\
         3 changes, 2 need a restart"
    );
    assert_eq!(
        serde_json::to_value(&difference.changes[2]).unwrap(),
        serde_json::json!({
            "kind": "changed", "path": "reload.watch", "before": false, "after": true, "needs_restart": false
        })
    );
}

#[test]
fn secrets_are_compared_and_never_told() {
    let config = |key: &str, token: &str, url: &str| {
        format!(
            "consumers: [{{name: app, keys: [{key}]}}]\n\
             admin: {{address: \"127.0.0.1:9901\", token: {token}}}\n\
             plugins: [{{kind: jwt, options: {{password: {key}, store: \"redis://me:{url}@h:1\"}}}}]\n"
        )
    };

    assert_told(&config("one", "t", "p"), &config("one", "t", "p"), &[]);
    assert_told(
        &config("one", "t", "p"),
        &config("two", "u", "q"),
        &[
            "changed  admin.token: another secret  (needs a restart)",
            "changed  plugins[jwt].options.password: another secret",
            "changed  plugins[jwt].options.store: another secret",
            "added    consumers[app].keys: ***",
            "removed  consumers[app].keys: ***",
        ],
    );
    assert_told(
        &config("one", "{env: KEY}", "p"),
        &config("one", "{file: /run/token}", "p"),
        &["changed  admin.token: {env: KEY} -> {file: /run/token}  (needs a restart)"],
    );
    assert_told(
        &config("one", "t", "p"),
        &config("one", "{env: KEY}", "p"),
        &["changed  admin.token: *** -> {env: KEY}  (needs a restart)"],
    );
}

#[test]
fn a_read_out_has_no_secrets_to_compare_and_says_so() {
    let lines = |total: &str, key: &str| {
        with(&format!(
            "consumers: [{{name: app, keys: [{key}]}}]\n\
             routes: [{{name: a, upstream: users, timeouts: {{total: {total}}}}}]\n"
        ))
    };
    let (running, next) = (lines("10s", "one"), lines("5s", "two"));

    let difference = diff_read_out(&running.config.redacted_json(), &next);

    assert_eq!(
        difference.to_string(),
        "changed  routes[a].timeouts.total: 10s -> 5s\n\
         secrets that are written as text were not compared: a gateway tells none\n\
         1 change, which needs no restart"
    );
    let without = with("routes: [{name: a, upstream: users}]");
    assert!(diff_read_out(&without.config.redacted_json(), &without).secrets_compared);
}

#[test]
fn what_is_included_is_compared_where_it_comes_to_stand() {
    let folder = tempfile::tempdir().unwrap();
    let load = |file: &str, text: &str| {
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        crate::config::load(&path, &Catalogue, &LoadOptions::default()).unwrap()
    };
    let listeners = "version: 1\nlisteners: [{name: public, address: \"0.0.0.0:8080\"}]\n";
    let consumers = |key: &str| format!("consumers: [{{name: app, keys: [{key}]}}]\n");
    std::fs::write(folder.path().join("more.yaml"), consumers("one")).unwrap();

    let whole = load("whole.yaml", &format!("{listeners}{}", consumers("one")));
    let parts = load("parts.yaml", &format!("{listeners}include: [more.yaml]\n"));

    assert_eq!(diff(&whole, &parts).to_string(), "no difference");
    let other = load("other.yaml", &format!("{listeners}{}", consumers("two")));
    assert_eq!(diff(&parts, &other).changes.len(), 2);
}

#[test]
fn long_values_are_cut_short_for_people_and_whole_for_programs() {
    let body = "long ".repeat(40);
    let before = with("routes: [{name: a, reply: {body: short}}]");
    let after = with(&format!("routes: [{{name: a, reply: {{body: \"{body}\"}}}}]"));

    let difference = diff(&before, &after);

    let line = difference.changes[0].to_string();
    assert!(line.starts_with("changed  routes[a].reply.body: short -> \"long long"), "{line}");
    assert!(line.ends_with('…') && line.len() < 150, "{line}");
    assert_eq!(difference.changes[0].after, Some(body.into()));
}
