//! The tree a condition is compiled to, and how it is held against a request.

use std::cmp::Ordering;
use std::net::IpAddr;

use memchr::memmem::Finder;
use regex::Regex;

use super::super::attribute::{Attribute, Facts, Value};

/// Something true or false.
#[derive(Debug)]
pub(super) enum Expression {
    Constant(bool),
    Not(Box<Expression>),
    All(Box<[Expression]>),
    Any(Box<[Expression]>),
    Same(Box<[Expression; 2]>),
    Has(Attribute),
    /// The text is an item of the list.
    Member(Text, Attribute),
    Text(Text, TextTest),
    Int(Int, IntTest),
    /// The address is one of these, which are sorted: a comparison that writes no text.
    Address(Attribute, Box<[IpAddr]>),
}

/// Something with text in it.
#[derive(Debug)]
pub(super) enum Text {
    Literal(Box<str>),
    Attribute(Attribute),
}

/// Something with a number in it.
#[derive(Debug)]
pub(super) enum Int {
    Literal(i64),
    Attribute(Attribute),
    Size(Text),
}

#[derive(Debug)]
pub(super) enum TextTest {
    Compare(Comparison, Text),
    /// Sorted.
    In(Box<[Box<str>]>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<Finder<'static>>),
    Matches(Regex),
}

#[derive(Debug)]
pub(super) enum IntTest {
    Compare(Comparison, Int),
    /// Sorted.
    In(Box<[i64]>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Comparison {
    Equal,
    Different,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Different => left != right,
            _ => self.admits(left.cmp(right)),
        }
    }

    fn admits(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Different => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Expression {
    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Constant(constant) => *constant,
            Self::Not(inner) => !inner.holds(facts),
            Self::All(terms) => terms.iter().all(|term| term.holds(facts)),
            Self::Any(terms) => terms.iter().any(|term| term.holds(facts)),
            Self::Same(pair) => pair[0].holds(facts) == pair[1].holds(facts),
            Self::Has(attribute) => attribute.with_text(facts, |text| text.is_some()),
            Self::Member(item, list) => {
                item.with(facts, |item| item.is_some_and(|item| list.has(item, facts)))
            }
            Self::Text(text, test) => {
                text.with(facts, |text| text.is_some_and(|text| test.holds(text, facts)))
            }
            Self::Int(int, test) => int.read(facts).is_some_and(|int| test.holds(int, facts)),
            Self::Address(attribute, list) => {
                attribute.address(facts).is_some_and(|address| list.binary_search(&address).is_ok())
            }
        }
    }
}

impl Expression {
    /// A test of text, of addresses without writing them where that comes to the same.
    pub(super) fn of_text(text: Text, test: TextTest) -> Self {
        let literals: Option<Vec<&str>> = match (&text, &test) {
            (
                Text::Attribute(Attribute::ClientIp | Attribute::PeerIp),
                TextTest::Compare(Comparison::Equal, Text::Literal(literal)),
            ) => Some(vec![literal]),
            (Text::Attribute(Attribute::ClientIp | Attribute::PeerIp), TextTest::In(list)) => {
                Some(list.iter().map(|item| &**item).collect())
            }
            _ => None,
        };
        let addresses = literals.and_then(|literals| {
            let parse = |literal: &str| {
                let address: IpAddr = literal.parse().ok()?;
                // Written otherwise it equals nothing.
                (address.to_string() == literal).then_some(address)
            };
            let mut all = literals.into_iter().map(parse).collect::<Option<Vec<_>>>()?;
            all.sort_unstable();
            Some(all)
        });
        match (addresses, text) {
            (Some(addresses), Text::Attribute(attribute)) => {
                Self::Address(attribute, addresses.into())
            }
            (_, text) => Self::Text(text, test),
        }
    }

    /// The attributes it reads.
    pub(super) fn attributes<'a>(&'a self, found: &mut Vec<&'a Attribute>) {
        match self {
            Self::Constant(_) => {}
            Self::Not(inner) => inner.attributes(found),
            Self::All(terms) | Self::Any(terms) => {
                terms.iter().for_each(|term| term.attributes(found));
            }
            Self::Same(pair) => pair.iter().for_each(|term| term.attributes(found)),
            Self::Has(attribute) | Self::Address(attribute, _) => found.push(attribute),
            Self::Member(item, list) => {
                found.extend(item.attribute());
                found.push(list);
            }
            Self::Text(text, test) => {
                found.extend(text.attribute());
                if let TextTest::Compare(_, other) = test {
                    found.extend(other.attribute());
                }
            }
            Self::Int(int, test) => {
                found.extend(int.attribute());
                if let IntTest::Compare(_, other) = test {
                    found.extend(other.attribute());
                }
            }
        }
    }
}

impl Int {
    fn attribute(&self) -> Option<&Attribute> {
        match self {
            Self::Literal(_) => None,
            Self::Attribute(attribute) => Some(attribute),
            Self::Size(text) => text.attribute(),
        }
    }
}

impl Text {
    fn attribute(&self) -> Option<&Attribute> {
        match self {
            Self::Literal(_) => None,
            Self::Attribute(attribute) => Some(attribute),
        }
    }

    fn with<R>(&self, facts: &Facts<'_>, take: impl FnOnce(Option<&str>) -> R) -> R {
        match self {
            Self::Literal(literal) => take(Some(literal)),
            Self::Attribute(attribute) => attribute.with_text(facts, take),
        }
    }
}

impl TextTest {
    fn holds(&self, text: &str, facts: &Facts<'_>) -> bool {
        match self {
            Self::Compare(comparison, other @ Text::Attribute(_)) => {
                other.with(facts, |other| other.is_some_and(|other| comparison.holds(text, other)))
            }
            alone => alone.holds_alone(text),
        }
    }

    /// The same of a test that reads nothing besides.
    pub(super) fn holds_alone(&self, text: &str) -> bool {
        match self {
            Self::Compare(comparison, Text::Literal(other)) => comparison.holds(text, &**other),
            Self::Compare(_, Text::Attribute(_)) => false,
            Self::In(list) => list.binary_search_by(|item| (**item).cmp(text)).is_ok(),
            Self::StartsWith(prefix) => text.starts_with(&**prefix),
            Self::EndsWith(suffix) => text.ends_with(&**suffix),
            Self::Contains(finder) => finder.find(text.as_bytes()).is_some(),
            Self::Matches(regex) => regex.is_match(text),
        }
    }
}

impl Int {
    fn read(&self, facts: &Facts<'_>) -> Option<i64> {
        match self {
            Self::Literal(literal) => Some(*literal),
            Self::Attribute(attribute) => match attribute.read(facts)? {
                Value::Int(int) => Some(int),
                Value::Text(_) => None,
            },
            Self::Size(text) => text
                .with(facts, |text| text.and_then(|text| i64::try_from(text.chars().count()).ok())),
        }
    }
}

impl IntTest {
    fn holds(&self, int: i64, facts: &Facts<'_>) -> bool {
        match self {
            Self::Compare(comparison, other) => {
                other.read(facts).is_some_and(|other| comparison.holds(&int, &other))
            }
            Self::In(list) => list.binary_search(&int).is_ok(),
        }
    }
}
