//! Whose connection it is, by what a balancer in front says: HAProxy, and whoever writes to the socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gateway_core::Gateway;
use gateway_tests::{Certificates, Client, Gate, Origin, eventually};

fn config(origin: &Origin, more: &str) -> String {
    format!(
        "version: 1\nadmin: {{address: \"127.0.0.1:0\"}}\naccess_log: {{output: LOG, format: json}}\n\
         listeners:\n- name: public\n  address: \"127.0.0.1:0\"\n  \
         proxy_protocol: {{trusted: [127.0.0.1/32]}}\n  timeouts: {{handshake: 500ms}}\n{more}\
         upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    )
}

fn gate(config: &str) -> Gate {
    Gate::with(Gateway::builder().plugins(gateway_plugins::all()), config)
}

/// HAProxy, ended with the test.
struct Balancer {
    child: Child,
    address: SocketAddr,
}

impl Balancer {
    /// One that hands all connections on, each behind a header.
    fn start(gate: &Gate, server: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a port is free");
        let config = format!(
            "defaults\n mode tcp\n timeout connect 2s\n timeout client 10s\n timeout server 10s\n\
             frontend f\n bind {address}\n default_backend b\n\
             backend b\n server s {} {server}\n",
            gate.address()
        );
        let file = gate.folder().join("haproxy.cfg");
        std::fs::write(&file, config).expect("it can be written");
        let child = Command::new("haproxy")
            .args(["-db", "-f", &file.display().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy is installed");
        eventually("HAProxy listens", || TcpStream::connect(address).is_ok());
        Self { child, address }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes of a connection that begins like this.
fn after(gate: &Gate, header: &[u8]) -> Option<u16> {
    let mut client = Client::connect_from([127, 0, 0, 1], gate.address());
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    // It may be closed before all of it is there.
    client.try_send([header, request].concat()).ok()?;
    client.try_response(false).ok().map(|answer| answer.status)
}

fn malformed(gate: &Gate) -> f64 {
    gate.metric("gateway_connections_ended_total{listener=\"public\",reason=\"proxy_protocol\"}")
}

#[test]
fn haproxy_in_front_says_whose_its_connections_are() {
    let (origin, ours) = (Origin::saying("ok"), Certificates::new());
    let own = ours.issue("own", "DNS:a.test");
    let tls = format!("  tls: {{certificates: [{{cert: {}, key: {}}}]}}\n", own.cert, own.key);
    for (tls, server) in [
        ("", "send-proxy"),
        ("", "send-proxy-v2"),
        (tls.as_str(), "send-proxy"),
        (&tls, "send-proxy-v2"),
    ] {
        let gate = gate(&config(&origin, tls));
        let balancer = Balancer::start(&gate, server);
        // The checks above were connections too.
        let before = origin.requests().len();
        let scheme = if tls.is_empty() { "http" } else { "https" };
        for kind in
            ["--http1.1", if tls.is_empty() { "--http2-prior-knowledge" } else { "--http2" }]
        {
            let port = balancer.address.port();
            let told = Command::new("curl")
                .args([
                    "-s",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                    "--interface",
                    "127.0.0.7",
                    kind,
                ])
                .args(["--cacert", &ours.authority().display().to_string(), "--max-time", "10"])
                .args(["--resolve", &format!("a.test:{port}:127.0.0.1")])
                .arg(format!("{scheme}://a.test:{port}/"))
                .output()
                .expect("curl is installed");
            assert_eq!(String::from_utf8_lossy(&told.stdout), "200", "{server} {scheme} {kind}");
            assert_eq!(origin.last_fields("x-forwarded-for"), ["127.0.0.7"]);
        }
        assert_eq!(origin.requests().len() - before, 2);
        let log = gate.log(2);
        assert_eq!(
            (&log[0]["client.address"], &log[1]["client.address"]),
            (&"127.0.0.7".into(), &"127.0.0.7".into())
        );
    }
}

#[test]
fn haproxy_says_whose_connections_are_that_are_no_http() {
    let origin = Origin::saying("ok");
    for server in ["send-proxy", "send-proxy-v2"] {
        let passed = config(&origin, "  tcp: {upstream: origin}\n");
        let gate = gate(passed.split("routes:").next().expect("it is there"));
        let balancer = Balancer::start(&gate, server);
        let mut client = Client::connect_from([127, 0, 0, 7], balancer.address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(client.response().status, 200, "{server}");
        drop(client);
        eventually("it has a line", || {
            let log = std::fs::read_to_string(gate.log_path()).unwrap_or_default();
            log.contains("\"client.address\":\"127.0.0.7\"") && log.contains("\"tcp\"")
        });
    }
}

#[test]
fn a_header_is_read_in_any_pieces_and_what_is_none_ends_the_connection() {
    let origin = Origin::saying("ok");
    let gate = gate(&config(&origin, ""));
    let v2 = |command: u8, family: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).expect("it is short").to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, body].concat()
    };
    let addresses = [192, 0, 2, 9, 198, 51, 100, 1, 0, 80, 0, 81];
    let six = [[0x20, 1, 0xd, 0xb8], [0; 4], [0; 4], [0, 0, 0, 9]].concat();
    let six = [&six[..], &six, &[0, 80, 0, 81]].concat();
    let extra = [&addresses[..], &[4, 0, 3, 1, 2, 3]].concat();
    for (header, client) in [
        (b"PROXY TCP4 192.0.2.8 198.51.100.1 5 80\r\n".to_vec(), "192.0.2.8"),
        (b"PROXY TCP6 2001:db8::8 2001:db8::1 5 80\r\n".to_vec(), "2001:db8::8"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(1, 0x11, &addresses), "192.0.2.9"),
        (v2(1, 0x11, &extra), "192.0.2.9"),
        (v2(1, 0x21, &six), "2001:db8::9"),
        (v2(0, 0, &[]), "127.0.0.1"),
    ] {
        assert_eq!(after(&gate, &header), Some(200), "{client}");
        assert_eq!(origin.last_fields("x-forwarded-for"), [client]);
        // Byte by byte.
        let mut client_side = Client::connect_from([127, 0, 0, 1], gate.address());
        for byte in &header {
            client_side.send([*byte]);
            std::thread::sleep(Duration::from_millis(2));
        }
        client_side.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client_side.response().status, 200, "{client}");
        assert_eq!(origin.last_fields("x-forwarded-for"), [client]);
    }
    let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200], b"\r\n".to_vec()].concat();
    let huge = v2(1, 0x11, &[0; 5000]);
    let wrong: [&[u8]; 7] = [
        b"",
        b"PROXY TCP4 192.0.2.8 198.51.100.1 5\r\n",
        b"PROXY TCP4 192.0.2.8 198.51.100.1 5 80\n",
        &long,
        b"\r\n\r\n\0\r\nQUIT\r",
        &v2(1, 0x11, &addresses[..8]),
        &huge,
    ];
    for (place, header) in wrong.iter().enumerate() {
        let before = malformed(&gate);
        assert_eq!(after(&gate, header), None, "{place}");
        eventually("it is counted", || malformed(&gate) == before + 1.0);
    }
    // One that does not come in time.
    let mut silent = TcpStream::connect(gate.address()).expect("it listens");
    let _ = silent.write_all(b"PROXY TC");
    assert_eq!(silent.read(&mut [0; 8]).expect("it is closed"), 0);
    eventually("it is counted", || malformed(&gate) == 8.0);
}

#[test]
fn who_is_not_trusted_says_nothing_and_limits_are_the_clients() {
    let origin = Origin::saying("ok");
    let gate = gate(&config(&origin, "  limits: {connections_per_client: 2}\n"));
    // Others are served as they come, and cannot say who they are.
    let mut other = Client::connect_from([127, 0, 0, 3], gate.address());
    other.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(other.response().status, 200);
    assert_eq!(origin.last_fields("x-forwarded-for"), ["127.0.0.3"]);
    let mut liar = Client::connect_from([127, 0, 0, 3], gate.address());
    liar.send("PROXY TCP4 192.0.2.8 198.51.100.1 5 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(liar.response().status, 400);
    // Of each client behind the balancer two are let in.
    let mut open = Vec::new();
    let mut ask = |client: u8| {
        let mut socket = Client::connect_from([127, 0, 0, 1], gate.address());
        socket.send(format!("PROXY TCP4 192.0.2.{client} 198.51.100.1 5 80\r\n"));
        socket.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let status = socket.try_response(false).ok().map(|answer| answer.status);
        open.push(socket);
        status
    };
    assert_eq!(
        [1, 1, 1, 2, 2, 2].map(&mut ask),
        [Some(200), Some(200), None, Some(200), Some(200), None]
    );
    let refused = "gateway_connections_refused_total{listener=\"public\",reason=\"per_client\"}";
    assert_eq!(gate.metric(refused), 2.0);
}
