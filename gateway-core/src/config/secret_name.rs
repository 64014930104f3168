//! Names under which secrets stand: headers, query parameters, cookies, options. One list for logs and
//! for the read-out of a config.

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

/// A condition as it may be shown: not at all where the name of something secret stands in it. What this is held against
/// could be written in many ways.
pub(crate) fn shown_condition(source: &str) -> &str {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let mut words = source.as_bytes().chunk_by(|one, two| is_part(one) && is_part(two));
    let mut before: [&[u8]; 2] = [b"", b""];
    let hides = words.any(|word| {
        // All cookies are read by way of `request.cookie`, which is the name of none.
        let is_room = word == b"cookie" && before == [b"request".as_slice(), b"."];
        before = [before[1], word];
        !is_room && is_secret(word, &[])
    });
    if hides { HIDDEN } else { source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_that_name_something_secret_are_not_shown() {
        for (source, shown) in [
            (r#"request.path == "/a""#, true),
            (r#"request.cookie.beta == "1" && has(request.header["x-key"])"#, true),
            (r#"request.header["x-api-key"] == "s3cret""#, false),
            (r#"request.header.authorization == 's3cret'"#, false),
            (r#"request.header.cookie == "a=s3cret""#, false),
            (r#"request.cookie.session in ["s3cret"]"#, false),
            ("// the partner's key\n request.query.access_token == 's3cret'", false),
            (r#"request.query_string.contains("token=s3cret")"#, false),
        ] {
            assert_eq!(shown_condition(source), if shown { source } else { HIDDEN }, "{source}");
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
