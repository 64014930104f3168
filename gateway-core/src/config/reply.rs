//! `reply`: an answer the gateway makes itself.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Findings;
use super::file_path::FilePath;
use super::path::ConfigPath;
use super::redact;

/// An answer the gateway makes itself.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplyConfig {
    /// The status, 200 to 599. Default 200.
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// Header fields, name to value.
    #[serde(serialize_with = "redact::headers")]
    pub headers: BTreeMap<String, String>,
    /// The body. Default: none.
    pub body: Option<String>,
    /// A file that is the body, of at most 16MiB, read when the config is: a reload reads it again, and with `reload.watch` a change of it is
    /// one of the config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FilePath>,
    /// Whether the body and the values of `headers` are templates, in which `{request.path}` and the like stand for
    /// attributes, `{{` and `}}` for braces. What they stand for is escaped as the type of the body asks: JSON, HTML and
    /// XML. Default false.
    #[serde(skip_serializing_if = "is_false")]
    pub template: bool,
    /// Answers with what arrived, as JSON, instead of `body`. Default false.
    pub echo: bool,
}

impl Default for ReplyConfig {
    fn default() -> Self {
        Self {
            status: 200,
            headers: BTreeMap::new(),
            body: None,
            file: None,
            template: false,
            echo: false,
        }
    }
}

/// Fields that belong to the message's framing or to the connection (RFC 9110, section 7.6.1).
const FRAMING: [&str; 6] =
    ["connection", "content-length", "keep-alive", "te", "transfer-encoding", "upgrade"];

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(template: &bool) -> bool {
    !*template
}

impl ReplyConfig {
    pub(super) fn check(&self, at: &ConfigPath, findings: &mut Findings<'_>) {
        let bodies =
            [("echo", self.echo), ("body", self.body.is_some()), ("file", self.file.is_some())];
        let mut written = bodies.iter().filter(|(_, written)| *written).map(|(key, _)| *key);
        let first = written.next();
        if let (Some(first), Some(second)) = (first, written.next()) {
            let message = format!("`{first}` says what the body is; leave one out");
            findings.add_at_key(&at.clone().key(second), message);
        }
        if matches!(self.status, 204 | 205 | 304) && first.is_some() {
            let status = self.status;
            findings.add(&at.clone().key("status"), format!("a {status} reply has no body"));
        }
        for (name, value) in &self.headers {
            let at = at.clone().key("headers").key(name);
            match HeaderName::try_from(name) {
                Err(_) => findings.add_at_key(&at, format!("`{name}` is no header name")),
                Ok(name) if FRAMING.contains(&name.as_str()) => {
                    findings.add_at_key(&at, format!("`{name}` is set by the gateway itself"));
                }
                Ok(_) => {}
            }
            if HeaderValue::try_from(value).is_err() {
                findings.add(&at, "a header value cannot hold line breaks or control characters");
            }
        }
    }
}
