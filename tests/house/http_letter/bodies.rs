//! Bodies of all sizes, in both directions, without a byte lost.

use gateway_tests::{Gate, Origin};

use super::echo_house;

const LIMITED: &str = r#"
version: 1
server: {workers: 1}
listeners:
  - {name: public, address: "127.0.0.1:0", limits: {body_bytes: 1KiB}, timeouts: {body_read: 500ms}}
routes: [{name: all, match: {path: /}, reply: {status: 403, body: "no"}}]
"#;

/// So many bytes of which no two parts are alike.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The body in chunks of so many bytes.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + body.len() / 8);
    for chunk in body.chunks(size) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

#[test]
fn bodies_with_a_length_arrive_whole_in_both_directions() {
    let (_origin, gate) = echo_house();
    let mut client = gate.client();

    for length in [0, 1, 65_535, 65_536, 65_537, 200_000, 3 << 20] {
        let body = noise(length);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        client.send(&body);

        let response = client.response();

        assert_eq!(response.status, 200);
        assert!(response.body == body, "a body of {length} bytes was changed");
    }
}

#[test]
fn bodies_in_chunks_arrive_whole() {
    let (_origin, gate) = echo_house();
    let mut client = gate.client();

    for (length, size) in [(1000, 1), (100_000, 1000), (100_000, 70_000), (3 << 20, 16_384)] {
        let body = noise(length);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunked(&body, size));

        let response = client.response();

        assert_eq!(response.status, 200);
        assert!(response.body == body, "{length} bytes in chunks of {size} were changed");
    }
}

#[test]
fn responses_in_chunks_arrive_whole() {
    let body = noise(2 << 20);
    for size in [100, 16_384, 1 << 20] {
        let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        response.extend(chunked(&body, size));
        let origin = Origin::answering(response);
        let gate = Gate::proxying(origin.address(), "");

        assert!(gate.get("/").body == body, "chunks of {size} bytes were changed");
    }
}

#[test]
fn responses_that_end_with_the_connection_arrive_whole() {
    let body = noise(2 << 20);
    let mut response = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    response.extend(&body);
    let origin = Origin::scripted(move |exchange| {
        exchange.write(&response)?;
        exchange.close()
    });
    let gate = Gate::proxying(origin.address(), "");

    assert!(gate.get("/").body == body);
    assert!(gate.exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n").body == body);
}

#[test]
fn a_refusal_can_be_read_by_a_client_that_is_still_sending() {
    let gate = Gate::yaml(LIMITED);

    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 500000\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: other\r\nContent-Length: 500000\r\n\r\n",
        "POST /\\ HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n",
        "POST /a b HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX-A : b\r\nContent-Length: 500000\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 500000\r\n\r\n",
    ] {
        let mut client = gate.client();
        client.send(request);
        // A reset would fail this, or take the answer out of the client's hands.
        let sent = client.try_send(noise(500_000));
        let response = client.try_response(false);

        assert!(sent.is_ok(), "{sent:?} after {request:?}");
        let status = response.map(|response| response.status);
        assert!(status.as_ref().is_ok_and(|status| *status >= 400), "{status:?} to {request:?}");
    }
}
