//! The claims of a token: whether they say that it is good here and now (RFC 7519, section 4.1), and the facts
//! that they are.

use gateway_core::plugin::{Fact, FactSet};
use serde_json::{Map, Value};
use std::sync::Arc;

use super::refusal::Refusal;

/// What a token must say.
#[derive(Debug)]
pub(super) struct Demands {
    /// The issuer, if it has to be one.
    pub(super) issuer: Option<Box<str>>,
    /// Whom the token is for: one of these. None: nobody in particular.
    pub(super) audience: Box<[Box<str>]>,
    pub(super) any_audience: bool,
    /// The types that a token may have, in lower case and without `application/`; with `Some` it must have one.
    pub(super) kinds: Option<Box<[Box<str>]>>,
    pub(super) expires: bool,
    /// In seconds.
    pub(super) leeway: f64,
    pub(super) max_age: Option<f64>,
    pub(super) required: Box<[Box<str>]>,
    pub(super) scopes: Box<[Box<str>]>,
}

/// Until when a token that was found good stays so, in seconds since 1970.
pub(super) type Until = f64;

impl Demands {
    /// Whether the type in a token's header is accepted (RFC 8725, section 3.11).
    pub(super) fn accepts(&self, kind: Option<&str>) -> Result<(), Refusal> {
        let kind = kind.map(|kind| {
            let kind = kind.to_ascii_lowercase();
            kind.strip_prefix("application/").map(str::to_owned).unwrap_or(kind)
        });
        let fits = match (&self.kinds, kind.as_deref()) {
            (Some(kinds), Some(kind)) => kinds.iter().any(|own| **own == *kind),
            (Some(_), None) => false,
            // What names itself something else is meant for something else.
            (None, kind) => matches!(kind, None | Some("jwt" | "at+jwt")),
        };
        if fits { Ok(()) } else { Err(Refusal::Kind) }
    }

    /// Whether the claims are good at this moment, and until when.
    pub(super) fn check(&self, claims: &Map<String, Value>, now: f64) -> Result<Until, Refusal> {
        if let Some(issuer) = &self.issuer {
            match claims.get("iss") {
                Some(Value::String(said)) if **said == **issuer => {}
                Some(Value::String(_)) | None => return Err(Refusal::Issuer),
                Some(_) => return Err(Refusal::ClaimType),
            }
        }
        self.check_audience(claims.get("aud"))?;
        let moment = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => number
                .as_f64()
                .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
                .map(Some)
                .ok_or(Refusal::ClaimType),
            Some(_) => Err(Refusal::ClaimType),
        };
        let mut until = match moment("exp")? {
            // Not "on or after" that time.
            Some(expiry) if now >= expiry + self.leeway => return Err(Refusal::Expired),
            Some(expiry) => expiry + self.leeway,
            None if self.expires => return Err(Refusal::NoExpiry),
            None => f64::INFINITY,
        };
        if moment("nbf")?.is_some_and(|start| now < start - self.leeway) {
            return Err(Refusal::NotYet);
        }
        let issued = moment("iat")?;
        if issued.is_some_and(|issued| now < issued - self.leeway) {
            return Err(Refusal::NotYet);
        }
        if let Some(age) = self.max_age {
            let end = issued.ok_or(Refusal::ClaimMissing)? + age + self.leeway;
            if now >= end {
                return Err(Refusal::TooOld);
            }
            until = until.min(end);
        }
        if !self.required.iter().all(|name| find(claims, name).is_some_and(|it| !it.is_null())) {
            return Err(Refusal::ClaimMissing);
        }
        Ok(until)
    }

    fn check_audience(&self, said: Option<&Value>) -> Result<(), Refusal> {
        let is_ours = |said: &str| self.audience.iter().any(|own| **own == *said);
        let found = match said {
            _ if self.any_audience => true,
            None => self.audience.is_empty(),
            Some(Value::String(said)) => is_ours(said),
            Some(Value::Array(all)) => {
                if !all.iter().all(Value::is_string) {
                    return Err(Refusal::ClaimType);
                }
                all.iter().filter_map(Value::as_str).any(is_ours)
            }
            Some(_) => return Err(Refusal::ClaimType),
        };
        if found { Ok(()) } else { Err(Refusal::Audience) }
    }

    /// Whether the token is good for all that is asked for (RFC 8693, section 4.2; `scp` as some write it).
    pub(super) fn covers(&self, claims: &Map<String, Value>) -> bool {
        let held = ["scope", "scp"].into_iter().filter_map(|name| claims.get(name));
        let held: Vec<&str> = held.flat_map(words).collect();
        self.scopes.iter().all(|scope| held.contains(&&**scope))
    }
}

fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).collect(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The claim of this name, or by the names on the way to one inside others: `realm_access.roles`.
pub(super) fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(claim) = claims.get(name) {
        return Some(claim);
    }
    let dots = name.match_indices('.').map(|(dot, _)| dot);
    dots.into_iter().find_map(|dot| {
        let inner = claims.get(&name[..dot])?.as_object()?;
        find(inner, &name[dot + 1..])
    })
}

/// A claim as a fact; `None` for an object, and for a list of anything but texts and numbers.
pub(super) fn fact(name: &str, claim: &Value) -> Option<Fact> {
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    };
    match claim {
        Value::Array(all) => {
            let all: Option<Vec<String>> = all.iter().map(plain).collect();
            Some(Fact::list(all?.iter().map(String::as_str)))
        }
        // A list, written as RFC 8693 has it.
        Value::String(text) if name == "scope" => {
            Some(Fact::list(words(claim)).read_as(text.as_str()))
        }
        other => plain(other).map(Fact::text),
    }
}

/// A claim as the value of a field; `None` besides for a list of which an item has a comma: who reads the field would
/// take it for two.
pub(super) fn field(name: &str, claim: &Value) -> Option<String> {
    if let Value::Array(all) = claim
        && all.iter().any(|item| item.as_str().is_some_and(|text| text.contains(',')))
    {
        return None;
    }
    fact(name, claim).map(|fact| fact.as_text().to_owned())
}

/// How deep and how many claims are published.
const DEEPEST: usize = 8;
const MOST: usize = 256;

/// All claims as facts, those inside others by the names on the way to them.
pub(super) fn facts(claims: &Map<String, Value>) -> Arc<FactSet> {
    let mut found = Vec::new();
    collect("jwt.", claims, DEEPEST, &mut found);
    FactSet::new(found)
}

fn collect(
    before: &str,
    claims: &Map<String, Value>,
    depth: usize,
    to: &mut Vec<(Box<str>, Fact)>,
) {
    for (name, claim) in claims {
        if to.len() >= MOST {
            return;
        }
        match claim {
            Value::Object(inner) if depth > 0 => {
                collect(&format!("{before}{name}."), inner, depth - 1, to);
            }
            _ => to.extend(fact(name, claim).map(|fact| (format!("{before}{name}").into(), fact))),
        }
    }
}
