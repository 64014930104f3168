//! The commands that read and lay out configs without serving them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use gateway_tests::gateway_binary;
use tempfile::TempDir;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }
    folder
}

/// Runs a command to its end in a folder.
fn gateway(folder: &Path, arguments: &[&str]) -> Output {
    let command = Command::new(gateway_binary()).args(arguments).current_dir(folder).output();
    command.expect("the command can be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the command prints, and its exit code.
#[track_caller]
fn assert_prints(folder: &TempDir, arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = gateway(folder.path(), arguments);
    let told = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(told, (Some(code), stdout.to_owned(), stderr.to_owned()), "{arguments:?}");
}

const UGLY: &str =
    "version:   1 # of the language\nlisteners: [{name: a,address: \"127.0.0.1:0\"}]\n";
const NEAT: &str =
    "version: 1 # of the language\nlisteners: [{name: a, address: \"127.0.0.1:0\"}]\n";

#[test]
fn the_config_and_what_it_includes_are_brought_into_form() {
    let ugly = format!("{UGLY}include: [more.d/*.yaml]\n");
    let files = [
        ("gateway.yaml", &*ugly),
        ("more.d/a.yaml", "routes:\n- {name: a}\n"),
        ("other.yaml", UGLY),
    ];
    let folder = folder(&files);
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("it is there");
    let path = folder.path().join("gateway.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it can be changed");

    assert_prints(&folder, &["fmt", "--check"], 1, "gateway.yaml\nmore.d/a.yaml\n", "");
    let neat = format!("{NEAT}include: [more.d/*.yaml]\n");
    assert_prints(&folder, &["fmt", "gateway.yaml", "--stdout"], 0, &neat, "");
    assert_eq!(read("gateway.yaml"), ugly, "nothing is written so far");

    assert_prints(&folder, &["fmt"], 0, "gateway.yaml\nmore.d/a.yaml\n", "");
    assert_eq!(read("gateway.yaml"), neat);
    assert_eq!(read("more.d/a.yaml"), "routes:\n  - {name: a}\n");
    assert_eq!(read("other.yaml"), UGLY, "it is not of the config");
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    let before = fs::metadata(&path).expect("it is there").modified().expect("there are times");
    assert_prints(&folder, &["fmt", "--check"], 0, "", "");
    assert_prints(&folder, &["fmt"], 0, "", "");
    let after = fs::metadata(&path).expect("it is there").modified().expect("there are times");
    assert_eq!(after, before, "a file that is in form is not touched");
}

#[test]
fn a_text_comes_through_in_form() {
    let folder = folder(&[]);
    let pass = |arguments: &[&str], text: &str| {
        let mut command = Command::new(gateway_binary());
        command.args(arguments).current_dir(folder.path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command can be run");
        child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    };

    let output = pass(&["fmt", "-"], UGLY);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), NEAT));
    let output = pass(&["fmt", "--check", "-"], UGLY);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), "-\n"));
    let output = pass(&["fmt", "-"], "a: [\n");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""));
    assert!(text(&output.stderr).starts_with("stdin:2:1  not YAML"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_laid_out_is_left_alone_and_keeps_nothing_else_from_it() {
    let kept = "a: |+\n  text\n\n\nb:   1\n";
    let folder =
        folder(&[("bad.yaml", "a: 1\n  b: [\n"), ("kept.yaml", kept), ("ugly.yaml", UGLY)]);

    let output =
        gateway(folder.path(), &["fmt", "bad.yaml", "kept.yaml", "none.yaml", "ugly.yaml"]);

    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), "ugly.yaml\n"));
    let lines = text(&output.stderr);
    for line in [
        "bad.yaml:2:4  not YAML: ",
        "kept.yaml  cannot be laid out: another layout would mean something else\n",
        "none.yaml  cannot be read: ",
    ] {
        assert!(lines.contains(line), "{line:?} is not in {lines}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("kept.yaml")).expect("it is there"), kept);
}
