//! What is expected of an explanation: `route=users`, `status=404`.

use std::fmt;
use std::str::FromStr;

use super::{Explained, Explanation};

/// One thing that an explanation has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    key: String,
    value: String,
}

/// Why a text is no expectation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpectationError {
    /// No `=`.
    #[error("`{0}` is no expectation; write it as `route=users`")]
    Form(String),
    /// No such value of the key.
    #[error("`{key}` is never `{value}`; there is {known}")]
    Value {
        /// The key.
        key: String,
        /// What is expected of it.
        value: String,
        /// What it can be.
        known: &'static str,
    },
    /// No such key.
    #[error("nothing is told under `{0}`; there is {known}", known = KEYS.join(", "))]
    Key(String),
}

/// The keys there are. `NAME` stands for the name of a plugin or of what a path captures.
const KEYS: [&str; 20] = [
    "route",
    "group",
    "action",
    "by",
    "status",
    "failure",
    "allow",
    "location",
    "upstream",
    "rewritten_path",
    "rewritten_host",
    "total",
    "method",
    "host",
    "path",
    "client",
    "listener",
    "plugins",
    "plugin.NAME",
    "capture.NAME",
];

impl FromStr for Expectation {
    type Err = ExpectationError;

    fn from_str(text: &str) -> Result<Self, ExpectationError> {
        let (key, value) =
            text.split_once('=').ok_or_else(|| ExpectationError::Form(text.to_owned()))?;
        let keyed = key.starts_with("plugin.") || key.starts_with("capture.");
        if !keyed && !KEYS.contains(&key) || key.contains("NAME") {
            return Err(ExpectationError::Key(key.to_owned()));
        }
        let actions = "refusal, upstream, redirect, reply, plugin";
        let known = match key {
            "action" if !actions.split(", ").any(|known| known == value) => Some(actions),
            "status" if !["", "none"].contains(&value) && value.parse::<u16>().is_err() => {
                Some("a number, or `none`")
            }
            _ if key.starts_with("plugin.")
                && !["acts", "skipped", "unknown", "none", ""].contains(&value) =>
            {
                Some("acts, skipped, unknown, none")
            }
            _ => None,
        };
        if let Some(known) = known {
            let (key, value) = (key.to_owned(), value.to_owned());
            return Err(ExpectationError::Value { key, value, known });
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl Expectation {
    /// Whether it is so.
    ///
    /// # Errors
    /// What is told in its place, in words.
    pub fn check(&self, explanation: &Explanation) -> Result<(), String> {
        let found = found(&self.key, explanation);
        let unless = &explanation.told.unless;
        if self.key == "status" && found.is_some() && !unless.is_empty() {
            let (status, unless) = (found.unwrap_or_default(), unless.join(", "));
            return Err(format!(
                "expected {self}, which is open: it is {status} unless {unless} answers before; expect `action` instead"
            ));
        }
        match &found {
            Some(found) if *found == self.value => Ok(()),
            // What is not there is told by an empty value.
            None if self.value.is_empty() || self.value == "none" => Ok(()),
            Some(found) => Err(format!("expected {self}, found {}={found}", self.key)),
            None => Err(format!("expected {self}, and there is no {}", self.key)),
        }
    }
}

fn found(key: &str, explanation: &Explanation) -> Option<String> {
    let (told, request) = (&explanation.told, &explanation.request);
    if let Some(name) = key.strip_prefix("capture.") {
        return told.captures.get(name).cloned();
    }
    if let Some(name) = key.strip_prefix("plugin.") {
        let plugin = told.plugins.iter().find(|plugin| plugin.name == name)?;
        let acts = plugin.acts.map(|acts| if acts { "acts" } else { "skipped" });
        return Some(acts.unwrap_or("unknown").to_owned());
    }
    match key {
        "route" => told.route.clone(),
        "group" => told.group.clone(),
        "action" => Some(
            match told.action {
                Explained::Refusal => "refusal",
                Explained::Upstream => "upstream",
                Explained::Redirect => "redirect",
                Explained::Reply => "reply",
                Explained::Plugin => "plugin",
            }
            .to_owned(),
        ),
        "by" => told.by.clone(),
        "status" => told.status.map(|status| status.to_string()),
        "failure" => told.failure.clone(),
        "allow" => told.allow.clone(),
        "location" => told.location.clone(),
        "upstream" => told.upstream.as_ref().map(|upstream| upstream.name.clone()),
        "rewritten_path" => told.rewritten_path.clone(),
        "rewritten_host" => told.rewritten_host.clone(),
        "total" => told.total.as_ref().map(|(total, _)| total.clone()),
        "method" => Some(request.method.clone()),
        "host" => Some(request.host.clone()),
        "path" => Some(request.path.clone()),
        "client" => Some(request.client.clone()),
        "listener" => Some(request.listener.clone()),
        "plugins" => {
            let names: Vec<&str> = told.plugins.iter().map(|plugin| &*plugin.name).collect();
            Some(names.join(","))
        }
        _ => None,
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_expectation_says_why() {
        assert_eq!(
            "route".parse::<Expectation>().unwrap_err().to_string(),
            "`route` is no expectation; write it as `route=users`"
        );
        let unknown = "rout=a".parse::<Expectation>().unwrap_err().to_string();
        assert!(unknown.starts_with("nothing is told under `rout`; there is route, group, action"));
        for (text, why) in [
            (
                "action=foo",
                "`action` is never `foo`; there is refusal, upstream, redirect, reply, plugin",
            ),
            ("status=abc", "`status` is never `abc`; there is a number, or `none`"),
            (
                "plugin.a=skippd",
                "`plugin.a` is never `skippd`; there is acts, skipped, unknown, none",
            ),
        ] {
            assert_eq!(text.parse::<Expectation>().unwrap_err().to_string(), why);
        }
        assert!("plugin.cors=acts".parse::<Expectation>().is_ok());
    }
}
