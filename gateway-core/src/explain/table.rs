//! Tables of questions and what is expected: one line each, for tests of a config.
//!
//! ```text
//! # comments and empty lines are skipped
//! GET https://api.example.com/users/7 => route=users capture.id=7
//! POST /users -H "Host: api.example.com" -H "x-beta: 1" --client-ip 10.0.0.1 => upstream=users-next
//! ```

use super::{Expectation, Question};

/// One line of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Its number, counted from 1.
    pub line: usize,
    /// What is asked.
    pub question: Question,
    /// What is expected.
    pub expected: Vec<Expectation>,
}

/// A line that is no case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TableError {
    /// Its number, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads a table.
///
/// # Errors
/// Every line that is none of it.
pub fn table(text: &str) -> Result<Vec<Case>, Vec<TableError>> {
    let (mut cases, mut errors) = (Vec::new(), Vec::new());
    // Some editors put a mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match case(text) {
            Ok((question, expected)) => cases.push(Case { line, question, expected }),
            Err(message) => errors.push(TableError { line, message }),
        }
    }
    if cases.is_empty() && errors.is_empty() {
        errors.push(TableError { line: 1, message: "there is no case in it".to_owned() });
    }
    if errors.is_empty() { Ok(cases) } else { Err(errors) }
}

fn case(text: &str) -> Result<(Question, Vec<Expectation>), String> {
    let words = words(text)?;
    let arrow = words.iter().position(|word| word == "=>");
    let arrow = arrow.ok_or("write `=>` between what is asked and what is expected")?;
    let question = question(&words[..arrow])?;
    let expected = words[arrow + 1..].iter();
    let expected: Result<Vec<Expectation>, _> = expected.map(|word| word.parse()).collect();
    let expected = expected.map_err(|error| error.to_string())?;
    if expected.is_empty() {
        return Err("nothing is expected; write `route=users` or the like behind `=>`".into());
    }
    Ok((question, expected))
}

fn question(words: &[String]) -> Result<Question, String> {
    let [method, url, rest @ ..] = words else {
        return Err("write a method and a URL".into());
    };
    let mut question = Question::new(method, url);
    let mut rest = rest.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("`{option}` needs a value"))?;
        match option.as_str() {
            "-H" | "--header" => question.headers.push(field(value)?),
            "--client-ip" => {
                question.client =
                    value.parse().map_err(|_| format!("`{value}` is no IP address"))?;
            }
            "--listener" => question.listener = Some(value.clone()),
            "--given" => {
                let (name, value) = given(value)?;
                question.given.insert(name, value);
            }
            other => {
                return Err(format!(
                    "`{other}` means nothing here; there is -H, --client-ip, --listener, --given"
                ));
            }
        }
    }
    Ok(question)
}

/// A header field as `name: value`.
///
/// # Errors
/// There is no colon.
pub fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| format!("`{text}` is no header field; write `name: value`"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// What is given of a connection, as `NAME=VALUE`.
///
/// # Errors
/// There is no `=`.
pub fn given(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` gives nothing; write `request.protocol=HTTP/2`"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The words of a line; quotes, single or double, hold a word together.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some(_), inside) => word.get_or_insert_default().push(inside),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (None, other) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let text = "# users\n\nGET /a -H 'x-a: b c' -H \"Host: h\" --client-ip 10.0.0.1 --listener l => route=r status=\n";
        let cases = table(text).unwrap();

        let [case] = cases.as_slice() else { panic!("one case: {cases:?}") };
        assert_eq!(case.line, 3);
        assert_eq!(
            case.question.headers,
            [("x-a".into(), "b c".into()), ("Host".into(), "h".into())]
        );
        assert_eq!(case.question.client.to_string(), "10.0.0.1");
        assert_eq!(case.question.listener.as_deref(), Some("l"));
        assert_eq!(case.expected.len(), 2);
    }

    #[test]
    fn lines_that_are_no_cases_are_all_told() {
        let text = "GET /a\nGET => route=a\nGET /a -H x => route=a\nGET /a -x y => route=a\nGET /a =>\n\
                    GET /a -H => route=a\nGET /a => rout=a\nGET '/a => route=a\nGET /a --client-ip x => route=a";
        let errors = table(text).unwrap_err();

        let told: Vec<String> = errors.iter().map(|error| error.to_string()).collect();
        assert_eq!(told[0], "line 1: write `=>` between what is asked and what is expected");
        assert_eq!(told[1], "line 2: write a method and a URL");
        assert_eq!(told[2], "line 3: `x` is no header field; write `name: value`");
        assert_eq!(
            told[3],
            "line 4: `-x` means nothing here; there is -H, --client-ip, --listener, --given"
        );
        assert_eq!(
            told[4],
            "line 5: nothing is expected; write `route=users` or the like behind `=>`"
        );
        assert_eq!(told[5], "line 6: `-H` needs a value");
        assert!(told[6].starts_with("line 7: nothing is told under `rout`"));
        assert_eq!(told[7], "line 8: a quote is not closed");
        assert_eq!(told[8], "line 9: `x` is no IP address");
    }
}
