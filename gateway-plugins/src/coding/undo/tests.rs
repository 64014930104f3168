use std::io::Write;

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { at_once: 1 << 20, times: 100, most: u64::MAX };
const MALFORMED: Option<Fault> = Some(Fault::Malformed);
const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

fn coded(coding: Coding, text: &[u8]) -> Vec<u8> {
    let best = flate2::Compression::best();
    match coding {
        Coding::Gzip => {
            let mut coder = flate2::write::GzEncoder::new(Vec::new(), best);
            coder.write_all(text).unwrap();
            coder.finish().unwrap()
        }
        Coding::Deflate => {
            let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), best);
            coder.write_all(text).unwrap();
            coder.finish().unwrap()
        }
        Coding::Brotli => {
            let mut coder = ::brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            coder.write_all(text).unwrap();
            coder.into_inner()
        }
        Coding::Zstd => ::zstd::encode_all(text, 3).unwrap(),
    }
}

/// What is in a body that comes in chunks of this size, and how long its longest part was.
fn undone(
    applied: &[Coding],
    bounds: Bounds,
    body: &[u8],
    chunk: usize,
) -> (Result<Vec<u8>, Fault>, usize) {
    let mut undoing = Undoing::new(applied, bounds);
    let (mut text, mut longest) = (Vec::new(), 0);
    let mut take = |part: &[u8], _: bool| {
        longest = longest.max(part.len());
        text.extend_from_slice(part);
        Ok::<(), Fault>(())
    };
    let mut outcome = Ok(());
    for chunk in body.chunks(chunk) {
        outcome = outcome.and_then(|()| undoing.push(chunk, false, &mut take));
    }
    let outcome = outcome.and_then(|()| undoing.push(&[], true, &mut take));
    (outcome.map(|()| text), longest)
}

#[test]
fn what_is_made_to_fill_the_memory_is_refused_before_it_does() {
    let zeros = vec![b' '; 200 << 20];
    for coding in ALL {
        let bomb = coded(coding, &zeros);
        let (outcome, longest) = undone(&[coding], BOUNDS, &bomb, 64 << 10);
        assert_eq!(outcome.err(), Some(Fault::Swells), "{coding:?}");
        assert!(longest <= (1 << 20) + 100 * STEP, "{coding:?}: {longest}");
    }
}

#[test]
fn codings_upon_another_do_not_multiply_what_may_come() {
    let bomb = coded(Coding::Gzip, &vec![0; 100 << 20]);
    let doubled = coded(Coding::Gzip, &bomb);
    assert!(doubled.len() < 2048, "it looks small: {}", doubled.len());

    let (outcome, longest) = undone(&[Coding::Gzip, Coding::Gzip], BOUNDS, &doubled, 64 << 10);

    assert_eq!(outcome.err(), Some(Fault::Swells));
    assert!(longest <= (1 << 20) + 100 * STEP, "{longest}");
}

#[test]
fn a_body_that_becomes_longer_than_it_may_be_is_refused() {
    let text: Vec<u8> = (0..50_000_u32).flat_map(|line| line.to_be_bytes()).collect();
    for coding in ALL {
        let body = coded(coding, &text);
        for (most, refused) in [(200_000, false), (199_999, true)] {
            let (outcome, _) = undone(&[coding], Bounds { most, ..BOUNDS }, &body, 1000);
            assert_eq!(outcome.err(), refused.then_some(Fault::TooLong), "{coding:?} {most}");
        }
    }
}

#[test]
fn what_is_coded_well_is_undone_and_what_is_cut_or_goes_on_is_not() {
    let text: Vec<u8> = (0..30_000_u32)
        .flat_map(|line| format!("line {}\n", line.wrapping_mul(2_654_435_761)).into_bytes())
        .collect();
    for coding in ALL {
        let body = coded(coding, &text);
        assert!(undone(&[coding], BOUNDS, &body, 700).0.unwrap() == text, "{coding:?}");
        let cut = &body[..body.len() - 1];
        assert_eq!(undone(&[coding], BOUNDS, cut, 700).0.err(), MALFORMED, "{coding:?}");
        let longer = [&body[..], b"and more"].concat();
        assert_eq!(undone(&[coding], BOUNDS, &longer, 700).0.err(), MALFORMED, "{coding:?}");
        assert_eq!(undone(&[coding], BOUNDS, &[], 1).0, Ok(vec![]), "{coding:?}");
    }
    let twice = coded(Coding::Zstd, &coded(Coding::Brotli, &text));
    let (outcome, _) = undone(&[Coding::Brotli, Coding::Zstd], BOUNDS, &twice, 333);
    assert!(outcome.unwrap() == text);
}

#[test]
fn parts_of_gzip_and_frames_of_zstd_follow_one_another() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let two = [coded(coding, b"one "), coded(coding, b"two")].concat();
        for chunk in [1, 7, 1000] {
            let (outcome, _) = undone(&[coding], BOUNDS, &two, chunk);
            assert_eq!(outcome.as_deref(), Ok(&b"one two"[..]), "{coding:?}");
        }
    }
    // A frame that is skipped, of three bytes.
    let skipped = [&[0x5A, 0x2A, 0x4D, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let body = [skipped, coded(Coding::Zstd, b"text")].concat();
    assert_eq!(undone(&[Coding::Zstd], BOUNDS, &body, 3).0.as_deref(), Ok(&b"text"[..]));
}

#[test]
fn windows_that_only_large_memories_have_room_for_are_refused() {
    // RFC 7932, section 9.1: no such window; an extension takes it for one of up to 1 GiB.
    let brotli = [0x11, 30, 0x0B, 0x00, 0x80, b'a', 0x03];
    assert_eq!(undone(&[Coding::Brotli], BOUNDS, &brotli, 9).0, Err(Fault::Malformed));

    let window = |log: u32| {
        let mut coder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
        coder.window_log(log).unwrap();
        coder.write_all(b"a few words").unwrap();
        coder.flush().unwrap();
        coder.finish().unwrap()
    };
    assert!(undone(&[Coding::Zstd], BOUNDS, &window(23), 9).0.is_ok());
    assert_eq!(undone(&[Coding::Zstd], BOUNDS, &window(24), 9).0, Err(Fault::Malformed));
}

#[test]
fn older_formats_of_zstd_are_refused() {
    for version in 0x22..=0x27 {
        let body = [version, 0xB5, 0x2F, 0xFD, 0, 0, 0, 0, 0, 0];
        assert_eq!(undone(&[Coding::Zstd], BOUNDS, &body, 99).0, Err(Fault::Malformed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_comes_back_however_it_is_cut(
        text in prop::collection::vec(any::<u8>(), 0..5000),
        chunk in 1_usize..2000,
        first in 0_usize..4,
        second in 0_usize..4,
    ) {
        let (first, second) = (ALL[first], ALL[second]);
        let body = coded(second, &coded(first, &text));
        let (outcome, _) = undone(&[first, second], BOUNDS, &body, chunk);
        prop_assert!(outcome == Ok(text));
    }

    #[test]
    fn any_bytes_are_refused_or_undone_within_bounds(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        flipped in 0_usize..3000,
        which in 0_usize..4,
    ) {
        let bounds = Bounds { at_once: 4096, times: 10, most: 100_000 };
        let mut body = coded(ALL[which], &bytes);
        if let Some(byte) = body.get_mut(flipped) {
            *byte ^= 0x15;
        }
        for body in [&bytes, &body] {
            if let (Ok(text), _) = undone(&[ALL[which]], bounds, body, 512) {
                prop_assert!(text.len() as u64 <= bounds.at_once + bounds.times * body.len() as u64 + 4096);
            }
        }
    }
}
