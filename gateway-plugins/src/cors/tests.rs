use gateway_core::plugin::testing::{Outcome, PluginTest};

use super::*;

const APP: &str = "https://app.example";
const OPTIONS: &str = "{origins: ['https://app.example', 'https://*.app.example', 'http://localhost:*'],
    methods: [DELETE, PATCH], headers: [Content-Type, X-Key], expose: [X-Total, ETag], credentials: true,
    max_age: 5m}";
const OPEN: &str = "{origins: ['*'], methods: ['*'], headers: ['*'], expose: ['*']}";

/// What a request says of CORS, beside its host.
#[derive(Clone, Copy, Default)]
struct Asked<'a> {
    method: &'a str,
    origin: Option<&'a str>,
    /// The method and the fields that a preflight asks for.
    preflight: Option<(&'a str, &'a str)>,
    private: bool,
}

async fn ask(options: &str, asked: Asked<'_>) -> Outcome {
    let test = PluginTest::<Cors>::yaml(options);
    let method = if asked.method.is_empty() { "GET" } else { asked.method };
    let method = if asked.preflight.is_some() { "OPTIONS" } else { method };
    let mut request = test.request(method.parse().unwrap(), "/");
    if let Some(origin) = asked.origin {
        request = request.header("Origin", origin);
    }
    if let Some((method, fields)) = asked.preflight {
        request = request.header("Access-Control-Request-Method", method);
        if !fields.is_empty() {
            request = request.header("Access-Control-Request-Headers", fields);
        }
    }
    if asked.private {
        request = request.header("Access-Control-Request-Private-Network", "true");
    }
    let answered = request
        .upstream_header("Access-Control-Allow-Origin", "https://upstream.example")
        .upstream_header("Access-Control-Allow-Credentials", "true")
        .upstream_header("Vary", "Accept");
    answered.send().await
}

/// Requests, and what the browser is told: the origin that may read the answer, if any.
#[tokio::test]
async fn answers_are_for_those_that_are_listed() {
    let of = |origin| Asked { origin, ..Asked::default() };
    for (options, asked, told) in [
        (OPTIONS, of(None), None),
        (OPTIONS, of(Some(APP)), Some(APP)),
        (OPTIONS, of(Some("https://a.app.example")), Some("https://a.app.example")),
        (OPTIONS, of(Some("https://a.b.app.example")), Some("https://a.b.app.example")),
        (OPTIONS, of(Some("http://localhost:5173")), Some("http://localhost:5173")),
        (OPTIONS, of(Some("http://localhost")), Some("http://localhost")),
        (OPTIONS, of(Some("http://app.example")), None),
        (OPTIONS, of(Some("https://app.example:8443")), None),
        (OPTIONS, of(Some("https://app.example.evil")), None),
        (OPTIONS, of(Some("https://evilapp.example")), None),
        (OPTIONS, of(Some("HTTPS://APP.EXAMPLE")), None),
        (OPTIONS, of(Some("null")), None),
        (OPTIONS, of(Some("")), None),
        (OPTIONS, of(Some("*")), None),
        (OPTIONS, Asked { method: "POST", ..of(Some(APP)) }, Some(APP)),
        // Not a preflight: nothing is asked for.
        (OPTIONS, Asked { method: "OPTIONS", ..of(Some(APP)) }, Some(APP)),
        (OPEN, of(None), Some("*")),
        (OPEN, of(Some(APP)), Some("*")),
        (OPEN, of(Some("null")), Some("*")),
        ("{origins: ['null']}", of(Some("null")), Some("null")),
        ("{origins: ['null']}", of(Some(APP)), None),
    ] {
        let answer = ask(options, asked).await;
        let place = format!("{:?} {:?} {options}", asked.method, asked.origin);
        assert!(answer.reached_upstream(), "{place}");
        assert_eq!(answer.header("access-control-allow-origin").as_deref(), told, "{place}");
        let credentials = (options == OPTIONS && told.is_some()).then_some("true");
        let held = answer.header("access-control-allow-credentials");
        assert_eq!(held.as_deref(), credentials, "the upstream's own is removed: {place}");
        let expose = match (options, told) {
            (OPTIONS, Some(_)) => Some("etag, x-total"),
            (OPEN, Some(_)) => Some("*"),
            _ => None,
        };
        assert_eq!(answer.header("access-control-expose-headers").as_deref(), expose, "{place}");
        assert_eq!(vary_has(&answer, "origin"), options != OPEN, "{place}");
    }
}

/// Preflights, and whether they are granted.
#[tokio::test]
async fn preflights_are_granted_whole_or_not_at_all() {
    let asks = |method, fields| Asked {
        origin: Some(APP),
        preflight: Some((method, fields)),
        ..Asked::default()
    };
    let private = "{origins: ['https://app.example'], private_network: true}";
    let both = "{origins: ['*'], headers: ['*', Authorization]}";
    for (options, asked, granted) in [
        (OPTIONS, asks("GET", ""), true),
        (OPTIONS, asks("HEAD", ""), true),
        (OPTIONS, asks("POST", "content-type"), true),
        (OPTIONS, asks("DELETE", ""), true),
        (OPTIONS, asks("PATCH", "content-type,x-key"), true),
        (OPTIONS, asks("PATCH", "Content-Type, X-KEY"), true),
        (OPTIONS, asks("PATCH", " x-key , "), true),
        (OPTIONS, asks("patch", ""), false),
        (OPTIONS, asks("PUT", ""), false),
        (OPTIONS, asks("", ""), false),
        (OPTIONS, asks("DELETE", "x-other"), false),
        (OPTIONS, asks("DELETE", "x-key,x-other"), false),
        (OPTIONS, asks("DELETE", "authorization"), false),
        (OPTIONS, asks("DELETE", "*"), false),
        (OPTIONS, Asked { origin: Some("https://evil.example"), ..asks("GET", "") }, false),
        (OPTIONS, Asked { private: true, ..asks("GET", "") }, false),
        (private, Asked { private: true, ..asks("GET", "") }, true),
        (OPEN, asks("PUT", "x-anything"), true),
        (OPEN, asks("PURGE", ""), true),
        (OPEN, asks("PUT", "authorization"), false),
        (both, asks("POST", "authorization,x-anything"), true),
        (both, asks("PUT", ""), false),
    ] {
        let answer = ask(options, asked).await;
        let place = format!("{:?} {:?} {options}", asked.origin, asked.preflight);
        assert!(!answer.reached_upstream(), "{place}");
        assert_eq!(answer.status(), 204, "{place}");
        let origin = answer.header("access-control-allow-origin");
        assert_eq!(origin.is_some(), granted, "{place}");
        for name in ["allow-methods", "max-age"] {
            let held = answer.header(&format!("access-control-{name}"));
            assert_eq!(held.is_some(), granted, "{place}: {name}");
        }
        let network = answer.header("access-control-allow-private-network");
        assert_eq!(network.is_some(), granted && asked.private, "{place}");
        for name in ["origin", "access-control-request-method", "access-control-request-headers"] {
            assert!(vary_has(&answer, name), "{place}: {name}");
        }
    }
}

fn vary_has(answer: &Outcome, name: &str) -> bool {
    answer.headers("vary").iter().any(|value| value.to_lowercase().contains(name))
}

#[tokio::test]
async fn a_preflight_lists_what_is_allowed() {
    let asked =
        Asked { origin: Some(APP), preflight: Some(("DELETE", "x-key")), ..Asked::default() };
    let answer = ask(OPTIONS, asked).await;
    for (name, value) in [
        ("access-control-allow-origin", APP),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "DELETE, GET, HEAD, PATCH, POST"),
        ("access-control-allow-headers", "content-type, x-key"),
        ("access-control-max-age", "300"),
    ] {
        assert_eq!(answer.header(name).as_deref(), Some(value), "{name}");
    }
}

#[tokio::test]
async fn others_are_refused_where_that_is_wanted() {
    let options = "{origins: ['https://app.example'], others: refuse}";
    for (origin, preflight, status) in [
        (None, None, 200),
        (Some(APP), None, 200),
        (Some("https://evil.example"), None, 403),
        (Some("https://evil.example"), Some(("GET", "")), 403),
        (Some("null"), None, 403),
        // The gateway's own pages.
        (Some("http://test.example"), None, 200),
        (Some("http://TEST.example"), None, 200),
        (Some("https://test.example"), None, 403),
        (Some("http://test.example:81"), None, 403),
    ] {
        let answer = ask(options, Asked { origin, preflight, ..Asked::default() }).await;
        assert_eq!(answer.status(), status, "{origin:?}");
        if status == 403 {
            assert_eq!(answer.failure(), Some(FailureCode::P4), "{origin:?}");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{origin:?}");
        }
        assert!(vary_has(&answer, "origin"), "{origin:?}");
    }
}

#[tokio::test]
async fn two_origins_are_nobodys() {
    let test = PluginTest::<Cors>::yaml(OPTIONS);
    let request = test.get("/").header("Origin", APP).header("Origin", "https://evil.example");
    let answer = request.send().await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn vary_says_nothing_twice() {
    let test = PluginTest::<Cors>::yaml(OPTIONS);
    for held in ["Accept, ORIGIN", "*"] {
        let answer = test.get("/").upstream_header("Vary", held).send().await;
        assert_eq!(answer.headers("vary"), [held]);
    }
}

#[test]
fn what_would_be_dangerous_or_useless_is_refused() {
    let faults = |options: &str| PluginTest::<Cors>::faults(options).join("\n");
    for (options, parts) in [
        ("{origins: ['*'], credentials: true}", &["origins[0]: with `credentials`"][..]),
        ("{origins: ['null'], credentials: true}", &["any page can have the origin `null`"]),
        (
            "{origins: ['https://a.example'], credentials: true, methods: ['*'], headers: ['*'], expose: ['*']}",
            &["methods[0]: with", "headers[0]: with", "expose[0]: with"],
        ),
        ("{origins: ['https://a.example/']}", &["write `https://a.example`"]),
        ("{origins: [a.example, 'https://b.*']}", &["origins[0]: ", "origins[1]: "]),
        ("{origins: []}", &["origins"]),
        ("{origins: ['*'], headers: ['a b']}", &["headers[0]: `a b` is no name"]),
        ("{origins: ['*'], methods: ['G ET']}", &["methods[0]: `G ET` is no name"]),
        ("{origins: ['*'], max_age: 2d}", &["max_age: at most 24h"]),
    ] {
        let told = faults(options);
        for part in parts {
            assert!(told.contains(part), "{options}: {told}");
        }
    }
}
