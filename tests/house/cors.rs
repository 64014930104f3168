//! Scripts of other origins: the plugin in a whole gateway, and a real browser.

use std::process::Command;

use gateway_core::Gateway;
use gateway_tests::{Gate, Response, eventually};
use serde_json::{Value, json};

const RULES: &str = "origins: [\"http://localhost:*\"], methods: [DELETE], headers: [X-Key], expose: [X-Total], credentials: true";

/// What a browser is asked to do. Each attempt notes what the script gets to see.
const PAGE: &str = r#"<html><body>nothing</body><script>
const api = new URLSearchParams(location.search).get("api");
const told = {};
async function attempt(name, path, options) {
  try {
    const answer = await fetch(api + path, options);
    told[name] = [answer.status, answer.headers.get("x-total"), answer.headers.get("x-secret"), await answer.text()];
  } catch (error) {
    told[name] = "kept away";
  }
}
(async () => {
  await attempt("get", "/hello");
  await attempt("post", "/hello", {method: "POST", body: "hi"});
  await attempt("typed", "/hello", {method: "POST", body: "{}", headers: {"Content-Type": "application/json"}});
  await attempt("delete", "/hello", {method: "DELETE"});
  await attempt("delete again", "/hello", {method: "DELETE"});
  await attempt("put", "/hello", {method: "PUT"});
  await attempt("own field", "/hello", {headers: {"X-Key": "1"}});
  await attempt("other field", "/hello", {headers: {"X-Other": "1"}});
  await attempt("missing", "/missing");
  await attempt("down", "/down");
  await attempt("login", "/login", {credentials: "include"});
  await attempt("with cookie", "/echo", {credentials: "include"});
  await attempt("without cookie", "/echo", {credentials: "omit"});
  document.body.innerText = "told:" + JSON.stringify(told);
})();
</script></html>"#;

fn house(rules: &str) -> Gate {
    let page = serde_json::to_string(PAGE).expect("it is text");
    let config = format!(
        r#"
version: 1
server: {{workers: 1}}
admin: {{address: "127.0.0.1:0"}}
access_log: {{output: LOG, format: json, fields: [http.request.method, url.path, http.response.status_code]}}
listeners:
- {{name: pages, address: "127.0.0.1:0"}}
- name: api
  address: "127.0.0.1:0"
  plugins: [{{kind: cors, options: {{{rules}}}}}]
upstreams: [{{name: nobody, endpoints: ["127.0.0.1:9"]}}]
routes:
- {{name: page, match: {{path: /page, listeners: [pages]}}, reply: {{headers: {{Content-Type: text/html}}, body: {page}}}}}
- {{name: hello, match: {{path: /hello, methods: [GET, POST, PUT, DELETE], listeners: [api]}}, reply: {{headers: {{X-Total: "3", X-Secret: "4"}}, body: hello}}}}
- {{name: down, match: {{path: /down, listeners: [api]}}, upstream: nobody}}
- {{name: login, match: {{path: /login, listeners: [api]}}, reply: {{headers: {{Set-Cookie: "sid=secret; Path=/"}}, body: in}}}}
- {{name: echo, match: {{path: /echo, listeners: [api]}}, reply: {{echo: true}}}}
"#
    );
    Gate::with(Gateway::builder().plugins(gateway_plugins::all()), &config)
}

/// What the script told of a page of this host. The browser gets a profile of its own.
fn browse(gate: &Gate, host: &str) -> Value {
    let (pages, api) = (gate.listener("pages").port(), gate.listener("api").port());
    let profile = gate.folder().join(format!("profile-{host}"));
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-extensions"])
        .args(["--virtual-time-budget=30000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("http://{host}:{pages}/page?api=http://localhost:{api}"))
        .output()
        .expect("chromium is installed");
    let dom = String::from_utf8_lossy(&output.stdout);
    let told = dom.split("told:").nth(1).and_then(|rest| rest.split("</body>").next());
    let told = told.unwrap_or_else(|| panic!("the page told nothing: {dom}"));
    let told = told.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<");
    serde_json::from_str(told.trim().replace("&gt;", ">").as_str()).expect("it is JSON")
}

/// How many requests for a path are recorded.
fn asked(gate: &Gate, method: &str, path: &str) -> usize {
    let text = std::fs::read_to_string(gate.log_path()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let same = |line: &Value| line["http.request.method"] == method && line["url.path"] == path;
    lines.filter(same).count()
}

#[test]
fn a_browser_lets_scripts_do_what_they_may_and_nothing_else() {
    let gate = house(RULES);

    let told = browse(&gate, "localhost");

    let hello = json!([200, "3", null, "hello"]);
    for name in ["get", "post", "delete", "delete again", "own field"] {
        assert_eq!(told[name], hello, "{name}");
    }
    for name in ["put", "typed", "other field"] {
        assert_eq!(told[name], "kept away", "{name}");
    }
    assert_eq!(told["missing"][0], 404, "errors can be read: {told}");
    assert_eq!(told["down"][0], 503, "errors can be read: {told}");
    assert_eq!(told["login"][0], 200);
    let saw = |name: &str| told[name][3].as_str().unwrap_or_default().contains("sid=secret");
    assert!(saw("with cookie") && !saw("without cookie"), "{told}");

    // For POST with a type, DELETE, PUT, and the two with fields: one serves both DELETE.
    eventually("all is recorded", || asked(&gate, "GET", "/echo") == 2);
    assert_eq!(asked(&gate, "OPTIONS", "/hello"), 5);
    assert_eq!((asked(&gate, "DELETE", "/hello"), asked(&gate, "PUT", "/hello")), (2, 0));
}

#[test]
fn a_browser_keeps_answers_from_pages_that_are_not_listed() {
    let gate = house(RULES);

    let told = browse(&gate, "127.0.0.1");

    for (name, outcome) in told.as_object().expect("an object") {
        assert_eq!(outcome, "kept away", "{name}");
    }
    // What needs no preflight is sent, and its answer kept away.
    eventually("all is recorded", || asked(&gate, "GET", "/echo") == 2);
    assert_eq!((asked(&gate, "GET", "/hello"), asked(&gate, "DELETE", "/hello")), (1, 0));
}

#[test]
fn every_origin_may_where_that_is_wanted() {
    let gate = house("origins: [\"*\"], methods: [\"*\"], headers: [\"*\"]");

    let told = browse(&gate, "127.0.0.1");

    for name in ["get", "post", "typed", "delete", "put", "own field", "other field"] {
        assert_eq!(told[name], json!([200, null, null, "hello"]), "{name}");
    }
    assert_eq!(told["with cookie"], "kept away", "never with credentials");
}

fn ask(gate: &Gate, head: &str) -> Response {
    let mut client = gateway_tests::Client::connect(gate.listener("api"));
    client.send(format!("{head}\r\nHost: api.example\r\nConnection: close\r\n\r\n"));
    client.response()
}

#[test]
fn preflights_are_answered_before_methods_routes_and_upstreams() {
    let gate = house(RULES);
    let origin = "Origin: http://localhost:1\r\nAccess-Control-Request-Method:";

    for path in ["/hello", "/down", "/nowhere"] {
        let answer = ask(&gate, &format!("OPTIONS {path} HTTP/1.1\r\n{origin} DELETE"));
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:1"));
        assert_eq!(answer.header("content-length"), None, "{path}");
    }
    // No preflight: a question for the route.
    let answer = ask(&gate, "OPTIONS /hello HTTP/1.1\r\nOrigin: http://localhost:1");
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:1"));
    let other = ask(&gate, "GET /hello HTTP/1.1\r\nOrigin: http://other.example");
    assert_eq!((other.status, other.header("access-control-allow-origin")), (200, None));
    assert_eq!(other.header("vary").map(str::to_lowercase).as_deref(), Some("origin"));
}

#[test]
fn others_are_refused_in_a_whole_gateway_too() {
    let gate = house("origins: [\"http://localhost:*\"], others: refuse");
    let answer = ask(&gate, "GET /hello HTTP/1.1\r\nOrigin: http://other.example");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
    gate.await_metric(r#"gateway_plugin_replies_total{plugin="cors"}"#, 1.0);
}
