//! A real Redis that a test plays with.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;

/// A Redis on a port of its own. Killed when dropped.
pub struct Redis {
    child: Option<Child>,
    address: SocketAddr,
    arguments: Vec<String>,
    folder: TempDir,
}

impl Redis {
    /// Starts a server with these arguments besides those that it needs. `tls` has it speak TLS alone.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn start(arguments: &[&str], tls: bool) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a port is free");
        let folder = tempfile::tempdir().expect("a folder can be made");
        let port = address.port().to_string();
        let ports = if tls { ["--port", "0", "--tls-port"] } else { ["--save", "", "--port"] };
        let mut all: Vec<String> = ports.iter().map(|word| (*word).to_owned()).collect();
        all.push(port);
        all.extend(["--bind", "127.0.0.1", "--save", ""].map(str::to_owned));
        all.extend(arguments.iter().map(|word| (*word).to_owned()));
        let mut redis = Self { child: None, address, arguments: all, folder };
        redis.restart();
        redis
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it at once, and starts it anew where it was, with nothing in it.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        let child = Command::new("redis-server")
            .args(&self.arguments)
            .current_dir(&self.folder)
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server is installed"));
        eventually("redis listens", || TcpStream::connect(self.address).is_ok());
    }

    /// Stops it at once.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends it a signal: `STOP` freezes it, `CONT` has it go on.
    ///
    /// # Panics
    /// It does not run.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal is sent");
    }

    /// Has it do something, by `redis-cli` with these arguments besides. Returns what it says.
    ///
    /// # Panics
    /// It does not answer.
    #[track_caller]
    pub fn tell(&self, words: &[&str]) -> String {
        let port = self.address.port().to_string();
        let said = Command::new("redis-cli").args(["-p", &port]).args(words).output();
        let said = said.expect("redis-cli is installed");
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
