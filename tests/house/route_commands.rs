//! The commands that tell what requests meet: `gateway routes`, `gateway explain`.

use crate::command_line::{Run, folder, gateway, stderr, stdout};

/// Routes of many kinds, not in the order in which they are tried.
const ROUTED: &str = "version: 1
plugins: [{kind: request-id}]
admin: {address: \"127.0.0.1:0\"}
listeners: [{name: public, address: \"127.0.0.1:0\"}]
upstreams: [{name: users, endpoints: [\"127.0.0.1:1\"]}, {name: next, endpoints: [\"127.0.0.1:2\"]}]
route_groups: [{name: api, hosts: [api.example.com], path: /v1, timeouts: {total: 10s}}]
routes:
- {name: rest, disable: [request-id], reply: {status: 204}}
- name: users
  group: api
  match: {path: {template: \"/users/{id}\"}, methods: [GET]}
  upstream: users
  rewrite: {path: \"/u/{id}\"}
  plugins: [{kind: body-limit, options: {max: 1KiB}, when: 'request.method == \"POST\"'}]
- {name: beta, group: api, match: {path: {template: \"/users/{id}\"}, headers: {x-beta: \"1\"}}, upstream: next}
- {name: old, match: {path: /old}, redirect: {prefix: /new, status: 308}}
- {name: down, match: {path: /down, hosts: [\"*.example.com\"]}, priority: 5, reply: {status: 503}}
- name: shared
  match: {path: /shared}
  split: {upstreams: [{upstream: users, weight: 3}, {upstream: next}], sticky: request.cookie.sid}
";

#[test]
fn routes_are_listed_in_the_order_in_which_they_are_tried() {
    let folder = folder(ROUTED);

    let text = stdout(&gateway(&folder, &["routes"]));
    let json = gateway(&folder, &["routes", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");

    let expected = "
PRIORITY  HOST             PATH            METHODS  ALSO                            ROUTE   ACTION                   PLUGINS
5         *.example.com    /down/*         *                                        down    reply 503                request-id
0         api.example.com  /v1/users/{id}  GET                                      users   upstream users           request-id > body-limit
0         api.example.com  /v1/users/{id}  *        request.header.x-beta is `1`  beta    upstream next            request-id
0         *                /old/*          *                                        old     redirect 308             request-id
0         *                /shared/*       *                                        shared  split users 75%, next 25%  request-id
0         *                /*              *                                        rest    reply 204
";
    let squeezed = |text: &str| -> Vec<String> {
        let lines = text.trim().lines();
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(squeezed(&text), squeezed(expected));
    let widths: Vec<usize> = text.lines().filter_map(|line| line.find("  ")).collect();
    assert_eq!(widths.len(), 7);
    let names: Vec<_> = json.as_array().into_iter().flatten().map(|route| &route["name"]).collect();
    assert_eq!(names, ["down", "users", "beta", "old", "shared", "rest"]);
    assert_eq!(json[1]["match"]["path"]["template"], "/v1/users/{id}");
    assert_eq!((&json[1]["group"], &json[0]["priority"]), (&"api".into(), &5.into()));
    assert_eq!(json[1]["action"]["upstream"], "users");
    assert_eq!(json[1]["plugins"]["public"][1]["kind"], "body-limit");
    assert_eq!(
        json[4]["action"]["split"][0],
        serde_json::json!({"upstream": "users", "share": 0.75})
    );
    assert_eq!(json[5]["plugins"]["public"], serde_json::json!([]));
}

#[test]
fn explain_tells_what_becomes_of_a_request_and_why() {
    let folder = folder(ROUTED);
    let url = "http://API.example.com//v1/users/7?x=1";

    let text = stdout(&gateway(&folder, &["explain", "GET", url]));

    for line in [
        "request   GET http://api.example.com/v1/users/7?x=1",
        "          the path was sent as //v1/users/7",
        "route     users (group api)",
        "          id = 7",
        "plugins   1. request-id, from the gateway",
        "          2. body-limit, from route users; skipped, for `request.method == \"POST\"` does not hold",
        "action    upstream users",
        "          asked for the path /u/7",
        "upstream  users: 127.0.0.1:1",
        "          total 10s, as the group says",
        "not       rest: it matches too; `users` goes before it: it names hosts",
        "          beta: it asks that request.header.x-beta is `1`; it is not there",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let refused = stdout(&gateway(&folder, &["explain", "POST", "http://api.example.com/%00"]));
    assert!(
        refused.contains("action    refused with 400 (P8): path holds an encoded NUL"),
        "{refused}"
    );
}

#[test]
fn what_is_expected_of_a_request_decides_the_exit_code() {
    let folder = folder(ROUTED);
    let users = ["explain", "GET", "http://api.example.com/v1/users/7"];
    let explain = |more: &[&str]| gateway(&folder, &[&users[..], more].concat());

    let right = explain(&[
        "--expect",
        "route=users",
        "--expect",
        "group=api",
        "--expect",
        "action=upstream",
        "--expect",
        "upstream=users",
        "--expect",
        "rewritten_path=/u/7",
        "--expect",
        "total=10s",
        "--expect",
        "plugins=request-id,body-limit",
        "--expect",
        "plugin.body-limit=skipped",
        "--expect",
        "capture.id=7",
        "--expect",
        "status=",
        "--expect",
        "listener=public",
    ]);
    assert_eq!(right.status.code(), Some(0), "{}", stderr(&right));
    let wrong = explain(&["-H", "x-beta: 1", "--expect", "route=beta", "--expect", "status=404"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(
        stderr(&wrong),
        "expected route=beta, found route=users\nexpected status=404, and there is no status\n"
    );
    for (more, message) in [
        (&["--expect", "rout=x"][..], "nothing is told under `rout`"),
        (&["-H", "x"], "`x` is no header field"),
        (&["--listener", "x"], "there is no listener `x`"),
        (&["--client-ip", "x"], "invalid IP address"),
    ] {
        let refused = explain(more);
        assert_eq!(refused.status.code(), Some(2), "{more:?}");
        assert!(stderr(&refused).contains(message), "{}", stderr(&refused));
    }
    let no_url = gateway(&folder, &["explain", "GET", "ftp://x/"]);
    assert_eq!(no_url.status.code(), Some(2));
    assert_eq!(stderr(&no_url), "`ftp://x/` is no URL of http or https, and no path\n");
}

#[test]
fn a_table_of_expectations_is_run_in_one_go() {
    let folder = folder(ROUTED);
    let write = |text: &str| std::fs::write(folder.path().join("routes.txt"), text).unwrap();
    let run = || gateway(&folder, &["explain", "--table", "routes.txt"]);

    write(
        "# the API\n\
         GET http://api.example.com/v1/users/7 => route=users upstream=users\n\
         PUT http://api.example.com/v1/users/7 -H 'x-beta: 1' => route=beta\n\n\
         GET /old/x -H 'Host: a.example.com' => route=old location=/new/x status=308\n\
         GET /down -H 'Host: a.example.com' => route=down status=503\n",
    );
    let all = run();
    assert_eq!((all.status.code(), &*stdout(&all)), (Some(0), "4 as expected, 0 not\n"));
    let json = gateway(&folder, &["explain", "--table", "routes.txt", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!((json[3]["line"].as_u64(), &json[3]["as_expected"]), (Some(6), &true.into()));
    write("# nothing\n");
    let none = run();
    assert_eq!(none.status.code(), Some(2), "{}", stdout(&none));
    write("GET / => route=rest\nGET /old => route=rest\n");
    let one = run();
    assert_eq!((one.status.code(), &*stdout(&one)), (Some(1), "1 as expected, 1 not\n"));
    assert_eq!(stderr(&one), "routes.txt:2: expected route=rest, found route=old\n");
    write("GET / => route=rest\nGET\nGET / route=rest\n");
    let broken = run();
    assert_eq!(broken.status.code(), Some(2));
    assert!(stderr(&broken).starts_with("routes.txt:2: write `=>` between"), "{}", stderr(&broken));
}

#[test]
fn a_running_gateway_explains_as_its_config_does() {
    let run = Run::start(ROUTED);
    let admin = run.admin.clone();

    for (method, url) in [
        ("GET", "http://api.example.com/v1/users/7"),
        ("POST", "http://api.example.com/v1/users/7"),
        ("GET", "/shared"),
        ("GET", "/old/%2F"),
        ("GET", "/%zz"),
    ] {
        let ask = |more: &[&str]| {
            let arguments =
                ["explain", method, url, "-H", "Cookie: sid=x", "-H", "Host: api.example.com"];
            let told = gateway(&run.folder, &[&arguments[..], more].concat());
            assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
            stdout(&told)
        };
        assert_eq!(ask(&["--at", &admin]), ask(&[]), "{method} {url}");
        assert_eq!(ask(&["--format", "json", "--at", &admin]), ask(&["--format", "json"]));
    }
    for format in ["text", "json"] {
        let listed = |more: &[&str]| {
            let arguments = ["routes", "--format", format];
            stdout(&gateway(&run.folder, &[&arguments[..], more].concat()))
        };
        assert_eq!(listed(&["--at", &admin]), listed(&[]));
        assert!(listed(&[]).contains("/v1/users/{id}"));
    }
    let unasked = gateway(&run.folder, &["explain", "GET", "x", "--at", &admin]);
    assert_eq!(
        (unasked.status.code(), &*stderr(&unasked)),
        (Some(2), "`x` is no URL of http or https, and no path\n")
    );
}
