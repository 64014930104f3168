//! Writes the generated pages of the book: `cargo run --bin docs`.

fn main() -> std::io::Result<()> {
    for path in gateway_tests::docs::write()? {
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}
