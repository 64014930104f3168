use std::io::Write;

use gateway_core::plugin::testing::{Outcome, PluginTest};

use super::*;

const BODIES: &str = "{surfaces: [request_body, response_body]}";

/// Forty kinds of secrets, each as it would stand in a text.
const PLANTED: [&str; 40] = [
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlX29mX2l0",
    "eyJ0eXAiOiJKV1QifQxx.eyJzdWIiOiIyIn0",
    "-----BEGIN RSA PRIVATE KEY-----MIIEow5678-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----MIIEvQ1234-----END PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----b3BlbnNz-----END OPENSSH PRIVATE KEY-----",
    "ghp_0123456789abcdefABCDEF",
    "gho_0123456789abcdefABCDEF",
    "ghu_0123456789abcdefABCDEF",
    "ghs_0123456789abcdefABCDEF",
    "ghr_0123456789abcdefABCDEF",
    "github_pat_11ABCDEFG0123456789_x",
    "glpat-abcdefghij0123456789",
    "xoxa-2-abcdefghij",
    "xoxb-123456789012-abcdef",
    "xoxp-123456789012-abcdef",
    "xoxr-123456789012-abcdef",
    "xapp-1-A0123-456-abcdef",
    "sk_live_0123456789abcdef",
    "sk_test_0123456789abcdef",
    "rk_live_0123456789abcdef",
    "whsec_0123456789abcdefgh",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "AIzaSyA-0123456789abcdefghijklmnopq",
    "ya29.a0AfH6SMBx0123456789abc",
    concat!("sk-", "ant-api03-0123456789abcdefgh"),
    "sk-proj-0123456789abcdefghij",
    "npm_0123456789abcdefghijABCDEFGHIJ",
    "pypi-AgEIcHlwaS5vcmcCJDAxMjM0NTY3ODlhYmNkZWZnaGlq",
    "hvs.CAESIJ0123456789abcdef",
    "dop_v1_0123456789abcdef0123456789abcdef",
    "shpat_0123456789abcdef01",
    "SG.0123456789abcdefghij.x",
    "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQ",
    "ada.lovelace+x@mail.example.com",
    "4111 1111 1111 1111",
    "5500-0000-0000-0004",
    "378282246310005",
    "DE89 3704 0044 0532 0130 00",
    "GB29NWBK60161331926819",
];

async fn answered(test: &PluginTest<Redaction>, kind: &str, chunks: &[&str]) -> Outcome {
    let request = test.get("/").upstream_header("content-type", kind);
    request.upstream_body(chunks.iter().copied()).send().await
}

async fn sent(test: &PluginTest<Redaction>, kind: &str, chunks: &[&str]) -> Outcome {
    test.post("/").header("content-type", kind).body(chunks.iter().copied()).send().await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Rules as a plugin has them.
fn rules(options: &str) -> Rules {
    let config: options::Config = serde_yaml::from_str(options).unwrap();
    let plugin = PluginTest::<Redaction>::yaml(options);
    drop(plugin);
    config.rules_for_tests()
}

/// A text in every way that it can be cut into two, and byte by byte.
fn every_cut(text: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut cuts: Vec<Vec<&[u8]>> =
        (0..=text.len()).map(|at| vec![&text[..at], &text[at..]]).collect();
    cuts.push(text.chunks(1).collect());
    cuts
}

fn pushed(rules: &Rules, kind: &str, chunks: &[&[u8]]) -> Result<String, Unreadable> {
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", kind.parse().unwrap());
    let mut body = Body::of(&headers, true)?.expect("it is read");
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&body.push(rules, chunk, false)?);
    }
    out.extend_from_slice(&body.push(rules, &[], true)?);
    Ok(text(&out))
}

#[test]
fn no_planted_secret_passes_wherever_it_stands_and_however_the_body_is_cut() {
    let rules = rules(BODIES);
    for secret in PLANTED {
        let quoted = serde_json::to_string(secret).unwrap();
        let inside = &quoted[1..quoted.len() - 1];
        let unicode: String = secret.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
        for (kind, body) in [
            ("application/json", format!("{{\"a\": \"{inside}\", \"b\": [1, \"x\"]}}")),
            ("application/json", format!("[[\"say {inside} now\"], {{\"b\": null}}]")),
            ("application/json", format!("{{\"{inside}\": 1}}")),
            ("application/json", format!("\"{unicode}\"")),
            ("application/x-ndjson", format!("{{\"a\": 1}}\n{{\"b\": \"{inside}\"}}\n")),
            ("text/plain", format!("first\nit is {secret} here\nlast")),
            ("text/plain; charset=UTF-8", secret.to_owned()),
        ] {
            for chunks in every_cut(body.as_bytes()) {
                let clean = pushed(&rules, kind, &chunks).unwrap();
                let shown = clean.replace("\\u", "");
                assert!(!clean.contains(secret) && !clean.contains(inside), "{body}: {clean}");
                assert!(!clean.contains(&unicode) && clean.contains("***"), "{body}: {shown}");
                if kind == "application/json" {
                    let clean: serde_json::Value = serde_json::from_str(&clean).unwrap();
                    let before: serde_json::Value = serde_json::from_str(&body).unwrap();
                    assert_eq!(clean.is_object(), before.is_object());
                    assert_eq!(clean.get("b"), before.get("b"), "the rest is as it was");
                }
            }
        }
        let form = format!("a=1&b={}&c=2", secret.replace('+', "%2B").replace(' ', "+"));
        let encoded: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for body in [form, format!("a=1&b={encoded}&c=2"), format!("a=1&{encoded}=b&c=2")] {
            for chunks in every_cut(body.as_bytes()) {
                let clean = pushed(&rules, "application/x-www-form-urlencoded", &chunks).unwrap();
                assert!(clean.starts_with("a=1&") && clean.ends_with("&c=2"), "{body}: {clean}");
                assert!(clean.contains("***") && !clean.contains(&encoded), "{body}: {clean}");
            }
        }
    }
}

#[test]
fn what_has_no_secret_passes_byte_by_byte() {
    let rules = rules(BODIES);
    for (kind, body) in [
        (
            "application/json",
            r#" { "a" : [ 1 , -2.5e3, true,null ] , "b":{}, "c":[],"d":"é\n\u0041\"x" } "#,
        ),
        ("application/json", "{}"),
        ("application/json", "[[[[]]]]"),
        ("application/json", "12"),
        ("application/json", ""),
        ("application/problem+json", r#"{"order": 4111111111111112, "at": "10.0.0.1:80"}"#),
        ("text/plain", "a line\n\nand another é, 1234 5678\n"),
        ("text/html", "<p>hello</p>"),
        ("application/x-www-form-urlencoded", "a=1&b=x+y&c=%C3%A9&d"),
    ] {
        for chunks in every_cut(body.as_bytes()) {
            assert_eq!(pushed(&rules, kind, &chunks).unwrap(), body, "{kind}");
        }
    }
}

#[test]
fn names_and_paths_have_the_actions_that_they_are_given() {
    let rules = rules(
        "{surfaces: [request_body], hash_key: thirty-two bytes, no less than that, \
         keys: [{names: [ssn, Tax_ID], action: remove}, {names: [phone], action: {keep_last: 4}}, \
         {paths: [a.*.iban, $.list.pin], action: hash}]}"
            .replace("thirty-two bytes, no less than that", "'thirty-two bytes, no less than that'")
            .as_str(),
    );
    let cases = [
        (r#"{"ssn": 1}"#, "{}"),
        (r#"{"ssn": 1, "b": 2}"#, r#"{ "b": 2}"#),
        (r#"{"b": 2, "taxId": {"x": [1, "}"]}}"#, r#"{"b": 2}"#),
        (r#"{"b": 2, "TAX-ID": [1], "c": 3, "ssn": "x"}"#, r#"{"b": 2, "c": 3}"#),
        (r#"{"ssn": 1, "s\u0073n": 2, "c": [{"ssn": 3}, {"d": 4}]}"#, r#"{ "c": [{}, {"d": 4}]}"#),
        (r#"{"phone": "+49 30 123456"}"#, r#"{"phone": "***3456"}"#),
        (r#"{"phone": 12}"#, r#"{"phone": "***"}"#),
        (r#"{"phone": null, "password": null}"#, r#"{"phone": null, "password": null}"#),
        (
            r#"{"password": "a", "n": {"api_key": 7, "x": 1}}"#,
            r#"{"password": "***", "n": {"api_key": "***", "x": 1}}"#,
        ),
        (r#"{"secret": {"deep": ["x", {"y": "}"}]}, "z": 1}"#, r#"{"secret": "***", "z": 1}"#),
        (r#"{"password": ""}"#, r#"{"password": ""}"#),
        (r#"{"n": 4111111111111111}"#, r#"{"n": "***"}"#),
    ];
    for (body, expected) in cases {
        for chunks in every_cut(body.as_bytes()) {
            assert_eq!(pushed(&rules, "application/json", &chunks).unwrap(), expected, "{body}");
        }
    }
    let hashed = |body: &str| pushed(&rules, "application/json", &[body.as_bytes()]).unwrap();
    let one =
        hashed(r#"{"a": {"b": {"iban": "x"}, "iban": "x"}, "iban": "x", "list": [{"pin": "x"}]}"#);
    assert_eq!(one.matches("hmac:").count(), 2, "{one}");
    assert_eq!(one.matches(r#""iban": "x""#).count(), 2, "{one}");
    let hash = |body: &str| hashed(body).split("hmac:").nth(1).unwrap()[..32].to_owned();
    let of = |pin: &str| hash(&format!(r#"{{"list": {{"pin": "{pin}"}}}}"#));
    assert!(of("1") == of("1") && of("1") != of("2"));
}

#[test]
fn what_is_not_what_it_says_does_not_pass() {
    let rules = rules(BODIES);
    let refused = |kind: &str, body: &[u8]| {
        every_cut(body).iter().all(|chunks| pushed(&rules, kind, chunks).is_err())
    };
    for body in [
        "{",
        "}",
        "[1",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\" 1}",
        "{1:2}",
        "[1,]",
        "{,}",
        "[1 2]",
        "{\"a\":1,}",
        "tru",
        "\"a",
        "nul",
        "'a'",
        "{\"a\": 1]",
        "\u{feff}{}",
        "<html>",
        "a=b",
        "[\"\\q\"]",
        "--1x",
    ] {
        assert!(refused("application/json", body.as_bytes()), "{body}");
    }
    let deep = "[".repeat(600) + &"]".repeat(600);
    assert!(pushed(&rules, "application/json", &[deep.as_bytes()]).is_err());
    let long = format!("\"{}", "x".repeat(5 << 20));
    let chunks: Vec<&[u8]> = long.as_bytes().chunks(64 << 10).collect();
    assert!(pushed(&rules, "application/json", &chunks).is_err());
    let utf16: Vec<u8> = "password".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(refused("text/plain", &utf16));
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", "application/json; charset=\"utf-16\"".parse().unwrap());
    assert!(Body::of(&headers, true).is_err());
}

#[test]
fn text_without_an_end_of_line_does_not_have_to_be_held_for_ever() {
    let rules = rules(BODIES);
    let secret = "ghp_0123456789abcdefABCDEF";
    let long = format!("{} {secret} {}", "word ".repeat(20_000), "word ".repeat(20_000));
    let chunks: Vec<&[u8]> = long.as_bytes().chunks(1000).collect();
    let clean = pushed(&rules, "text/plain", &chunks).unwrap();
    assert_eq!(clean, long.replace(secret, "***"));
    let key = format!(
        "a\n-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\nb\n",
        "MIIE\n".repeat(40_000)
    );
    let chunks: Vec<&[u8]> = key.as_bytes().chunks(1000).collect();
    let clean = pushed(&rules, "text/plain", &chunks).unwrap();
    assert!(
        clean.starts_with("a\n***") && clean.ends_with("b\n") && !clean.contains("MIIE"),
        "{clean}"
    );
}

#[tokio::test]
async fn codings_are_undone_or_refused() {
    let plain = r#"{"password": "x", "a": 1}"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(plain.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut br = Vec::new();
    brotli::CompressorWriter::new(&mut br, 4096, 5, 20).write_all(plain.as_bytes()).unwrap();
    let rules = rules(BODIES);
    let zstd = zstd::encode_all(plain.as_bytes(), 3).unwrap();
    for (coding, bytes) in [("gzip", &gzip), ("br", &br), ("zstd", &zstd)] {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert("content-encoding", coding.parse().unwrap());
        for chunks in every_cut(bytes) {
            let mut body = Body::of(&headers, true).unwrap().unwrap();
            let mut out = Vec::new();
            for chunk in chunks {
                out.extend_from_slice(&body.push(&rules, chunk, false).unwrap());
            }
            out.extend_from_slice(&body.push(&rules, &[], true).unwrap());
            assert_eq!(text(&out), r#"{"password": "***", "a": 1}"#, "{coding}");
        }
        assert!(Body::of(&headers, false).is_err());
        let mut cut = Body::of(&headers, true).unwrap().unwrap();
        let cut = cut.push(&rules, &bytes[..bytes.len() / 2], true);
        assert!(cut.is_err(), "{coding}");
    }
    let test = PluginTest::<Redaction>::yaml("{surfaces: [request_body], coded: refuse}");
    let refused =
        test.post("/").header("content-type", "text/plain").header("content-encoding", "gzip");
    assert_eq!(refused.body(["x"]).send().await.status(), 415);
    let unknown = PluginTest::<Redaction>::yaml(BODIES);
    let refused = unknown
        .post("/")
        .header("content-type", "text/plain")
        .header("content-encoding", "compress");
    assert_eq!(refused.body(["x"]).send().await.status(), 415);
}

#[tokio::test]
async fn fields_and_queries_lose_their_secrets_but_for_those_that_are_meant_for_the_upstream() {
    let test = PluginTest::<Redaction>::yaml(
        "{surfaces: [request_headers, query, response_headers], keys: [{names: [x-trace], action: remove}]}",
    );
    let outcome = test
        .get("/p?a=1&password=x&mail=ada%40example.com&b=2")
        .header("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl")
        .header("x-api-key", "k")
        .header("x-note", "card 4111 1111 1111 1111, ok")
        .header("x-trace", "t")
        .header("x-list", "a")
        .header("x-list", "b")
        .upstream_header("x-secret", "s")
        .upstream_header("x-mail", "to ada@example.com")
        .send()
        .await;
    let saw = |name: &str| outcome.upstream_saw(name).unwrap_or_default();
    assert!(saw("authorization").contains("eyJ"));
    assert_eq!([saw("x-api-key"), saw("x-note"), saw("x-trace")], ["***", "card ***, ok", ""]);
    assert_eq!(outcome.upstream_saw_all("x-list"), ["a", "b"]);
    assert_eq!(outcome.header("x-secret").as_deref(), Some("***"));
    assert_eq!(outcome.header("x-mail").as_deref(), Some("to ***"));
}

#[tokio::test]
async fn bodies_are_gone_through_both_ways_and_others_are_left_alone() {
    let test = PluginTest::<Redaction>::yaml(BODIES);
    let up = sent(&test, "application/json", &[r#"{"passw"#, r#"ord": "x"}"#]).await;
    assert_eq!((up.status(), text(up.upstream_body())), (200, r#"{"password": "***"}"#.into()));
    let down = answered(&test, "application/json", &[r#"{"passw"#, r#"ord": "x"}"#]).await;
    assert_eq!(text(down.body()), r#"{"password": "***"}"#);
    for kind in ["image/png", "multipart/form-data; boundary=x", "application/grpc+json"] {
        let other = answered(&test, kind, &["x@example.com"]).await;
        assert_eq!(text(other.body()), "x@example.com", "{kind}");
    }
    let untold = test.get("/").upstream_body(["x@example.com"]).send().await;
    assert_eq!(text(untold.body()), "***", "it counts as text");
    let bad = sent(&test, "application/json", &["{]"]).await;
    assert_eq!((bad.status(), bad.failure().unwrap().code()), (400, "P8"));
    let tagged = test.get("/").header("accept-encoding", "zstd, gzip").header("range", "bytes=0-1");
    let tagged =
        tagged.upstream_header("content-type", "text/plain").upstream_header("etag", "\"a\"");
    let outcome = tagged.upstream_body(["x"]).send().await;
    assert_eq!(outcome.upstream_saw("accept-encoding").as_deref(), Some("gzip, br, zstd"));
    assert_eq!((outcome.upstream_saw("range"), outcome.header("etag")), (None, None));
}

#[test]
fn options_that_cannot_be_right_are_refused_each_with_its_place() {
    for (options, place, said) in [
        ("surfaces: []", "surfaces", "at least one"),
        ("surfaces: [query], keys: [{}]", "keys[0]", "of what"),
        ("surfaces: [query], keys: [{paths: [a..b]}]", "keys[0].paths[0]", "names with dots"),
        ("surfaces: [query], patterns: [{}]", "patterns[0]", "exactly one"),
        ("surfaces: [query], patterns: [{regex: '('}]", "patterns[0].regex", "unclosed group"),
        ("surfaces: [query], patterns: [{regex: 'a*'}]", "patterns[0].regex", "finds nothing"),
        ("surfaces: [query], defaults: hash", "options", "hash_key"),
        ("surfaces: [query], hash_key: short", "hash_key", "32 bytes"),
        ("surfaces: [query], except: ['a b']", "except[0]", "no name"),
        ("surfaces: [query], keys: [{names: [a], action: {keep_last: 0}}]", "keys[0].action", "1"),
    ] {
        let all = PluginTest::<Redaction>::faults(&format!("{{{options}}}")).join("\n");
        assert!(all.contains(place) && all.contains(said), "{options}: {all}");
    }
}

/// A megabyte of JSON as interfaces have it, with a secret here and there.
fn megabyte() -> Vec<u8> {
    let mut body = String::from("[");
    let mut number = 0_u32;
    while body.len() < 1 << 20 {
        number += 1;
        if number > 1 {
            body.push(',');
        }
        body += &format!(
            "{{\"id\":{number},\"name\":\"Item number {number}\",\"tags\":[\"red\",\"green\"],\"price\":{}.95,\
             \"description\":\"A thing of some use, in stock since last week.\",\"active\":true,\
             \"owner\":{{\"first\":\"Ada\",\"last\":\"Lovelace\",\"city\":\"London\"}}}}",
            number * 7 % 1000
        );
        if number.is_multiple_of(100) {
            body += &format!(",{{\"password\":\"p{number}\",\"mail\":\"u{number}@example.com\"}}");
        }
    }
    body.push(']');
    body.into_bytes()
}

#[test]
#[ignore = "a measurement, meaningful in release mode only"]
fn cost_of_a_megabyte() {
    let (rules, body) = (rules(BODIES), megabyte());
    for (kind, size) in
        [("application/json", 16 << 10), ("application/json", body.len()), ("text/plain", 16 << 10)]
    {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        let began = std::time::Instant::now();
        const ROUNDS: usize = 100;
        for _ in 0..ROUNDS {
            let mut held = Body::of(&headers, true).unwrap().unwrap();
            for chunk in body.chunks(size) {
                std::hint::black_box(held.push(&rules, chunk, false).unwrap());
            }
            std::hint::black_box(held.push(&rules, &[], true).unwrap());
        }
        let seconds = began.elapsed().as_secs_f64() / ROUNDS as f64;
        println!("{kind} in chunks of {size}: {:.0} MB/s", body.len() as f64 / seconds / 1e6);
    }
}

#[tokio::test]
async fn bodies_are_what_any_of_their_words_say() {
    let test = PluginTest::<Redaction>::yaml(BODIES);
    let secret = PLANTED[5];
    for kind in [
        "application/x-amz-json-1.1",
        "application/jsonl",
        "application/json-seq",
        "application/vnd.api+json; charset=utf-8",
        "application/json5",
    ] {
        let body = format!("\u{1e}{{\"password\": \"x\", \"a\": \"{secret}\"}}\n");
        let body = if kind.ends_with("seq") { body.as_str() } else { &body[1..] };
        let clean = sent(&test, kind, &[body]).await;
        assert_eq!(clean.status(), 200, "{kind}");
        let clean = String::from_utf8_lossy(clean.upstream_body()).into_owned();
        assert!(!clean.contains(secret) && clean.contains("***"), "{kind}: {clean}");
    }
    let two =
        test.post("/").header("content-type", "image/png").header("content-type", "text/plain");
    assert_eq!(two.body([secret]).send().await.status(), 415);
}

#[test]
fn what_is_held_is_bounded_and_is_not_looked_through_again_and_again() {
    let config: Config = serde_yaml::from_str(BODIES).unwrap();
    let rules = config.rules_for_tests();
    let began = std::time::Instant::now();
    // In small pieces, of which each could cost as much as the whole.
    for (kind, start, piece) in [
        ("application/json", "\"", "\\\\"),
        ("application/json", "", "1234567890"),
        ("application/x-www-form-urlencoded", "a&b=", "xxxxxxxx"),
        ("text/plain", "\n-----BEGIN PRIVATE KEY-----", "xxxx\n"),
        ("text/plain", "", "xxxxxxxxxx"),
    ] {
        let headers =
            http::HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind.parse().unwrap())]);
        let mut body = body::Body::of(&headers, true).unwrap().unwrap();
        body.push(&rules, start.as_bytes(), false).unwrap();
        let refused = (0..1_000_000).find(|_| body.push(&rules, piece.as_bytes(), false).is_err());
        let bounded = kind != "text/plain";
        assert_eq!(refused.is_some() && piece.len() > 4, bounded && piece.len() > 4, "{kind}");
    }
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(60), "{took:?}");
}

#[test]
fn what_is_encoded_is_found_and_forms_keep_their_signs() {
    let config: Config = serde_yaml::from_str(BODIES).unwrap();
    let rules = config.rules_for_tests();
    let clean = |text: &str| {
        let clean = rules.clean(text.as_bytes());
        clean.map_or(text.to_owned(), |clean| String::from_utf8(clean).unwrap())
    };
    assert_eq!(clean("https://x/?m=a%40b.com&n=1"), "https://x/?m=***&n=1");
    assert_eq!(clean("see <https://x/a%2540b.com> 5% off"), "see <https://x/***> 5% off");
    assert_eq!(clean("100%, 20%25 and %zz"), "100%, 20%25 and %zz");
    let key = "k=-----BEGIN%20PRIVATE%20KEY-----%0AMIIE/abc+/x%3D and";
    assert_eq!(clean(key), "k=***");
    let key = "k=%2D%2D%2D%2D%2DBEGIN%20PRIVATE%20KEY-----%0AMIIE/abc+/x%3D and";
    assert_eq!(clean(key), "k=*** and");
    let form = |text: &str| form::query(&rules, text).unwrap_or(text.to_owned());
    assert_eq!(form("a=1;b=2&&c;&"), "a=1;b=2&&c;&");
    assert_eq!(form("a=1;password=x&c"), "a=1;password=***&c");
    assert_eq!(form("note=a@b.cd%20c%40d.ef&x=1"), "note=***&x=1");
}
