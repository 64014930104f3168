//! The arrows between the rooms, read from the sources: none of them turns back.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The lines of a room's sources, without comments and without tests, each with its place.
fn lines(room: &str) -> Vec<(String, String)> {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway-core/src");
    let room = core.join(room);
    let files = if room.is_dir() { sources(&room) } else { vec![room] };
    assert!(!files.is_empty(), "the room has sources");
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !is_test(file)) {
        let text = fs::read_to_string(file).expect("the source can be read");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            if !line.trim_start().starts_with("//") {
                found.push((format!("{}:{}", file.display(), number + 1), line.to_owned()));
            }
        }
    }
    found
}

fn is_test(file: &Path) -> bool {
    let in_tests = file.components().any(|part| part.as_os_str() == "tests");
    in_tests || file.file_name().is_some_and(|name| name == "tests.rs")
}

#[track_caller]
fn assert_absent(room: &str, words: &[&str]) {
    for (place, line) in lines(room) {
        for word in words {
            assert!(!line.contains(word), "{place}: `{room}` must not know `{word}`: {line}");
        }
    }
}

#[test]
fn config_imports_nothing_of_ours_and_no_runtime() {
    assert_absent("config", &["pingora", "tokio", "crate::plugin", "crate::snapshot"]);
    for (place, line) in lines("config") {
        let own = line.contains("crate::") && !line.contains("crate::config");
        assert!(!own || line.contains("pub(crate)"), "{place}: {line}");
    }
}

#[test]
fn pingora_itself_is_known_to_four_rooms() {
    for room in ["admin", "config", "context.rs", "gateway.rs", "plugin", "reload", "routing"] {
        assert_absent(room, &["pingora::", "pingora_proxy::", "pingora_core::"]);
    }
    for room in ["action", "explain", "mirror", "snapshot"] {
        assert_absent(room, &["pingora::", "pingora_proxy::"]);
    }
    assert_absent("telemetry", &["pingora::", "pingora_proxy::"]);
}

#[test]
fn routing_and_actions_are_pure() {
    assert_absent("routing", &["tokio", "std::net::Tcp", "std::fs", "Instant", "SystemTime"]);
    assert_absent("action", &["tokio", "std::net::Tcp", "Instant", "SystemTime"]);
}

#[test]
fn the_catalogue_knows_the_core_and_the_core_does_not_know_the_catalogue() {
    for room in ["admin", "config", "gateway.rs", "lifecycle", "plugin", "proxy", "snapshot"] {
        assert_absent(room, &["gateway_plugins", "gateway_bin"]);
    }
}
