//! Attacks on who checks tokens, each by its name.

use super::*;

fn test(signer: &Signer) -> PluginTest<Jwt> {
    PluginTest::<Jwt>::yaml(&options(signer, ", issuer: me, audience: [api]", ""))
}

const CLAIMS: &str = r#""iss":"me","aud":"api","sub":"a""#;

async fn refused(test: &PluginTest<Jwt>, token: &str, said: &str) {
    assert_eq!(verdict(test, token).await, (401, said.to_owned()), "{token}");
}

#[tokio::test]
async fn a_token_that_is_not_signed() {
    let signer = Signer::ed25519(1);
    let test = test(&signer);
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = BASE64URL.encode(format!(r#"{{"alg":"{name}"}}"#));
        let claims = BASE64URL.encode(with_expiry(CLAIMS));
        refused(&test, &format!("{header}.{claims}."), "the token's algorithm is not accepted")
            .await;
    }
    let good = signer.token(CLAIMS);
    let bare = &good[..=good.rfind('.').unwrap()];
    refused(&test, bare, "the token's signature is wrong").await;
    refused(&test, bare.trim_end_matches('.'), "the token is malformed").await;
}

/// The public key, which everybody has, taken for the secret of an HMAC.
#[tokio::test]
async fn a_public_key_used_as_a_secret() {
    let signer = Signer::p256();
    let test = test(&signer);
    let pem: &'static str = signer.pem().replace("\\n", "\n").leak();
    for secret in [pem, pem.trim_end()] {
        let forged = Signer::Secret(secret).token(CLAIMS);
        refused(&test, &forged, "the token's key is not known").await;
    }
}

#[tokio::test]
async fn another_algorithm_than_the_keys() {
    let signer = Signer::p256();
    let test = test(&signer);
    for name in ["ES384", "RS256", "PS256", "EdDSA"] {
        let token = signer.token_of(&format!(r#"{{"alg":"{name}"}}"#), &with_expiry(CLAIMS));
        refused(&test, &token, "the token's key is not known").await;
    }
    for name in ["ES512", "es256", "ES256K", "Ed25519", "HS1", "dir"] {
        let token = signer.token_of(&format!(r#"{{"alg":"{name}"}}"#), &with_expiry(CLAIMS));
        refused(&test, &token, "the token's algorithm is not accepted").await;
    }
}

/// CVE-2022-21449: a signature of zeroes, which every message has with who does not look.
#[tokio::test]
async fn a_signature_of_zeroes() {
    let signer = Signer::p256();
    let test = test(&signer);
    let good = signer.token(CLAIMS);
    let (message, _) = good.rsplit_once('.').unwrap();
    for signature in [[0_u8; 64], [0xff; 64]] {
        let forged = format!("{message}.{}", BASE64URL.encode(signature));
        refused(&test, &forged, "the token's signature is wrong").await;
    }
    for length in [0, 1, 63, 65, 128] {
        let forged = format!("{message}.{}", BASE64URL.encode(vec![1; length]));
        refused(&test, &forged, "the token's signature is wrong").await;
    }
}

/// The keys, and the places of keys, that a token brings itself.
#[tokio::test]
async fn a_key_that_the_token_brings() {
    let (signer, forger) = (Signer::ed25519(1), Signer::ed25519(2));
    let test = test(&signer);
    let Signer::Ed25519(pair) = &forger else { unreachable!() };
    let x = BASE64URL.encode(pair.public_key().as_ref());
    for header in [
        format!(r#"{{"alg":"EdDSA","jwk":{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}}}"#),
        r#"{"alg":"EdDSA","jku":"http://127.0.0.1:1/keys"}"#.to_owned(),
        r#"{"alg":"EdDSA","x5u":"http://127.0.0.1:1/c.pem"}"#.to_owned(),
        r#"{"alg":"EdDSA","x5c":["MIIB"]}"#.to_owned(),
        r#"{"alg":"EdDSA","kid":"../../../dev/null"}"#.to_owned(),
        r#"{"alg":"EdDSA","kid":"' OR 1=1 --"}"#.to_owned(),
    ] {
        let token = forger.token_of(&header, &with_expiry(CLAIMS));
        refused(&test, &token, "the token's signature is wrong").await;
    }
}

#[tokio::test]
async fn extensions_that_must_be_understood() {
    let signer = Signer::ed25519(1);
    let test = test(&signer);
    for header in [
        r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#,
        r#"{"alg":"EdDSA","crit":[]}"#,
        r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#,
        r#"{"alg":"EdDSA","b64":false}"#,
    ] {
        let token = signer.token_of(header, &with_expiry(CLAIMS));
        refused(&test, &token, "the token has extensions that are not understood").await;
    }
}

#[tokio::test]
async fn encrypted_and_compressed_tokens() {
    let signer = Signer::ed25519(1);
    let test = test(&signer);
    for header in [r#"{"alg":"EdDSA","enc":"A128GCM"}"#, r#"{"alg":"EdDSA","zip":"DEF"}"#] {
        let token = signer.token_of(header, &with_expiry(CLAIMS));
        refused(&test, &token, "the token is encrypted").await;
    }
    refused(&test, "a.b.c.d.e", "the token is malformed").await;
}

/// RFC 8725, section 3.9: a token for somebody else.
#[tokio::test]
async fn a_token_for_another_audience() {
    let signer = Signer::ed25519(1);
    let ours = test(&signer);
    let nobody = PluginTest::<Jwt>::yaml(&options(&signer, "", ""));
    let anybody = PluginTest::<Jwt>::yaml(&options(&signer, ", audience: ['*']", ""));
    for aud in [r#""web""#, r#"["web"]"#, "[]", r#""API""#, r#""api ""#] {
        let token = signer.token(&format!(r#""iss":"me","aud":{aud}"#));
        refused(&ours, &token, "the token is for another audience").await;
        refused(&nobody, &token, "the token is for another audience").await;
        assert_eq!(verdict(&anybody, &token).await.0, 200, "{aud}");
    }
    refused(&ours, &signer.token(r#""iss":"me""#), "the token is for another audience").await;
    for aud in ["7", "{}", "null", r#"["api",7]"#] {
        let token = signer.token(&format!(r#""iss":"me","aud":{aud}"#));
        refused(&ours, &token, "a claim of the token is of the wrong type").await;
    }
}

/// RFC 8725, section 3.11: a token of another kind, such as a logout token, passed off as one for access.
#[tokio::test]
async fn a_token_of_another_kind() {
    let signer = Signer::ed25519(1);
    let usual = test(&signer);
    let typed = PluginTest::<Jwt>::yaml(&options(
        &signer,
        ", audience: ['*'], types: [application/at+JWT]",
        "",
    ));
    for (kind, usually, strictly) in [
        (r#","typ":"JWT""#, true, false),
        (r#","typ":"at+jwt""#, true, true),
        (r#","typ":"application/AT+JWT""#, true, true),
        ("", true, false),
        (r#","typ":"secevent+jwt""#, false, false),
        (r#","typ":"logout+jwt""#, false, false),
        (r#","typ":"dpop+jwt""#, false, false),
    ] {
        let token = signer.token_of(&format!(r#"{{"alg":"EdDSA"{kind}}}"#), &with_expiry(CLAIMS));
        assert_eq!(verdict(&usual, &token).await.0 == 200, usually, "{kind}");
        assert_eq!(verdict(&typed, &token).await.0 == 200, strictly, "{kind}");
    }
}

#[tokio::test]
async fn texts_that_are_no_token() {
    let signer = Signer::ed25519(1);
    let test = test(&signer);
    let good = signer.token(CLAIMS);
    assert_eq!(verdict(&test, &good).await.0, 200);
    let parts: Vec<&str> = good.split('.').collect();
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let of = |header: &str, claims: &str| signer.token_of(header, claims);
    for text in [
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        format!("{good}."),
        format!(".{good}"),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}.{}==", parts[0], parts[1], parts[2]),
        format!("{}.{}.+/{}", parts[0], parts[1], &parts[2][2..]),
        format!("{}. {}.{}", parts[0], parts[1], parts[2]),
        of(r#"{"alg":"EdDSA","alg":"none"}"#, &with_expiry(CLAIMS)),
        of(r#"{"typ":"JWT"}"#, &with_expiry(CLAIMS)),
        of(r#"["EdDSA"]"#, &with_expiry(CLAIMS)),
        of(r#"{"alg":7}"#, &with_expiry(CLAIMS)),
        of(r#"{"alg":"EdDSA"}"#, "[]"),
        of(r#"{"alg":"EdDSA"}"#, "\"a\""),
        of(r#"{"alg":"EdDSA"}"#, ""),
        of(r#"{"alg":"EdDSA"}"#, "{\"a\":\"\u{1}\"}"),
        of(r#"{"alg":"EdDSA"}"#, &with_expiry(&format!("{CLAIMS},\"a\":{deep}"))),
        of(r#"{"alg":"EdDSA"}"#, &format!("{} x", with_expiry(CLAIMS))),
    ] {
        let (status, said) = verdict(&test, &text).await;
        assert_eq!((status, said.as_str()), (401, "the token is malformed"), "{text:.200}");
    }
    // The last two bits of a text are nobody's: who lets them be anything has many names for one token.
    let last = parts[2].chars().last().unwrap();
    let next = char::from(last as u8 + 1);
    let twin = format!("{}.{}.{}{next}", parts[0], parts[1], &parts[2][..parts[2].len() - 1]);
    assert_eq!(verdict(&test, &twin).await.0, 401);
}

#[tokio::test]
async fn a_token_that_is_too_long() {
    let signer = Signer::ed25519(1);
    let test = test(&signer);
    let long = signer.token(&format!(r#"{CLAIMS},"a":"{}""#, "x".repeat(16 << 10)));
    refused(&test, &long, "the token is too long").await;
}

/// Parts of tokens that are good, put together anew.
#[tokio::test]
async fn parts_of_two_tokens() {
    let signer = Signer::ed25519(1);
    let test = test(&signer);
    let (one, other) =
        (signer.token(CLAIMS), signer.token(r#""iss":"me","aud":"api","sub":"root""#));
    assert_eq!((verdict(&test, &one).await.0, verdict(&test, &other).await.0), (200, 200));
    let (one, other): (Vec<_>, Vec<_>) = (one.split('.').collect(), other.split('.').collect());
    let mixed = format!("{}.{}.{}", one[0], other[1], one[2]);
    refused(&test, &mixed, "the token's signature is wrong").await;
}

/// A claim that would be another field, or another line, of what goes up.
#[tokio::test]
async fn claims_that_are_no_text_of_a_field() {
    let signer = Signer::ed25519(1);
    let test = PluginTest::<Jwt>::yaml(&options(&signer, "", ", headers: {x-user: sub}"));
    for sub in [r#""a\r\nx-admin: 1""#, r#""a\u0000""#, r#"{"a":1}"#, r#"[{"a":1}]"#, "null"] {
        let outcome = ask(&test, &signer.token(&format!(r#""sub":{sub}"#))).await;
        assert_eq!((outcome.status(), outcome.upstream_saw("x-user")), (200, None), "{sub}");
        assert_eq!(outcome.upstream_saw("x-admin"), None);
    }
}
