//! The generated pages of the book: made from the types, tables and sources that they describe.
//!
//! `cargo run --bin docs` writes them. The reference is generated whole and not
//! committed; of hand-written pages a test holds the code they show up to date.

mod config;
mod guide;
mod plugins;
mod telemetry;

use std::fs;
use std::path::{Path, PathBuf};

/// A page as it must be.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Where it lies, from the root of the repository.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

impl Page {
    fn generated(path: &str, from: &str, text: &str) -> Self {
        let note = format!("<!-- Generated from {from}; write it with `cargo run --bin docs`. -->");
        let text = format!("{note}\n\n{}\n", text.trim());
        Self { path: Path::new("docs/src").join(path), text }
    }
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the package lies in the repository")
}

/// Every page that is generated, whole or in part.
///
/// # Panics
/// A source is not where it was.
pub fn pages() -> Vec<Page> {
    let mut pages = vec![config::page(), routing(), attributes()];
    pages.extend(telemetry::pages());
    pages.extend(plugins::pages());
    pages.extend(guide::pages());
    pages
}

/// Writes every page that is not as it must be; returns the paths of those.
///
/// # Errors
/// A file cannot be written.
///
/// # Panics
/// A source is not where it was.
pub fn write() -> std::io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for page in pages() {
        let path = repository().join(&page.path);
        if fs::read_to_string(&path).is_ok_and(|text| text == page.text) {
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Whoever reads meanwhile sees a whole page, old or new.
        let aside = path.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&aside, &page.text)?;
        fs::rename(&aside, &path)?;
        written.push(page.path);
    }
    Ok(written)
}

fn routing() -> Page {
    let source = "gateway-core/src/routing/table/mod.rs";
    let text = format!(
        "# Routing\n\n{}\n\nHosts are compared without case, port and trailing dot; an IPv6 address \
         in its short form. Paths are brought into one normal form first: unreserved characters \
         decoded, dot segments resolved, repeated slashes merged. `%2F` stays as it is; `%00`, `%5C` \
         and a bare backslash are answered 400. That one form is matched, authorised and forwarded.",
        module_docs(source)
    );
    Page::generated("reference/routing.md", source, &text)
}

fn attributes() -> Page {
    let source = "gateway-core/src/plugin/attribute.rs";
    let text = format!(
        "# Attributes\n\nConditions (`when`), header templates and plugins all use these names.\n\n{}",
        module_docs(source)
    );
    Page::generated("reference/attributes.md", source, &text)
}

/// The text of a file of the repository.
fn read(path: &str) -> String {
    let whole = repository().join(path);
    fs::read_to_string(&whole).unwrap_or_else(|error| panic!("{}: {error}", whole.display()))
}

/// What a source says of itself in its first lines.
fn module_docs(path: &str) -> String {
    let text = read(path);
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    assert!(!lines.is_empty(), "{path} says nothing of itself");
    lines.join("\n")
}

/// A table of Markdown; a bar inside a cell is escaped.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let head_line = line(head.iter().map(ToString::to_string).collect());
    let rule = format!("|{}", "---|".repeat(head.len()));
    let rows = rows.into_iter().map(|cells| {
        line(cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect())
    });
    [head_line, rule].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}
