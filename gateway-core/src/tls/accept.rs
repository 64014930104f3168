//! The handshake: which config it goes on with, how long it may take, what it fails of, and what is known afterwards.

use std::io;
use std::sync::Arc;

use http::HeaderValue;
use rustls::server::Acceptor;
use rustls::{AlertDescription, CertificateError, Error, HandshakeKind, ProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::client::Identity;
use super::plan::{Spoken, TlsPlan, suite_name};
use crate::telemetry::HandshakeFailure;

/// What is known of a connection that is secured.
#[derive(Debug)]
pub(crate) struct Secured {
    /// The name that was asked for, in lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub(crate) version: &'static str,
    /// As IANA calls it.
    pub(crate) cipher: Box<str>,
    pub(crate) http2: bool,
    /// Whose certificate was asked for.
    group: usize,
    /// Whom the client's certificate is of, if it showed one.
    pub(crate) client: Option<Identity>,
    /// What goes up of it, where anything does.
    pub(crate) forwarded: Option<Option<HeaderValue>>,
    plan: Arc<TlsPlan>,
}

/// To who speaks HTTP where TLS is spoken.
const PLAIN: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 43\r\n\
    Connection: close\r\n\r\nThis address speaks HTTPS. You spoke HTTP.\n";

impl TlsPlan {
    /// Makes a connection one that is secured, in time.
    ///
    /// # Errors
    /// Why it could not be.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        tcp: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Secured), HandshakeFailure> {
        let shaken = tokio::time::timeout(self.handshake, self.shake(tcp)).await;
        let shaken = shaken.unwrap_or(Err(HandshakeFailure::Timeout));
        match &shaken {
            Ok((stream, _)) => {
                let kind = stream.get_ref().1.handshake_kind();
                self.metrics.shook(kind == Some(HandshakeKind::Resumed));
            }
            Err(failure) => self.metrics.failed_to_shake(*failure),
        }
        shaken
    }

    async fn shake(
        self: &Arc<Self>,
        mut tcp: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Secured), HandshakeFailure> {
        let mut first = [0];
        match tcp.peek(&mut first).await {
            Ok(1) if first[0].is_ascii_uppercase() && matches!(self.spoken, Spoken::Http) => {
                let _ = tcp.write_all(PLAIN).await;
                let _ = tcp.shutdown().await;
                return Err(HandshakeFailure::Plaintext);
            }
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(HandshakeFailure::Closed),
        }
        let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await.map_err(why)?;
        let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
        let group = self.group(name.as_deref());
        let config = self.live.load().configs[group].clone();
        let stream = start.into_stream(config).await.map_err(why)?;
        let (_, session) = stream.get_ref();
        let client = session.peer_certificates().and_then(|chain| chain.first());
        let client = client.map(Identity::of);
        let forwarded = self.forwards_client().then(|| {
            client.as_ref().and_then(|client| HeaderValue::try_from(client.forwarded()).ok())
        });
        let secured = Secured {
            forwarded,
            server_name: name.map(Into::into),
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: session
                .negotiated_cipher_suite()
                .map(|suite| suite_name(&suite))
                .unwrap_or_default()
                .into(),
            http2: session.alpn_protocol() == Some(b"h2"),
            group,
            client,
            plan: self.clone(),
        };
        Ok((stream, secured))
    }
}

impl Secured {
    /// A connection as it would be, for this name, of a client that shows this certificate or none.
    pub(crate) fn supposed(
        plan: &Arc<TlsPlan>,
        name: Option<&str>,
        client: Option<Identity>,
    ) -> Self {
        Self {
            server_name: name.map(Into::into),
            version: "TLSv1.3",
            cipher: Box::default(),
            http2: false,
            group: plan.group(name),
            client,
            forwarded: None,
            plan: plan.clone(),
        }
    }

    /// Whether a request for this host belongs on the connection (RFC 9110, section 15.5.20): who came for one name may
    /// ask for another if the same certificate is shown for it, and the same is asked of clients.
    /// That is so by what the config says `now`, whatever it said when the connection was made.
    pub(crate) fn is_for(&self, host: &str, now: Option<&Arc<TlsPlan>>) -> bool {
        let now = now.unwrap_or(&self.plan);
        if now.rule(now.group(Some(host))) != self.plan.rule(self.group) {
            return false;
        }
        let name = self.server_name.as_deref();
        name.is_none_or(|name| name == host || now.live.load().shows_alike(name, host))
    }
}

impl std::fmt::Debug for TlsPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TLS of {}", self.listener)
    }
}

/// What a handshake failed of.
fn why(error: io::Error) -> HandshakeFailure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        None => HandshakeFailure::Closed,
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => {
            HandshakeFailure::Incompatible
        }
        Some(Error::NoCertificatesPresented) => HandshakeFailure::CertificateMissing,
        Some(Error::InvalidCertificate(error)) => match error {
            CertificateError::Revoked => HandshakeFailure::CertificateRevoked,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                HandshakeFailure::CertificateExpired
            }
            CertificateError::ApplicationVerificationFailure => HandshakeFailure::CertificateDenied,
            _ => HandshakeFailure::CertificateInvalid,
        },
        Some(Error::AlertReceived(
            AlertDescription::CloseNotify | AlertDescription::UserCanceled,
        )) => HandshakeFailure::Closed,
        Some(Error::AlertReceived(_)) => HandshakeFailure::Rejected,
        Some(_) => HandshakeFailure::Protocol,
    }
}
