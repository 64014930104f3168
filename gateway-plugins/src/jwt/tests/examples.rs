//! The examples of RFC 7515, appendix A, and RFC 8037, appendix A.

use super::super::algorithm::Algorithm;
use super::super::key::Key;
use super::super::token::Token;
use super::*;

/// `{"iss":"joe", "exp":1300819380, "http://example.com/is_root":true}`
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const EXPIRES: f64 = 1_300_819_380.0;

const HS256: (&str, &str, &str) = (
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
);
const RS256: (&str, &str, &str) = (
    "eyJhbGciOiJSUzI1NiJ9",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
);
const ES256: (&str, &str, &str) = (
    "eyJhbGciOiJFUzI1NiJ9",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
);

fn key(jwk: &str) -> Key {
    let all: Vec<Algorithm> = Algorithm::PUBLIC.iter().chain(Algorithm::HMAC).copied().collect();
    Key::jwk(&serde_json::from_str(jwk).unwrap(), &all).unwrap().unwrap()
}

fn demands() -> Demands {
    Demands {
        issuer: Some("joe".into()),
        audience: Box::default(),
        any_audience: false,
        kinds: None,
        expires: true,
        leeway: 0.0,
        max_age: None,
        required: Box::default(),
        scopes: Box::default(),
    }
}

#[test]
fn the_examples_of_rfc_7515_are_verified_and_good_until_they_expired() {
    for (header, signature, jwk) in [HS256, RS256, ES256] {
        let text = format!("{header}.{CLAIMS}.{signature}");
        let token = Token::parse(&text).unwrap();
        let key = key(jwk);

        assert!(key.verify(token.algorithm, token.message, &token.signature), "{jwk}");
        let mut other = token.signature.clone();
        other[7] ^= 1;
        assert!(!key.verify(token.algorithm, token.message, &other), "{jwk}");
        for wrong in Algorithm::PUBLIC.iter().chain(Algorithm::HMAC) {
            let same = *wrong == token.algorithm;
            assert_eq!(key.verify(*wrong, token.message, &token.signature), same, "{wrong:?}");
        }
        assert_eq!(demands().check(&token.claims, EXPIRES - 1.0), Ok(EXPIRES));
        assert_eq!(demands().check(&token.claims, EXPIRES), Err(Refusal::Expired));
        assert_eq!(
            claims::facts(&token.claims).get("jwt.http://example.com/is_root").map(Fact::as_text),
            Some("true")
        );
    }
}

#[test]
fn the_example_of_rfc_7515_that_is_not_signed_is_refused() {
    let text = format!("eyJhbGciOiJub25lIn0.{CLAIMS}.");
    assert_eq!(Token::parse(&text).err(), Some(Refusal::Algorithm));
}

#[test]
fn the_example_of_rfc_8037_is_verified() {
    let key =
        key(r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#);
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature = BASE64URL.decode(signature).unwrap();
    assert!(key.verify(Algorithm::EdDSA, message, &signature));
    assert!(!key.verify(Algorithm::EdDSA, &message[1..], &signature));
}

#[test]
fn keys_that_are_for_something_else_are_ignored_and_broken_ones_are_told_of() {
    let n = serde_json::from_str::<serde_json::Value>(RS256.2).unwrap()["n"].clone();
    let rsa = |more: &str| format!(r#"{{"kty":"RSA","n":{n},"e":"AQAB"{more}}}"#);
    let read = |list: &[String]| {
        KeySet::read(format!("{{\"keys\":[{}]}}", list.join(",")).as_bytes(), Algorithm::PUBLIC)
    };
    let ignored = [
        rsa(r#","use":"enc""#),
        rsa(r#","key_ops":["sign"]"#),
        rsa(r#","alg":"RSA-OAEP""#),
        r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#.to_owned(),
        r#"{"kty":"new"}"#.to_owned(),
        HS256.2.to_owned(),
        "7".to_owned(),
    ];
    assert!(read(&ignored).unwrap_err().contains("none of the 7 keys"));
    let mut all = ignored.to_vec();
    all.push(rsa(r#","kid":"a","alg":"RS512","use":"sig","key_ops":["verify"]"#));
    all.push(r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned());
    all.push(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned());
    let (set, broken) = read(&all).unwrap();
    assert_eq!((set.0.len(), broken.len()), (1, 2), "{broken:?}");
    assert!(set.0[0].is_for(Algorithm::RS512) && !set.0[0].is_for(Algorithm::RS256));
    assert!(broken[1].contains("24 bits"), "{broken:?}");
    for nothing in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#] {
        assert!(KeySet::read(nothing.as_bytes(), Algorithm::PUBLIC).is_err(), "{nothing}");
    }
}
