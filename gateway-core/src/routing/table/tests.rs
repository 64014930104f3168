//! The table against written cases, and against a slow and obvious matcher.

use std::sync::OnceLock;

use pingora_http::RequestHeader;
use proptest::prelude::*;

use super::*;
use crate::context::RequestCtx;
use crate::plugin::{Attribute, Condition};
use crate::routing::{ValueRule, ValueTest};

/// A route, plainly. Hosts and paths that begin with `~` are regular expressions, paths with `=` exact,
/// with a brace templates; headers are `name` or `name:value`.
#[derive(Clone, Debug, Default)]
struct Plain {
    priority: i32,
    hosts: Vec<String>,
    path: Option<String>,
    methods: Vec<Method>,
    listeners: Vec<u16>,
    headers: Vec<String>,
    query: Vec<String>,
    cookies: Vec<String>,
    /// The client is 127.0.0.1, or is not.
    client: Option<bool>,
    /// Has this condition, which holds or does not.
    when: Option<bool>,
}

impl Plain {
    fn spec(&self, name: &str) -> RouteSpec {
        let value = |make: &dyn Fn(&str) -> Attribute, text: &String| match text.split_once(':') {
            Some((name, value)) => {
                ValueRule { of: make(name), test: ValueTest::Exact(value.into()) }
            }
            None => ValueRule { of: make(text), test: ValueTest::Present },
        };
        let header = |name: &str| Attribute::RequestHeader(name.parse().unwrap());
        let query = |name: &str| Attribute::RequestQuery(name.into());
        let cookie = |name: &str| Attribute::RequestCookie(name.into());
        let headers = self.headers.iter().map(|text| value(&header, text));
        let queries = self.query.iter().map(|text| value(&query, text));
        let cookies = self.cookies.iter().map(|text| value(&cookie, text));
        let net = |own: bool| if own { "127.0.0.0/8" } else { "10.0.0.0/8" };
        let condition = |holds: bool| {
            let source = if holds { "request.method != 'X'" } else { "request.method == 'X'" };
            Condition::parse(source, &Default::default(), false).unwrap()
        };
        RouteSpec {
            name: name.into(),
            priority: self.priority,
            hosts: self.hosts.iter().map(|host| host_pattern(host)).collect(),
            path: self.path.as_deref().map_or(PathPattern::Any, path_pattern),
            methods: self.methods.clone().into(),
            rules: Arc::new(Rules {
                listeners: self.listeners.clone().into(),
                values: headers.chain(queries).chain(cookies).collect(),
                clients: self.client.map(|own| net(own).parse().unwrap()).into_iter().collect(),
                condition: self.when.map(condition),
            }),
        }
    }
}

fn host_pattern(text: &str) -> HostPattern {
    match (text.strip_prefix("*."), text.strip_prefix('~')) {
        (Some(under), _) => HostPattern::Under(under.into()),
        (_, Some(regex)) => HostPattern::Regex(regex.parse().unwrap()),
        _ => HostPattern::Exact(text.into()),
    }
}

fn path_pattern(text: &str) -> PathPattern {
    match text.split_at(1) {
        ("=", exact) => PathPattern::Exact(exact.into()),
        ("~", regex) => PathPattern::Regex(regex.parse().unwrap()),
        _ if text.contains('{') => {
            PathPattern::Template((&text.parse::<crate::config::PathTemplate>().unwrap()).into())
        }
        _ => PathPattern::Prefix(text.into()),
    }
}

/// `host path methods listeners`: comma-separated, `-` for none.
fn spec(line: &str) -> RouteSpec {
    let list = |text: &str| -> Vec<String> {
        if text == "-" { vec![] } else { text.split(',').map(String::from).collect() }
    };
    let [hosts, path, methods, listeners] = line.split(' ').collect::<Vec<_>>()[..] else {
        panic!("four columns: {line}")
    };
    let plain = Plain {
        hosts: list(hosts),
        path: (path != "-").then(|| path.into()),
        methods: list(methods).iter().map(|method| method.parse().unwrap()).collect(),
        listeners: list(listeners).iter().map(|listener| listener.parse().unwrap()).collect(),
        ..Plain::default()
    };
    plain.spec(line)
}

fn ctx() -> &'static RequestCtx {
    static CTX: OnceLock<RequestCtx> = OnceLock::new();
    CTX.get_or_init(RequestCtx::sample)
}

fn head() -> &'static RequestHeader {
    static HEAD: OnceLock<RequestHeader> = OnceLock::new();
    HEAD.get_or_init(|| RequestHeader::build("GET", b"/", None).unwrap())
}

fn facts(request: &RequestHeader) -> Facts<'_> {
    Facts { request, response: None, ctx: ctx() }
}

fn name(table: &RouteTable, found: &Match) -> String {
    match found {
        Match::Route(route) => table.spec(*route).unwrap().name.to_string(),
        Match::MethodNotAllowed(allowed) => format!("405 {allowed}"),
        Match::NotFound => "404".into(),
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
        facts: facts(head()),
    };
    name(table, &table.find(&query))
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

    assert_eq!(ask(&table, "GET a / 1"), "404");
    assert!(table.spec(RouteIndex(0)).is_none());
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
fn a_host_of_very_many_labels_meets_its_wildcard() {
    let suffix = ["a"; 200].join(".");
    let table = RouteTable::new([spec(&format!("*.{suffix} / - -"))]);

    assert_eq!(ask(&table, &format!("GET b.{suffix} / 1")), format!("*.{suffix} / - -"));
    assert_eq!(ask(&table, &format!("GET {suffix} / 1")), "404");
}

#[test]
fn many_routes_told_apart_by_one_value_are_all_found() {
    let asking = |text: &str| Plain { headers: vec![text.into()], ..Plain::default() };
    let mut specs: Vec<RouteSpec> = (0..50)
        .map(|number| asking(&format!("x-tenant:t{number}")).spec(&format!("t{number}")))
        .collect();
    specs.push(asking("x-tenant").spec("some"));
    let both = Plain { headers: vec!["x-tenant:t7".into(), "x-beta".into()], ..Plain::default() };
    specs.push(both.spec("both"));
    specs.push(Plain { priority: 1, ..asking("x-urgent") }.spec("urgent"));
    specs.push(Plain::default().spec("rest"));
    let table = RouteTable::new(specs);

    let find = |fields: &[(&'static str, &str)]| {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        fields.iter().for_each(|(name, value)| head.insert_header(*name, *value).unwrap());
        let query = RouteQuery { facts: facts(&head), ..at("h", "/") };
        name(&table, &table.find(&query))
    };
    assert_eq!(find(&[("x-tenant", "t49")]), "t49");
    assert_eq!(find(&[("x-tenant", "t7"), ("x-beta", "1")]), "both");
    assert_eq!(find(&[("x-tenant", "t8"), ("x-beta", "1")]), "t8");
    assert_eq!(find(&[("x-tenant", "t8"), ("x-urgent", "1")]), "urgent");
    assert_eq!(find(&[("x-tenant", "other")]), "some");
    assert_eq!(find(&[]), "rest");
    // `t0` to `t49` beside `some` are less specific than none of each other.
    assert_eq!(ties(&table).len(), 50);
}

fn at<'a>(host: &'a str, path: &'a str) -> RouteQuery<'a> {
    let facts = facts(head());
    RouteQuery { host, path, method: &Method::GET, listener: 0, preflight_method: None, facts }
}

fn ties(table: &RouteTable) -> Vec<String> {
    let name = |route: RouteIndex| table.spec(route).unwrap().name.to_string();
    table
        .ties()
        .into_iter()
        .map(|tie| format!("{} | {}", name(tie.first), name(tie.second)))
        .collect()
}

#[test]
fn routes_that_nothing_tells_apart_are_ties() {
    for (one, two, tie) in [
        ("a / - -", "a / - -", true),
        ("a / GET -", "a / GET,PUT -", true),
        ("a / GET -", "a / PUT -", false),
        ("a / GET -", "a / - -", false),
        ("a,b / - -", "b,c / - -", true),
        ("a / - -", "b / - -", false),
        ("a /x - -", "a /x/ - -", true),
        ("a - - -", "a / - -", true),
        ("a / - 1", "a / - 2", false),
        ("a / - 1", "a / - 1,2", true),
        ("a / - 1", "a / - -", false),
        ("- /{x}/a - -", "- /{y}/a - -", true),
        ("- /{x}/a - -", "- /a/{y} - -", false),
        ("- /{*x} - -", "- / - -", true),
        ("- /a/{*x} - -", "- /a - -", true),
        ("- ~/[a-c]+ - -", "- ~/[b-d]+ - -", true),
        ("- ~/a[0-9] - -", "- ~/b[0-9] - -", false),
        ("- ~/[a-c]+ - -", "- ~/[b-de]+ - -", false),
        ("~[a-c]+ / - -", "~[b-d]+ / - -", true),
        ("~[a-c]+ / - -", "~[b-d]+ /x - -", true),
        ("~[a-c]+ /y - -", "~[b-d]+ /x - -", false),
        ("- ~/[a-c]+ GET -", "- ~/[b-d]+ - -", true),
        ("~a[a-c]+ / - -", "~b[b-d]+ / - -", false),
    ] {
        let table = RouteTable::new([spec(one), spec(two)]);

        assert_eq!(!table.ties().is_empty(), tie, "{one} | {two}");
    }
}

#[test]
fn routes_that_others_hide_are_told_with_who_hides_them() {
    let first = |line: &str| RouteSpec { priority: 1, ..spec(line) };
    for (one, two, hidden) in [
        (first("- - - -"), spec("a /x GET -"), true),
        (first("- /x - -"), spec("a /x/{y} GET 1"), true),
        (first("- /x/y - -"), spec("a /x - -"), false),
        (first("a / - -"), spec("a,b / - -"), false),
        (first("a,b / - -"), spec("a,b /x - -"), true),
        (first("*.a / - -"), spec("x.a,*.y.a / - -"), true),
        (first("*.a / - -"), spec("a / - -"), false),
        (first("- / GET -"), spec("- /x - -"), false),
        (first("- / - 1"), spec("- /x - -"), false),
        (first("- / - 1"), spec("- /x - 1"), true),
        (spec("- /{*all} - -"), spec("- /x - -"), false),
        (spec("- ~.* - -"), spec("- /x - -"), true),
        (spec("- ~.* - -"), spec("- =/x - -"), false),
        (spec("- / - -"), spec("- /x - -"), false),
        (first("- - - -"), spec("- /x OPTIONS -"), true),
        (first("- - OPTIONS,GET -"), spec("- /x OPTIONS -"), true),
    ] {
        let names = format!("{} | {}", one.name, two.name);
        let table = RouteTable::new([one, two]);

        let expected = Shadow { route: RouteIndex(1), by: RouteIndex(0) };
        let found = table.shadowed();
        assert_eq!(found, if hidden { vec![expected] } else { vec![] }, "{names}");
    }
}

/// How specific a match is, row by row; greater goes first. `None` where it does not match.
fn rank(route: &Plain, query: &RouteQuery<'_>) -> Option<Vec<i64>> {
    let head = query.facts.request;
    let host = |pattern: &String| match (pattern.strip_prefix('*'), pattern.strip_prefix('~')) {
        (Some(suffix), _) => query.host.ends_with(suffix).then_some(2_000 + suffix.len() as i64),
        (_, Some(regex)) => whole(regex, query.host).then_some(1_000 + regex.len() as i64),
        _ => (pattern == query.host).then_some(3_000),
    };
    let host = match route.hosts.is_empty() {
        true => 0,
        false => route.hosts.iter().filter_map(host).max()?,
    };
    let (class, path) = match &route.path {
        None => (0, vec![]),
        Some(path) => path_rank(path, query.path)?,
    };
    let has = |asked: &String, found: &dyn Fn(&str) -> Option<String>| match asked.split_once(':') {
        Some((name, value)) => found(name).as_deref() == Some(value),
        None => found(asked).is_some(),
    };
    let header = |name: &str| Some(head.headers.get(name)?.to_str().unwrap().to_owned());
    let query_text = head.uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs =
            query_text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let cookie = |name: &str| {
        let all = header("cookie")?;
        let mut pairs = all.split("; ").filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let meets = (route.listeners.is_empty() || route.listeners.contains(&query.listener))
        && route.headers.iter().all(|one| has(one, &header))
        && route.query.iter().all(|one| has(one, &parameter))
        && route.cookies.iter().all(|one| has(one, &cookie))
        && route.client != Some(false)
        && route.when != Some(false);
    let mut rows = vec![i64::from(route.priority), host, class];
    rows.extend(path);
    // What is shorter here ends in the last rows, which are all of one length.
    rows.resize(16, 0);
    rows.extend([
        i64::from(!route.methods.is_empty()),
        route.headers.len() as i64,
        route.query.len() as i64,
        route.cookies.len() as i64,
        i64::from(route.client.is_some()),
        i64::from(route.when.is_some()),
        i64::from(!route.listeners.is_empty()),
    ]);
    meets.then_some(rows)
}

fn whole(regex: &str, text: &str) -> bool {
    let regex = regex::Regex::new(regex).unwrap();
    regex.find_iter(text).any(|found| found.as_str() == text)
}

/// Which kind of path it is, greater first, and how it compares with others of the kind.
fn path_rank(pattern: &str, path: &str) -> Option<(i64, Vec<i64>)> {
    if let Some(exact) = pattern.strip_prefix('=') {
        return (exact == path).then_some((3, vec![]));
    }
    if let Some(regex) = pattern.strip_prefix('~') {
        return whole(regex, path).then_some((1, vec![regex.len() as i64]));
    }
    let wanted: Vec<&str> = pattern.trim_end_matches('/').split('/').skip(1).collect();
    let is_template = pattern.contains('{');
    let (wanted, open) = match wanted.split_last() {
        Some((last, before)) if last.starts_with("{*") => (before.to_vec(), true),
        _ => (wanted, !is_template),
    };
    let there: Vec<&str> = path.split('/').skip(1).collect();
    let mut kinds = Vec::new();
    for (place, wanted) in wanted.iter().enumerate() {
        let segment = there.get(place)?;
        let captured = wanted.starts_with('{');
        if captured && segment.is_empty() || !captured && segment != wanted {
            return None;
        }
        kinds.push(if captured { 1 } else { 2 });
    }
    match open {
        true => Some((0, kinds)),
        false => (wanted.len() == there.len()).then_some((2, kinds)),
    }
}

/// Whether two of the matching routes are not told apart, and what is found.
fn reference(routes: &[Plain], query: &RouteQuery<'_>) -> (bool, Match) {
    let mut ranked: Vec<(Vec<i64>, usize)> = routes
        .iter()
        .enumerate()
        .filter_map(|(place, route)| Some((rank(route, query)?, place)))
        .collect();
    ranked.sort_by(|(one, first), (two, second)| two.cmp(one).then(first.cmp(second)));
    let takes =
        |route: &Plain, method: &Method| route.methods.is_empty() || route.methods.contains(method);
    let methods: Vec<&Method> = [query.method].into_iter().chain(query.preflight_method).collect();
    let taking: Vec<&(Vec<i64>, usize)> = ranked
        .iter()
        .filter(|(_, place)| methods.iter().any(|method| takes(&routes[*place], method)))
        .collect();
    let first = taking.first().map(|(rank, _)| rank);
    let best: Vec<usize> =
        taking.iter().filter(|(rank, _)| Some(rank) == first).map(|(_, place)| *place).collect();
    let tied = methods
        .iter()
        .any(|method| best.iter().filter(|place| takes(&routes[**place], method)).count() > 1);
    let listing = best.iter().find(|place| routes[**place].methods.contains(query.method));
    let found = match listing.or(best.first()) {
        Some(&place) => Match::Route(RouteIndex(place as u32)),
        None if ranked.is_empty() => Match::NotFound,
        None => {
            let mut allowed = AllowedMethods::default();
            ranked
                .iter()
                .for_each(|&(_, place)| allowed.add(&MethodSet::new(&routes[place].methods)));
            Match::MethodNotAllowed(allowed)
        }
    };
    (tied, found)
}

fn some_of<T: Clone + std::fmt::Debug + 'static>(
    all: &[T],
) -> impl Strategy<Value = Vec<T>> + use<T> {
    prop::sample::subsequence(all.to_vec(), 0..=2.min(all.len()))
}

fn rarely<T: Clone + std::fmt::Debug + 'static>(
    all: &[T],
) -> impl Strategy<Value = Vec<T>> + use<T> {
    let some = some_of(all);
    prop_oneof![3 => Just(Vec::new()), 1 => some]
}

const PATHS: [&str; 10] =
    ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b", "/b/a", "/b/b/c", "/a/c/c"];

fn some_path() -> impl Strategy<Value = Option<String>> {
    let plain = || prop::sample::select(PATHS.to_vec());
    let templates = vec![
        "/{x}",
        "/a/{x}",
        "/{x}/b",
        "/{x}/{y}",
        "/{x}/b/c",
        "/a/{x}/c",
        "/a/{*r}",
        "/{x}/{*r}",
        "/{*r}",
        "/{x}/b/{*r}",
    ];
    let regexes = vec!["~/[ab]", "~/a.*", "~/[ab]/[a-c]+", "~.*b.*c"];
    prop_oneof![
        Just(None),
        plain().prop_map(|path| Some(format!("={path}"))),
        plain().prop_map(|path| Some(path.to_owned())),
        prop::sample::select(templates).prop_map(|path| Some(path.to_owned())),
        prop::sample::select(regexes).prop_map(|path| Some(path.to_owned())),
    ]
}

fn some_route() -> impl Strategy<Value = Plain> {
    let hosts = ["a.b.c", "b.c", "*.b.c", "*.c", "*.a.b.c", "c", "~[a-c.]+", "~.*b.c", "~[a-z].*"]
        .map(String::from);
    let methods = [Method::GET, Method::PUT, Method::OPTIONS, Method::from_bytes(b"LINK").unwrap()];
    let values = ["x:1", "x:2", "x", "y:1"].map(String::from);
    let flag = || prop_oneof![6 => Just(None), 1 => any::<bool>().prop_map(Some)];
    (
        (prop_oneof![4 => Just(0), 1 => -1..3], some_of(&hosts), some_path(), some_of(&methods)),
        (rarely(&[1_u16, 2]), rarely(&values), rarely(&values), rarely(&values), flag(), flag()),
    )
        .prop_map(
            |(
                (priority, hosts, path, methods),
                (listeners, headers, query, cookies, client, when),
            )| Plain {
                priority,
                hosts,
                path,
                methods,
                listeners,
                headers,
                query,
                cookies,
                client,
                when,
            },
        )
}

fn some_head() -> impl Strategy<Value = RequestHeader> {
    let one = || prop::sample::select(vec!["", "x=1", "x=2", "x=3", "y=1"]);
    (one(), one(), one(), one()).prop_map(|(header, cookie, query, more)| {
        let target = format!("/?{query}&{more}");
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        if let Some((name, value)) = header.split_once('=') {
            head.insert_header(name.to_owned(), value).unwrap();
        }
        head.insert_header("cookie", cookie).unwrap();
        head
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn the_table_agrees_with_a_slow_matcher(
        routes in prop::collection::vec(some_route(), 0..8),
        host in prop::sample::select(vec!["a.b.c", "x.a.b.c", "b.c", "y.x.b.c", "c", "d.c", "", "q"]),
        path in prop::sample::select(PATHS.to_vec()),
        method in prop::sample::select(vec!["GET", "PUT", "OPTIONS", "LINK", "HEAD"]),
        listener in 1_u16..4,
        preflight in prop::option::of(prop::sample::select(vec!["GET", "PUT", "LINK"])),
        head in some_head(),
        many in any::<bool>(),
    ) {
        let preflight: Option<Method> = preflight.map(|method| method.parse().unwrap());
        let method = if preflight.is_some() { Method::OPTIONS } else { method.parse().unwrap() };
        let query = RouteQuery {
            host, path, method: &method, listener, preflight_method: preflight.as_ref(), facts: facts(&head),
        };
        let mut specs: Vec<RouteSpec> = routes.iter().map(|route| route.spec("r")).collect();
        if many {
            // Routes that no request here matches, so that every host has many paths.
            let hosts: Vec<String> = routes.iter().flat_map(|route| route.hosts.clone()).collect();
            for hosts in [hosts, vec![]] {
                specs.extend((0..30).map(|number| {
                    let path = Some(format!("=/other/{number}"));
                    Plain { hosts: hosts.clone(), path, ..Plain::default() }.spec("o")
                }));
            }
        }
        let table = RouteTable::new(specs);

        let (tied, expected) = reference(&routes, &query);

        let ties = table.ties();
        let ties = ties.iter().filter(|tie| (tie.second.0 as usize) < routes.len()).count();
        prop_assert!(!tied || ties > 0, "a tie was not told");
        if ties == 0 {
            prop_assert_eq!(table.find(&query), expected);
        }
    }
}
