//! Writes the generated pages of the book: `cargo run -p gateway-tests --bin docs`.

fn main() -> std::io::Result<()> {
    for path in gateway_tests::docs::write()? {
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}
