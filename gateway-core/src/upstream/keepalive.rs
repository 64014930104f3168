//! How long an endpoint keeps a connection for another request, if it says so.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

pub(crate) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The `timeout` of `Keep-Alive` (the expired draft-thomson-hybi-http-timeout, which many servers
/// write).
pub(crate) fn kept_for(headers: &HeaderMap) -> Option<Duration> {
    let told = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let parts = told.split(',').filter_map(|part| part.split_once('='));
    let mut timeouts = parts.filter(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"));
    let seconds = timeouts.next()?.1.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// How long a connection that is kept for so long may wait: it is not to be used just when the
/// endpoint closes it.
pub(crate) fn safely(told: Duration) -> Duration {
    const MARGIN: Duration = Duration::from_secs(1);
    told.saturating_sub(MARGIN).max(told / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_may_say_how_long_it_keeps_a_connection() {
        let told = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("keep-alive", text.parse().unwrap());
            kept_for(&headers)
        };
        assert_eq!(told("timeout=5"), Some(Duration::from_secs(5)));
        assert_eq!(told("max=100, Timeout = 7"), Some(Duration::from_secs(7)));
        assert_eq!([told("max=100"), told("timeout=soon"), told("")], [None; 3]);
    }

    #[test]
    fn a_connection_is_given_up_before_its_endpoint_closes_it() {
        let safely = |seconds: f64| super::safely(Duration::from_secs_f64(seconds)).as_secs_f64();
        assert_eq!([60.0, 2.0, 1.0, 0.0].map(safely), [59.0, 1.0, 0.5, 0.0]);
    }
}
