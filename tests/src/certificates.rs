//! Certificates of a test's own authority, made by OpenSSL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// An authority and what it signed, in a folder that goes with it.
pub struct Certificates {
    folder: TempDir,
}

/// The files of a certificate and its key.
pub struct Issued {
    /// The certificate, in PEM.
    pub cert: String,
    /// Its private key, in PEM.
    pub key: String,
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Certificates {
    /// A new authority.
    ///
    /// # Panics
    /// OpenSSL cannot be run.
    pub fn new() -> Self {
        let own = Self { folder: tempfile::tempdir().expect("a folder can be made") };
        let subject = ["-x509", "-days", "2", "-subj", "/CN=Authority of a test"];
        let files = ["-keyout", "ca.key", "-out", "ca.pem"];
        own.openssl(&[&["req"], &KEY[..], &subject, &files].concat());
        own
    }

    /// A certificate with this common name, for what OpenSSL writes such as `DNS:a.test,IP:127.0.0.1`.
    ///
    /// # Panics
    /// OpenSSL cannot be run.
    pub fn issue(&self, name: &str, alternatives: &str) -> Issued {
        let [key, request, cert, extensions] =
            ["key", "csr", "pem", "ext"].map(|suffix| format!("{name}.{suffix}"));
        let text = format!("subjectAltName={alternatives}\nbasicConstraints=CA:FALSE\n");
        fs::write(self.folder().join(&extensions), text).expect("a file can be written");
        let subject = format!("/CN={name}");
        let files = ["-subj", &subject, "-keyout", &key, "-out", &request];
        self.openssl(&[&["req", "-new"], &KEY[..], &files].concat());
        let authority = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
        let files = ["-in", &request, "-extfile", &extensions, "-out", &cert];
        self.openssl(&[&["x509", "-req"], &authority[..], &files].concat());
        let path = |file: &str| self.folder().join(file).display().to_string();
        Issued { cert: path(&cert), key: path(&key) }
    }

    /// The file of the authority's own certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder().join("ca.pem")
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn openssl(&self, arguments: &[&str]) {
        let made = Command::new("openssl").args(arguments).current_dir(self.folder()).output();
        let made = made.expect("openssl is installed");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
