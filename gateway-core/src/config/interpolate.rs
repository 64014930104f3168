//! Environment variables inside values: `${VAR}`, `${VAR:-default}`, `${VAR:?message}`, `$$`.

/// Replaces variables in `text`; `None` when there is nothing to replace.
///
/// A `$` that begins neither `${` nor `$$` stays. What a variable holds is not read again.
/// As in a shell, `:-` and `:?` treat an empty variable as one that is not set.
pub(super) fn interpolate(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    if !text.contains("${") && !text.contains("$$") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((inside, after)) = after.split_once('}') else {
                return Err("`${` is not closed by `}`; for a literal `${` write `$${`".into());
            };
            out.push_str(&variable(inside, env)?);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn variable(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, fallback) = match inside.split_once(':') {
        Some((name, fallback)) => (name, Some(fallback)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err(format!("`${{{inside}}}` names no variable; for a literal `${{` write `$${{`"));
    }
    let value = env(name);
    let Some(fallback) = fallback else {
        return value.ok_or_else(|| {
            format!(
                "environment variable `{name}` is not set; `${{{name}:-default}}` gives one, and `$${{{name}}}` is that text"
            )
        });
    };
    let value = value.filter(|value| !value.is_empty());
    match (fallback.split_at_checked(1), value) {
        (Some(("-" | "?", _)), Some(value)) => Ok(value),
        (Some(("-", default)), None) => Ok(default.to_owned()),
        (Some(("?", "")), None) => {
            Err(format!("environment variable `{name}` is not set or empty"))
        }
        (Some(("?", message)), None) => Err(format!("environment variable `{name}`: {message}")),
        _ => Err(format!(
            "`${{{inside}}}` is not understood; write `${{{name}}}`, `${{{name}:-default}}` or `${{{name}:?message}}`"
        )),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.com".into()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("${HOST}".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced() {
        for (text, expected) in [
            ("${HOST}", "example.com"),
            ("https://${HOST}/${HOST}", "https://example.com/example.com"),
            ("${NONE:-fallback}", "fallback"),
            ("${NONE:-}", ""),
            ("${EMPTY:-fallback}", "fallback"),
            ("${EMPTY}", ""),
            ("${HOST:?is needed}", "example.com"),
            ("$${HOST}", "${HOST}"),
            ("a$$b", "a$b"),
            ("${DOLLAR}", "${HOST}"),
            ("${NONE:-a:b}", "a:b"),
            ("$5 ${HOST} ^a$", "$5 example.com ^a$"),
        ] {
            assert_eq!(interpolate(text, &env).unwrap().as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn text_without_variables_is_left_alone() {
        for text in ["plain", "^a$", "$5", "$HOST", "{HOST}"] {
            assert_eq!(interpolate(text, &env), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_a_fault() {
        for (text, message) in [
            (
                "${NONE}",
                "environment variable `NONE` is not set; `${NONE:-default}` gives one, and `$${NONE}` is that text",
            ),
            ("${NONE:?set it to the host}", "environment variable `NONE`: set it to the host"),
            ("${EMPTY:?}", "environment variable `EMPTY` is not set or empty"),
            ("${HOST", "`${` is not closed by `}`; for a literal `${` write `$${`"),
            ("${}", "`${}` names no variable; for a literal `${` write `$${`"),
            ("${a-b}", "`${a-b}` names no variable; for a literal `${` write `$${`"),
            (
                "${HOST:x}",
                "`${HOST:x}` is not understood; write `${HOST}`, `${HOST:-default}` or `${HOST:?message}`",
            ),
        ] {
            assert_eq!(interpolate(text, &env), Err(message.to_owned()), "{text}");
        }
    }
}
