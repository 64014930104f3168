//! Fetching documents over HTTP, for plugins that need one from elsewhere, such as a set of keys.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{FilePath, UpstreamProtocol, UpstreamTls};
use crate::upstream::Tls;

/// How long one of several addresses may take to answer.
const ONE_ADDRESS: Duration = Duration::from_secs(2);

/// Where a document is fetched from, and how much of it is believed.
pub struct Fetcher {
    uri: Uri,
    host: String,
    tls: Option<Tls>,
    /// How long it may take altogether.
    timeout: Duration,
    /// The longest body, in bytes.
    longest: usize,
}

/// A document.
#[derive(Debug)]
pub struct Fetched {
    /// The fields of the answer.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Unreachable(io::Error),
    /// It took longer than it may.
    #[error("no answer within {0:?}")]
    TooSlow(Duration),
    /// What came back was no answer, or one too long.
    #[error("{0}")]
    Broken(String),
    /// The answer is none of success. Redirections are not followed: whoever is trusted with a document is
    /// named in the config.
    #[error("answered with status {}", .0.as_u16())]
    Status(StatusCode),
}

impl Fetcher {
    /// Prepares to fetch from this URL, `https` or `http`. `ca` is a PEM file of the certificates that are
    /// trusted to sign the server's, in place of those that the system trusts.
    ///
    /// # Errors
    /// It is no such URL, or the certificates cannot be read.
    pub fn new(
        url: &str,
        ca: Option<&FilePath>,
        timeout: Duration,
        longest: usize,
    ) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("`{url}` is no URL: {error}"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() || uri.authority().is_some_and(|whole| whole.as_str().contains('@')) {
            return Err(format!("`{url}` is no URL of a server, such as https://id.example.com/x"));
        }
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => {
                let config = UpstreamTls { ca: ca.cloned(), ..UpstreamTls::default() };
                let read = Tls::read(&config, UpstreamProtocol::Http1);
                let (tls, _) = read.map_err(|fault| fault.message)?;
                Some(tls.known_as(&host))
            }
            _ => return Err(format!("`{url}` begins with neither https:// nor http://")),
        };
        Ok(Self { uri, host, tls, timeout, longest })
    }

    /// Whether whoever is on the way may read and change what is fetched.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Whether the document is on this machine.
    pub fn is_local(&self) -> bool {
        let ip = self.host.parse::<std::net::IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// Fetches the document, on a connection of its own.
    ///
    /// # Errors
    /// There is none, in time and of the length.
    pub async fn get(&self) -> Result<Fetched, FetchError> {
        let fetched = tokio::time::timeout(self.timeout, self.fetch()).await;
        fetched.unwrap_or(Err(FetchError::TooSlow(self.timeout)))
    }

    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let tcp = self.connect().await.map_err(FetchError::Unreachable)?;
        let Some(tls) = &self.tls else { return self.exchange(tcp).await };
        let address = tcp.peer_addr().map_err(FetchError::Unreachable)?;
        let connector = TlsConnector::from(tls.config());
        let stream = connector.connect(tls.name(address.ip()), tcp).await;
        self.exchange(stream.map_err(FetchError::Unreachable)?).await
    }

    /// One address of the host after the other.
    async fn connect(&self) -> io::Result<TcpStream> {
        let port = self.uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host((self.host.as_str(), port)).await? {
            match tokio::time::timeout(ONE_ADDRESS, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(elapsed) => last = elapsed.into(),
            }
        }
        Err(last)
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Fetched, FetchError> {
        let broken = |error: &dyn std::fmt::Display| FetchError::Broken(error.to_string());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let (head, body) = response.into_parts();
            if !head.status.is_success() {
                return Err(FetchError::Status(head.status));
            }
            let body = Limited::new(body, self.longest).collect().await;
            let body = body.map_err(|error| broken(&error))?.to_bytes();
            Ok(Fetched { headers: head.headers, body })
        };
        // Driven here, not on a task of its own: the connection ends with the exchange. It may end before, with
        // the answer whole.
        let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
        tokio::select! {
            biased;
            outcome = exchange.as_mut() => outcome,
            ended = connection.as_mut() => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(FetchError::Broken(format!("connection ended: {error}"))),
            }
        }
    }
}

/// For how long an answer may be used (RFC 9111): its `max-age`, in whole seconds, if it has one.
pub fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(header::CACHE_CONTROL);
    let mut directives = fields.iter().filter_map(|field| field.to_str().ok());
    directives.find_map(|field| {
        let mut parts = field.split(',').map(str::trim);
        let age = parts.find_map(|part| part.strip_prefix("max-age="))?;
        age.trim_matches('"').parse().ok().map(Duration::from_secs)
    })
}
