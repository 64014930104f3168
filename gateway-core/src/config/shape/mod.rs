//! Shapes: what a document may look like, compiled once from JSON Schemas and walked often.

mod at;
mod choice;
mod compile;
mod json;
mod walk;
mod words;

use std::collections::HashMap;

use super::scalar::Format;

pub(super) use compile::compile;
pub(super) use walk::{Found, Walk};

/// A shape's place among [`Shapes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShapeId(usize);

/// Every shape of a document.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    shapes: Vec<Shape>,
    /// What `options` of a plugin looks like, by its kind.
    options: HashMap<&'static str, ShapeId>,
}

/// What one value may look like.
#[derive(Debug)]
struct Shape {
    kind: Kind,
    /// Whether nothing (`null`) is accepted too.
    nullable: bool,
    /// Whether a text here is a secret.
    secret: bool,
}

#[derive(Debug)]
enum Kind {
    /// Anything; also what is not known yet while shapes are compiled.
    Any,
    Null,
    Bool,
    Integer {
        min: i128,
        max: i128,
    },
    Number {
        min: f64,
        max: f64,
    },
    Text {
        one_of: Vec<String>,
        min: usize,
        format: Option<&'static Format>,
    },
    List {
        item: ShapeId,
        min: usize,
        max: usize,
    },
    Map(MapShape),
    Choice(Vec<ShapeId>),
}

#[derive(Debug)]
struct MapShape {
    keys: HashMap<String, ShapeId>,
    required: Vec<String>,
    rest: Rest,
    /// Whether `options` depends on `kind`, as it does for a plugin.
    options_by_kind: bool,
    /// Keys that hold one fixed text, such as the tag of an enum.
    tags: Vec<(String, String)>,
}

/// What becomes of keys that are not listed.
#[derive(Debug)]
enum Rest {
    Refused,
    Accepted(ShapeId),
}

impl Shapes {
    fn get(&self, id: ShapeId) -> &Shape {
        &self.shapes[id.0]
    }

    fn add(&mut self, kind: Kind) -> ShapeId {
        self.shapes.push(Shape { kind, nullable: false, secret: false });
        ShapeId(self.shapes.len() - 1)
    }

    fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<&str> = self.options.keys().copied().collect();
        kinds.sort_unstable();
        kinds
    }

    /// Completes "expected ...".
    fn expects(&self, id: ShapeId) -> String {
        match &self.get(id).kind {
            Kind::Any => "a value".into(),
            Kind::Null => "nothing".into(),
            Kind::Bool => "`true` or `false`".into(),
            Kind::Integer { min, max } => range("a whole number", *min, *max),
            Kind::Number { min, max } => match (min.is_finite(), max.is_finite()) {
                (true, true) => format!("a number from {min} to {max}"),
                (true, false) => format!("a number of at least {min}"),
                (false, true) => format!("a number of at most {max}"),
                (false, false) => "a number".into(),
            },
            Kind::Text { format: Some(format), .. } => format.expects.into(),
            Kind::Text { one_of, .. } if one_of.is_empty() => "text".into(),
            Kind::Text { one_of, .. } => {
                let words: Vec<&str> = one_of.iter().map(String::as_str).collect();
                let one_of = if words.len() > 1 { "one of " } else { "" };
                format!("{one_of}{}", super::nearest::listed(&words))
            }
            Kind::List { .. } => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
            Kind::Choice(choices) => {
                let mut words: Vec<String> = Vec::new();
                for choice in choices {
                    let expects = self.expects(*choice);
                    if !words.contains(&expects) {
                        words.push(expects);
                    }
                }
                words.join(" or ")
            }
        }
    }
}

fn range(what: &str, min: i128, max: i128) -> String {
    match (min > i128::from(i64::MIN), max < i128::from(u32::MAX)) {
        (true, true) => format!("{what} from {min} to {max}"),
        (true, false) => format!("{what} of at least {min}"),
        (false, true) => format!("{what} of at most {max}"),
        (false, false) => what.into(),
    }
}
