//! Secrets by their shape: tokens, private keys, addresses, card and account numbers.

use super::numbers::{cards, ibans};
use aho_corasick::{AhoCorasick, Input, MatchKind};
use regex::bytes::Regex;
use std::ops::Range;

/// A token is its prefix and at least so many characters of its alphabet.
struct Token {
    prefix: &'static str,
    alphabet: Alphabet,
    min: usize,
}

#[derive(Clone, Copy)]
enum Alphabet {
    /// `A-Z a-z 0-9`
    Letters,
    /// `A-Z 0-9`
    Upper,
    /// `A-Z a-z 0-9 _ -`
    Base64Url,
    /// Three parts of base64url with dots between (RFC 7515, section 3.1); `eyJ` is `{"`.
    Jwt,
    /// From the header of a private key (RFC 7468) to its end, or to the end of the text.
    Pem,
}

const fn token(prefix: &'static str, alphabet: Alphabet, min: usize) -> Token {
    Token { prefix, alphabet, min }
}

use Alphabet::*;

const TOKENS: [Token; 32] = [
    token("eyJ", Jwt, 10),
    token("-----BEGIN", Pem, "PRIVATE".len()),
    token("ghp_", Letters, 16),
    token("gho_", Letters, 16),
    token("ghu_", Letters, 16),
    token("ghs_", Letters, 16),
    token("ghr_", Letters, 16),
    token("github_pat_", Base64Url, 16),
    token("glpat-", Base64Url, 16),
    token("xoxa-", Base64Url, 10),
    token("xoxb-", Base64Url, 10),
    token("xoxp-", Base64Url, 10),
    token("xoxr-", Base64Url, 10),
    token("xoxs-", Base64Url, 10),
    token("xapp-", Base64Url, 10),
    token("sk_live_", Letters, 10),
    token("sk_test_", Letters, 10),
    token("rk_live_", Letters, 10),
    token("whsec_", Letters, 16),
    token("AKIA", Upper, 16),
    token("ASIA", Upper, 16),
    token("AIza", Base64Url, 30),
    token("ya29.", Base64Url, 20),
    token("sk-ant-", Base64Url, 20),
    token("sk-proj-", Base64Url, 20),
    token("npm_", Letters, 30),
    token("pypi-", Base64Url, 40),
    token("hvs.", Base64Url, 20),
    token("dop_v1_", Letters, 32),
    token("shpat_", Letters, 16),
    token("SG.", Base64Url, 20),
    token("AGE-SECRET-KEY-", Upper, 16),
];

/// No text with fewer bytes is a secret by its shape: `a@b.cd`.
const SHORTEST: usize = 6;

/// Nor an account number: those of Norway are the shortest.
const SHORTEST_IBAN: usize = 15;

/// Every token has so many characters of base64url in a row.
const RUN: usize = 10;

/// What a secret that is known by its shape is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    /// A token: a JWT, or one with a well-known prefix.
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
    /// What an operator added, by its place.
    Own(usize),
}

/// A secret that was found: where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its place, in bytes.
    pub range: Range<usize>,
    /// What it is.
    pub shape: Shape,
}

/// All shapes, and those an operator adds.
#[derive(Debug)]
pub(super) struct Patterns {
    prefixes: AhoCorasick,
    more: Vec<Regex>,
}

impl Patterns {
    pub(super) fn new(more: Vec<Regex>) -> Patterns {
        let prefixes = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(TOKENS.iter().map(|token| token.prefix))
            .expect("a few short constant prefixes cannot exceed the limits of the automaton");
        Patterns { prefixes, more }
    }

    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        let mut found = Vec::new();
        self.find(text, &mut found);
        !found.is_empty()
    }

    /// Appends every secret; places may overlap.
    pub(super) fn find(&self, text: &[u8], found: &mut Vec<Found>) {
        if text.len() >= SHORTEST {
            if has_run(text) {
                self.tokens(text, found);
            }
            if memchr::memchr(b'@', text).is_some() {
                addresses(text, found);
            }
            let digits = count_digits(text);
            let mut numbers = Vec::new();
            if digits >= 13 {
                cards(text, &mut numbers);
                found.extend(numbers.drain(..).map(|range| Found { range, shape: Shape::Card }));
            }
            if digits >= 4 && text.len() >= SHORTEST_IBAN {
                ibans(text, &mut numbers);
                found.extend(numbers.drain(..).map(|range| Found { range, shape: Shape::Iban }));
            }
        }
        for (place, pattern) in self.more.iter().enumerate() {
            let ranges = pattern.find_iter(text).map(|m| m.range()).filter(|r| !r.is_empty());
            found.extend(ranges.map(|range| Found { range, shape: Shape::Own(place) }));
        }
    }

    fn tokens(&self, text: &[u8], found: &mut Vec<Found>) {
        let (mut at, mut no_jwt_before) = (0, 0);
        while let Some(hit) = self.prefixes.find(Input::new(text).span(at..text.len())) {
            let token = &TOKENS[hit.pattern().as_usize()];
            at = hit.end();
            let jwt = matches!(token.alphabet, Jwt);
            if jwt && hit.start() < no_jwt_before {
                continue;
            }
            if let Some(end) = token.end(text, hit.end()) {
                let pem = matches!(token.alphabet, Pem);
                let shape = if pem { Shape::PrivateKey } else { Shape::Token };
                found.push(Found { range: hit.start()..end, shape });
                at = end;
            } else if jwt {
                // A later start in the same run would fail alike; without this, `eyJeyJ…` is
                // looked at in quadratic time.
                no_jwt_before = at + Base64Url.run(&text[at..]);
            }
        }
    }
}

impl Token {
    /// Where the token ends whose prefix ends at `at`; none if it is too short to be one.
    fn end(&self, text: &[u8], at: usize) -> Option<usize> {
        let rest = &text[at..];
        match self.alphabet {
            Jwt => jwt(rest, self.min).map(|length| at + length),
            Pem => private_key(rest).map(|length| at + length),
            alphabet => {
                let length = alphabet.run(rest);
                (length >= self.min).then_some(at + length)
            }
        }
    }
}

impl Alphabet {
    /// How many bytes of the alphabet stand at the beginning.
    fn run(self, rest: &[u8]) -> usize {
        rest.iter().take_while(|byte| self.has(**byte)).count()
    }

    fn has(self, byte: u8) -> bool {
        match self {
            Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Letters => byte.is_ascii_alphanumeric(),
            _ => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
        }
    }
}

/// Whether there are [`RUN`] characters of base64url in a row, as most fields of a message have not. Of ten
/// bytes the last is looked at first: one that is another rules out all rows with it.
fn has_run(text: &[u8]) -> bool {
    let mut from = 0;
    while let Some(row) = text.get(from..from + RUN) {
        match row.iter().rposition(|byte| !Base64Url.has(*byte)) {
            None => return true,
            Some(other) => from += other + 1,
        }
    }
    false
}

/// The length of what follows `eyJ`. Two parts are enough if the second one is JSON, too.
fn jwt(rest: &[u8], min: usize) -> Option<usize> {
    let header = Base64Url.run(rest);
    if header < min {
        return None;
    }
    let length = rest.iter().take_while(|byte| Base64Url.has(**byte) || **byte == b'.').count();
    let parts = rest[header..length].iter().filter(|byte| **byte == b'.').count();
    let claims = rest[header..].starts_with(b".eyJ");
    (parts >= 2 || claims).then_some(length)
}

/// The length of what follows `-----BEGIN`. Certificates and public keys are not secret.
fn private_key(rest: &[u8]) -> Option<usize> {
    let label = &rest[..rest.len().min(64)];
    memchr::memmem::find(label, b"PRIVATE")?;
    let Some(end) = memchr::memmem::find(rest, b"-----END") else {
        return Some(rest.len());
    };
    let label = end + b"-----END".len();
    let dashes = memchr::memmem::find(&rest[label..], b"-----");
    Some(dashes.map_or(rest.len(), |dashes| label + dashes + 5))
}

/// In chunks whose count fits a byte, which the compiler turns into vector instructions.
fn count_digits(text: &[u8]) -> usize {
    let count = |chunk: &[u8]| chunk.iter().map(|b| u8::from(b.is_ascii_digit())).sum::<u8>();
    text.chunks(255).map(|chunk| usize::from(count(chunk))).sum()
}

/// E-mail addresses, and the user part of URLs.
fn addresses(text: &[u8], found: &mut Vec<Found>) {
    for at in memchr::memchr_iter(b'@', text) {
        let before = &text[..at];
        let local = before.iter().rev().take_while(|byte| is_local(**byte)).count();
        let domain = domain(&text[at + 1..]);
        if local > 0 && domain > 0 {
            let range = at - local..at + 1 + domain;
            found.push(Found { range, shape: Shape::Email });
        }
        let user = before.iter().rev().take_while(|byte| is_user(**byte)).count();
        if user > 0 && before[..at - user].ends_with(b"://") {
            found.push(Found { range: at - user..at, shape: Shape::UrlUser });
        }
    }
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'')
        || !byte.is_ascii()
}

fn is_user(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'/' | b'@' | b'?' | b'#' | b'"')
}

/// The length of a domain with a dot and a last label that begins with letters, as far as it goes.
fn domain(rest: &[u8]) -> usize {
    let is_domain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || !byte.is_ascii();
    let mut length = rest.iter().take_while(|byte| is_domain(byte)).count();
    while let Some(dot) = memchr::memrchr(b'.', &rest[..length]) {
        let letters = |byte: &u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
        if dot > 0 && length >= dot + 3 && rest[dot + 1..dot + 3].iter().all(letters) {
            return length;
        }
        length = dot;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_a_row_of_characters_and_is_found_wherever_it_stands() {
        for token in &TOKENS {
            let secret = match token.alphabet {
                Jwt => "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.AAAA".to_owned(),
                Pem => "-----BEGIN PRIVATE".to_owned(),
                _ => format!("{}{}", token.prefix, "A".repeat(token.min)),
            };
            for before in ["", " ", "a b ", "0123456789 ", "a, b, c, d, "] {
                let text = format!("{before}{secret}");
                assert!(Patterns::new(Vec::new()).is_in(text.as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn a_row_is_found_at_every_place() {
        for length in 0..30_usize {
            for at in 0..=length {
                let text: Vec<u8> =
                    (0..length).map(|place| if place == at { b'.' } else { b'a' }).collect();
                let longest = at.max((length - at).saturating_sub(1));
                assert_eq!(has_run(&text), longest >= RUN, "{length} {at}");
            }
        }
    }
}
