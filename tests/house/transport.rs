//! How endpoints are reached: TLS, HTTP/2, the PROXY protocol, and what is shared of it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gateway_tests::{
    Certificates, Client, Gate, Origin, Program, Response, balanced_config, eventually,
};
use serde_json::Value;

/// A gateway over one endpoint, with further options of the upstream, one a line, and a log.
fn house(endpoint: &Program, options: &str) -> Gate {
    let config = balanced_config(&[format!("\"{}\"", endpoint.address())], options);
    Gate::yaml(&config.replace("listeners:", "access_log: {output: LOG, format: json}\nlisteners:"))
}

/// What the endpoint of `endpoint.py` tells of a request: one field of its answer.
fn told(response: &Response, field: &str) -> String {
    response.header(field).unwrap_or_default().to_owned()
}

/// An authority, and an endpoint over TLS with a certificate of it for 127.0.0.1 and `a.test`.
fn tls_endpoint(options: &[&str]) -> (Certificates, Program) {
    let certificates = Certificates::new();
    let server = certificates.issue("endpoint", "DNS:a.test,IP:127.0.0.1");
    let arguments = [&["--tls", &server.cert, &server.key], options].concat();
    let endpoint = Program::start("endpoint.py", &arguments);
    (certificates, endpoint)
}

fn ca(certificates: &Certificates) -> String {
    format!("ca: {}", certificates.authority().display())
}

fn failure(gate: &Gate, line: usize) -> Value {
    gate.log(line + 1)[line]["failure"].clone()
}

#[test]
fn a_body_that_is_refused_on_its_way_ends_its_stream_alone() {
    let endpoint = Program::start("endpoint.py", &["--http2"]);
    let config = balanced_config(&[format!("\"{}\"", endpoint.address())], "protocol: http2");
    let log = "access_log: {output: LOG, format: json}\nlisteners:";
    let limit = "0\", limits: {body_bytes: 1000}}]";
    let gate = Gate::yaml(
        &config.replace("listeners:", log).replace("0\"}]\nup", &format!("{limit}\nup")),
    );
    let other = gate.get("/ok");
    let (asked, chunk) = (std::time::Instant::now(), format!("3e8\r\n{}\r\n", "x".repeat(1000)));
    for path in ["/hang", "/ok", "/ok"] {
        let mut client = gate.client();
        client
            .send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
        client.send(&chunk);
        std::thread::sleep(Duration::from_millis(50));
        client.send(&chunk);
        assert_eq!(client.response().status, 413, "{path}");
    }
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(gate.log(4)[1]["failure"], "P8");
    let next = gate.get("/ok");
    assert_eq!(next.status, 200);
    assert_eq!(told(&next, "x-connection"), told(&other, "x-connection"), "the others' goes on");
}

#[test]
fn tls_is_verified_and_its_connections_and_sessions_are_used_again() {
    let (certificates, endpoint) = tls_endpoint(&[]);
    let gate = house(&endpoint, &format!("tls: {{{}}}", ca(&certificates)));

    let answers: Vec<Response> = (0..3).map(|_| gate.get("/ok")).collect();

    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let requests: Vec<String> = answers.iter().map(|answer| told(answer, "x-request")).collect();
    assert_eq!(requests, ["1", "2", "3"], "on one connection");
    // The connection ends, and the next one resumes its session.
    assert_eq!(gate.get("/close").status, 502);
    let next = gate.get("/ok");
    assert_eq!(
        (told(&next, "x-connection").as_str(), told(&next, "x-resumed").as_str()),
        ("3", "True")
    );
}

#[test]
fn a_certificate_of_another_authority_or_for_another_name_is_refused() {
    let (certificates, endpoint) = tls_endpoint(&[]);
    let other = Certificates::new();

    let gate = house(&endpoint, &format!("tls: {{{}}}", ca(&other)));
    assert_eq!(gate.get("/ok").status, 502);
    assert_eq!(failure(&gate, 0), "U7");

    let options = format!("tls: {{{}, server_name: b.test}}", ca(&certificates));
    let gate = house(&endpoint, &options);
    assert_eq!((gate.get("/ok").status, failure(&gate, 0)), (502, "U7".into()));

    let options = format!("tls: {{{}, server_name: a.test}}", ca(&certificates));
    let answer = house(&endpoint, &options).get("/ok");
    assert_eq!((answer.status, told(&answer, "x-name")), (200, "a.test".to_owned()));

    // The system does not know it either.
    let gate = house(&endpoint, "tls: {}");
    assert_eq!((gate.get("/ok").status, failure(&gate, 0)), (502, "U7".into()));
    // Whoever asks for it by name gets what they asked for.
    assert_eq!(house(&endpoint, "tls: {verify: none}").get("/ok").status, 200);
}

#[test]
fn an_endpoint_that_speaks_something_else_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever greets first speaks neither TLS nor HTTP/2.
            let _ = stream.write_all(b"220 mail.test ESMTP, at your service\r\n");
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    let gate = |options: &str| {
        let config = balanced_config(&[format!("\"{address}\"")], options);
        Gate::yaml(
            &config.replace("listeners:", "access_log: {output: LOG, format: json}\nlisteners:"),
        )
    };

    let tls = gate("tls: {verify: none}");
    assert_eq!((tls.get("/ok").status, failure(&tls, 0)), (502, "U6".into()));
    let http2 = gate("protocol: http2");
    assert_eq!((http2.get("/ok").status, failure(&http2, 0)), (502, "X5".into()));
}

#[test]
fn the_gateway_shows_its_own_certificate_to_who_asks_for_it() {
    let authority = Certificates::new();
    let server = authority.issue("endpoint", "IP:127.0.0.1");
    let client = authority.issue("gateway", "DNS:gateway.test");
    let file = authority.authority().display().to_string();
    let endpoint = Program::start(
        "endpoint.py",
        &["--tls", &server.cert, &server.key, "--client-ca", &file, "--alpn", "h2,http/1.1"],
    );

    for (protocol, spoken) in [("http1", "http1"), ("http2", "http2"), ("auto", "http2")] {
        let shown = format!("client: {{cert: {}, key: {}}}", client.cert, client.key);
        let options = format!("protocol: {protocol}\ntls: {{ca: {file}, {shown}}}");
        let answer = house(&endpoint, &options).get("/ok");
        assert_eq!(answer.status, 200, "{protocol}");
        assert_eq!(told(&answer, "x-client"), "gateway", "{protocol}");
        assert_eq!(told(&answer, "x-protocol"), spoken);

        let gate = house(&endpoint, &format!("protocol: {protocol}\ntls: {{ca: {file}}}"));
        assert!(gate.get("/ok").status >= 502, "{protocol}: without one it is refused");
    }
}

#[test]
fn files_that_do_not_hold_what_they_should_are_named() {
    let authority = Certificates::new();
    let client = authority.issue("gateway", "DNS:gateway.test");
    let file = authority.authority().display().to_string();
    let broken = authority.folder().join("broken.pem");
    std::fs::write(&broken, "nothing\n").expect("a file can be written");
    let broken = broken.display();
    for (tls, fault) in [
        (
            format!("ca: {broken}"),
            format!("upstreams[0].tls.ca: {broken} holds no certificate in PEM"),
        ),
        ("ca: /nowhere/ca.pem".into(), "upstreams[0].tls.ca: cannot read /nowhere/ca.pem".into()),
        (
            format!("client: {{cert: {}, key: {broken}}}", client.cert),
            format!("upstreams[0].tls.client.key: {broken} holds no private key in PEM"),
        ),
        (
            format!("client: {{cert: {file}, key: {}}}", client.key),
            "upstreams[0].tls.client: ".into(),
        ),
        ("server_name: \"\"".into(), "upstreams[0].tls.server_name: ".into()),
        ("server_name: \"a b\"".into(), "`a b` is neither a host name nor an IP address".into()),
        (format!("ca: {file}, verify: none"), "upstreams[0].tls.ca: nothing is verified".into()),
    ] {
        let config = balanced_config(&["\"127.0.0.1:1\"".into()], &format!("tls: {{{tls}}}"));
        let checked = gateway_core::Gateway::builder().config_text(config).check();
        let text = checked.err().expect("the config is refused").to_string();
        assert!(text.contains(&fault), "{text}\ndoes not say: {fault}");
    }
}

#[test]
fn a_certificate_that_changes_is_read_again_by_a_reload() {
    let (certificates, endpoint) = tls_endpoint(&[]);
    let other = Certificates::new();
    let trusted = certificates.folder().join("trusted.pem");
    let trust = |authority: &Certificates| {
        std::fs::copy(authority.authority(), &trusted).expect("a file can be copied");
    };
    trust(&other);
    let gate = house(&endpoint, &format!("tls: {{ca: {}}}", trusted.display()));
    assert_eq!(gate.get("/ok").status, 502);

    trust(&certificates);
    gate.running().reload().expect("the config is good");
    assert_eq!(gate.get("/ok").status, 200);
    // Nor does a connection that was made under one authority serve under another.
    trust(&other);
    gate.running().reload().expect("the config is good");
    assert_eq!(gate.get("/ok").status, 502);
}

#[test]
fn many_requests_share_a_connection_of_http2() {
    let endpoint = Program::start("endpoint.py", &["--http2"]);
    let gate = house(&endpoint, "protocol: http2");

    let mut clients: Vec<Client> = (0..20).map(|_| gate.client()).collect();
    for client in &mut clients {
        client.send("GET /slow/0.2 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let answers: Vec<Response> = clients.iter_mut().map(Client::response).collect();

    for answer in &answers {
        assert_eq!((answer.status, told(answer, "x-connection")), (200, "1".to_owned()));
        assert_eq!(told(answer, "x-protocol"), "http2");
    }
}

/// An endpoint says goodbye to each connection after 20 requests, and does not look at those that are on
/// their way then.
#[test]
fn no_request_is_lost_where_connections_end_in_peace() {
    let program = ["--http2", "--streams", "8", "--requests", "20"];
    let endpoint = Program::start("endpoint.py", &program);
    let gate = house(&endpoint, "protocol: http2");

    std::thread::scope(|scope| {
        for number in 0..12 {
            let gate = &gate;
            scope.spawn(move || {
                let mut client = gate.client();
                for _ in 0..100 {
                    let (method, body) = if number % 2 == 0 { ("GET", "") } else { ("POST", "hi") };
                    let length = body.len();
                    client.send(format!(
                        "{method} /ok HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
                    ));
                    assert_eq!(client.response().status, 200, "{method}");
                }
            });
        }
    });
    let refused = gate.metric(r#"gateway_upstream_attempts_total{outcome="X1",upstream="origin"}"#);
    assert!(refused > 0.0, "some were on their way");
}

#[test]
fn a_connection_that_has_all_its_streams_is_joined_by_another() {
    for (own, program) in
        [("streams_per_connection: 2", &["--http2"][..]), ("", &["--http2", "--streams", "2"])]
    {
        let endpoint = Program::start("endpoint.py", program);
        let gate = house(&endpoint, &format!("protocol: http2\n{own}"));
        // The endpoint's own limit is known once the connection stands.
        assert_eq!(gate.get("/ok").status, 200);

        let mut clients: Vec<Client> = (0..5).map(|_| gate.client()).collect();
        for client in &mut clients {
            client.send("GET /slow/0.3 HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        let answers: Vec<Response> = clients.iter_mut().map(Client::response).collect();

        let mut connections: Vec<String> =
            answers.iter().map(|answer| told(answer, "x-connection")).collect();
        connections.sort();
        assert_eq!(connections, ["1", "1", "2", "2", "3"]);
    }
}

#[test]
fn an_endpoint_chooses_the_version_in_the_handshake() {
    for (offered, spoken) in [("h2,http/1.1", "http2"), ("http/1.1", "http1")] {
        let (certificates, endpoint) = tls_endpoint(&["--alpn", offered]);
        let gate = house(&endpoint, &format!("protocol: auto\ntls: {{{}}}", ca(&certificates)));
        for request in 1..=3 {
            let answer = gate.get("/ok");
            assert_eq!((answer.status, told(&answer, "x-protocol").as_str()), (200, spoken));
            let place = (told(&answer, "x-connection"), told(&answer, "x-request"));
            assert_eq!(place, ("1".to_owned(), request.to_string()));
        }
    }
    let (certificates, endpoint) = tls_endpoint(&["--alpn", "http/1.1"]);
    let gate = house(&endpoint, &format!("protocol: http2\ntls: {{{}}}", ca(&certificates)));
    assert_eq!((gate.get("/ok").status, failure(&gate, 0)), (502, "U6".into()));
}

#[test]
fn a_request_arrives_by_the_letter_of_http2() {
    let endpoint = Program::start("endpoint.py", &["--http2"]);
    let gate = house(&endpoint, "protocol: http2");

    let answer = gate.exchange(
        "GET /x?y=1 HTTP/1.1\r\nHost: a.test:81\r\nConnection: keep-alive, X-Own\r\nX-Own: 1\r\n\
         TE: trailers\r\nKeep-Alive: timeout=5\r\nX-Kept: 2\r\n\r\n",
    );

    let head = told(&answer, "x-head");
    let fields: Vec<&str> = head.split('|').collect();
    for wanted in [
        ":method: GET",
        ":path: /x?y=1",
        ":authority: a.test:81",
        ":scheme: http",
        "te: trailers",
        "x-kept: 2",
        "x-forwarded-host: a.test:81",
        "via: 1.1 gateway",
    ] {
        assert!(fields.contains(&wanted), "{wanted} is not in {head}");
    }
    for gone in ["host:", "connection:", "x-own:", "keep-alive:"] {
        assert!(!fields.iter().any(|field| field.starts_with(gone)), "{gone} is in {head}");
    }
    let refused = gate.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For\r\n\r\n");
    assert_eq!(refused.status, 400);
}

/// HTTP/2 frames bodies itself; a client of HTTP/1.0 knows their end by the connection's alone.
#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let endpoint = Program::start("endpoint.py", &["--http2"]);
    let gate = house(&endpoint, "protocol: http2");
    let mut client = gate.client();

    client.send("GET /trailers HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let answer = String::from_utf8_lossy(&client.rest()).into_owned();

    let (head, body) = answer.split_once("\r\n\r\n").expect("there is a head");
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("hunked"), "{head}");
    assert!(head.contains("Connection: close"), "{head}");
    assert_eq!(body, "ok");
    assert_eq!(gate.log(1)[0]["failure"], Value::Null);
}

#[test]
fn bodies_go_up_and_come_down_whole() {
    let body: String = (0..60_000).map(|number| format!("{number:06}")).collect();
    let (certificates, endpoint) = tls_endpoint(&["--alpn", "h2,http/1.1"]);
    for protocol in ["http1", "http2"] {
        let options = format!("protocol: {protocol}\ntls: {{{}}}", ca(&certificates));
        let gate = house(&endpoint, &options);
        let mut client = gate.client();
        for _ in 0..3 {
            client.send(format!(
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            let answer = client.response();
            assert_eq!(answer.status, 200, "{protocol}");
            assert!(answer.text() == body, "{protocol}: {} bytes", answer.text().len());
        }
    }
}

#[test]
fn a_stream_that_was_refused_is_sent_again_whatever_its_method() {
    let endpoint = Program::start("endpoint.py", &["--http2"]);
    let gate = house(&endpoint, "protocol: http2\nretry: {attempts: 2, backoff: 1ms}");

    let post = "POST /refuse-first HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let answer = gate.exchange(post);
    assert_eq!((answer.status, told(&answer, "x-request").as_str()), (200, "2"));
    let retries = r#"gateway_upstream_retries_total{reason="refused_stream",upstream="origin"}"#;
    gate.await_metric(retries, 1.0);

    assert_eq!((gate.get("/refuse").status, failure(&gate, 1)), (502, "X6".into()));
}

#[test]
fn a_goodbye_costs_no_request() {
    let endpoint = Program::start("endpoint.py", &["--http2"]);
    let gate = house(&endpoint, "protocol: http2");
    assert_eq!(told(&gate.get("/ok"), "x-connection"), "1");

    let answer = gate.exchange("POST /goaway HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!((answer.status, told(&answer, "x-connection").as_str()), (200, "2"));
}

#[test]
fn one_stream_that_hangs_takes_no_other_with_it() {
    let endpoint = Program::start("endpoint.py", &["--http2"]);
    let gate = house(&endpoint, "protocol: http2\ntimeouts: {first_byte: 300ms}");
    let mut hung = gate.client();
    hung.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut dripping = gate.client();
    dripping.send("GET /drip HTTP/1.1\r\nHost: a\r\n\r\n");

    assert_eq!(hung.response().status, 504);
    assert_eq!(dripping.response().text(), "x".repeat(10), "it goes on on the same connection");
    // Where one stream hung nothing new begins.
    assert_eq!(told(&gate.get("/ok"), "x-connection"), "2");
}

#[test]
fn an_idle_connection_of_http2_is_closed_after_its_time() {
    let endpoint = Program::start("endpoint.py", &["--http2"]);
    let gate = house(&endpoint, "protocol: http2\ntimeouts: {keepalive: 200ms}");
    assert_eq!(told(&gate.get("/ok"), "x-connection"), "1");
    assert_eq!(told(&gate.get("/ok"), "x-connection"), "1");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(told(&gate.get("/ok"), "x-connection"), "2");

    let gate = house(&endpoint, "protocol: http2\ntimeouts: {keepalive: 0}");
    let first = told(&gate.get("/ok"), "x-connection");
    assert_ne!(told(&gate.get("/ok"), "x-connection"), first);
}

#[test]
fn endpoints_are_told_whose_connection_it_is() {
    for (version, protocol, program) in [
        ("v1", "http1", &["--proxy"][..]),
        ("v2", "http1", &["--proxy"]),
        ("v1", "http2", &["--proxy", "--http2"]),
    ] {
        let endpoint = Program::start("endpoint.py", program);
        let gate = house(&endpoint, &format!("proxy_protocol: {version}\nprotocol: {protocol}"));
        let mut client = Client::connect_from([127, 0, 0, 7], gate.address());
        let ask = |client: &mut Client| {
            client.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
            client.response()
        };

        let (first, second) = (ask(&mut client), ask(&mut client));
        let other = ask(&mut gate.client());

        let told_of = told(&first, "x-proxy");
        let expected = match version {
            "v1" => "PROXY TCP4 127.0.0.7 127.0.0.1 ".to_owned(),
            _ => "v2 0x21 0x11 7f0000077f000001".to_owned(),
        };
        assert!(told_of.starts_with(&expected), "{told_of}");
        assert_eq!(told(&second, "x-connection"), told(&first, "x-connection"), "its own is kept");
        assert_ne!(told(&other, "x-connection"), told(&first, "x-connection"));
        assert!(!told(&other, "x-proxy").contains("127.0.0.7"), "nobody speaks for another");
    }
}

#[test]
fn checks_are_made_the_way_requests_go() {
    let (certificates, endpoint) = tls_endpoint(&["--alpn", "h2,http/1.1", "--proxy"]);
    for protocol in ["http1", "http2", "auto"] {
        let gate = house(
            &endpoint,
            &format!(
                "protocol: {protocol}\nproxy_protocol: v2\ntls: {{{}}}\n\
                 health: {{active: {{path: /ok, interval: 50ms, wait: true}}}}",
                ca(&certificates)
            ),
        );
        eventually("the check is good", || gate.get("/ok").status == 200);
    }
    let (certificates, endpoint) = tls_endpoint(&["--alpn", "h2"]);
    let options = "protocol: auto\nhealth: {active: {path: /ok, interval: 50ms, wait: true}}";
    let gate = house(&endpoint, &format!("{options}\ntls: {{{}}}", ca(&certificates)));
    eventually("the check by HTTP/2 is good", || gate.get("/ok").status == 200);
    let head = told(&gate.get("/ok"), "x-head");
    assert!(head.contains(":scheme: https"), "{head}");
    let (_, endpoint) = tls_endpoint(&["--alpn", "http/1.1", "--proxy"]);
    let gate = house(
        &endpoint,
        "proxy_protocol: v1\ntls: {}\n\
         health: {active: {path: /ok, interval: 50ms, wait: true, unhealthy_after: 1}}",
    );
    let state = || gate.admin("/upstreams").json()[0]["endpoints"][0].clone();
    eventually("the check is bad", || state()["state"] == "unhealthy");
    let reason = state()["reason"].to_string();
    assert!(reason.contains("UnknownIssuer"), "{reason}");
}

/// grpcio on both sides: calls, their messages and their trailers pass.
#[test]
fn a_grpc_call_passes_with_its_trailers() {
    let server = Program::start("grpc_health.py", &[]);
    let gate = house(&server, "protocol: http2");
    let call = |service: &str| {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/grpc_call.py");
        let arguments = [gate.address().to_string(), service.to_owned()];
        let called = Command::new("/usr/bin/python3").arg(program).args(arguments).output();
        String::from_utf8_lossy(&called.expect("python3 is installed").stdout).trim().to_owned()
    };

    assert_eq!(call(""), "OK 1");
    assert_eq!(call("users"), "OK 1");
    assert_eq!(call("orders"), "NOT_FOUND no such service");
}

#[test]
fn a_connection_is_not_used_when_its_endpoint_is_about_to_close_it() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok",
    );
    let gate = Gate::yaml(&balanced_config(&[format!("\"{}\"", origin.address())], ""));
    assert_eq!(gate.get("/").header("keep-alive"), None);
    assert_eq!((gate.get("/").status, origin.connections()), (200, 1));

    std::thread::sleep(Duration::from_millis(750));
    assert_eq!((gate.get("/").status, origin.connections()), (200, 2));
}

#[test]
fn what_cannot_be_is_refused() {
    for (options, fault) in [
        (
            "protocol: auto",
            "upstreams[0].protocol: the version is agreed on in the handshake of TLS",
        ),
        (
            "protocol: http2\nheader_case: preserve",
            "upstreams[0].header_case: HTTP/2 knows no capitals",
        ),
        ("streams_per_connection: 0", "upstreams[0].streams_per_connection"),
    ] {
        let config = balanced_config(&["\"127.0.0.1:1\"".into()], options);
        let checked = gateway_core::Gateway::builder().config_text(config).check();
        let text = checked.err().expect("the config is refused").to_string();
        assert!(text.contains(fault), "{text}");
    }
}

/// The endpoint is a gateway as well, which answers for this host alone.
#[test]
fn the_host_that_a_client_of_http2_asks_for_is_the_one_that_goes_up() {
    let config = |endpoint: &str, more: &str| {
        format!(
            "version: 1\nserver: {{workers: 1}}\nlisteners:\n- {{name: public, address: \"127.0.0.1:0\"}}\n\
             - {{name: inner, address: \"127.0.0.1:0\"}}\n\
             upstreams: [{{name: inner, endpoints: [\"{endpoint}\"]{more}}}]\nroutes:\n\
             - {{name: out, match: {{path: /, listeners: [public]}}, upstream: inner}}\n\
             - {{name: in, match: {{hosts: [api.example.com], listeners: [inner]}}, reply: {{body: right}}}}\n"
        )
    };
    let hedged = ", retry: {attempts: 2, hedge: {after: 90%, at_least: 1ms}}";
    let gate = Gate::yaml(&config("127.0.0.1:9", ""));
    let inner = gate.listener("inner").to_string();
    let ask = || {
        let said = Command::new("curl")
            .args(["--silent", "--http2-prior-knowledge", "--header", "Host: api.example.com"])
            .arg(format!("http://{}/", gate.listener("public")))
            .output();
        String::from_utf8_lossy(&said.expect("curl is installed").stdout).into_owned()
    };
    for more in ["", ", protocol: http2", hedged] {
        gate.write(&config(&inner, more));
        gate.running().reload().expect("the config is good");
        assert_eq!(ask(), "right", "{more}");
    }
    // Until the time is known after which a request is sent twice.
    assert!((0..120).all(|_| ask() == "right"));
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(ask(), "right");
}
