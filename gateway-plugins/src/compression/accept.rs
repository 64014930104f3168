//! What a client accepts: `Accept-Encoding`, by RFC 9110, section 12.5.3.

use http::{HeaderMap, header};

use crate::coding::Coding;

/// What was found out of a client's wishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The coding of ours that it likes best; of several, the one that stands first in our list. `None` if it accepts none,
    /// or likes it better without.
    pub(super) coding: Option<Coding>,
    /// Whether it does not want bodies as they are.
    pub(super) refuses_identity: bool,
}

/// A weight in thousandths, from 0 to 1000.
type Weight = u16;

impl Accepted {
    /// What a client with these fields accepts of these codings. Who says nothing gets none: it may be too simple to know
    /// any.
    pub(super) fn of(headers: &HeaderMap, ours: &[Coding]) -> Self {
        // Of what is said twice the first counts, so that what is held has a bound.
        let (mut identity, mut others) = (None, None);
        let mut named: Vec<(Coding, Weight)> = Vec::with_capacity(ours.len());
        let fields = headers.get_all(header::ACCEPT_ENCODING).iter();
        for element in fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')) {
            let (name, weight) = element_of(element);
            match Coding::named(name) {
                _ if name == b"*" => {
                    others.get_or_insert(weight);
                }
                _ if name.eq_ignore_ascii_case(b"identity") => {
                    identity.get_or_insert(weight);
                }
                Some(coding) if named.iter().all(|(held, _)| *held != coding) => {
                    named.push((coding, weight));
                }
                _ => {}
            }
        }
        let weight = |coding: Coding| {
            let own = named.iter().find(|(held, _)| *held == coding).map(|(_, weight)| *weight);
            own.or(others).unwrap_or(0)
        };
        let mut best = None;
        for coding in ours {
            let weight = weight(*coding);
            if weight > best.map_or(0, |(_, best)| best) {
                best = Some((*coding, weight));
            }
        }
        let liked = best.filter(|(_, weight)| *weight >= identity.unwrap_or(0));
        Self {
            coding: liked.map(|(coding, _)| coding),
            refuses_identity: identity.or(others) == Some(0),
        }
    }
}

/// A name, and its weight. One that is no weight counts as none: the body passes as it is, which is never wrong.
fn element_of(element: &[u8]) -> (&[u8], Weight) {
    let mut parts = element.split(|byte| *byte == b';');
    let name = parts.next().unwrap_or_default().trim_ascii();
    let weight = parts.find_map(|part| {
        let part = part.trim_ascii();
        part.strip_prefix(b"q=").or(part.strip_prefix(b"Q="))
    });
    (name, weight.map_or(1000, |weight| weight_of(weight).unwrap_or(0)))
}

/// `qvalue` of RFC 9110, section 12.4.2: at most three digits behind the point.
fn weight_of(text: &[u8]) -> Option<Weight> {
    let (whole, rest) = text.split_first()?;
    let digits = match rest.split_first() {
        None => &[][..],
        Some((b'.', digits)) if digits.len() <= 3 => digits,
        Some(_) => return None,
    };
    let mut thousandths = 0;
    for place in 0..3 {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        thousandths =
            thousandths * 10 + Weight::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    fn accepted(field: &str) -> Accepted {
        let value = http::HeaderValue::from_str(field).unwrap();
        Accepted::of(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]), &OURS)
    }

    #[test]
    fn the_heaviest_coding_is_chosen_and_of_equal_ones_the_first_of_ours() {
        for (field, expected) in [
            ("", None),
            ("gzip", Some(Coding::Gzip)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip;q=1.0, br;q=0.9, zstd;q=0.8", Some(Coding::Gzip)),
            ("gzip ; q=0.5 , br ; Q=0.501", Some(Coding::Brotli)),
            ("br;q=0, gzip", Some(Coding::Gzip)),
            ("br;q=0.000", None),
            ("deflate, compress, exi", None),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.1, gzip;q=0.2", Some(Coding::Gzip)),
            ("zstd;q=0, *", Some(Coding::Brotli)),
            ("*;q=0", None),
            ("gzip, *;q=0", Some(Coding::Gzip)),
            ("identity, gzip;q=0.5", None),
            ("identity, gzip", Some(Coding::Gzip)),
            ("identity;q=0.5, gzip;q=0.8", Some(Coding::Gzip)),
            ("gzip;q=2, br;q=0.1234, zstd;q=1.001", None),
            ("gzip;q=, br;q=-1, zstd;q=.5", None),
            ("gzip;q=0.5;x=y", Some(Coding::Gzip)),
        ] {
            assert_eq!(accepted(field).coding, expected, "{field}");
        }
        assert_eq!(Accepted::of(&HeaderMap::new(), &OURS), Accepted::default());
    }

    #[test]
    fn whether_a_body_may_be_as_it_is_can_be_told() {
        for (field, refuses) in [
            ("gzip", false),
            ("identity;q=0", true),
            ("gzip, identity;q=0", true),
            ("gzip, *;q=0", true),
            ("identity, *;q=0", false),
            ("*", false),
        ] {
            assert_eq!(accepted(field).refuses_identity, refuses, "{field}");
        }
    }

    proptest! {
        #[test]
        fn no_field_is_read_wrongly_or_panics(field in "[ -~]{0,80}") {
            let chosen = accepted(&field).coding;
            let named = |coding: Coding| field.to_ascii_lowercase().contains(coding.name());
            prop_assert!(chosen.is_none_or(|coding| named(coding) || field.contains('*')));
        }

        #[test]
        fn weights_are_read_as_numbers(thousandths in 0_u16..=1000) {
            let text = format!("{:.3}", f64::from(thousandths) / 1000.0);
            prop_assert_eq!(weight_of(text.as_bytes()), Some(thousandths));
        }
    }
}
