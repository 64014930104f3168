//! Conditions held against requests, and sources that are refused.

use pingora_http::{RequestHeader, ResponseHeader};
use proptest::prelude::*;

use super::*;
use crate::consumer::Consumers;
use crate::context::RequestCtx;
use crate::plugin::{Fact, FactSet};

fn parse(source: &str) -> Result<Condition, ConditionError> {
    Condition::parse(source, &PublishedNames::new(["jwt.*"]), false)
}

fn request() -> RequestHeader {
    let mut request = RequestHeader::build("POST", b"/api/users?beta=1", None).unwrap();
    request.insert_header("x-key", "k-1").unwrap();
    request.insert_header("version", "2").unwrap();
    request.insert_header("cookie", "sid=abc").unwrap();
    request
}

fn holds(source: &str) -> bool {
    let (request, mut ctx) = (request(), RequestCtx::sample());
    let scope = ("jwt.scope".into(), Fact::list(["read", "a,b"]));
    ctx.publish_all(FactSet::new([scope, ("jwt.sub".into(), Fact::text("me"))]));
    let config = "[{name: app, groups: [gold, beta], labels: {tier: one}}]";
    let (consumers, _) =
        Consumers::new(&serde_yaml::from_str::<Vec<_>>(config).unwrap(), |_, _| None);
    ctx.set_consumer(consumers.by_subject(None, "app").unwrap().clone());
    let facts = Facts { request: &request, response: None, ctx: &ctx };
    parse(source).unwrap_or_else(|error| panic!("{source}: {error}")).holds(&facts).unwrap()
}

const TRUE: &[&str] = &[
    "true",
    "!false",
    "request.method == \"POST\"",
    "request.method == 'POST'",
    "'POST' == request.method",
    "request.method != 'GET'",
    "request.header.version == '2'",
    "request.header['x-key'] == 'k-1'",
    "request.header['X-Key'] == 'k-1'",
    "request.header.`x-key` == 'k-1'",
    "request.header['x-key'].startsWith('k-')",
    "request.header['x-key'].endsWith('-1')",
    "request.header['x-key'].contains('-')",
    "request.header['x-key'].contains('')",
    "request.path.matches('^/api/[a-z]+$')",
    "request.path.matches(r'/\\w+$')",
    "request.path.matches('users')",
    "request.path.startsWith('/api/')",
    "request.method in ['GET', 'POST']",
    "!(request.method in [])",
    "request.cookie.sid == 'abc'",
    "request.query.beta == '1'",
    "has(request.header.version)",
    "has(request.header['x-key'])",
    "!has(request.header.none)",
    "size(request.path) == 10",
    "request.path.size() > 9",
    "size(request.path) in [9, 10]",
    "request.header.version < '3' && request.header.version >= '2'",
    "request.header.version <= '2' && request.header.version > '1'",
    "false || true && true",
    "(true || false) && !(false)",
    "!!true",
    "consumer.name == 'app' && consumer.label.tier == 'one' && !has(consumer.label.none)",
    "'gold' in consumer.groups && !('silver' in consumer.groups)",
    "consumer.groups == 'gold,beta'",
    "'read' in jwt.scope && 'a,b' in jwt.scope && !('a' in jwt.scope)",
    "'me' in jwt.sub && !('m' in jwt.sub) && !('x' in jwt.none)",
    "!(request.header.none in consumer.groups) && !(request.method in consumer.groups)",
    "request.method == request.method",
    "(request.method == 'POST') == true",
    "has(request.header.none) != true",
    "!(request.header.none == 'a')",
    "request.header.none != 'a'",
    "request.header.none != request.header.none",
    "jwt['https://a.b/c'] != 'a'",
    "client.ip == '127.0.0.1'",
    "client.ip in ['10.0.0.1', '127.0.0.1']",
    "-1 < 0 && 0x10 == 16",
    "request.method\n == 'POST' // a comment",
    "'\\u00e9' == 'é'",
    "request.method == 'GET' || request.method == 'PUT' || request.method == 'POST'",
];

const FALSE: &[&str] = &[
    "request.method == 'post'",
    "request.header.none == 'a'",
    "!(request.header.none != 'a')",
    "request.header.none < 'a'",
    "request.header.none == request.header.none",
    "request.header.none in ['a']",
    "request.header.none.startsWith('')",
    "request.header.none.matches('')",
    "size(request.header.none) == 0",
    "jwt.sub == 'a'",
    "request.method in []",
    "client.ip == '127.0.0.10'",
    "request.path.matches('^users')",
];

const REFUSED: &[(&str, usize, &str)] = &[
    ("", 1, "cannot be read: mismatched input the end"),
    ("request.method ==", 18, "mismatched input"),
    ("request.method = 'a'", 16, "token recognition error"),
    ("(true", 6, "missing ')'"),
    ("true)", 5, "cannot be read: "),
    ("'open", 1, "token recognition error"),
    ("request.method", 8, "expected true or false, this is text"),
    ("size(request.path)", 5, "expected true or false, this is a number"),
    ("'a'", 1, "expected true or false, this is text"),
    ("1", 1, "expected true or false, this is a number"),
    ("!request.method", 9, "expected true or false"),
    ("true && request.method", 16, "expected true or false"),
    ("request.method == 1", 16, "cannot compare text with a number"),
    ("size(request.path) == '1'", 20, "cannot compare a number with text"),
    ("true == 'a'", 6, "cannot compare true or false with text"),
    ("true < false", 6, "true and false have no order"),
    ("request.methd == 'a'", 8, "did you mean `request.method`?"),
    ("foo", 1, "unknown attribute `foo`"),
    ("request.header == 'a'", 8, "needs a valid name behind it"),
    ("response.status == 200", 9, "`response.status` is not known before the response"),
    ("request.header.x-key == 'a'", 17, "is written request.header[\"x-key\"]"),
    ("has(request.header.x-a-b)", 23, "is written request.header[\"x-a-b\"]"),
    ("request.header[request.path] == 'a'", 23, "expected a string literal"),
    ("request.header['a']['b'] == 'a'", 20, "brackets follow a plain name"),
    ("request.header['a b'] == 'a'", 15, "needs a valid name behind it"),
    ("has('a')", 5, "expected an attribute"),
    ("request.method in 'a'", 19, "`in` needs a list"),
    ("request.method in request.path", 26, "`in` needs a list"),
    ("request.method in ['a', 1]", 25, "expected a string literal"),
    ("size(request.path) in ['a']", 24, "expected a whole number"),
    ("true in [true]", 1, "`in` needs text or a number"),
    ("['a'] == ['a']", 1, "a list stands only to the right of `in`"),
    ("request.path.startsWith(request.host)", 32, "expected a string literal"),
    ("request.path.matches('(')", 22, "not a regular expression: unclosed group"),
    ("request.path.matches('(\\\\w{500}){500}')", 22, "not a regular expression"),
    ("request.path.startsWith()", 24, "`startsWith` is written otherwise here"),
    ("true ? true : false", 6, "not supported in conditions: `? :`"),
    ("1 + 1 == 2", 3, "not supported in conditions: arithmetic"),
    ("-request.path == 'a'", 9, "expected a whole number"),
    ("size(request.path) > 1.5", 22, "numbers with a fraction"),
    ("size(request.path) > 1u", 22, "unsigned numbers"),
    ("request.path == b'a'", 17, "bytes"),
    ("request.path == null", 17, "null; ask with has(...)"),
    ("{'a': 1} == {'a': 1}", 1, "maps and messages"),
    ("['a'].exists(x, x == 'a')", 13, "not supported in conditions: `exists`"),
    ("duration('1s') == duration('1s')", 9, "not supported in conditions: `duration`"),
    ("request.?method == 'a'", 8, "unsupported syntax '.?'"),
    ("true\n&& foo", 9, "unknown attribute `foo`"),
    ("'é' == 'é' && foo", 15, "unknown attribute `foo`"),
    ("true\n&& = true", 9, "token recognition error"),
];

#[test]
fn these_hold() {
    for source in TRUE {
        assert!(holds(source), "{source}");
    }
}

#[test]
fn these_do_not_hold() {
    for source in FALSE {
        assert!(!holds(source), "{source}");
    }
}

#[test]
fn a_source_that_is_no_condition_is_refused_with_cause_and_place() {
    for (source, column, part) in REFUSED {
        let error = parse(source).expect_err(source);

        assert!(error.message.contains(part), "{source}: {error}");
        assert_eq!(error.column, *column, "{source}: {error}");
    }
}

#[test]
fn a_condition_over_the_response_needs_one() {
    let source = "response.status >= 500 || response.header.age == '1'";
    let condition = Condition::parse(source, &PublishedNames::default(), true).unwrap();
    let (request, ctx) = (request(), RequestCtx::sample());
    let response = ResponseHeader::build(503, None).unwrap();
    let before = Facts { request: &request, response: None, ctx: &ctx };
    let after = Facts { response: Some(&response), ..before };

    assert_eq!(condition.holds(&before), Err(EvalError::NoResponse));
    assert_eq!(condition.holds(&after), Ok(true));
    assert_eq!(condition.source(), source);
}

#[test]
fn nesting_is_named_as_the_cause() {
    for source in ["(".repeat(200), "!(".repeat(200), format!("true{}", "==true".repeat(100))] {
        assert_eq!(parse(&source).unwrap_err().message, "condition nests deeper than 64");
    }
}

#[test]
fn the_greatest_and_deepest_sources_are_refused_without_harm() {
    let terms = vec!["request.method == 'POST'"; 140].join(" || ");
    assert!(holds(&terms));
    assert!(holds(&format!("{}true{}", "(".repeat(60), ")".repeat(60))));
    let deep = [
        "x".repeat(MAX_SOURCE + 1),
        "(".repeat(MAX_SOURCE),
        format!("{}true{}", "(".repeat(80), ")".repeat(80)),
        "!(".repeat(MAX_SOURCE / 2),
        "[".repeat(MAX_SOURCE),
        format!("a{}", ".a".repeat(MAX_SOURCE / 2 - 1)),
        format!("1{}", "+1".repeat(MAX_SOURCE / 2 - 1)),
        format!("1{}", "<1".repeat(MAX_SOURCE / 2 - 1)),
        format!("a{}", "[0]".repeat(MAX_SOURCE / 3 - 1)),
        format!("a{}", ".a()".repeat(MAX_SOURCE / 4 - 1)),
        format!("true{}", "==true".repeat(MAX_SOURCE / 6 - 1)),
        format!("a{}", "?a:a".repeat(MAX_SOURCE / 4 - 1)),
        "-".repeat(MAX_SOURCE),
        "{".repeat(MAX_SOURCE),
        "a.".repeat(MAX_SOURCE / 2),
    ];
    for source in deep {
        let error = parse(&source).expect_err(&source[..20]);

        assert_ne!(error.message, "condition cannot be read", "{}", &source[..20]);
    }
}

fn cel_pieces() -> impl Strategy<Value = String> {
    let pieces = vec![
        "request",
        ".",
        "header",
        "method",
        "[",
        "]",
        "(",
        ")",
        "'a'",
        "\"",
        "'",
        "\\",
        "==",
        "!=",
        "<",
        ">=",
        "in",
        "&&",
        "||",
        "!",
        "has",
        "size",
        "matches",
        "startsWith",
        ",",
        "1",
        "1u",
        "0x",
        "-",
        "1.5",
        "b'",
        "r'",
        "`",
        "true",
        "null",
        "{",
        "}",
        ":",
        "?",
        "+",
        " ",
        "\n",
        "//",
        "é",
        "all",
        "x",
        "\0",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_source_made_of_pieces_of_the_language_panics(source in cel_pieces()) {
        if let Err(error) = parse(&source) {
            prop_assert_ne!(error.message, "condition cannot be read");
        }
    }

    #[test]
    fn no_text_panics(source in ".{0,40}") {
        if let Err(error) = parse(&source) {
            prop_assert_ne!(error.message, "condition cannot be read");
        }
    }
}
