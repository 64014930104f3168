//! The table against written cases, and against a slow and obvious matcher.

use proptest::prelude::*;

use super::*;

/// `host path methods listeners`: comma-separated, `-` for none; a path with `=` before it is exact.
fn spec(line: &str) -> RouteSpec {
    let list = |text: &str| -> Vec<String> {
        if text == "-" { vec![] } else { text.split(',').map(String::from).collect() }
    };
    let [hosts, path, methods, listeners] = line.split(' ').collect::<Vec<_>>()[..] else {
        panic!("four columns: {line}")
    };
    RouteSpec {
        name: line.into(),
        hosts: list(hosts),
        path: match path.strip_prefix('=') {
            _ if path == "-" => PathSpec::Any,
            Some(exact) => PathSpec::Exact(exact.into()),
            None => PathSpec::Prefix(path.into()),
        },
        methods: list(methods).iter().map(|method| method.parse().unwrap()).collect(),
        listeners: list(listeners).iter().map(|listener| listener.parse().unwrap()).collect(),
    }
}

/// `METHOD[>PREFLIGHT] host path listener`.
fn ask(table: &RouteTable, line: &str) -> String {
    let [methods, host, path, listener] = line.split(' ').collect::<Vec<_>>()[..] else {
        panic!("four columns: {line}")
    };
    let (method, preflight) = match methods.split_once('>') {
        Some((method, preflight)) => (method, Some(preflight.parse::<Method>().unwrap())),
        None => (methods, None),
    };
    let query = RouteQuery {
        host: if host == "-" { "" } else { host },
        path,
        method: &method.parse().unwrap(),
        listener: listener.parse().unwrap(),
        preflight_method: preflight.as_ref(),
    };
    match table.find(&query) {
        Match::Route(route) => table.name(route).unwrap().to_string(),
        Match::MethodNotAllowed(allowed) => format!("405 {allowed}"),
        Match::NotFound => "404".into(),
    }
}

const ROUTES: &[&str] = &[
    "a.example.com /api - -",
    "a.example.com /api GET,POST -",
    "a.example.com =/api/exact GET -",
    "a.example.com /api/v1/ - -",
    "a.example.com /inner - 2",
    "*.example.com /wild - -",
    "*.example.com /api/deep - -",
    "*.b.example.com /wild - -",
    "*.b.example.com /only PUT -",
    "- =/health GET -",
    "- /cors GET,PUT -",
    "- /cors OPTIONS 3",
    "- /only DELETE,GET -",
    "x.test,y.test - - 1",
    "z.test / PURGE -",
    "[::1] / - -",
    "- /nohost - -",
];

const CASES: &[(&str, &str)] = &[
    ("GET a.example.com /api 1", "a.example.com /api GET,POST -"),
    ("GET a.example.com /api/ 1", "a.example.com /api GET,POST -"),
    ("GET a.example.com /api/x/y 1", "a.example.com /api GET,POST -"),
    ("PUT a.example.com /api/x 1", "a.example.com /api - -"),
    ("GET a.example.com /apiary 1", "404"),
    ("GET a.example.com /ap 1", "404"),
    ("GET a.example.com /api/exact 1", "a.example.com =/api/exact GET -"),
    ("POST a.example.com /api/exact 1", "a.example.com /api GET,POST -"),
    ("PUT a.example.com /api/exact 1", "a.example.com /api - -"),
    ("GET a.example.com /api/exact/ 1", "a.example.com /api GET,POST -"),
    ("GET a.example.com /api/v1 1", "a.example.com /api/v1/ - -"),
    ("GET a.example.com /api/v1/ 1", "a.example.com /api/v1/ - -"),
    ("GET a.example.com /api/v1/x 1", "a.example.com /api/v1/ - -"),
    ("GET a.example.com /api/v10 1", "a.example.com /api GET,POST -"),
    ("GET a.example.com /api/deep 1", "a.example.com /api GET,POST -"),
    ("GET a.example.com /inner 2", "a.example.com /inner - 2"),
    ("GET a.example.com /inner 1", "404"),
    ("GET a.example.com /wild 1", "*.example.com /wild - -"),
    ("GET c.example.com /wild 1", "*.example.com /wild - -"),
    ("GET d.c.example.com /wild 1", "*.example.com /wild - -"),
    ("GET example.com /wild 1", "404"),
    ("GET b.example.com /wild 1", "*.example.com /wild - -"),
    ("GET c.b.example.com /wild 1", "*.b.example.com /wild - -"),
    ("GET e.d.c.b.example.com /wild 1", "*.b.example.com /wild - -"),
    ("GET c.b.example.com /api/deep 1", "*.example.com /api/deep - -"),
    ("GET badexample.com /wild 1", "404"),
    ("GET a.example.com /health 1", "- =/health GET -"),
    ("GET - /health 1", "- =/health GET -"),
    ("HEAD a.example.com /health 1", "405 GET"),
    ("GET - /health/ 1", "404"),
    ("GET c.b.example.com /only 1", "- /only DELETE,GET -"),
    ("PUT c.b.example.com /only 1", "*.b.example.com /only PUT -"),
    ("POST c.b.example.com /only 1", "405 DELETE, GET, PUT"),
    ("POST other.test /only 1", "405 DELETE, GET"),
    ("GET x.test /any/path 1", "x.test,y.test - - 1"),
    ("GET y.test / 1", "x.test,y.test - - 1"),
    ("GET y.test / 2", "404"),
    ("PURGE z.test /a 1", "z.test / PURGE -"),
    ("GET z.test / 1", "405 PURGE"),
    ("GET [::1] /a 1", "[::1] / - -"),
    ("GET - /nohost 1", "- /nohost - -"),
    ("OPTIONS>PUT q.test /cors 1", "- /cors GET,PUT -"),
    ("OPTIONS>GET q.test /cors/x 1", "- /cors GET,PUT -"),
    ("OPTIONS>DELETE q.test /cors 1", "405 GET, PUT"),
    ("OPTIONS q.test /cors 1", "405 GET, PUT"),
    ("OPTIONS q.test /cors 3", "- /cors OPTIONS 3"),
    ("OPTIONS>PUT q.test /cors 3", "- /cors OPTIONS 3"),
    ("OPTIONS>PATCH a.example.com /api/v1 1", "a.example.com /api/v1/ - -"),
    ("OPTIONS>GET q.test /none 1", "404"),
];

#[test]
fn the_most_specific_route_serves() {
    let table = RouteTable::new(ROUTES.iter().map(|line| spec(line)));

    for (request, expected) in CASES {
        assert_eq!(ask(&table, request), *expected, "{request}");
    }
}

#[test]
fn an_empty_table_finds_nothing() {
    let table = RouteTable::default();

    assert!(table.is_empty());
    assert_eq!(ask(&table, "GET a / 1"), "404");
    assert_eq!(table.name(RouteIndex(0)), None);
}

#[test]
fn the_root_prefix_matches_every_path() {
    for route in ["- / - -", "- - - -"] {
        let table = RouteTable::new([spec(route)]);

        for path in ["/", "/a", "/a/"] {
            assert_eq!(ask(&table, &format!("GET a {path} 1")), route);
        }
    }
}

#[test]
fn routes_alike_but_for_overlapping_methods_keep_the_order_of_listing() {
    let table = RouteTable::new(["- /a PUT,GET -", "- /a GET -"].map(spec));

    assert_eq!(ask(&table, "GET h /a 1"), "- /a PUT,GET -");
}

#[test]
fn a_host_of_very_many_labels_meets_its_wildcard() {
    let suffix = ["a"; 200].join(".");
    let table = RouteTable::new([spec(&format!("*.{suffix} / - -"))]);

    assert_eq!(table.find(&query(&format!("b.{suffix}"))), Match::Route(RouteIndex(0)));
    assert_eq!(table.find(&query(&suffix)), Match::NotFound);
}

fn query(host: &str) -> RouteQuery<'_> {
    RouteQuery { host, path: "/", method: &Method::GET, listener: 0, preflight_method: None }
}

/// How specific a match is; greater goes first. `None` where it does not match.
fn rank(spec: &RouteSpec, query: &RouteQuery<'_>) -> Option<(usize, usize)> {
    let host = |pattern: &String| match pattern.strip_prefix('*') {
        Some(suffix) if query.host.ends_with(suffix) => Some(suffix.len()),
        Some(_) => None,
        None => (pattern == query.host).then_some(usize::MAX),
    };
    let host = match spec.hosts.is_empty() {
        true => 0,
        false => spec.hosts.iter().filter_map(host).max()?,
    };
    let path = match &spec.path {
        PathSpec::Any => 0,
        PathSpec::Exact(path) => (path == query.path).then_some(usize::MAX)?,
        PathSpec::Prefix(prefix) => {
            let whole = format!("{}/", prefix.trim_end_matches('/'));
            format!("{}/", query.path).starts_with(&whole).then_some(whole.len() - 1)?
        }
    };
    let here = spec.listeners.is_empty() || spec.listeners.contains(&query.listener);
    here.then_some((host, path))
}

fn reference(specs: &[RouteSpec], query: &RouteQuery<'_>) -> Match {
    let mut ranked: Vec<_> = specs
        .iter()
        .enumerate()
        .filter_map(|(place, spec)| Some((rank(spec, query)?, !spec.methods.is_empty(), place)))
        .collect();
    ranked
        .sort_by_key(|&(rank, lists, place)| std::cmp::Reverse((rank, lists, usize::MAX - place)));
    let listing = |method: &Method| {
        ranked.iter().find(|(_, _, place)| specs[*place].methods.contains(method))
    };
    let taking = |method: &Method| {
        let takes = |spec: &RouteSpec| spec.methods.is_empty() || spec.methods.contains(method);
        ranked.iter().find(|(_, _, place)| takes(&specs[*place]))
    };
    let found = match query.preflight_method {
        Some(method) => listing(query.method).or_else(|| taking(method)),
        None => taking(query.method),
    };
    match found {
        Some(&(_, _, place)) => Match::Route(RouteIndex(place as u32)),
        None if ranked.is_empty() => Match::NotFound,
        None => {
            let mut allowed = AllowedMethods::default();
            ranked
                .iter()
                .for_each(|&(_, _, place)| allowed.add(&MethodSet::new(&specs[place].methods)));
            Match::MethodNotAllowed(allowed)
        }
    }
}

fn some_of<T: Clone + std::fmt::Debug + 'static>(
    all: &[T],
) -> impl Strategy<Value = Vec<T>> + use<T> {
    prop::sample::subsequence(all.to_vec(), 0..=2.min(all.len()))
}

fn some_path() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b"])
        .prop_map(String::from)
}

fn some_spec() -> impl Strategy<Value = RouteSpec> {
    let hosts = ["a.b.c", "b.c", "*.b.c", "*.c", "*.a.b.c", "c"].map(String::from);
    let path = prop_oneof![
        Just(PathSpec::Any),
        some_path().prop_map(PathSpec::Exact),
        some_path().prop_map(PathSpec::Prefix),
    ];
    let methods = [Method::GET, Method::PUT, Method::OPTIONS, Method::from_bytes(b"LINK").unwrap()];
    (some_of(&hosts), path, some_of(&methods), some_of(&[1_u16, 2])).prop_map(
        |(hosts, path, methods, listeners)| RouteSpec {
            name: "r".into(),
            hosts,
            path,
            methods,
            listeners,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn the_table_agrees_with_a_slow_matcher(
        specs in prop::collection::vec(some_spec(), 0..12),
        host in prop::sample::select(vec!["a.b.c", "x.a.b.c", "b.c", "y.x.b.c", "c", "d.c", "", "q"]),
        path in some_path(),
        method in prop::sample::select(vec!["GET", "PUT", "OPTIONS", "LINK", "HEAD"]),
        listener in 1_u16..4,
        preflight in prop::option::of(prop::sample::select(vec!["GET", "PUT", "LINK"])),
    ) {
        let preflight: Option<Method> = preflight.map(|method| method.parse().unwrap());
        let method = if preflight.is_some() { Method::OPTIONS } else { method.parse().unwrap() };
        let query = RouteQuery {
            host, path: &path, method: &method, listener, preflight_method: preflight.as_ref(),
        };
        let table = RouteTable::new(specs.clone());

        prop_assert_eq!(table.find(&query), reference(&specs, &query));
    }
}
