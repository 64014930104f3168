//! The place of a value inside a document: `routes[2].plugins[0].options`.

use std::fmt;

/// One step into a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Into a mapping.
    Key(String),
    /// Into a list, counted from 0.
    Index(usize),
}

/// Steps from the root of the merged document; the root itself has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigPath(Vec<Segment>);

impl ConfigPath {
    /// The whole document.
    pub fn root() -> Self {
        Self::default()
    }

    /// One step further, into the mapping's `key`.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.0.push(Segment::Key(key.into()));
        self
    }

    /// One step further, into the list's item `index`.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Segment::Index(index));
        self
    }

    /// The steps, outermost first.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// This path followed by all of `rest`.
    #[must_use]
    pub fn join(mut self, rest: &ConfigPath) -> Self {
        self.0.extend_from_slice(&rest.0);
        self
    }
}

impl From<Vec<Segment>> for ConfigPath {
    fn from(segments: Vec<Segment>) -> Self {
        Self(segments)
    }
}

impl From<&serde_path_to_error::Path> for ConfigPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment as Step;
        let segments = path.iter().map_while(|step| match step {
            Step::Seq { index } => Some(Segment::Index(*index)),
            Step::Map { key } => Some(Segment::Key(key.clone())),
            Step::Enum { variant } => Some(Segment::Key(variant.clone())),
            Step::Unknown => None,
        });
        Self(segments.collect())
    }
}

impl fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if !is_plain(key) => write!(f, "[{key:?}]")?,
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '<');
    !key.is_empty() && key.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_reads_as_an_operator_would_write_it() {
        let path = ConfigPath::root().key("routes").index(2).key("plugins").index(0);

        assert_eq!(path.to_string(), "routes[2].plugins[0]");
    }

    #[test]
    fn key_with_a_dot_is_quoted() {
        let path = ConfigPath::root().key("labels").key("a.b").key("c");

        assert_eq!(path.to_string(), "labels[\"a.b\"].c");
    }
}
