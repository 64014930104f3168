//! Tests that say how much memory their process takes.

use std::process::Command;

const MARK: &str = "GATEWAY_TEST_ALONE";

/// Whether the test that calls this has its process for itself. If not, it is run in one of its own, and has nothing more
/// to do in this one.
///
/// # Panics
/// It fails there.
#[track_caller]
#[must_use]
pub fn is_alone() -> bool {
    // cargo-nextest runs each test in its own process.
    let alone = [MARK, "NEXTEST"].into_iter().any(|name| std::env::var_os(name).is_some());
    let thread = std::thread::current();
    // The harness names threads after tests, unless it runs one test at a time itself.
    let Some(test) = thread.name().filter(|name| !alone && *name != "main") else { return true };
    let program = std::env::current_exe().expect("it is running");
    let told = Command::new(program)
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(MARK, "1")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&told.stdout) + String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success() && said.contains("1 passed"), "{test}:\n{said}");
    false
}
