//! What of a config belongs to the process: another config can change it only where another process begins.

use super::Config;

/// Whether two configs differ in one part.
type Differs = fn(&Config, &Config) -> bool;

const PARTS: [(&str, Differs); 2] = [("server", |a, b| a.server != b.server), ("admin", admin)];

/// Whether a change below this key of the document needs a restart.
pub(super) fn needs_restart(key: &str) -> bool {
    PARTS.iter().any(|(part, _)| *part == key)
}

/// The keys of the document whose changes between the two need a restart.
pub(crate) fn restarting(running: &Config, next: &Config) -> impl Iterator<Item = &'static str> {
    PARTS.iter().filter(|(_, differs)| differs(running, next)).map(|(part, _)| *part)
}

fn admin(running: &Config, next: &Config) -> bool {
    match (&next.admin, &running.admin) {
        (None, None) => false,
        (Some(next), Some(running)) => {
            let same_token = match (&next.token, &running.token) {
                (None, None) => true,
                (Some(next), Some(running)) => next.is_same(running),
                _ => false,
            };
            next.address != running.address || !same_token
        }
        _ => true,
    }
}
