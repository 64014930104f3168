//! TLS for those who connect, as curl and OpenSSL see it.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gateway_core::Gateway;
use gateway_tests::{Certificates, Gate, Issued, Origin, eventually};

/// A gateway whose only listener has this TLS, and which tells upstream what it knows of it.
fn config(origin: &Origin, tls: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 2}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         plugins: [{{kind: headers, options: {{request: {{set: {{\
         x-tls: \"{{tls.version}} {{tls.server_name}}\", x-subject: \"{{tls.client.subject}}\", \
         x-san: \"{{tls.client.san}}\", x-print: \"{{tls.client.fingerprint}}\"}}}}}}}}]\n\
         listeners:\n- name: public\n  address: 127.0.0.1:0\n  tls: {{{tls}}}\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    )
}

fn gate(config: &str) -> Gate {
    Gate::with(Gateway::builder().plugins(gateway_plugins::all()), config)
}

fn certificate(issued: &Issued) -> String {
    format!("{{cert: {}, key: {}}}", issued.cert, issued.key)
}

/// What curl says of `https://HOST/`: the status and the version of HTTP, or its exit code.
fn curl(gate: &Gate, host: &str, authority: &Certificates, more: &[&str]) -> String {
    let port = gate.address().port();
    let resolve = format!("{host}:{port}:127.0.0.1");
    let ca = authority.authority().display().to_string();
    let told = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code} %{http_version}"])
        .args(["--max-time", "10", "--resolve", &resolve, "--cacert", &ca])
        .args(more)
        .arg(format!("https://{host}:{port}/"))
        .output()
        .expect("curl is installed");
    match told.status.code() {
        Some(0) => String::from_utf8_lossy(&told.stdout).into_owned(),
        code => format!("curl {}", code.unwrap_or(-1)),
    }
}

/// What OpenSSL says of a handshake, and of what is answered to `request`.
fn s_client(gate: &Gate, more: &[&str], request: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &gate.address().to_string()])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(request.as_bytes()).expect("it reads");
    if request.is_empty() {
        drop(input);
    } else {
        // Until the answer is there; the gateway closes then.
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(3));
            drop(input);
        });
    }
    let told = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr)
}

fn failures(gate: &Gate, reason: &str) -> f64 {
    let labels = format!("{{listener=\"public\",reason=\"{reason}\"}}");
    gate.metric(&format!("gateway_tls_handshake_failures_total{labels}"))
}

#[test]
fn a_certificate_is_shown_for_the_name_that_is_asked_for() {
    let (ours, origin) = (Certificates::new(), Origin::saying("ok"));
    let one = ours.issue("one", "DNS:a.test");
    let rsa = ours.issue_rsa("rsa", "DNS:a.test");
    let wild = ours.issue("wild", "DNS:*.w.test,DNS:w.test");
    let tls = format!(
        "certificates: [{}, {}, {}]",
        certificate(&one),
        certificate(&rsa),
        certificate(&wild)
    );
    let gate = gate(&config(&origin, &tls));

    for host in ["a.test", "w.test", "x.w.test"] {
        assert_eq!(curl(&gate, host, &ours, &[]), "200 2", "{host}");
        assert_eq!(origin.last_fields("x-tls"), [format!("TLSv1.3 {host}")]);
        assert_eq!(origin.last_fields("x-forwarded-proto"), ["https"]);
        assert_eq!(curl(&gate, host, &ours, &["--http1.1"]), "200 1.1", "{host}");
    }
    // A wildcard stands for one label; others are shown the first.
    assert_eq!(curl(&gate, "y.x.w.test", &ours, &[]), "curl 60");
    let subject = |more: &[&str]| {
        let told = s_client(&gate, more, "");
        let line = told.lines().find_map(|line| line.strip_prefix("subject=CN = "));
        line.unwrap_or(&told).to_owned()
    };
    assert_eq!(subject(&["-servername", "nobody.test"]), "one");
    assert_eq!(subject(&["-noservername"]), "one");
    assert_eq!(subject(&["-servername", "A.TEST"]), "one");
    assert_eq!(subject(&["-servername", "q.w.test"]), "wild");
    // Who can only take keys of RSA is shown one.
    let rsa = ["-servername", "a.test", "-sigalgs", "RSA-PSS+SHA256"];
    assert_eq!(subject(&rsa), "rsa");
    let old = ["-servername", "a.test", "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"];
    assert_eq!(subject(&old), "rsa");
    assert_eq!(subject(&["-servername", "a.test", "-tls1_2"]), "one");
    assert!(gate.metric("gateway_tls_handshakes_total{kind=\"full\",listener=\"public\"}") >= 9.0);
    let line = gate.log(6)[0].clone();
    assert_eq!((&line["url.scheme"], &line["server.address"]), (&"https".into(), &"a.test".into()));
}

#[test]
fn versions_and_suites_are_those_that_are_written() {
    let (ours, origin) = (Certificates::new(), Origin::saying("ok"));
    let own = certificate(&ours.issue("own", "DNS:a.test"));
    let modern = gate(&config(
        &origin,
        &format!("certificates: [{own}], min_version: tls1.3, http2: false"),
    ));
    assert_eq!(curl(&modern, "a.test", &ours, &[]), "200 1.1", "no HTTP/2");
    assert_eq!(curl(&modern, "a.test", &ours, &["--tls-max", "1.2"]), "curl 35");
    assert_eq!(failures(&modern, "incompatible"), 1.0);
    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let picky = format!("certificates: [{own}], cipher_suites: [{suite}, TLS_AES_256_GCM_SHA384]");
    let picky = gate(&config(&origin, &picky));
    let told = s_client(&picky, &["-tls1_2"], "");
    assert!(told.contains("Cipher is ECDHE-ECDSA-CHACHA20-POLY1305"), "{told}");
    let told = s_client(&picky, &["-tls1_3"], "");
    assert!(told.contains("Cipher is TLS_AES_256_GCM_SHA384"), "{told}");
    let other = s_client(&picky, &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "");
    assert!(other.contains("alert handshake failure"), "{other}");
}

#[test]
fn who_has_to_show_a_certificate_depends_on_the_name() {
    let (ours, others, origin) = (Certificates::new(), Certificates::new(), Origin::saying("ok"));
    let server = ours.issue("server", "DNS:open.test,DNS:admin.test,DNS:maybe.test");
    let good = others.issue("good", "DNS:c1.test,URI:spiffe://test/one");
    let guest = others.issue("guest", "DNS:guest.else");
    let gone = others.issue("gone", "DNS:c2.test");
    let (crl, ca) = (others.revoke(&[&gone]), others.authority());
    let tls = format!(
        "certificates: [{}], forward_client_cert: true, client_auth: [\
         {{names: [admin.test], ca: {ca}, crl: {crl}, allow: [\"*.test\"]}}, \
         {{names: [maybe.test], ca: {ca}, mode: optional}}]",
        certificate(&server),
        ca = ca.display()
    );
    let gate = gate(&config(&origin, &tls));
    let with =
        |one: &Issued| vec!["--cert".to_owned(), one.cert.clone(), "--key".into(), one.key.clone()];
    let ask = |host: &str, one: Option<&Issued>, more: &str| {
        let mut all = one.map(with).unwrap_or_default();
        all.extend((!more.is_empty()).then(|| more.to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        curl(&gate, host, &ours, &all)
    };
    assert_eq!(ask("open.test", None, ""), "200 2");
    assert_eq!(ask("maybe.test", None, ""), "200 2");
    assert!(origin.last_fields("x-forwarded-client-cert").is_empty());
    // What the alert is depends on the version.
    for version in ["--tlsv1.3", "--http1.1"] {
        assert!(ask("admin.test", None, version).starts_with("curl"), "{version}");
        for host in ["admin.test", "maybe.test"] {
            assert!(ask(host, Some(&good), version).starts_with("200"), "{host} {version}");
            assert_eq!(origin.last_fields("x-subject"), ["CN=good"]);
            assert_eq!(origin.last_fields("x-san"), ["DNS:c1.test,URI:spiffe://test/one"]);
            let print = origin.last_fields("x-print").concat();
            assert_eq!(print.len(), 64, "{print}");
            let told =
                format!("Hash={print};Subject=\"CN=good\";DNS=c1.test;URI=spiffe://test/one");
            assert_eq!(origin.last_fields("x-forwarded-client-cert"), [told]);
        }
    }
    assert!(ask("admin.test", Some(&guest), "").starts_with("curl"));
    assert!(ask("admin.test", Some(&gone), "").starts_with("curl"));
    assert!(ask("maybe.test", Some(&guest), "").starts_with("200"));
    assert!(ask("maybe.test", Some(&server), "").starts_with("curl"), "signed by somebody else");
    let counted = ["missing", "denied", "revoked", "invalid"]
        .map(|reason| failures(&gate, &format!("certificate_{reason}")));
    assert_eq!(counted, [2.0, 1.0, 1.0, 1.0]);
    // Nobody says so who shows none.
    let lie = ["-H", "X-Forwarded-Client-Cert: Hash=1;Subject=\"CN=root\""];
    assert_eq!(curl(&gate, "open.test", &ours, &lie), "200 2");
    assert!(origin.last_fields("x-forwarded-client-cert").is_empty());
}

#[test]
fn a_connection_is_for_the_name_that_it_was_made_for() {
    let (ours, others, origin) = (Certificates::new(), Certificates::new(), Origin::saying("ok"));
    let server = ours.issue("server", "DNS:open.test,DNS:admin.test,DNS:also.test");
    let apart = ours.issue("apart", "DNS:apart.test");
    let tls = format!(
        "certificates: [{}, {}], client_auth: [{{names: [admin.test], ca: {}}}]",
        certificate(&server),
        certificate(&apart),
        others.authority().display()
    );
    let gate = gate(&config(&origin, &tls));
    let ask = |name: &str, host: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let told = s_client(&gate, &["-quiet", "-servername", name], &request);
        let line = told.lines().find(|line| line.starts_with("HTTP/1.1")).unwrap_or(&told);
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(ask("open.test", "open.test"), "200");
    assert_eq!(ask("open.test", "also.test"), "200", "the same certificate");
    assert_eq!(ask("open.test", "admin.test"), "421");
    assert_eq!(ask("open.test", "ADMIN.test."), "421");
    assert_eq!(ask("open.test", "apart.test"), "421");
    assert_eq!(gate.log(5)[2]["http.response.status_code"], 421);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn certificates_are_swapped_under_load_and_nobody_notices() {
    let (ours, origin) = (Certificates::new(), Origin::saying("ok"));
    let [one, two] = ["one", "two"].map(|name| ours.issue(name, "DNS:a.test"));
    let [cert, key] = ["own.pem", "own.key"].map(|file| ours.folder().join(file));
    let swap = |to: &Issued| {
        for (from, to) in [(&to.cert, &cert), (&to.key, &key)] {
            let next = to.with_extension("next");
            fs::copy(from, &next).expect("it is there");
            fs::rename(next, to).expect("it can be put there");
        }
    };
    swap(&one);
    let tls = format!("certificates: [{{cert: {}, key: {}}}]", cert.display(), key.display());
    let gate = gate(&config(&origin, &tls));
    let (done, good) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for kind in ["--http1.1", "--http2"] {
            let (gate, ours, done, good) = (&gate, &ours, &done, &good);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let told = curl(gate, "a.test", ours, &[kind]);
                    assert!(told.starts_with("200"), "{told}");
                    good.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Faster than anybody looks, and then so that each is seen.
        for round in 0..100 {
            swap(if round % 2 == 0 { &two } else { &one });
            std::thread::sleep(Duration::from_millis(40));
        }
        let shown = || {
            let told = s_client(&gate, &["-servername", "a.test"], "");
            told.lines().find_map(|line| line.strip_prefix("subject=CN = ").map(str::to_owned))
        };
        for (name, issued) in [("two", &two), ("one", &one)] {
            swap(issued);
            eventually("the new one is shown", || shown().as_deref() == Some(name));
        }
        // What is no certificate is not taken up.
        fs::write(&cert, "nothing").expect("it can be written");
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(shown().as_deref(), Some("one"));
        done.store(true, Ordering::Relaxed);
    });
    assert!(good.load(Ordering::Relaxed) > 50, "{good:?}");
    assert_eq!(gate.total("gateway_tls_handshake_failures_total"), 0.0);
}

#[test]
fn sessions_are_resumed_here_and_by_who_has_the_secret() {
    let (ours, others, origin) = (Certificates::new(), Certificates::new(), Origin::saying("ok"));
    let own = certificate(&ours.issue("own", "DNS:a.test"));
    let secret = "ticket_secret: \"0123456789abcdef0123456789abcdef\"";
    let of = |more: &str| gate(&config(&origin, &format!("certificates: [{own}]{more}")));
    let (one, same) = (of(&format!(", {secret}")), of(&format!(", {secret}")));
    let (alone, guarded) = (
        of(""),
        of(&format!(
            ", {secret}, client_auth: [{{ca: {}, mode: optional}}]",
            others.authority().display()
        )),
    );
    let file = ours.folder().join("session").display().to_string();
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    for version in ["-tls1_2", "-tls1_3"] {
        let names = ["-servername", "a.test", version];
        let began = s_client(&one, &[&names[..], &["-sess_out", &file]].concat(), request);
        assert!(began.contains("New, TLSv1."), "{began}");
        let resumes = |gate: &Gate| {
            let told = s_client(gate, &[&names[..], &["-sess_in", &file]].concat(), request);
            told.contains("Reused, TLSv1.")
        };
        assert!(resumes(&one) && resumes(&same), "{version}");
        assert!(!resumes(&alone), "{version}: it has another secret");
        assert!(!resumes(&guarded), "{version}: it asks for certificates");
    }
    assert_eq!(
        same.metric("gateway_tls_handshakes_total{kind=\"resumed\",listener=\"public\"}"),
        2.0
    );
}

#[test]
fn what_is_no_handshake_ends_in_time_and_is_counted() {
    let (ours, origin) = (Certificates::new(), Origin::saying("ok"));
    let own = certificate(&ours.issue("own", "DNS:a.test"));
    let text = config(&origin, &format!("certificates: [{own}]"));
    let gate = gate(&text.replace("  tls:", "  timeouts: {handshake: 500ms}\n  tls:"));
    let plain = gate.get("/");
    assert_eq!(plain.status, 400);
    assert!(plain.text().contains("HTTPS"), "{}", plain.text());
    let began = Instant::now();
    let mut silent = TcpStream::connect(gate.address()).expect("it listens");
    let mut slow = TcpStream::connect(gate.address()).expect("it listens");
    slow.write_all(&[0x16, 3, 1, 1, 0]).expect("it is open");
    let mut garbage = TcpStream::connect(gate.address()).expect("it listens");
    garbage.write_all(&[0x16, 9, 9, 0, 1, 7]).expect("it is open");
    let mut held = Vec::new();
    for stream in [&mut silent, &mut slow, &mut garbage] {
        let _ = stream.read_to_end(&mut held);
    }
    assert!((400..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    drop(TcpStream::connect(gate.address()).expect("it listens"));
    // Who does not trust the authority says so.
    assert_eq!(curl(&gate, "a.test", &Certificates::new(), &[]), "curl 60");
    for (reason, count) in [
        ("plaintext", 1.0),
        ("timeout", 2.0),
        ("protocol", 1.0),
        ("closed", 1.0),
        ("rejected", 1.0),
    ] {
        eventually(reason, || failures(&gate, reason) == count);
    }
    eventually("nobody is connected", || gate.total("gateway_connections_open") == 0.0);
}

#[test]
fn certificates_can_be_read_out_and_their_end_is_known() {
    let (ours, origin) = (Certificates::new(), Origin::saying("ok"));
    let own = ours.issue("own", "DNS:a.test,IP:127.0.0.1");
    let vouched = ours.vouch(&own);
    let tls = format!("certificates: [{{cert: {}, key: {}, ocsp: {vouched}}}]", own.cert, own.key);
    let gate = gate(&config(&origin, &tls));
    let told = gate.admin("/certificates").json();
    let one = &told["listeners"][0]["certificates"][0];
    assert_eq!(one["names"], serde_json::json!(["a.test", "127.0.0.1"]));
    assert_eq!(one["subject"], "CN=own");
    assert!(one["days_left"].as_u64().is_some_and(|days| (1..=2).contains(&days)), "{one}");
    let end = one["not_after"].as_f64().expect("it is a number");
    let metric = "gateway_tls_certificate_expiry_timestamp_seconds{listener=\"public\"}";
    eventually("it is told when it ends", || gate.metric(metric) == end);
    let status = s_client(&gate, &["-servername", "a.test", "-status"], "");
    assert!(status.contains("OCSP Response Status: successful"), "{status}");
}

#[test]
fn files_that_do_not_fit_are_refused_with_their_place() {
    let (ours, others, origin) = (Certificates::new(), Certificates::new(), Origin::saying("ok"));
    let [one, two] = ["one", "two"].map(|name| ours.issue(name, "DNS:a.test"));
    let nameless = ours.issue("nameless", "URI:spiffe://a/b");
    let wrong = ours.folder().join("chain.pem");
    let mut chain = fs::read_to_string(&one.cert).expect("it is there");
    let _ = write!(chain, "{}", fs::read_to_string(others.authority()).expect("it is there"));
    fs::write(&wrong, chain).expect("it can be written");
    let pair = |cert: &str, key: &str| format!("certificates: [{{cert: {cert}, key: {key}}}]");
    let good = pair(&one.cert, &one.key);
    for (tls, place, said) in [
        ("certificates: []".to_owned(), "tls.certificates", "expected from 1"),
        (pair(&one.cert, &two.key), "certificates[0].key", "another certificate"),
        (pair("/nowhere.pem", &one.key), "certificates[0].cert", "cannot read /nowhere.pem"),
        (pair(&one.key, &one.key), "certificates[0].cert", "no certificate"),
        (pair(&one.cert, &one.cert), "certificates[0].key", "no items found"),
        (pair(&nameless.cert, &nameless.key), "certificates[0].cert", "is for no name"),
        (pair(&wrong.display().to_string(), &one.key), "certificates[0].cert", "did not sign"),
        (format!("{good}, cipher_suites: [TLS_NULL]"), "cipher_suites[0]", "there is no suite"),
        (
            format!("{good}, client_auth: [{{ca: {}}}]", one.key),
            "client_auth[0].ca",
            "no certificate",
        ),
        (
            format!("{good}, client_auth: [{{ca: {ca}, crl: {ca}}}]", ca = one.cert),
            "client_auth[0].crl",
            "no revocation list",
        ),
        (format!("{good}, ticket_secret: short"), "tls.ticket_secret", "32 bytes"),
        (format!("{good}, forward_client_cert: true"), "forward_client_cert", "nobody is asked"),
        (
            format!("{good}, client_auth: [{{ca: {ca}}}, {{ca: {ca}}}]", ca = one.cert),
            "client_auth[1]",
            "nothing comes to it",
        ),
        (format!("{good}, min_version: tls1.1"), "tls.min_version", "tls1.2"),
    ] {
        let builder = Gateway::builder().plugins(gateway_plugins::all());
        let faults = builder.config_text(config(&origin, &tls)).check();
        let faults = faults.err().expect(&tls).to_string();
        assert!(faults.contains(place) && faults.contains(said), "{tls}: {faults}");
    }
}

#[test]
fn one_line_sends_everybody_to_https() {
    let origin = Origin::saying("ok");
    let gate = Gate::yaml(&format!(
        "version: 1\nadmin: {{address: \"127.0.0.1:0\"}}\nlisteners:\n\
         - {{name: public, address: \"127.0.0.1:0\", redirect_https: true, trusted_proxies: [127.0.0.9/32]}}\n\
         - {{name: other, address: \"127.0.0.1:0\", redirect_https: 8443}}\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    ));
    let place = |name: &str, host: &str, more: &str| {
        let mut client = gateway_tests::Client::connect(gate.listener(name));
        client.send(format!(
            "POST /a%2Fb?c=d HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: 0\r\n\r\n"
        ));
        let answer = client.response();
        (answer.status, answer.header("location").unwrap_or_default().to_owned())
    };
    assert_eq!(place("public", "a.test:80", ""), (308, "https://a.test/a%2Fb?c=d".to_owned()));
    assert_eq!(place("other", "a.test", ""), (308, "https://a.test:8443/a%2Fb?c=d".to_owned()));
    // Nobody but a trusted proxy says that it was https.
    assert_eq!(place("public", "a.test", "X-Forwarded-Proto: https\r\n").0, 308);
    let mut trusted = gateway_tests::Client::connect_from([127, 0, 0, 9], gate.listener("public"));
    trusted.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_eq!(trusted.response().status, 200);
}

/// A client that takes nothing is let go, over TLS as without, and the endpoint is not blamed.
#[test]
fn who_takes_nothing_is_let_go_over_tls_too() {
    let ours = Certificates::new();
    let own = certificate(&ours.issue("own", "DNS:a.test"));
    let origin = Origin::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n{}",
        "x".repeat(30_000_000)
    ));
    let text = config(&origin, &format!("certificates: [{own}]"));
    let gate = gate(&text.replace("  tls:", "  timeouts: {write: 1s}\n  tls:"));
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &gate.address().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    // Nobody reads what it prints, so that it stops reading.
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("it reads");
    let line = gate.log(1)[0].clone();
    assert!(["D2", "D4"].contains(&line["failure"].as_str().unwrap_or_default()), "{line}");
    eventually("nobody is connected", || gate.total("gateway_connections_open") == 0.0);
    let _ = child.kill();
    let _ = child.wait();
}

/// A reload that asks for certificates asks those who are connected already.
#[test]
fn what_a_reload_asks_for_holds_for_open_connections() {
    let (ours, origin) = (Certificates::new(), Origin::saying("ok"));
    let own = certificate(&ours.issue("own", "DNS:a.test"));
    let plain = config(&origin, &format!("certificates: [{own}]"));
    let gate = gate(&plain);
    let mut child = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-servername",
            "a.test",
            "-connect",
            &gate.address().to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    let mut input = child.stdin.take().expect("it is piped");
    let mut ask = || input.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("it reads");
    ask();
    assert_eq!(gate.log(1)[0]["http.response.status_code"], 200);
    let ca = ours.authority().display().to_string();
    gate.write(&plain.replace(&own, &format!("{own}], client_auth: [{{ca: {ca}}}")));
    gate.running().reload().expect("the config is good");
    ask();
    assert_eq!(gate.log(2)[1]["http.response.status_code"], 421);
    let _ = child.kill();
    let _ = child.wait();
}
