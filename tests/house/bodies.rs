//! Bodies of any length, both ways, between curl and nginx: every byte arrives, and the gateway holds few of them.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use gateway_tests::{Gate, is_alone};

use super::nginx::Nginx;

/// An nginx that takes files as well.
fn nginx() -> Nginx {
    Nginx::start("client_max_body_size 0; sendfile on; dav_methods PUT;", &[])
}

/// Writes a file of so many bytes into a folder.
fn write(file: &Path, length: usize) {
    let mut file = fs::File::create(file).expect("it can be made");
    let piece: Vec<u8> = (0..1 << 20).map(|index: u32| (index * 31 % 251) as u8).collect();
    for _ in 0..length / piece.len() {
        file.write_all(&piece).expect("the disk has room");
    }
}

/// What this process has held at most since it was asked last, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("it is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is there");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    fs::write("/proc/self/clear_refs", "5").expect("it can be begun anew");
    kib * 1024
}

#[track_caller]
fn curl(arguments: &[&str]) {
    let mut curl = Command::new("curl");
    let told = curl.args(["-sS", "--fail", "--max-time", "300"]).args(arguments).output();
    let told = told.expect("curl is installed");
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "curl {arguments:?}: {said}");
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let same = Command::new("cmp").args([one, other]).status();
    assert!(same.is_ok_and(|status| status.success()), "{}", other.display());
}

/// A body of so many bytes down and up again, over both versions of HTTP.
fn there_and_back(length: usize) {
    if !is_alone() {
        return;
    }
    let nginx = nginx();
    write(&nginx.folder().join("big"), length);
    let gate = Gate::proxying(nginx.address(), "");
    let url = |name: &str| format!("http://{}/{name}", gate.address());
    let (big, got) = (nginx.folder().join("big"), gate.folder().join("got"));
    let (from, to) = (big.display().to_string(), got.display().to_string());
    // What it needs for anything at all.
    curl(&["-o", "/dev/null", "-r", "0-9", &url("big")]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let before = peak();
        curl(&[version, "-o", &to, &url("big")]);
        assert_same(&big, &got);
        curl(&[version, "-T", &from, &url("sent")]);
        assert_same(&big, &nginx.folder().join("sent"));
        // Of a length that nobody was told.
        curl(&[version, "-H", "Transfer-Encoding: chunked", "-T", &from, &url("sent2")]);
        assert_same(&big, &nginx.folder().join("sent2"));
        let grown = peak().saturating_sub(before);
        assert!(grown < 8 << 20, "{version}: {grown} bytes more");
    }
}

#[test]
fn bodies_of_ten_mebibytes_arrive() {
    there_and_back(10 << 20);
}

#[test]
fn bodies_that_no_buffer_holds_arrive_and_take_no_memory() {
    there_and_back(200 << 20);
}

#[test]
#[ignore = "the same with a gibibyte"]
fn bodies_of_a_gibibyte_arrive_and_take_no_memory() {
    there_and_back(1 << 30);
}

#[test]
fn what_is_not_taken_is_not_read() {
    if !is_alone() {
        return;
    }
    let nginx = nginx();
    write(&nginx.folder().join("big"), 64 << 20);
    let gate = Gate::proxying(nginx.address(), "");
    curl(&["-o", "/dev/null", "-r", "0-9", &format!("http://{}/big", gate.address())]);
    let before = peak();
    let open: Vec<_> = (0..20)
        .map(|_| {
            let mut socket = TcpStream::connect(gate.address()).expect("it listens");
            socket.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is taken");
            socket
        })
        .collect();
    thread::sleep(Duration::from_secs(1));
    let each = peak().saturating_sub(before) / 20;
    assert!(each < 1 << 20, "{each} bytes each");
    drop(open);
}
