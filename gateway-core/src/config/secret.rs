//! Secrets: how a document names one, and the type that keeps it from being shown.

use std::fmt;
use std::fs;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::file_path::FilePath;

/// What stands in place of a secret wherever a document is shown.
pub(super) const HIDDEN: &str = "***";

/// Where a secret comes from: `{env: NAME}`, `{file: path}` or, with a warning, the text itself.
#[derive(Clone, Deserialize)]
#[serde(from = "Written")]
pub enum SecretConfig {
    /// Written in the document.
    Literal(Secret),
    /// Held by an environment variable.
    Env(String),
    /// Held by a file; one newline at its end is not part of the secret.
    File(FilePath),
}

/// A secret that cannot be displayed or serialized; `Debug` shows `***`.
#[derive(Clone)]
pub struct Secret(SecretString);

/// A file with more than this is no secret but a mistake.
const LARGEST_FILE: u64 = 1 << 20;

impl SecretConfig {
    /// Whether both name the same place, or hold the same text.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(one), Self::Literal(other)) => one.expose() == other.expose(),
            (Self::Env(one), Self::Env(other)) => one == other,
            (Self::File(one), Self::File(other)) => one == other,
            _ => false,
        }
    }

    /// Fetches the secret.
    ///
    /// # Errors
    /// Says which variable is not set, or which file could not be read and why.
    pub fn resolve(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Secret, String> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::Env(name) => {
                let value = env(name).filter(|value| !value.is_empty());
                let value = value
                    .ok_or_else(|| format!("environment variable `{name}` is not set or empty"))?;
                Ok(Secret::new(value))
            }
            Self::File(path) => read_file(path),
        }
    }
}

/// The variables of the process.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn read_file(path: &FilePath) -> Result<Secret, String> {
    let refused = |why: &dyn fmt::Display| format!("secret file {path}: {why}");
    let length = fs::metadata(path).map_err(|error| refused(&error))?.len();
    if length > LARGEST_FILE {
        return Err(refused(&"larger than 1MiB"));
    }
    let mut text = fs::read_to_string(path).map_err(|error| refused(&error))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(refused(&"empty"));
    }
    Ok(Secret::new(text))
}

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself; never log it, never keep it longer than the comparison or the call.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Debug for SecretConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str(HIDDEN),
            Self::Env(name) => write!(f, "{{env: {name}}}"),
            Self::File(path) => write!(f, "{{file: {path}}}"),
        }
    }
}

impl Serialize for SecretConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, value) = match self {
            Self::Literal(_) => return serializer.serialize_str(HIDDEN),
            Self::Env(name) => ("env", name.clone()),
            Self::File(path) => ("file", path.to_string()),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(key, &value)?;
        map.end()
    }
}

impl JsonSchema for SecretConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let file = generator.subschema_for::<FilePath>();
        json_schema!({
            "description": "A secret: `{env: NAME}`, `{file: path}` or, with a warning, the text itself.",
            "writeOnly": true,
            "oneOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "properties": {"env": {"type": "string", "minLength": 1}},
                    "required": ["env"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": {"file": file},
                    "required": ["file"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// The forms a secret is written in.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Literal(String),
    Env { env: String },
    File { file: FilePath },
}

impl From<Written> for SecretConfig {
    fn from(written: Written) -> Self {
        match written {
            Written::Literal(text) => Self::Literal(Secret::new(text)),
            Written::Env { env } => Self::Env(env),
            Written::File { file } => Self::File(file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(yaml: &str) -> SecretConfig {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn secret_comes_from_where_the_document_says() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "from-file\n").unwrap();
        let env = |name: &str| (name == "KEY").then(|| "from-env".to_owned());
        let resolve = |yaml: &str| secret(yaml).resolve(&env).map(|s| s.expose().to_owned());

        assert_eq!(resolve("literal").unwrap(), "literal");
        assert_eq!(resolve("{env: KEY}").unwrap(), "from-env");
        assert_eq!(resolve(&format!("{{file: {}}}", file.path().display())).unwrap(), "from-file");
        assert_eq!(
            resolve("{env: NONE}").unwrap_err(),
            "environment variable `NONE` is not set or empty"
        );
        assert_eq!(
            resolve("{file: /nowhere}").unwrap_err(),
            "secret file /nowhere: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn secret_is_never_shown() {
        let literal = secret("hunter2");

        assert_eq!(format!("{literal:?}"), "***");
        assert_eq!(serde_json::to_string(&literal).unwrap(), "\"***\"");
        assert_eq!(serde_json::to_string(&secret("{env: KEY}")).unwrap(), r#"{"env":"KEY"}"#);
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }
}
