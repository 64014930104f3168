//! Tokens in a whole gateway, signed by PyJWT, with keys that are fetched from a server that misbehaves.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gateway_core::Gateway;
use gateway_tests::{Certificates, Client, Gate, Origin, Program, eventually};

const SECRET: &str = "a secret of at least thirty-two bytes";
const ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];

struct Issuer(Mutex<Program>);

impl Issuer {
    fn start() -> Self {
        Self(Mutex::new(Program::start("issuer.py", &[])))
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.lock().expect("it lives").address())
    }

    fn tell(&self, line: &str) -> String {
        self.0.lock().expect("it lives").tell(line).trim().to_owned()
    }

    fn token(&self, algorithm: &str, claims: &str) -> String {
        let claims = format!("{{\"iss\": \"{}\", \"aud\": \"api\"{claims}}}", self.url());
        self.tell(&format!("token {algorithm} {claims}"))
    }

    fn fetches(&self) -> usize {
        self.tell("fetches").parse().expect("it is a number")
    }
}

fn config(issuer: &Issuer, origin: &Origin, jwks: &str) -> String {
    let url = issuer.url();
    format!(
        "version: 1\nserver: {{workers: 2}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         consumers:\n- {{name: app, groups: [gold], subjects: [\"u|1\"]}}\n\
         plugins:\n- kind: jwt\n  options:\n    issuers: [{{issuer: \"{url}\", audience: [api], jwks: {{{jwks}}}}}]\n    \
         headers: {{x-user: sub}}\n    consumer: {{}}\n\
         - kind: headers\n  options: {{request: {{set: {{x-gold: \"yes\"}}}}}}\n  when: '\"gold\" in consumer.groups'\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    )
}

fn gate(config: &str) -> Gate {
    Gate::with(Gateway::builder().plugins(gateway_plugins::all()), config)
}

fn request(token: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nX-User: root\r\n\r\n")
}

fn status(gate: &Gate, token: &str) -> u16 {
    gate.exchange(request(token)).status
}

fn checks(gate: &Gate, outcome: &str) -> f64 {
    gate.metric(&format!("gateway_credential_checks_total{{outcome=\"{outcome}\",plugin=\"jwt\"}}"))
}

fn fetched(gate: &Gate, outcome: &str) -> f64 {
    gate.metric(&format!("gateway_key_fetches_total{{outcome=\"{outcome}\",plugin=\"jwt\"}}"))
}

#[test]
fn tokens_of_an_issuer_that_is_discovered_let_in_and_say_who_comes() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("ok"));
    let gate = gate(&config(&issuer, &origin, "discovery: true"));
    for algorithm in ALGORITHMS {
        assert_eq!(
            status(&gate, &issuer.token(algorithm, ", \"sub\": \"u|1\"")),
            200,
            "{algorithm}"
        );
        assert_eq!(origin.last_fields("x-user"), ["u|1"]);
        assert_eq!(origin.last_fields("x-gold"), ["yes"]);
        assert!(origin.last_fields("authorization").is_empty());
    }
    assert_eq!(status(&gate, &issuer.token("RS256", ", \"sub\": \"u|2\"")), 200);
    assert_eq!(origin.last_fields("x-user"), ["u|2"]);
    assert!(origin.last_fields("x-gold").is_empty());
    for algorithm in ALGORITHMS {
        let claims = format!("{{\"iss\": \"{}\", \"aud\": \"api\"}}", issuer.url());
        assert_eq!(status(&gate, &issuer.tell(&format!("forge {algorithm} {claims}"))), 401);
    }
    let refused = gate.get("/");
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Bearer realm=\"gateway\""))
    );

    assert_eq!(checks(&gate, "accepted"), 6.0);
    assert_eq!((checks(&gate, "invalid"), checks(&gate, "missing")), (5.0, 1.0));
    assert_eq!(fetched(&gate, "success"), 1.0);
    let log = gate.log(12);
    assert_eq!(
        (&log[0]["consumer"], &log[5]["consumer"]),
        (&"app".into(), &serde_json::Value::Null)
    );
    assert_eq!((&log[6]["failure"], &log[11]["failure"]), (&"P3".into(), &"P3".into()));
}

#[test]
fn keys_rotate_under_load_and_none_that_is_good_is_refused_nor_one_let_in_that_is_not() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("ok"));
    let gate = gate(&config(&issuer, &origin, "discovery: true, refresh: 1s"));
    let claims = format!("{{\"iss\": \"{}\", \"aud\": \"api\"}}", issuer.url());
    let (done, good, bad) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut retired = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = gate.client();
                while !done.load(Ordering::Relaxed) {
                    for algorithm in ["RS256", "EdDSA"] {
                        let token = issuer.token(algorithm, "");
                        for _ in 0..20 {
                            client.send(request(&token));
                            assert_eq!(client.response().status, 200, "{algorithm}");
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        let forged = issuer.tell(&format!("forge {algorithm} {claims}"));
                        client.send(request(&forged));
                        assert_eq!(client.response().status, 401);
                        bad.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(700));
            retired = ALGORITHMS.map(|algorithm| issuer.token(algorithm, "")).to_vec();
            issuer.tell("rotate");
        }
        std::thread::sleep(Duration::from_millis(700));
        done.store(true, Ordering::Relaxed);
    });
    assert!(good.load(Ordering::Relaxed) > 200 && bad.load(Ordering::Relaxed) > 10);
    for token in &retired {
        assert_eq!(status(&gate, token), 200, "its key is still given out");
    }
    issuer.tell("retire");
    for token in &retired {
        eventually("a key that is given out no more is known no more", || {
            status(&gate, token) == 401
        });
    }
    assert_eq!(status(&gate, &issuer.token("RS256", "")), 200);
}

#[test]
fn keys_outlive_their_server_for_as_long_as_they_may() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("ok"));
    let gate =
        gate(&config(&issuer, &origin, "discovery: true, refresh: 1s, stale_for: 4s, timeout: 1s"));
    let token = issuer.token("ES256", "");
    for trouble in ["garbage", "huge", "empty", "slow", "error"] {
        assert_eq!(status(&gate, &token), 200);
        let failed = fetched(&gate, "failure");
        issuer.tell(&format!("answer {trouble}"));
        eventually("the trouble is noticed", || fetched(&gate, "failure") > failed);
        assert_eq!(status(&gate, &token), 200, "{trouble}: the keys are kept");
        let successes = fetched(&gate, "success");
        issuer.tell("answer keys");
        eventually("keys are fetched again", || fetched(&gate, "success") > successes);
    }
    issuer.tell("answer error");
    let fresh = issuer.token("ES256", ", \"n\": 1");
    eventually("nobody knows whether they are good any more", || status(&gate, &fresh) == 503);
    assert!(checks(&gate, "unchecked") > 0.0);
    issuer.tell("answer keys");
    eventually("keys are fetched again", || status(&gate, &fresh) == 200);
}

#[test]
fn keys_may_come_on_a_connection_that_ends_with_them() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("ok"));
    issuer.tell("answer closing");
    let gate = gate(&config(&issuer, &origin, "discovery: true, stale_for: 0s"));
    for _ in 0..3 {
        assert_eq!(status(&gate, &issuer.token("RS256", "")), 200);
    }
    assert_eq!((fetched(&gate, "success"), fetched(&gate, "failure")), (1.0, 0.0));
}

#[test]
fn whose_a_token_is_depends_on_who_issued_it() {
    let (one, other, origin) = (Issuer::start(), Issuer::start(), Origin::saying("ok"));
    let (first, second) = (one.url(), other.url());
    let config = format!(
        "version: 1\nadmin: {{address: \"127.0.0.1:0\"}}\naccess_log: {{output: LOG, format: json}}\n\
         consumers:\n- {{name: app, subjects: [{{issuer: \"{first}\", subject: u1}}]}}\n\
         - {{name: both, subjects: [u2]}}\n- {{name: rival, subjects: [{{issuer: \"{second}\", subject: u1}}]}}\n\
         plugins:\n- kind: jwt\n  options:\n    issuers:\n    \
         - {{issuer: \"{first}\", audience: [api], jwks: {{discovery: true}}, consumer: {{}}}}\n    \
         - {{issuer: \"{second}\", audience: [api], jwks: {{discovery: true}}, consumer: {{required: true}}}}\n    \
         - {{issuer: \"https://nobody.example\", keys: [{{secret: \"{SECRET}\", algorithm: HS256}}]}}\n    \
         headers: {{x-user: sub, x-roles: roles}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    );
    let gate = gate(&config);
    let whose = |issuer: &Issuer, subject: &str, line: usize| {
        let status = status(&gate, &issuer.token("EdDSA", &format!(", \"sub\": \"{subject}\"")));
        (status, gate.log(line)[line - 1]["consumer"].as_str().map(str::to_owned))
    };
    let is = |name: &str| (200, Some(name.to_owned()));
    assert_eq!(whose(&one, "u1", 1), is("app"));
    assert_eq!(whose(&other, "u1", 2), is("rival"));
    assert_eq!(whose(&one, "u2", 3), is("both"));
    assert_eq!(whose(&other, "u2", 4), is("both"));
    assert_eq!(whose(&one, "u3", 5), (200, None));
    assert_eq!(whose(&other, "u3", 6).0, 403);
    // What a field cannot say without being read otherwise does not go up.
    status(&gate, &one.token("EdDSA", ", \"roles\": [\"a\", \"b\"]"));
    assert_eq!(origin.last_fields("x-roles"), ["a,b"]);
    status(&gate, &one.token("EdDSA", ", \"roles\": [\"a,admin\"]"));
    assert!(origin.last_fields("x-roles").is_empty());

    let together = config.replace("headers: {x-user", "consumer: {}\n    headers: {x-user");
    let faults = Gateway::builder().plugins(gateway_plugins::all()).config_text(together).check();
    let faults = faults.err().expect("it is refused").to_string();
    assert!(faults.contains("options.consumer: which issuer's?"), "{faults}");
}

#[test]
fn nobody_else_says_who_a_caller_is_however_it_is_spelled() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("ok"));
    let gate = gate(
        &config(&issuer, &origin, "discovery: true").replace("consumer: {}", "anonymous: true"),
    );
    let token = issuer.token("RS256", ", \"sub\": \"u|7\"");
    for spelled in ["X-User", "x_user", "X_USER"] {
        let fields = format!("Host: a\r\n{spelled}: root\r\n");
        assert_eq!(gate.exchange(format!("GET / HTTP/1.1\r\n{fields}\r\n")).status, 200);
        assert!(
            !origin.last_request().to_lowercase().contains("root"),
            "{}",
            origin.last_request()
        );
    }
    // What plugins say a client cannot have taken away.
    let fields =
        format!("Host: a\r\nConnection: close, X-User\r\nAuthorization: Bearer {token}\r\n");
    assert_eq!(gate.exchange(format!("GET / HTTP/1.1\r\n{fields}\r\n")).status, 200);
    assert_eq!(origin.last_fields("x-user"), ["u|7"]);
    // Another sign than a space behind the scheme hides no token.
    let fields = format!("Host: a\r\nAuthorization: Bearer\t{token}\r\n");
    assert_eq!(gate.exchange(format!("GET / HTTP/1.1\r\n{fields}\r\n")).status, 401);
}

#[test]
fn credentials_in_queries_are_not_logged_whatever_they_are_called() {
    let origin = Origin::saying("ok");
    let config = format!(
        "version: 1\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json, fields: [url.query]}}\n\
         consumers: [{{name: app, keys: [open-sesame-1]}}]\n\
         plugins: [{{kind: key-auth, options: {{from: [{{query: k}}], forward: true}}}}]\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    );
    let gate = gate(&config);
    assert_eq!(gate.get("/?k=open-sesame-1&a=1").status, 200);
    assert_eq!(gate.get("/?k=open-sesame-2&a=1").status, 401);
    for line in gate.log(2) {
        assert_eq!(line["url.query"], "k=***&a=1");
    }
}

#[test]
fn keys_come_over_tls_from_who_can_prove_that_it_is_their_server() {
    let certificates = Certificates::new();
    let own = certificates.issue("issuer", "IP:127.0.0.1");
    let program = Program::start("issuer.py", &[own.cert.as_str(), own.key.as_str()]);
    let (issuer, origin) = (Issuer(Mutex::new(program)), Origin::saying("ok"));
    let url = issuer.url().replace("http:", "https:");
    let ca = certificates.authority().display().to_string();
    let token = issuer.token("ES384", "");

    let trusting = gate(&config(&issuer, &origin, &format!("url: \"{url}/keys\", ca: \"{ca}\"")));
    assert_eq!(status(&trusting, &token), 200);
    let other = Certificates::new();
    let ca = other.authority().display().to_string();
    let wary = gate(&config(&issuer, &origin, &format!("url: \"{url}/keys\", ca: \"{ca}\"")));
    assert_eq!(status(&wary, &token), 503);
    assert!(fetched(&wary, "failure") >= 1.0);
}

#[test]
fn keys_outlive_a_reload() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("ok"));
    let first = config(&issuer, &origin, "discovery: true");
    let gate = gate(&first);
    let token = issuer.token("EdDSA", "");
    assert_eq!(status(&gate, &token), 200);
    issuer.tell("answer error");

    gate.write(&first.replace("x-user: sub", "x-user: sub, x-other: iss"));
    gate.running().reload().expect("the config is good");

    assert_eq!(status(&gate, &token), 200);
    assert_eq!(origin.last_fields("x-other"), [issuer.url()]);
    assert_eq!(issuer.fetches(), 1, "nothing was wrong with the keys");
}

#[test]
fn names_of_keys_that_are_made_up_do_not_reach_the_issuer_each() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("ok"));
    let gate = gate(&config(&issuer, &origin, "discovery: true"));
    let claims = format!("{{\"iss\": \"{}\", \"aud\": \"api\"}}", issuer.url());
    let stray = issuer.tell(&format!("stray EdDSA {claims}"));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client: Client = gate.client();
                for _ in 0..100 {
                    client.send(request(&stray));
                    assert_eq!(client.response().status, 401);
                }
            });
        }
    });
    let allowed = 7 + began.elapsed().as_secs() as usize / 10;
    assert!((2..=allowed).contains(&issuer.fetches()), "{} fetches", issuer.fetches());
    assert_eq!(status(&gate, &issuer.token("EdDSA", "")), 200);
}

#[test]
fn requests_wait_for_the_first_keys_and_no_longer_than_they_may() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("ok"));
    issuer.tell("answer slow");
    let token = issuer.token("RS256", "");
    let patient = gate(&config(&issuer, &origin, "discovery: true, timeout: 9s"));
    assert_eq!(status(&patient, &token), 200);
    let hasty = gate(&config(&issuer, &origin, "discovery: true, timeout: 300ms"));
    let began = Instant::now();
    assert_eq!(status(&hasty, &token), 503);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(hasty.log(1)[0]["failure"], "P5");
}
