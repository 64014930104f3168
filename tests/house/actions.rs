//! What becomes of a request: rewrites, redirects, splits, replies; and groups of routes.

use std::collections::HashMap;

use gateway_tests::{Client, Gate, Response};

/// A gateway that answers with what arrived.
fn echo() -> Gate {
    Gate::yaml(
        "version: 1\nserver: {workers: 1}\naccess_log: {output: \"off\"}\n\
         listeners: [{name: public, address: \"127.0.0.1:0\"}]\n\
         routes: [{name: echo, reply: {echo: true}}]\n",
    )
}

/// A gateway of these routes, whose upstream `echo` answers with what arrived.
fn before(echo: &Gate, rest: &str) -> Gate {
    Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: LOG}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: echo, endpoints: [\"{}\"]}}]\n{rest}",
        echo.address()
    ))
}

fn ask(gate: &Gate, host: &str, target: &str, fields: &str) -> Response {
    let mut client = Client::connect(gate.address());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
    client.response()
}

#[test]
fn what_an_upstream_is_asked_for_is_rewritten() {
    let origin = echo();
    let gate = before(
        &origin,
        r#"routes:
  - {name: prefix, match: {path: /api}, rewrite: {prefix: /v2/api}, upstream: echo}
  - {name: strip, match: {path: /strip}, rewrite: {prefix: /}, upstream: echo}
  - {name: open, match: {path: {template: "/t/{tenant}/{*rest}"}}, rewrite: {prefix: /all}, upstream: echo}
  - {name: full, match: {path: /full}, rewrite: {path: /one}, upstream: echo}
  - {name: template, match: {path: {template: "/u/{id}/{*rest}"}}, rewrite: {path: "/users/{id}/r/{rest}"}, upstream: echo}
  - {name: within, match: {path: {template: "/w/{*rest}"}}, rewrite: {path: "/a/{rest}/b"}, upstream: echo}
  - {name: header, match: {path: /tenant}, rewrite: {path: "/tenants/{request.header.x-tenant}/data"}, upstream: echo}
  - {name: regex, match: {path: /re}, rewrite: {regex: {pattern: "^/re/([0-9]+)", replacement: "/items/$1"}}, upstream: echo}
  - {name: between, match: {path: /rx}, rewrite: {regex: {pattern: "^/rx/([0-9]+)/(.*)$", replacement: "/$1/v2/$2"}}, upstream: echo}
  - {name: groups, match: {path: {regex: "/g/(?<a>[a-z]+)-(?<b>[a-z]+)"}}, rewrite: {path: "/{b}/{a}"}, upstream: echo}
  - {name: host, match: {path: /host}, rewrite: {host: internal.example}, upstream: echo}
"#,
    );

    for (target, path, query) in [
        ("/api", "/v2/api", None),
        ("/api/", "/v2/api/", None),
        ("/api/x?q=1&q=2", "/v2/api/x", Some("q=1&q=2")),
        ("/api/a%2Fb", "/v2/api/a%2Fb", None),
        ("/strip", "/", None),
        ("/strip/", "/", None),
        ("/strip/a/b?", "/a/b", Some("")),
        ("/strip//evil.example/x", "/evil.example/x", None),
        ("/t/acme/a/b", "/all/a/b", None),
        ("/full/x?y", "/one", Some("y")),
        ("/u/7/a/b?c", "/users/7/r/a/b", Some("c")),
        ("/u/a%2Fb/", "/users/a%2Fb/r/", None),
        ("/w/x/y", "/a/x/y/b", None),
        ("/w/", "/a/b", None),
        ("/re/12/x", "/items/12/x", None),
        ("/re/x", "/re/x", None),
        ("/rx/7/a/b", "/7/v2/a/b", None),
        ("/g/one-two", "/two/one", None),
        ("/host/x", "/host/x", None),
    ] {
        let seen = ask(&gate, "a.example", target, "").json();
        assert_eq!(seen["path"], path, "{target}");
        assert_eq!(seen["query"], query.map_or(serde_json::Value::Null, Into::into), "{target}");
        let host = if target == "/host/x" { "internal.example" } else { "a.example" };
        assert_eq!(seen["headers"]["host"], host, "{target}");
        assert_eq!(seen["headers"]["x-forwarded-host"], "a.example", "{target}");
    }
}

#[test]
fn a_value_of_a_request_cannot_leave_the_path_that_it_is_put_into() {
    let origin = echo();
    let gate = before(
        &origin,
        "routes:\n  - {name: r, match: {path: /}, rewrite: {path: \"/tenants/{request.header.x-tenant}/data\"}, upstream: echo}\n",
    );
    let answer = |tenant: &str| ask(&gate, "h", "/", &format!("x-tenant: {tenant}\r\n"));

    assert_eq!(answer("acme").json()["path"], "/tenants/acme/data");
    assert_eq!(answer("a/../../b").json()["path"], "/tenants/a%2F..%2F..%2Fb/data");
    assert_eq!(answer("a?b#c").json()["path"], "/tenants/a%3Fb%23c/data");
    for refused in ["..", ".", "", "a\\b"] {
        assert_eq!(answer(refused).status, 400, "{refused}");
    }
}

#[test]
fn logs_and_plugins_see_what_the_client_asked_for() {
    let origin = echo();
    let gate = before(
        &origin,
        r#"plugins:
  - {kind: headers, options: {response: {set: {x-path: "{request.path}", x-id: "{request.capture.id}"}}}}
routes:
  - {name: r, match: {path: {template: "/u/{id}"}}, rewrite: {path: "/v/{id}"}, upstream: echo}
"#,
    );

    let response = ask(&gate, "h", "/u/7?q", "");

    assert_eq!(response.json()["path"], "/v/7");
    assert_eq!(response.header("x-path"), Some("/u/7"));
    assert_eq!(response.header("x-id"), Some("7"));
    assert_eq!(gate.log(1)[0]["url.path"], "/u/7");
}

#[test]
fn redirects_lead_where_the_config_says() {
    let origin = echo();
    let gate = before(
        &origin,
        r#"routes:
  - {name: old, match: {path: /old}, redirect: {path: /users, status: 308}}
  - {name: prefix, match: {path: /p}, redirect: {prefix: /q/r}}
  - {name: root, match: {path: /root}, redirect: {prefix: /, status: 301}}
  - {name: https, match: {path: /s}, redirect: {scheme: https, status: 307}}
  - {name: port, match: {path: /port}, redirect: {scheme: https, port: 8443}}
  - {name: same-port, match: {path: /same}, redirect: {scheme: https, port: 443}}
  - {name: host, match: {path: /h}, redirect: {host: new.example, status: 303}}
  - {name: all, match: {path: /all}, redirect: {scheme: https, host: new.example, port: 81, path: /x, query: false}}
  - {name: template, match: {path: {template: "/u/{id}"}}, redirect: {path: "/users/{id}/{request.query.tab}"}}
  - {name: any, match: {path: /echo}, upstream: echo}
"#,
    );

    for (target, status, place) in [
        ("/old", 308, "/users"),
        ("/old/x?a=1&b=%2F", 308, "/users?a=1&b=%2F"),
        ("/old?", 308, "/users?"),
        ("/p/x/y?z", 302, "/q/r/x/y?z"),
        ("/p", 302, "/q/r"),
        ("/root/x", 301, "/x"),
        ("/s/a?b", 307, "https://a.example/s/a?b"),
        ("/port", 302, "https://a.example:8443/port"),
        ("/same", 302, "https://a.example/same"),
        ("/h/x?y", 303, "http://new.example/h/x?y"),
        ("/all/z?y", 302, "https://new.example:81/x"),
        ("/u/7?tab=a%2Fb", 302, "/users/7/a%2Fb?tab=a%2Fb"),
    ] {
        let response = ask(&gate, "a.example:8080", target, "");
        assert_eq!(
            (response.status, response.header("location")),
            (status, Some(place)),
            "{target}"
        );
    }
}

#[test]
fn no_request_can_lead_a_redirect_to_another_host() {
    let origin = echo();
    let gate = before(
        &origin,
        r#"routes:
  - {name: root, match: {path: /root}, redirect: {prefix: /}}
  - {name: path, match: {path: /next}, redirect: {path: "/{request.query.to}"}}
  - {name: path2, match: {path: {template: "/c/{*rest}"}}, redirect: {path: "/{rest}"}}
  - {name: https, match: {path: /s}, redirect: {scheme: https}}
"#,
    );
    let evil = "X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\nX-Host: evil.example\r\n";

    for (target, place) in [
        ("/root//evil.example", Some("/evil.example")),
        ("/root/%2F%2Fevil.example", Some("/%2F%2Fevil.example")),
        ("/root/%2f/evil.example", Some("/%2F/evil.example")),
        ("/root/\\evil.example", None),
        ("/root/%5Cevil.example", None),
        ("/root/..//evil.example", None),
        ("/next?to=/evil.example", Some("/%2Fevil.example?to=/evil.example")),
        ("/next?to=//evil.example", Some("/%2F%2Fevil.example?to=//evil.example")),
        ("/next?to=%5Cevil.example", None),
        ("/next?to=%0d%0alocation:%20http://evil.example", None),
        ("/c//evil.example", Some("/evil.example")),
        ("/c/%2Fevil.example", Some("/%2Fevil.example")),
        ("/s/@evil.example", Some("https://a.example/s/@evil.example")),
        ("/s", Some("https://a.example/s")),
    ] {
        let response = ask(&gate, "a.example", target, evil);
        let found = response.header("location").map(str::to_owned);
        if let Some(found) = &found {
            assert!(!found.starts_with("//") && !found.contains('\r'), "{target}: {found}");
        }
        let expected = place.map(str::to_owned);
        if target.contains("%0d") {
            // Control characters are escaped, as every character of a value that no segment holds.
            assert!(
                found.is_some_and(|found| found.starts_with("/%0D%0Alocation:%20http:%2F%2Fevil"))
            );
        } else {
            assert_eq!(found, expected, "{target}");
        }
    }
}

/// Gateways that answer with their own names.
fn named(name: &str) -> Gate {
    Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: \"off\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         routes: [{{name: r, reply: {{body: {name}}}}}]\n"
    ))
}

fn shared(one: &Gate, two: &Gate, split: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: LOG}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - {{name: one, endpoints: [\"{}\"]}}\n  - {{name: two, endpoints: [\"{}\"]}}\n\
         routes:\n  - name: r\n    split: {split}\n",
        one.address(),
        two.address()
    )
}

#[test]
fn requests_are_shared_among_upstreams_by_weight() {
    let (one, two) = (named("one"), named("two"));
    let split = "{upstreams: [{upstream: one, weight: 3}, {upstream: two}]}";
    let gate = Gate::yaml(&shared(&one, &two, split));
    let mut client = gate.client();
    let mut counts: HashMap<String, u32> = HashMap::new();

    for _ in 0..800 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        *counts.entry(client.response().text()).or_default() += 1;
    }

    // 600 are expected; the deviation is 12.
    assert!((540..660).contains(&counts["one"]), "{counts:?}");
    let series = "gateway_upstream_attempts_total{outcome=\"ok\",upstream=\"one\"}";
    gate.await_metric(series, counts["one"].into());
    let log = gate.log(800);
    let of_two = log.iter().filter(|line| line["upstream"] == "two").count();
    assert_eq!(of_two as u32, counts["two"]);
}

#[test]
fn a_sticky_share_that_rises_moves_only_callers_to_itself() {
    let (one, two) = (named("one"), named("two"));
    let split = |weight: u32| {
        let shares =
            format!("[{{upstream: one, weight: 90}}, {{upstream: two, weight: {weight}}}]");
        format!("{{sticky: request.cookie.sid, upstreams: {shares}}}")
    };
    let gate = Gate::yaml(&shared(&one, &two, &split(10)));
    let mut client = gate.client();
    let mut kept = || -> Vec<String> {
        let mut ask = |caller: u32| {
            client.send(format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: sid=c{caller}\r\n\r\n"));
            client.response().text()
        };
        (0..300).map(&mut ask).collect()
    };

    let before = kept();
    assert_eq!(kept(), before, "callers stay where they are");
    gate.write(&shared(&one, &two, &split(45)));
    gate.running().reload().expect("the config is valid");
    let after = kept();

    let moved: Vec<_> = before.iter().zip(&after).filter(|(one, two)| one != two).collect();
    assert!(!moved.is_empty() && moved.iter().all(|(from, to)| *from == "one" && *to == "two"));
}

#[test]
fn replies_come_from_files_and_templates() {
    let origin = echo();
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    std::fs::write(&page, "<p>{request.query.q} {{ok}}</p>").unwrap();
    let gate = before(
        &origin,
        &format!(
            r#"routes:
  - {{name: plain, match: {{path: /plain}}, reply: {{body: "{{request.path}}"}}}}
  - name: json
    match: {{path: {{template: "/json/{{id}}"}}}}
    reply:
      status: 201
      template: true
      headers: {{content-type: application/json, x-id: "<{{request.capture.id}}>"}}
      body: '{{{{"id": "{{request.capture.id}}", "q": "{{request.query.q}}"}}}}'
  - name: page
    match: {{path: /page}}
    reply: {{file: "{page}", template: true, headers: {{content-type: text/html}}}}
  - {{name: text, match: {{path: /text}}, reply: {{template: true, body: "{{request.query.q}}"}}}}
  - {{name: file, match: {{path: /file}}, reply: {{file: "{page}"}}}}
"#,
            page = page.display()
        ),
    );

    assert_eq!(ask(&gate, "h", "/plain", "").text(), "{request.path}");
    let json = ask(&gate, "h", "/json/a%2Fb?q=%22%0A%7D", "");
    assert_eq!((json.status, json.header("x-id")), (201, Some("<a%2Fb>")));
    assert_eq!(json.json(), serde_json::json!({"id": "a%2Fb", "q": "\"\n}"}));
    let plain = ask(&gate, "h", "/text?q=%3Cscript%3E", "");
    assert_eq!(plain.text(), "<script>");
    assert_eq!(plain.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(plain.header("x-content-type-options"), Some("nosniff"));
    let html = ask(&gate, "h", "/page?q=%3Cscript%3E", "").text();
    assert_eq!(html, "<p>&lt;script&gt; {ok}</p>");
    assert_eq!(ask(&gate, "h", "/file", "").text(), "<p>{request.query.q} {{ok}}</p>");
}

#[test]
fn what_routes_of_a_group_have_in_common_is_written_once() {
    let origin = echo();
    let gate = before(
        &origin,
        r#"plugins:
  - {kind: headers, name: outer, options: {response: {set: {x-outer: "1"}}}}
  - {kind: headers, name: order, options: {response: {set: {x-order: gateway}}}}
route_groups:
  - name: shop
    hosts: ["*.shop.example", shop.example]
    path: /shop
    plugins:
      - {kind: headers, name: group, options: {response: {set: {x-group: shop}}}}
      - {kind: headers, name: order, options: {response: {set: {x-order: group}}}}
    disable: [outer]
    timeouts: {total: 5s}
routes:
  - {name: cart, group: shop, match: {path: /cart}, rewrite: {prefix: /}, upstream: echo}
  - {name: item, group: shop, match: {path: {template: "/items/{id}"}, hosts: [eu.shop.example]}, upstream: echo}
  - name: own
    group: shop
    match: {path: {exact: /own}}
    plugins: [{kind: headers, name: order, options: {response: {set: {x-order: route}}}}]
    disable: [group]
    upstream: echo
  - {name: other, match: {path: /}, reply: {body: other}}
"#,
    );

    let cart = ask(&gate, "shop.example", "/shop/cart/7", "");
    assert_eq!(cart.json()["path"], "/7");
    assert_eq!(cart.header("x-outer"), None);
    assert_eq!((cart.header("x-group"), cart.header("x-order")), (Some("shop"), Some("group")));
    let own = ask(&gate, "eu.shop.example", "/shop/own", "");
    assert_eq!((own.header("x-group"), own.header("x-order")), (None, Some("route")));
    assert_eq!(ask(&gate, "eu.shop.example", "/shop/items/7", "").json()["path"], "/shop/items/7");
    for (host, target) in [
        ("shop.example", "/shop/items/7"),
        ("shop.example", "/cart"),
        ("other.example", "/shop/cart"),
    ] {
        assert_eq!(ask(&gate, host, target, "").text(), "other", "{host}{target}");
    }
}

#[test]
fn each_team_has_a_file_with_its_groups_and_routes() {
    let origin = echo();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let team = |name: &str| {
        let text = format!(
            r#"route_groups:
  - name: {name}
    hosts: [{name}.example]
    path: /{name}
    plugins: [{{kind: headers, name: team, options: {{response: {{set: {{x-team: {name}}}}}}}}}]
routes:
  - {{name: {name}-cart, group: {name}, match: {{path: /cart}}, rewrite: {{prefix: /c}}, upstream: echo}}
  - {{name: {name}-all, group: every, match: {{path: "/{name}"}}, upstream: echo}}
"#
        );
        std::fs::write(folder.path().join(format!("{name}.yaml")), text)
            .expect("it can be written");
    };
    team("one");
    team("two");
    let gate = before(
        &origin,
        &format!(
            "include: [\"{}/*.yaml\"]\nroute_groups: [{{name: every, path: /all, \
             plugins: [{{kind: headers, name: team, options: {{response: {{set: {{x-team: every}}}}}}}}]}}]\n",
            folder.path().display()
        ),
    );

    for (host, target, team, path) in [
        ("one.example", "/one/cart/7", "one", "/c/7"),
        ("two.example", "/two/cart", "two", "/c"),
        ("one.example", "/all/two/x", "every", "/all/two/x"),
        ("any.example", "/all/one", "every", "/all/one"),
    ] {
        let found = ask(&gate, host, target, "");
        assert_eq!(found.header("x-team"), Some(team), "{host}{target}");
        assert_eq!(found.json()["path"], path, "{host}{target}");
    }
    for (host, target) in
        [("two.example", "/one/cart"), ("one.example", "/two/cart"), ("one.example", "/one")]
    {
        assert_eq!(ask(&gate, host, target, "").status, 404, "{host}{target}");
    }
    let question = gateway_core::explain::Question::new("GET", "http://two.example/two/cart");
    let told = gate.running().snapshots().load().explain(&question).expect("it can be asked").told;
    assert_eq!((told.route.as_deref(), told.group.as_deref()), (Some("two-cart"), Some("two")));
}

#[test]
fn what_cannot_be_of_actions_and_groups_is_told_with_its_place() {
    let checked = |rest: &str| -> Vec<String> {
        let config = format!(
            "version: 1\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
             upstreams: [{{name: a, endpoints: [\"127.0.0.1:1\"]}}]\n{rest}"
        );
        let gateway = gateway_core::Gateway::builder().plugins(gateway_plugins::all());
        let found = match gateway.config_text(config).check() {
            Ok(checked) => checked.loaded.warnings,
            Err(faults) => faults.iter().cloned().collect(),
        };
        found.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    };
    let one = |route: &str| checked(&format!("routes: [{{name: r, {route}}}]"));

    for (route, fault) in [
        (
            "upstream: a, reply: {}",
            "routes[0].reply: a route has one action; leave out `upstream` or `reply`",
        ),
        (
            "match: {}",
            "routes[0]: a route needs an action; write `upstream`, `split`, `redirect` or `reply`",
        ),
        (
            "reply: {}, rewrite: {prefix: /x}",
            "routes[0].rewrite: `rewrite` is for requests that go to an upstream",
        ),
        (
            "split: {upstreams: [{upstream: a, weight: 0}]}",
            "routes[0].split.upstreams: all weights are 0, so that there is nobody to send to",
        ),
        (
            "split: {upstreams: [{upstream: a}, {upstream: a}]}",
            "routes[0].split.upstreams[1].upstream: upstream `a` is listed twice",
        ),
        (
            "split: {upstreams: [{upstream: b}]}",
            "routes[0].split.upstreams[0].upstream: there is no upstream `b`, did you mean `a`?",
        ),
        (
            "split: {upstreams: [{upstream: a}], sticky: response.status}",
            "routes[0].split.sticky: `response.status` is not known before the response",
        ),
        (
            "redirect: {status: 300, path: /x}",
            "routes[0].redirect.status: a redirect has status 301, 302, 303, 307 or 308",
        ),
        (
            "redirect: {}",
            "routes[0].redirect: this leads to where it came from; write `scheme`, `host`, `port`, `path` or `prefix`",
        ),
        (
            "redirect: {host: '*.a.example'}",
            "routes[0].redirect.host: a redirect leads to one host; `*.` stands for many",
        ),
        (
            "redirect: {path: /a, prefix: /b}",
            "routes[0].redirect.prefix: `path` is the whole path; leave one of `path` and `prefix` out",
        ),
        (
            "match: {path: {exact: /a}}, redirect: {prefix: /b}",
            "routes[0].redirect.prefix: the route matches no prefix that this could take the place of; write `path`",
        ),
        (
            "match: {path: {template: '/{id}'}}, rewrite: {path: '/x/{ib}'}, upstream: a",
            "routes[0].rewrite.path: the route's path has no `ib`; it captures `id` (column 4)",
        ),
        (
            "upstream: a, rewrite: {}",
            "routes[0].rewrite: nothing is rewritten; write `prefix`, `path`, `regex` or `host`",
        ),
        (
            "upstream: a, rewrite: {prefix: /a, path: /b}",
            "routes[0].rewrite.path: one path is rewritten in one way; leave out `prefix` or `path`",
        ),
        (
            "reply: {body: x, file: /x}",
            "routes[0].reply.file: `body` says what the body is; leave one out",
        ),
        (
            "match: {path: {template: '/{id}'}}, reply: {template: true, body: 'no {request.capture.ib}'}",
            "routes[0].reply.body: the route's path has no `ib`; it captures `id` (column 4)",
        ),
        (
            "match: {path: {template: '/{id}'}}, reply: {template: true, body: '{id}'}",
            "routes[0].reply.body: unknown attribute `id` (column 1); what the path captures is `{request.capture.id}`",
        ),
        (
            "upstream: a, plugins: [{kind: request-id, when: 'request.capture.id == \"1\"'}]",
            "routes[0].plugins[0].when: the route's path has no `id`; it captures nothing (column 16)",
        ),
        (
            "split: {upstreams: [{upstream: a}], sticky: request.capture.id}",
            "routes[0].split.sticky: the route's path has no `id`; it captures nothing",
        ),
        (
            "split: {upstreams: [{upstream: a}], sticky: upstream.name}",
            "routes[0].split.sticky: `upstream.name` is what is chosen here",
        ),
        (
            "reply: {template: true, headers: {content-type: text/javascript}, body: '{request.path}'}",
            "routes[0].reply.headers.content-type: in programs and style sheets no value is safe; send it as JSON, and read it there",
        ),
        (
            "reply: {status: 302, template: true, headers: {location: '{request.query.to}'}}",
            "routes[0].reply.headers.location: a request cannot say to whom its client is sent; begin with a host and a path, or write a `redirect`",
        ),
        (
            "reply: {status: 302, template: true, headers: {location: 'https://a.example{request.query.q}'}}",
            "routes[0].reply.headers.location: a request cannot say to whom its client is sent; begin with a host and a path, or write a `redirect`",
        ),
        (
            "match: {path: {regex: 'users/.*'}}, upstream: a",
            "routes[0].match.path.regex: no path is matched: each begins with `/`, and this is for the whole of it",
        ),
        (
            "match: {hosts: [{regex: 'API[.]example'}]}, upstream: a",
            "routes[0].match.hosts[0].regex: hosts are matched in lower case, and none has `API.example`",
        ),
        ("reply: {file: /dev/null}", "routes[0].reply.file: `/dev/null` is no file"),
        (
            "reply: {file: /nowhere/x}",
            "routes[0].reply.file: `/nowhere/x` cannot be read: No such file or directory (os error 2)",
        ),
        (
            "reply: {body: '{x', template: true}",
            "routes[0].reply.body: brace at column 1 is not closed; a brace itself is written {{",
        ),
        (
            "reply: {template: true, headers: {Content-Type: '{request.header.accept}'}}",
            "routes[0].reply.headers.Content-Type: what the body is cannot come from a request: values are escaped by it",
        ),
        (
            "upstream: a, rewrite: {regex: {pattern: '/(a)', replacement: '/$1_old'}}",
            "routes[0].rewrite.regex.replacement: the pattern has no group `1_old`; a group in front of letters is written `$${1}`",
        ),
        (
            "upstream: a, rewrite: {regex: {pattern: '/(a)', replacement: '/$1?x'}}",
            "routes[0].rewrite.regex.replacement: no path holds '?' as it is; write it as `%` and two digits, and leave the query alone",
        ),
        (
            "upstream: a, rewrite: {path: '/v2/{request.path}'}",
            "routes[0].rewrite.path: `/v2//x` is not the form in which paths are matched; write `/v2/x`",
        ),
        ("group: shop, reply: {}", "routes[0].group: there is no route group `shop`"),
    ] {
        assert_eq!(one(route).first().map(String::as_str), Some(fault), "{route}");
    }
    assert_eq!(
        checked(
            "route_groups:\n  - {name: g, hosts: ['*.a.example'], listeners: [public]}\n  - {name: g}\n  - {name: unused}\n\
             routes: [{name: r, group: g, match: {hosts: [b.example]}, upstream: a}]"
        ),
        [
            "route_groups[1].name: route group `g` is defined at config:5:5 already",
            "routes[0].match.hosts[0]: `b.example` is none of the hosts of route group `g`",
        ]
    );
    let long = "/a".repeat(40);
    for (group, matching, fault) in [
        ("path: /shop", "path: {regex: '.*'}", "path: a regular expression is of the whole path, and route group `g` has one of its own; write a prefix or a template".to_owned()),
        (&*format!("path: {long}"), &*format!("path: {{template: '{long}/{{id}}'}}"), "path: behind the path of route group `g` it is too long".to_owned()),
        ("hosts: [{regex: '.+\\.a\\.example'}]", "hosts: ['*.a.example']", "hosts[0]: `*.a.example` is none of the hosts of route group `g`".to_owned()),
    ] {
        let found = checked(&format!(
            "route_groups: [{{name: g, {group}}}]\nroutes: [{{name: r, group: g, match: {{{matching}}}, upstream: a}}]"
        ));
        assert_eq!(found, [format!("routes[0].match.{fault}")], "{group} {matching}");
    }
    assert_eq!(
        checked("route_groups: [{name: g}]\nroutes: [{name: r, upstream: a}]"),
        ["route_groups[0].name: route group `g` has no route"]
    );
}
