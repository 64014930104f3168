//! Whether two answers are the same, but for what is expected to differ.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use crate::config::{CompareConfig, ConfigPath};
use crate::telemetry::Compared;

/// What of two answers is compared.
pub(crate) struct Comparison {
    headers: Box<[HeaderName]>,
    body: bool,
    ignored: Box<[Box<[Step]>]>,
    logged: f64,
}

/// A step of a path into a document of JSON.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(Box<str>),
    Index(usize),
    /// All of them.
    Every,
}

/// An answer as it is compared.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    /// `None` where it is too long.
    pub(super) body: Option<&'a [u8]>,
    pub(super) trailers: &'a HeaderMap,
}

impl Answer<'_> {
    /// The values of a field, wherever it stands: gRPC says how a call ended in trailers or, of one without messages, in
    /// the head.
    fn field(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.headers.get_all(name).iter().chain(self.trailers.get_all(name))
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

impl Comparison {
    pub(super) fn new(config: &CompareConfig, wrong: &mut Vec<(ConfigPath, String)>) -> Self {
        let mut ignored = Vec::new();
        for (place, text) in config.ignore.iter().enumerate() {
            match steps(text) {
                Ok(steps) => ignored.push(steps),
                Err(message) => {
                    let at = ConfigPath::root().key("mirror").key("compare").key("ignore");
                    wrong.push((at.index(place), message));
                }
            }
        }
        Self {
            headers: config.headers.iter().filter_map(|name| name.parse().ok()).collect(),
            body: config.body,
            ignored: ignored.into(),
            logged: config.log.fraction(),
        }
    }

    /// Whether a difference is logged. `random` is a number of its own for each, from 0 to 1.
    pub(super) fn logs(&self, random: f64) -> bool {
        random < self.logged
    }

    /// The first difference, and where it is. What stands there is not told: it may be anybody's.
    pub(super) fn of(&self, original: Answer<'_>, copy: Answer<'_>) -> (Compared, Option<String>) {
        if original.status != copy.status {
            let [one, two] = [original, copy].map(|answer| answer.status.as_u16());
            return (Compared::Status, Some(format!("status {two}, not {one}")));
        }
        let is_other = |name: &HeaderName| !original.field(name).eq(copy.field(name));
        if is_other(&GRPC_STATUS) {
            return (Compared::Status, Some("grpc-status".to_owned()));
        }
        if let Some(name) = self.headers.iter().find(|name| is_other(name)) {
            return (Compared::Header, Some(format!("header {name}")));
        }
        if !self.body {
            return (Compared::Same, None);
        }
        let (Some(one), Some(two)) = (original.body, copy.body) else {
            return (Compared::Skipped, None);
        };
        if one == two {
            return (Compared::Same, None);
        }
        let json = |body: &[u8]| serde_json::from_slice::<Value>(body).ok();
        let (Some(one), Some(two)) = (json(one), json(two)) else {
            return (Compared::Body, Some("body".to_owned()));
        };
        let ignored: Vec<&[Step]> = self.ignored.iter().map(|steps| &**steps).collect();
        let mut path = "$".to_owned();
        match differs(&one, &two, &ignored, &mut path) {
            true => (Compared::Body, Some(format!("body at {path}"))),
            false => (Compared::Same, None),
        }
    }
}

/// Whether two documents differ beside what is ignored; `path` is where then.
fn differs(one: &Value, two: &Value, ignored: &[&[Step]], path: &mut String) -> bool {
    if ignored.iter().any(|steps| steps.is_empty()) {
        return false;
    }
    let length = path.len();
    match (one, two) {
        (Value::Object(one), Value::Object(two)) => {
            let more = two.keys().filter(|key| !one.contains_key(*key));
            for key in one.keys().chain(more) {
                let inner = below(ignored, |step| match step {
                    Step::Key(wanted) => **wanted == **key,
                    Step::Every => true,
                    Step::Index(_) => false,
                });
                path.push('.');
                path.push_str(shown(key));
                let (one, two) = (one.get(key), two.get(key));
                let differ = match (one, two) {
                    (Some(one), Some(two)) => differs(one, two, &inner, path),
                    _ => !inner.iter().any(|steps| steps.is_empty()),
                };
                if differ {
                    return true;
                }
                path.truncate(length);
            }
            false
        }
        (Value::Array(one), Value::Array(two)) if one.len() == two.len() => {
            for (place, (one, two)) in one.iter().zip(two).enumerate() {
                let inner = below(ignored, |step| match step {
                    Step::Index(wanted) => *wanted == place,
                    Step::Every => true,
                    Step::Key(_) => false,
                });
                path.push_str(&format!("[{place}]"));
                if differs(one, two, &inner, path) {
                    return true;
                }
                path.truncate(length);
            }
            false
        }
        (Value::Number(one), Value::Number(two)) => {
            // 1 and 1.0 are one number; whole ones are not rounded.
            let rounds = one.is_f64() || two.is_f64();
            one != two && !(rounds && one.as_f64() == two.as_f64())
        }
        (one, two) => one != two,
    }
}

/// A key as it may be logged: one that is no name may be anybody's data.
fn shown(key: &str) -> &str {
    const LONGEST: usize = 64;
    let is_name = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_name && key.len() <= LONGEST { key } else { "(key)" }
}

/// What is left of the paths that go on with such a step.
fn below<'a>(ignored: &[&'a [Step]], fits: impl Fn(&Step) -> bool) -> Vec<&'a [Step]> {
    let first = ignored.iter().filter_map(|steps| steps.split_first());
    first.filter(|(step, _)| fits(step)).map(|(_, rest)| rest).collect()
}

/// Reads `$.a.b`, `$.items[*].id`, `$.items[0]`.
fn steps(text: &str) -> Result<Box<[Step]>, String> {
    let wrong =
        || format!("expected a path such as `$.updated_at` or `$.items[*].id`, got `{text}`");
    let mut rest = text.strip_prefix('$').ok_or_else(wrong)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (key, after) = after.split_at(end);
            steps.push(match key {
                "" => return Err(wrong()),
                "*" => Step::Every,
                key => Step::Key(key.into()),
            });
            rest = after;
        } else {
            let inside = rest.strip_prefix('[').and_then(|after| after.split_once(']'));
            let (index, after) = inside.ok_or_else(wrong)?;
            steps.push(match index {
                "*" => Step::Every,
                index => Step::Index(index.parse().map_err(|_| wrong())?),
            });
            rest = after;
        }
    }
    if steps.is_empty() { Err(wrong()) } else { Ok(steps.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(yaml: &str) -> Comparison {
        let mut wrong = Vec::new();
        let comparison = Comparison::new(&serde_yaml::from_str(yaml).unwrap(), &mut wrong);
        assert!(wrong.is_empty(), "{wrong:?}");
        comparison
    }

    fn answer<'a>(fields: &'a [HeaderMap; 2], body: Option<&'a str>) -> Answer<'a> {
        let [headers, trailers] = fields;
        Answer { status: StatusCode::OK, headers, body: body.map(str::as_bytes), trailers }
    }

    fn compare(yaml: &str, one: &str, two: &str) -> Option<String> {
        let fields = Default::default();
        comparison(yaml).of(answer(&fields, Some(one)), answer(&fields, Some(two))).1
    }

    #[test]
    fn bodies_of_json_are_compared_by_meaning() {
        for (one, two, expected) in [
            (r#"{"a": 1, "b": [1, 2]}"#, r#"{"b":[1,2],"a":1.0}"#, None),
            (r#"{"a": 1}"#, r#"{"a": 2}"#, Some("body at $.a")),
            ("[1234567890123456789]", "[1234567890123456788]", Some("body at $[0]")),
            (r#"{"a": 1}"#, r#"{"a": 1, "b": 2}"#, Some("body at $.b")),
            (r#"{"a": [1, {"x": 1}]}"#, r#"{"a": [1, {"x": "1"}]}"#, Some("body at $.a[1].x")),
            ("[1]", "[1, 2]", Some("body at $")),
            ("text", "text", None),
            ("text", "other", Some("body")),
            ("{}", "text", Some("body")),
        ] {
            assert_eq!(compare("{}", one, two).as_deref(), expected, "{one} {two}");
        }
        assert_eq!(compare("{body: false}", "a", "b"), None);
    }

    #[test]
    fn paths_that_are_listed_are_not_compared() {
        let one = r#"{"at": 1, "items": [{"id": 1, "n": 1}, {"id": 2, "n": 1}], "m": {"x": 1}}"#;
        let two = r#"{"at": 2, "items": [{"id": 3, "n": 1}, {"n": 1}], "m": {"x": 2}}"#;

        assert_eq!(compare("{ignore: [$.at, '$.items[*].id', $.m.*]}", one, two), None);
        assert_eq!(
            compare("{ignore: [$.at, '$.items[0].id', $.m]}", one, two).as_deref(),
            Some("body at $.items[1].id")
        );
        for broken in ["at", "$", "$.", "$.a[", "$.a[x]", "$a", "$..a"] {
            assert!(steps(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn statuses_and_headers_go_before_bodies() {
        let fields: [HeaderMap; 2] = Default::default();
        let mut more = fields.clone();
        more[0].insert("x-v", "1".parse().unwrap());
        let (one, two) = (answer(&fields, None), answer(&more, Some("")));

        let by_header = comparison("{headers: [X-V]}");
        assert_eq!(by_header.of(one, two), (Compared::Header, Some("header x-v".into())));
        let by_default = comparison("{}");
        assert_eq!(by_default.of(one, two), (Compared::Skipped, None));
        assert_eq!(
            by_default.of(one, Answer { status: StatusCode::BAD_GATEWAY, ..two }),
            (Compared::Status, Some("status 502, not 200".into()))
        );
    }

    #[test]
    fn a_call_of_grpc_has_its_status_in_the_trailers_or_in_the_head() {
        let said = |status: &str, place: usize| {
            let mut fields: [HeaderMap; 2] = Default::default();
            fields[place].insert("grpc-status", status.parse().unwrap());
            fields
        };
        let of = |one: &[HeaderMap; 2], two: &[HeaderMap; 2]| {
            comparison("{}").of(answer(one, Some("")), answer(two, Some(""))).0
        };

        assert_eq!(of(&said("0", 1), &said("0", 1)), Compared::Same);
        assert_eq!(of(&said("5", 0), &said("5", 1)), Compared::Same);
        assert_eq!(of(&said("0", 1), &said("5", 1)), Compared::Status);
        assert_eq!(of(&said("0", 1), &Default::default()), Compared::Status);
    }
}
