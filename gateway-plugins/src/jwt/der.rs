//! As much of DER (ITU-T X.690) as finds the key in a `SubjectPublicKeyInfo` (RFC 5280, section 4.1).

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OBJECT: u8 = 0x06;
/// The version of a certificate, which may be left out.
const VERSION: u8 = 0xa0;

pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
pub(super) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
pub(super) const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
pub(super) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The algorithm of a public key, its curve or nothing, and the key itself.
pub(super) fn public_key(info: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (mut inside, _) = value(info, SEQUENCE)?;
    let mut algorithm = next(&mut inside, SEQUENCE)?;
    let name = next(&mut algorithm, OBJECT)?;
    let curve = next(&mut algorithm, OBJECT).unwrap_or_default();
    // No bit of the last byte is unused.
    let key = next(&mut inside, BITS)?.strip_prefix(&[0])?;
    Some((name, curve, key))
}

/// The `SubjectPublicKeyInfo` of a certificate.
pub(super) fn public_key_of(certificate: &[u8]) -> Option<&[u8]> {
    let (mut inside, _) = value(certificate, SEQUENCE)?;
    let mut fields = next(&mut inside, SEQUENCE)?;
    next(&mut fields, VERSION);
    next(&mut fields, INTEGER)?;
    // The signature's algorithm, the issuer, the validity, the subject.
    for _ in 0..4 {
        next(&mut fields, SEQUENCE)?;
    }
    let (_, rest) = value(fields, SEQUENCE)?;
    fields.get(..fields.len() - rest.len())
}

/// The modulus and the exponent of an RSA key.
pub(super) fn two_integers(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut inside, _) = value(key, SEQUENCE)?;
    Some((next(&mut inside, INTEGER)?, next(&mut inside, INTEGER)?))
}

/// Takes the next value off, if it has this tag.
fn next<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (value, rest) = value(from, tag)?;
    *from = rest;
    Some(value)
}

/// The value that this begins with, if it has the tag, and what is behind it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, bytes) = bytes.split_first()?;
    let (first, bytes) = bytes.split_first()?;
    if *found != tag {
        return None;
    }
    let (length, bytes) = match first {
        0..=0x7f => (usize::from(*first), bytes),
        0x81..=0x84 => {
            let (digits, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), bytes)
        }
        _ => return None,
    };
    bytes.split_at_checked(length)
}
