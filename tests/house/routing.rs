//! Which route takes a request, by a table of cases: a real gateway and `explain` give one answer.

use gateway_tests::{Client, Gate};

const ROUTES: &str = include_str!("routing/table.yaml");
const CASES: &str = include_str!("routing/table.txt");

/// One line of the table.
struct Case<'a> {
    line: &'a str,
    method: &'a str,
    host: &'a str,
    target: &'a str,
    listener: &'a str,
    fields: Vec<&'a str>,
    expected: &'a str,
}

impl<'a> Case<'a> {
    fn read(line: &'a str) -> Self {
        let (asked, expected) = line.split_once(" => ").expect("a case says what it expects");
        let mut parts = asked.split(" | ");
        let head = parts.next().expect("a case has a request");
        let (head, listener) = head.split_once(" through ").unwrap_or((head, "public"));
        let [method, host, target] = head.split(' ').collect::<Vec<_>>()[..] else {
            panic!("method, host and target: {line}")
        };
        Self { line, method, host, target, listener, fields: parts.collect(), expected }
    }

    fn send(&self, client: &mut Client) -> String {
        let Self { method, host, target, .. } = self;
        let fields: String = self.fields.iter().map(|field| format!("{field}\r\n")).collect();
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        let response = client.next_response(*method == "HEAD");
        match response.status {
            200 if *method == "HEAD" => response.header("x-route").unwrap_or_default().to_owned(),
            200 => response.text(),
            status => status.to_string(),
        }
    }
}

fn cases() -> impl Iterator<Item = Case<'static>> {
    CASES.lines().filter(|line| line.contains(" => ") && !line.starts_with('#')).map(Case::read)
}

/// The routes, each of which answers with its name.
fn config() -> String {
    let named = |line: &str| match line.trim_start().strip_prefix("- {name: ") {
        Some(rest) if !line.contains("address") => {
            let name = rest.split([',', '}']).next().unwrap_or_default();
            line.replacen(
                "- {",
                &format!("- {{reply: {{body: {name}, headers: {{x-route: {name}}}}}, "),
                1,
            )
        }
        _ => line.to_owned(),
    };
    ROUTES.lines().map(named).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_row_of_the_table_holds_at_a_real_gateway() {
    let gate = Gate::yaml(&config());
    let mut wrong = Vec::new();

    for case in cases() {
        // What is refused may cost the connection.
        let found = case.send(&mut Client::connect(gate.listener(case.listener)));
        if found != case.expected {
            wrong.push(format!("{}, not {found}", case.line));
        }
    }

    assert!(cases().count() >= 120);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
