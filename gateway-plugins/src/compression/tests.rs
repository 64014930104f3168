use gateway_core::plugin::testing::{Outcome, PluginTest, TestRequest};
use proptest::prelude::*;

use super::*;
use crate::coding::{Bounds, Fault};

const ALL: [(&str, Coding); 3] =
    [("gzip", Coding::Gzip), ("br", Coding::Brotli), ("zstd", Coding::Zstd)];
const BOUNDS: Bounds = Bounds { at_once: 64 << 20, times: 1, most: u64::MAX };

fn text() -> String {
    (0..300).map(|line| format!("line {line} of a text\n")).collect()
}

/// A request for a text of some KiB.
fn get<'a>(test: &'a PluginTest<Compression>, accept: &str) -> TestRequest<'a> {
    let request = test.get("/").header("accept-encoding", accept);
    request.upstream_header("content-type", "text/plain").upstream_body([text()])
}

fn undone(coding: Coding, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let outcome = Undoing::new(&[coding], BOUNDS).push(body, true, |part, _| {
        plain.extend_from_slice(part);
        Ok::<(), Fault>(())
    });
    outcome.expect("it is coded as it says");
    plain
}

fn coded(coding: Coding, plain: &[u8]) -> Vec<u8> {
    let effort = Effort { gzip: 6, brotli: 5, zstd: 3, window_log: 20 };
    Encoding::new(coding, effort, None, false).push(plain, true).unwrap().to_vec()
}

fn is_plain(outcome: &Outcome) -> bool {
    outcome.header("content-encoding").is_none() && outcome.body() == text().as_bytes()
}

#[tokio::test]
async fn answers_are_compressed_as_clients_accept_it() {
    let test = PluginTest::<Compression>::yaml("{}");
    for (name, coding) in ALL {
        let outcome = get(&test, name).send().await;

        assert_eq!(outcome.header("content-encoding").as_deref(), Some(name));
        assert_eq!(outcome.header("vary").as_deref(), Some("Accept-Encoding"));
        assert!(outcome.body().len() < text().len() / 3, "{name}: {}", outcome.body().len());
        assert!(undone(coding, outcome.body()) == text().as_bytes(), "{name}");
        let published = |name: &str| outcome.ctx().published(name).map(Fact::as_text);
        assert_eq!(published("compression.coding"), Some(name));
        assert_eq!(published("compression.plain_bytes"), Some(text().len().to_string().as_str()));
        assert!(published("compression.ratio").unwrap().parse::<f64>().unwrap() > 3.0);
    }
    let preferred = get(&test, "gzip, deflate, br, zstd").send().await;
    assert_eq!(preferred.header("content-encoding").as_deref(), Some("zstd"));
    let test = PluginTest::<Compression>::yaml("{codings: [gzip, br]}");
    for (accept, coding) in [("gzip, br, zstd", "gzip"), ("br, gzip;q=0.9", "br")] {
        let outcome = get(&test, accept).send().await;
        assert_eq!(outcome.header("content-encoding").as_deref(), Some(coding), "{accept}");
    }
}

#[tokio::test]
async fn what_was_said_of_the_bytes_goes_and_the_tag_becomes_weak() {
    let test = PluginTest::<Compression>::yaml("{}");
    for (tag, weak) in [("\"a\"", Some("W/\"a\"")), ("W/\"a\"", Some("W/\"a\"")), ("no tag", None)]
    {
        let request = get(&test, "gzip").upstream_header("etag", tag);
        let request = request
            .upstream_header("content-length", &text().len().to_string())
            .upstream_header("accept-ranges", "bytes")
            .upstream_header("content-md5", "x")
            .upstream_header("digest", "x")
            .upstream_header("content-digest", "x")
            .upstream_header("repr-digest", "x")
            .upstream_header("unencoded-digest", "x")
            .upstream_header("last-modified", "x")
            .upstream_header("vary", "Origin, accept-encoding");
        let outcome = request.send().await;

        assert_eq!(outcome.header("etag").as_deref(), weak, "{tag}");
        for gone in [
            "content-length",
            "accept-ranges",
            "content-md5",
            "digest",
            "content-digest",
            "repr-digest",
        ] {
            assert_eq!(outcome.header(gone), None, "{gone}");
        }
        assert!(outcome.header("unencoded-digest").is_some());
        assert!(outcome.header("last-modified").is_some());
        assert_eq!(outcome.headers("vary"), ["Origin, accept-encoding"]);
    }
}

#[tokio::test]
async fn what_depends_on_the_client_says_so_and_nothing_else_does() {
    let test = PluginTest::<Compression>::yaml("{}");
    for accept in ["identity", "deflate", "gzip;q=0", "*;q=0", ""] {
        let outcome = get(&test, accept).upstream_header("etag", "\"a\"").send().await;
        assert!(is_plain(&outcome), "{accept}");
        assert_eq!(outcome.header("vary").as_deref(), Some("Accept-Encoding"), "{accept}");
        assert_eq!(outcome.header("etag").as_deref(), Some("\"a\""));
    }
    let untold = test.get("/").upstream_header("content-type", "text/plain");
    let untold = untold.upstream_header("vary", "*").upstream_body([text()]).send().await;
    assert!(is_plain(&untold));
    assert_eq!(untold.headers("vary"), ["*"]);
}

#[tokio::test]
async fn answers_that_may_not_be_another_or_are_not_worth_it_are_left_alone() {
    let test = PluginTest::<Compression>::yaml("{}");
    for (name, value) in [
        ("content-encoding", "br"),
        ("content-encoding", "something"),
        ("content-encoding", "identity, gzip"),
        ("cache-control", "public, No-Transform"),
        ("content-range", "bytes 0-9/100"),
        ("content-length", "1023"),
        ("content-length", "0"),
    ] {
        let outcome = get(&test, "gzip").upstream_header(name, value).send().await;
        assert_eq!(outcome.body(), text().as_bytes(), "{name}");
        assert_eq!(outcome.header(name).as_deref(), Some(value));
        assert_eq!(outcome.header("vary"), None, "{name}");
    }
    for status in [204, 205, 206] {
        let outcome = get(&test, "gzip").upstream_status(status).send().await;
        assert!(is_plain(&outcome), "{status}");
    }
    for kind in ["image/png", "application/octet-stream", "application/grpc-web+json", ""] {
        let request = test.get("/").header("accept-encoding", "gzip");
        let request = request.upstream_header("content-type", kind).upstream_body([text()]);
        assert!(is_plain(&request.send().await), "{kind}");
    }
    let asked = get(&test, "gzip").header("cache-control", "no-transform").send().await;
    assert!(is_plain(&asked), "the client does not want it");
    let grpc = get(&test, "gzip").header("content-type", "application/grpc").send().await;
    assert!(is_plain(&grpc), "it is a call");
    for (name, value) in [("content-encoding", "identity"), ("content-length", "1024")] {
        let outcome = get(&test, "gzip").upstream_header(name, value).send().await;
        assert_eq!(outcome.header("content-encoding").as_deref(), Some("gzip"), "{name}");
    }
}

#[tokio::test]
async fn who_refuses_bodies_as_they_are_gets_short_ones_compressed_too() {
    let test = PluginTest::<Compression>::yaml("{}");
    let short = get(&test, "gzip, identity;q=0").upstream_header("content-length", "10");
    assert_eq!(short.send().await.header("content-encoding").as_deref(), Some("gzip"));
}

#[tokio::test]
async fn types_and_the_least_size_are_as_configured() {
    let test = PluginTest::<Compression>::yaml("{types: [image/x-raw, 'a*'], min_size: 10}");
    for (kind, length, compressed) in [
        ("image/x-raw", "10", true),
        ("image/x-raw", "9", false),
        ("Application/Octet-Stream; a=b", "10", true),
        ("text/plain", "10", false),
    ] {
        let request = test.get("/").header("accept-encoding", "gzip");
        let request = request.upstream_header("content-type", kind);
        let outcome = request.upstream_header("content-length", length).send().await;
        assert_eq!(outcome.header("content-encoding").is_some(), compressed, "{kind} {length}");
    }
}

#[tokio::test]
async fn a_tag_that_the_client_holds_weak_is_confirmed_weak() {
    let test = PluginTest::<Compression>::yaml("{}");
    for (held, confirmed) in [
        ("W/\"a\"", "W/\"a\""),
        ("\"b\", W/\"a\"", "W/\"a\""),
        ("\"a\"", "\"a\""),
        ("W/\"b\"", "\"a\""),
        ("*", "\"a\""),
    ] {
        let request = test.get("/").header("if-none-match", held).upstream_status(304);
        let outcome = request.upstream_header("etag", "\"a\"").send().await;
        assert_eq!(outcome.header("etag").as_deref(), Some(confirmed), "{held}");
        assert_eq!(outcome.header("vary").as_deref(), Some("Accept-Encoding"));
        assert_eq!(outcome.upstream_saw("if-none-match").as_deref(), Some(held));
    }
    let image = test.get("/").upstream_status(304).upstream_header("content-type", "image/png");
    assert_eq!(image.send().await.header("vary"), None);
}

#[tokio::test]
async fn upstreams_are_asked_for_what_clients_accept_unless_the_work_is_done_here() {
    for (options, seen) in [("{}", "br;q=0.5, gzip"), ("{offload: true}", "identity")] {
        let test = PluginTest::<Compression>::yaml(options);
        let outcome = get(&test, "br;q=0.5, gzip").send().await;
        assert_eq!(outcome.upstream_saw("accept-encoding").as_deref(), Some(seen));
        assert_eq!(outcome.header("content-encoding").as_deref(), Some("gzip"));
        assert_eq!(test.get("/").send().await.upstream_saw("accept-encoding"), None);
    }
}

#[test]
fn what_is_flushed_can_be_read_at_once() {
    let effort = Effort { gzip: 4, brotli: 4, zstd: 3, window_log: 19 };
    for (_, coding) in ALL {
        let mut encoding = Encoding::new(coding, effort, None, true);
        let mut undoing = Undoing::new(&[coding], BOUNDS);
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            let coded = encoding.push(event.as_bytes(), false).unwrap();
            let mut seen = Vec::new();
            let take = |part: &[u8], _: bool| {
                seen.extend_from_slice(part);
                Ok::<(), Fault>(())
            };
            undoing.push(&coded, false, take).unwrap();
            assert_eq!(seen, event.as_bytes(), "{coding:?}");
            assert!(encoding.push(&[], false).unwrap().is_empty(), "nothing is worth nothing");
        }
    }
}

#[tokio::test]
async fn bodies_of_unknown_length_are_sent_at_once_and_others_when_it_is_worth_it() {
    let chunks: Vec<String> = (0..300).map(|line| format!("line {line} of a text\n")).collect();
    let mut lengths = Vec::new();
    for (options, length) in [
        ("{flush: never}", None),
        ("{}", Some(text().len().to_string())),
        ("{flush: always}", Some(text().len().to_string())),
        ("{}", None),
    ] {
        let test = PluginTest::<Compression>::yaml(options);
        let mut request = test.get("/").header("accept-encoding", "gzip");
        if let Some(length) = &length {
            request = request.upstream_header("content-length", length);
        }
        let request = request.upstream_header("content-type", "text/plain");
        let outcome = request.upstream_body(&chunks).send().await;
        assert!(undone(Coding::Gzip, outcome.body()) == text().as_bytes(), "{options}");
        lengths.push(outcome.body().len());
    }
    assert_eq!(lengths[0], lengths[1]);
    assert_eq!(lengths[2], lengths[3]);
    assert!(lengths[0] < lengths[2] / 2, "{lengths:?}");
}

#[tokio::test]
async fn requests_pass_as_they_are_unless_they_are_to_be_decompressed() {
    let body = coded(Coding::Gzip, b"plain");
    let request = |test: &'static PluginTest<Compression>| {
        test.post("/").header("content-encoding", "gzip").header("content-digest", "x")
    };
    let test = Box::leak(Box::new(PluginTest::<Compression>::yaml("{}")));
    let outcome = request(test).body([&body]).send().await;
    assert_eq!(outcome.upstream_saw("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(outcome.upstream_body(), body);

    let test = Box::leak(Box::new(PluginTest::<Compression>::yaml("{codings: [], request: {}}")));
    let outcome = request(test).body(body.chunks(3)).send().await;
    assert_eq!(outcome.upstream_saw("content-encoding"), None);
    assert_eq!(outcome.upstream_saw("content-digest"), None);
    assert_eq!(outcome.upstream_body(), b"plain");
    let published = outcome.ctx().published("compression.request_coding");
    assert!(published.is_some_and(|fact| fact.has("gzip")));
    let grpc = request(test).header("content-type", "application/grpc").body([&body]).send().await;
    assert_eq!(grpc.upstream_body(), body, "its frames are its own");
}

#[tokio::test]
async fn requests_are_decompressed_whatever_was_done_to_them() {
    let test = PluginTest::<Compression>::yaml("{request: {}}");
    let plain = text();
    let once = coded(Coding::Brotli, plain.as_bytes());
    for (codings, body) in [
        ("br", once.clone()),
        ("zstd", coded(Coding::Zstd, plain.as_bytes())),
        ("identity, X-Gzip", coded(Coding::Gzip, plain.as_bytes())),
        ("br, gzip", coded(Coding::Gzip, &once)),
        ("identity", plain.clone().into_bytes()),
    ] {
        let request = test.post("/").header("content-encoding", codings);
        let outcome = request.body(body.chunks(100)).send().await;
        assert!(outcome.upstream_body() == plain.as_bytes(), "{codings}");
    }
    let empty = test.post("/").header("content-encoding", "gzip").send().await;
    assert_eq!((empty.status(), empty.upstream_body()), (200, &b""[..]));
}

#[tokio::test]
async fn requests_that_cannot_be_decompressed_are_refused_with_the_reason() {
    let test = PluginTest::<Compression>::yaml(
        "{request: {codings: [gzip, zstd], max: 2MiB, max_ratio: 20}}",
    );
    let gzip = |plain: &[u8]| coded(Coding::Gzip, plain);
    for (codings, body, status) in [
        ("br", coded(Coding::Brotli, b"x"), 415),
        ("compress", b"x".to_vec(), 415),
        ("gzip, gzip, gzip", gzip(b"x"), 415),
        ("gzip", b"no gzip".to_vec(), 400),
        ("gzip", gzip(b"cut short")[..15].to_vec(), 400),
        ("gzip", gzip(&vec![0; 3 << 20]), 413),
        ("zstd", coded(Coding::Zstd, &vec![0; 3 << 20]), 413),
        ("gzip", gzip(&text().repeat(400).into_bytes()), 413),
    ] {
        let request = test.post("/").header("content-encoding", codings).body(body.chunks(512));
        let outcome = request.send().await;
        assert_eq!(outcome.status(), status, "{codings}");
        assert_eq!(outcome.failure().map(|code| code.code()), Some("P8"));
        let accepted = (status == 415).then_some("gzip, zstd");
        assert_eq!(outcome.header("accept-encoding").as_deref(), accepted);
        assert!(outcome.upstream_body().len() <= 2 << 20);
    }
}

#[test]
fn options_that_cannot_be_right_are_refused_each_with_its_place() {
    for (options, place, said) in [
        ("{codings: []}", "codings", "nothing is left to do"),
        ("{codings: [gzip, br, gzip]}", "codings[2]", "listed already"),
        ("{codings: [deflate]}", "codings[0]", "deflate"),
        ("{types: [text/html, json]}", "types[1]", "type/subtype"),
        ("{window: 16MiB}", "window", "8MiB"),
        ("{levels: {gzip: 10}}", "levels.gzip", ""),
        ("{levels: {br: 7}}", "levels.br", ""),
        ("{levels: {zstd: 0}}", "levels.zstd", ""),
        ("{request: {codings: []}}", "request.codings", ""),
        ("{request: {codings: [br, br]}}", "request.codings[1]", "listed already"),
        ("{request: {max_ratio: 0}}", "request.max_ratio", ""),
    ] {
        let faults = PluginTest::<Compression>::faults(options);
        let place = format!("plugins[0].options.{place}: ");
        assert!(faults.iter().any(|fault| fault.starts_with(&place)), "{options}: {faults:?}");
        assert!(faults[0].contains(said), "{options}: {faults:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_body_comes_back_however_it_is_cut_flushed_and_announced(
        body in prop::collection::vec(any::<u8>(), 0..20_000),
        chunk in 1_usize..4000,
        which in 0_usize..3,
        flushes in any::<bool>(),
        length in prop::option::of(0_u64..100_000),
        level in 1_u32..=6,
    ) {
        let effort = Effort { gzip: level, brotli: level, zstd: level as i32, window_log: 18 };
        let (_, coding) = ALL[which];
        let mut encoding = Encoding::new(coding, effort, length, flushes);
        let mut coded = Vec::new();
        for chunk in body.chunks(chunk) {
            coded.extend_from_slice(&encoding.push(chunk, false).unwrap());
        }
        coded.extend_from_slice(&encoding.push(&[], true).unwrap());
        prop_assert!(undone(coding, &coded) == body);
        prop_assert_eq!(encoding.lengths(), (body.len() as u64, coded.len() as u64));
    }
}

/// A text as applications send it, and a table as they export it.
fn sample() -> Vec<u8> {
    let row = |row: u32| {
        let noise = row.wrapping_mul(2_654_435_761);
        format!(
            "{{\"id\": {row}, \"name\": \"user-{}\", \"balance\": {}.{:02}, \"active\": {}, \"note\": \"{}\"}},\n",
            noise % 9973,
            noise >> 12,
            noise % 100,
            noise.is_multiple_of(3),
            ["as agreed", "to be called back", "-", "sent twice, refunded once"]
                [noise as usize >> 30],
        )
    };
    (0..80_000).flat_map(|number| row(number).into_bytes()).collect()
}

#[tokio::test]
#[ignore = "a measurement, meaningful in release mode only"]
async fn cost_of_a_body() {
    use std::io::Write;
    use std::time::Instant;

    const ROUNDS: usize = 5;
    let (sample, mega) = (sample(), 1e6);
    let chunks: Vec<&[u8]> = sample.chunks(64 << 10).collect();
    for (name, _) in ALL {
        let test = PluginTest::<Compression>::yaml(&format!("{{codings: [{name}]}}"));
        let (mut through, mut raw, mut ratio) = (Vec::new(), Vec::new(), 0.0);
        for _ in 0..ROUNDS {
            let request = test.get("/").header("accept-encoding", name);
            let request = request.upstream_header("content-type", "application/json");
            let request = request.upstream_body(&chunks);
            let began = Instant::now();
            let outcome = request.send().await;
            through.push(sample.len() as f64 / mega / began.elapsed().as_secs_f64());
            ratio = sample.len() as f64 / outcome.body().len() as f64;

            let began = Instant::now();
            let length = match name {
                "gzip" => {
                    let level = flate2::Compression::new(3);
                    let mut coder = flate2::write::GzEncoder::new(Vec::new(), level);
                    coder.write_all(&sample).unwrap();
                    coder.finish().unwrap().len()
                }
                "br" => {
                    let mut coder = brotli::CompressorWriter::new(Vec::new(), 4096, 3, 19);
                    coder.write_all(&sample).unwrap();
                    coder.into_inner().len()
                }
                _ => zstd::encode_all(&sample[..], 3).unwrap().len(),
            };
            assert!(length > 0);
            raw.push(sample.len() as f64 / mega / began.elapsed().as_secs_f64());
        }
        through.sort_by(f64::total_cmp);
        raw.sort_by(f64::total_cmp);
        let (through, raw) = (through[ROUNDS / 2], raw[ROUNDS / 2]);
        println!(
            "{name}: {through:.0} MB/s through the plugin, {raw:.0} MB/s by the library alone, \
             {:.2} of it; {ratio:.2} times smaller",
            through / raw
        );
    }
}
