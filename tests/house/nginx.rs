//! nginx as an upstream: files from a folder of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use gateway_tests::eventually;
use tempfile::TempDir;

/// A running nginx, killed when dropped.
pub struct Nginx {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Nginx {
    /// Serves these files, with these directives besides.
    pub fn start(directives: &str, files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let root = folder.path();
        for (name, content) in files {
            std::fs::write(root.join(name), content).expect("it can be written");
        }
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a port is free");
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
             events {{}}\n\
             http {{\n types {{ text/plain txt; text/css css; }}\n access_log off;\n\
             client_body_temp_path {root}/1; proxy_temp_path {root}/2; fastcgi_temp_path {root}/3;\n\
             uwsgi_temp_path {root}/4; scgi_temp_path {root}/5;\n\
             {directives}\n server {{ listen {address}; root {root}; }}\n}}\n",
            root = root.display()
        );
        let file = root.join("nginx.conf");
        std::fs::write(&file, config).expect("it can be written");
        let child = Command::new("/usr/sbin/nginx")
            .args(["-c", &file.display().to_string(), "-e", "stderr"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        Self { child, address, folder }
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
