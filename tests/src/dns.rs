//! A name server of another make, dnsmasq, with records that a test says.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// A name server for the zone `test.` on a port of its own. Killed when dropped.
pub struct Dns {
    child: Child,
    address: SocketAddr,
    hosts: PathBuf,
    _folder: TempDir,
}

impl Dns {
    /// A name server with these lines of addresses and names, as in `/etc/hosts`, and further options
    /// of dnsmasq. Answers hold for a second.
    ///
    /// # Panics
    /// dnsmasq cannot be run.
    pub fn start(hosts: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("hosts");
        fs::write(&file, hosts).expect("a file can be written");
        // It asks for its port by number, which somebody else may have got meanwhile.
        for _ in 0..20 {
            let address = free();
            let mut child = Command::new("dnsmasq")
                .args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--no-resolv",
                    "--no-hosts",
                ])
                .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/"])
                .args(["--local-ttl=1", "--pid-file", "--user=", "--log-facility=/dev/null"])
                .arg(format!("--port={}", address.port()))
                .arg(format!("--addn-hosts={}", file.display()))
                .args(options)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("dnsmasq is installed");
            let mut listens = || loop {
                if !matches!(child.try_wait(), Ok(None)) {
                    return false;
                }
                if TcpStream::connect(address).is_ok() {
                    return true;
                }
                thread::sleep(Duration::from_millis(5));
            };
            if listens() {
                return Self { child, address, hosts: file, _folder: folder };
            }
        }
        panic!("dnsmasq does not run");
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says other addresses and names from now on.
    ///
    /// # Panics
    /// They cannot be written.
    pub fn say(&self, hosts: &str) {
        fs::write(&self.hosts, hosts).expect("a file can be written");
        self.signal("HUP");
    }

    /// Answers nobody, until it goes on.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Goes on answering.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal was not sent");
    }
}

/// A port that nobody has, neither over UDP nor over TCP.
fn free() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = tcp.local_addr().expect("it is bound");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
