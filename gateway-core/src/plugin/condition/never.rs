//! Conditions that are true for no request, or for each, as far as their form tells.

use std::net::IpAddr;

use super::expression::{Comparison, Expression, Text, TextTest};
use crate::plugin::attribute::Attribute;

impl Expression {
    /// Whether it is this for every request.
    pub(super) fn is_always(&self, what: bool) -> bool {
        match self {
            Self::Constant(constant) => *constant == what,
            Self::Not(inner) => inner.is_always(!what),
            Self::All(terms) if what => terms.iter().all(|term| term.is_always(true)),
            Self::All(terms) => terms.iter().any(|term| term.is_always(false)) || contradict(terms),
            Self::Any(terms) if what => terms.iter().any(|term| term.is_always(true)),
            Self::Any(terms) => terms.iter().all(|term| term.is_always(false)),
            Self::Text(Text::Literal(text), test) => test.of(text) == Some(what),
            // What a request holds can be ruled out, and never be taken for granted.
            other => {
                let asked = other.only().filter(|_| !what);
                asked.is_some_and(|(attribute, values)| {
                    values.iter().all(|value| is_impossible(attribute, value))
                })
            }
        }
    }

    /// The one attribute that it reads, and the values for which alone it is true.
    fn only(&self) -> Option<(&Attribute, Vec<&str>)> {
        let Self::Text(Text::Attribute(attribute), test) = self else { return None };
        match test {
            TextTest::Compare(Comparison::Equal, Text::Literal(value)) => {
                Some((attribute, vec![value]))
            }
            TextTest::In(values) => {
                Some((attribute, values.iter().map(|value| &**value).collect()))
            }
            _ => None,
        }
    }
}

impl TextTest {
    /// What it says of a text, where it reads nothing else.
    fn of(&self, text: &str) -> Option<bool> {
        match self {
            Self::Compare(_, Text::Attribute(_)) => None,
            alone => Some(alone.holds_alone(text)),
        }
    }
}

/// Whether two of the terms ask one attribute for values that are not the same.
fn contradict(terms: &[Expression]) -> bool {
    let known: Vec<_> = terms.iter().filter_map(Expression::only).collect();
    known.iter().enumerate().any(|(place, (attribute, values))| {
        known[place + 1..].iter().any(|(other, others)| {
            attribute == other && !values.iter().any(|value| others.contains(value))
        })
    })
}

/// Whether an attribute never holds this text.
fn is_impossible(attribute: &Attribute, value: &str) -> bool {
    match attribute {
        // Of the form in which paths are matched.
        Attribute::RequestPath => {
            !value.starts_with('/')
                || value.contains("//")
                || value.contains(['|', '[', ']', '{', '}', '^', '`', ' '])
        }
        Attribute::RequestHost => value.chars().any(|one| one.is_ascii_uppercase()),
        Attribute::RequestScheme => !["http", "https"].contains(&value),
        Attribute::RequestProtocol => !["HTTP/1.0", "HTTP/1.1", "HTTP/2"].contains(&value),
        Attribute::TlsVersion => !["TLSv1.2", "TLSv1.3"].contains(&value),
        Attribute::ClientIp | Attribute::PeerIp => {
            value.parse::<IpAddr>().map_or(true, |address| address.to_string() != value)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::plugin::{Condition, PublishedNames};

    #[test]
    fn only_what_no_request_can_meet_is_never() {
        for (source, never) in [
            ("false", true),
            ("'a' == 'b'", true),
            ("!('a' == 'a')", true),
            ("request.method == 'GET' && request.method in ['PUT', 'POST']", true),
            ("request.path == 'a' || client.ip == '10.0.0.0/8'", true),
            ("request.method in []", true),
            ("request.path in ['/a|b', '/a//b']", true),
            ("true", false),
            ("'a' == 'a' || false", false),
            ("request.method == 'GET' && request.method in ['GET', 'POST']", false),
            ("request.method == 'GET' || request.method == 'PUT'", false),
            ("request.method == 'GET' && request.method != 'PUT'", false),
            ("request.path in ['a', '/a']", false),
            ("request.path != 'a'", false),
            ("!(request.path == 'a')", false),
            ("client.ip in ['10.0.0.1', 'x']", false),
            ("request.header.a == '1' && request.header.b == '2'", false),
        ] {
            let condition = Condition::parse(source, &PublishedNames::default(), false);
            assert_eq!(condition.unwrap().is_never(), never, "{source}");
        }
    }
}
