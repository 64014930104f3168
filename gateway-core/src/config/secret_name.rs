//! Names under which secrets stand: headers, query parameters, cookies, options. One list for logs and
//! for the read-out of a config.

use std::borrow::Cow;

use super::secret::HIDDEN;

/// Longest part of a name that is compared; of longer ones the end.
const LONGEST: usize = 48;

/// The form in which names are compared: lower-case, without `-`, `_` and spaces.
pub(crate) fn normalise(name: &str) -> String {
    name.chars().filter(|c| !is_ignored(*c)).flat_map(char::to_lowercase).collect()
}

/// Whether a name, or one part of a nested name, is on the list or among `more`.
pub(crate) fn is_secret(name: &[u8], more: &[String]) -> bool {
    name.split(|byte| matches!(byte, b'[' | b']' | b'.' | b':'))
        .any(|part| is_secret_part(part, more))
}

/// The last two letters of all names on the list: most names end otherwise, and need no more of a look.
const LAST: [[u8; 2]; 12] = [
    *b"en", *b"et", *b"rd", *b"wd", *b"se", *b"ey", *b"re", *b"on", *b"ie", *b"id", *b"ig", *b"wt",
];

fn may_be_default(part: &[u8]) -> bool {
    let mut last = part.iter().rev().filter(|byte| !is_ignored(char::from(**byte)));
    let (Some(second), Some(first)) = (last.next(), last.next()) else { return false };
    LAST.contains(&[first.to_ascii_lowercase(), second.to_ascii_lowercase()])
}

fn is_secret_part(part: &[u8], more: &[String]) -> bool {
    if more.is_empty() && !may_be_default(part) {
        return false;
    }
    let mut buffer = [0; LONGEST];
    let mut start = LONGEST;
    let mut bytes = part.iter().rev().filter(|byte| !is_ignored(char::from(**byte)));
    while start > 0
        && let Some(byte) = bytes.next()
    {
        start -= 1;
        buffer[start] = byte.to_ascii_lowercase();
    }
    let end = &buffer[start..];
    if end.is_empty() {
        return false;
    }
    is_default(end, bytes.next().is_none()) || more.iter().any(|key| key.as_bytes() == end)
}

fn is_default(end: &[u8], whole: bool) -> bool {
    const ENDINGS: [&[u8]; 8] = [
        b"token",
        b"secret",
        b"password",
        b"passwd",
        b"passphrase",
        b"apikey",
        b"privatekey",
        b"signature",
    ];
    let listed = matches!(
        end,
        b"authorization"
            | b"proxyauthorization"
            | b"cookie"
            | b"setcookie"
            | b"session"
            | b"sessionid"
            | b"jsessionid"
            | b"phpsessid"
            | b"sig"
            | b"pwd"
            | b"jwt"
    );
    whole && listed || ENDINGS.iter().any(|ending| end.ends_with(ending))
}

fn is_ignored(c: char) -> bool {
    matches!(c, '-' | '_' | ' ')
}

/// A condition as it may be shown: where it reads something secret, without the texts that this is held against.
pub(crate) fn shown_condition(source: &str) -> Cow<'_, str> {
    if !reads_secret(source) {
        return Cow::Borrowed(source);
    }
    let mut shown = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find(['"', '\'']) {
        let quote = &rest[open..=open];
        let inside = &rest[open + 1..];
        let end = end_of_text(inside, quote).unwrap_or(inside.len());
        shown.push_str(&rest[..open]);
        // A name in brackets is no text, but for those of a list.
        let before = rest[..open].trim_end();
        let is_name = before.strip_suffix('[').is_some_and(|before| {
            before.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_')
                && !before.ends_with("in")
        });
        let text = if is_name { &inside[..end] } else { HIDDEN };
        shown.extend([quote, text, quote]);
        rest = inside.get(end + 1..).unwrap_or_default();
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Where a text ends that began with this quote.
fn end_of_text(text: &str, quote: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, character)| match character {
        _ if escaped => {
            escaped = false;
            None
        }
        '\\' => {
            escaped = true;
            None
        }
        other => quote.starts_with(other).then_some(at),
    })
}

/// Whether a condition reads a field, a parameter or a cookie whose name is secret.
fn reads_secret(source: &str) -> bool {
    [".header", ".query", ".cookie"].iter().any(|kind| {
        source.match_indices(kind).any(|(at, _)| {
            let after = source[at + kind.len()..].trim_start();
            let name = after.trim_start_matches(['.', '[', '"', '\'', ' ', '`']);
            let is_part = |one: char| one.is_ascii_alphanumeric() || "-_.".contains(one);
            let end = name.find(|one| !is_part(one)).unwrap_or(name.len());
            is_secret(&name.as_bytes()[..end], &[])
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_shown_without_what_a_secret_is_held_against() {
        for (source, shown) in [
            (r#"request.path == "/a""#, r#"request.path == "/a""#),
            (
                r#"request.header["x-api-key"] == "s\"3" && request.path == '/a'"#,
                r#"request.header["x-api-key"] == "***" && request.path == '***'"#,
            ),
            (
                r#"request.cookie.session in ["a", "b"]"#,
                r#"request.cookie.session in ["***", "***"]"#,
            ),
            (
                r#""x" in["a"] || request.query.token == 'y'"#,
                r#""***" in["***"] || request.query.token == '***'"#,
            ),
            (
                r#"request.query["access_token"].startsWith("q"#,
                r#"request.query["access_token"].startsWith("***""#,
            ),
            (r#"has(request.header.authorization)"#, r#"has(request.header.authorization)"#),
        ] {
            assert_eq!(shown_condition(source), shown, "{source}");
        }
    }

    #[test]
    fn every_name_on_the_list_passes_the_first_look() {
        for name in [
            "token",
            "secret",
            "password",
            "passwd",
            "passphrase",
            "apikey",
            "privatekey",
            "signature",
            "authorization",
            "proxyauthorization",
            "cookie",
            "setcookie",
            "session",
            "sessionid",
            "jsessionid",
            "phpsessid",
            "sig",
            "pwd",
            "jwt",
        ] {
            assert!(may_be_default(name.as_bytes()) && is_secret(name.as_bytes(), &[]), "{name}");
            assert!(is_secret(format!("{}-_", name.to_uppercase()).as_bytes(), &[]), "{name}");
        }
    }

    #[test]
    fn every_documented_key_is_secret_in_every_spelling() {
        for key in [
            "authorization",
            "cookie",
            "set-cookie",
            "proxy-authorization",
            "x-api-key",
            "password",
            "passwd",
            "secret",
            "token",
            "api_key",
            "access_token",
            "refresh_token",
            "client_secret",
            "session",
        ] {
            let swapped = key.replace('_', "-").replace("x-", "X_");
            for name in [key, &key.to_uppercase(), &swapped, &key.replace(['-', '_'], "")] {
                assert!(is_secret(name.as_bytes(), &[]), "{name}");
            }
        }
    }

    #[test]
    fn endings_and_parts_of_nested_names_count() {
        for name in [
            "X-Amz-Security-Token",
            "userPassword",
            "db_secret",
            "user[password]",
            "user.token",
            "tokens[0].id_token",
            &format!("{}_token", "x".repeat(500)),
        ] {
            assert!(is_secret(name.as_bytes(), &[]), "{name}");
        }
    }

    #[test]
    fn other_names_are_not_secret() {
        for name in ["", "-", "page", "max_tokens", "secretary", "sessions", "author", "key", "id"]
        {
            assert!(!is_secret(name.as_bytes(), &[]), "{name}");
        }
    }

    #[test]
    fn names_of_the_operator_count_whole() {
        let more = [normalise("X-Tenant_Pin")];

        assert!(is_secret(b"x_tenant-PIN", &more));
        assert!(!is_secret(b"my_x_tenant_pin", &more));
    }
}
