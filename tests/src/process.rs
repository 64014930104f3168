//! The stock binary as a process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// The stock binary, built with the profile of the tests.
///
/// # Panics
/// It cannot be built.
pub fn gateway_binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY
        .get_or_init(|| {
            // target/debug/deps/house-… → target/debug
            let own = std::env::current_exe().expect("a process has an executable");
            let folder = own.ancestors().nth(2).expect("tests lie in a folder of their profile");
            let released = folder.ends_with("release");
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            // Of the whole workspace, so that what it is made of has the features that it has been built with already.
            let mut build = Command::new(cargo);
            // What cargo says of the package under test would have it build others anew that look at such words.
            for (name, _) in std::env::vars_os() {
                let name = name.to_string_lossy();
                if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
                    .iter()
                    .any(|own| name.starts_with(own))
                {
                    build.env_remove(&*name);
                }
            }
            let built = build
                .args(["build", "--quiet", "--workspace", "--bin", "gateway"])
                .args(released.then_some("--release"))
                .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
                .status();
            assert!(built.is_ok_and(|status| status.success()), "the gateway does not build");
            folder.join("gateway")
        })
        .clone()
}

/// A running gateway process, killed when dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    /// What it has said on stderr so far.
    pub stderr: Vec<String>,
}

impl Process {
    /// Starts `gateway` with these arguments.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(&gateway_binary(), arguments, &[])
    }

    /// Starts this program with these arguments, and these variables in its environment.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start_in(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, stderr: Vec::new() }
    }

    /// Waits for a line on stderr that contains this text, and returns it.
    ///
    /// # Panics
    /// None comes.
    #[track_caller]
    pub fn await_line(&mut self, text: &str) -> String {
        let came = Instant::now() + PATIENCE;
        loop {
            let left = came.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {text:?} came; there are:\n{}", self.stderr.join("\n"));
            };
            self.stderr.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The address that stands in the next line with this text.
    ///
    /// # Panics
    /// None comes, or it has none.
    #[track_caller]
    pub fn await_address(&mut self, text: &str) -> SocketAddr {
        let line = self.await_line(text);
        let told: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
        told["address"].as_str().and_then(|text| text.parse().ok()).expect("it has an address")
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `TERM`.
    ///
    /// # Panics
    /// There is no such process any more.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal was not sent");
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// It does not come.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let came = Instant::now() + PATIENCE;
        while Instant::now() < came {
            if let Ok(Some(status)) = self.child.try_wait() {
                // Its last lines may be read a little later; a process that it has started may hold the other end.
                let late = Duration::from_millis(100);
                while let Ok(line) = self.lines.recv_timeout(late) {
                    self.stderr.push(line);
                }
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the gateway does not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
