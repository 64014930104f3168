//! A thin client of another gateway's admin address.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{AdminAddress, Secret};

/// A reload of a large config may take its time, and a drain is told how long to wait.
const DEADLINE: Duration = Duration::from_secs(60 + 600);
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or it may not be reached.
    #[error("cannot reach the gateway at {address}")]
    Unreachable {
        /// The admin address that was tried.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// What came back was no answer.
    #[error("the gateway at {address} gave no answer: {reason}")]
    NoAnswer {
        /// The admin address that was asked.
        address: String,
        /// What happened instead.
        reason: String,
    },
}

/// An answer from an admin address.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// A client of one admin address.
pub struct Client {
    address: AdminAddress,
    token: Option<Secret>,
}

impl Client {
    /// A client of this address, with the token that calls which change something need over TCP.
    pub fn new(address: AdminAddress, token: Option<Secret>) -> Self {
        Self { address, token }
    }

    /// Makes one call without a body.
    ///
    /// # Errors
    /// Nobody answers there, or not within eleven minutes.
    pub async fn call(&self, method: &str, path: &str) -> Result<Answer, ClientError> {
        self.call_with(method, path, Vec::new()).await
    }

    /// Makes one call with a body.
    ///
    /// # Errors
    /// Nobody answers there, or not within eleven minutes.
    pub async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let body = body.into();
        let unreachable =
            |source| ClientError::Unreachable { address: self.address.to_string(), source };
        let call = async {
            match &self.address {
                AdminAddress::Tcp(address) => {
                    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                    self.exchange(stream, method, path, body).await
                }
                AdminAddress::Unix(socket) => {
                    let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
                    self.exchange(stream, method, path, body).await
                }
            }
        };
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(outcome) => outcome,
            Err(elapsed) => Err(self.no_answer(&elapsed)),
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.no_answer(&error))?;
        tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, "gateway");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        let request = request.body(Full::new(body)).map_err(|error| self.no_answer(&error))?;
        let response =
            sender.send_request(request).await.map_err(|error| self.no_answer(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| self.no_answer(&error))?.to_bytes();
        Ok(Answer { status, body })
    }

    fn no_answer(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::NoAnswer { address: self.address.to_string(), reason: reason.to_string() }
    }
}
