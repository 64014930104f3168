//! Where credentials stand in a request: in a field, a cookie or the query. They are found there, and
//! taken away before the request goes up.

use std::borrow::Cow;

use gateway_core::plugin::{BuildEnv, BuildError, OptionPath, RequestHeader};
use http::header::{AUTHORIZATION, COOKIE};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Deserialize;

/// Where a credential stands: exactly one of these.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlaceConfig {
    /// The field of this name.
    #[serde(default)]
    pub(crate) header: Option<String>,
    /// What stands before it in the field, such as `Bearer`; in any case of letters. Default: `Bearer`
    /// for `authorization`, else nothing.
    #[serde(default)]
    pub(crate) scheme: Option<String>,
    /// The cookie of this name.
    #[serde(default)]
    pub(crate) cookie: Option<String>,
    /// The parameter of the query of this name. Whoever sees URLs sees it.
    #[serde(default)]
    pub(crate) query: Option<String>,
}

/// One place, ready to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Header(HeaderName, Option<Box<str>>),
    Cookie(Box<str>),
    Query(Box<str>),
}

/// The places where a credential may stand.
pub(crate) struct Places(Box<[Place]>);

/// What was found in all places together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Nothing,
    One(Cow<'a, str>),
    /// More than one, of which nobody can say which is meant (RFC 6750, section 2).
    Several,
    /// It is not what a text can be, or empty.
    Unreadable,
}

impl PlaceConfig {
    fn compile(&self) -> Result<Place, (&'static str, &'static str)> {
        let given = [self.header.is_some(), self.cookie.is_some(), self.query.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err(("", "exactly one of `header`, `cookie` and `query`"));
        }
        if self.scheme.is_some() && self.header.is_none() {
            return Err(("scheme", "stands in a `header` alone"));
        }
        if let Some(name) = &self.header {
            let name = name.parse::<HeaderName>().map_err(|_| ("header", "no name of a field"))?;
            let scheme = match &self.scheme {
                Some(scheme) if scheme.is_empty() => None,
                Some(scheme) => Some(scheme.as_str()),
                None => (name == AUTHORIZATION).then_some("Bearer"),
            };
            let token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if !scheme.unwrap_or_default().bytes().all(token) {
                return Err(("scheme", "one word"));
            }
            return Ok(Place::Header(name, scheme.map(Into::into)));
        }
        let name = |name: &Option<String>| name.as_deref().unwrap_or_default().to_owned();
        let fit = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte > 0x20 && !b"=;,&\x7f".contains(&byte))
        };
        if self.cookie.is_some() {
            let name = name(&self.cookie);
            return if fit(&name) {
                Ok(Place::Cookie(name.into()))
            } else {
                Err(("cookie", "no name of a cookie"))
            };
        }
        let name = name(&self.query);
        if fit(&name) {
            Ok(Place::Query(name.into()))
        } else {
            Err(("query", "no name of a parameter"))
        }
    }
}

impl Places {
    /// Compiles a list of places at `path`.
    pub(crate) fn new(list: &[PlaceConfig], path: &OptionPath, error: &mut BuildError) -> Self {
        let mut places = Vec::with_capacity(list.len());
        for (index, config) in list.iter().enumerate() {
            let at = path.clone().index(index);
            match config.compile() {
                Ok(place) if places.contains(&place) => error.push(at, "it is in the list already"),
                Ok(place) => places.push(place),
                Err(("", message)) => error.push(at, message),
                Err((key, message)) => error.push(at.key(key), message),
            }
        }
        Self(places.into())
    }

    /// Hides what stands in these places from the access log.
    pub(crate) fn conceal(&self, env: &BuildEnv<'_>) {
        for place in &self.0 {
            if let Place::Query(name) = place {
                env.conceal(name);
            }
        }
    }

    /// Looks in all places.
    pub(crate) fn find<'a>(&self, head: &'a RequestHeader) -> Found<'a> {
        let mut found = Found::Nothing;
        for place in &self.0 {
            let mut all = |one: Option<Cow<'a, str>>| {
                found = match (&found, one) {
                    (Found::Nothing, Some(text)) if !text.is_empty() => Found::One(text),
                    (Found::Nothing, _) => Found::Unreadable,
                    _ => Found::Several,
                };
            };
            match place {
                Place::Header(name, scheme) => {
                    for value in head.headers.get_all(name) {
                        match with_scheme(value, scheme.as_deref()) {
                            Some(text) => all(text.map(Cow::Borrowed)),
                            // Another scheme is somebody else's.
                            None => continue,
                        }
                    }
                }
                Place::Cookie(name) => {
                    for value in head.headers.get_all(COOKIE) {
                        let pairs = value.as_bytes().split(|byte| *byte == b';');
                        for pair in pairs.filter_map(|pair| value_of(pair, name)) {
                            all(std::str::from_utf8(pair).ok().map(Cow::Borrowed));
                        }
                    }
                }
                Place::Query(name) => {
                    for pair in head.uri.query().unwrap_or_default().split('&') {
                        if is_named(pair, name) {
                            let value = pair.split_once('=').map_or("", |(_, value)| value);
                            all(decoded(value));
                        }
                    }
                }
            }
        }
        found
    }

    /// Takes away whatever stands in the places, so that nobody behind sees it.
    pub(crate) fn clear(&self, head: &mut RequestHeader) {
        for place in &self.0 {
            match place {
                Place::Header(name, None) => {
                    head.remove_header(name);
                }
                Place::Header(name, Some(scheme)) => {
                    let all = head.headers.get_all(name);
                    let kept: Vec<HeaderValue> = all
                        .iter()
                        .filter(|value| with_scheme(value, Some(scheme)).is_none())
                        .cloned()
                        .collect();
                    replace(head, name, kept);
                }
                Place::Cookie(name) => clear_cookie(head, name),
                Place::Query(name) => clear_query(head, name),
            }
        }
    }
}

/// Removes a field, under this name and under those that are read as the same where `_` stands for `-` (CGI, RFC 3875,
/// section 4.1.18).
pub(crate) fn remove_field(head: &mut RequestHeader, name: &HeaderName) {
    head.remove_header(name);
    let same = |other: &&HeaderName| {
        let (own, other) = (name.as_str().bytes(), other.as_str().bytes());
        let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
        own.len() == other.len() && own.map(plain).eq(other.map(plain))
    };
    while let Some(other) = head.headers.keys().find(same).cloned() {
        head.remove_header(&other);
    }
}

fn replace(head: &mut RequestHeader, name: &HeaderName, values: Vec<HeaderValue>) {
    head.remove_header(name);
    for value in values {
        // It stood there before.
        let _ = head.append_header(name.clone(), value);
    }
}

fn clear_cookie(head: &mut RequestHeader, name: &str) {
    let fields: Vec<HeaderValue> = head.headers.get_all(COOKIE).iter().cloned().collect();
    let has = |field: &HeaderValue| {
        field.as_bytes().split(|byte| *byte == b';').any(|pair| value_of(pair, name).is_some())
    };
    if !fields.iter().any(has) {
        return;
    }
    let rest = fields.iter().filter_map(|field| {
        let pairs = field.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kept: Vec<&[u8]> =
            pairs.filter(|pair| !pair.is_empty() && value_of(pair, name).is_none()).collect();
        HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok().filter(|kept| !kept.is_empty())
    });
    replace(head, &COOKIE, rest.collect());
}

fn clear_query(head: &mut RequestHeader, name: &str) {
    let Some(query) = head.uri.query() else { return };
    if !query.split('&').any(|pair| is_named(pair, name)) {
        return;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_named(pair, name)).collect();
    let path = head.uri.path();
    let target =
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut parts = head.uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(target).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        head.set_uri(uri);
    }
}

/// What stands behind the scheme; `None` if there is another, `Some(None)` if it is no text.
fn with_scheme<'a>(value: &'a HeaderValue, scheme: Option<&str>) -> Option<Option<&'a str>> {
    let bytes = value.as_bytes();
    let Some(scheme) = scheme else { return Some(value.to_str().ok().map(str::trim)) };
    let (first, rest) = bytes.split_at_checked(scheme.len())?;
    let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let parted = rest.first().is_none_or(|byte| !goes_on(*byte));
    if !first.eq_ignore_ascii_case(scheme.as_bytes()) || !parted {
        return None;
    }
    if rest.first().is_some_and(|byte| *byte != b' ') {
        // What others may take for a space.
        return Some(None);
    }
    Some(std::str::from_utf8(rest).ok().map(|text| text.trim_matches(' ')))
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (before, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
    (before.trim_ascii() == name.as_bytes()).then(|| value[1..].trim_ascii())
}

/// Whether a pair of the query has this name, however that is spelled.
fn is_named(pair: &str, name: &str) -> bool {
    let own = pair.split_once('=').map_or(pair, |(own, _)| own);
    own == name || (own.contains('%') && decoded(own).is_some_and(|own| own == name))
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(yaml: &str) -> Places {
        let list: Vec<PlaceConfig> = serde_yaml::from_str(yaml).unwrap();
        let mut error = BuildError::none();
        let places = Places::new(&list, &OptionPath::root(), &mut error);
        error.or(|| places).unwrap()
    }

    fn head(target: &str, fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    const EVERYWHERE: &str =
        "[{header: authorization}, {header: x-key}, {cookie: sid}, {query: key}]";

    #[test]
    fn a_credential_is_found_wherever_it_stands() {
        let one = |text: &'static str| Found::One(Cow::Borrowed(text));
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Found<'a>);
        let cases: &[Case<'_>] = &[
            ("/", &[], Found::Nothing),
            ("/", &[("authorization", "Bearer abc")], one("abc")),
            ("/", &[("authorization", "bEARER   abc ")], one("abc")),
            ("/", &[("authorization", "Basic abc")], Found::Nothing),
            ("/", &[("authorization", "Bearerabc")], Found::Nothing),
            ("/", &[("authorization", "Bearer")], Found::Unreadable),
            ("/", &[("authorization", "Bearer ")], Found::Unreadable),
            ("/", &[("x-key", "abc")], one("abc")),
            ("/", &[("x-key", "a"), ("x-key", "a")], Found::Several),
            ("/", &[("x-key", "a"), ("authorization", "Bearer a")], Found::Several),
            ("/", &[("authorization", "Bearer a"), ("authorization", "Basic b")], one("a")),
            ("/", &[("cookie", "a=1; sid=abc; b=2")], one("abc")),
            ("/", &[("cookie", "a=1"), ("cookie", "sid=abc")], one("abc")),
            ("/", &[("cookie", "sid=a; sid=b")], Found::Several),
            ("/?key=abc&x=1", &[], one("abc")),
            ("/?x=1&k%65y=a%20c", &[], one("a c")),
            ("/?key=a&key=b", &[], Found::Several),
            ("/?key=%ff", &[], Found::Unreadable),
            ("/?keys=a", &[], Found::Nothing),
        ];
        let places = places(EVERYWHERE);
        for (target, fields, expected) in cases {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| (&*name.to_string().leak(), &*value.to_string().leak()))
                .collect();
            assert_eq!(&places.find(&head(target, &fields)), expected, "{target} {fields:?}");
        }
    }

    #[test]
    fn what_is_taken_away_is_nothing_else() {
        let mut head = head(
            "/p?a=1&key=x&b=2&k%65y=y",
            &[
                ("authorization", "Bearer abc"),
                ("authorization", "Basic b"),
                ("x-key", "abc"),
                ("cookie", "a=1; sid=abc; b=2"),
                ("cookie", "sid=x"),
            ],
        );
        let places = places(EVERYWHERE);
        places.clear(&mut head);

        assert_eq!(places.find(&head), Found::Nothing);
        assert_eq!(head.uri, "/p?a=1&b=2");
        let all = |name| head.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("authorization"), ["Basic b"]);
        assert_eq!(all("cookie"), ["a=1; b=2"]);
        assert!(all("x-key").is_empty());
    }

    #[test]
    fn the_last_parameter_leaves_no_question_mark() {
        let mut head = head("/p?key=x", &[]);
        places("[{query: key}]").clear(&mut head);
        assert_eq!(head.uri, "/p");
    }

    #[test]
    fn places_that_are_none_are_refused() {
        for (yaml, at, message) in [
            ("{}", "0", "exactly one"),
            ("{header: a, query: b}", "0", "exactly one"),
            ("{header: 'a b'}", "0.header", "no name"),
            ("{cookie: 'a=b'}", "0.cookie", "no name"),
            ("{query: ''}", "0.query", "no name"),
            ("{query: a, scheme: Bearer}", "0.scheme", "in a `header` alone"),
            ("{header: authorization, scheme: 'a b'}", "0.scheme", "one word"),
        ] {
            let mut error = BuildError::none();
            let config: PlaceConfig = serde_yaml::from_str(yaml).unwrap();
            Places::new(&[config], &OptionPath::root(), &mut error);
            let all: Vec<_> =
                error.messages().map(|(path, said)| format!("{path}: {said}")).collect();
            assert_eq!(all.len(), 1, "{yaml}: {all:?}");
            let path = format!("[{}", at.replacen('0', "0]", 1));
            assert!(all[0].starts_with(&path) && all[0].contains(message), "{yaml}: {all:?}");
        }
    }
}
