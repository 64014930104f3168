//! HTTP/1 by the letter: what RFC 9110 and RFC 9112 ask of a proxy, in both directions.

mod bodies;
mod connections;
mod fields;
mod framing;
mod responses;
mod targets;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use gateway_tests::{Client, Gate, Origin, Response};

const PATIENCE: Duration = Duration::from_secs(10);

/// An origin that answers with the request's body, and a gateway before it.
fn echo_house() -> (Origin, Gate) {
    let origin = echoing();
    let gate = Gate::proxying(origin.address(), "");
    (origin, gate)
}

fn echoing() -> Origin {
    Origin::scripted(|exchange| {
        let body = exchange.body.clone();
        exchange.write(with_length(&body))
    })
}

/// An origin that answers with the request's target.
fn naming_targets() -> Origin {
    Origin::scripted(|exchange| {
        let target = exchange.head.split(' ').nth(1).unwrap_or_default().to_owned();
        exchange.write(with_length(target.as_bytes()))
    })
}

/// A 200 with this body and its length.
fn with_length(body: &[u8]) -> Vec<u8> {
    let mut response =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    response
}

/// A GET request for `/` with these further lines, each ended by CRLF.
fn get_with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: test.example\r\n{lines}\r\n")
}

/// An origin whose script has each connection to itself, from its first byte.
fn raw_origin(
    script: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Where the script fails the connection ends, and the test sees it.
            let _ = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| script(&mut stream));
        }
    });
    address
}

/// Reads byte by byte until these bytes have come, and returns all that came.
fn read_until(stream: &mut TcpStream, end: &[u8]) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(end) {
        stream.read_exact(&mut byte)?;
        read.push(byte[0]);
    }
    Ok(read)
}

/// Answers on a raw origin's connection.
fn answer(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)
}

/// The request gets one answer with one of these statuses, the connection closes after it without
/// having served what follows, and no origin has seen anything of it.
#[track_caller]
fn assert_refused(gate: &Gate, origin: &Origin, request: impl AsRef<[u8]>, statuses: &[u16]) {
    let shown = String::from_utf8_lossy(request.as_ref()).into_owned();
    let mut client = gate.client();
    client.send(request);

    let response = client.response();

    assert!(statuses.contains(&response.status), "{} for {shown:?}", response.status);
    assert!(says_close(&response), "{shown:?} is refused without `Connection: close`");
    assert!(client.is_closed(), "the connection goes on after {shown:?}");
    assert_eq!(origin.requests(), Vec::<String>::new(), "{shown:?} reached the origin");
}

/// Whether the connection is announced to close after this response.
fn says_close(response: &Response) -> bool {
    let options = response.headers_of("connection").join(",").to_ascii_lowercase();
    let listed = |wanted: &str| options.split(',').any(|option| option.trim() == wanted);
    listed("close") || response.version == "HTTP/1.0" && !listed("keep-alive")
}

/// What the response says of the connection is what becomes of it.
#[track_caller]
fn assert_truthful(client: &mut Client, response: &Response) {
    if says_close(response) {
        assert!(client.is_closed(), "a connection goes on that was said to close: {response:?}");
        return;
    }
    client.send(get_with(""));
    let next = client.try_response(false);
    assert!(next.is_ok(), "a connection was said to go on and does not ({next:?}): {response:?}");
}
