//! The one layout of a config file: how a text is brought into it without a change of what it means.

mod file;

use pretty_yaml::config::{FormatOptions, LanguageOptions, LayoutOptions};
use serde_yaml::Value;

use super::document::Document;
use super::fault::{Fault, Faults};
use super::text;

pub use file::{FileLayout, config_files};

/// The longest line, where what stands on it can be spread over several.
const WIDTH: usize = 100;

/// The text in the one layout: every comment kept, the same quotes, brackets that fit on a line on one.
///
/// # Errors
/// It is no YAML, or its layout cannot change without a change of what it means.
pub fn laid_out(name: &str, written: &str) -> Result<String, Faults> {
    let before = parse(name, written)?;
    if written.trim().is_empty() {
        return Ok(written.to_owned());
    }
    let once = pass(name, written)?;
    // A comment in an empty list comes to its place in two steps.
    let text = pass(name, &once)?;
    let refused =
        |why: &str| Err(Fault::of_file(name, format!("cannot be laid out: {why}")).into());
    if pass(name, &text)? != text {
        return refused("no layout of it is final");
    }
    if parse(name, &text).ok() != Some(before) {
        return refused("another layout would mean something else");
    }
    if !essence(&text).eq(essence(written)) {
        return refused("something that stands in it would be lost");
    }
    Ok(text)
}

fn pass(name: &str, text: &str) -> Result<String, Fault> {
    pretty_yaml::format_text(text, &options()).map_err(|error| {
        let before = text.get(..error.offset()).unwrap_or(text);
        let message = format!("cannot be laid out: {}", error.message().replace('\n', ", "));
        Fault {
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
            ..Fault::of_file(name, message)
        }
    })
}

fn options() -> FormatOptions {
    FormatOptions {
        layout: LayoutOptions { print_width: WIDTH, ..LayoutOptions::default() },
        language: LanguageOptions {
            brace_spacing: false,
            trailing_comma: false,
            prefer_single_line: true,
            // Blanks at the end of a line of a text are part of it.
            trim_trailing_whitespaces: false,
            ignore_comment_directive: "gateway-fmt: off".to_owned(),
            ..LanguageOptions::default()
        },
    }
}

/// What the house reads in it.
fn parse(name: &str, written: &str) -> Result<Value, Faults> {
    let mut document = Document::default();
    let file = document.add(name.to_owned(), written.to_owned());
    text::parse(&document, file)
}

/// All that is not layout, comments included.
fn essence(text: &str) -> impl Iterator<Item = char> + '_ {
    let is_layout =
        |c: &char| c.is_whitespace() || matches!(c, ',' | '\'' | '"' | '?' | '\u{feff}');
    text.chars().filter(move |c| !is_layout(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_laid_out(written: &str, expected: &str) {
        let text = laid_out("a.yaml", written).unwrap();
        assert_eq!(text, expected);
        assert_eq!(laid_out("a.yaml", &text).unwrap(), expected, "of what is laid out");
    }

    #[track_caller]
    fn assert_refused(written: &str, expected: &str) {
        let faults = laid_out("a.yaml", written).unwrap_err();
        assert_eq!(faults.to_string(), expected, "{written:?}");
    }

    #[test]
    fn comments_stay_where_they_are() {
        assert_laid_out(
            "#first\n\n\n\nversion:   1   # of the language\nroutes:\n# of a\n- name: a\n\n    # odd\n- {name: b}\n# of the list\nend: 1\n# last",
            "#first\n\nversion: 1 # of the language\nroutes:\n  # of a\n  - name: a\n\n  # odd\n  - {name: b}\n  # of the list\nend: 1\n# last\n",
        );
    }

    #[test]
    fn brackets_stay_on_a_line_where_they_fit_and_are_spread_where_they_do_not() {
        let long = "a".repeat(90);
        assert_laid_out(
            "match: { path: /,\n    methods: [ GET,POST ] }\n",
            "match: {path: /, methods: [GET, POST]}\n",
        );
        assert_laid_out(
            &format!("match: {{path: /{long}, methods: [GET]}}\n"),
            &format!("match: {{\n  path: /{long},\n  methods: [GET]\n}}\n"),
        );
        assert_laid_out("a: [\n  b, # why\n  c\n]\n", "a: [\n  b, # why\n  c\n]\n");
    }

    #[test]
    fn texts_and_numbers_stay_what_they_are() {
        assert_laid_out(
            "a: |\n     x  \n       y\n\n     z\nb: >-\n  p\n  q\nc: 'it''s'\nd: '\\d'\ne: \"\\t\"\nf: 'g'\nh: 0x1F\ni: 1.50\n",
            "a: |\n  x  \n    y\n\n  z\nb: >-\n  p\n  q\nc: 'it''s'\nd: '\\d'\ne: \"\\t\"\nf: \"g\"\nh: 0x1F\ni: 1.50\n",
        );
    }

    #[test]
    fn anchors_and_merges_stay() {
        let text = "x-all: &all {a: 1}\nb:\n  <<: *all\n  c: 2\n";
        assert_laid_out(text, text);
    }

    #[test]
    fn what_is_marked_is_left_alone() {
        let text = "# gateway-fmt: off\ntable: [a,   b,\n        c,   d]\nafter: [a, b]\n";
        assert_laid_out(text, text);
    }

    #[test]
    fn a_file_of_comments_alone_stays() {
        for text in ["", "\n\n", "# nothing yet\n"] {
            assert_laid_out(text, text);
        }
    }

    #[test]
    fn lines_end_as_lines_of_unix_do() {
        assert_laid_out("a: b\r\nc: d\r\n", "a: b\nc: d\n");
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_place() {
        assert_refused("a: 1\nb: [c\n", "a.yaml:3:1  not YAML: did not find expected ',' or ']'");
        assert_refused("a: 1\na: 2\n", "a.yaml:2:1  a: this key stands at a.yaml:1:1 already");
    }

    #[test]
    fn what_would_mean_something_else_or_lack_something_is_refused() {
        assert_refused(
            "a: |+\n  kept\n\n\nb: 1\n",
            "a.yaml  cannot be laid out: another layout would mean something else",
        );
        // What lays it out forgets comments in such a place.
        assert_refused(
            "a: {\"b\":# why\n  c}\n",
            "a.yaml  cannot be laid out: something that stands in it would be lost",
        );
    }
}
