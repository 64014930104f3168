//! Paths in normal form, paths rewritten, paths refused.

use super::*;
use proptest::prelude::*;

const NORMAL: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/",
    "/a.b",
    "/.a",
    "/a.",
    "/..a",
    "/a..",
    "/...",
    "/.well-known",
    "/a;v=1/b",
    "/a;..;/b",
    "/%2F",
    "/a%2Fb",
    "/%25",
    "/%252e",
    "/%252E%252E/",
    "/%3B",
    "/%C3%A9",
    "/%0A",
    "/~user",
    "/a-b_c~d",
    "/a:b@c",
    "/!$&'()*+,;=",
    "/%2F%2F",
    "/%2F..",
    "/..%2F",
    "/0/1/2",
];

const REWRITTEN: &[(&str, &str)] = &[
    ("/{id}", "/%7Bid%7D"),
    ("/a/[1]/b", "/a/%5B1%5D/b"),
    ("/a|b//c", "/a%7Cb/c"),
    ("/a^b`", "/a%5Eb%60"),
    ("//", "/"),
    ("///", "/"),
    ("//a", "/a"),
    ("/a//b", "/a/b"),
    ("/a//", "/a/"),
    ("/a///b//", "/a/b/"),
    ("/.", "/"),
    ("/./", "/"),
    ("/..", "/"),
    ("/../", "/"),
    ("/../..", "/"),
    ("/../../a", "/a"),
    ("/a/.", "/a/"),
    ("/a/..", "/"),
    ("/a/../", "/"),
    ("/a/./b", "/a/b"),
    ("/a/../b", "/b"),
    ("/a/b/..", "/a/"),
    ("/a/b/../..", "/"),
    ("/a/b/../../..", "/"),
    ("/a/b/../../../c", "/c"),
    ("/a/b/c/./../../g", "/a/g"),
    ("/mid/content=5/../6", "/mid/6"),
    ("/a//../b", "/b"),
    ("/a/.//b", "/a/b"),
    ("/a/..//b", "/b"),
    ("/%2e", "/"),
    ("/%2E%2e", "/"),
    ("/a/%2e%2e/b", "/b"),
    ("/a/.%2e/b", "/b"),
    ("/a/%2e./b", "/b"),
    ("/a/%2e/b", "/a/b"),
    ("/%2e%2e%2f", "/..%2F"),
    ("/%41", "/A"),
    ("/%7Euser", "/~user"),
    ("/%61%70i", "/api"),
    ("/%30", "/0"),
    ("/%2d%5f", "/-_"),
    ("/%2f", "/%2F"),
    ("/%c3%a9", "/%C3%A9"),
    ("/%3a", "/%3A"),
    ("/a%2fb/../c", "/c"),
    ("/%0d%0a", "/%0D%0A"),
    ("/a;x/../b", "/b"),
    ("/..;/a/%2e%2e", "/..;/"),
    ("/x/...//", "/x/.../"),
];

const FAULTS: &[(&[u8], PathFault)] = &[
    (b"", PathFault::NotAbsolute),
    (b"a", PathFault::NotAbsolute),
    (b"*", PathFault::NotAbsolute),
    (b"http://a/", PathFault::NotAbsolute),
    (b"\\", PathFault::NotAbsolute),
    (b"/%", PathFault::Escape),
    (b"/%4", PathFault::Escape),
    (b"/%G1", PathFault::Escape),
    (b"/%1G", PathFault::Escape),
    (b"/%%41", PathFault::Escape),
    (b"/%+1", PathFault::Escape),
    (b"//%4", PathFault::Escape),
    (b"/%00", PathFault::Nul),
    (b"//a%00b", PathFault::Nul),
    (b"/%5C", PathFault::Backslash),
    (b"/%5c..", PathFault::Backslash),
    (b"/a\\b", PathFault::Backslash),
    (b"//a\\b", PathFault::Backslash),
    (b"/a b", PathFault::Character),
    (b"/\t", PathFault::Character),
    (b"/\0", PathFault::Character),
    (b"/\r\n", PathFault::Character),
    (b"/\x7f", PathFault::Character),
    (b"/a#b", PathFault::Character),
    (b"/a?b", PathFault::Character),
    (b"/\xc3\xa9", PathFault::Character),
    (b"/\xff", PathFault::Character),
    (b"//a#", PathFault::Character),
];

fn path_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => prop::sample::select(vec!["/", ".", "..", "%2e", "%2F", "%41", "%c3", "a", ";", "//"])
            .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(0x21_u8..0x7f, 0..3),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| [vec![b'/'], pieces.concat()].concat())
}

#[test]
fn a_normal_path_is_borrowed() {
    for path in NORMAL {
        let normal = normalise(path.as_bytes()).unwrap();

        assert_eq!(normal.as_str(), *path);
        assert!(normal.is_borrowed(), "{path}");
    }
}

#[test]
fn a_path_that_is_not_normal_is_rewritten() {
    for (raw, expected) in REWRITTEN {
        assert_eq!(normalise(raw.as_bytes()).unwrap().as_str(), *expected, "{raw}");
    }
}

#[test]
fn a_path_with_two_readings_is_refused() {
    for (raw, fault) in FAULTS {
        assert_eq!(normalise(raw), Err(*fault), "{}", raw.escape_ascii());
    }
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing_more(raw in path_bytes()) {
        if let Ok(once) = normalise(&raw) {
            let twice = normalise(once.as_bytes()).unwrap();
            prop_assert_eq!(&once, &twice);
            prop_assert!(twice.is_borrowed());
            prop_assert!(!once.contains("//") && !once.split('/').any(|s| s == "." || s == ".."));
        }
    }

    #[test]
    fn no_bytes_panic(raw in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = normalise(&raw);
        let _ = normalise(&[b"/".as_slice(), &raw].concat());
    }
}
