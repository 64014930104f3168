//! The name that a client asks for in TLS, read of its first message while that is passed on as it is
//! (RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3).

/// The longest that a first message may be, headers of records included.
pub(super) const LONGEST: usize = 64 * 1024;
/// The longest that a record may be, with what encryption may add.
const LONGEST_RECORD: u16 = (1 << 14) + 256;
/// What begins a record of a handshake.
const HANDSHAKE: u8 = 22;
/// What begins a client's first message.
const CLIENT_HELLO: u8 = 1;
/// The extension that holds the name.
const SERVER_NAME: u16 = 0;
/// The longest name that DNS has.
const LONGEST_NAME: usize = 253;

/// The first message, as far as it has come. Every byte is looked at once, however they come.
#[derive(Default)]
pub(super) struct Hello {
    raw: Vec<u8>,
    /// How far `raw` was looked at.
    seen: usize,
    /// How much of the current record is still to come.
    rest: usize,
    /// What the records hold.
    message: Vec<u8>,
}

/// What is known of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Too little to say.
    Nothing,
    /// It asks for this name, in lower case, or for none.
    Name(Option<Box<str>>),
    /// It is no TLS.
    Other,
}

impl Hello {
    /// More of it is here.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Said {
        self.raw.extend_from_slice(bytes);
        while self.seen < self.raw.len() {
            if self.rest == 0 {
                match record(&self.raw[self.seen..]) {
                    Record::Nothing => return Said::Nothing,
                    Record::Other => return Said::Other,
                    Record::Of(length) => (self.rest, self.seen) = (length, self.seen + 5),
                }
            }
            let here = self.rest.min(self.raw.len() - self.seen);
            self.message.extend_from_slice(&self.raw[self.seen..self.seen + here]);
            (self.seen, self.rest) = (self.seen + here, self.rest - here);
            match self.message.first_chunk() {
                Some([CLIENT_HELLO, a, b, c]) => {
                    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                    if length > LONGEST {
                        return Said::Other;
                    }
                    if let Some(whole) = self.message[4..].get(..length) {
                        return name(whole).map_or(Said::Other, Said::Name);
                    }
                }
                Some(_) => return Said::Other,
                None => {}
            }
        }
        if self.raw.len() >= LONGEST { Said::Other } else { Said::Nothing }
    }

    /// All that has come, to be passed on.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.raw
    }

    pub(super) fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
}

/// What a record's header says.
enum Record {
    Nothing,
    Of(usize),
    Other,
}

fn record(bytes: &[u8]) -> Record {
    match bytes {
        [HANDSHAKE, 3, _, a, b, ..] => match u16::from_be_bytes([*a, *b]) {
            0 | LONGEST_RECORD.. => Record::Other,
            length => Record::Of(length.into()),
        },
        [HANDSHAKE] | [HANDSHAKE, 3] | [HANDSHAKE, 3, _] | [HANDSHAKE, 3, _, _] => Record::Nothing,
        _ => Record::Other,
    }
}

/// The name in a whole message; `None` if it is none.
fn name(message: &[u8]) -> Option<Option<Box<str>>> {
    // A version, and a random number.
    let mut rest = Bytes(message.get(2 + 32..)?);
    let _session = rest.with_length(1)?;
    let _suites = rest.with_length(2)?;
    let _compressions = rest.with_length(1)?;
    if rest.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Bytes(rest.with_length(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut extension = Bytes(extensions.with_length(2)?);
        if kind != usize::from(SERVER_NAME) {
            continue;
        }
        let mut names = Bytes(extension.with_length(2)?);
        let kind = names.number(1)?;
        let name = std::str::from_utf8(names.with_length(2)?).ok()?;
        let is_sound = name.bytes().all(|byte| byte.is_ascii_graphic());
        let is_sound = is_sound && kind == 0 && (1..=LONGEST_NAME).contains(&name.len());
        return is_sound.then(|| Some(name.to_ascii_lowercase().into()));
    }
    Some(None)
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// A number of so many bytes.
    fn number(&mut self, width: usize) -> Option<usize> {
        let (number, rest) = self.0.split_at_checked(width)?;
        self.0 = rest;
        Some(number.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What has its length, a number of so many bytes, in front.
    fn with_length(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.number(width)?;
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// What a real client says first, for a name or an address.
    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of so many bytes each.
    fn in_records(hello: &[u8], length: usize) -> Vec<u8> {
        let mut records = Vec::new();
        for piece in hello[5..].chunks(length) {
            records.extend([HANDSHAKE, 3, 1]);
            records.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
            records.extend(piece);
        }
        records
    }

    #[test]
    fn the_name_of_a_real_client_is_read_whatever_the_pieces() {
        let asked = Said::Name(Some("db.example.com".into()));
        let whole = hello("DB.example.com");
        assert_eq!(Hello::default().take(&whole), asked);
        assert_eq!(Hello::default().take(&hello("192.0.2.1")), Said::Name(None));
        for split in [whole.clone(), in_records(&whole, 1), in_records(&whole, 7)] {
            let mut hello = Hello::default();
            let (last, others) = split.split_last().unwrap();
            for byte in others {
                assert_eq!(hello.take(&[*byte]), Said::Nothing);
            }
            assert_eq!(hello.take(&[*last]), asked);
            assert_eq!(hello.into_bytes(), split);
        }
    }

    #[test]
    fn what_is_no_tls_is_known_at_its_first_byte_that_is_not() {
        for (bytes, at) in [
            (&b"PING\r\n"[..], 1),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", 1),
            (b"\x16\x02\x01\0\x05\x01", 2),
            (b"\x16\x03\x01\0\0", 5),
            (b"\x16\x03\x01\0\x05\x02\0\0\x01\0", 9),
            (b"\x16\x03\x01\0\x05\x01\xff\xff\xff\0", 9),
        ] {
            let mut hello = Hello::default();
            let said: Vec<_> = bytes.iter().map(|byte| hello.take(&[*byte])).collect();
            let first = said.iter().position(|said| *said == Said::Other);
            assert_eq!(first, Some(at - 1), "{bytes:?}");
        }
    }

    #[test]
    fn a_message_without_end_is_given_up() {
        let mut hello = Hello::default();
        let begun = in_records(b"\x16\x03\x01\0\x05\x01\x00\xff\xf0\0", 5);
        let mut said = hello.take(&begun);
        let more = in_records(&[0; 5 + 4096], 16);
        let mut taken = begun.len();
        while said == Said::Nothing {
            said = hello.take(&more);
            taken += more.len();
        }
        assert_eq!(said, Said::Other);
        assert!(taken <= LONGEST + more.len(), "{taken}");
        assert_eq!(Hello::default().take(b"\x16\x03\x01\xff\xff"), Said::Other);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_is_read_beyond_its_end(
            at in 0_usize..300, byte: u8, cut in 0_usize..600, rest: Vec<u8>
        ) {
            let mut bytes = hello("db.example.com");
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut);
            bytes.extend(&rest);
            let whole = Hello::default().take(&bytes);
            let mut hello = Hello::default();
            let mut said = Said::Nothing;
            for byte in &bytes {
                said = hello.take(&[*byte]);
                if said != Said::Nothing {
                    break;
                }
            }
            prop_assert_eq!(whole, said);
        }
    }
}
