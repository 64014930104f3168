//! Choices: which of several shapes a value was meant to have.

use serde_yaml::{Mapping, Value};

use super::{Kind, MapShape, Rest, ShapeId, Shapes};

/// The shape a value was meant to have, or what was expected of it.
pub(super) enum Meant {
    Shape(ShapeId),
    /// No shape of the choice is of the value's type.
    None,
    /// Mappings are accepted, but none of those that are has any of the value's keys.
    NoKnownKey(Vec<String>),
    /// Mappings are told apart by this key, which has another or no text.
    Tag(String, Vec<String>),
}

impl Shapes {
    /// Decides by the value's type, then by its tag, then by its keys.
    pub(super) fn meant(&self, choices: &[ShapeId], value: &Value) -> Meant {
        let fitting: Vec<ShapeId> =
            choices.iter().copied().filter(|choice| self.is_of_type(*choice, value)).collect();
        match (&fitting[..], value) {
            ([], _) => Meant::None,
            ([one], _) => Meant::Shape(*one),
            (several, Value::Mapping(mapping)) => self.meant_mapping(several, mapping),
            (several, Value::String(text)) => {
                let exact = several.iter().find(|choice| self.allows(**choice, text));
                Meant::Shape(*exact.unwrap_or(&several[0]))
            }
            (several, _) => Meant::Shape(several[0]),
        }
    }

    fn is_of_type(&self, id: ShapeId, value: &Value) -> bool {
        let shape = self.get(id);
        match (&shape.kind, value) {
            (Kind::Any, _) => true,
            (Kind::Choice(choices), _) => {
                choices.iter().any(|choice| self.is_of_type(*choice, value))
            }
            (_, Value::Null) => shape.nullable || matches!(shape.kind, Kind::Null),
            (Kind::Bool, Value::Bool(_)) => true,
            (Kind::Integer { .. }, Value::Number(number)) => !number.is_f64(),
            (Kind::Number { .. }, Value::Number(_)) => true,
            (Kind::Text { format: Some(format), .. }, Value::Number(_)) => format.numbers,
            (Kind::Text { .. }, Value::String(_)) => true,
            (Kind::List { .. }, Value::Sequence(_)) => true,
            (Kind::Map(_), Value::Mapping(_)) => true,
            _ => false,
        }
    }

    /// Whether a text is one that the shape allows in particular.
    fn allows(&self, id: ShapeId, text: &str) -> bool {
        match &self.get(id).kind {
            Kind::Text { format: Some(format), .. } => (format.check)(text).is_ok(),
            Kind::Text { one_of, .. } => one_of.iter().any(|one| one == text),
            _ => false,
        }
    }

    fn meant_mapping(&self, several: &[ShapeId], mapping: &Mapping) -> Meant {
        let maps: Vec<(ShapeId, &MapShape)> = several
            .iter()
            .filter_map(|id| match &self.get(*id).kind {
                Kind::Map(map) => Some((*id, map)),
                _ => None,
            })
            .collect();
        if maps.len() < several.len() {
            // A choice within the choice: nothing to compare, so the first decides.
            return Meant::Shape(several[0]);
        }
        if let Some(tag) = common_tag(&maps) {
            return by_tag(&maps, &tag, mapping);
        }
        let score = |map: &MapShape| {
            let known = mapping.keys().filter(|key| knows(map, key)).count();
            let missing = map.required.iter().filter(|key| !mapping.contains_key(key.as_str()));
            (known, std::cmp::Reverse(missing.count()))
        };
        let mut best = maps[0];
        for candidate in &maps[1..] {
            if score(candidate.1) > score(best.1) {
                best = *candidate;
            }
        }
        if score(best.1).0 == 0 {
            let mut keys: Vec<String> =
                maps.iter().flat_map(|(_, map)| map.keys.keys().cloned()).collect();
            keys.sort();
            keys.dedup();
            return Meant::NoKnownKey(keys);
        }
        Meant::Shape(best.0)
    }

    /// The keys another mapping of the choice has, by which `key` is known there.
    pub(super) fn is_key_of_another(&self, choices: &[ShapeId], key: &str) -> bool {
        choices.iter().any(|id| match &self.get(*id).kind {
            Kind::Map(map) => map.keys.contains_key(key),
            _ => false,
        })
    }
}

fn knows(map: &MapShape, key: &Value) -> bool {
    match (key.as_str(), &map.rest) {
        (Some(key), Rest::Refused) => map.keys.contains_key(key),
        (Some(_), Rest::Accepted(_)) => true,
        (None, _) => false,
    }
}

/// The key that holds a fixed text in every one of the mappings.
fn common_tag(maps: &[(ShapeId, &MapShape)]) -> Option<String> {
    let (_, first) = maps.first()?;
    let is_common = |tag: &str| maps.iter().all(|(_, map)| map.tags.iter().any(|(t, _)| t == tag));
    first.tags.iter().map(|(tag, _)| tag).find(|tag| is_common(tag)).cloned()
}

fn by_tag(maps: &[(ShapeId, &MapShape)], tag: &str, mapping: &Mapping) -> Meant {
    let written = mapping.get(tag).and_then(Value::as_str);
    let texts = maps.iter().flat_map(|(id, map)| {
        let tagged = map.tags.iter().filter(|(t, _)| t == tag);
        tagged.map(|(_, text)| (*id, text.as_str()))
    });
    let known: Vec<(ShapeId, &str)> = texts.collect();
    match known.iter().find(|(_, text)| Some(*text) == written) {
        Some((id, _)) => Meant::Shape(*id),
        None => Meant::Tag(tag.to_owned(), known.iter().map(|(_, text)| (*text).into()).collect()),
    }
}
