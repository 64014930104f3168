//! Failure codes: who ended a request and in which phase, one short stable code for each.
//!
//! The first event that ended the stream wins. No code means that the upstream itself said it.
//! The Envoy column holds the nearest response flag, the HAProxy column the first two letters of
//! the nearest termination state; `–` means that the product has no such mark.
//!
//! | code | meaning | Envoy | HAProxy |
//! |---|---|---|---|
//! | `D1` | client gone before the response | DC | CH |
//! | `D2` | client gone during the body | DC | CD |
//! | `D3` | client broke the protocol | DPE | PR |
//! | `D4` | client too slow | SI | cR |
//! | `D5` | TLS with the client failed | – | – |
//! | `P1` | no route | NR | PR |
//! | `P2` | method not allowed | – | PR |
//! | `P3` | not authenticated | UAEX | PR |
//! | `P4` | denied | UAEX | PR |
//! | `P5` | identity dependency down | – | – |
//! | `P6` | rate limited | RL | PR |
//! | `P7` | limiter store down | RLSE | – |
//! | `P8` | request refused for its size, schema or headers | – | PR |
//! | `P9` | shed under overload | OM | PR |
//! | `P10` | injected fault | FI | – |
//! | `P11` | plugin failed | – | – |
//! | `U1` | upstream name not resolved | DF | SC |
//! | `U2` | no healthy endpoint | UH | SC |
//! | `U3` | connection refused | UF | SC |
//! | `U4` | connect timeout | UF | sC |
//! | `U5` | endpoint unreachable | UF | SC |
//! | `U6` | TLS with the upstream failed | UF | SC |
//! | `U7` | upstream certificate invalid | UF | SC |
//! | `U8` | upstream full, in flight or queue | UO | sQ |
//! | `U9` | breaker open | UO | – |
//! | `X1` | reset before the response head | UC | SH |
//! | `X2` | response body cut short | UC | SD |
//! | `X3` | first-byte timeout | UT | sH |
//! | `X4` | response body timeout | SI | sD |
//! | `X5` | upstream broke the protocol | UPE | PH |
//! | `X6` | attempts used up | URX | – |
//! | `X7` | total timeout | UT | sH |
//! | `G1` | internal error | – | I- |
//! | `G2` | out of descriptors, ports or memory | – | RC |
//! | `G3` | cut by shutdown | – | K- |

use std::fmt;

/// Why a request or an attempt failed. The status it is answered with is decided elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FailureCode {
    /// Client gone before the response.
    D1,
    /// Client gone during the body.
    D2,
    /// Client broke the protocol.
    D3,
    /// Client too slow.
    D4,
    /// TLS with the client failed.
    D5,
    /// No route.
    P1,
    /// Method not allowed.
    P2,
    /// Not authenticated.
    P3,
    /// Denied.
    P4,
    /// Identity dependency down.
    P5,
    /// Rate limited.
    P6,
    /// Limiter store down.
    P7,
    /// Request refused for its size, schema or headers.
    P8,
    /// Shed under overload.
    P9,
    /// Injected fault.
    P10,
    /// Plugin failed.
    P11,
    /// Upstream name not resolved.
    U1,
    /// No healthy endpoint.
    U2,
    /// Connection refused.
    U3,
    /// Connect timeout.
    U4,
    /// Endpoint unreachable.
    U5,
    /// TLS with the upstream failed.
    U6,
    /// Upstream certificate invalid.
    U7,
    /// Upstream full, in flight or queue.
    U8,
    /// Breaker open.
    U9,
    /// Reset before the response head.
    X1,
    /// Response body cut short.
    X2,
    /// First-byte timeout.
    X3,
    /// Response body timeout.
    X4,
    /// Upstream broke the protocol.
    X5,
    /// Attempts used up.
    X6,
    /// Total timeout.
    X7,
    /// Internal error.
    G1,
    /// Out of descriptors, ports or memory.
    G2,
    /// Cut by shutdown.
    G3,
}

use FailureCode::*;

impl FailureCode {
    /// Every code, in the order of the table above and of [`FailureCode::index`].
    pub const ALL: [FailureCode; 35] = [
        D1, D2, D3, D4, D5, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, U1, U2, U3, U4, U5, U6,
        U7, U8, U9, X1, X2, X3, X4, X5, X6, X7, G1, G2, G3,
    ];

    /// The code as logs and metrics carry it: `"U4"`.
    pub const fn code(self) -> &'static str {
        CODES[self as usize].0
    }

    /// What the code says, in words.
    pub const fn meaning(self) -> &'static str {
        CODES[self as usize].1
    }

    /// Whether it was the client's doing (`D`).
    pub fn is_of_client(self) -> bool {
        self.code().starts_with('D')
    }

    /// The place in [`FailureCode::ALL`]; for tables with one slot a code.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

const CODES: [(&str, &str); FailureCode::ALL.len()] = [
    ("D1", "client gone before the response"),
    ("D2", "client gone during the body"),
    ("D3", "client broke the protocol"),
    ("D4", "client too slow"),
    ("D5", "TLS with the client failed"),
    ("P1", "no route"),
    ("P2", "method not allowed"),
    ("P3", "not authenticated"),
    ("P4", "denied"),
    ("P5", "identity dependency down"),
    ("P6", "rate limited"),
    ("P7", "limiter store down"),
    ("P8", "request refused for its size, schema or headers"),
    ("P9", "shed under overload"),
    ("P10", "injected fault"),
    ("P11", "plugin failed"),
    ("U1", "upstream name not resolved"),
    ("U2", "no healthy endpoint"),
    ("U3", "connection refused"),
    ("U4", "connect timeout"),
    ("U5", "endpoint unreachable"),
    ("U6", "TLS with the upstream failed"),
    ("U7", "upstream certificate invalid"),
    ("U8", "upstream full, in flight or queue"),
    ("U9", "breaker open"),
    ("X1", "reset before the response head"),
    ("X2", "response body cut short"),
    ("X3", "first-byte timeout"),
    ("X4", "response body timeout"),
    ("X5", "upstream broke the protocol"),
    ("X6", "attempts used up"),
    ("X7", "total timeout"),
    ("G1", "internal error"),
    ("G2", "out of descriptors, ports or memory"),
    ("G3", "cut by shutdown"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_spelled_like_its_variant_and_found_at_its_index() {
        for (index, code) in FailureCode::ALL.into_iter().enumerate() {
            assert_eq!(code.index(), index);
            assert_eq!(code.code(), format!("{code:?}"));
        }
    }

    #[test]
    fn the_table_of_the_docs_lists_every_code_with_its_meaning_in_order() {
        let rows: Vec<&str> =
            include_str!("failure.rs").lines().filter(|line| line.starts_with("//! | `")).collect();

        assert_eq!(rows.len(), FailureCode::ALL.len());
        for (row, code) in rows.iter().zip(FailureCode::ALL) {
            let start = format!("//! | `{}` | {} | ", code.code(), code.meaning());
            assert!(row.starts_with(&start), "{row} does not start with {start}");
        }
    }
}
