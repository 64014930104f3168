//! What an answer depends on, said to caches.

use gateway_core::plugin::{HookError, ResponseHeader};
use http::{HeaderMap, HeaderValue, header};

/// Adds names to `Vary` that it does not hold (RFC 9110, section 12.5.5).
pub(crate) fn vary(response: &mut ResponseHeader, names: &[&'static str]) -> Result<(), HookError> {
    let held = |headers: &HeaderMap, name: &str| {
        let values = headers.get_all(header::VARY).iter();
        let mut held = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        held.any(|held| {
            let held = held.trim_ascii();
            held == b"*" || held.eq_ignore_ascii_case(name.as_bytes())
        })
    };
    for name in names {
        if !held(&response.headers, name) {
            response.append_header(header::VARY, HeaderValue::from_static(name))?;
        }
    }
    Ok(())
}
