//! What plugins publish: facts, one by one or found out once for many requests.

use std::sync::Arc;

/// A fact that a plugin publishes: a text, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    text: Box<str>,
    /// `None` for a text.
    list: Option<Box<[Box<str>]>>,
}

impl Fact {
    /// A text.
    pub fn text(text: impl Into<Box<str>>) -> Self {
        Self { text: text.into(), list: None }
    }

    /// A list. Where it is read as a text, its items are parted by commas.
    pub fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> Self {
        let list: Box<[Box<str>]> = items.into_iter().map(Into::into).collect();
        Self { text: list.join(",").into(), list: Some(list) }
    }

    /// The same fact, but read as this text where it is read as one.
    pub fn read_as(mut self, text: impl Into<Box<str>>) -> Self {
        self.text = text.into();
        self
    }

    /// The text.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// Whether the list has this item, or the text is it.
    pub fn has(&self, item: &str) -> bool {
        match &self.list {
            Some(list) => list.iter().any(|own| **own == *item),
            None => *self.text == *item,
        }
    }
}

impl<T: Into<Box<str>>> From<T> for Fact {
    fn from(text: T) -> Self {
        Self::text(text)
    }
}

/// Facts by their full names, found out once and published for many requests, such as the claims of a
/// token.
#[derive(Debug, Default)]
pub struct FactSet(Box<[(Box<str>, Fact)]>);

impl FactSet {
    /// Of two facts of one name the later one counts.
    pub fn new(facts: impl IntoIterator<Item = (Box<str>, Fact)>) -> Arc<Self> {
        let mut facts: Vec<(Box<str>, Fact)> = facts.into_iter().collect();
        facts.reverse();
        facts.sort_by(|(one, _), (other, _)| one.cmp(other));
        facts.dedup_by(|(one, _), (other, _)| one == other);
        Arc::new(Self(facts.into()))
    }

    /// The fact of this name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.0[place].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_by_name_and_the_later_of_two_counts() {
        let fact = |name: &str, text: &str| (name.into(), Fact::text(text));
        let set = FactSet::new([fact("b", "1"), fact("a", "2"), fact("b", "3")]);
        assert_eq!(set.get("b").map(Fact::as_text), Some("3"));
        assert_eq!(set.get("a").map(Fact::as_text), Some("2"));
        assert!(set.get("c").is_none());
    }

    #[test]
    fn a_list_has_its_items_and_not_what_they_make_together() {
        let list = Fact::list(["a,b", "c"]);
        assert!(list.has("a,b") && list.has("c"));
        assert!(!list.has("a") && !list.has("b") && !list.has("a,b,c"));
        assert_eq!(list.as_text(), "a,b,c");
        assert!(Fact::text("x").has("x") && !Fact::text("x y").has("x"));
    }
}
