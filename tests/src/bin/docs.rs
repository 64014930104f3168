//! Writes the generated pages of the book: `cargo run -p gateway-tests --bin docs`.

use gateway_tests::docs::{pages, repository};

fn main() -> std::io::Result<()> {
    for page in pages() {
        let path = repository().join(&page.path);
        if std::fs::read_to_string(&path).is_ok_and(|text| text == page.text) {
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, &page.text)?;
        eprintln!("wrote {}", page.path.display());
    }
    Ok(())
}
