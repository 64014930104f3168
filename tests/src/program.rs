//! Programs of other makes that a test plays with, from `tests/programs`.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A Python program that prints the port it listens on. Killed when dropped.
///
/// It runs on the system's Python, for which Debian packages what such programs import.
pub struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Program {
    /// Starts a program with these arguments.
    ///
    /// # Panics
    /// It does not start, or prints no port.
    #[track_caller]
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name);
        let mut child = Command::new("/usr/bin/python3")
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        output.read_line(&mut line).expect("it prints its port");
        let port: u16 = line.trim().parse().expect("what the program imports is installed");
        let input = child.stdin.take().expect("it is piped");
        Self { child, input, output, address: ([127, 0, 0, 1], port).into() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives it a line to read.
    ///
    /// # Panics
    /// It does not read any more.
    pub fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("it reads");
    }
}

impl Program {
    /// Gives it a line to read and waits for its answer.
    ///
    /// # Panics
    /// It does not read or answer any more.
    pub fn tell(&mut self, line: &str) -> String {
        self.say(line);
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("it answers");
        answer
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
