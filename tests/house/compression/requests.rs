//! Bodies of requests that are decompressed before the upstream sees them.

use std::sync::{Arc, Mutex};

use gateway_tests::{Gate, Origin, is_alone};

use super::{CODINGS, FLAT, VERSIONS, compressing, curl, gate, piped, resident, text};

/// An origin that keeps the bodies it gets, and answers with the last one.
fn keeping() -> (Origin, Arc<Mutex<Vec<Vec<u8>>>>) {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = bodies.clone();
    let origin = Origin::scripted(move |exchange| {
        let body = exchange.body.clone();
        kept.lock().expect("it lives").push(body.clone());
        let kind = "Content-Type: application/json\r\n";
        exchange.write(super::answer(kind, &body))
    });
    (origin, bodies)
}

/// Posts a body with curl, and returns the status, then what was answered.
fn post(gate: &Gate, fields: &[&str], body: &[u8]) -> (String, String) {
    let file = gate.folder().join("body");
    std::fs::write(&file, body).expect("the disk has room");
    let file = format!("@{}", file.display());
    let mut arguments = vec!["--data-binary", &file, "-w", "\n%{response_code}", "-i"];
    fields.iter().for_each(|field| arguments.extend(["-H", field]));
    let told = String::from_utf8_lossy(&curl(gate, "/", &arguments)).into_owned();
    let (answer, status) = told.rsplit_once('\n').expect("the status is behind it");
    (status.to_owned(), answer.to_owned())
}

#[test]
fn what_programs_have_compressed_reaches_the_upstream_plain() {
    let (origin, bodies) = keeping();
    let gate = compressing(origin.address(), "{request: {}}");
    for ((coding, program), version) in
        CODINGS.iter().flat_map(|one| VERSIONS.map(|two| (one, two)))
    {
        let body = piped(program, &["-c"], text().as_bytes());
        let file = gate.folder().join("coded");
        std::fs::write(&file, &body).expect("the disk has room");
        let file = format!("@{}", file.display());
        let field = format!("Content-Encoding: {coding}");
        let read = curl(&gate, "/", &[version, "--data-binary", &file, "-H", &field]);
        assert!(read == text().as_bytes(), "{coding} {version}");
        assert!(origin.last_fields("content-encoding").is_empty());
        assert!(origin.last_fields("content-length").is_empty(), "it is not known beforehand");
    }
    let twice = piped("zstd", &["-c"], &piped("gzip", &["-c"], text().as_bytes()));
    let (status, _) = post(&gate, &["Content-Encoding: gzip, zstd"], &twice);
    assert_eq!(status, "200");
    assert!(bodies.lock().expect("it lives").iter().all(|body| body == text().as_bytes()));
    // What is not coded keeps its length.
    let (status, _) = post(&gate, &[], b"as it is");
    assert_eq!((status.as_str(), origin.last_fields("content-length")), ("200", vec!["8".into()]));
}

#[test]
fn what_cannot_be_decompressed_is_refused_and_says_what_could_be() {
    let (origin, _) = keeping();
    let gate = compressing(origin.address(), "{request: {codings: [gzip, br]}}");
    let (status, answer) = post(&gate, &["Content-Encoding: zstd"], b"x");
    assert_eq!(status, "415");
    assert!(answer.to_lowercase().contains("accept-encoding: gzip, br\r\n"), "{answer}");
    let (status, answer) = post(&gate, &["Content-Encoding: gzip"], b"no gzip at all");
    assert_eq!(status, "400");
    assert!(answer.contains("it is not coded as it says"), "{answer}");
    let log = gate.log(2);
    assert_eq!([&log[0]["failure"], &log[1]["failure"]], ["P8", "P8"]);
}

#[test]
fn bombs_are_refused_and_memory_stays_flat() {
    if !is_alone() {
        return;
    }
    let (origin, _) = keeping();
    let gate = compressing(origin.address(), "{request: {}}");
    let zeros = vec![0; 256 << 20];
    let bombs = CODINGS.map(|(coding, program)| (coding, piped(program, &["-c"], &zeros)));
    let twice = piped("gzip", &["-c"], &bombs[0].1);
    drop(zeros);
    let before = resident(&gate);
    for _ in 0..3 {
        for (coding, bomb) in &bombs {
            let (status, answer) = post(&gate, &[&format!("Content-Encoding: {coding}")], bomb);
            assert_eq!(status, "413", "{coding}: {answer}");
        }
        let (status, answer) = post(&gate, &["Content-Encoding: gzip, gzip"], &twice);
        assert_eq!(status, "413", "{answer}");
    }
    let grown = resident(&gate) - before;
    assert!(grown < FLAT, "{:.1} MiB more", grown / (1 << 20) as f64);
}

#[test]
fn redaction_sees_plain_bodies_both_ways() {
    const SECRET: &str = "ghp_0123456789abcdefABCDEF";
    let (origin, bodies) = keeping();
    let redaction = "{kind: redaction, options: {surfaces: [request_body, response_body]}}";
    let compression = "{kind: compression, options: {min_size: 0, request: {}}}";
    let plain = format!("{{\"a\": \"{SECRET}\"}}");
    let body = piped("zstd", &["-c"], plain.as_bytes());
    let strict = redaction.replace("}}", ", coded: refuse}}");
    for plugins in [
        format!("{compression}, {redaction}"),
        format!("{redaction}, {compression}"),
        format!("{compression}, {strict}"),
    ] {
        let gate = gate(origin.address(), &plugins);
        let json = "Content-Type: application/json";
        let fields = [json, "Content-Encoding: zstd", "Accept-Encoding: br"];
        let (status, answer) = post(&gate, &fields, &body);
        assert_eq!(status, "200", "{answer}");
        assert!(!answer.contains(SECRET));
    }
    assert_eq!(*bodies.lock().expect("it lives"), [r#"{"a": "***"}"#.as_bytes(); 3]);

    // The answer is compressed behind it, for the client and not for what redaction asks for.
    let gate = gate(origin.address(), &format!("{compression}, {redaction}"));
    let length = plain.len();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAccept-Encoding: br\r\n\
         Content-Length: {length}\r\n\r\n{plain}"
    );
    let answered = gate.exchange(request);
    assert_eq!(answered.header("content-encoding"), Some("br"));
    assert_eq!(piped("brotli", &["-dc"], &answered.body), br#"{"a": "***"}"#);
}

#[test]
fn a_body_that_is_sent_again_is_decompressed_again() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = bodies.clone();
    let origin = Origin::scripted(move |exchange| {
        kept.lock().expect("it lives").push(exchange.body.clone());
        if exchange.number == 1 {
            exchange.reset()
        } else {
            exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        }
    });
    let plugin = "{kind: compression, options: {request: {}}}";
    let config = super::config(origin.address(), plugin);
    let retry = "], retry: {attempts: 2, on: [reset], methods: [POST], backoff: 1ms}}]\nroutes:";
    let gate = Gate::yaml(&config.replace("]}]\nroutes:", retry));

    let body = piped("gzip", &["-c"], text().as_bytes());
    let (status, answer) = post(&gate, &["Content-Encoding: gzip"], &body);

    assert_eq!(status, "200", "{answer}");
    let bodies = bodies.lock().expect("it lives");
    assert_eq!(bodies.len(), 2);
    assert!(bodies.iter().all(|body| body == text().as_bytes()));
}
