//! What operators write of `jwt`, and how it is compiled.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::config::{FilePath, SecretConfig, Size, Span};
use gateway_core::plugin::{BuildEnv, BuildError, OptionPath};
use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::algorithm::Algorithm;
use super::cache::Tokens;
use super::claims::Demands;
use super::key::Key;
use super::key_set::KeySet;
use super::source::{Remote, Source, fetcher};
use super::{ConsumerRule, Issuer, Jwt, Keys, Waits};
use crate::identity::{PlaceConfig, Places, bearer};

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whose tokens are accepted. A token is held against the one that its `iss` names.
    #[schemars(length(min = 1, max = 100))]
    issuers: Vec<IssuerConfig>,
    /// Where a token may stand; in more than one place at once is a fault of the request. Default: behind `Bearer`
    /// in `authorization`.
    #[serde(default = "authorization")]
    #[schemars(length(min = 1, max = 16))]
    from: Vec<PlaceConfig>,
    /// Whether the token goes up with the request. Default false: who gets it could use it.
    #[serde(default)]
    forward: bool,
    /// Fields that go up, each with the claim that it holds: `x-user: sub`. What a client sends in these is
    /// removed, whether there is a token or not.
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    /// Which consumer a token is of. Default: of none. Of several issuers each says it for itself: what one calls
    /// somebody another may call somebody else.
    #[serde(default)]
    consumer: Option<ConsumerConfig>,
    /// Whether requests without a token pass. A token that is not good is refused nevertheless. Default false.
    #[serde(default)]
    anonymous: bool,
    /// What is named in challenges as what tokens are for. Default `gateway`.
    #[serde(default = "gateway")]
    realm: String,
    /// The longest token. Default `16KiB`.
    #[serde(default = "sixteen_kib")]
    max_token: Size,
    /// How much memory holds tokens that were found good, so that their signatures need not be verified again
    /// while they are. 0: none. Default `16MiB`.
    #[serde(default = "sixteen_mib")]
    cache: Size,
}

/// An issuer of tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IssuerConfig {
    /// What `iss` must be, to the letter. Without it: anything, or nothing; for one issuer at most.
    #[serde(default)]
    issuer: Option<String>,
    /// Who the gateway is: tokens must be for one of these. `*`: for anybody. Default: none, so that tokens that
    /// name an audience are refused (RFC 7519, section 4.1.3).
    #[serde(default)]
    audience: Vec<String>,
    /// Where its keys come from.
    #[serde(default)]
    jwks: Option<JwksConfig>,
    /// Its keys, if they are written here.
    #[serde(default)]
    keys: Vec<KeyConfig>,
    /// The algorithms that tokens may be signed with, each by a key that is for it. Default: all but those with a
    /// secret (`HS256`, `HS384`, `HS512`), which are for keys that are written here.
    #[serde(default)]
    algorithms: Option<Vec<Algorithm>>,
    /// The types that a token's header may name, without `application/`. Default: `JWT`, `at+jwt`, or none.
    #[serde(default)]
    types: Option<Vec<String>>,
    /// Whether tokens must expire. Default true.
    #[serde(default = "yes")]
    expires: bool,
    /// How far clocks may be apart, at most `10m`. Default `60s`.
    #[serde(default = "minute")]
    leeway: Span,
    /// How old a token may be, by its `iat`. Default: as old as it likes.
    #[serde(default)]
    max_age: Option<Span>,
    /// Claims that must be there: `sub`, `realm_access.roles`.
    #[serde(default)]
    required: Vec<String>,
    /// Scopes that a token must be good for, all of them, by its `scope` or `scp`.
    #[serde(default)]
    scopes: Vec<String>,
    /// Conditions that must hold, over the claims and the request: `"admin" in jwt.roles`.
    #[serde(default)]
    rules: Vec<String>,
    /// Which consumer its tokens are of. Default: as beside `issuers`.
    #[serde(default)]
    consumer: Option<ConsumerConfig>,
}

/// Where a set of keys comes from: exactly one of `url`, `discovery` and `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JwksConfig {
    /// The set itself.
    #[serde(default)]
    url: Option<String>,
    /// Whether the issuer's configuration says where it is: at its URL, below `/.well-known/openid-configuration`.
    #[serde(default)]
    discovery: bool,
    /// A file. It is read when the config is.
    #[serde(default)]
    file: Option<FilePath>,
    /// A PEM file of the certificates that are trusted to sign the server's. Default: those that the system trusts.
    #[serde(default)]
    ca: Option<FilePath>,
    /// How often keys are fetched. Default: as its server says in `Cache-Control`, else each `5m`.
    #[serde(default)]
    refresh: Option<Span>,
    /// How long keys are good for while they cannot be fetched, from when they were to be fetched again; 10s
    /// at least. Default `24h`.
    #[serde(default = "day")]
    stale_for: Span,
    /// How long fetching them may take, and how long a request waits for it. Default `5s`.
    #[serde(default = "five_seconds")]
    timeout: Span,
    /// Whether keys may come over plain HTTP from another machine. Default false.
    #[serde(default)]
    allow_http: bool,
}

/// A key: exactly one of `file`, `pem` and `secret`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyConfig {
    /// The `kid` that tokens name it by. Default: any.
    #[serde(default)]
    id: Option<String>,
    /// The algorithm that it is for. Needed for a secret; else by default all that its kind can be for.
    #[serde(default)]
    algorithm: Option<Algorithm>,
    /// A PEM file of the public key, or of a certificate.
    #[serde(default)]
    file: Option<FilePath>,
    /// The public key, or a certificate, in PEM.
    #[serde(default)]
    pem: Option<String>,
    /// A secret that the issuer has too.
    #[serde(default)]
    secret: Option<SecretConfig>,
}

/// Which consumer a token is of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConsumerConfig {
    /// The claim that holds the consumer's name, or one of its `subjects`. Default `sub`.
    #[serde(default = "sub")]
    claim: String,
    /// Whether a token of no consumer is refused, with 403. Default false.
    #[serde(default)]
    required: bool,
}

fn authorization() -> Vec<PlaceConfig> {
    vec![PlaceConfig { header: Some("authorization".to_owned()), ..PlaceConfig::default() }]
}

fn gateway() -> String {
    "gateway".to_owned()
}

fn sub() -> String {
    "sub".to_owned()
}

fn yes() -> bool {
    true
}

fn sixteen_kib() -> Size {
    Size(16 << 10)
}

fn sixteen_mib() -> Size {
    Size(16 << 20)
}

fn minute() -> Span {
    Span(Duration::from_secs(60))
}

fn day() -> Span {
    Span(Duration::from_secs(24 * 60 * 60))
}

fn five_seconds() -> Span {
    Span(Duration::from_secs(5))
}

impl Config {
    pub(super) fn compile(self, env: &BuildEnv<'_>) -> Result<Jwt, BuildError> {
        let mut error = BuildError::none();
        let root = OptionPath::root;
        if self.consumer.is_some() && self.issuers.len() > 1 {
            error.push(root().key("consumer"), "which issuer's? Write it under `issuers`");
        }
        let places = Places::new(&self.from, &root().key("from"), &mut error);
        places.conceal(env);
        let mut issuers = Vec::with_capacity(self.issuers.len());
        for (index, issuer) in self.issuers.iter().enumerate() {
            let at = root().key("issuers").index(index);
            let before = self.issuers.iter().take(index);
            if before.into_iter().any(|other| other.issuer == issuer.issuer) {
                let which =
                    if issuer.issuer.is_some() { "this issuer" } else { "one without a name" };
                error.push(at.clone().key("issuer"), format!("{which} is in the list already"));
            }
            let consumer = issuer.consumer.as_ref().or(self.consumer.as_ref());
            issuers.push(issuer.compile(index, consumer, &at, env, &mut error));
        }
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, claim) in &self.headers {
            let at = root().key("headers").key(name);
            match name.parse::<HeaderName>() {
                Ok(name) if claim.is_empty() => error.push(at, format!("`{name}` of which claim?")),
                Ok(name) => headers.push((name, claim.as_str().into())),
                Err(_) => error.push(at, format!("`{name}` is no name of a field")),
            }
        }
        let challenge = bearer(&self.realm)
            .map_err(|message| error.push(root().key("realm"), message))
            .or_else(|()| bearer("gateway").map_err(|_| ()));
        if self.max_token.0 == 0 || self.max_token.0 > 1 << 20 {
            error.push(root().key("max_token"), "from 1 to 1MiB");
        }
        let (Ok(challenge), metrics) = (challenge, env.metrics()) else { return Err(error) };
        error.or(|| Jwt {
            issuers: issuers.into(),
            places,
            challenge,
            longest: usize::try_from(self.max_token.0).unwrap_or(usize::MAX),
            anonymous: self.anonymous,
            forward: self.forward,
            headers: headers.into(),
            tokens: (self.cache.0 > 0).then(|| Tokens::new(self.cache.0)),
            metrics,
        })
    }
}

impl IssuerConfig {
    fn compile(
        &self,
        index: usize,
        consumer: Option<&ConsumerConfig>,
        at: &OptionPath,
        env: &BuildEnv<'_>,
        error: &mut BuildError,
    ) -> Issuer {
        let any_audience = self.audience.iter().any(|one| one == "*");
        if any_audience && self.audience.len() > 1 {
            error.push(at.clone().key("audience"), "`*` is anybody; leave the others out");
        }
        if self.leeway.0 > Duration::from_secs(600) {
            error.push(at.clone().key("leeway"), "10m at most");
        }
        let algorithms = self.algorithms.as_deref().unwrap_or(Algorithm::PUBLIC);
        if algorithms.is_empty() {
            error.push(at.clone().key("algorithms"), "one at least");
        }
        let texts = |list: &[String]| list.iter().map(|one| one.as_str().into()).collect();
        let kinds = self.types.as_ref().map(|types| {
            let plain = |kind: &String| {
                let kind = kind.to_ascii_lowercase();
                kind.strip_prefix("application/").unwrap_or(&kind).into()
            };
            types.iter().map(plain).collect()
        });
        if self.types.as_ref().is_some_and(Vec::is_empty) {
            error.push(at.clone().key("types"), "one at least");
        }
        let fit = |scope: &String| {
            let fit = |byte: u8| (0x21..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
            !scope.is_empty() && scope.bytes().all(fit)
        };
        for (place, scope) in self.scopes.iter().enumerate() {
            if !fit(scope) {
                error.push(
                    at.clone().key("scopes").index(place),
                    "no scope (RFC 6749, section 3.3)",
                );
            }
        }
        let mut rules = Vec::with_capacity(self.rules.len());
        for (place, source) in self.rules.iter().enumerate() {
            match env.condition(source) {
                Ok(rule) => rules.push(rule),
                Err(fault) => error.push(at.clone().key("rules").index(place), fault.to_string()),
            }
        }
        let own = self.own_keys(algorithms, at, env, error);
        let remote = self
            .jwks
            .as_ref()
            .and_then(|jwks| self.remote(jwks, index, algorithms, at, env, error));
        Issuer {
            keys: Keys { own, remote },
            // A key that is written with its algorithm is for that one, listed or not.
            algorithms: match &self.algorithms {
                Some(listed) => listed.as_slice().into(),
                None => Algorithm::PUBLIC.iter().chain(Algorithm::HMAC).copied().collect(),
            },
            demands: Demands {
                issuer: self.issuer.as_deref().map(Into::into),
                audience: texts(&self.audience),
                any_audience,
                kinds,
                expires: self.expires,
                leeway: Duration::from(self.leeway).as_secs_f64(),
                max_age: self.max_age.map(|age| Duration::from(age).as_secs_f64()),
                required: texts(&self.required),
                scopes: texts(&self.scopes),
            },
            scope: (!self.scopes.is_empty()).then(|| self.scopes.join(" ").into()),
            rules: rules.into(),
            consumer: consumer.map(|config| ConsumerRule {
                claim: config.claim.as_str().into(),
                required: config.required,
                known: env.consumers(),
            }),
        }
    }

    /// The keys that are written, and those of a file.
    fn own_keys(
        &self,
        algorithms: &[Algorithm],
        at: &OptionPath,
        env: &BuildEnv<'_>,
        error: &mut BuildError,
    ) -> KeySet {
        if self.jwks.is_none() && self.keys.is_empty() {
            error.push(at.clone(), "no keys: write `jwks` or `keys`");
        }
        let mut keys = Vec::new();
        for (place, key) in self.keys.iter().enumerate() {
            match key.compile(algorithms, self.algorithms.as_deref(), env) {
                Ok(key) => keys.push(key),
                Err((name, message)) => {
                    let at = at.clone().key("keys").index(place);
                    error.push(if name.is_empty() { at } else { at.key(name) }, message);
                }
            }
        }
        if let Some(file) = self.jwks.as_ref().and_then(|jwks| jwks.file.as_ref()) {
            let read = std::fs::read(file).map_err(|fault| format!("cannot be read: {fault}"));
            match read.and_then(|json| KeySet::read(&json, algorithms)) {
                // In a file of one's own nothing has to be ignored.
                Ok((_, broken)) if !broken.is_empty() => {
                    error.push(at.clone().key("jwks").key("file"), broken.join("; "));
                }
                Ok((set, _)) => keys.extend(set.0),
                Err(fault) => error.push(at.clone().key("jwks").key("file"), fault),
            }
        }
        KeySet(keys)
    }

    fn remote(
        &self,
        jwks: &JwksConfig,
        index: usize,
        algorithms: &[Algorithm],
        at: &OptionPath,
        env: &BuildEnv<'_>,
        error: &mut BuildError,
    ) -> Option<(Arc<Remote>, Waits)> {
        let here = at.clone().key("jwks");
        let given = [jwks.url.is_some(), jwks.discovery, jwks.file.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            error.push(here, "exactly one of `url`, `discovery` and `file`");
            return None;
        }
        if jwks.file.is_some() {
            return None;
        }
        if algorithms.iter().any(|one| Algorithm::HMAC.contains(one)) {
            let message = "a secret does not come from a set that others can fetch; leave out HS256, HS384 and HS512";
            error.push(at.clone().key("algorithms"), message);
        }
        for (key, span, least, most) in [
            ("refresh", jwks.refresh, 1, 7 * 24 * 3600),
            ("stale_for", Some(jwks.stale_for), 0, 365 * 24 * 3600),
            ("timeout", Some(jwks.timeout), 0, 60),
        ] {
            let span = span.map(Duration::from);
            let range = Duration::from_secs(least)..=Duration::from_secs(most);
            if span.is_some_and(|span| !range.contains(&span) || span.is_zero() && key == "timeout")
            {
                error.push(here.clone().key(key), format!("from {least}s to {most}s"));
            }
        }
        let (url, discovers) = match (&jwks.url, &self.issuer) {
            (Some(url), _) => (url.clone(), None),
            (None, Some(issuer)) => {
                let url =
                    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
                (url, Some(issuer.as_str().into()))
            }
            (None, None) => {
                error.push(here.key("discovery"), "of which issuer? Write `issuer`");
                return None;
            }
        };
        let key = if jwks.discovery { "discovery" } else { "url" };
        let timeout = Duration::from(jwks.timeout);
        let fetcher = match fetcher(&url, jwks.ca.as_ref(), timeout, jwks.allow_http) {
            Ok(fetcher) => fetcher,
            Err(message) => {
                error.push(here.key(key), message);
                return None;
            }
        };
        // All that fetching depends on: whoever fetched before goes on as it was told.
        let JwksConfig { ca, refresh, allow_http, .. } = jwks;
        let digest = format!(
            "{url} {discovers:?} {algorithms:?} {ca:?} {refresh:?} {timeout:?} {allow_http}"
        );
        let remote = env.state(&format!("keys/{index}"), &digest, Remote::new);
        let source = Source {
            fetcher,
            discovers,
            ca: jwks.ca.clone(),
            timeout,
            allow_http: jwks.allow_http,
            refresh: jwks.refresh.map(Into::into),
            allowed: algorithms.into(),
            name: url.into(),
        };
        env.background(remote.clone().follow(source, env.metrics()));
        Some((remote, Waits { stale_for: jwks.stale_for.into(), longest: timeout }))
    }
}

impl KeyConfig {
    /// The key, or under which name what is wrong.
    fn compile(
        &self,
        algorithms: &[Algorithm],
        listed: Option<&[Algorithm]>,
        env: &BuildEnv<'_>,
    ) -> Result<Key, (&'static str, String)> {
        let given = [self.file.is_some(), self.pem.is_some(), self.secret.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err(("", "exactly one of `file`, `pem` and `secret`".to_owned()));
        }
        let id = self.id.as_deref();
        if let Some(secret) = &self.secret {
            let message = "a secret is for HS256, HS384 or HS512: which?";
            let algorithm = self.algorithm.ok_or(("algorithm", message.to_owned()))?;
            if listed.is_some_and(|listed| !listed.contains(&algorithm)) {
                return Err(("algorithm", "not among the `algorithms`".to_owned()));
            }
            let secret = env.secret(secret).map_err(|message| ("secret", message))?;
            let key = Key::secret(secret.expose().as_bytes(), id, algorithm);
            return key.map_err(|message| ("secret", message));
        }
        let (name, text) = match &self.file {
            Some(file) => {
                let read = std::fs::read(file);
                ("file", read.map_err(|fault| ("file", format!("cannot be read: {fault}")))?)
            }
            None => ("pem", self.pem.clone().unwrap_or_default().into_bytes()),
        };
        Key::pem(&text, id, self.algorithm, algorithms).map_err(|message| (name, message))
    }
}
