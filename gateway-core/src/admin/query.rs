//! What stands behind the `?` of a call, and addresses in its path.

use std::net::SocketAddr;

/// The values of the parameters that a call knows, in their order.
///
/// # Errors
/// A parameter that it does not know, in words.
pub(super) fn values<'q, const N: usize>(
    query: &'q str,
    names: [&str; N],
) -> Result<[Option<&'q str>; N], String> {
    let mut found = [None; N];
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let place = names.iter().position(|name| *name == key && part.contains('='));
        let Some(place) = place else {
            let known: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            return Err(format!("`{part}` means nothing here; there is {known}"));
        };
        found[place] = Some(value);
    }
    Ok(found)
}

/// An address as a path or query holds it.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    text.replace("%5B", "[").replace("%5D", "]").replace("%3A", ":").parse().ok()
}
