//! What operators write of `redaction`, and how it is compiled.

use std::collections::HashMap;

use gateway_core::config::{Secret, SecretConfig};
use gateway_core::plugin::{BuildEnv, BuildError, OptionPath};
use gateway_core::telemetry::redaction::{Redactor, Shape, pattern};
use http::HeaderName;
use regex::bytes::Regex;
use ring::hmac;
use schemars::JsonSchema;
use serde::Deserialize;

use super::rules::{Action, Rules, Step, normalised};
use super::{Redaction, Surfaces};

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where secrets are looked for.
    #[schemars(length(min = 1))]
    surfaces: Vec<Surface>,
    /// What becomes of what stands under a name that is secret everywhere, such as `password`, or looks like a
    /// secret: tokens, private keys, e-mail addresses, users in URLs, card numbers, IBANs; and of what `redaction`, beside
    /// `plugins`, names. Default `mask`.
    #[serde(default)]
    defaults: Defaults,
    /// Names, and paths into JSON, that are secret besides.
    #[serde(default)]
    keys: Vec<KeyConfig>,
    /// What looks like a secret besides, or has another action than the others.
    #[serde(default)]
    patterns: Vec<PatternConfig>,
    /// What secrets are hashed with, at least 32 bytes. Needed for `hash`.
    #[serde(default)]
    hash_key: Option<SecretConfig>,
    /// Fields that are left as they are. Default: those that are meant for who gets them, `authorization`,
    /// `proxy-authorization`, `cookie` and `set-cookie`.
    #[serde(default = "credentials")]
    except: Vec<String>,
    /// What becomes of bodies that are coded (gzip, deflate, brotli, zstd).
    #[serde(default)]
    coded: Coded,
}

/// Where secrets are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Surface {
    /// The fields of requests, on their way up.
    RequestHeaders,
    /// The query of requests, on its way up.
    Query,
    /// The body of requests: JSON, forms and text.
    RequestBody,
    /// The fields of answers.
    ResponseHeaders,
    /// The body of answers: JSON and text.
    ResponseBody,
}

/// What becomes of what is secret everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Defaults {
    /// `***` stands in its place.
    #[default]
    Mask,
    /// A keyed hash does.
    Hash,
    /// It is removed.
    Remove,
    /// Nothing: only `keys` and `patterns` count.
    None,
}

/// What becomes of a secret: a word, or `{keep_last: 4}`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum ActionConfig {
    /// A word.
    Word(ActionWord),
    /// Some of it is kept.
    Keep(KeepConfig),
}

/// What becomes of a secret.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ActionWord {
    /// `***` stands in its place.
    Mask,
    /// A keyed hash does, the same for the same secret: `hmac:` and 32 hexadecimal digits.
    Hash,
    /// It is removed; in JSON and forms with its name.
    Remove,
}

/// Some of a secret is kept.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeepConfig {
    /// So many characters at its end, behind `***`.
    #[schemars(range(min = 1, max = 16))]
    keep_last: usize,
}

/// Names and paths that are secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyConfig {
    /// Names of members of JSON, of pairs in queries and forms, and of fields; in any case of letters, with or without `-`
    /// and `_`.
    #[serde(default)]
    names: Vec<String>,
    /// Paths from the top of a JSON body: `customer.card.number`. `*` is any name; lists are gone through.
    #[serde(default)]
    paths: Vec<String>,
    /// What becomes of what is there. Default `mask`.
    #[serde(default = "mask")]
    action: ActionConfig,
}

/// What looks like a secret: exactly one of `shape` and `regex`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PatternConfig {
    /// A shape that is known.
    #[serde(default)]
    shape: Option<ShapeName>,
    /// A regular expression, on one line of text.
    #[serde(default)]
    regex: Option<String>,
    /// What becomes of what is found. Default `mask`.
    #[serde(default = "mask")]
    action: ActionConfig,
}

/// A shape that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ShapeName {
    /// A JWT, or a token with a well-known prefix.
    Token,
    /// A private key in PEM.
    PrivateKey,
    /// An e-mail address.
    Email,
    /// The user, and the password, in a URL.
    UrlUser,
    /// The number of a payment card, with its check digit.
    Card,
    /// An IBAN, with its check digits.
    Iban,
}

/// What becomes of bodies that are coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Coded {
    /// They are decoded, and go on so.
    #[default]
    Decode,
    /// They are refused: 415 for a request, and the answer is cut.
    Refuse,
}

fn mask() -> ActionConfig {
    ActionConfig::Word(ActionWord::Mask)
}

fn credentials() -> Vec<String> {
    ["authorization", "proxy-authorization", "cookie", "set-cookie"].map(str::to_owned).into()
}

impl From<ActionConfig> for Action {
    fn from(config: ActionConfig) -> Self {
        match config {
            ActionConfig::Word(ActionWord::Mask) => Self::Mask,
            ActionConfig::Word(ActionWord::Hash) => Self::Hash,
            ActionConfig::Word(ActionWord::Remove) => Self::Remove,
            ActionConfig::Keep(KeepConfig { keep_last }) => Self::KeepLast(keep_last),
        }
    }
}

impl Config {
    pub(super) fn compile(self, env: &BuildEnv<'_>) -> Result<Redaction, BuildError> {
        let mut error = BuildError::none();
        let root = OptionPath::root;
        let rules = self.rules(env, &mut error);
        let mut except = Vec::with_capacity(self.except.len());
        for (index, name) in self.except.iter().enumerate() {
            match name.parse::<HeaderName>() {
                Ok(name) => except.push(name),
                Err(_) => {
                    error.push(root().key("except").index(index), "no name of a field");
                }
            }
        }
        let has = |surface: Surface| self.surfaces.contains(&surface);
        let surfaces = Surfaces {
            request_headers: has(Surface::RequestHeaders),
            query: has(Surface::Query),
            request_body: has(Surface::RequestBody),
            response_headers: has(Surface::ResponseHeaders),
            response_body: has(Surface::ResponseBody),
        };
        let decodes = self.coded == Coded::Decode;
        error.or(|| Redaction { rules, surfaces, except: except.into(), decodes })
    }

    fn rules(&self, env: &BuildEnv<'_>, error: &mut BuildError) -> Rules {
        self.rules_with(&|secret| env.secret(secret), env.secrets_besides(), error)
    }

    /// Compiles the rules; `resolve` fetches secrets.
    fn rules_with(
        &self,
        resolve: &dyn Fn(&SecretConfig) -> Result<Secret, String>,
        besides: (&[String], Vec<Regex>),
        error: &mut BuildError,
    ) -> Rules {
        const SHAPES: [Shape; 6] = [
            Shape::Token,
            Shape::PrivateKey,
            Shape::Email,
            Shape::UrlUser,
            Shape::Card,
            Shape::Iban,
        ];
        let root = OptionPath::root;
        let defaults = match self.defaults {
            Defaults::Mask => Some(Action::Mask),
            Defaults::Hash => Some(Action::Hash),
            Defaults::Remove => Some(Action::Remove),
            Defaults::None => None,
        };
        let mut shapes: HashMap<Shape, Action> =
            defaults.into_iter().flat_map(|action| SHAPES.map(|shape| (shape, action))).collect();
        let (mut names, mut paths) = (HashMap::new(), Vec::new());
        for (index, key) in self.keys.iter().enumerate() {
            let at = root().key("keys").index(index);
            if key.names.is_empty() && key.paths.is_empty() {
                error.push(at.clone(), "of what? Write `names` or `paths`");
            }
            for name in &key.names {
                names.insert(normalised(name.as_bytes()).into(), key.action.into());
            }
            for (place, path) in key.paths.iter().enumerate() {
                let at = at.clone().key("paths").index(place);
                let path = path.strip_prefix("$.").unwrap_or(path);
                let steps = path.split('.').map(|step| match step {
                    "*" => Step::Any,
                    name => Step::Name(name.trim_end_matches("[*]").into()),
                });
                let steps: Box<[Step]> = steps.collect();
                if steps.iter().any(|step| matches!(step, Step::Name(name) if name.is_empty())) {
                    error.push(at.clone(), "a path is names with dots between, such as `a.b`");
                }
                if paths.len() == 64 {
                    error.push(at, "64 paths are the most");
                    break;
                }
                paths.push((steps, key.action.into()));
            }
        }
        // What the config takes for secret everywhere is so here, unless nothing is.
        let (besides, mut more, mut own) = match defaults {
            Some(action) => (besides.0, besides.1.clone(), vec![action; besides.1.len()]),
            None => (&[][..], Vec::new(), Vec::new()),
        };
        for (index, config) in self.patterns.iter().enumerate() {
            let at = root().key("patterns").index(index);
            match (config.shape, &config.regex) {
                (Some(shape), None) => {
                    shapes.insert(shape.into(), config.action.into());
                }
                (None, Some(source)) => match pattern(source) {
                    Ok(regex) => {
                        own.push(config.action.into());
                        more.push(regex);
                    }
                    Err(fault) => error.push(at.key("regex"), fault),
                },
                _ => error.push(at, "exactly one of `shape` and `regex`"),
            }
        }
        let hash_key = self.hash_key.as_ref().and_then(|secret| match resolve(secret) {
            Ok(secret) if secret.expose().len() < 32 => {
                error.push(root().key("hash_key"), "at least 32 bytes");
                None
            }
            Ok(secret) => Some(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())),
            Err(fault) => {
                error.push(root().key("hash_key"), fault);
                None
            }
        });
        let actions = names.values().chain(shapes.values()).chain(&own).copied();
        let actions = actions.chain(paths.iter().map(|(_, action)| *action)).chain(defaults);
        if self.hash_key.is_none() && actions.into_iter().any(|action| action == Action::Hash) {
            error.push(root(), "`hash` needs a `hash_key`");
        }
        Rules {
            redactor: Redactor::new(besides, more),
            default_keys: defaults,
            names,
            paths,
            shapes,
            own,
            hash_key,
        }
    }
}

#[cfg(test)]
impl Config {
    pub(super) fn rules_for_tests(&self) -> Rules {
        let literal = |secret: &SecretConfig| secret.resolve(&|_| None);
        self.rules_with(&literal, Default::default(), &mut BuildError::none())
    }
}

impl From<ShapeName> for Shape {
    fn from(name: ShapeName) -> Self {
        match name {
            ShapeName::Token => Self::Token,
            ShapeName::PrivateKey => Self::PrivateKey,
            ShapeName::Email => Self::Email,
            ShapeName::UrlUser => Self::UrlUser,
            ShapeName::Card => Self::Card,
            ShapeName::Iban => Self::Iban,
        }
    }
}
