//! Documents that are right, and what they come to mean.

use std::path::Path;

use super::*;
use crate::config::{AdminAddress, LogOutput, PathMatch, Percent, Size, Workers};

const WHOLE: &str = include_str!("whole.yaml");

#[test]
fn whole_language_is_read() {
    let Loaded { config, warnings, .. } = loaded(WHOLE);

    assert_eq!(config.server.workers.to_string(), "2");
    assert_eq!(config.server.drain_timeout.0, seconds(20));
    let admin = config.admin.unwrap();
    assert_eq!(admin.address, AdminAddress::Unix("/etc/gateway/run/admin.sock".into()));
    assert_eq!(config.access_log.output, LogOutput::File("/etc/gateway/access.log".into()));
    assert_eq!(config.access_log.sample.unwrap().ok, Percent(10.0));
    let listener = &config.listeners[0];
    assert_eq!(listener.limits.body_bytes, Some(Size(10 << 20)));
    assert_eq!(listener.trusted_proxies[1].to_string(), "192.168.1.1/32");
    assert_eq!(listener.timeouts.idle.0, seconds(75));
    let endpoint = &config.upstreams[0].endpoints[1];
    assert_eq!((endpoint.weight, endpoint.labels["zone"].as_str()), (3, "a"));
    let route = &config.routes[0];
    let hosts: Vec<String> = route.r#match.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["api.example.com", "*.api.example.com"]);
    assert_eq!(route.r#match.path, Some(PathMatch::Prefix("/users".into())));
    assert_eq!(route.r#match.methods, [http::Method::GET, http::Method::POST]);
    assert_eq!(config.routes[1].r#match.path, Some(PathMatch::Exact("/health".into())));
    assert_eq!(config.routes[1].reply.as_ref().unwrap().headers["x-from"], "gateway");
    assert_eq!(warnings, []);
}

#[test]
fn smallest_document_has_the_documented_defaults() {
    let config = loaded("version: 1\nlisteners: [{name: a, address: '[::1]:0'}]\n").config;

    assert_eq!(config.server.workers, Workers::Auto);
    assert_eq!(config.server.connections, 100_000);
    assert_eq!(config.access_log.output, LogOutput::Stdout);
    assert_eq!(config.access_log.queue, 8192);
    assert_eq!(config.listeners[0].limits.connections_per_client, 1024);
    assert_eq!(config.listeners[0].limits.header_bytes, Size(32 << 10));
    assert_eq!(config.listeners[0].timeouts.write.0, seconds(30));
    assert!(config.admin.is_none());
}

#[test]
fn variables_become_what_the_place_wants() {
    let text = "
version: 1
listeners:
  - {name: a, address: '0.0.0.0:${PORT}', limits: {connections: '${LIMIT}'}}
routes:
  - {name: r, reply: {echo: '${ECHO}', headers: {x-limit: '${LIMIT}', x-price: '$$5'}}}
";

    let config = loaded(text).config;

    assert_eq!(config.listeners[0].address.port(), 8080);
    assert_eq!(config.listeners[0].limits.connections, 500);
    let reply = config.routes[0].reply.as_ref().unwrap();
    assert!(reply.echo);
    assert_eq!(reply.headers["x-limit"], "500");
    assert_eq!(reply.headers["x-price"], "$5");
}

#[test]
fn anchors_aliases_and_merge_keys_work_and_x_keys_are_ignored() {
    let text = "
version: 1
x-timeouts: &slow {connect: 5s, x-note: patient, idle: 2m}
listeners: [{name: a, address: 0.0.0.0:80, x-owner: [team]}]
upstreams:
  - {name: u, endpoints: [10.0.0.1:80], timeouts: *slow}
  - {name: v, endpoints: [10.0.0.1:80], timeouts: {<<: *slow, connect: 1s}}
routes:
  - {name: r, match: {path: /u}, upstream: u}
  - {name: s, match: {path: /v}, upstream: v}
";

    let config = loaded(text).config;

    assert_eq!(config.upstreams[0].timeouts.connect.0, seconds(5));
    assert_eq!(config.upstreams[1].timeouts.connect.0, seconds(1));
    assert_eq!(config.upstreams[1].timeouts.idle.0, seconds(120));
}

#[test]
fn plugin_options_are_walked_by_kind() {
    let text = format!(
        "{HEAD}plugins:
  - kind: jwt
    options: {{issuer: me, audience: [a], keys: {{from: file, path: keys.pem}}}}
  - kind: request-id
routes: [{{name: r, upstream: users, disable: [cors, jwt]}}]
"
    );

    let config = loaded(&text).config;

    assert_eq!(config.plugins[0].options["keys"]["path"], "/etc/gateway/keys.pem");
    assert!(config.plugins[1].options.is_mapping());
    assert_eq!(config.plugins[1].name(), "request-id");
}

#[test]
fn what_is_doubtful_is_a_warning() {
    let text = format!(
        "{HEAD}admin:
  address: 127.0.0.1:9901
  token: hunter2
plugins:
  - {{kind: jwt, options: {{issuer: i, audience: [], secret: '${{KEY}}'}}}}
"
    );

    let warnings: Vec<String> = loaded(&text).warnings.iter().map(ToString::to_string).collect();

    assert_eq!(
        warnings,
        [
            "gateway.yaml:4:20  upstreams[0].name: upstream `users` is used by no route and no listener",
            "gateway.yaml:7:10  admin.token: a secret is written in the file; use `{env: NAME}` or `{file: path}`",
        ]
    );
}

#[test]
fn digest_changes_with_the_meaning_alone() {
    let digest = |text: &str| loaded(text).digest;
    let plain = digest("version: 1\nlisteners: [{name: a, address: '0.0.0.0:8080'}]\n");

    let written_otherwise =
        digest("# note\nx-a: 1\nlisteners:\n- address: 0.0.0.0:${PORT}\n  name: a\nversion: 1\n");
    let changed = digest("version: 1\nlisteners: [{name: b, address: '0.0.0.0:8080'}]\n");

    assert_eq!(plain, written_otherwise);
    assert_ne!(plain, changed);
}

#[test]
fn load_options_read_the_environment_by_default() {
    assert!((LoadOptions::default().env)("PATH").is_some());
}

#[test]
fn later_rooms_can_place_their_own_faults() {
    use crate::config::ConfigPath;
    let loaded = loaded(WHOLE);
    let at = ConfigPath::root().key("routes").index(0).key("plugins").index(0).key("options");

    let fault = loaded.document.fault(&at.key("audience"), "nobody");

    let expected = "routes[0].plugins[0].options.audience: nobody";
    assert!(fault.to_string().ends_with(expected), "{fault}");
    let line = WHOLE.lines().nth(fault.line - 1).unwrap();
    assert_eq!(&line[fault.column - 1..], "[api]", "{fault}");
    assert_eq!(Path::new(&fault.file), Path::new("gateway.yaml"));
}
