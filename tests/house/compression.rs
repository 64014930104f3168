//! Bodies compressed and decompressed on their way through a whole gateway, by programs of other makes at both ends.

mod requests;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use gateway_core::Gateway;
use gateway_tests::{Gate, Origin, Program, is_alone};

use crate::nginx::Nginx;

/// The name of a coding, and the program that undoes it.
const CODINGS: [(&str, &str); 3] = [("gzip", "gzip"), ("br", "brotli"), ("zstd", "zstd")];
const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];
/// So much more may be resident than before, whatever passes: states of coders, and what the allocator keeps.
const FLAT: f64 = (48 << 20) as f64;

fn config(origin: impl std::fmt::Display, plugins: &str) -> String {
    format!(
        "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\nplugins: [{plugins}]\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{origin}\"]}}]\n\
         routes:\n\
         - {{name: own, match: {{path: /own}}, reply: {{headers: {{Content-Type: text/plain}}, body: \"{}\"}}}}\n\
         - {{name: all, match: {{path: /}}, upstream: origin}}\n",
        "own ".repeat(1000)
    )
}

fn gate(origin: impl std::fmt::Display, plugins: &str) -> Gate {
    let builder = Gateway::builder().plugins(gateway_plugins::all());
    Gate::with(builder, &config(origin, plugins))
}

fn compressing(origin: impl std::fmt::Display, options: &str) -> Gate {
    gate(origin, &format!("{{kind: compression, options: {options}}}"))
}

fn text() -> String {
    (0..2000).map(|line| format!("line {line} of a text\n")).collect()
}

fn answer(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// What a program makes of its input.
#[track_caller]
fn piped(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is installed: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("it lives").expect("it reads");
    assert!(output.status.success(), "{program} {arguments:?}: {}", output.status);
    output.stdout
}

#[track_caller]
fn curl(gate: &Gate, path: &str, arguments: &[&str]) -> Vec<u8> {
    let url = format!("http://{}{path}", gate.address());
    piped("curl", &[&["-sS", "--max-time", "60"], arguments, &[&url]].concat(), &[])
}

fn resident(gate: &Gate) -> f64 {
    gate.metric("process_resident_memory_bytes")
}

#[test]
fn curl_and_the_programs_of_each_coding_read_what_is_compressed() {
    let origin = Origin::answering(answer(
        "Content-Type: text/html; charset=utf-8\r\nETag: \"1\"\r\nAccept-Ranges: bytes\r\n",
        text().as_bytes(),
    ));
    let gate = compressing(origin.address(), "{}");
    for ((coding, program), version) in
        CODINGS.iter().flat_map(|one| VERSIONS.map(|two| (one, two)))
    {
        let accept = format!("Accept-Encoding: {coding}");
        let read = curl(&gate, "/", &[version, "--compressed", "-H", &accept]);
        assert!(read == text().as_bytes(), "{coding} {version}");
        let coded = curl(&gate, "/", &[version, "-H", &accept]);
        assert!(coded.len() < text().len() / 3, "{coding}: {}", coded.len());
        assert!(piped(program, &["-dc"], &coded) == text().as_bytes(), "{program}");
        let head = curl(&gate, "/", &[version, "-H", &accept, "-o", "/dev/null", "-D", "-"]);
        let head = String::from_utf8_lossy(&head).to_lowercase();
        assert!(head.contains(&format!("content-encoding: {coding}\r\n")), "{head}");
        assert!(head.contains("etag: w/\"1\"\r\n"), "{head}");
        assert!(head.contains("vary: accept-encoding\r\n"), "{head}");
        assert!(!head.contains("content-length") && !head.contains("accept-ranges"), "{head}");
    }
    // All that curl knows, and nothing.
    assert!(curl(&gate, "/", &["--compressed"]) == text().as_bytes());
    assert!(curl(&gate, "/", &[]) == text().as_bytes());
    let plain =
        gate.metric(r#"gateway_compression_bytes_total{form="plain",plugin="compression"}"#);
    let coded =
        gate.metric(r#"gateway_compression_bytes_total{form="coded",plugin="compression"}"#);
    assert_eq!(plain, (19 * text().len()) as f64);
    assert!(coded < plain / 3.0, "{coded} of {plain}");
}

#[test]
fn what_is_not_compressed_keeps_its_length_and_head_says_what_get_would() {
    let origin = Origin::scripted(|exchange| {
        let kind = if exchange.head.contains("/image") { "image/png" } else { "text/plain" };
        let answer = answer(&format!("Content-Type: {kind}\r\n"), text().as_bytes());
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("it has a head");
        let is_head = exchange.head.starts_with("HEAD");
        exchange.write(if is_head { &answer[..end + 4] } else { &answer })
    });
    let gate = compressing(origin.address(), "{codings: [gzip]}");
    let mut client = gate.client();
    let length = text().len().to_string();
    for (path, accept, coding) in
        [("/image", "gzip", None), ("/", "br", None), ("/", "gzip", Some("gzip"))]
    {
        let fields = format!("{path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accept}\r\n\r\n");
        let got = client.send(format!("GET {fields}")).response();
        let head = client.send(format!("HEAD {fields}")).response_to_head();
        for answer in [&got, &head] {
            assert_eq!(answer.header("content-encoding"), coding, "{path} {accept}");
            let announced = coding.is_none().then_some(length.as_str());
            assert_eq!(answer.header("content-length"), announced, "{path} {accept}");
            let varies = (path == "/").then_some("Accept-Encoding");
            assert_eq!(answer.header("vary"), varies, "{path} {accept}");
        }
    }
    // The gateway's own answers are whole before they are sent, so that their length is known.
    let fields = "/own HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    let got = client.send(format!("GET {fields}")).response();
    let head = client.send(format!("HEAD {fields}")).response_to_head();
    assert_eq!(piped("gzip", &["-dc"], &got.body), "own ".repeat(1000).as_bytes());
    assert_eq!(got.header("content-length"), Some(got.body.len().to_string().as_str()));
    assert_eq!(got.header("content-length"), head.header("content-length"));
    // Short ones are not worth it.
    let missing = "GET /none HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    let _ = client.send(missing).response();
    let old = "GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    let old = gate.client().send(old).response();
    assert_eq!(old.header("transfer-encoding"), None, "it knows no chunks");
    assert!(piped("gzip", &["-dc"], &old.body) == text().as_bytes());
}

/// curl, reading a stream of events.
struct Reader {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Reader {
    fn start(gate: &Gate, arguments: &[&str]) -> Self {
        let mut child = Command::new("curl")
            .args(["-sSN", "--max-time", "30", "--compressed"])
            .args(arguments)
            .arg(format!("http://{}/", gate.address()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl is installed");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it can be read");
        line
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn events_arrive_while_their_stream_is_open() {
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = Mutex::new(receiver);
    let origin = Origin::scripted(move |exchange| {
        exchange.write(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        for event in 0..3 {
            let event = format!("data: {event}\n");
            exchange.write(format!("{:x}\r\n{event}\r\n", event.len()))?;
            // The next one comes when this one was seen.
            let seen = receiver.lock().expect("it lives").recv_timeout(Duration::from_secs(20));
            seen.map_err(std::io::Error::other)?;
        }
        exchange.write("0\r\n\r\n")
    });
    let gate = compressing(origin.address(), "{}");
    for ((coding, _), version) in CODINGS.iter().flat_map(|one| VERSIONS.map(|two| (one, two))) {
        let accept = format!("Accept-Encoding: {coding}");
        let mut reader = Reader::start(&gate, &[version, "-H", &accept]);
        for event in 0..3 {
            assert_eq!(reader.line(), format!("data: {event}\n"), "{coding} {version}");
            sender.send(()).expect("the origin waits");
        }
        assert_eq!(reader.line(), "", "{coding} {version}");
        assert!(reader.child.wait().expect("it ends").success());
    }
    let coded =
        gate.metric(r#"gateway_compression_bytes_total{form="coded",plugin="compression"}"#);
    assert!(coded > 0.0, "they were compressed");
}

#[test]
fn memory_stays_flat_while_a_large_body_is_compressed() {
    if !is_alone() {
        return;
    }
    const MIB: usize = 64;
    let piece: Arc<Vec<u8>> =
        Arc::new(text().into_bytes().into_iter().cycle().take(1 << 20).collect());
    let origin = Origin::scripted(move |exchange| {
        exchange.write(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        for _ in 0..MIB {
            exchange.write(format!("{:x}\r\n", piece.len()))?;
            exchange.write(&*piece)?;
            exchange.write("\r\n")?;
        }
        exchange.write("0\r\n\r\n")
    });
    let gate = compressing(origin.address(), "{window: 8MiB}");
    let before = resident(&gate);
    for ((coding, _), version) in CODINGS.iter().flat_map(|one| VERSIONS.map(|two| (one, two))) {
        let accept = format!("Accept-Encoding: {coding}");
        let told = ["-o", "/dev/null", "-w", "%{size_download}"];
        let coded = curl(&gate, "/", &[&told[..], &[version, "-H", &accept]].concat());
        let coded: usize = String::from_utf8_lossy(&coded).parse().expect("it is a number");
        assert!(coded < (MIB << 20) / 3, "{coding}: {coded}");
        let grown = resident(&gate) - before;
        assert!(grown < FLAT, "{coding} {version}: {:.1} MiB more", grown / (1 << 20) as f64);
    }
}

#[test]
fn what_nginx_has_compressed_is_left_and_what_it_has_not_is_compressed() {
    let nginx = Nginx::start(
        "gzip on; gzip_proxied any; gzip_min_length 100; gzip_types text/plain; gzip_vary on;",
        &[("a.txt", text().as_bytes()), ("a.css", text().as_bytes())],
    );
    let gate = compressing(nginx.address(), "{}");
    let offload = compressing(nginx.address(), "{offload: true}");
    for (gate, path, accept, coding, vary) in [
        (&gate, "/a.txt", "gzip, zstd", "gzip", 1),
        (&gate, "/a.css", "gzip, zstd", "zstd", 1),
        (&gate, "/a.txt", "zstd", "zstd", 1),
        (&offload, "/a.txt", "gzip, zstd", "zstd", 1),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accept}\r\n\r\n");
        let got = gate.exchange(&request);
        assert_eq!(got.headers_of("content-encoding"), [coding], "{path} {accept}");
        assert_eq!(got.headers_of("vary").len(), vary, "{path} {accept}: {:?}", got.headers);
        let accept = format!("Accept-Encoding: {accept}");
        let read = curl(gate, path, &["--compressed", "-H", &accept]);
        assert!(read == text().as_bytes(), "{path} {accept}");
        // What it says is the tag is confirmed by nginx, in the same form.
        let tag = got.header("etag").expect("nginx tags files").to_owned();
        assert!(tag.starts_with("W/\""), "{tag}");
        let again = request.replace("\r\n\r\n", &format!("\r\nIf-None-Match: {tag}\r\n\r\n"));
        let held = gate.exchange(again);
        assert_eq!((held.status, held.header("etag")), (304, Some(tag.as_str())), "{path}");
    }
    // A part of a file is one of the file as it is.
    let part =
        "GET /a.css HTTP/1.1\r\nHost: a\r\nAccept-Encoding: zstd\r\nRange: bytes=5-9\r\n\r\n";
    let part = gate.exchange(part);
    assert_eq!((part.status, part.text()), (206, text()[5..10].to_owned()));
    assert_eq!(part.header("content-length"), Some("5"));
    assert_eq!(part.header("content-encoding"), None);
}

#[test]
fn calls_of_grpc_pass_untouched() {
    let mut peer = Program::start("grpc_peer.py", &[]);
    let config = format!(
        "version: 1\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         plugins: [{{kind: compression, options: {{types: ['*'], min_size: 0, request: {{}}}}}}]\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams: [{{name: origin, endpoints: [\"{}\"], protocol: http2}}]\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        peer.address()
    );
    let gate = Gate::with(Gateway::builder().plugins(gateway_plugins::all()), &config);
    assert_eq!(peer.tell(&format!("all {}", gate.address())).trim(), "ok");
    assert_eq!(gate.total("gateway_compression_bytes_total"), 0.0);
}
