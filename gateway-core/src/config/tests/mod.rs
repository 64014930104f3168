//! Tests of whole documents: what is accepted, and the exact words and places of what is not.

mod accepted;
mod faults;
mod files;
mod published;

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Faults, LoadOptions, Loaded, PluginSchemas, SecretConfig, Span, load_text};

/// Options as a plugin would declare them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct JwtOptions {
    issuer: String,
    audience: Vec<String>,
    #[serde(default)]
    leeway: Span,
    #[serde(default)]
    algorithm: Algorithm,
    secret: Option<SecretConfig>,
    keys: Option<Keys>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    #[default]
    Rs256,
    Es256,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "from", rename_all = "lowercase", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
enum Keys {
    File {
        #[schemars(extend("format" = "path"))]
        path: String,
    },
    Url {
        url: String,
        refresh: Option<Span>,
    },
}

struct Catalogue;

impl PluginSchemas for Catalogue {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["cors", "jwt", "request-id"]
    }

    fn options_schema(&self, kind: &str) -> Option<schemars::Schema> {
        match kind {
            "jwt" => Some(schemars::schema_for!(JwtOptions)),
            "cors" | "request-id" => {
                Some(schemars::json_schema!({"type": "object", "additionalProperties": true}))
            }
            _ => None,
        }
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".into()),
        "LIMIT" => Some("500".into()),
        "ECHO" => Some("true".into()),
        "KEY" => Some("s3cr3t".into()),
        _ => None,
    }
}

fn options() -> LoadOptions {
    LoadOptions { env: Box::new(env) }
}

fn try_load(text: &str) -> Result<Loaded, Faults> {
    load_text("gateway.yaml", Path::new("/etc/gateway"), text, &Catalogue, &options())
}

fn loaded(text: &str) -> Loaded {
    try_load(text).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The faults of a text, one a line.
fn refused(text: &str) -> String {
    match try_load(text) {
        Ok(_) => "accepted".into(),
        Err(faults) => faults.to_string(),
    }
}

/// The faults of a document that is right but for these lines at its end.
fn refused_after_head(lines: &str) -> String {
    refused(&format!("{HEAD}{lines}"))
}

/// Four lines of a document that is right: what follows begins on line 5.
const HEAD: &str = "\
version: 1
listeners:
  - {name: public, address: 0.0.0.0:8080, plugins: [{kind: cors}]}
upstreams: [{name: users, endpoints: [10.0.0.1:8080]}]
";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
