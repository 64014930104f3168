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
const RSA: [&str; 3] = ["-newkey", "rsa:2048", "-nodes"];

/// What OpenSSL needs to know of an authority that revokes.
const AUTHORITY: &str = "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\ncertificate=ca.pem\n\
    private_key=ca.key\ndefault_md=sha256\ndefault_crl_days=2\ncrlnumber=crlnumber\n";

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
        self.issue_for(&KEY, name, alternatives)
    }

    /// The same for a key of RSA.
    ///
    /// # Panics
    /// OpenSSL cannot be run.
    pub fn issue_rsa(&self, name: &str, alternatives: &str) -> Issued {
        self.issue_for(&RSA, name, alternatives)
    }

    /// Revokes certificates, and returns the file of the list of all that are.
    ///
    /// # Panics
    /// OpenSSL cannot be run.
    pub fn revoke(&self, revoked: &[&Issued]) -> String {
        let at = |file: &str| self.folder().join(file);
        for (file, text) in [("ca.cnf", AUTHORITY), ("index.txt", ""), ("crlnumber", "01\n")] {
            if !at(file).exists() {
                fs::write(at(file), text).expect("a file can be written");
            }
        }
        for one in revoked {
            self.openssl(&["ca", "-config", "ca.cnf", "-revoke", &one.cert]);
        }
        self.openssl(&["ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.pem"]);
        at("crl.pem").display().to_string()
    }

    /// The file of what the authority says of a certificate by OCSP.
    ///
    /// # Panics
    /// OpenSSL cannot be run.
    pub fn vouch(&self, of: &Issued) -> String {
        self.revoke(&[]);
        let signer = ["-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key", "-ndays", "1"];
        let what = ["ocsp", "-index", "index.txt", "-issuer", "ca.pem", "-cert", &of.cert];
        self.openssl(&[&what[..], &signer, &["-respout", "ocsp.der"]].concat());
        self.folder().join("ocsp.der").display().to_string()
    }

    fn issue_for(&self, kind: &[&str], name: &str, alternatives: &str) -> Issued {
        let [key, request, cert, extensions] =
            ["key", "csr", "pem", "ext"].map(|suffix| format!("{name}.{suffix}"));
        let text = format!("subjectAltName={alternatives}\nbasicConstraints=CA:FALSE\n");
        fs::write(self.folder().join(&extensions), text).expect("a file can be written");
        let subject = format!("/CN={name}");
        let files = ["-subj", &subject, "-keyout", &key, "-out", &request];
        self.openssl(&[&["req", "-new"], kind, &files].concat());
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
