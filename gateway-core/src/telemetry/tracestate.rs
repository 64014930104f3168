//! `tracestate`: what other tracing systems pass along beside `traceparent`.

/// A list has at most this many members (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;
/// What is sent on is at most this long (section 3.3.1.5).
const MAX_LENGTH: usize = 512;
/// Members longer than this are the first to go when a list is too long.
const LONG_MEMBER: usize = 128;

/// A valid list of `key=value` members, newest first, at most 512 characters long. May be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceState(String);

impl TraceState {
    /// Combines the fields in order. None if a member is malformed or there are more than 32: then
    /// all of it is to be dropped. Of two members with one key, the first is kept. A list that is
    /// too long loses its long members first, then its last ones.
    pub fn parse<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Option<TraceState> {
        let mut members: Vec<(&str, &str)> = Vec::new();
        for member in fields.flat_map(|field| field.split(|byte| *byte == b',')) {
            let member = trim(member);
            if member.is_empty() {
                continue;
            }
            let (key, value) = std::str::from_utf8(member).ok()?.split_once('=')?;
            if !is_key(key) || !is_value(value) || members.len() == MAX_MEMBERS {
                return None;
            }
            if !members.iter().any(|(known, _)| *known == key) {
                members.push((key, value));
            }
        }
        shorten(&mut members);
        Some(TraceState(join(&members)))
    }

    /// The header value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn shorten(members: &mut Vec<(&str, &str)>) {
    if length(members) > MAX_LENGTH {
        members.retain(|(key, value)| key.len() + 1 + value.len() <= LONG_MEMBER);
    }
    while length(members) > MAX_LENGTH {
        members.pop();
    }
}

fn length(members: &[(&str, &str)]) -> usize {
    members.iter().map(|(key, value)| key.len() + value.len() + 2).sum::<usize>().saturating_sub(1)
}

fn join(members: &[(&str, &str)]) -> String {
    let mut list = String::with_capacity(length(members));
    for (key, value) in members {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(key);
        list.push('=');
        list.push_str(value);
    }
    list
}

/// Without spaces and tabs around (section 3.3.1.1: optional white space).
fn trim(mut member: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = member {
        member = rest;
    }
    member
}

/// `simple-key` or `tenant@system` (section 3.3.1.3.1).
fn is_key(key: &str) -> bool {
    let part = |text: &str, max: usize, digit_first: bool| {
        let first = text.bytes().next();
        (1..=max).contains(&text.len())
            && first.is_some_and(|b| b.is_ascii_lowercase() || digit_first && b.is_ascii_digit())
            && text
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    match key.split_once('@') {
        Some((tenant, system)) => part(tenant, 241, true) && part(system, 14, false),
        None => part(key, 256, false),
    }
}

/// 1 to 256 printable characters without `,` and `=`, the last one not a space (section 3.3.1.3.2).
fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && !value.ends_with(' ')
        && value.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b',' && b != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: &[&str]) -> Option<String> {
        let state = TraceState::parse(fields.iter().map(|field| field.as_bytes()))?;
        Some(state.as_str().to_owned())
    }

    #[test]
    fn fields_are_combined_in_order_without_spaces_and_empty_members() {
        assert_eq!(parse(&["a=1 ,\tb=2", "", " , c@d=x y"]).unwrap(), "a=1,b=2,c@d=x y");
        assert_eq!(parse(&[]).unwrap(), "");
    }

    #[test]
    fn the_first_of_two_members_with_one_key_is_kept() {
        assert_eq!(parse(&["a=1,b=2", "a=3"]).unwrap(), "a=1,b=2");
    }

    #[test]
    fn a_malformed_member_drops_the_whole_list() {
        let long_key = format!("{}=1", "k".repeat(257));
        let long_value = format!("k={}", "v".repeat(257));
        for member in [
            "a",
            "a=",
            "=1",
            "A=1",
            "1a=1",
            "a=b=c",
            "a b=1",
            "a@=1",
            "@b=1",
            "a@1b=1",
            "a@b@c=1",
            "a=é",
            "a=\u{7}",
            "a =1",
            &long_key,
            &long_value,
        ] {
            assert_eq!(parse(&["x=1", member]), None, "{member}");
        }
        assert_eq!(parse(&["0a@b=1,k*_-/=~!"]).unwrap(), "0a@b=1,k*_-/=~!");
        assert_eq!(TraceState::parse([&b"a=\xff"[..]].into_iter()), None);
    }

    #[test]
    fn more_than_32_members_are_refused() {
        let list = |count: usize| (0..count).map(|n| format!("k{n}=1,")).collect::<String>();

        assert!(parse(&[&list(32)]).is_some());
        assert_eq!(parse(&[&list(33)]), None);
    }

    #[test]
    fn a_list_that_is_too_long_loses_long_members_then_the_last() {
        let long = format!("long={}", "v".repeat(200));
        let short: Vec<String> = (0..6).map(|n| format!("k{n}={}", "v".repeat(90))).collect();

        let kept = parse(&[&long, &short.join(",")]).unwrap();

        assert_eq!(kept, short[..5].join(","));
        assert!(kept.len() <= MAX_LENGTH);
    }
}
