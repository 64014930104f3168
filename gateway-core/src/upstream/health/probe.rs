//! One check of one endpoint: a connection, a request, or a call of the health service of gRPC.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::config::{ActiveConfig, CheckKind, UpstreamProtocol};
use crate::upstream::transport::{Offer, Transport, Wire, own_introduction};

/// How much of a body is looked at.
const LONGEST_BODY: usize = 64 * 1024;

/// A check, ready to be run.
pub(in crate::upstream) struct Probe {
    address: SocketAddr,
    transport: Arc<Transport>,
    timeout: Duration,
    host: String,
    question: Question,
}

enum Question {
    Tcp,
    Http { path: String, status: Vec<RangeInclusive<u16>>, body: Option<String> },
    Grpc { service: String },
}

impl Probe {
    pub(in crate::upstream) fn new(
        config: &ActiveConfig,
        endpoint: SocketAddr,
        transport: Arc<Transport>,
    ) -> Self {
        let port = config.port.unwrap_or(endpoint.port());
        let address = SocketAddr::new(endpoint.ip(), port);
        let question = match config.kind {
            CheckKind::Tcp => Question::Tcp,
            CheckKind::Grpc => {
                Question::Grpc { service: config.service.clone().unwrap_or_default() }
            }
            CheckKind::Http => Question::Http {
                path: config.path.clone().unwrap_or_else(|| "/".to_owned()),
                status: match &config.status {
                    Some(ranges) => ranges.iter().map(|range| range.0.clone()).collect(),
                    None => vec![200..=299],
                },
                body: config.body.clone(),
            },
        };
        Self {
            address,
            transport,
            timeout: config.timeout.into(),
            host: config.host.clone().unwrap_or_else(|| address.to_string()),
            question,
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// What is wrong with the endpoint, in a few words.
    pub(in crate::upstream) async fn run(&self) -> Result<(), String> {
        match tokio::time::timeout(self.timeout, self.ask()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }

    async fn ask(&self) -> Result<(), String> {
        let offer = match &self.question {
            Question::Grpc { .. } => Offer::Http2,
            _ => Offer::Configured,
        };
        let header = self.transport.proxy_protocol.map(own_introduction);
        let wire = self.transport.dial(self.address, header, offer).await;
        let wire = wire.map_err(|error| format!("cannot connect: {}", cause(&error)))?;
        match &self.question {
            Question::Tcp => Ok(()),
            Question::Http { path, status, body } => {
                // Over TLS what was agreed on, which may be neither.
                let http2 = match self.transport.protocol {
                    UpstreamProtocol::Http1 => false,
                    UpstreamProtocol::Http2 => true,
                    UpstreamProtocol::Auto => wire.chose_http2(),
                };
                let response = match http2 {
                    true => self.get_by_http2(wire, path).await?,
                    false => self.get(wire, path).await?,
                };
                judge(response, status, body.as_deref()).await
            }
            Question::Grpc { service } => self.call(wire, service).await,
        }
    }

    async fn get(&self, wire: Wire, path: &str) -> Result<Response<Incoming>, String> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await.map_err(words)?;
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(header::HOST, &self.host)
            .header(header::USER_AGENT, concat!("gateway-health/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(words)?;
        sender.send_request(request).await.map_err(words)
    }

    async fn get_by_http2(&self, wire: Wire, path: &str) -> Result<Response<Incoming>, String> {
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await.map_err(words)?;
        tokio::spawn(connection);
        let request = Request::get(format!("{}://{}{path}", self.transport.scheme(), self.host))
            .header(header::USER_AGENT, concat!("gateway-health/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(words)?;
        sender.send_request(request).await.map_err(words)
    }

    /// `grpc.health.v1.Health/Check`, as the gRPC project's `doc/health-checking.md` has it.
    async fn call(&self, wire: Wire, service: &str) -> Result<(), String> {
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await.map_err(words)?;
        tokio::spawn(connection);
        let (scheme, host) = (self.transport.scheme(), &self.host);
        let request = Request::post(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, concat!("gateway-health/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(question(service)))
            .map_err(words)?;
        let response = sender.send_request(request).await.map_err(words)?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let head = response.headers().clone();
        let body = Limited::new(response.into_body(), LONGEST_BODY).collect().await;
        let body = body.map_err(words)?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        called([&trailers, &head], &body.to_bytes())
    }
}

async fn judge(
    response: Response<Incoming>,
    expected: &[RangeInclusive<u16>],
    text: Option<&str>,
) -> Result<(), String> {
    let status = response.status().as_u16();
    if !expected.iter().any(|range| range.contains(&status)) {
        return Err(format!("status {status}"));
    }
    let Some(text) = text else { return Ok(()) };
    let mut body = response.into_body();
    let mut start = Vec::new();
    while start.len() < LONGEST_BODY {
        let Some(frame) = body.frame().await else { break };
        if let Ok(data) = frame.map_err(words)?.into_data() {
            start.extend_from_slice(&data);
            if memchr::memmem::find(&start, text.as_bytes()).is_some() {
                return Ok(());
            }
        }
    }
    Err(format!("status {status}, but the body does not hold `{text}`"))
}

/// A `HealthCheckRequest` in its frame: field 1 is the service, left out if it is empty.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length).unwrap_or(0));
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message);
    frame.freeze()
}

/// What a call says: `grpc-status` in the trailers or, if there is no message, in the head; then the
/// `HealthCheckResponse`.
fn called(fields: [&HeaderMap; 2], body: &[u8]) -> Result<(), String> {
    let status = fields.iter().find_map(|fields| fields.get("grpc-status"));
    match status.and_then(|status| status.to_str().ok()) {
        Some("0") => {}
        Some(code) => return Err(format!("grpc-status {code}")),
        None => return Err("no grpc-status".to_owned()),
    }
    match serving(body) {
        Some(1) => Ok(()),
        Some(2) => Err("NOT_SERVING".to_owned()),
        Some(3) => Err("SERVICE_UNKNOWN".to_owned()),
        Some(_) => Err("UNKNOWN".to_owned()),
        None => Err("not a health response".to_owned()),
    }
}

/// Field 1 of a message in its frame; 0, the default, if it is not there.
fn serving(mut frame: &[u8]) -> Option<u64> {
    if frame.len() < 5 || frame.get_u8() != 0 {
        return None;
    }
    let length = usize::try_from(frame.get_u32()).ok()?;
    let mut message = frame.get(..length)?;
    let mut status = 0;
    while message.has_remaining() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = varint(&mut message)?;
                status = if key >> 3 == 1 { value } else { status };
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.first()?;
        bytes.advance(1);
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Why there is no connection, in a few words.
fn cause(error: &pingora::Error) -> String {
    match (error.etype(), error.root_cause()) {
        (pingora::ErrorType::ConnectRefused, _) => "refused".to_owned(),
        (_, cause) => cause.to_string(),
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_its_service() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = question(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }

    #[test]
    fn an_answer_is_read_whatever_else_it_holds() {
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving(&[0, 0, 0, 0, 7, 0x12, 1, 9, 0x18, 5, 8, 2]), Some(2));
        for broken in [&[][..], &[0, 0, 0, 0, 2, 8], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 2, 0x0d, 1]] {
            assert_eq!(serving(broken), None, "{broken:?}");
        }
        assert_eq!(serving(&[[0, 0, 0, 0, 12, 8].as_slice(), &[0xff; 11]].concat()), None);
    }

    #[test]
    fn the_status_of_a_call_comes_first() {
        let fields = |status: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                http::HeaderValue::from_static(status),
            )])
        };
        let serves = [0, 0, 0, 0, 2, 8, 1];
        let none = HeaderMap::new();

        assert_eq!(called([&fields("0"), &none], &serves), Ok(()));
        assert_eq!(called([&none, &fields("12")], &[]), Err("grpc-status 12".to_owned()));
        assert_eq!(called([&none, &none], &serves), Err("no grpc-status".to_owned()));
        let not = [0, 0, 0, 0, 2, 8, 2];
        assert_eq!(called([&fields("0"), &none], &not), Err("NOT_SERVING".to_owned()));
    }
}
