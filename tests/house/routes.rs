//! Which route takes a request, through a real gateway: hosts, paths, methods, listeners, shares.

use gateway_tests::{Client, Gate, Origin};

/// A gateway of one listener whose routes answer with their own names. Each is written as
/// `name: match`.
fn routes(routes: &[(&str, &str)]) -> Gate {
    Gate::yaml(&config("[{name: public, address: \"127.0.0.1:0\"}]", routes))
}

fn config(listeners: &str, routes: &[(&str, &str)]) -> String {
    let routes: Vec<String> = routes
        .iter()
        .map(|(name, rules)| {
            format!("  - {{name: {name}, match: {rules}, reply: {{body: {name}}}}}")
        })
        .collect();
    format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: \"off\"}}\n\
         listeners: {listeners}\nroutes:\n{}\n",
        routes.join("\n")
    )
}

/// What answers: the route's name, or the status if there is none.
fn taken(client: &mut Client, method: &str, host: &str, path: &str) -> String {
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let response = client.response();
    if response.status == 200 { response.text() } else { response.status.to_string() }
}

#[track_caller]
fn assert_taken(gate: &Gate, expected: &[(&str, &str, &str, &str)]) {
    let mut client = gate.client();
    for (method, host, path, route) in expected {
        assert_eq!(taken(&mut client, method, host, path), *route, "{method} {host}{path}");
    }
}

#[test]
fn an_exact_host_goes_before_the_longest_wildcard_and_that_before_no_host() {
    let gate = routes(&[
        ("none", "{path: /}"),
        ("short", "{hosts: [\"*.example.com\"], path: /}"),
        ("long", "{hosts: [\"*.a.example.com\"], path: /}"),
        ("exact", "{hosts: [x.a.example.com], path: /}"),
    ]);

    assert_taken(
        &gate,
        &[
            ("GET", "x.a.example.com", "/", "exact"),
            ("GET", "y.a.example.com", "/", "long"),
            ("GET", "z.y.a.example.com", "/", "long"),
            ("GET", "a.example.com", "/", "short"),
            ("GET", "b.example.com", "/", "short"),
            ("GET", "example.com", "/", "none"),
            ("GET", "other.org", "/", "none"),
        ],
    );
}

#[test]
fn an_exact_path_goes_before_the_longest_prefix() {
    let gate = routes(&[
        ("root", "{path: /}"),
        ("api", "{path: /api}"),
        ("users", "{path: /api/users}"),
        ("exact", "{path: {exact: /api/users}}"),
    ]);

    assert_taken(
        &gate,
        &[
            ("GET", "a", "/api/users", "exact"),
            ("GET", "a", "/api/users?page=2", "exact"),
            ("GET", "a", "/api/users/", "users"),
            ("GET", "a", "/api/users/7", "users"),
            ("GET", "a", "/api/user", "api"),
            ("GET", "a", "/api", "api"),
            ("GET", "a", "/", "root"),
        ],
    );
}

#[test]
fn a_prefix_ends_on_the_boundary_of_a_segment() {
    let gate = routes(&[("api", "{path: /api}")]);

    assert_taken(
        &gate,
        &[
            ("GET", "a", "/api", "api"),
            ("GET", "a", "/api/", "api"),
            ("GET", "a", "/api/x", "api"),
            ("GET", "a", "/apiary", "404"),
            ("GET", "a", "/api-v2", "404"),
            ("GET", "a", "/API", "404"),
            ("GET", "a", "/", "404"),
        ],
    );
}

#[test]
fn paths_are_matched_in_their_one_normal_form() {
    let gate = routes(&[("api", "{path: /api}"), ("secret", "{path: /secret}")]);

    assert_taken(
        &gate,
        &[
            ("GET", "a", "/%61pi/x", "api"),
            ("GET", "a", "//api//x", "api"),
            ("GET", "a", "/api/../secret", "secret"),
            ("GET", "a", "/api/%2e%2e/secret", "secret"),
            ("GET", "a", "/./api", "api"),
            ("GET", "a", "/api%2Fx", "404"),
        ],
    );
    for refused in ["/api/%00", "/api/%5Cx"] {
        assert_eq!(taken(&mut gate.client(), "GET", "a", refused), "400", "{refused}");
    }
}

#[test]
fn a_route_that_lists_the_method_goes_before_one_that_takes_any() {
    let gate = routes(&[
        ("any", "{path: /x}"),
        ("read", "{path: /x, methods: [GET, HEAD]}"),
        ("write", "{path: /x, methods: [POST]}"),
    ]);

    assert_taken(
        &gate,
        &[
            ("GET", "a", "/x", "read"),
            ("POST", "a", "/x", "write"),
            ("DELETE", "a", "/x", "any"),
            ("PURGE", "a", "/x", "any"),
        ],
    );
}

#[test]
fn a_route_that_fails_in_one_respect_does_not_hide_a_less_specific_one() {
    let gate = routes(&[
        ("health", "{path: /health}"),
        ("shop", "{hosts: [shop.example], path: /cart}"),
        ("read", "{path: /a, methods: [GET]}"),
        ("rest", "{path: /, methods: [POST]}"),
    ]);

    assert_taken(
        &gate,
        &[
            ("GET", "shop.example", "/health", "health"),
            ("GET", "shop.example", "/cart", "shop"),
            ("POST", "a", "/a/b", "rest"),
        ],
    );
}

/// What `check` says of such routes: its faults and its warnings, without their places.
fn checked(routes: &[(&str, &str)]) -> Vec<String> {
    let config = config("[{name: public, address: \"127.0.0.1:0\"}]", routes);
    let gateway = gateway_core::Gateway::builder().plugins(gateway_plugins::all());
    let found = match gateway.config_text(config).check() {
        Ok(checked) => checked.loaded.warnings,
        Err(faults) => faults.iter().cloned().collect(),
    };
    found.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
}

#[test]
fn routes_that_nothing_tells_apart_are_refused_with_both_names() {
    let pair = [
        ("first", "{hosts: [a.example, b.example], path: /}"),
        ("second", "{hosts: [b.example, c.example], path: /}"),
    ];

    assert_eq!(
        checked(&pair),
        [
            "routes[1].match: route `second` is as specific as route `first` at config:6:5, and a request could \
          match both; give one of them a higher `priority`, or let them differ"
        ]
    );
}

#[test]
fn a_route_that_serves_nothing_is_warned_of_with_the_one_that_hides_it() {
    let hidden = [("all", "{path: {regex: \".*\"}}"), ("shop", "{path: /shop}")];

    assert_eq!(
        checked(&hidden),
        [
            "routes[1].match: route `shop` serves no request: route `all` at config:6:5 goes before it and takes \
          all of its"
        ]
    );
}

/// What `check` warns of in this config, without the places.
fn warnings(rest: &str) -> Vec<String> {
    let config = format!(
        "version: 1\nlisteners:\n  - {{name: public, address: \"127.0.0.1:0\"}}\n\
         upstreams: [{{name: a, endpoints: [\"127.0.0.1:1\"]}}]\n{rest}"
    );
    let gateway = gateway_core::Gateway::builder().plugins(gateway_plugins::all());
    let checked = gateway.config_text(config).check().unwrap_or_else(|faults| panic!("{faults}"));
    let warnings = checked.loaded.warnings.into_iter();
    warnings.map(|warning| format!("{}: {}", warning.path, warning.message)).collect()
}

#[test]
fn a_preflight_that_is_refused_before_it_can_be_answered_is_warned_of() {
    let cors = "{kind: cors, options: {origins: [\"https://a.example\"]}}";
    let key = "{kind: key-auth}";
    let route = "routes: [{name: r, upstream: a}]";

    assert_eq!(
        warnings(&format!("plugins: [{key}, {cors}]\n{route}")),
        [
            "plugins[0]: `key-auth` refuses preflights before `cors` can answer them, for they have no credentials; \
          list `cors` first"
        ]
    );
    assert_eq!(
        warnings(&format!(
            "plugins: [{key}]\nroutes: [{{name: r, upstream: a, plugins: [{cors}]}}]"
        )),
        [
            "plugins[0]: `key-auth` refuses preflights before `cors` can answer them, for they have no credentials; \
          list `cors` first"
        ]
    );
    let anonymous = "{kind: key-auth, options: {anonymous: true}}";
    let on_posts = "{kind: key-auth, when: 'request.method != \"OPTIONS\"'}";
    let on_a_path = "{kind: key-auth, when: 'request.path.startsWith(\"/a\")'}";
    assert_eq!(warnings(&format!("plugins: [{on_a_path}, {cors}]\n{route}")).len(), 1);
    for fine in
        [format!("{cors}, {key}"), format!("{anonymous}, {cors}"), format!("{on_posts}, {cors}")]
    {
        assert_eq!(warnings(&format!("plugins: [{fine}]\n{route}")), [""; 0], "{fine}");
    }
}

#[test]
fn a_protection_that_clients_can_do_without_is_warned_of() {
    let one = |when: &str| {
        warnings(&format!(
            "plugins: [{{kind: ip-restriction, options: {{allow: [10.0.0.0/8]}}, when: '{when}'}}]\n\
             routes: [{{name: r, upstream: a}}]"
        ))
    };

    for (when, on) in [
        ("request.header[\"x-debug\"] != \"1\"", "request.header.x-debug"),
        ("request.path == \"/a\" && !has(request.cookie.free)", "request.cookie.free"),
        ("request.query.q == \"1\"", "request.query.q"),
    ] {
        assert_eq!(
            one(when),
            [format!(
                "plugins[0].when: `ip-restriction` protects, and a client can do without it: whether it acts depends \
                 on `{on}`, which the client chooses; let it depend on the path, the method or the client, or write \
                 a route of its own"
            )]
        );
    }
    for fine in [
        "request.path.startsWith(\"/admin\")",
        "request.method == \"POST\"",
        "client.ip != \"10.0.0.1\"",
    ] {
        assert_eq!(one(fine), [""; 0], "{fine}");
    }
    assert_eq!(
        one("false"),
        ["plugins[0].when: `ip-restriction` acts on no request: its condition never holds"]
    );
}

#[test]
fn plugins_that_no_route_meets_are_warned_of() {
    assert_eq!(
        warnings(
            "plugins: [{kind: request-id}, {kind: headers, name: h}]\n\
             route_groups: [{name: g, plugins: [{kind: body-limit, options: {max: 1KiB}}]}]\n\
             routes:\n  - {name: r, group: g, disable: [h, body-limit], upstream: a}\n  \
             - {name: s, upstream: a, match: {path: /s}, plugins: [{kind: headers, name: h}]}"
        ),
        [
            "plugins[1]: no route meets `h`: each that could disables it, or has one of that name in its place",
            "route_groups[0].plugins[0]: no route meets `body-limit`: each that could disables it, or has one of \
             that name in its place",
        ]
    );
}

#[test]
fn redirects_that_lead_in_a_circle_are_warned_of_with_the_way() {
    let routes =
        |routes: &str| warnings(&format!("routes: [{routes}, {{name: rest, upstream: a}}]"));

    let at = |path: &str| format!("http://example.com{path}");
    let deep = |from: usize| {
        let steps = (from..from + 5)
            .map(|depth| format!("{} (x) -> ", at(&format!("/x{}", "/y".repeat(depth)))));
        format!("{}... -> {}", steps.collect::<String>(), at(&format!("/x{}", "/y".repeat(from))))
    };
    for (written, way) in [
        (
            "{name: x, match: {path: /x}, redirect: {path: /x/y}}",
            vec![format!("{0} (x) -> {0}", at("/x/y"))],
        ),
        ("{name: x, match: {path: /x}, redirect: {prefix: /x/y}}", vec![deep(0)]),
        (
            "{name: x, match: {path: /x}, redirect: {path: /y}}, {name: y, match: {path: /y}, redirect: {path: /x}}",
            vec![format!("{0} (x) -> {1} (y) -> {0}", at("/x"), at("/y"))],
        ),
        (
            "{name: x, match: {hosts: [a.example], path: /x}, redirect: {host: a.example}}",
            vec!["http://a.example/x (x) -> http://a.example/x".to_owned()],
        ),
        (
            "{name: x, match: {path: {exact: /x}, methods: [POST], headers: {x-a: b}, query: {q: {range: {min: 3}}}}, \
             redirect: {path: /x, status: 307}}",
            vec![format!("{0} (x) -> {0}", at("/x?q=3"))],
        ),
        (
            "{name: x, match: {path: {exact: /x}, methods: [POST]}, redirect: {path: /x, status: 303}}",
            vec![],
        ),
        ("{name: x, match: {path: /x}, redirect: {host: docs.example, scheme: http}}", vec![]),
        ("{name: x, match: {path: /x}, redirect: {path: /y}}", vec![]),
        ("{name: x, match: {path: {exact: /x}}, redirect: {path: /x/}}", vec![]),
        ("{name: x, match: {path: /x}, redirect: {scheme: https}}", vec![]),
        ("{name: x, match: {path: /x, hosts: [a.example]}, redirect: {host: b.example}}", vec![]),
        ("{name: x, match: {path: /x, hosts: [a.example]}, redirect: {port: 9443}}", vec![]),
    ] {
        let found = routes(written);
        let ways: Vec<&str> = found.iter().filter_map(|one| one.split("circle: ").nth(1)).collect();
        assert_eq!(ways, way, "{written}: {found:?}");
    }
}

#[test]
fn a_long_way_that_ends_is_no_circle() {
    let routes: Vec<String> = (0..30)
        .map(|at| {
            format!(
                "{{name: r{at}, match: {{path: {{exact: /r{at}}}}}, redirect: {{path: /r{}}}}}",
                at + 1
            )
        })
        .collect();

    assert_eq!(
        warnings(&format!("routes: [{}, {{name: rest, upstream: a}}]", routes.join(", "))),
        [""; 0]
    );
}

#[test]
fn what_serves_nobody_is_warned_of() {
    assert_eq!(
        warnings(
            "routes:\n  - {name: r, match: {path: /a, when: 'request.method == \"GET\" && request.method == \"PUT\"'}, upstream: a}\n  \
             - {name: s, match: {path: /b, when: 'request.path == \"b\"'}, upstream: a}\n  \
             - {name: t, match: {path: /c, when: 'client.ip in [\"10.0.0.0/8\"]'}, upstream: a}\n  \
             - {name: u, match: {path: /d, when: '!(\"a\" == \"b\") && request.path != \"b\"'}, upstream: a}"
        ),
        [
            "routes[0].match.when: serves no request: its condition never holds",
            "routes[1].match.when: serves no request: its condition never holds",
            "routes[2].match.when: serves no request: its condition never holds",
        ]
    );
    // The same expression is the same whatever stands beside it.
    let hidden = warnings(
        "routes:\n  - {name: r, priority: 1, match: {path: {regex: \"/a.*\"}, hosts: [{regex: \"[a-z]+\"}]}, upstream: a}\n  \
         - {name: s, match: {path: {regex: \"/a.*\"}, hosts: [{regex: \"[a-z]+\"}]}, upstream: a}",
    );
    assert!(
        hidden.len() == 1 && hidden[0].contains("`s` serves no request: route `r`"),
        "{hidden:?}"
    );
}

#[test]
fn a_listener_through_which_no_route_is_reached_is_warned_of_once() {
    let config = "version: 1\nlisteners:\n  - {name: public, address: \"127.0.0.1:0\"}\n  \
                  - {name: other, address: \"127.0.0.1:0\", plugins: [{kind: request-id}]}\n\
                  routes: [{name: r, match: {listeners: [public]}, reply: {}}]\n";
    let gateway = gateway_core::Gateway::builder().plugins(gateway_plugins::all());
    let checked = gateway.config_text(config).check().unwrap_or_else(|faults| panic!("{faults}"));

    let warnings: Vec<_> = checked
        .loaded
        .warnings
        .iter()
        .map(|one| format!("{}: {}", one.path, one.message))
        .collect();
    assert_eq!(
        warnings,
        [
            "listeners[1]: no route is reached through `other`: its plugins act on nothing, and every request gets a 404"
        ]
    );
}

#[test]
fn matchers_that_cannot_be_are_faults_of_their_own_places() {
    let wrong = "{path: {regex: \"(\"}, headers: {\"a b\": x, X-A: \"1\", x-a: \"2\", host: h, x-r: {range: {}}}, \
                 query: {q: {range: {min: 2, max: 1}}}, cookies: {\"a;\": x}, clients: [10.0.0.1/8], \
                 hosts: [{regex: \"[\"}], when: \"request.method ==\"}";
    let whens = [
        ("a", "{path: /a, when: 'jwt.sub == \"x\"'}"),
        ("b", "{path: /b, when: 'request.id == \"x\"'}"),
        ("c", "{path: /c, when: 'request.methd == \"x\"'}"),
    ];

    let faults = checked(&[("r", wrong)]).join("\n");
    for place in ["path.regex", "clients[0]", "hosts[0].regex"] {
        assert!(faults.contains(&format!("routes[0].match.{place}: ")), "{place}: {faults}");
    }
    let typed = wrong.replace("regex: \"(\"", "regex: \"/a\"").replace("10.0.0.1/8", "10.0.0.0/8");
    let faults = checked(&[("r", &typed.replace("regex: \"[\"", "regex: \"a\""))]);
    assert_eq!(
        faults,
        [
            "routes[0].match.headers[\"a b\"]: `a b` is no header name",
            "routes[0].match.headers.x-a: `x-a` is the field `X-A`, which is listed already",
            "routes[0].match.headers.host: the host is matched by `hosts`",
            "routes[0].match.headers.x-r: a range needs `min` or `max`",
            "routes[0].match.query.q: no number is from 2 to 1",
            "routes[0].match.cookies[\"a;\"]: `a;` is no cookie name",
            "routes[0].match.when: cannot be read: mismatched input the end (column 18)",
        ]
    );
    assert_eq!(
        checked(&whens),
        [
            "routes[0].match.when: `jwt.sub` is not known before a route is chosen (column 4)",
            "routes[1].match.when: `request.id` is not known before a route is chosen (column 8)",
            "routes[2].match.when: unknown attribute `request.methd`; did you mean `request.method`? (column 8)",
        ]
    );
}

#[test]
fn a_host_is_matched_without_case_port_and_trailing_dot() {
    let gate = routes(&[("shop", "{hosts: [shop.example], path: /}")]);

    for host in
        ["shop.example", "SHOP.Example", "shop.example:8080", "shop.example.", "Shop.Example.:80"]
    {
        assert_eq!(taken(&mut gate.client(), "GET", host, "/"), "shop", "{host}");
    }
    assert_eq!(taken(&mut gate.client(), "GET", "shop.example.org", "/"), "404");
}

#[test]
fn an_ipv6_host_is_matched_however_it_is_written() {
    let gate = routes(&[("six", "{hosts: [\"[2001:db8::1]\"], path: /}")]);

    for host in ["[2001:db8::1]", "[2001:db8::1]:8080", "[2001:DB8:0:0:0:0:0:1]"] {
        assert_eq!(taken(&mut gate.client(), "GET", host, "/"), "six", "{host}");
    }
    assert_eq!(taken(&mut gate.client(), "GET", "[2001:db8::2]", "/"), "404");
}

#[test]
fn a_target_in_absolute_form_names_the_host() {
    let gate = routes(&[("shop", "{hosts: [shop.example], path: /cart}")]);

    let response =
        gate.exchange("GET http://shop.example/cart HTTP/1.1\r\nHost: shop.example\r\n\r\n");

    assert_eq!((response.status, response.text().as_str()), (200, "shop"));
}

#[test]
fn a_request_that_no_route_takes_is_answered_404_on_a_connection_that_stays() {
    let gate = routes(&[("api", "{path: /api}")]);
    let mut client = gate.client();

    client.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response();

    assert_eq!(response.status, 404);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.json()["status"], 404);
    assert_eq!(taken(&mut client, "GET", "a", "/api"), "api");
}

#[test]
fn a_method_that_no_route_takes_is_answered_405_with_all_that_are_allowed() {
    let gate = routes(&[
        ("read", "{path: /x, methods: [GET]}"),
        ("write", "{path: /x, methods: [POST, PUT]}"),
        ("elsewhere", "{path: /y, methods: [DELETE]}"),
    ]);

    let response = gate.exchange("DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n");

    assert_eq!(response.status, 405);
    let mut allowed: Vec<&str> =
        response.header("allow").expect("RFC 9110, 15.5.6").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "POST", "PUT"]);
}

#[test]
fn get_does_not_imply_head() {
    let gate = routes(&[("read", "{path: /x, methods: [GET]}")]);

    let response = gate.client().send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n").response_to_head();

    assert_eq!(response.status, 405);
    assert_eq!(response.header("allow"), Some("GET"));
}

#[test]
fn a_cors_preflight_is_matched_by_the_method_it_asks_for() {
    let gate =
        routes(&[("read", "{path: /x, methods: [GET]}"), ("write", "{path: /x, methods: [POST]}")]);
    let preflight = |wanted: &str| {
        gate.exchange(format!(
            "OPTIONS /x HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\n\
             Access-Control-Request-Method: {wanted}\r\n\r\n"
        ))
    };

    assert_eq!(preflight("GET").text(), "read");
    assert_eq!(preflight("POST").text(), "write");
    assert_eq!(preflight("DELETE").status, 405);
    let plain = gate.exchange("OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(plain.status, 405, "without Origin it is no preflight");
}

#[test]
fn a_route_that_lists_options_takes_a_preflight_itself() {
    let gate = routes(&[
        ("read", "{path: /x, methods: [GET]}"),
        ("own", "{path: /x, methods: [OPTIONS]}"),
    ]);

    let response = gate.exchange(
        "OPTIONS /x HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\n\
         Access-Control-Request-Method: GET\r\n\r\n",
    );

    assert_eq!(response.text(), "own");
}

#[test]
fn a_route_serves_only_the_listeners_it_names() {
    let gate = Gate::yaml(&config(
        "[{name: public, address: \"127.0.0.1:0\"}, {name: inside, address: \"127.0.0.1:0\"}]",
        &[
            ("both", "{path: /both}"),
            ("open", "{path: /x, listeners: [public]}"),
            ("closed", "{path: /x, listeners: [inside]}"),
            ("admin", "{path: /admin, listeners: [inside]}"),
        ],
    ));
    let [public, inside] = [gate.address(), gate.listener("inside")];

    for (address, path, route) in [
        (public, "/both", "both"),
        (inside, "/both", "both"),
        (public, "/x", "open"),
        (inside, "/x", "closed"),
        (public, "/admin", "404"),
        (inside, "/admin", "admin"),
    ] {
        assert_eq!(taken(&mut Client::connect(address), "GET", "a", path), route, "{path}");
    }
}

/// The sequence of endpoints that take requests, for endpoints of these weights.
fn sequence(weights: &[u32], requests: usize) -> Vec<usize> {
    let origins: Vec<Origin> =
        (0..weights.len()).map(|index| Origin::saying(&index.to_string())).collect();
    let endpoints: Vec<String> = origins
        .iter()
        .zip(weights)
        .map(|(origin, weight)| format!("{{address: \"{}\", weight: {weight}}}", origin.address()))
        .collect();
    let gate = Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 1}}\naccess_log: {{output: \"off\"}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: origin, endpoints: [{}]}}]\n\
         routes: [{{name: all, upstream: origin}}]\n",
        endpoints.join(", ")
    ));
    let mut client = gate.client();
    (0..requests)
        .map(|_| {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.response().text().parse().expect("an origin says its number")
        })
        .collect()
}

#[test]
fn requests_are_shared_by_weight_in_the_smooth_sequence() {
    assert_eq!(sequence(&[3, 1], 8), [0, 0, 1, 0, 0, 0, 1, 0]);
}

#[test]
fn endpoints_of_one_weight_take_turns() {
    assert_eq!(sequence(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn an_endpoint_of_weight_0_is_never_chosen() {
    assert_eq!(sequence(&[1, 0, 1], 6), [0, 2, 0, 2, 0, 2]);
}
