//! Every config and every page that is handed out: the configs load and run, the pages are true.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use gateway_core::Gateway;
use gateway_core::config::laid_out;
use gateway_core::telemetry::FailureCode;
use gateway_tests::docs::{pages, repository};
use gateway_tests::{Certificates, Gate, Response, eventually, gateway_binary};

/// The files below a folder with this ending.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder can be read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} holds no {ending}", folder = folder);
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page that is written for people, the generated ones included.
fn papers() -> Vec<PathBuf> {
    gateway_tests::docs::write().expect("the reference can be written");
    let mut papers = files("docs", "md");
    for name in ["README", "ARCHITECTURE", "STYLE", "CONTRIBUTING", "SECURITY", "CHANGELOG"] {
        papers.push(repository().join(format!("{name}.md")));
    }
    papers
}

#[track_caller]
fn assert_loads(path: &Path, what: &str) {
    let checked = Gateway::builder().plugins(gateway_plugins::all()).config_file(path).check();
    match checked {
        Err(faults) => panic!("{what} has faults:\n{faults}"),
        Ok(checked) => assert_eq!(checked.loaded.warnings, [], "{what}"),
    }
}

#[test]
fn every_config_that_is_handed_out_loads_without_a_warning() {
    for path in files("conf", "yaml") {
        assert_loads(&path, &path.display().to_string());
    }
}

#[test]
fn every_config_that_is_handed_out_is_in_the_layout_of_fmt() {
    for path in files("conf", "yaml") {
        let written = text(&path);
        assert_eq!(laid_out(&path.display().to_string(), &written), Ok(written));
    }
}

#[test]
fn a_layout_is_final_whatever_it_is_made_of() {
    let papers = papers().into_iter().flat_map(|paper| blocks(&text(&paper)));
    let core = files("gateway-core/src/config", "yaml").into_iter().map(|path| text(&path));

    for block in papers.chain(core) {
        let once = laid_out("block", &block).unwrap_or_else(|faults| panic!("{faults}:\n{block}"));
        assert_eq!(laid_out("block", &once).as_ref(), Ok(&once), "{block}");
    }
}

#[test]
fn every_plugin_of_the_catalogue_has_an_example() {
    for spec in gateway_plugins::all() {
        let path = repository().join(format!("conf/examples/{}.yaml", spec.kind));
        assert!(text(&path).contains(&format!("kind: {}", spec.kind)), "{}", path.display());
    }
}

/// The blocks of YAML in a page.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while lines.by_ref().any(|line| line.starts_with("```yaml")) {
        let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        blocks.push(block.join("\n"));
    }
    blocks
}

/// A config around a block: it is whole, or it is one plugin.
fn around(block: &str) -> Option<String> {
    let starts = |word: &str| block.lines().any(|line| line.starts_with(word));
    if starts("version: 1") {
        return Some(block.to_owned());
    }
    let plugin = block.replace('\n', "\n    ");
    starts("kind: ").then(|| {
        format!(
            "version: 1\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
             routes: [{{name: all, reply: {{}}}}]\nplugins:\n  - {plugin}\n"
        )
    })
}

/// The files of certificates that papers name, in a folder that a block is loaded from.
fn certificates() -> Certificates {
    let certificates = Certificates::new();
    let own = certificates.issue("gateway", "DNS:gateway.internal");
    let folder = certificates.folder().join("certs");
    fs::create_dir(&folder).expect("a folder can be made");
    let authority = certificates.authority().display().to_string();
    let rsa = certificates.issue_rsa("rsa", "DNS:gateway.internal");
    let (vouched, revoked) = (certificates.vouch(&own), certificates.revoke(&[]));
    for (file, names) in [
        (authority, &["internal.pem", "staff-ca.pem", "partners-ca.pem"][..]),
        (own.cert, &["gateway.pem", "example.pem", "other.pem"]),
        (own.key, &["gateway.key", "example.key", "other.key"]),
        (rsa.cert, &["example-rsa.pem"]),
        (rsa.key, &["example-rsa.key"]),
        (vouched, &["other.ocsp"]),
        (revoked, &["staff.crl"]),
    ] {
        for name in names {
            fs::copy(&file, folder.join(name)).expect("a file can be copied");
        }
    }
    certificates
}

#[test]
fn every_block_of_yaml_in_the_papers_loads() {
    let certificates = certificates();
    let path = certificates.folder().join("block.yaml");
    let mut seen = 0;

    for paper in papers() {
        for block in blocks(&text(&paper)) {
            let what = format!("{}:\n{block}\n", paper.display());
            if block.contains("kind: greet") {
                continue; // Of the guide; `first_plugin` runs it.
            }
            let config = around(&block);
            let config = config.unwrap_or_else(|| panic!("neither a config nor a plugin: {what}"));
            fs::write(&path, config).expect("the block can be written");
            assert_loads(&path, &what);
            seen += 1;
        }
    }

    assert!(seen > 5, "only {seen} blocks were found");
}

/// Starts a config as it is, but on ports that are free: listeners get port 0, then endpoints
/// that name a listener get the port it was given.
fn run(path: &Path) -> Gate {
    let mut config = text(path);
    let listed = Gateway::builder().config_text(&config).plugins(gateway_plugins::all()).check();
    let listed = listed.unwrap_or_else(|faults| panic!("{}:\n{faults}", path.display()));
    let listeners = listed.loaded.config.listeners;
    config = config
        .lines()
        .map(|line| match line.split_once("address: ") {
            Some((before, address)) if !address.starts_with('{') => {
                format!("{before}address: 127.0.0.1:0\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let gate = Gate::yaml(&config);
    for listener in listeners {
        let bound = gate.listener(&listener.name).to_string();
        config = config.replace(&listener.address.to_string(), &bound);
    }
    gate.write(&config);
    if let Err(faults) = gate.running().reload() {
        panic!("{}:\n{faults}", path.display());
    }
    gate
}

/// What the echo behind the gateway saw of a request with these fields.
fn through(gate: &Gate, target: &str, fields: &str, body: &str) -> Response {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let length = body.len();
    gate.exchange(format!(
        "{method} {target} HTTP/1.1\r\nHost: hello.example\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    ))
}

fn example(kind: &str) -> Gate {
    run(&repository().join(format!("conf/examples/{kind}.yaml")))
}

#[test]
fn the_stock_config_proxies() {
    let gate = run(&repository().join("conf/gateway.yaml"));

    let response = through(&gate, "/anything?you=like", "", "");

    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.header("x-request-id").is_some());
    let seen = response.text();
    assert!(seen.contains("/anything") && seen.contains("hello.example"), "{seen}");
    assert!(seen.to_lowercase().contains("x-forwarded-for"), "it went over a real socket: {seen}");
    gate.await_metric(r#"gateway_upstream_attempts_total{outcome="ok",upstream="echo"}"#, 1.0);
}

#[test]
fn the_example_of_body_limit_does_what_it_says() {
    let gate = example("body-limit");

    assert_eq!(through(&gate, "/", "", "hello").status, 200);
    assert_eq!(through(&gate, "/", "", "more than 16 bytes").status, 413);
    assert_eq!(through(&gate, "/upload", "", "more than 16 bytes").status, 200);
}

#[test]
fn the_example_of_circuit_breaker_does_what_it_says() {
    let gate = example("circuit-breaker");

    assert_eq!(through(&gate, "/ok", "", "").text(), "hello\n");
    for _ in 0..4 {
        assert_eq!(through(&gate, "/fail", "", "").text(), "out of order\n");
    }
    let refused = through(&gate, "/ok", "", "");
    assert_eq!((refused.status, refused.text().as_str()), (503, "not now\n"));
    assert_eq!(refused.header("retry-after"), Some("5"));
}

#[test]
fn the_example_of_cors_does_what_it_says() {
    let gate = example("cors");

    for (origin, told) in
        [("https://app.example", Some("https://app.example")), ("https://other.example", None)]
    {
        let response = through(&gate, "/", &format!("Origin: {origin}\r\n"), "");
        assert_eq!((response.status, response.header("access-control-allow-origin")), (200, told));
    }
    let preflight = gate.exchange(
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n\
         Access-Control-Request-Method: DELETE\r\n\r\n",
    );
    assert_eq!(preflight.status, 204);
}

#[test]
fn the_example_of_grpc_web_does_what_it_says() {
    let gate = example("grpc-web");
    let asks = "Access-Control-Request-Headers: content-type,x-grpc-web";

    let preflight = gate.exchange(format!(
        "OPTIONS /greeter.Greeter/Hello HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n\
         Access-Control-Request-Method: POST\r\n{asks}\r\n\r\n",
    ));
    let call = gate.exchange(
        "POST /greeter.Greeter/Hello HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n\
         Content-Type: application/grpc-web\r\nContent-Length: 0\r\n\r\n",
    );

    assert_eq!(preflight.status, 204);
    assert_eq!((call.status, call.header("grpc-status")), (200, Some("14")));
    assert_eq!(call.header("access-control-allow-origin"), Some("https://app.example"));
    let exposed = call.header("access-control-expose-headers").expect("some are");
    assert!(exposed.contains("grpc-status") && exposed.contains("grpc-message"), "{exposed}");
}

#[test]
fn the_example_of_grpc_message_limit_does_what_it_says() {
    let gate = example("grpc-message-limit");

    for (message, status) in [("\\0\\0\\0\\0\\005hello", 0), ("\\0\\0\\200\\0\\0hello", 8)] {
        let target = format!("http://{}/greeter.Greeter/Hello", gate.address());
        let call = format!(
            "printf '{message}' | curl -si -m 3 --http2-prior-knowledge --data-binary @- \
             -H 'Content-Type: application/grpc' {target}"
        );
        // What stands for a service answers before it has the message if that is late, and curl 7 then waits for ever.
        eventually("it is as it says", || {
            let told = std::process::Command::new("sh").args(["-c", &call]).output();
            let told = told.expect("sh and curl are installed").stdout;
            String::from_utf8_lossy(&told).contains(&format!("grpc-status: {status}\r\n"))
        });
    }
}

#[test]
fn the_example_of_headers_does_what_it_says() {
    let gate = example("headers");

    let response = through(&gate, "/?tenant=acme", "X-Internal: forged\r\n", "");

    assert_eq!(response.header("x-route"), Some("proxied"));
    let seen = response.text().to_lowercase();
    assert!(seen.contains("x-client") && seen.contains("acme"), "{seen}");
    assert!(!seen.contains("forged"), "{seen}");
}

#[test]
fn the_example_of_jwt_does_what_it_says() {
    let gate = example("jwt");
    let written = std::fs::read_to_string(gate.config_path()).expect("it is there");
    let token = written.lines().find_map(|line| line.split_once("TOKEN=")).expect("it has one").1;
    let bearer = format!("Authorization: Bearer {token}\r\n");

    assert_eq!(through(&gate, "/", "", "").status, 401);
    let seen = through(&gate, "/", &format!("{bearer}X-User: root\r\n"), "");
    assert_eq!(seen.status, 200);
    let seen = seen.text().to_lowercase();
    for (field, there) in
        [("ada", true), ("analysis", true), ("root", false), ("authorization", false)]
    {
        assert_eq!(seen.contains(field), there, "{field}: {seen}");
    }
    let delete = format!("DELETE / HTTP/1.1\r\nHost: a\r\n{bearer}\r\n");
    assert_eq!(gate.exchange(delete).status, 403);
}

#[test]
fn the_example_of_key_auth_does_what_it_says() {
    let gate = example("key-auth");
    assert_eq!(through(&gate, "/", "", "").status, 401);
    for _ in 0..3 {
        let seen = through(&gate, "/", "X-Api-Key: key-of-the-app\r\n", "");
        assert_eq!(seen.status, 200);
        let seen = seen.text().to_lowercase();
        assert!(seen.contains("x-consumer") && !seen.contains("key-of-the-app"), "{seen}");
    }
    let guest = || through(&gate, "/?key=key-of-a-guest", "", "").status;
    assert_eq!([guest(), guest()], [200, 429]);
}

#[test]
fn the_example_of_redaction_does_what_it_says() {
    let gate = example("redaction");
    let body = r#"{"name": "Ada", "password": "hunter2", "iban": "DE89370400440532013000", "badge": "EMP-123456"}"#;
    let answered = gate.exchange(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let seen = answered.json()["body"].clone();
    let clean = r#"{"name": "Ada", "password": "***", "iban": "***3000", "badge": "***"}"#;
    assert_eq!(seen, clean);
    let seen = through(&gate, "/?mail=ada@example.com&page=2", "", "").text();
    assert!(seen.contains("mail=***&page=2") && !seen.contains("ada@"), "{seen}");
}

#[test]
fn the_example_of_compression_does_what_it_says() {
    let gate = example("compression");
    let plain = through(&gate, "/", "", "");
    assert_eq!(
        (plain.header("content-encoding"), plain.header("vary")),
        (None, Some("Accept-Encoding"))
    );
    let coded = through(&gate, "/", "Accept-Encoding: gzip, zstd\r\n", "");
    assert_eq!(coded.header("content-encoding"), Some("zstd"));
    // `hello`, as gzip writes it.
    let hello = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbH\xcd\xc9\xc9\x07\0\x86\xa6\x106\x05\0\0\0";
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        hello.len()
    );
    let echoed = gate.exchange([head.as_bytes(), hello].concat());
    assert_eq!(echoed.json()["body"], "hello");
}

#[test]
fn the_example_of_ip_restriction_does_what_it_says() {
    let gate = example("ip-restriction");

    for (fields, status) in [
        ("", 200),
        ("X-Forwarded-For: 192.0.2.7\r\n", 200),
        ("X-Forwarded-For: 192.0.2.66\r\n", 403),
        ("X-Forwarded-For: 203.0.113.9\r\n", 403),
    ] {
        assert_eq!(through(&gate, "/", fields, "").status, status, "{fields}");
    }
}

#[test]
fn the_example_of_rate_limit_does_what_it_says() {
    let gate = example("rate-limit");

    for status in [200, 200, 200, 429] {
        assert_eq!(through(&gate, "/", "", "").status, status);
    }
    let refused = through(&gate, "/", "", "");
    assert_eq!(refused.header("retry-after"), Some("10"));
}

#[test]
fn the_example_of_upstreams_does_what_it_says() {
    let gate = example("upstreams");

    for _ in 0..12 {
        assert_eq!(through(&gate, "/", "", "").status, 200);
    }

    let began = std::time::Instant::now();
    let told = || gate.admin("/upstreams").json()[0]["endpoints"].clone();
    while told()[2]["state"] == "usable" {
        assert!(began.elapsed().as_secs() < 10, "{}", told());
        through(&gate, "/", "", "");
    }
    let listeners: Vec<String> =
        (0..8).map(|_| through(&gate, "/", "", "").json()["listener"].to_string()).collect();
    // Each worker takes its own turns.
    let served = |name: &str| listeners.iter().any(|listener| listener.contains(name));
    assert!(served("first") && served("second"), "{listeners:?}");
}

#[test]
fn the_example_of_routing_does_what_it_says() {
    let gate = example("routing");

    let item = through(&gate, "/shop/items/7", "", "").json();
    assert_eq!((&item["path"], &item["listener"]), (&"/v2/items/7".into(), &"stable".into()));
    let beta = through(&gate, "/shop/items/7", "X-Beta: 1\r\n", "").json();
    assert_eq!((&beta["path"], &beta["listener"]), (&"/shop/items/7".into(), &"next".into()));
    let old = through(&gate, "/old/items/7?x=1", "", "");
    assert_eq!((old.status, old.header("location")), (308, Some("/shop/items/7?x=1")));
    let hello = through(&gate, "/hello/%22you%22", "", "").json();
    assert_eq!(hello["hello"], "%22you%22");
    let kept = |sid: u32| {
        let cookie = format!("Cookie: sid={sid}\r\n");
        through(&gate, "/shop/carts", &cookie, "").json()["listener"].to_string()
    };
    assert!((0..10).all(|sid| kept(sid) == kept(sid)));
}

#[test]
fn the_example_of_request_id_does_what_it_says() {
    let gate = example("request-id");

    let given = through(&gate, "/", "X-Correlation-Id: abc\r\n", "");
    let made = through(&gate, "/", "", "");

    assert_eq!(given.header("x-correlation-id"), Some("abc"));
    assert!(made.header("x-correlation-id").is_some_and(|id| id.len() > 10));
}

#[test]
fn code_that_hand_written_pages_show_is_the_code_that_is_tested() {
    let by_hand = pages().into_iter().filter(|page| !page.text.starts_with("<!-- Generated"));
    for page in by_hand {
        let path = repository().join(&page.path);
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page.text,
            "{} is out of date; run `cargo run --bin docs`",
            page.path.display()
        );
    }
}

#[test]
fn every_page_of_the_book_is_in_its_summary_and_the_other_way_round() {
    gateway_tests::docs::write().expect("the reference can be written");
    let book = repository().join("docs/src");
    let summary = text(&book.join("SUMMARY.md"));

    let listed: BTreeSet<PathBuf> = links(&summary).map(PathBuf::from).collect();
    let there: BTreeSet<PathBuf> = files("docs/src", "md")
        .into_iter()
        .map(|path| path.strip_prefix(&book).expect("it lies in the book").to_owned())
        .filter(|path| path != Path::new("SUMMARY.md"))
        .collect();

    assert_eq!(listed, there);
}

/// Where the links of a page lead, without anchors and without what is on the net.
fn links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        (!target.is_empty() && !target.contains("://")).then_some(target)
    })
}

#[test]
fn every_link_between_the_papers_leads_somewhere() {
    for paper in papers() {
        let page = text(&paper);
        for link in links(&page) {
            let target = paper.parent().expect("a page lies in a folder").join(link);
            assert!(target.exists(), "{}: {link}", paper.display());
        }
    }
}

#[test]
fn every_failure_code_has_a_runbook_entry() {
    let runbook = text(&repository().join("docs/src/runbooks/failure-codes.md"));

    for code in FailureCode::ALL {
        let heading = format!("## {code}\n");
        let (_, entry) = runbook.split_once(&heading).unwrap_or_else(|| panic!("no `{code}`"));
        let entry = entry.split("\n## ").next().unwrap_or_default();
        assert!(entry.trim().len() > 40, "{code} says nothing: {entry}");
    }
}

#[test]
fn every_subcommand_is_in_the_page_of_the_command_line() {
    let page = text(&repository().join("docs/src/reference/command-line.md"));
    let help = std::process::Command::new(gateway_binary()).arg("--help").output();
    let help = String::from_utf8(help.expect("the binary runs").stdout).expect("help is text");

    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();

    assert!(commands.len() > 5, "{help}");
    for command in commands {
        assert!(page.contains(&format!("`gateway {command}")), "{command} is not described");
    }
}

#[test]
fn every_path_of_the_admin_page_answers() {
    let page = text(&repository().join("docs/src/reference/admin.md"));
    let gate = run(&repository().join("conf/gateway.yaml"));
    let mut paths = page.split("`GET ").skip(1).filter_map(|rest| rest.split('`').next());
    let first = paths.next().expect("the page names paths");

    for path in paths.chain([first]) {
        assert_eq!(gate.admin(path).status, 200, "{path}");
    }
}
