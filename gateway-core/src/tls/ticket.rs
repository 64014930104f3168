//! Session tickets (RFC 8446, section 4.6.1; RFC 5077): made with keys that follow from one secret and the time, so that
//! all who have the secret can read each other's, and keys grow old.

use std::time::{Duration, SystemTime};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;

/// How long a key makes tickets; it reads them as long again.
const TURN: Duration = Duration::from_secs(6 * 60 * 60);
const NONCE: usize = 12;
const TURN_BYTES: usize = 8;

/// Makes and reads tickets.
pub(crate) struct Tickets {
    secret: hmac::Key,
    random: SystemRandom,
}

impl Tickets {
    pub(super) fn new(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self { secret, random: SystemRandom::new() }
    }

    fn key(&self, turn: u64) -> Option<LessSafeKey> {
        let key = hmac::sign(&self.secret, &turn.to_be_bytes());
        UnboundKey::new(&AES_256_GCM, key.as_ref()).ok().map(LessSafeKey::new)
    }

    fn turn() -> u64 {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        now.as_secs() / TURN.as_secs()
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(TURN.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let turn = Self::turn();
        let mut nonce = [0; NONCE];
        self.random.fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(TURN_BYTES + NONCE + plain.len() + 16);
        ticket.extend_from_slice(&turn.to_be_bytes());
        ticket.extend_from_slice(&nonce);
        let mut sealed = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(turn.to_be_bytes());
        self.key(turn)?.seal_in_place_append_tag(nonce, aad, &mut sealed).ok()?;
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (turn, rest) = ticket.split_first_chunk::<TURN_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        let (number, now) = (u64::from_be_bytes(*turn), Self::turn());
        if number != now && number.checked_add(1) != Some(now) {
            return None;
        }
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key(number)?.open_in_place(nonce, Aad::from(*turn), &mut plain).ok()?;
        let length = opened.len();
        plain.truncate(length);
        Some(plain)
    }
}

/// A secret for those that were given none.
pub(crate) fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    // Without chance there is no TLS at all.
    let filled = SystemRandom::new().fill(&mut secret);
    assert!(filled.is_ok(), "the system has no random numbers");
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_secret_reads_tickets() {
        let (one, same) = (Tickets::new(&[7; 32]), Tickets::new(&[7; 32]));
        let ticket = one.encrypt(b"a session").unwrap();
        assert_eq!(same.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        assert_eq!(Tickets::new(&[8; 32]).decrypt(&ticket), None);
        assert_ne!(one.encrypt(b"a session").unwrap(), ticket);
    }

    #[test]
    fn what_was_changed_or_is_too_old_is_not_read() {
        let tickets = Tickets::new(&[7; 32]);
        let ticket = tickets.encrypt(b"a session").unwrap();
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "{place}");
            assert_eq!(tickets.decrypt(&ticket[..place]), None, "{place}");
        }
    }
}
