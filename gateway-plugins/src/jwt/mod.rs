//! Lets in who brings a signed token (JWT, RFC 7519) of an issuer that is trusted.
//!
//! ```yaml
//! kind: jwt
//! options:
//!   issuers:
//!     - issuer: https://id.example.com
//!       audience: [api]
//!       jwks: {discovery: true}
//!   headers: {x-user: sub}
//! ```
//!
//! A request without a token is answered 401 with a challenge (RFC 6750), one whose token does not allow it
//! 403, and 503 with `P5` while no keys are known. What the token says can be read as `jwt.NAME`: by conditions,
//! keys of limits, and templates. The token itself does not go up, unless `forward` says so.

mod algorithm;
mod cache;
mod claims;
mod der;
mod key;
mod key_set;
mod options;
mod refusal;
mod source;
mod token;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use gateway_core::plugin::{
    BuildEnv, BuildError, Class, Condition, FactSet, Facts, Flow, HookError, Hooks, Plugin,
    RequestHeader, RequestHook,
};
use gateway_core::telemetry::{CredentialCheck, PluginMetrics};
use gateway_core::{Consumer, Consumers, RequestCtx};
use http::{HeaderName, HeaderValue};

use crate::identity::{Challenge, Found, Places, remove_field};
use algorithm::Algorithm;
use cache::Tokens;
use claims::{Demands, Until};
use key_set::KeySet;
pub use options::Config;
use refusal::Refusal;
use source::Remote;
use token::Token;

/// Lets in who brings a signed token of an issuer that is trusted.
pub struct Jwt {
    issuers: Box<[Issuer]>,
    places: Places,
    challenge: Challenge,
    longest: usize,
    anonymous: bool,
    forward: bool,
    headers: Box<[(HeaderName, Box<str>)]>,
    tokens: Option<Tokens>,
    metrics: Arc<PluginMetrics>,
}

/// Whose tokens are accepted, and what they must say.
struct Issuer {
    keys: Keys,
    algorithms: Box<[Algorithm]>,
    demands: Demands,
    /// The scopes asked for, as a challenge names them.
    scope: Option<Box<str>>,
    rules: Box<[Condition]>,
    consumer: Option<ConsumerRule>,
}

/// Keys of an issuer: those that are written, and those that come from elsewhere.
struct Keys {
    own: KeySet,
    remote: Option<(Arc<Remote>, Waits)>,
}

/// How long keys from elsewhere are good for, and waited for.
#[derive(Clone, Copy)]
struct Waits {
    stale_for: Duration,
    longest: Duration,
}

/// Which consumer a token is of.
struct ConsumerRule {
    claim: Box<str>,
    required: bool,
    known: Arc<Consumers>,
}

/// What was found of a token that is good.
struct Verified {
    issuer: usize,
    /// In seconds since 1970.
    until: Until,
    facts: Arc<FactSet>,
    headers: Box<[Option<HeaderValue>]>,
    consumer: Option<Arc<Consumer>>,
    /// Why it is not enough all the same.
    denied: Option<Refusal>,
}

impl Plugin for Jwt {
    const KIND: &'static str = "jwt";
    const CLASS: Class = Class::Security;
    const ATTRIBUTES: &'static [&'static str] = &["jwt.*"];
    type Config = Config;

    fn build(config: Config, env: &BuildEnv<'_>) -> Result<Self, BuildError> {
        config.compile(env)
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        if !self.anonymous {
            hooks.refuses_strangers();
        }
        hooks.request(self);
    }
}

#[async_trait]
impl RequestHook for Jwt {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        // Whatever comes of the token: nobody else may say who a caller is.
        for (name, _) in &self.headers {
            remove_field(head, name);
        }
        let now = ctx.started_at().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let verified = match self.places.find(head) {
            Found::Nothing if self.anonymous => {
                self.metrics.checked_credentials(CredentialCheck::Missing);
                return Ok(Flow::Continue);
            }
            Found::Nothing => return Ok(self.refuse(Refusal::Missing, None)),
            Found::Several => return Ok(self.refuse(Refusal::Several, None)),
            Found::Unreadable => return Ok(self.refuse(Refusal::Malformed, None)),
            Found::One(token) => self.verify(&token, now).await,
        };
        let verified = match verified {
            Ok(verified) => verified,
            Err(refusal) => return Ok(self.refuse(refusal, None)),
        };
        let issuer = &self.issuers[verified.issuer];
        if let Some(refusal) = verified.denied {
            return Ok(self.refuse(refusal, Some(issuer)));
        }
        ctx.publish_all(verified.facts.clone());
        if let Some(consumer) = &verified.consumer {
            ctx.set_consumer(consumer.clone());
        }
        if !issuer.rules.is_empty() {
            let facts = Facts { request: head, response: None, ctx };
            for rule in &issuer.rules {
                if !rule.holds(&facts)? {
                    return Ok(self.refuse(Refusal::Rule, Some(issuer)));
                }
            }
        }
        if !self.forward {
            self.places.clear(head);
        }
        for ((name, _), value) in self.headers.iter().zip(&verified.headers) {
            if let Some(value) = value {
                head.insert_header(name.clone(), value.clone())?;
            }
        }
        self.metrics.checked_credentials(CredentialCheck::Accepted);
        Ok(Flow::Continue)
    }
}

impl Jwt {
    fn refuse(&self, refusal: Refusal, issuer: Option<&Issuer>) -> Flow {
        self.metrics.checked_credentials(refusal.outcome());
        let scope = issuer.filter(|_| refusal == Refusal::Scope);
        let scope = scope.and_then(|issuer| issuer.scope.as_deref());
        Flow::Respond(self.challenge.answer(&refusal.denial(), scope))
    }

    /// Whether a token is good at this moment, in seconds since 1970, and what it says.
    async fn verify(&self, text: &str, now: f64) -> Result<Arc<Verified>, Refusal> {
        if text.len() > self.longest {
            return Err(Refusal::TooLong);
        }
        let generation = |issuer: usize| self.issuers[issuer].keys.generation();
        if let Some(known) = self.tokens.as_ref().and_then(|held| held.get(text, now, generation)) {
            return Ok(known);
        }
        let token = Token::parse(text)?;
        let place = self.issuer_of(&token)?;
        let issuer = &self.issuers[place];
        if !issuer.algorithms.contains(&token.algorithm) {
            return Err(Refusal::Algorithm);
        }
        issuer.demands.accepts(token.kind.as_deref())?;
        let generation = issuer.keys.verify(&token).await?;
        let until = issuer.demands.check(&token.claims, now)?;
        let verified = Arc::new(self.found(place, until, &token));
        if let Some(held) = &self.tokens {
            held.put(text, generation, verified.clone());
        }
        Ok(verified)
    }

    /// Which issuer a token says that it is of. Its keys have the last word on that.
    fn issuer_of(&self, token: &Token<'_>) -> Result<usize, Refusal> {
        let said = token.claims.get("iss").and_then(serde_json::Value::as_str);
        let named =
            |issuer: &Issuer| issuer.demands.issuer.as_deref().is_some_and(|own| Some(own) == said);
        let any = || self.issuers.iter().position(|issuer| issuer.demands.issuer.is_none());
        self.issuers.iter().position(named).or_else(any).ok_or(Refusal::Issuer)
    }

    fn found(&self, issuer: usize, until: Until, token: &Token<'_>) -> Verified {
        let claims = &token.claims;
        let header = |(_, claim): &(HeaderName, Box<str>)| {
            let value = claims::field(claim, claims::find(claims, claim)?)?;
            HeaderValue::from_bytes(value.as_bytes()).ok()
        };
        let rule = self.issuers[issuer].consumer.as_ref();
        let consumer = rule.and_then(|rule| {
            let said = claims::find(claims, &rule.claim)?;
            let said = claims::fact(&rule.claim, said)?;
            // The one whose keys signed it, whatever its token says.
            let issuer = self.issuers[issuer].demands.issuer.as_deref();
            rule.known.by_subject(issuer, said.as_text()).cloned()
        });
        let required = rule.is_some_and(|rule| rule.required);
        let denied = if !self.issuers[issuer].demands.covers(claims) {
            Some(Refusal::Scope)
        } else if required && consumer.is_none() {
            Some(Refusal::Consumer)
        } else {
            None
        };
        Verified {
            issuer,
            until,
            facts: claims::facts(claims),
            headers: self.headers.iter().map(header).collect(),
            consumer,
            denied,
        }
    }
}

impl Keys {
    /// Of which keys a token has to be that is known already; `None` if of none.
    fn generation(&self) -> Option<u64> {
        match &self.remote {
            None => Some(0),
            Some((remote, waits)) => remote.generation(waits.stale_for),
        }
    }

    /// Whether a key of the issuer signed the token. Returns the generation of the keys that were looked at.
    async fn verify(&self, token: &Token<'_>) -> Result<u64, Refusal> {
        if self.own.signed(token) {
            return Ok(self.generation().unwrap_or(0));
        }
        let Some((remote, waits)) = &self.remote else { return Err(self.own.refusal(token)) };
        let mut renewed = false;
        loop {
            let held = remote.held(waits.stale_for);
            let refusal = match &held {
                Some(held) if held.keys.signed(token) => return Ok(held.generation),
                Some(held) => held.keys.refusal(token),
                None => Refusal::NoKeys,
            };
            let known = |held: &Arc<source::Held>| {
                token.key_id.as_deref().is_some_and(|id| held.keys.has(id))
            };
            // The key may be there by now, unless it is the one that is known by this name.
            if renewed || held.as_ref().is_some_and(known) {
                return Err(refusal);
            }
            remote.renew(waits.longest).await;
            renewed = true;
        }
    }
}

impl KeySet {
    fn signed(&self, token: &Token<'_>) -> bool {
        let mut keys = self.candidates(token.key_id.as_deref(), token.algorithm);
        keys.any(|key| key.verify(token.algorithm, token.message, &token.signature))
    }

    /// Why none of the keys signed the token.
    fn refusal(&self, token: &Token<'_>) -> Refusal {
        let id = token.key_id.as_deref();
        match id {
            Some(id) if self.has(id) => Refusal::Signature,
            _ if self.candidates(id, token.algorithm).next().is_some() => Refusal::Signature,
            _ => Refusal::UnknownKey,
        }
    }
}

#[cfg(test)]
mod tests;
