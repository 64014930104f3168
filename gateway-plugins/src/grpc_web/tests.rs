//! The plugin without sockets. Frames are written out as the protocol has them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use gateway_core::plugin::testing::{Outcome, PluginTest, TestRequest};

use super::*;

const HELLO: &[u8] = b"\0\0\0\0\x05hello";
const WORLD: &[u8] = b"\0\0\0\0\x05world";
const OK: &[u8] = b"\x80\0\0\0\x0fgrpc-status:0\r\n";

fn plugin() -> PluginTest<GrpcWeb> {
    PluginTest::yaml("{}")
}

/// Answered by a service with these messages, and well.
fn served<'a>(request: TestRequest<'a>, body: &[&[u8]]) -> TestRequest<'a> {
    let answer = request.upstream_header("content-type", "application/grpc+proto");
    answer.upstream_body(body).upstream_trailer("grpc-status", "0")
}

fn types(outcome: &Outcome) -> [Option<String>; 2] {
    [outcome.upstream_saw("content-type"), outcome.header("content-type")]
}

#[tokio::test]
async fn a_call_in_bytes_is_translated() {
    let plugin = plugin();
    let request = plugin
        .post("/a.A/Call")
        .header("content-type", "application/grpc-web+proto")
        .header("content-length", "10")
        .header("te", "gzip")
        .body([HELLO]);

    let outcome = served(request, &[HELLO, WORLD]).send().await;

    let [up, down] = types(&outcome);
    assert_eq!(up.as_deref(), Some("application/grpc+proto"));
    assert_eq!(outcome.upstream_saw_all("te"), ["trailers"]);
    assert_eq!(outcome.upstream_saw("content-length").as_deref(), Some("10"));
    assert_eq!(outcome.upstream_body(), HELLO);
    assert_eq!(down.as_deref(), Some("application/grpc-web+proto"));
    assert_eq!(outcome.body(), [HELLO, WORLD, OK].concat());
}

#[tokio::test]
async fn a_call_in_base64_is_translated_piece_by_piece() {
    let plugin = plugin();
    let text = [BASE64.encode(&HELLO[..4]), BASE64.encode(&HELLO[4..])].concat();
    let pieces = text.as_bytes().chunks(3);
    let request = plugin
        .post("/a.A/Call")
        .header("content-type", "application/grpc-web-text+json")
        .header("content-length", &text.len().to_string())
        .body(pieces);
    let request = request.upstream_header("content-type", "application/grpc+json");

    let answer = request.upstream_body([HELLO, WORLD]).upstream_trailer("grpc-status", "0");
    let outcome = answer.send().await;

    let [up, down] = types(&outcome);
    assert_eq!(up.as_deref(), Some("application/grpc+json"));
    assert_eq!(outcome.upstream_saw("content-length"), None, "it is another");
    assert_eq!(outcome.upstream_body(), HELLO);
    assert_eq!(down.as_deref(), Some("application/grpc-web-text+json"));
    let expected = [HELLO, WORLD, OK].map(|part| BASE64.encode(part)).concat();
    assert_eq!(outcome.body(), expected.as_bytes());
}

#[tokio::test]
async fn answers_are_written_as_accept_says() {
    let plugin = plugin();
    for (kind, accept, expected) in [
        ("application/grpc-web", "application/grpc-web-text", BASE64.encode(OK).into_bytes()),
        ("application/grpc-web-text", "application/grpc-web", OK.to_vec()),
    ] {
        let request = plugin.post("/").header("content-type", kind).header("accept", accept);
        let outcome = served(request, &[]).send().await;
        assert_eq!(outcome.body(), expected, "{kind}");
    }
}

#[tokio::test]
async fn what_is_no_base64_is_refused() {
    let plugin = plugin();
    for body in ["no base64!", "AAA", "AA=A"] {
        let request = plugin.post("/").header("content-type", "application/grpc-web-text");

        let outcome = request.body([body]).send().await;

        assert_eq!((outcome.status(), outcome.failure()), (400, Some(FailureCode::P8)), "{body}");
        let said = String::from_utf8_lossy(outcome.body()).into_owned();
        assert!(said.contains("the body is not base64"), "{said}");
    }
}

#[tokio::test]
async fn a_status_in_the_head_stays_there() {
    let plugin = plugin();
    let request = plugin.post("/").header("content-type", "application/grpc-web");
    let request = request.upstream_header("content-type", "application/grpc");

    let outcome = request.upstream_header("grpc-status", "5").send().await;

    assert_eq!(outcome.header("content-type").as_deref(), Some("application/grpc-web"));
    assert_eq!(outcome.header("grpc-status").as_deref(), Some("5"));
    assert_eq!(outcome.body(), b"");
}

#[tokio::test]
async fn an_answer_without_a_status_gets_one_unless_it_ends_amid_a_message() {
    let plugin = plugin();
    let answered = |body: &'static [u8]| {
        let request = plugin.post("/").header("content-type", "application/grpc-web");
        request.upstream_header("content-type", "application/grpc").upstream_body([body])
    };

    let whole = answered(HELLO).send().await;
    let part = answered(&HELLO[..7]).upstream_trailer("grpc-status", "0").send().await;

    let said = whole.body().strip_prefix(HELLO).expect("the message comes first");
    assert_eq!(&said[..5], [0x80, 0, 0, 0, u8::try_from(said.len() - 5).unwrap()]);
    assert_eq!(&said[5..], b"grpc-status:2\r\ngrpc-message:the answer ended without a status\r\n");
    assert_eq!(part.body(), &HELLO[..7], "more would be taken for the message");
}

#[tokio::test]
async fn all_else_is_left_alone() {
    let plugin = plugin();
    for kind in ["application/grpc", "application/json", "application/grpc-websocket", ""] {
        let request = plugin.post("/").header("content-type", kind).header("content-length", "10");

        let outcome = served(request.body([HELLO]), &[WORLD]).send().await;

        assert_eq!(types(&outcome), [kind, "application/grpc+proto"].map(|kind| Some(kind.into())));
        assert_eq!(outcome.upstream_saw("te"), None, "{kind}");
        assert_eq!(outcome.upstream_saw("content-length").as_deref(), Some("10"), "{kind}");
        assert_eq!((outcome.upstream_body(), outcome.body()), (HELLO, WORLD), "{kind}");
    }
    let request = plugin.get("/").header("content-type", "application/grpc-web");
    let outcome = served(request, &[WORLD]).send().await;
    assert_eq!(outcome.body(), WORLD, "no call is a GET");
    let request = plugin.post("/").header("content-type", "application/grpc-web");
    let answer = request.upstream_status(503).upstream_header("content-type", "text/html");
    let outcome = answer.upstream_body(["down"]).send().await;
    assert_eq!((outcome.status(), outcome.body()), (503, b"down".as_slice()));
}

#[test]
fn it_has_no_options() {
    let faults = PluginTest::<GrpcWeb>::faults("{text: true}");

    assert!(faults[0].contains("text"), "{faults:?}");
}
