//! Code in hand-written pages, taken from sources that are compiled and run.
//!
//! A line `<!-- code: tests/house/first_plugin.rs plugin -->` is followed by a block of code: what
//! stands in that file between `// docs: plugin` and `// docs: end`.

use std::path::{Path, PathBuf};

use super::{Page, read};

const PAGES: [&str; 1] = ["docs/src/guide/first-plugin.md"];

pub(super) fn pages() -> Vec<Page> {
    let page = |path: &str| Page { path: PathBuf::from(path), text: filled(&read(path)) };
    PAGES.into_iter().map(page).collect()
}

/// The page with each block of code as it is in its source.
fn filled(page: &str) -> String {
    let mut text = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        text.push_str(line);
        text.push('\n');
        let Some((file, region)) = marker(line) else { continue };
        let language = Path::new(file).extension().and_then(|ending| ending.to_str());
        let language = if language == Some("rs") { "rust" } else { language.unwrap_or_default() };
        text.push_str(&format!("```{language}\n{}\n```\n", code(&read(file), region)));
        let mut rest = lines.by_ref().skip_while(|line| !line.starts_with("```")).skip(1);
        rest.find(|line| line.starts_with("```")).expect("a block of code follows its marker");
    }
    text
}

fn marker(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("<!-- code: ")?.strip_suffix(" -->")?.split_once(' ')
}

/// What a source holds between the marks of a region, without the indentation of all of it.
fn code(source: &str, region: &str) -> String {
    let start = format!("// docs: {region}\n");
    let (_, from) = source.split_once(&start).unwrap_or_else(|| panic!("no region `{region}`"));
    let region = from.split_once("// docs: end").expect("a region ends").0;
    let lines: Vec<&str> = region.trim_end().lines().collect();
    let indents = lines.iter().filter(|line| !line.is_empty());
    let indent = indents.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let cut: Vec<&str> = lines.iter().map(|line| line.get(indent..).unwrap_or_default()).collect();
    cut.join("\n")
}
