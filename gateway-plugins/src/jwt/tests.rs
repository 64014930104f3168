//! Tokens that are good and tokens that are not: the published examples, and each attack by its name
//! (RFC 7519, RFC 8725).

mod attacks;
mod examples;

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64URL};
use gateway_core::plugin::testing::{Outcome, PluginTest};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use ring::{hmac, rand};

use gateway_core::plugin::Fact;

use super::*;

const SECRET: &str = "a secret of thirty-two bytes, or more";

/// Somebody who signs tokens.
enum Signer {
    Secret(&'static str),
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl Signer {
    fn ed25519(seed: u8) -> Self {
        Self::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn p256() -> Self {
        let (scheme, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, rand::SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(scheme, document.as_ref(), &random).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Secret(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Self::P256(key) => {
                key.sign(&rand::SystemRandom::new(), message).unwrap().as_ref().to_vec()
            }
        }
    }

    /// The public key in PEM, on one line of YAML.
    fn pem(&self) -> String {
        let (prefix, key): (&[u8], &[u8]) = match self {
            Self::Secret(_) => panic!("a secret is not public"),
            Self::Ed25519(key) => (b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\0", key.public_key().as_ref()),
            Self::P256(key) => (
                b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\0",
                key.public_key().as_ref(),
            ),
        };
        let text = BASE64_STANDARD.encode([prefix, key].concat());
        format!("-----BEGIN PUBLIC KEY-----\\n{text}\\n-----END PUBLIC KEY-----\\n")
    }

    /// A token with this header and these claims as they stand here.
    fn token_of(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        let signature = BASE64URL.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// A usual token with these claims besides an expiry in a while.
    fn token(&self, claims: &str) -> String {
        let header = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, self.algorithm());
        self.token_of(&header, &with_expiry(claims))
    }
}

fn with_expiry(claims: &str) -> String {
    let separator = if claims.is_empty() { "" } else { "," };
    format!("{{\"exp\":{}{separator}{claims}}}", now() + 600)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Options for one issuer with this key and these other options.
fn options(signer: &Signer, issuer: &str, more: &str) -> String {
    let key = match signer {
        Signer::Secret(secret) => format!("{{secret: \"{secret}\", algorithm: HS256}}"),
        public => format!("{{pem: \"{}\"}}", public.pem()),
    };
    format!("{{issuers: [{{keys: [{key}]{issuer}}}]{more}}}")
}

async fn ask(test: &PluginTest<Jwt>, token: &str) -> Outcome {
    test.get("/").header("authorization", &format!("Bearer {token}")).send().await
}

/// What a token gets: the status, and what the challenge says is wrong.
async fn verdict(test: &PluginTest<Jwt>, token: &str) -> (u16, String) {
    let outcome = ask(test, token).await;
    let challenge = outcome.header("www-authenticate").unwrap_or_default();
    let said = challenge.split("error_description=\"").nth(1).unwrap_or_default();
    assert_eq!(outcome.status() == 200, outcome.reached_upstream());
    (outcome.status(), said.trim_end_matches('"').to_owned())
}

#[tokio::test]
async fn a_good_token_lets_in_says_who_it_is_and_goes_no_further() {
    let signer = Signer::ed25519(1);
    let more = ", headers: {x-user: sub, x-roles: realm.roles, x-none: none}";
    let test = PluginTest::<Jwt>::yaml(&options(&signer, ", issuer: me, audience: [api]", more));
    let claims = r#""iss":"me","aud":["web","api"],"sub":"u-1","n":7,"realm":{"roles":["a","b"]},"scope":"read write""#;
    for _ in 0..2 {
        let request =
            test.get("/").header("authorization", &format!("bearer {}", signer.token(claims)));
        let outcome = request.header("x-user", "root").header("x-none", "root").send().await;

        assert_eq!(outcome.status(), 200);
        assert_eq!(outcome.upstream_saw_all("x-user"), ["u-1"]);
        assert_eq!(outcome.upstream_saw("x-roles").as_deref(), Some("a,b"));
        assert_eq!(outcome.upstream_saw("x-none"), None);
        assert_eq!(outcome.upstream_saw("authorization"), None);
        let fact = |name: &str| outcome.ctx().published(name);
        assert_eq!(fact("jwt.n").map(Fact::as_text), Some("7"));
        assert_eq!(fact("jwt.scope").map(Fact::as_text), Some("read write"));
        assert!(
            fact("jwt.scope").unwrap().has("read") && fact("jwt.realm.roles").unwrap().has("b")
        );
    }
}

#[tokio::test]
async fn who_brings_no_token_is_told_to() {
    let signer = Signer::ed25519(1);
    let test =
        PluginTest::<Jwt>::yaml(&options(&signer, "", ", realm: the api, headers: {x-user: sub}"));
    let outcome = test.get("/").header("x-user", "root").send().await;
    assert_eq!((outcome.status(), outcome.failure().unwrap().code()), (401, "P3"));
    assert_eq!(outcome.header("www-authenticate").as_deref(), Some("Bearer realm=\"the api\""));

    let twice =
        test.get("/").header("authorization", "Bearer a").header("authorization", "Bearer b");
    let outcome = twice.send().await;
    assert_eq!(outcome.status(), 400);
    assert!(outcome.header("www-authenticate").unwrap().contains("error=\"invalid_request\""));

    let anonymous =
        PluginTest::<Jwt>::yaml(&options(&signer, "", ", anonymous: true, headers: {x-user: sub}"));
    let outcome = anonymous.get("/").header("x-user", "root").send().await;
    assert_eq!((outcome.status(), outcome.upstream_saw("x-user")), (200, None));
    assert_eq!(verdict(&anonymous, "a.b.c").await.0, 401, "a bad token is no token");
}

#[tokio::test]
async fn scopes_rules_and_required_claims_are_asked_for() {
    let signer = Signer::Secret(SECRET);
    let issuer = ", required: [sub, org.id], scopes: [read, write], rules: ['\"admin\" in jwt.roles && request.method == \"GET\"']";
    let test = PluginTest::<Jwt>::yaml(&options(&signer, issuer, ""));
    let full = r#""sub":"a","org":{"id":1},"scope":"x write read","roles":["admin"]"#;
    assert_eq!(verdict(&test, &signer.token(full)).await.0, 200);
    for (change, to, status, said) in [
        (r#""sub":"a","#, "", 401, "the token lacks a claim"),
        (r#""sub":"a""#, r#""sub":null"#, 401, "the token lacks a claim"),
        (r#"{"id":1}"#, r#"{"ids":1}"#, 401, "the token lacks a claim"),
        ("write read", "write", 403, "the token is not good for this\", scope=\"read write"),
        (r#"["admin"]"#, r#"["admins"]"#, 403, "the token's claims do not allow this"),
        (r#"["admin"]"#, r#""administrator""#, 403, "the token's claims do not allow this"),
    ] {
        let token = signer.token(&full.replace(change, to));
        for _ in 0..2 {
            assert_eq!(verdict(&test, &token).await, (status, said.to_owned()), "{to}");
        }
    }
    let token = signer.token(full);
    let post = test.post("/").header("authorization", &format!("Bearer {token}")).send().await;
    assert_eq!((post.status(), post.failure().unwrap().code()), (403, "P4"));
}

#[tokio::test]
async fn a_token_is_good_for_its_time() {
    let signer = Signer::Secret(SECRET);
    let strict = PluginTest::<Jwt>::yaml(&options(&signer, ", leeway: 0", ""));
    let lenient = PluginTest::<Jwt>::yaml(&options(
        &signer,
        ", leeway: 30s, max_age: 1h, expires: false",
        "",
    ));
    let token = |claims: String| signer.token_of(r#"{"alg":"HS256"}"#, &claims);
    let at = |seconds: i64| now().checked_add_signed(seconds).unwrap();
    let said = |text: &str, status| (status, text.to_owned());
    for (test, claims, expected) in [
        (&strict, format!(r#"{{"exp":{}}}"#, at(2)), said("", 200)),
        (&strict, format!(r#"{{"exp":{}}}"#, at(-1)), said("the token has expired", 401)),
        (&strict, format!(r#"{{"exp":{}.5}}"#, at(5)), said("", 200)),
        (&strict, r#"{"sub":"a"}"#.into(), said("the token does not expire", 401)),
        (
            &strict,
            format!(r#"{{"exp":"{}"}}"#, at(9)),
            said("a claim of the token is of the wrong type", 401),
        ),
        (&strict, r#"{"exp":-1}"#.into(), said("a claim of the token is of the wrong type", 401)),
        (&strict, r#"{"exp":1e400}"#.into(), said("the token is malformed", 401)),
        (
            &strict,
            format!(r#"{{"exp":{},"nbf":{}}}"#, at(99), at(9)),
            said("the token is not valid yet", 401),
        ),
        (
            &strict,
            format!(r#"{{"exp":{},"iat":{}}}"#, at(99), at(9)),
            said("the token is not valid yet", 401),
        ),
        (&lenient, format!(r#"{{"iat":{}}}"#, at(-9)), said("", 200)),
        (&lenient, format!(r#"{{"iat":{},"exp":{}}}"#, at(0), at(-20)), said("", 200)),
        (&lenient, format!(r#"{{"iat":{},"nbf":{}}}"#, at(0), at(20)), said("", 200)),
        (
            &lenient,
            format!(r#"{{"iat":{},"exp":{}}}"#, at(0), at(-31)),
            said("the token has expired", 401),
        ),
        (&lenient, format!(r#"{{"iat":{}}}"#, at(-3631)), said("the token is too old", 401)),
        (&lenient, "{}".into(), said("the token lacks a claim", 401)),
    ] {
        assert_eq!(verdict(test, &token(claims.clone())).await, expected, "{claims}");
    }
}

#[tokio::test]
async fn a_token_that_is_known_is_good_no_longer_than_it_says() {
    let signer = Signer::Secret(SECRET);
    let test = PluginTest::<Jwt>::yaml(&options(&signer, ", leeway: 0", ""));
    let token = signer.token_of(r#"{"alg":"HS256"}"#, &format!(r#"{{"exp":{}}}"#, now() + 2));
    assert_eq!(verdict(&test, &token).await.0, 200);
    assert_eq!(verdict(&test, &token).await.0, 200);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(verdict(&test, &token).await, (401, "the token has expired".to_owned()));
}

#[tokio::test]
async fn a_token_may_stand_in_a_cookie_and_in_the_query() {
    let signer = Signer::ed25519(1);
    let test = PluginTest::<Jwt>::yaml(&options(
        &signer,
        "",
        ", from: [{cookie: session}, {query: access_token}]",
    ));
    let token = signer.token("");
    let cookie = test.get("/").header("cookie", &format!("a=1; session={token}")).send().await;
    assert_eq!((cookie.status(), cookie.upstream_saw("cookie").as_deref()), (200, Some("a=1")));
    let query = test.get(&format!("/p?access_token={token}&a=1")).send().await;
    assert_eq!(query.status(), 200);
    let header = test.get("/").header("authorization", &format!("Bearer {token}")).send().await;
    assert_eq!(header.status(), 401, "it is not looked for there");

    let kept = PluginTest::<Jwt>::yaml(&options(&signer, "", ", forward: true"));
    assert!(ask(&kept, &token).await.upstream_saw("authorization").is_some());
}

#[tokio::test]
async fn each_issuer_has_its_own_keys() {
    let (one, other) = (Signer::ed25519(1), Signer::p256());
    let issuer = |name: &str, signer: &Signer| {
        format!("{{issuer: {name}, keys: [{{pem: \"{}\"}}]}}", signer.pem())
    };
    let yaml = format!("{{issuers: [{}, {}]}}", issuer("one", &one), issuer("other", &other));
    let test = PluginTest::<Jwt>::yaml(&yaml);
    assert_eq!(verdict(&test, &one.token(r#""iss":"one""#)).await.0, 200);
    assert_eq!(verdict(&test, &other.token(r#""iss":"other""#)).await.0, 200);
    assert_eq!(
        verdict(&test, &one.token(r#""iss":"other""#)).await,
        (401, "the token's key is not known".to_owned())
    );
    for claims in [r#""iss":"third""#, r#""iss":["one"]"#, ""] {
        assert_eq!(
            verdict(&test, &one.token(claims)).await,
            (401, "the token's issuer is not accepted".to_owned())
        );
    }
}

#[test]
fn options_that_cannot_be_right_are_refused_each_with_its_place() {
    let pem = Signer::ed25519(1).pem();
    let faults = |yaml: &str| PluginTest::<Jwt>::faults(yaml);
    let cases = [
        ("{issuers: [{}]}".to_owned(), "issuers[0]", "no keys"),
        (
            "{issuers: [{keys: [{}]}]}".to_owned(),
            "keys[0]",
            "exactly one of `file`, `pem` and `secret`",
        ),
        (
            "{issuers: [{keys: [{secret: short, algorithm: HS256}]}]}".to_owned(),
            "keys[0].secret",
            "5 bytes; 32 are needed",
        ),
        ("{issuers: [{keys: [{secret: short}]}]}".to_owned(), "keys[0].algorithm", "which?"),
        ("{issuers: [{keys: [{pem: nothing}]}]}".to_owned(), "keys[0].pem", "in PEM"),
        ("{issuers: [{keys: [{file: /nowhere}]}]}".to_owned(), "keys[0].file", "cannot be read"),
        (
            format!("{{issuers: [{{keys: [{{pem: \"{pem}\", algorithm: RS256}}]}}]}}"),
            "keys[0].pem",
            "no key for RS256",
        ),
        (
            format!("{{issuers: [{{keys: [{{pem: \"{pem}\"}}], algorithms: [ES256]}}]}}"),
            "keys[0].pem",
            "none of the `algorithms`",
        ),
        (
            format!("{{issuers: [{{keys: [{{pem: \"{pem}\"}}], rules: ['jwt.sub =']}}]}}"),
            "rules[0]",
            "column",
        ),
        (
            format!("{{issuers: [{{keys: [{{pem: \"{pem}\"}}], audience: ['*', a]}}]}}"),
            "audience",
            "anybody",
        ),
        (
            format!("{{issuers: [{{keys: [{{pem: \"{pem}\"}}], scopes: ['a b']}}]}}"),
            "scopes[0]",
            "no scope",
        ),
        (format!("{{issuers: [{{keys: [{{pem: \"{pem}\"}}], leeway: 1h}}]}}"), "leeway", "10m"),
        (
            format!(
                "{{issuers: [{{keys: [{{pem: \"{pem}\"}}]}}, {{keys: [{{pem: \"{pem}\"}}]}}]}}"
            ),
            "issuers[1].issuer",
            "already",
        ),
        (
            format!("{{issuers: [{{keys: [{{pem: \"{pem}\"}}]}}], headers: {{'a b': sub}}}}"),
            "headers[\"a b\"]",
            "no name",
        ),
        (format!("{{issuers: [{{keys: [{{pem: \"{pem}\"}}]}}], realm: 'a\"b'}}"), "realm", "ASCII"),
        ("{issuers: [{jwks: {}}]}".to_owned(), "jwks", "exactly one"),
        ("{issuers: [{jwks: {discovery: true}}]}".to_owned(), "jwks.discovery", "of which issuer"),
        (
            "{issuers: [{jwks: {url: 'http://id.example.com/keys'}}]}".to_owned(),
            "jwks.url",
            "use https",
        ),
        (
            "{issuers: [{jwks: {url: 'ftp://id.example.com/keys'}}]}".to_owned(),
            "jwks.url",
            "neither",
        ),
        (
            "{issuers: [{jwks: {url: 'http://127.0.0.1/k'}, algorithms: [HS256]}]}".to_owned(),
            "algorithms",
            "a secret does not come",
        ),
        (
            "{issuers: [{jwks: {url: 'http://127.0.0.1/k', timeout: 0}}]}".to_owned(),
            "jwks.timeout",
            "from 0s",
        ),
    ];
    for (yaml, place, said) in cases {
        let all = faults(&yaml);
        let found = all.iter().any(|fault| {
            fault
                .split_once(": ")
                .is_some_and(|(path, rest)| path.ends_with(place) && rest.contains(said))
        });
        assert!(found, "{yaml}: {all:?}");
    }
    let two = faults("{issuers: [{keys: [{secret: a}, {pem: b}]}]}");
    assert_eq!(two.len(), 2, "{two:?}");
}
