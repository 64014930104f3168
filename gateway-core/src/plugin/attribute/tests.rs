//! Names resolved and read.

use super::*;

fn published() -> PublishedNames {
    ["geo.country", "jwt.*"].into_iter().collect()
}

#[test]
fn every_name_resolves_and_is_printed_again() {
    let names = [
        "client.ip",
        "peer.ip",
        "request.method",
        "request.path",
        "request.host",
        "request.scheme",
        "request.protocol",
        "request.query_string",
        "request.header.x-key",
        "request.query.a.b",
        "request.cookie.sid",
        "request.id",
        "trace.id",
        "listener.name",
        "route.name",
        "upstream.name",
        "response.status",
        "response.header.age",
        "consumer.name",
        "consumer.groups",
        "consumer.label.tier",
        "geo.country",
        "jwt.sub",
        "jwt.https://a.b/c",
    ];
    for name in names {
        assert_eq!(Attribute::parse(name, &published()).unwrap().to_string(), name);
    }
}

#[test]
fn field_names_are_lower_cased() {
    let attribute = Attribute::parse("request.header.X-Key", &published()).unwrap();

    assert_eq!(attribute, Attribute::RequestHeader(HeaderName::from_static("x-key")));
}

#[test]
fn a_wrong_name_is_answered_with_the_nearest() {
    let cases = [
        ("request.methd", Some("request.method")),
        ("client_ip", Some("client.ip")),
        ("request.headers.x-key", Some("request.header.x-key")),
        ("request.cookies.s", Some("request.cookie.s")),
        ("consumer.nmae", Some("consumer.name")),
        ("jwts.sub", Some("jwt.sub")),
        ("nothing.like.it", None),
        ("", None),
        ("x", None),
        ("jwt.", None),
    ];
    for (name, nearest) in cases {
        let expected =
            AttributeError::Unknown { name: name.into(), nearest: nearest.map(String::from) };
        assert_eq!(Attribute::parse(name, &published()), Err(expected));
    }
}

#[test]
fn an_error_reads_as_a_sentence() {
    let error = Attribute::parse("request.methd", &published()).unwrap_err();

    assert_eq!(
        error.to_string(),
        "unknown attribute `request.methd`; did you mean `request.method`?"
    );
}

#[test]
fn a_name_without_a_usable_key_is_refused() {
    for name in [
        "request.header.",
        "request.header.a b",
        "request.query.",
        "request.cookie.",
        "response.header.é",
    ] {
        let expected = AttributeError::Key { name: name.into() };
        assert_eq!(Attribute::parse(name, &published()), Err(expected));
    }
}

#[test]
fn fields_of_one_name_are_joined_and_unreadable_bytes_replaced() {
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    request.append_header("x-key", "a").unwrap();
    request.append_header("x-key", "b").unwrap();
    request.insert_header("x-bytes", HeaderValue::from_bytes(b"a\xff").unwrap()).unwrap();
    let ctx = RequestCtx::sample();
    let facts = Facts { request: &request, response: None, ctx: &ctx };
    let read = |name| Attribute::parse(name, &published()).unwrap().read(&facts);

    assert_eq!(read("request.header.x-key"), Some(Value::Text("a, b".into())));
    assert_eq!(read("request.header.x-bytes"), Some(Value::Text("a\u{fffd}".into())));
    assert_eq!(read("request.header.x-none"), None);
    assert_eq!(read("request.method"), Some(Value::Text("GET".into())));
    assert_eq!(read("request.protocol"), Some(Value::Text("HTTP/1.1".into())));
    assert_eq!(read("jwt.sub"), None);
}

#[test]
fn the_response_is_absent_until_there_is_one() {
    let request = RequestHeader::build("GET", b"/", None).unwrap();
    let response = ResponseHeader::build(404, None).unwrap();
    let ctx = RequestCtx::sample();
    let before = Facts { request: &request, response: None, ctx: &ctx };
    let after = Facts { response: Some(&response), ..before };

    assert_eq!(Attribute::ResponseStatus.read(&before), None);
    assert_eq!(Attribute::ResponseStatus.read(&after), Some(Value::Int(404)));
    assert_eq!(
        Attribute::ResponseStatus.with_text(&after, |text| text.map(String::from)),
        Some("404".into())
    );
    assert!(Attribute::ResponseStatus.needs_response());
    assert_eq!(Attribute::ResponseStatus.kind(), Kind::Int);
}

#[test]
fn every_text_is_handed_over_as_it_is_read() {
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    request.insert_header("x-key", "v").unwrap();
    let ctx = RequestCtx::sample();
    let facts = Facts { request: &request, response: None, ctx: &ctx };
    for name in ["client.ip", "peer.ip", "request.header.x-key", "request.path", "jwt.sub"] {
        let attribute = Attribute::parse(name, &published()).unwrap();
        let handed = attribute.with_text(&facts, |text| text.map(String::from));

        let read = attribute.read(&facts).map(|value| match value {
            Value::Text(text) => text.into_owned(),
            Value::Int(number) => number.to_string(),
        });
        assert_eq!(handed, read, "{name}");
    }
}
