//! The plugin without sockets. Frames are written out as the protocol has them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use gateway_core::plugin::testing::{Outcome, PluginTest};

use super::*;

const SHORT: &[u8] = b"\0\0\0\0\x05hello";
/// Nobody sends as much as this announces.
const LONG: &[u8] = b"\0\x7f\xff\xff\xffhello";

fn plugin(options: &str) -> PluginTest<GrpcMessageLimit> {
    PluginTest::yaml(options)
}

/// Sends a body in pieces of this size.
async fn sent(kind: &str, body: &[u8], size: usize) -> Outcome {
    let plugin = plugin("{request: 5}");
    plugin.post("/").header("content-type", kind).body(body.chunks(size)).send().await
}

async fn answered(kind: &str, body: &[u8], size: usize) -> Outcome {
    let plugin = plugin("{response: 5}");
    let answer = plugin.post("/").upstream_header("content-type", kind);
    let answer = answer.upstream_body(body.chunks(size)).upstream_trailer("grpc-status", "0");
    answer.send().await
}

#[tokio::test]
async fn messages_up_to_the_limit_pass_however_many_they_are() {
    let many = SHORT.repeat(30);
    for kind in ["application/grpc", "application/grpc-web+proto", "application/grpc-web-text"] {
        let many =
            if kind.ends_with("text") { BASE64.encode(&many).into_bytes() } else { many.clone() };
        for size in [1, 3, 7, 1000] {
            let up = sent(kind, &many, size).await;
            let down = answered(kind, &many, size).await;
            assert_eq!((up.status(), up.upstream_body()), (200, &*many), "{kind} {size}");
            assert!(down.ended_with().is_none() && down.body() == many, "{kind} {size}");
        }
    }
}

#[tokio::test]
async fn nothing_of_a_message_goes_up_that_is_too_long() {
    let body = [SHORT, LONG].concat();
    for size in 1..=body.len() {
        let outcome = sent("application/grpc", &body, size).await;

        assert_eq!((outcome.status(), outcome.failure()), (413, Some(FailureCode::P8)), "{size}");
        let said = String::from_utf8_lossy(outcome.body()).into_owned();
        assert!(said.contains("received message larger than max (2147483647 vs. 5)"), "{said}");
        assert!(SHORT.starts_with(outcome.upstream_body()), "{size}");
    }
}

#[tokio::test]
async fn an_answer_ends_before_a_message_that_is_too_long() {
    let body = [SHORT, LONG].concat();
    for size in 1..=body.len() {
        let outcome = answered("application/grpc", &body, size).await;

        let reply = outcome.ended_with().expect("it was ended");
        assert_eq!(outcome.body(), SHORT, "{size}");
        assert_eq!(reply.grpc, Some(GrpcStatus::ResourceExhausted));
        let said = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(said.contains("sent message larger than max (2147483647 vs. 5)"), "{said}");
    }
}

#[tokio::test]
async fn base64_is_looked_into() {
    let text = [SHORT, LONG].map(|part| BASE64.encode(part)).concat();
    for size in 1..=text.len() {
        let up = sent("application/grpc-web-text", text.as_bytes(), size).await;
        let down = answered("application/grpc-web-text", text.as_bytes(), size).await;

        assert_eq!(up.status(), 413, "{size}");
        assert!(down.ended_with().is_some(), "{size}");
    }
    let whole = answered("application/grpc-web-text", text.as_bytes(), text.len()).await;
    assert_eq!(whole.body(), BASE64.encode(SHORT).as_bytes());
    let wrong = sent("application/grpc-web-text", b"no base64", 4).await;
    assert_eq!((wrong.status(), wrong.failure()), (400, Some(FailureCode::P8)));
    let wrong = answered("application/grpc-web-text", b"no base64", 4).await;
    assert_eq!(wrong.failure(), Some(FailureCode::P11));
}

#[tokio::test]
async fn what_is_no_call_is_left_alone() {
    let up = sent("application/octet-stream", LONG, 4).await;
    let down = answered("application/json", LONG, 4).await;

    assert_eq!((up.status(), up.upstream_body()), (200, LONG));
    assert_eq!(down.body(), LONG);
}

#[tokio::test]
async fn each_way_has_a_limit_of_its_own() {
    let plugin = plugin("{request: 4}");
    let request = plugin.post("/").header("content-type", "application/grpc").body([&SHORT[..0]]);
    let request = request.upstream_header("content-type", "application/grpc");

    let outcome = request.upstream_body([LONG]).send().await;

    assert_eq!(outcome.body(), LONG);
    let faults = PluginTest::<GrpcMessageLimit>::faults("{}");
    assert_eq!(faults, ["plugins[0].options: set `request`, `response`, or both"]);
}
