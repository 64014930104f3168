//! Documents that are wrong: every fault at once, each in its words and at its place.

use super::*;

#[test]
fn five_planted_faults_are_five_messages() {
    let text = "\
version: 1
listenres: []
listeners:
  - name: public
    address: 0.0.0.0
    timeouts: {header: 10}
upstreams:
  - name: users
    endpoints: [users.internal:8080]
    colour: blue
routes: []
";

    assert_eq!(
        refused(text),
        "\
gateway.yaml:2:1  listenres: unknown key `listenres`, did you mean `listeners`?
gateway.yaml:5:14  listeners[0].address: expected an address such as `0.0.0.0:8080`, got `0.0.0.0`; the port is missing
gateway.yaml:6:24  listeners[0].timeouts.header: expected a duration such as `10s`, got the number 10
gateway.yaml:9:17  upstreams[0].endpoints[0]: a name stands for several endpoints; write `discover: {dns: users.internal:8080}`, not an endpoint `users.internal:8080`
gateway.yaml:10:5  upstreams[0].colour: unknown key `colour`; there is `balance`, `discover`, `endpoints`, `header_case`, `health`, `limits`, `name`, `prefer`, `protocol`, `proxy_protocol`, `retry`, `spill_below`, `sticky`, `streams_per_connection`, `timeouts`, `tls`"
    );
}

#[test]
fn three_faults_in_one_plugins_options_are_three_messages() {
    let lines = "\
plugins:
  - kind: jwt
    options:
      isuer: me
      audience: api
      algorithm: rs25
";

    assert_eq!(
        refused_after_head(lines),
        "\
gateway.yaml:8:7  plugins[0].options: missing required key `issuer`
gateway.yaml:8:7  plugins[0].options.isuer: unknown key `isuer`, did you mean `issuer`?
gateway.yaml:9:17  plugins[0].options.audience: expected a list, got the text `api`
gateway.yaml:10:18  plugins[0].options.algorithm: expected one of `rs256`, `es256`, got `rs25`, did you mean `rs256`?"
    );
}

/// Lines after [`HEAD`], from line 5 on, and the faults they give.
#[test]
fn every_kind_of_fault_has_its_words_and_its_place() {
    for (lines, expected) in [
        ("admin: {token: {env: X}}", "5:8  admin: missing required key `address`"),
        (
            "server: {workers: 0}",
            "5:19  server.workers: expected `auto` or a whole number from 1 to 1024, got `0`",
        ),
        (
            "server: {connections: 0}",
            "5:23  server.connections: expected a whole number of at least 1, got 0",
        ),
        (
            "server: {connections: many}",
            "5:23  server.connections: expected a whole number of at least 1, got the text `many`",
        ),
        (
            "server: {connections: 1.5}",
            "5:23  server.connections: expected a whole number of at least 1, got 1.5",
        ),
        ("server: [1]", "5:9  server: expected a mapping, got a list"),
        ("server:", "5:7  server: expected a mapping, got nothing"),
        (
            "server: {drain_timeout: [1]}",
            "5:25  server.drain_timeout: expected a duration such as `10s`, got a list",
        ),
        (
            "access_log: {format: jsn}",
            "5:22  access_log.format: expected one of `auto`, `json`, `text`, got `jsn`, did you mean `json`?",
        ),
        (
            "access_log: {sample: {ok: 5}}",
            "5:27  access_log.sample.ok: expected a share from `0%` to `100%`, got the number 5",
        ),
        ("access_log: {fields: []}", "5:22  access_log.fields: expected at least one item, got 0"),
        ("access_log: {fields: [a, a]}", "5:26  access_log.fields[1]: field `a` is listed twice"),
        (
            "plugins: [{kind: jtw}]",
            "5:18  plugins[0].kind: unknown plugin kind `jtw`, did you mean `jwt`?",
        ),
        (
            "plugins: [{kind: zzzzzz}]",
            "5:18  plugins[0].kind: unknown plugin kind `zzzzzz`; there is `cors`, `jwt`, `request-id`",
        ),
        ("plugins: [{options: {}}]", "5:11  plugins[0]: missing required key `kind`"),
        (
            "plugins: [{kind: cors, on_error: ignore}]",
            "5:34  plugins[0].on_error: expected one of `refuse`, `skip`, got `ignore`",
        ),
        (
            "plugins: [{kind: cors}, {kind: cors}]",
            "5:32  plugins[1].kind: a plugin named `cors` stands at gateway.yaml:5:11 already; give one of them another `name`",
        ),
        (
            "plugins: [{kind: cors, name: a b}]",
            "5:30  plugins[0].name: expected a name of letters, digits and `-_.:/@`, such as `users-v2`, got `a b`",
        ),
        (
            "plugins: [{kind: jwt, options: {issuer: i, audience: [1]}}]",
            "5:55  plugins[0].options.audience[0]: expected text, got the number 1; put it in quotes",
        ),
        (
            "plugins: [{kind: jwt, options: {issuer: i, audience: [], keys: {from: fil}}}]",
            "5:71  plugins[0].options.keys.from: expected one of `file`, `url`, got `fil`, did you mean `file`?",
        ),
        (
            "plugins: [{kind: jwt, options: {issuer: i, audience: [], keys: {path: x}}}]",
            "5:64  plugins[0].options.keys: missing required key `from`",
        ),
        (
            "plugins: [{kind: jwt, options: {issuer: i, audience: [], keys: {from: file, url: x, path: y}}}]",
            "5:77  plugins[0].options.keys.url: `url` cannot stand beside `from`, `path`; leave one out",
        ),
        (
            "plugins: [{kind: jwt, options: {issuer: i, audience: [], secret: 5}}]",
            "5:66  plugins[0].options.secret: expected text or a mapping, got another value",
        ),
        (
            "plugins: [{kind: jwt, options: {issuer: i, audience: [], secret: {envi: X}}}]",
            "5:67  plugins[0].options.secret.envi: unknown key `envi`, did you mean `env`?",
        ),
        (
            "plugins: [{kind: cors, options: {a: '${NONE}'}}]",
            "5:37  plugins[0].options.a: environment variable `NONE` is not set; `${NONE:-default}` gives one, and `$${NONE}` is that text",
        ),
        (
            "plugins: [{kind: cors, options: {1: a}}]",
            "5:33  plugins[0].options: a key must be text, got the number 1; put it in quotes",
        ),
        (
            "plugins: [{kind: cors, when: !cel a}]",
            "5:35  plugins[0].when: tags such as `!cel` are not supported",
        ),
        (
            "routes: [{name: r, upstream: users, reply: {}}]",
            "5:37  routes[0].reply: a route has one action; leave out `upstream` or `reply`",
        ),
        (
            "routes: [{name: r}]",
            "5:10  routes[0]: a route needs an action; write `upstream`, `split`, `redirect` or `reply`",
        ),
        (
            "routes: [{name: r, upstream: user}]",
            "5:30  routes[0].upstream: there is no upstream `user`, did you mean `users`?",
        ),
        (
            "routes: [{name: r, upstream: users, match: {listeners: [pubic]}}]",
            "5:57  routes[0].match.listeners[0]: there is no listener `pubic`, did you mean `public`?",
        ),
        (
            "routes: [{name: r, upstream: users, disable: [corse]}]",
            "5:47  routes[0].disable[0]: no outer plugin is named `corse`, did you mean `cors`?",
        ),
        (
            "routes: [{name: r, upstream: users, match: {path: {exat: /x}}}]",
            "5:52  routes[0].match.path.exat: unknown key `exat`, did you mean `exact`?",
        ),
        (
            "routes: [{name: r, upstream: users, match: {path: {}}}]",
            "5:51  routes[0].match.path: expected one of the keys `exact`, `prefix`, `regex`, `template`",
        ),
        (
            "routes: [{name: r, upstream: users, match: {path: {exact: /x, prefix: /x}}}]",
            "5:63  routes[0].match.path.prefix: `prefix` cannot stand beside `exact`; leave one out",
        ),
        (
            "routes: [{name: r, upstream: users, match: {path: [/x]}}]",
            "5:51  routes[0].match.path: expected a path such as `/users` or a mapping, got a list",
        ),
        (
            "routes: [{name: r, upstream: users, match: {path: x}}]",
            "5:51  routes[0].match.path: expected a path such as `/users`, got `x`; it must begin with `/`",
        ),
        (
            "routes: [{name: r, upstream: users, match: {methods: [get]}}]",
            "5:55  routes[0].match.methods[0]: methods are case-sensitive; write `GET`",
        ),
        (
            "routes: [{name: r, upstream: users, timeouts: {total: 0}}]",
            "5:55  routes[0].timeouts.total: this limit cannot be turned off; write a duration above 0",
        ),
        (
            "routes: [{name: r, reply: {echo: true, body: x}}]",
            "5:40  routes[0].reply.body: `echo` says what the body is; leave one out",
        ),
        (
            "routes: [{name: r, reply: {status: 100}}]",
            "5:36  routes[0].reply.status: expected a whole number from 200 to 599, got 100",
        ),
        (
            "routes: [{name: r, reply: {status: 204, body: x}}]",
            "5:36  routes[0].reply.status: a 204 reply has no body",
        ),
        (
            "routes: [{name: r, reply: {headers: {'a b': x}}}]",
            "5:38  routes[0].reply.headers[\"a b\"]: `a b` is no header name",
        ),
        (
            "routes: [{name: r, reply: {headers: {Upgrade: x}}}]",
            "5:38  routes[0].reply.headers.Upgrade: `upgrade` is set by the gateway itself",
        ),
        (
            "routes: [{name: r, reply: {headers: {x-a: \"a\\nb\"}}}]",
            "5:43  routes[0].reply.headers.x-a: a header value cannot hold line breaks or control characters",
        ),
        (
            "routes:\n  - {name: r, upstream: users}\n  - {name: r, upstream: users, match: {path: /a}}",
            "7:12  routes[1].name: route `r` is defined at gateway.yaml:6:5 already",
        ),
        ("server: {}\nserver: {}", "6:1  server: this key stands at gateway.yaml:5:1 already"),
        ("server: {<<: 5}", "5:14  server.<<: `<<` takes a mapping or a list of mappings"),
        ("---\nversion: 1", "5:1  a second YAML document begins here; a file holds one"),
        ("server: {", "6:1  not YAML: did not find expected node content"),
    ] {
        assert_eq!(refused_after_head(lines), format!("gateway.yaml:{expected}"), "{lines}");
    }
}

#[test]
fn faults_of_listeners_and_upstreams_have_their_words_and_places() {
    for (text, expected) in [
        (
            "listeners: []",
            "2:12  listeners: there is no listener; write at least one under `listeners`",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80, limits: {header_bytes: 1MiB}}]",
            "2:67  listeners[0].limits.header_bytes: expected from `1KiB` to below `1MiB`, got `1MiB`",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80, tcp: {}}]",
            "2:49  listeners[0].tcp: connections go nowhere; write `upstream`, or `sni`",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80, tcp: {upstream: b}, timeouts: {header: 1s}}]\n\
             upstreams: [{name: b, endpoints: ['10.0.0.1:80']}]",
            "2:83  listeners[0].timeouts.header: it is about requests, and a listener with `tcp` has none",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80, tcp: {sni: {x.test: c}}}]\n\
             upstreams: [{name: b, endpoints: ['10.0.0.1:80']}]",
            "2:64  listeners[0].tcp.sni[\"x.test\"]: there is no upstream `c`, did you mean `b`?",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80, tcp: {sni: {'x.*': b}}}]\n\
             upstreams: [{name: b, endpoints: ['10.0.0.1:80']}]",
            "2:56  listeners[0].tcp.sni[\"x.*\"]: expected a host such as `api.example.com` or `*.example.com`, got `x.*`; a `*` can only be the whole first label",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80, tcp: {upstream: b}}]\n\
             upstreams: [{name: b, endpoints: ['10.0.0.1:80']}]\n\
             routes: [{name: r, match: {path: /, listeners: [a]}, reply: {}}]",
            "4:49  routes[0].match.listeners[0]: listener `a` has `tcp`, and no requests",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80, limits: {headers: 256}}]",
            "2:62  listeners[0].limits.headers: expected a whole number from 1 to 255, got 256",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80, timeouts: {header: 0}}]",
            "2:63  listeners[0].timeouts.header: this limit cannot be turned off; write a duration above 0",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80, trusted_proxies: [10.0.0.1/8]}]",
            "2:62  listeners[0].trusted_proxies[0]: `10.0.0.1/8` has bits set outside its prefix; write `10.0.0.0/8`, or `10.0.0.1` for the one address",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80}, {name: b, address: 0.0.0.0:80}]",
            "2:64  listeners[1].address: the listener at gateway.yaml:2:13 has address `0.0.0.0:80` already",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80}, {name: a, address: 0.0.0.0:81}]",
            "2:52  listeners[1].name: listener `a` is defined at gateway.yaml:2:13 already",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80}]\nupstreams: [{name: u, endpoints: []}]",
            "3:34  upstreams[0].endpoints: expected at least one item, got 0",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80}]\nupstreams: [{name: u, endpoints: [1.1.1.1:1, 1.1.1.1:1]}]",
            "3:46  upstreams[0].endpoints[1]: endpoint `1.1.1.1:1` stands at gateway.yaml:3:35 already; for a larger share use `weight`",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80}]\nupstreams: [{name: u, endpoints: [{address: 1.1.1.1:1, weight: 0}]}]",
            "3:34  upstreams[0].endpoints: every endpoint has weight 0, so none can be chosen",
        ),
        (
            "listeners: [{name: a, address: 0.0.0.0:80}]\nupstreams: [{name: u, endpoints: [{address: 1.1.1.1:1, weight: 70000, wieght: 1}]}]",
            "3:64  upstreams[0].endpoints[0].weight: expected a whole number from 0 to 65535, got 70000\ngateway.yaml:3:71  upstreams[0].endpoints[0].wieght: unknown key `wieght`, did you mean `weight`?",
        ),
    ] {
        let text = format!("version: 1\n{text}\n");
        assert_eq!(refused(&text), format!("gateway.yaml:{expected}"), "{text}");
    }
}

#[test]
fn check_stage_reports_every_fault_too() {
    let lines = "\
routes:
  - {name: r, upstream: user}
  - {name: r, match: {path: /b, listeners: [x]}}
";

    assert_eq!(
        refused_after_head(lines),
        "\
gateway.yaml:6:25  routes[0].upstream: there is no upstream `user`, did you mean `users`?
gateway.yaml:7:5  routes[1]: a route needs an action; write `upstream`, `split`, `redirect` or `reply`
gateway.yaml:7:12  routes[1].name: route `r` is defined at gateway.yaml:6:5 already
gateway.yaml:7:45  routes[1].match.listeners[0]: there is no listener `x`; there is `public`"
    );
}

#[test]
fn another_version_is_the_only_fault_reported() {
    assert_eq!(
        refused("version: 2\nwhatever: [1]\n"),
        "gateway.yaml:1:10  version: this build reads version 1; the file is written for version 2"
    );
}

#[test]
fn missing_version_is_a_fault_among_others() {
    assert_eq!(
        refused("listeners: 5\n"),
        "gateway.yaml:1:1  missing required key `version`\n\
         gateway.yaml:1:12  listeners: expected a list, got the number 5"
    );
}

#[test]
fn empty_document_is_refused() {
    assert_eq!(refused(""), "gateway.yaml:1:1  expected a mapping, got nothing");
    assert_eq!(refused("# note\n"), "gateway.yaml:1:1  expected a mapping, got nothing");
}

#[test]
fn fault_under_an_alias_is_placed_at_the_alias() {
    let text = "\
version: 1
x-slow: &slow {connect: 5}
listeners: [{name: a, address: 0.0.0.0:80}]
upstreams:
  - {name: u, endpoints: [10.0.0.1:80], timeouts: *slow}
  - {name: v, endpoints: [10.0.0.1:80], timeouts: {<<: *slow, idle: 1s}}
";

    let told = "timeouts.connect: expected a duration such as `10s`, got the number 5";
    assert_eq!(
        refused(text),
        format!("gateway.yaml:5:51  upstreams[0].{told}\ngateway.yaml:6:56  upstreams[1].{told}")
    );
}

#[test]
fn secret_is_not_repeated_in_a_message() {
    let told = refused_after_head("admin: {address: x, token: 123456}");

    assert!(!told.contains("123456"), "{told}");
}

#[test]
fn laughing_document_is_refused() {
    let mut text = String::from("x-a0: &a0 [lol, lol]\n");
    for level in 1..30 {
        let below = level - 1;
        text.push_str(&format!("x-a{level}: &a{level} [*a{below}, *a{below}, *a{below}]\n"));
    }

    assert_eq!(refused(&text), "gateway.yaml  not YAML: repetition limit exceeded");
}

#[test]
fn deep_nesting_is_refused_without_overflowing_the_stack() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", "")] {
        let text = format!("x-a:\n {}{}", open.repeat(100_000), close.repeat(100_000));

        let told = refused(&text);

        assert!(told.starts_with("gateway.yaml:2:"), "{}", &told[..told.len().min(200)]);
        assert!(told.ends_with("  not YAML: nested too deeply"));
    }
    let block: String = (0..300).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(refused(&block).contains("recursion limit exceeded"), "{}", refused(&block));
}

#[test]
fn consumers_are_told_apart() {
    let lines = "\
consumers:
  - {name: app, subjects: [auth0|1, app], groups: [gold, gold], keys: [{env: KEY}]}
  - {name: app}
  - {name: other, subjects: [auth0|1, app], key: x}
";
    let text = format!("version: 1\nlisteners: [{{name: a, address: '127.0.0.1:0'}}]\n{lines}");

    assert_eq!(
        refused(&text),
        "gateway.yaml:6:45  consumers[2].key: unknown key `key`, did you mean `keys`?"
    );
    assert_eq!(
        refused(&text.replace(", key: x", "")),
        "\
gateway.yaml:4:37  consumers[0].subjects[1]: `app` is known as this one already
gateway.yaml:4:58  consumers[0].groups[1]: the group `gold` is in the list already
gateway.yaml:5:12  consumers[1].name: consumer `app` is defined at gateway.yaml:4:5 already
gateway.yaml:6:30  consumers[2].subjects[0]: `auth0|1` is another consumer, at gateway.yaml:4:28
gateway.yaml:6:39  consumers[2].subjects[1]: `app` is another consumer, at gateway.yaml:4:12"
    );
}
