//! Trace context: `traceparent` and `tracestate` by the W3C recommendation "Trace Context", level 1.

use super::hex::{Ascii, decode_lower, encode_lower};
use super::tracestate::TraceState;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The field of the context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The field of what vendors add to it.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const SAMPLED: u8 = 0x01;
/// Length of a version 00 header: `00-` 32 digits `-` 16 digits `-` 2 digits.
const LENGTH: usize = 55;

/// The place of a request in a trace. Both ids are never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Shared by every span of the trace.
    pub trace_id: [u8; 16],
    /// The span that is the parent of whoever receives this context.
    pub parent_id: [u8; 8],
    /// As received; only the sampled bit is ever sent on.
    pub flags: u8,
}

impl TraceContext {
    /// A new trace with random ids, not sampled.
    pub fn begin() -> TraceContext {
        // Drawn as one number: an array would be drawn byte by byte.
        let trace_id = nonzero(|| rand::random::<u128>().to_ne_bytes());
        TraceContext { trace_id, parent_id: parent_id(), flags: 0 }
    }

    /// The same trace with a new random parent id: what goes to the next hop.
    pub fn child(&self) -> TraceContext {
        TraceContext { parent_id: parent_id(), flags: self.flags & SAMPLED, ..*self }
    }

    /// The same context with the sampled bit set or cleared.
    pub fn with_sampled(self, sampled: bool) -> TraceContext {
        TraceContext { flags: (self.flags & !SAMPLED) | u8::from(sampled), ..self }
    }

    /// Whether the caller may have recorded the trace (section 3.2.2.5.1).
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Reads one header value (section 3.2); none for anything that is not valid.
    pub fn parse(value: &[u8]) -> Option<TraceContext> {
        let [version] = decode_lower(value.get(..2)?)?;
        match (version, value.get(LENGTH)) {
            (0xff, _) | (0, Some(_)) => return None,
            (_, None | Some(b'-')) => {}
            (_, Some(_)) => return None,
        }
        if [value.get(2)?, value.get(35)?, value.get(52)?] != [b"-"; 3].map(|dash| &dash[0]) {
            return None;
        }
        let trace_id = decode_lower(value.get(3..35)?)?;
        let parent_id = decode_lower(value.get(36..52)?)?;
        let [flags] = decode_lower(value.get(53..LENGTH)?)?;
        let zero = trace_id == [0; 16] || parent_id == [0; 8];
        (!zero).then_some(TraceContext { trace_id, parent_id, flags })
    }

    /// The context a request came with and its state; the state counts only beside a valid parent.
    /// More than one `traceparent` field is none (section 4.1).
    pub fn from_headers(headers: &HeaderMap) -> Option<(TraceContext, TraceState)> {
        let parent = TraceContext::parse(headers.get(TRACEPARENT)?.as_bytes())?;
        if headers.get_all(TRACEPARENT).iter().nth(1).is_some() {
            return None;
        }
        let fields = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes);
        Some((parent, TraceState::parse(fields).unwrap_or_default()))
    }

    /// The header value, always of version 00, with unknown flags cleared.
    pub fn render(&self) -> Ascii<LENGTH> {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        encode_lower(&self.trace_id, &mut value[3..35]);
        encode_lower(&self.parent_id, &mut value[36..52]);
        encode_lower(&[self.flags & SAMPLED], &mut value[53..]);
        Ascii::new(value)
    }

    /// The trace id in hex, for records and logs.
    pub fn trace_id_hex(&self) -> Ascii<32> {
        let mut value = [b'0'; 32];
        encode_lower(&self.trace_id, &mut value);
        Ascii::new(value)
    }
}

fn parent_id() -> [u8; 8] {
    nonzero(|| rand::random::<u64>().to_ne_bytes())
}

/// The first value drawn that is not all zero.
fn nonzero<const N: usize>(mut draw: impl FnMut() -> [u8; N]) -> [u8; N] {
    loop {
        let bytes = draw();
        if bytes != [0; N] {
            return bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(value: &str) -> Option<TraceContext> {
        TraceContext::parse(value.as_bytes())
    }

    #[test]
    fn a_valid_parent_is_read_and_rendered_unchanged() {
        let context = parse(VALID).unwrap();

        assert!(context.is_sampled());
        assert_eq!(context.render().as_str(), VALID);
        assert_eq!(context.trace_id_hex().as_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn what_the_recommendation_forbids_is_refused() {
        for value in [
            "",
            "00",
            "00-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "CC-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    #[test]
    fn a_later_version_may_carry_more_fields_and_is_sent_on_as_version_00() {
        for suffix in ["", "-", "-what-the-future-will-be-like"] {
            let context = parse(&format!("cc{}{suffix}", &VALID[2..])).unwrap();

            assert_eq!(context.render().as_str(), VALID);
        }
    }

    #[test]
    fn unknown_flags_are_read_and_not_sent_on() {
        let context = parse(&VALID.replace("-01", "-ff")).unwrap();

        assert_eq!(context.flags, 0xff);
        assert_eq!(context.render().as_str(), VALID);
        assert!(!context.with_sampled(false).render().as_str().ends_with("-01"));
    }

    #[test]
    fn a_child_keeps_the_trace_and_changes_the_parent() {
        let root = TraceContext::begin().with_sampled(true);
        let child = root.child();

        assert_eq!(child.trace_id, root.trace_id);
        assert_ne!(child.parent_id, root.parent_id);
        assert!(child.is_sampled());
        assert_ne!(TraceContext::begin().trace_id, root.trace_id);
        assert_eq!(parse(child.render().as_str()), Some(child));
    }

    #[test]
    fn ids_drawn_as_zero_are_drawn_again() {
        let mut draws = [[0; 8], [0; 8], [3; 8]].into_iter();

        assert_eq!(nonzero(|| draws.next().unwrap()), [3; 8]);
    }

    #[test]
    fn state_without_a_valid_parent_is_dropped() {
        let mut headers = HeaderMap::new();
        headers.insert("tracestate", HeaderValue::from_static("a=1"));
        assert_eq!(TraceContext::from_headers(&headers), None);

        headers.append("traceparent", HeaderValue::from_static(VALID));
        headers.append("tracestate", HeaderValue::from_static("b=2"));
        let (context, state) = TraceContext::from_headers(&headers).unwrap();
        assert_eq!((context, state.as_str()), (parse(VALID).unwrap(), "a=1,b=2"));

        headers.append("traceparent", HeaderValue::from_static(VALID));
        assert_eq!(TraceContext::from_headers(&headers), None);
    }
}
