//! Where each node of a YAML text stands: the table from path to line and column, built for faults.

use granit_parser::{ErrorKind, Event, Parser, ScanError, Span, options};

use super::path::Segment;

/// A line and a column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub line: usize,
    pub column: usize,
}

/// A key written twice in one mapping.
#[derive(Debug)]
pub(super) struct DuplicateKey {
    pub path: Vec<Segment>,
    pub at: Mark,
    pub first: Mark,
}

/// The positions of one file's nodes, as far as the text could be read.
#[derive(Debug)]
pub(super) struct Marks {
    root: Node,
    /// Every key that repeats an earlier one of its mapping.
    pub duplicates: Vec<DuplicateKey>,
    /// The start of a second document in the same file.
    pub second_document: Option<Mark>,
    /// Where the text nests deeper than the reader goes.
    pub too_deep: Option<Mark>,
}

#[derive(Debug)]
struct Node {
    at: Mark,
    children: Children,
}

#[derive(Debug)]
enum Children {
    /// A scalar, or an alias: what an alias stands for is placed at the alias.
    None,
    Items(Vec<Node>),
    Entries(Vec<Entry>),
}

#[derive(Debug)]
struct Entry {
    key: Box<str>,
    key_at: Mark,
    value: Node,
}

impl Marks {
    /// Reads positions up to the end of the text, or up to its first syntax error.
    pub fn read(text: &str) -> Self {
        let options = options! { emit_comments: false };
        let mut builder = Builder::default();
        for event in Parser::new_from_str_with_options(text, options) {
            match event {
                Ok((event, span)) => builder.event(&event, &span),
                Err(error) => {
                    builder.error(&error);
                    break;
                }
            }
        }
        builder.finish()
    }

    /// The position of the key (`at_key`) or value at `path`, or of its nearest ancestor.
    pub fn locate(&self, path: &[Segment], at_key: bool) -> Mark {
        let mut node = &self.root;
        let mut key_at = node.at;
        for segment in path {
            match (segment, &node.children) {
                (Segment::Index(index), Children::Items(items)) => match items.get(*index) {
                    Some(item) => (node, key_at) = (item, item.at),
                    None => return node.at,
                },
                (Segment::Key(key), Children::Entries(entries)) => match find(entries, key) {
                    Some(entry) => (node, key_at) = (&entry.value, entry.key_at),
                    None => return node.at,
                },
                _ => return node.at,
            }
        }
        if at_key { key_at } else { node.at }
    }
}

/// The entry of that key, or the `<<` that brought it in.
fn find<'n>(entries: &'n [Entry], key: &str) -> Option<&'n Entry> {
    let named = |wanted: &str| entries.iter().find(|entry| &*entry.key == wanted);
    named(key).or_else(|| named("<<"))
}

/// A collection whose end has not been read.
struct Open {
    at: Mark,
    children: Children,
    /// The key whose value comes next.
    key: Option<(Box<str>, Mark)>,
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    root: Option<Node>,
    duplicates: Vec<DuplicateKey>,
    documents: usize,
    second_document: Option<Mark>,
    too_deep: Option<Mark>,
}

impl Builder {
    fn error(&mut self, error: &ScanError) {
        if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
            let at = error.marker();
            self.too_deep = Some(Mark { line: at.line(), column: at.col() + 1 });
        }
    }

    fn event(&mut self, event: &Event<'_>, span: &Span) {
        let at = mark(span);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents == 2 {
                    self.second_document = Some(at);
                }
            }
            _ if self.documents > 1 => {}
            Event::Scalar(text, ..) => self.node(Some(text), Node { at, children: Children::None }),
            Event::Alias(_) => self.node(None, Node { at, children: Children::None }),
            Event::SequenceStart(..) => self.open(at, Children::Items(Vec::new())),
            Event::MappingStart(..) => self.open(at, Children::Entries(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => {}
        }
    }

    fn open(&mut self, at: Mark, children: Children) {
        self.stack.push(Open { at, children, key: None });
    }

    fn close(&mut self) {
        if let Some(open) = self.stack.pop() {
            self.node(None, Node { at: open.at, children: open.children });
        }
    }

    /// Hangs a finished node into its parent: as an item, a key, or the value of the last key.
    fn node(&mut self, text: Option<&str>, node: Node) {
        let Some(parent) = self.stack.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        match (&mut parent.children, parent.key.take()) {
            (Children::Items(items), _) => items.push(node),
            (Children::Entries(entries), Some((key, key_at))) => {
                entries.push(Entry { key, key_at, value: node });
            }
            (Children::Entries(_), None) => {
                let key = text.unwrap_or_default();
                parent.key = Some((key.into(), node.at));
                self.note_duplicate(key, node.at);
            }
            (Children::None, _) => {}
        }
    }

    fn note_duplicate(&mut self, key: &str, at: Mark) {
        let Some(Open { children: Children::Entries(entries), .. }) = self.stack.last() else {
            return;
        };
        let Some(first) = entries.iter().find(|entry| &*entry.key == key) else {
            return;
        };
        let first = first.key_at;
        let mut path = self.path();
        path.push(Segment::Key(key.into()));
        self.duplicates.push(DuplicateKey { path, at, first });
    }

    /// The path of the innermost open collection.
    fn path(&self) -> Vec<Segment> {
        let parents = self.stack.iter().take(self.stack.len().saturating_sub(1));
        parents
            .map(|open| match (&open.children, &open.key) {
                (Children::Items(items), _) => Segment::Index(items.len()),
                (_, Some((key, _))) => Segment::Key(key.to_string()),
                (_, None) => Segment::Key(String::new()),
            })
            .collect()
    }

    /// Closes what a syntax error left open, so that the part read before it still has places.
    fn finish(mut self) -> Marks {
        while !self.stack.is_empty() {
            self.close();
        }
        let root =
            self.root.unwrap_or(Node { at: Mark { line: 1, column: 1 }, children: Children::None });
        Marks {
            root,
            duplicates: self.duplicates,
            second_document: self.second_document,
            too_deep: self.too_deep,
        }
    }
}

fn mark(span: &Span) -> Mark {
    Mark { line: span.start.line(), column: span.start.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, path: &[Segment], at_key: bool) -> (usize, usize) {
        let mark = Marks::read(text).locate(path, at_key);
        (mark.line, mark.column)
    }

    fn key(key: &str) -> Segment {
        Segment::Key(key.into())
    }

    #[test]
    fn key_and_value_have_places_of_their_own() {
        let text = "a: 1\nlist:\n  - name: x\n    port: 80\n";
        let path = [key("list"), Segment::Index(0), key("port")];

        assert_eq!(place(text, &path, true), (4, 5));
        assert_eq!(place(text, &path, false), (4, 11));
    }

    #[test]
    fn missing_node_is_placed_at_its_nearest_ancestor() {
        let text = "list:\n  - name: x\n";
        let path = [key("list"), Segment::Index(0), key("port"), key("deeper")];

        assert_eq!(place(text, &path, false), (2, 5));
    }

    #[test]
    fn node_under_an_alias_is_placed_at_the_alias() {
        let text = "base: &b {port: 80}\none: *b\ntwo:\n  <<: *b\n";

        assert_eq!(place(text, &[key("one"), key("port")], false), (2, 6));
        assert_eq!(place(text, &[key("two"), key("port")], false), (4, 7));
    }

    #[test]
    fn duplicate_keys_are_found_with_both_places() {
        let text = "list:\n  - a: 1\n    b: 2\n    a: 3\n";

        let marks = Marks::read(text);

        let duplicate = &marks.duplicates[0];
        assert_eq!(duplicate.path, [key("list"), Segment::Index(0), key("a")]);
        assert_eq!(duplicate.at, Mark { line: 4, column: 5 });
        assert_eq!(duplicate.first, Mark { line: 2, column: 5 });
    }

    #[test]
    fn text_broken_half_way_still_has_places_for_the_first_half() {
        assert_eq!(place("a: 1\nb: [1, 2\nc: }", &[key("a")], false), (1, 4));
    }
}
