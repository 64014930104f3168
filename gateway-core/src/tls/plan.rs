//! A listener's TLS, read from files and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, SupportedCipherSuite, version};

use super::certificate::{Certificate, fault};
use super::client::verifier;
use super::shown::Shown;
use super::ticket::Tickets;
use super::{Fault, Place};
use crate::config::{ClientAuthConfig, ListenerTls, TlsVersion};
use crate::telemetry::ListenerMetrics;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long before its end a certificate is told of, and how often.
const SOON: i64 = 14 * 24 * 60 * 60;
const TOLD_EACH: Duration = Duration::from_secs(24 * 60 * 60);

/// A listener's TLS.
pub(crate) struct TlsPlan {
    pub(super) config: ListenerTls,
    pub(super) handshake: Duration,
    pub(super) listener: Arc<str>,
    pub(super) metrics: Arc<ListenerMetrics>,
    secret: Box<[u8]>,
    pub(super) spoken: Spoken,
    pub(super) live: ArcSwap<Live>,
    /// What the files were when they were read last.
    stamps: Mutex<Vec<Stamp>>,
    /// Why they were not read when they were tried last.
    fault: Mutex<String>,
}

/// What is spoken inside TLS.
#[derive(Clone, Debug)]
pub(crate) enum Spoken {
    Http,
    /// Nothing that the gateway knows, but for names that may be agreed on (RFC 7301).
    Other(Vec<String>),
}

/// What the files said when they were read.
pub(crate) struct Live {
    pub(crate) certificates: Box<[Certificate]>,
    pub(super) shown: Arc<Shown>,
    /// One for each `client_auth`, and one for those that none is for.
    pub(super) configs: Box<[Arc<ServerConfig>]>,
}

/// By what a file is known to have changed.
type Stamp = Option<(SystemTime, u64)>;

impl TlsPlan {
    /// Reads all files.
    ///
    /// # Errors
    /// One cannot be read, or does not hold what it should.
    pub(crate) fn read(
        listener: Arc<str>,
        config: &ListenerTls,
        handshake: Duration,
        secret: &[u8],
        metrics: Arc<ListenerMetrics>,
        spoken: Spoken,
    ) -> Result<Self, Fault> {
        let stamps = stamps(config);
        let live = Live::read(config, secret, &spoken)?;
        let plan = Self {
            config: config.clone(),
            handshake,
            listener,
            metrics,
            secret: secret.into(),
            spoken,
            live: ArcSwap::from_pointee(live),
            stamps: Mutex::new(stamps),
            fault: Mutex::default(),
        };
        Ok(plan)
    }

    /// What is in use now.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Whether the client's certificate goes up.
    pub(crate) fn forwards_client(&self) -> bool {
        self.config.forward_client_cert
    }

    /// Whose certificates are asked for of who asks for this name, in lower case: a place among the configs.
    pub(super) fn group(&self, name: Option<&str>) -> usize {
        let is_for = |client: &ClientAuthConfig| {
            client.names.is_empty()
                || name.is_some_and(|name| client.names.iter().any(|own| covers(own, name)))
        };
        let place = self.config.client_auth.iter().position(is_for);
        place.unwrap_or(self.config.client_auth.len())
    }

    /// What is asked of who asks for this name, or of those of this place among the configs.
    pub(super) fn rule(&self, group: usize) -> Option<&ClientAuthConfig> {
        self.config.client_auth.get(group)
    }

    /// Looks at the files, and uses what they say, for as long as somebody needs it.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut told = None;
        self.report(&mut told);
        loop {
            tokio::time::sleep(LOOK).await;
            let plan = self.clone();
            // Files may be slow, and certificates take time to be looked at.
            let looked = tokio::task::spawn_blocking(move || plan.look()).await;
            if looked.unwrap_or(false) {
                told = None;
            }
            self.report(&mut told);
        }
    }

    /// Whether there is something new.
    fn look(&self) -> bool {
        let now = stamps(&self.config);
        let mut known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now {
            return false;
        }
        *known = now;
        drop(known);
        let listener = &*self.listener;
        match Live::read(&self.config, &self.secret, &self.spoken) {
            Ok(live) => {
                self.live.store(Arc::new(live));
                self.fault.lock().unwrap_or_else(PoisonError::into_inner).clear();
                tracing::info!(listener, "certificates were read again");
                true
            }
            Err(Fault { message, .. }) => {
                // They are tried again, whatever it was, and told of once.
                self.stamps.lock().unwrap_or_else(PoisonError::into_inner).clear();
                let mut told = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
                if *told != message {
                    tracing::error!(
                        listener,
                        message,
                        "certificates are not read; those before stay"
                    );
                    *told = message;
                }
                false
            }
        }
    }

    /// Says when certificates end: to who scrapes, and in time to the log.
    fn report(&self, told: &mut Option<SystemTime>) {
        let live = self.live.load();
        let Some(first) = live.certificates.iter().min_by_key(|one| one.not_after) else { return };
        self.metrics.certificate_ends(first.not_after);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let left = first.not_after - i64::try_from(now).unwrap_or(i64::MAX);
        let again = told.is_none_or(|at| at.elapsed().is_ok_and(|since| since >= TOLD_EACH));
        if left < SOON && again {
            *told = Some(SystemTime::now());
            let (listener, days) = (&*self.listener, left.div_euclid(24 * 60 * 60));
            let name = first.names.first().map_or("", |name| name);
            if left < 0 {
                tracing::error!(listener, name, "a certificate has expired");
            } else {
                tracing::warn!(listener, name, days, "a certificate expires soon");
            }
        }
    }
}

/// Whether a name of a config, perhaps with `*.` in front, is or covers this one.
fn covers(own: &str, name: &str) -> bool {
    match own.strip_prefix("*.") {
        Some(under) => {
            let before = name.strip_suffix(under).and_then(|rest| rest.strip_suffix('.'));
            before.is_some_and(|before| !before.is_empty())
        }
        None => own == name,
    }
}

impl Live {
    fn read(config: &ListenerTls, secret: &[u8], spoken: &Spoken) -> Result<Self, Fault> {
        let protocols = protocols(config, spoken);
        let read = |(index, one)| {
            Certificate::read(one).map_err(|fault| fault.within("certificates", index))
        };
        let certificates: Box<[Certificate]> =
            config.certificates.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let shown = Arc::new(Shown::new(&certificates));
        let mut configs = Vec::with_capacity(config.client_auth.len() + 1);
        for (index, client) in config.client_auth.iter().enumerate() {
            let within = |fault: Fault| fault.within("client_auth", index);
            let verifier = verifier(client).map_err(within)?;
            let builder = builder(config)?.with_client_cert_verifier(verifier);
            configs.push(made(builder.with_cert_resolver(shown.clone()), None, &protocols));
        }
        let builder = builder(config)?.with_no_client_auth();
        configs.push(made(builder.with_cert_resolver(shown.clone()), Some(secret), &protocols));
        Ok(Self { certificates, shown, configs: configs.into() })
    }

    /// Whether who asked for one name may ask for the other on the same connection: they are shown the same.
    pub(super) fn shows_alike(&self, one: &str, other: &str) -> bool {
        let [one, other] = [one, other].map(|name| self.shown.of(Some(name)));
        one.first().zip(other.first()).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }
}

type Builder = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;

fn builder(config: &ListenerTls) -> Result<Builder, Fault> {
    let mut provider = rustls::crypto::ring::default_provider();
    if let Some(wanted) = &config.cipher_suites {
        let all = std::mem::take(&mut provider.cipher_suites);
        for (index, name) in wanted.iter().enumerate() {
            let Some(suite) = all.iter().find(|suite| suite_name(suite) == *name) else {
                let known: Vec<String> = all.iter().map(suite_name).collect();
                let message = format!("there is no suite `{name}`, but {}", known.join(", "));
                return Err(Fault {
                    at: vec!["cipher_suites".into(), Place::Index(index)],
                    message,
                });
            };
            provider.cipher_suites.push(*suite);
        }
    }
    let versions: &[&rustls::SupportedProtocolVersion] = match config.min_version {
        TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::Tls13 => &[&version::TLS13],
    };
    ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .map_err(|error| fault("cipher_suites", error.to_string()))
}

/// As IANA has it: rustls parts the version of TLS 1.3's from the rest in its own way.
pub(super) fn suite_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

/// What is agreed to, in the order of preference.
fn protocols(config: &ListenerTls, spoken: &Spoken) -> Vec<Vec<u8>> {
    match spoken {
        Spoken::Http if config.http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Spoken::Http => vec![b"http/1.1".to_vec()],
        Spoken::Other(names) => names.iter().map(|name| name.clone().into_bytes()).collect(),
    }
}

fn made(mut made: ServerConfig, secret: Option<&[u8]>, protocols: &[Vec<u8>]) -> Arc<ServerConfig> {
    made.alpn_protocols = protocols.to_vec();
    made.session_storage = Arc::new(NoServerSessionStorage {});
    made.send_tls13_tickets = 0;
    // Who resumes a session shows no certificate again: it could have expired, or been revoked, since.
    if let Some(secret) = secret {
        made.ticketer = Arc::new(Tickets::new(secret));
        made.send_tls13_tickets = 2;
    }
    Arc::new(made)
}

fn files(config: &ListenerTls) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    let path = |file: &crate::config::FilePath| Path::new(&**file).to_path_buf();
    for one in &config.certificates {
        files.extend([&one.cert, &one.key].map(path));
        files.extend(one.ocsp.as_ref().map(path));
    }
    for one in &config.client_auth {
        files.push(path(&one.ca));
        files.extend(one.crl.as_ref().map(path));
    }
    files
}

fn stamps(config: &ListenerTls) -> Vec<Stamp> {
    let stamp = |file: PathBuf| {
        let known = std::fs::metadata(file).ok()?;
        Some((known.modified().ok()?, known.len()))
    };
    files(config).into_iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_covered_by_itself_and_by_what_stands_above_it() {
        for (own, name, expected) in [
            ("a.test", "a.test", true),
            ("a.test", "b.a.test", false),
            ("*.a.test", "b.a.test", true),
            ("*.a.test", "c.b.a.test", true),
            ("*.a.test", "a.test", false),
            ("*.a.test", "ba.test", false),
        ] {
            assert_eq!(covers(own, name), expected, "{own} {name}");
        }
    }

    #[test]
    fn suites_are_called_as_iana_calls_them() {
        let all = rustls::crypto::ring::default_provider().cipher_suites;
        let names: Vec<String> = all.iter().map(suite_name).collect();
        assert!(names.contains(&"TLS_AES_256_GCM_SHA384".to_owned()), "{names:?}");
        assert!(names.contains(&"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()), "{names:?}");
    }
}
