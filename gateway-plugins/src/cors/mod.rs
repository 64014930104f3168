//! Lets scripts of other origins read answers: the server's part of CORS, by the Fetch standard.
//!
//! ```yaml
//! kind: cors
//! options:
//!   origins: ["https://app.example", "https://*.app.example"]
//!   methods: [GET, POST, DELETE]
//!   headers: [Content-Type, X-Request-Id]
//!   expose: [X-Total]
//!   credentials: true
//!   max_age: 10m
//! ```
//!
//! Preflights are answered here, so list it before plugins that ask for credentials: browsers send none
//! with a preflight. What the upstream says of CORS itself is removed: the gateway's word counts.

mod origin;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::RequestCtx;
use gateway_core::config::Span;
use gateway_core::plugin::{
    BuildEnv, BuildError, Class, Flow, HookError, Hooks, OptionPath, Plugin, Reply, RequestHeader,
    RequestHook, ResponseHeader, ResponseHook,
};
use gateway_core::telemetry::FailureCode;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::vary::vary;
use origin::Listed;

/// What operators write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whose scripts may: origins such as `https://app.example`, with `*.` for any labels in front, or `:*`
    /// for any port; `null` for pages without an origin; `*` for all.
    #[schemars(length(min = 1))]
    origins: Vec<String>,
    /// The methods that they may use beside GET, HEAD and POST, which they always may; `*` for all. Default:
    /// none.
    #[serde(default)]
    methods: Vec<String>,
    /// The fields that they may set beside those that they always may; `*` for all but `Authorization`.
    /// Default: none.
    #[serde(default)]
    headers: Vec<String>,
    /// The fields of answers that they may read beside those that they always may; `*` for all. Default:
    /// none.
    #[serde(default)]
    expose: Vec<String>,
    /// Whether requests may carry cookies and the like. Nothing can be `*` then.
    #[serde(default)]
    credentials: bool,
    /// How long a browser may remember what a preflight allowed, at most `24h`. Browsers have bounds of
    /// their own.
    #[serde(default = "ten_minutes")]
    max_age: Span,
    /// Whether public pages may ask a gateway in a private network (Private Network Access).
    #[serde(default)]
    private_network: bool,
    /// What becomes of requests of other origins. The gateway's own pages are none; where a proxy in front
    /// ends TLS, `trusted_proxies` has to name it for that.
    #[serde(default)]
    others: Others,
}

fn ten_minutes() -> Span {
    Span::seconds(600)
}

/// What becomes of requests of other origins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Others {
    /// They pass, and browsers keep the answers from the scripts.
    #[default]
    Pass,
    /// They are answered 403.
    Refuse,
}

/// Lets scripts of other origins read answers.
pub struct Cors {
    origins: Box<[Listed]>,
    methods: Names,
    headers: Names,
    /// As they are written in answers.
    allow_methods: Option<HeaderValue>,
    allow_headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
    credentials: bool,
    private_network: bool,
    others: Others,
}

/// Names that are listed, and perhaps all others too.
struct Names {
    any: bool,
    these: BTreeSet<String>,
}

const PREFIX: &str = "access-control-";
const PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const ANY: HeaderValue = HeaderValue::from_static("*");
/// Browsers use these without asking; they are listed for those who look for them.
const SAFE_METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
/// What answers depend on.
const VARIES: &str = "Origin";
const PREFLIGHT_VARIES: [&str; 4] = [
    VARIES,
    "Access-Control-Request-Method",
    "Access-Control-Request-Headers",
    "Access-Control-Request-Private-Network",
];
const LONGEST: u64 = 24 * 60 * 60;

impl Plugin for Cors {
    const KIND: &'static str = "cors";
    const CLASS: Class = Class::Security;
    type Config = Config;

    fn build(config: Config, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        let mut error = BuildError::none();
        let mut origins = Vec::with_capacity(config.origins.len());
        for (index, text) in config.origins.iter().enumerate() {
            let path = OptionPath::root().key("origins").index(index);
            match Listed::parse(text) {
                Ok(Listed::Any) if config.credentials => error.push(
                    path,
                    "with `credentials` every origin would act in the name of your users; list those that may",
                ),
                Ok(Listed::Exact(origin)) if config.credentials && origin == "null" => error.push(
                    path,
                    "any page can have the origin `null`; with `credentials` it would act in the name of your users",
                ),
                Ok(listed) => origins.push(listed),
                Err(message) => error.push(path, message),
            }
        }
        let age = std::time::Duration::from(config.max_age).as_secs();
        if age > LONGEST {
            error.push(OptionPath::root().key("max_age"), "at most 24h");
        }
        let mut names = |texts: &[String], option, normal| {
            Names::parse(texts, option, normal, config.credentials, &mut error)
        };
        let mut methods = names(&config.methods, "methods", normal_method);
        methods.these.extend(SAFE_METHODS.map(str::to_owned));
        let headers = names(&config.headers, "headers", normal_field);
        let expose = names(&config.expose, "expose", normal_field);
        error.or(|| Self {
            allow_methods: methods.written(),
            allow_headers: headers.written(),
            expose: expose.written(),
            origins: origins.into(),
            methods,
            headers,
            max_age: age.into(),
            credentials: config.credentials,
            private_network: config.private_network,
            others: config.others,
        })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request(self.clone()).response(self).answers_preflights();
    }
}

/// Methods are told apart by their letters' case.
fn normal_method(text: &str) -> Option<String> {
    Method::from_bytes(text.as_bytes()).ok().map(|method| method.to_string())
}

fn normal_field(text: &str) -> Option<String> {
    text.parse::<HeaderName>().ok().map(|name| name.to_string())
}

impl Names {
    fn parse(
        texts: &[String],
        option: &str,
        normal: fn(&str) -> Option<String>,
        credentials: bool,
        error: &mut BuildError,
    ) -> Self {
        let mut names = Self { any: false, these: BTreeSet::new() };
        for (index, text) in texts.iter().enumerate() {
            let path = OptionPath::root().key(option).index(index);
            match normal(text) {
                _ if text == "*" && credentials => {
                    error.push(path, "with `credentials` browsers take `*` for a name; list them");
                }
                _ if text == "*" => names.any = true,
                Some(name) => drop(names.these.insert(name)),
                None => error.push(path, format!("`{text}` is no name")),
            }
        }
        names
    }

    /// As answers list them.
    fn written(&self) -> Option<HeaderValue> {
        let any = self.any.then_some("*");
        let names: Vec<&str> =
            any.into_iter().chain(self.these.iter().map(String::as_str)).collect();
        HeaderValue::try_from(names.join(", ")).ok().filter(|_| !names.is_empty())
    }

    fn has(&self, name: &str) -> bool {
        self.any || self.these.contains(name)
    }
}

/// What an origin is to the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// No script of another origin asks.
    None,
    Allowed,
    Refused,
}

impl Cors {
    /// Whether an answer to one origin serves every other.
    fn is_open(&self) -> bool {
        !self.credentials && self.origins.contains(&Listed::Any)
    }

    fn verdict(&self, head: &RequestHeader, ctx: &RequestCtx) -> Verdict {
        let mut origins = head.headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return Verdict::None };
        // Several are nobody's.
        let origin = origin.to_str().ok().filter(|_| origins.next().is_none());
        match origin {
            Some(origin) if self.origins.iter().any(|listed| listed.matches(origin)) => {
                Verdict::Allowed
            }
            Some(origin) if is_own(origin, head, ctx) => Verdict::None,
            _ => Verdict::Refused,
        }
    }

    fn allow_origin(&self, head: &RequestHeader) -> [Option<(HeaderName, HeaderValue)>; 2] {
        let origin = match head.headers.get(header::ORIGIN) {
            _ if self.is_open() => ANY,
            Some(origin) => origin.clone(),
            None => return [None, None],
        };
        let credentials = (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        let origin = (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        [Some(origin), self.credentials.then_some(credentials)]
    }

    /// The answer to a preflight.
    fn preflight(&self, head: &RequestHeader, verdict: Verdict, asked: &HeaderValue) -> Reply {
        let mut reply = Reply::new(StatusCode::NO_CONTENT);
        if verdict == Verdict::Allowed && self.allows(head, asked) {
            let headers = &mut reply.headers;
            headers.extend(self.allow_origin(head).into_iter().flatten());
            let listed = [
                (header::ACCESS_CONTROL_ALLOW_METHODS, self.allow_methods.clone()),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, self.allow_headers.clone()),
                (header::ACCESS_CONTROL_MAX_AGE, Some(self.max_age.clone())),
                (ALLOW_PRIVATE, head.headers.get(PRIVATE).map(|_| TRUE)),
            ];
            headers.extend(listed.into_iter().filter_map(|(name, value)| Some((name, value?))));
        }
        reply
    }

    /// Whether all that a preflight asks for is allowed. A browser would find out itself; so that nothing
    /// is half allowed, it is told nothing then.
    fn allows(&self, head: &RequestHeader, method: &HeaderValue) -> bool {
        let method = method.to_str().unwrap_or_default();
        let method = self.methods.has(method);
        let fields = head.headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let mut names =
            fields.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let names = names.all(|name| {
            let name = name.trim_ascii().to_ascii_lowercase();
            let known = std::str::from_utf8(&name).is_ok_and(|name| self.allows_field(name));
            name.is_empty() || known
        });
        let private = self.private_network || !head.headers.contains_key(PRIVATE);
        method && names && private
    }

    /// `*` does not mean `Authorization` (the Fetch standard, section 4.9).
    fn allows_field(&self, name: &str) -> bool {
        match name {
            "authorization" => self.headers.these.contains(name),
            _ => self.headers.has(name),
        }
    }
}

/// Whether a page of the gateway's own asks: browsers send `Origin` with its POST requests too.
fn is_own(origin: &str, head: &RequestHeader, ctx: &RequestCtx) -> bool {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| head.uri.authority().map(|authority| authority.as_str()));
    let own = origin.split_once("://").zip(host);
    own.is_some_and(|((scheme, authority), host)| {
        let port = if scheme == "https" { ":443" } else { ":80" };
        let host = host.strip_suffix(port).unwrap_or(host);
        scheme == ctx.scheme() && authority.eq_ignore_ascii_case(host)
    })
}

/// What a preflight asks to use, if it is one.
fn asked(head: &RequestHeader) -> Option<&HeaderValue> {
    let asks = head.method == Method::OPTIONS && head.headers.contains_key(header::ORIGIN);
    asks.then(|| head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)).flatten()
}

impl Cors {
    fn decide(&self, head: &RequestHeader, ctx: &RequestCtx) -> Flow {
        let verdict = self.verdict(head, ctx);
        if verdict == Verdict::Refused && self.others == Others::Refuse {
            return Flow::Respond(Reply::refusal(StatusCode::FORBIDDEN, FailureCode::P4));
        }
        match asked(head) {
            Some(asked) => Flow::Respond(self.preflight(head, verdict, asked)),
            None => Flow::Continue,
        }
    }
}

#[async_trait]
impl RequestHook for Cors {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        Ok(self.decide(head, ctx))
    }

    fn foresee(&self, head: &RequestHeader, ctx: &RequestCtx) -> Option<Flow> {
        Some(self.decide(head, ctx))
    }
}

#[async_trait]
impl ResponseHook for Cors {
    async fn on_response(
        &self,
        response: &mut ResponseHeader,
        request: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<(), HookError> {
        if asked(request).is_some() {
            // It was answered above; it depends on all that it asks with.
            return vary(response, &PREFLIGHT_VARIES);
        }
        let foreign: Vec<HeaderName> = response
            .headers
            .keys()
            .filter(|name| name.as_str().starts_with(PREFIX))
            .cloned()
            .collect();
        for name in &foreign {
            response.remove_header(name);
        }
        if !self.is_open() {
            vary(response, &[VARIES])?;
        }
        // What serves every origin says so to all: a cache may give it to anyone.
        if !self.is_open() && self.verdict(request, ctx) != Verdict::Allowed {
            return Ok(());
        }
        let expose = self.expose.clone();
        let expose = expose.map(|names| (header::ACCESS_CONTROL_EXPOSE_HEADERS, names));
        for (name, value) in self.allow_origin(request).into_iter().flatten().chain(expose) {
            response.insert_header(name, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
